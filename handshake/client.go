package handshake

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// The bounds of the walk along a chain of proxies.
const (
	maxHops = 32 // entries looked at
	maxNode = 64 // bytes of an entry's address
)

// forwarding finds out who is behind the proxies. It never changes.
type forwarding struct {
	trusted []netip.Prefix
	field   string
}

// clientAddr returns the address of the client whose request is head: that of the
// peer, unless the peer is a trusted proxy. Then it is the right-most address in
// the proxy's field that is no trusted proxy's. Each proxy appends the address it
// got the request from, so what stands further left was written by somebody
// untrusted. An entry that is no address ends the walk at the proxy that wrote it.
func (w *forwarding) clientAddr(head []byte, peer netip.Addr) netip.Addr {
	addr := normal(peer)
	// A peer without an address is on a unix socket, and so on this host.
	if len(w.trusted) == 0 || addr.IsValid() && !w.trusts(addr) {
		return addr
	}
	rest := bytes.TrimSuffix(head, []byte("\r\n")) // the blank line
	for hops := 0; ; {
		var line []byte
		if line, rest = cutLastLine(rest); len(rest) == 0 {
			return addr // line is the request line
		}
		name, value, _, _ := cutField(line)
		if !equalFold(name, w.field) {
			continue
		}
		for len(value) > 0 {
			var element []byte
			if element, value = cutLastElement(value); len(element) == 0 {
				continue
			}
			next, ok := w.node(element)
			if hops++; !ok || hops > maxHops {
				return addr
			}
			if addr = next; !w.trusts(addr) {
				return addr
			}
		}
	}
}

func (w *forwarding) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(w.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// node reads the address of one element of the field.
func (w *forwarding) node(element []byte) (netip.Addr, bool) {
	if w.field == "Forwarded" {
		element = forwardedFor(element)
	}
	return parseNode(element)
}

// forwardedFor returns the "for" parameter of an element of Forwarded (RFC 7239
// §4), nil if it has none. Elements are cut at every comma, in quotes or not: no
// address holds one, and a client that sends half a quoted string must not hide
// what the proxy appended to it.
func forwardedFor(element []byte) []byte {
	for len(element) > 0 {
		var pair []byte
		pair, element, _ = bytes.Cut(element, []byte{';'})
		name, value, _ := bytes.Cut(pair, []byte{'='})
		if !equalFold(trimSpace(name), "for") {
			continue
		}
		value = trimSpace(value)
		if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		return value
	}
	return nil
}

// parseNode reads an address with or without a port: 192.0.2.1, 192.0.2.1:80,
// 2001:db8::1, [2001:db8::1], [2001:db8::1]:80.
func parseNode(b []byte) (netip.Addr, bool) {
	if len(b) > maxNode {
		return netip.Addr{}, false
	}
	s := string(b)
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		host, port, found := strings.Cut(inner, "]")
		if !found || !isPort([]byte(port)) {
			return netip.Addr{}, false
		}
		s = host
	} else if host, port, found := strings.Cut(s, ":"); found && !strings.Contains(port, ":") {
		s = host
	}
	addr, err := netip.ParseAddr(s)
	return normal(addr), err == nil
}

// normal makes addresses comparable: an IPv4 address in IPv6 clothes becomes one of
// IPv4, and a zone, which means something on one host only, goes.
func normal(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// cutLastLine cuts the last line, with its CRLF, off b, which ends with it.
func cutLastLine(b []byte) (line, rest []byte) {
	lf := bytes.LastIndexByte(b[:len(b)-1], '\n')
	return b[lf+1:], b[:lf+1]
}

// cutLastElement cuts the last element off a comma-separated list.
func cutLastElement(b []byte) (element, rest []byte) {
	comma := bytes.LastIndexByte(b, ',')
	if comma < 0 {
		return trimSpace(b), nil
	}
	return trimSpace(b[comma+1:]), b[:comma]
}
