package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

func serveGorilla(l net.Listener) error {
	// Without buffer sizes those of net/http are used again; a pool spares idle connections the one for writing. Pages of
	// other sites are refused, and nothing is compressed, by default.
	upgrader := websocket.Upgrader{HandshakeTimeout: handshakeTimeout, WriteBufferPool: &sync.Pool{}}
	return serveHTTP(l, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // it has answered
		}
		defer func() { _ = conn.Close() }()
		conn.SetReadLimit(maxMessage)
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := conn.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})
}
