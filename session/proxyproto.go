package session

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// opening is what a session has before it is open, if that takes more than one read, or a proxy has something to say.
type opening struct {
	header  []byte         // what has come of it
	client  netip.AddrPort // as the PROXY protocol tells it; the zero value means the socket's
	proxied bool           // a PROXY header must come first
	secured bool           // and then TLS
	inside  bool           // it came by Server.Upgrade
}

// beginning returns what s has before it is open, making it if need be.
func (s *Session) beginning() *opening {
	o, _ := s.data.(*opening)
	if o == nil {
		o = new(opening)
		s.data = o
	}
	return o
}

// clientAddr is the address at the other end of the connection, or what a trusted proxy says it is.
func (s *Session) clientAddr() netip.AddrPort {
	if o, _ := s.data.(*opening); o != nil && o.client.IsValid() {
		return o.client
	}
	return s.conn.RemoteAddr()
}

// proxied reports whether a peer must begin with a PROXY header. The zero AddrPort is a unix socket's.
func (c *Config) proxied(peer netip.AddrPort) bool {
	if !peer.IsValid() {
		return c.ProxyProtocolUnix
	}
	addr := peer.Addr().Unmap()
	return slices.ContainsFunc(c.ProxyProtocolFrom, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// The beginnings of a PROXY header, version 1 and 2, the longest line of the former, and the length of the latter without
// what depends on the family. See haproxy's proxy-protocol.txt, sections 2.1 and 2.2.
const (
	proxyV1      = "PROXY "
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV1Bytes = 107
	proxyV2Bytes = 16
)

// proxyHeader reads the header that a proxy puts before everything else, and returns what follows it, with
// done, when it is complete and s goes on.
func (s *Session) proxyHeader(o *opening, b []byte) (rest []byte, done bool) {
	have := len(o.header)
	o.header = append(o.header, b[:min(len(b), s.srv.config.MaxHeaderBytes-have)]...)
	end, ok := proxyHeaderEnd(o.header, s.srv.config.MaxHeaderBytes)
	switch {
	case !ok:
		s.refuse(errProxyHeader)
		return nil, false
	case end == 0:
		return nil, false
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(o.header[:end])))
	if err != nil {
		s.refuse(errProxyHeader)
		return nil, false
	}
	// A proxy that checks the health of its target speaks for itself.
	if source, _, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() {
		o.client = source.AddrPort()
		o.client = netip.AddrPortFrom(o.client.Addr().Unmap(), o.client.Port())
	}
	o.header, o.proxied, rest = nil, false, b[end-have:]
	if o.secured {
		s.secure(o, rest)
		return nil, false
	}
	return rest, true
}

// proxyHeaderEnd returns where the header ends, 0 if it goes on, or that b is none, or longer than limit.
func proxyHeaderEnd(b []byte, limit int) (end int, ok bool) {
	switch {
	case begins(b, proxyV2):
		if len(b) < proxyV2Bytes {
			return 0, true
		}
		if end = proxyV2Bytes + int(b[14])<<8 + int(b[15]); end > len(b) {
			return 0, end <= limit
		}
		return end, true
	case begins(b, proxyV1):
		if i := bytes.Index(b[:min(len(b), proxyV1Bytes)], []byte("\r\n")); i >= 0 {
			return i + 2, true
		}
		return 0, len(b) < min(proxyV1Bytes, limit)
	}
	return 0, false
}

// begins reports whether b begins with prefix, as far as it goes.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

// errProxyHeader is the answer to a peer from which a PROXY header is expected, also where TLS would follow.
var errProxyHeader = &handshake.Fault{
	Kind: "proxy_header", Status: http.StatusBadRequest, Reason: "a PROXY protocol header must come first",
}

// secure begins TLS on the connection of s, after the PROXY header: another session takes it over.
func (s *Session) secure(o *opening, rest []byte) {
	srv, first := s.srv, bytes.Clone(rest)
	s.conn.GiveAway(func(fd int, _ *poller.TLS) {
		s.state.Store(gone)
		defer srv.forget(s)
		if !srv.http.beginUpgrade() {
			_ = unix.Close(fd)
			return
		}
		defer srv.http.upgrades.Done()
		srv.adopt(&opening{client: o.client}, func(s *Session) error {
			return srv.poller.AttachTLS(&s.conn, fd, (*wire)(s), first, srv.tls)
		})
	})
}
