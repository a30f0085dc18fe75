package main

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/lxzan/gws"
)

// gwsEcho is gws's way to be called.
type gwsEcho struct{ gws.BuiltinEventHandler }

func (gwsEcho) OnPing(c *gws.Conn, payload []byte) { _ = c.WritePong(payload) }

func (gwsEcho) OnMessage(c *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	_ = c.WriteMessage(message.Opcode, message.Bytes())
}

func serveGWS(l net.Listener) error {
	upgrader := gws.NewUpgrader(gwsEcho{}, &gws.ServerOption{
		ReadMaxPayloadSize: maxMessage, WriteMaxPayloadSize: maxMessage, HandshakeTimeout: handshakeTimeout,
		Authorize: func(r *http.Request, _ gws.SessionStorage) bool { return sameOrigin(r.Header.Get("Origin"), r.Host) },
	})
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			return // it has answered
		}
		go conn.ReadLoop() // as its documentation has it: what the handler holds can go
	})
}

// sameOrigin says whether a request comes from a page of this host, or from none.
func sameOrigin(origin, host string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}
