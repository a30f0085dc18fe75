package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/millpond/millpond/push/webhook/sign"
)

// Header is one of a client's headers.
type Header struct {
	Name  string // in canonical form: "X-Real-Ip"
	Value string
}

// notForwarded are headers of a connection, not of what is asked over it (RFC 9110 §7.6.1), those that this package
// sets itself, and names that would let a client say what is not its to say.
var notForwarded = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", sign.Header,
}

// webSocketPrefix begins the names of the opening handshake's own headers.
const webSocketPrefix = "Sec-Websocket-"

// checkHeaders reports the names that cannot be forwarded, and returns the others in canonical form.
func checkHeaders(key string, names []string) ([]string, error) {
	var out []string
	var errs []error
	for _, name := range names {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !isToken(name):
			errs = append(errs, fmt.Errorf("%s: %q is no name of a header", key, name))
		case slices.Contains(notForwarded, canonical) || strings.HasPrefix(canonical, webSocketPrefix):
			errs = append(errs, fmt.Errorf("%s: %s belongs to the connection, and is never sent on", key, canonical))
		case slices.Contains(out, canonical):
			errs = append(errs, fmt.Errorf("%s: %s is there twice", key, canonical))
		default:
			out = append(out, canonical)
		}
	}
	return out, errors.Join(errs...)
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}

// isValue reports whether s can be a header's value: what a client has made up in a connect command may be anything.
func isValue(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

// setHeaders gives a request its headers: the endpoint's own, over them those that the client's connection has and the
// endpoint wants, and where it has none those that its connect command has.
func (c *Client) setHeaders(h http.Header, connection, emulated []Header) {
	for name, value := range c.static {
		h.Set(name, value)
	}
	forward := func(headers []Header, wanted []string) {
		var set []string
		for _, header := range headers {
			if !slices.Contains(wanted, header.Name) || !isValue(header.Value) {
				continue
			}
			if !slices.Contains(set, header.Name) {
				set = append(set, header.Name)
				h.Del(header.Name)
			}
			h.Add(header.Name, header.Value)
		}
	}
	forward(emulated, c.emulated)
	forward(connection, c.forwarded)
	h.Set("Content-Type", "application/json")
}
