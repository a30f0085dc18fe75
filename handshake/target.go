package handshake

import (
	"bytes"
	"net/netip"
)

// target is a request-target taken apart (RFC 9112 §3.2). Its slices are parts of
// the request line.
//
// The path is what was sent: it is not decoded and its dot segments are kept, so
// that "/%65cho" is not "/echo". Whatever stands in front of the server and
// decides by path has seen the same octets.
type target struct {
	authority []byte // nil in origin-form
	path      []byte
	query     []byte // without the question mark
}

// parseTarget reads origin-form ("/path?query") and absolute-form
// ("http://host/path?query"). The other two forms belong to CONNECT and OPTIONS.
func parseTarget(b []byte) (t target, ok bool) {
	if len(b) == 0 || !allOctets(b, targetOctet) {
		return target{}, false
	}
	if b[0] != '/' {
		scheme, rest, found := bytes.Cut(b, []byte("://"))
		if !found || !isWebScheme(scheme) {
			return target{}, false
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		t.authority, b = rest[:end], rest[end:]
		if !isAuthority(t.authority) {
			return target{}, false
		}
	}
	t.path, t.query, _ = bytes.Cut(b, []byte{'?'})
	if len(t.path) == 0 {
		// RFC 9110 §4.2.3: an empty path is equivalent to "/".
		t.path = rootPath
	}
	return t, true
}

var rootPath = []byte{'/'}

func isWebScheme(b []byte) bool {
	return equalFold(b, "http") || equalFold(b, "https") || equalFold(b, "ws") || equalFold(b, "wss")
}

// isAuthority reports whether b is a host with an optional port: what a Host field
// holds, and an absolute-form target between its slashes. Userinfo is refused, as
// RFC 9110 §4.2.4 advises, and so are percent-encoded names, which no client sends.
func isAuthority(b []byte) bool {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		// No IPv6 address is longer than 45 characters; an address with a zone means
		// nothing to the other side.
		if end < 0 || end > 46 || bytes.IndexByte(b[:end], '%') >= 0 || !isPort(b[end+1:]) {
			return false
		}
		addr, err := netip.ParseAddr(string(b[1:end]))
		return err == nil && addr.Is6()
	}
	host := b
	if colon := bytes.IndexByte(b, ':'); colon >= 0 {
		if host = b[:colon]; !isPort(b[colon:]) {
			return false
		}
	}
	return len(host) > 0 && allOctets(host, hostOctet)
}

// isPort reports whether b is empty, or a colon and digits.
func isPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return b[0] == ':'
}
