package session

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 wants it
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
)

// TapOpening is a session's opening handshake.
type TapOpening struct {
	// Synthesised says that the tap came later: Request and Response are made up, with what was agreed on.
	Synthesised       bool
	Request, Response []byte

	Path string
	// Remote and Local are the socket's ends, zero for a unix socket. Client is who trusted proxies say it is, as far
	// as that is known.
	Remote, Local netip.AddrPort
	Client        netip.Addr
	TLS           bool
	// Deflate says that permessage-deflate was agreed on, and the others whose messages may refer to those before.
	Deflate, ClientTakeover, ServerTakeover bool

	session *Session
}

// Session returns the session that opens, or has opened; it may have ended since.
func (o *TapOpening) Session() *Session { return o.session }

// describe tells what is known of a session's opening.
func describe(s *Session, head, resp []byte, client netip.Addr) *TapOpening {
	_, secured := s.conn.TLS()
	o := &TapOpening{
		session: s, Request: head, Response: resp, Path: s.endpoint.path, TLS: secured,
		Remote: s.conn.RemoteAddr(), Local: s.conn.LocalAddr(), Client: client,
		ClientTakeover: s.endpoint.codec.TakeoverBits > 0,
	}
	if c := s.endpoint.compression; c != nil {
		o.Deflate, o.ServerTakeover = true, c.takeover
	}
	return o
}

// synthesised makes up the opening handshake of a session of which only the outcome is known.
func synthesised(s *Session) *TapOpening {
	o := describe(s, nil, nil, netip.Addr{})
	o.Synthesised, o.Client = true, o.Remote.Addr()
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // which never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	host := "localhost"
	if o.Local.IsValid() {
		host = o.Local.String()
	}
	extensions := ""
	if o.Deflate {
		extensions = "Sec-WebSocket-Extensions: permessage-deflate"
		if !o.ServerTakeover {
			extensions += "; server_no_context_takeover"
		}
		if !o.ClientTakeover {
			extensions += "; client_no_context_takeover"
		}
		extensions += "\r\n"
	}
	o.Request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", o.Path, host, key, extensions)
	o.Response = fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s\r\n", AcceptKey(key), extensions)
	return o
}

// AcceptKey returns the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key. RFC 6455 §4.2.2: "constructed by
// concatenating key ... with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", taking the SHA-1 hash of this
// concatenated value to obtain a 20-byte value and base64-encoding".
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}
