package session

import (
	"context"
	"errors"
	"net"
	"testing"
)

// openWhole is open, and waits until the server has done all that belongs to it.
func (s *testServer) openWhole() *raw {
	s.t.Helper()
	c := s.open()
	c.write(text("hello"))
	c.expect("text hello")
	return c
}

// silentServer sends no pings, and its clock stands.
func silentServer(t *testing.T, h Handler) *testServer {
	s := startServer(t, Config{PingInterval: -1, Endpoints: []Endpoint{{Path: "/echo", Inline: true, Handler: h}}})
	s.stopTicking()
	return s
}

// Drain closes sessions evenly, tick by tick, while the others go on.
func TestDrain(t *testing.T) {
	closed := make(chan Status, 100)
	s := silentServer(t, echoHandler{closed})
	const sessions, perTick = 60, 7
	var clients []*raw
	for range sessions {
		clients = append(clients, s.openWhole())
	}
	half := s.connect()
	half.write([]byte("GET /echo HTTP/1.1\r\n"))
	eventually(t, "all are in", func() bool { return s.table.Len() == sessions+1 })

	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), perTick/tickInterval.Seconds()) }()
	eventually(t, "the drain has begun", func() bool { return s.draining.Load() != nil })
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("the listener still accepts")
	}
	half.write([]byte(openingHandshake[len("GET /echo HTTP/1.1\r\n"):])) // it had connected before
	half.response("101")
	eventually(t, "all are open", func() bool { // the client has its 101 a moment before
		all := true
		s.table.Range(func(s *Session) { all = all && s.state.Load() == open })
		return all
	})
	clients = append(clients, half)
	for told := int64(0); told < sessions+1; {
		select {
		case err := <-drained:
			t.Fatalf("it ended after %d of %d: %v", told, sessions+1, err)
		default:
		}
		s.tick()
		n := s.Stats().Closed[ReasonShutdown]
		if n != min(told+perTick, sessions+1) {
			t.Fatalf("%d were told in one tick", n-told)
		}
		told = n
	}
	s.tick()
	if err := receive(t, drained); err != nil {
		t.Error(err)
	}
	for _, c := range clients {
		c.write(closeFrame(1001, ""))
		c.expectClose(1001)
		_ = c.Close()
	}
	for range clients {
		if why := receive(t, closed); why.Reason != ReasonShutdown {
			t.Errorf("ended for %+v", why)
		}
	}
}

// While a drain goes on, the sessions whose turn has not come are served; when its time is up, Shutdown closes them.
func TestDrainIsCutShort(t *testing.T) {
	s := silentServer(t, echoHandler{})
	clients := []*raw{s.openWhole(), s.openWhole(), s.openWhole()}
	ctx, cancel := context.WithCancelCause(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx, 1/tickInterval.Seconds()) }()
	eventually(t, "the drain has begun", func() bool { return s.draining.Load() != nil })
	s.tick()
	served := 0
	for _, c := range clients {
		c.write(text("still there?"))
		if op, _ := c.next(); op == OpText {
			served++
		}
	}
	if served != 2 {
		t.Errorf("%d of 3 are served after one was closed", served)
	}
	hurry := errors.New("hurry")
	cancel(hurry)
	if err := receive(t, drained); !errors.Is(err, hurry) {
		t.Errorf("got %v", err)
	}
	for _, c := range clients {
		_ = c.Close()
	}
}

func TestDrainAtOnce(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.openWhole()
	if err := s.Drain(t.Context(), 0); err != nil {
		t.Error(err)
	}
	c.write(closeFrame(1001, ""))
	c.expectClose(1001)
}

// Who has connected and does not finish its handshake holds a drain up for a second.
func TestDrainWithHandshakes(t *testing.T) {
	s := silentServer(t, echoHandler{})
	_ = s.connect()
	eventually(t, "it is in", func() bool { return s.table.Len() == 1 })
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), 100) }()
	eventually(t, "the drain has begun", func() bool { return s.draining.Load() != nil })
	for i := range drainHandshakes + 1 {
		if s.draining.Load() == nil {
			t.Fatalf("it ended after %d ticks", i)
		}
		s.tick()
	}
	if err := receive(t, drained); err != nil {
		t.Error(err)
	}
}
