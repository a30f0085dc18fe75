package main

import (
	"errors"
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func serveNBIO(l net.Listener) error {
	logging.SetLevel(logging.LevelNone) // it would write to where the URL goes
	upgrader := websocket.NewUpgrader()
	upgrader.HandshakeTimeout, upgrader.MessageLengthLimit, upgrader.KeepaliveTime = handshakeTimeout, maxMessage, 0
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) { _ = c.WriteMessage(kind, message) })
	closed := make(chan struct{})
	watched := &watchedListener{Listener: l, closed: closed}
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp", Addrs: []string{l.Addr().String()}, MaxLoad: 1 << 20, ReleaseWebsocketPayload: true,
		Listen: func(string, string) (net.Listener, error) { return watched, nil },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = upgrader.Upgrade(w, r, nil) // it answers
		}),
	})
	if err := engine.Start(); err != nil {
		return err
	}
	<-closed
	engine.Stop()
	return nil
}

// watchedListener says when it is closed: nbio's engine accepts by itself.
type watchedListener struct {
	net.Listener
	closed chan struct{}
}

// Accept is the listener's.
func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		select {
		case <-l.closed:
		default:
			close(l.closed)
		}
	}
	return c, err
}
