package centrifuge

import (
	"encoding/json"
	"math"
)

// about is what there is to know of a client that is more than a user. It is immutable.
type about struct {
	text string // two values in JSON, either of which may be empty: what others may see, then what only the backend may
	meta uint32 // where the second begins

	headers *Headers // that the backend may be sent; nil is none
}

func newAbout(info, meta []byte, headers *Headers) *about {
	if len(info)+len(meta) == 0 && headers == nil {
		return nil
	}
	return &about{text: string(info) + string(meta), meta: uint32(len(info)), headers: headers}
}

// setAbout notes what an identity says. Of a refresh that says nothing, what was there stays.
func (c *Client[F]) setAbout(i *Identity) {
	c.issued.Store(issuedSeconds(i.Token))
	info, meta := i.Info, i.Meta
	if len(info) == 0 {
		info = c.info()
	}
	if len(meta) == 0 {
		meta = c.Meta()
	}
	c.about.Store(newAbout(info, meta, c.headers()))
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

func (c *Client[F]) headers() *Headers {
	if a := c.about.Load(); a != nil {
		return a.headers
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
