package session

import (
	"strings"
	"sync"
	"testing"

	"github.com/millpond/millpond/codec"
)

// chatty is a protocol with heartbeats, codes and tasks of its own.
type chatty struct {
	Funcs
	wake func(s *Session)
}

func (c chatty) OnWake(s *Session) { c.wake(s) }

var chattyCloses = map[Reason]CloseFrame{
	ReasonShutdown: {3001, "shutdown"}, ReasonSlowConsumer: {3008, "slow"}, ReasonPongTimeout: {3012, "no pong"},
	ReasonHandlerPanic: {3004, "internal server error"},
}

func chattyServer(t *testing.T, h Handler) *testServer {
	s := startServer(t, Config{
		PingInterval: 50 * tickInterval, PongTimeout: 20 * tickInterval, OutboxBytes: 1,
		Endpoints: []Endpoint{{
			Path: "/echo", Handler: h, Closes: chattyCloses,
			Pings: []*Frame{NewFrame(OpText, []byte("{}")), NewFrame(OpBinary, []byte{0})},
		}},
	})
	s.stopTicking()
	return s
}

// A protocol's heartbeats begin when it says so, with the message it has chosen; an answer is known to be one; who does not
// answer hears the protocol's own code.
func TestHeartbeatOfAProtocol(t *testing.T) {
	sessions := make(chan *Session, 1)
	s := chattyServer(t, Funcs{Open: func(s *Session) { sessions <- s }})
	silent := s.open()
	silentSession := receive(t, sessions)
	c := s.open()
	session := receive(t, sessions)
	for range 3 * s.pingTicks {
		s.tick()
	}
	if n := s.pings.Load(); n != 0 {
		t.Errorf("%d heartbeats before they began", n)
	}
	if session.Answered() {
		t.Error("no heartbeat, but an answer")
	}
	session.BeginHeartbeat(1)
	silentSession.BeginHeartbeat(0)
	for range 2 * s.pingTicks {
		s.tick()
		session.lastSeen.Store(s.clock.Load()) // it is alive
	}
	c.expect("binary \x00", "binary \x00")
	for i, want := range []bool{true, true, false} { // two answers are owed, no more
		if session.Answered() != want {
			t.Errorf("answer %d: want %t", i+1, want)
		}
	}
	silent.expect("text {}")
	silent.expectClose(3012)
}

// The engine ends sessions of a protocol with that protocol's codes.
func TestClosesOfAProtocol(t *testing.T) {
	sessions := make(chan *Session, 1)
	s := chattyServer(t, Funcs{
		Open:    func(s *Session) { sessions <- s },
		Message: func(*Session, Opcode, []byte) { panic("on purpose") },
	})
	s.mayPanic = true
	panicking := s.open()
	receive(t, sessions)
	panicking.write(text("!"))
	panicking.expectClose(3004)

	slow := s.open()
	session := receive(t, sessions)
	session.evict(ReasonSlowConsumer)
	slow.expectClose(3008)

	last := s.open()
	receive(t, sessions).goAway()
	if op, payload := last.next(); op != codec.OpClose || payload != "\x0b\xb9shutdown" {
		t.Errorf("%v %q", op, payload)
	}
}

// The closing handshake of a server that goes away waits for no handler that holds its session. No deadline comes, for the clock stands.
func TestGoAwayWhileHeld(t *testing.T) {
	held, done := make(chan *Session, 1), make(chan Status, 1)
	s := chattyServer(t, Funcs{
		Message: func(s *Session, _ Opcode, _ []byte) {
			s.Hold()
			held <- s
		},
		Close: func(_ *Session, why Status) { done <- why },
	})
	c := s.open()
	c.write(append(text("hold"), text("this waits")...))
	receive(t, held).goAway()
	if op, payload := c.next(); op != codec.OpClose {
		t.Fatalf("%v %q", op, payload)
	}
	c.write(closeFrame(1000, ""))
	_ = c.Close()
	if why := receive(t, done); why.Reason != ReasonShutdown {
		t.Errorf("ended with %+v", why)
	}
}

// While a handler holds its session, what the client sends waits, in the inbox and then in the kernel; wakes and the
// end do not.
func TestHold(t *testing.T) {
	type event struct {
		session *Session
		text    string
	}
	events := make(chan event, 64<<10)
	held := false // owned by the handler
	done := make(chan Status, 2)
	s := chattyServer(t, chatty{
		Funcs: Funcs{
			Message: func(s *Session, _ Opcode, payload []byte) {
				if held {
					t.Errorf("%q came while the session was held", payload)
				}
				if string(payload) == "hold" {
					held = true
					s.Hold()
				}
				events <- event{s, string(payload)}
			},
			Close: func(s *Session, why Status) {
				s.Resume() // too late
				done <- why
			},
		},
		wake: func(s *Session) {
			if held {
				held = false
				s.Resume()
			}
		},
	})
	c := s.open()
	const messages, size = 4000, 1 << 10 // much more than an inbox has room for
	payload := strings.Repeat("x", size)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range messages {
			out := payload
			if i%1000 == 0 {
				out = "hold"
			}
			if _, err := c.Write(text(out)); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range messages {
		e := receive(t, events)
		if (e.text == "hold") != (i%1000 == 0) {
			t.Fatalf("number %d is %.10q", i, e.text)
		}
		if e.text == "hold" {
			eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > int64(i/1000) })
			if n := e.session.inbox.Waiting(); n > s.config.InboxBytes+(64<<10)+size {
				t.Errorf("%d bytes wait in the inbox", n)
			}
			e.session.Wake()
		}
	}
	sending.Wait()
	if _, err := c.Write(append(text("hold"), text("never")...)); err != nil {
		t.Fatal(err)
	}
	receive(t, events)
	_ = tcp(c.Conn).SetLinger(0)
	_ = c.Close()
	receive(t, done)
	if len(events) > 0 {
		t.Errorf("%q came after the end", receive(t, events).text)
	}
}

// Tasks come in their place among messages, each once, and never after OnClose.
func TestWake(t *testing.T) {
	var mu sync.Mutex
	woken, closed, late := 0, 0, 0
	sessions := make(chan *Session, 1)
	done := make(chan Status, 1)
	s := chattyServer(t, chatty{
		Funcs: Funcs{
			Open: func(s *Session) { sessions <- s },
			Close: func(_ *Session, why Status) {
				mu.Lock()
				closed++
				mu.Unlock()
				done <- why
			},
		},
		wake: func(*Session) {
			mu.Lock()
			defer mu.Unlock()
			if woken++; closed > 0 {
				late++
			}
		},
	})
	c := s.open()
	session := receive(t, sessions)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				if !session.Wake() {
					t.Error("open, but not woken")
				}
			}
		})
	}
	group.Wait()
	eventually(t, "all have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return woken == 800
	})
	for range 4 {
		group.Go(func() {
			for session.Wake() { // until it is closed
			}
		})
	}
	_ = c.Close()
	receive(t, done)
	group.Wait()
	mu.Lock()
	defer mu.Unlock()
	if late > 0 {
		t.Errorf("%d calls after OnClose", late)
	}
}

func TestClosesAreValidated(t *testing.T) {
	for _, closes := range []map[Reason]CloseFrame{
		{ReasonPeerGone: {3000, ""}},
		{ReasonShutdown: {codec.StatusNoStatus, ""}},
		{ReasonShutdown: {3001, string(make([]byte, maxReasonBytes+1))}},
	} {
		c := Config{Endpoints: []Endpoint{{Path: "/", Handler: Funcs{}, Closes: closes}}}
		if c.Validate() == nil {
			t.Errorf("%v is accepted", closes)
		}
	}
}
