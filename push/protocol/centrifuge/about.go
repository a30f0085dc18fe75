package centrifuge

import (
	"encoding/json"
	"math"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// about is what there is to know of a client that is more than a user. It is immutable.
type about[F comparable] struct {
	text    string                     // two values in JSON, either of which may be empty: what others may see, then what only the backend may
	headers *inquiry.Headers           // that the backend may be sent; nil is none
	token   *roster.Holder[*Client[F]] // nil if the token has no id
	caps    *hub.Capabilities          // nil is none
	meta    uint32                     // where the second value begins
}

// newAbout returns nil if there is nothing.
func newAbout[F comparable](info, meta []byte, headers *inquiry.Headers, token *roster.Holder[*Client[F]], caps *hub.Capabilities) *about[F] {
	if len(info)+len(meta) == 0 && headers == nil && token == nil && caps == nil {
		return nil
	}
	return &about[F]{text: string(info) + string(meta), meta: uint32(len(info)), headers: headers, token: token, caps: caps}
}

// setAbout notes what an identity says. Of a refresh that says nothing, what was there stays, but for the token and what
// it allows.
func (c *Client[F]) setAbout(i *Identity) {
	c.issued.Store(issuedSeconds(i.Token))
	info, meta := i.Info, i.Meta
	if len(info) == 0 {
		info = c.info()
	}
	if len(meta) == 0 {
		meta = c.Meta()
	}
	old := c.token()
	c.about.Store(newAbout(info, meta, c.headers(), c.handler.tokens.Add(c, i.Token.ID), i.Caps))
	c.handler.tokens.Remove(old)
}

// info is what others may see of the client; nil is nothing.
func (c *Client[F]) info() json.RawMessage {
	if a := c.about.Load(); a != nil && a.meta > 0 {
		return json.RawMessage(a.text[:a.meta])
	}
	return nil
}

// Meta returns what the backend has said of the client for itself; nil is nothing.
func (c *Client[F]) Meta() json.RawMessage {
	if a := c.about.Load(); a != nil && int(a.meta) < len(a.text) {
		return json.RawMessage(a.text[a.meta:])
	}
	return nil
}

func (c *Client[F]) headers() *inquiry.Headers {
	if a := c.about.Load(); a != nil {
		return a.headers
	}
	return nil
}

// caps are what the client may do beside what the options of channels say.
func (c *Client[F]) caps() *hub.Capabilities {
	if a := c.about.Load(); a != nil {
		return a.caps
	}
	return nil
}

// token is that of the connection, if it has an id.
func (c *Client[F]) token() *roster.Holder[*Client[F]] {
	if a := c.about.Load(); a != nil {
		return a.token
	}
	return nil
}

// issuedSeconds is when a token was issued, in Unix seconds: 0 is no token, 1 one that does not say.
func issuedSeconds(t Token) uint32 {
	if t.Issued.IsZero() {
		return 0
	}
	return uint32(min(max(t.Issued.Unix(), 1), math.MaxUint32))
}
