package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/codec"
)

// What waits for a client that does not read is seen, and gone when it has read.
func TestOutboxes(t *testing.T) {
	sessions := make(chan *Session, 1)
	s := startServer(t, Config{OutboxBytes: 64 << 20, Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{Open: func(s *Session) { sessions <- s }}}}})
	c := s.open()
	if st := s.Outboxes(); st != (OutboxStats{}) {
		t.Errorf("at rest: %+v", st)
	}
	session, payload := receive(t, sessions), strings.Repeat("x", 1<<20)
	sent := 0
	for ; s.poller.Stats().Queues == 0; sent++ {
		if err := session.SendMessage(OpText, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.SendMessage(OpText, []byte(payload)); err != nil {
		t.Fatal(err)
	}
	if st := s.Outboxes(); st.Sessions != 1 || st.Messages != 2 || st.Bytes < 1<<20 || st.Oldest <= 0 {
		t.Errorf("%+v", st)
	}
	for range sent + 1 {
		c.expect("text " + payload)
	}
	eventually(t, "nothing waits", func() bool { return s.Outboxes() == OutboxStats{} && s.poller.Stats().Queues == 0 })

	// Nor when the connection is gone.
	for s.poller.Stats().Queues == 0 {
		_ = session.SendMessage(OpText, []byte(payload))
	}
	_ = c.Close()
	eventually(t, "it is gone", func() bool { return s.Stats().Connections == 0 })
	if n := s.poller.Stats().Queues; n != 0 {
		t.Errorf("%d queues are left", n)
	}
}

func TestHandlersAndPongsAreCounted(t *testing.T) {
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}}})
	c := s.open()
	for n := 0; s.Stats().Handled.Count == 0; n++ {
		if n == 10_000 {
			t.Fatal("none of 10,000 was timed")
		}
		c.write(text("a"))
		c.expect("text a")
	}
	if s.Stats().Handled.Sum <= 0 || s.Stats().Pongs != 0 {
		t.Errorf("%+v", s.Stats())
	}
	c.write(masked(codec.OpPong, true, ""))
	c.write(masked(codec.OpPong, true, "unasked for"))
	eventually(t, "two pongs", func() bool { return s.Stats().Pongs == 2 })
}

// Both directions count every frame but continuations: data, and control frames, those of heartbeats too.
func TestMessagesCountControlFrames(t *testing.T) {
	s := startServer(t, Config{
		PingInterval: 2 * tickInterval, PongTimeout: tickInterval, Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}},
	})
	c := s.open()
	in, out, pings := int64(0), int64(0), int64(0)
	c.write(slices.Concat(text("a"), masked(codec.OpPing, true, "b"), masked(codec.OpText, false, "c"), masked(codec.OpContinuation, true, "d"), masked(codec.OpPong, true, "")))
	in += 4
	for got := 0; got < 3 || pings < 1; out++ {
		switch op, payload := c.next(); {
		case op != codec.OpPing:
			got++
		case payload == "":
			pings++
			c.write(masked(codec.OpPong, true, ""))
			in++
		}
	}
	c.write(closeFrame(1000, ""))
	in++
	for op := codec.OpPing; op != codec.OpClose; out++ {
		op, _ = c.next()
	}
	c.expectEOF()
	eventually(t, "it is gone", func() bool { return s.Stats().Connections == 0 })
	if st := s.Stats(); st.MessagesIn != in || st.MessagesOut != out || st.Pings < pings {
		t.Errorf("%d in and %d out, want %d and %d; %d pings", st.MessagesIn, st.MessagesOut, in, out, st.Pings)
	}
}
