package handshake_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/millpond/millpond/handshake"
)

// What was read from a socket goes in, what is to be written comes out.
func ExampleUpgrader_Upgrade() {
	upgrader, err := handshake.New(handshake.Config{
		Routes: []handshake.Route{{Path: "/chat", Subprotocols: []string{"superchat", "chat"}}},
	})
	if err != nil {
		panic(err)
	}
	read := []byte("GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, superchat\r\n" +
		"Sec-WebSocket-Version: 13\r\n\r\n\x89\x80mask")

	end := handshake.HeaderEnd(read, 0)
	response, result, err := upgrader.Upgrade(nil, read[:end], netip.MustParseAddrPort("192.0.2.1:50000"))
	fmt.Println(result.Route.Path, result.Subprotocol, err)
	fmt.Println("frames:", len(read[end:]), "bytes")
	fmt.Print(strings.ReplaceAll(string(response), "\r", ""))
	// Output:
	// /chat chat <nil>
	// frames: 6 bytes
	// HTTP/1.1 101 Switching Protocols
	// Upgrade: websocket
	// Connection: Upgrade
	// Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
	// Sec-WebSocket-Protocol: chat
}
