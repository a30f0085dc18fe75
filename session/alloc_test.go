//go:build !race

package session

import (
	"testing"

	"github.com/millpond/millpond/codec"
)

// Budgets of the hot path: none of these may allocate on a socket that takes what is sent.
func TestAllocations(t *testing.T) {
	for name, offer := range map[string]string{"plain": "none", "deflate": "permessage-deflate; server_no_context_takeover", "takeover": "permessage-deflate"} {
		t.Run(name, func(t *testing.T) { testAllocations(t, offer) })
	}
}

func testAllocations(t *testing.T, offer string) {
	s := startServer(t, Config{PingInterval: -1, Endpoints: []Endpoint{{
		Path: "/echo", Inline: true, Handler: echoHandler{}, Compression: &Compression{ContextTakeover: true},
	}}})
	c, _ := s.openDeflate(offer)
	go func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}()
	var session *Session
	eventually(t, "the session is open", func() bool {
		s.Range(func(s *Session) { session = s })
		return session != nil
	})
	shared, long := NewFrame(OpText, make([]byte, 64)), NewFrame(OpText, make([]byte, 1000))
	several := []*Frame{shared, long, shared}
	payload := make([]byte, 1000)
	ping, message := masked(codec.OpPing, true, "12345678"), text("a message of some length, like those that are sent a lot")
	input := make([]byte, 256)
	for name, f := range map[string]func(){
		"answering a ping":            func() { session.receive(input[:copy(input, ping)]) },
		"receiving and echoing":       func() { session.receive(input[:copy(input, message)]) },
		"sending a shared frame":      func() { _ = session.Send(shared) },
		"sending three shared frames": func() { _ = session.SendAll(several) },
		"sending a shared long frame": func() { _ = session.Send(long) },
		"sending a message":           func() { _ = session.SendMessage(OpText, message) },
		"sending a long message":      func() { _ = session.SendMessage(OpText, payload) },
		"a heartbeat":                 func() { session.ping() },
	} {
		if n := testing.AllocsPerRun(2000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
