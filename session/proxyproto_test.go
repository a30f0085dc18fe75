package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// whoAmI tells each session, and each plain request, its address.
func whoAmI() Config {
	return Config{
		Endpoints: []Endpoint{{
			Path: "/echo", Inline: true, Handler: Funcs{Open: func(s *Session) { _ = s.SendMessage(OpText, []byte(s.Data().(string))) }},
			Accept: func(r *Request) (any, error) { return r.ClientAddr.String(), nil },
		}},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }),
	}
}

func proxyHeaderV2(t *testing.T, source net.Addr, local bool, tlvs ...proxyproto.TLV) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, source, &net.TCPAddr{IP: net.IPv4(9, 9, 9, 9), Port: 443})
	if local {
		h.Command = proxyproto.LOCAL
	}
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProxyProtocol sends headers of both versions in one piece with the handshake, cut at each byte, and byte by byte.
func TestProxyProtocol(t *testing.T) {
	c := whoAmI()
	c.ProxyProtocolFrom = loopback
	s := startServer(t, c)
	v4, v6 := &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 6}
	for _, c := range []struct{ name, header, want string }{
		{"1 of IPv4", "PROXY TCP4 1.2.3.4 9.9.9.9 5 443\r\n", "1.2.3.4"},
		{"1 of IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 6 443\r\n", "2001:db8::1"},
		{"1 unknown", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"2 of IPv4", proxyHeaderV2(t, v4, false), "1.2.3.4"},
		{"2 of IPv6", proxyHeaderV2(t, v6, false), "2001:db8::1"},
		{"2 with more", proxyHeaderV2(t, v4, false, proxyproto.TLV{Type: 0xE0, Value: make([]byte, 3000)}), "1.2.3.4"},
		{"2 of the proxy itself", proxyHeaderV2(t, v4, true), "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := range min(len(c.header), 120) + 2 {
				first, then := c.header[:min(cut, len(c.header))], c.header[min(cut, len(c.header)):]
				client := s.connectProxied(first, then)
				client.write([]byte(openingHandshake))
				client.response("101")
				client.expect("text " + c.want)
				_ = client.Close()
			}
			client := s.connectProxied(strings.Split(c.header, "")...)
			client.write([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			client.response("200")
			if body, err := io.ReadAll(client.in); err != nil || !strings.Contains(string(body), c.want+":") && !strings.Contains(string(body), "["+c.want+"]:") {
				t.Errorf("plain request: %q, %v", body, err)
			}
		})
	}
}

// connectProxied writes the pieces of a PROXY header, and then begins TLS if all tests do.
func (s *testServer) connectProxied(pieces ...string) *raw {
	s.t.Helper()
	socket, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = socket.Close() })
	_ = socket.SetDeadline(time.Now().Add(patience))
	for _, p := range pieces {
		if _, err := io.WriteString(socket, p); err != nil {
			s.t.Fatal(err)
		}
	}
	c, err := s.secure(socket)
	if err != nil {
		s.t.Fatal(err)
	}
	return newRaw(s.t, c)
}

// What is no PROXY header gets an answer, in plain HTTP, and the end.
func TestProxyProtocolFaults(t *testing.T) {
	c := whoAmI()
	c.ProxyProtocolFrom, c.HandshakeTimeout = loopback, 500*time.Millisecond
	s := startServer(t, c)
	faults := []string{
		openingHandshake, "PROXY", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 1.2.3.4 9.9.9.9 5 99999\r\n",
		"PROXY TCP4 1.2.3.4 9.9.9.9 5 443\n" + openingHandshake, "PROXY " + strings.Repeat("x", 120),
		"\r\n\r\n", proxyV2 + "\x31\x11\x00\x0c" + strings.Repeat("x", 12), proxyV2 + "\x21\x11\xff\xff" + strings.Repeat("x", 9000),
		proxyV2 + "\x21\x11\x00\x01x", "\x16\x03\x01",
	}
	for _, fault := range faults {
		socket, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = socket.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(socket, fault)
		answer, _ := io.ReadAll(socket)
		if got := string(answer); !strings.HasPrefix(got, "HTTP/1.1 40") {
			t.Errorf("%.40q: answer %q", fault, got)
		}
		_ = socket.Close()
	}
	eventually(t, "all are gone", func() bool { return s.Stats().Connections == 0 })
	st := s.Stats()
	if n := st.Refusals["proxy_header"] + st.Refusals["header_timeout"]; n != int64(len(faults)) {
		t.Errorf("%d refused, want %d: %v", n, len(faults), st.Refusals)
	}
}

// From others a PROXY header is a bad request.
func TestProxyProtocolUntrusted(t *testing.T) {
	if overTLS {
		t.Skip("it is no TLS either")
	}
	c := whoAmI()
	c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	c.ProxyProtocolUnix = true
	s := startServer(t, c)
	for _, header := range []string{"PROXY TCP4 1.2.3.4 9.9.9.9 5 443\r\n", proxyHeaderV2(t, &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4)}, false)} {
		client := s.connectProxied(header + openingHandshake)
		client.response("400")
	}
	client := s.open()
	client.expect("text 127.0.0.1")

	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen("unix:"+path, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-served
	})
	for _, c := range []struct{ header, want string }{{"PROXY TCP4 1.2.3.4 9.9.9.9 5 443\r\n", "1.2.3.4"}, {"PROXY UNKNOWN\r\n", "invalid IP"}} {
		socket, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = socket.SetDeadline(time.Now().Add(patience))
		client := newRaw(t, socket)
		client.write([]byte(c.header + openingHandshake))
		client.response("101")
		client.expect("text " + c.want)
		_ = socket.Close()
	}
}

// The bound on one address's sessions counts the clients behind a proxy, not the proxy.
func TestProxyProtocolPerAddress(t *testing.T) {
	c := whoAmI()
	c.ProxyProtocolFrom, c.MaxPerAddress = loopback, 1
	s := startServer(t, c)
	for i, want := range []string{"101", "503", "101"} {
		client := s.connectProxied(fmt.Sprintf("PROXY TCP4 1.2.3.%d 9.9.9.9 5 443\r\n", i/2))
		client.write([]byte(openingHandshake))
		client.response(want)
	}
}

// FuzzProxyHeader wants the end found where the parser finds it, in whatever pieces it comes.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 9.9.9.9 5 443\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(proxyV2 + "\x21\x11\x00\x0c" + strings.Repeat("x", 12) + "GET"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 8 << 10
		end, ok := proxyHeaderEnd(b, limit)
		if !ok && end != 0 || end > len(b) || end > limit+proxyV2Bytes {
			t.Fatalf("%d, %t", end, ok)
		}
		if end == 0 {
			return
		}
		for i := range end { // no shorter piece of it has another end, or is refused
			if n, ok := proxyHeaderEnd(b[:i], limit); n != 0 || !ok && i < limit {
				t.Fatalf("the first %d of %d bytes end at %d, %t", i, end, n, ok)
			}
		}
	})
}
