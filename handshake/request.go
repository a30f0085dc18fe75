package handshake

import (
	"net/netip"
	"net/url"
)

// Request is a handshake that is in order but for its Accept. It is valid until
// Accept returns, and is then another's; its strings are copies and may be kept.
type Request struct {
	// Path is the Route's.
	Path string
	// RawQuery is what follows the question mark, as it was sent.
	RawQuery string
	// Host is the host and port that the client asked for.
	Host string
	// Origin is the page's origin, empty if the client is no browser. It is allowed.
	Origin string
	// Subprotocols are those the client offers, in its order of preference.
	Subprotocols []string
	// Subprotocol is the chosen one, empty if there is none.
	Subprotocol string
	// ClientAddr is the client's address, as trusted proxies tell it. It is the zero
	// Addr on a unix socket without a proxy.
	ClientAddr netip.Addr

	head  []byte // the caller's, nil once Accept has returned
	query url.Values
}

// Query returns the parameters of the query, without those that are malformed. It
// parses at the first call.
func (r *Request) Query() url.Values {
	if r.query == nil {
		// ParseQuery returns what it could read beside the error, and never nil.
		r.query, _ = url.ParseQuery(r.RawQuery)
	}
	return r.query
}

// Header returns the value of the first field of that name in any case, or "".
func (r *Request) Header(name string) string {
	_, rest, _ := cutLine(r.head)
	for {
		field, value, after, ok := cutField(rest)
		if !ok {
			return "" // the blank line
		}
		if equalFold(field, name) {
			return string(value)
		}
		rest = after
	}
}

// Headers returns the values of all fields of that name in any case, in their order: a proxy may have added its own
// behind one that the client made up.
func (r *Request) Headers(name string) (values []string) {
	_, rest, _ := cutLine(r.head)
	for {
		field, value, after, ok := cutField(rest)
		if !ok {
			return values // the blank line
		}
		if equalFold(field, name) {
			values = append(values, string(value))
		}
		rest = after
	}
}

// offered returns the elements of all Sec-WebSocket-Protocol fields of head, of
// which there are lines.
func offered(head []byte, lines int) []string {
	var all []string
	_, rest, _ := cutLine(head)
	for lines > 0 {
		var name, value []byte
		name, value, rest, _ = cutField(rest)
		if !equalFold(name, "Sec-WebSocket-Protocol") {
			continue
		}
		lines--
		for len(value) > 0 {
			var element []byte
			if element, value = cutElement(value); len(element) > 0 {
				all = append(all, string(element))
			}
		}
	}
	return all
}
