package session

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millpond/millpond/codec"
)

// The server begins the closing handshake: its code and reason, then nothing more, and
// it closes TCP only when the client has answered.
func TestServerCloses(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		closed := make(chan Status, 1)
		s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: inline, Handler: Funcs{
			Message: func(s *Session, _ Opcode, _ []byte) {
				s.Close(4000, "go away")
				if err := s.SendMessage(OpText, []byte("late")); !errors.Is(err, ErrClosed) {
					t.Errorf("send after close: %v", err)
				}
				s.Close(4001, "twice")
			},
			Close: func(_ *Session, why Status) { closed <- why },
		}}}})
		c := s.open()
		c.write(join(text("a"), text("is not handled")))
		c.expect("close \x0f\xa0go away")
		c.write(join(masked(codec.OpPing, true, "no answer"), closeFrame(4000, "")))
		c.expectEOF()
		_ = c.Close()
		if why := receive(t, closed); why.Reason != ReasonServerClose || why.Code != 4000 || why.Text != "go away" {
			t.Errorf("closed with %+v", why)
		}
	})
}

// Nothing follows a close frame, whoever sends at the same time.
func TestNothingAfterTheCloseFrame(t *testing.T) {
	sessions := make(chan *Session, 1)
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{Open: func(s *Session) { sessions <- s }}}}})
	frame := NewFrame(OpText, []byte("x"))
	for range 50 {
		c := s.open()
		session := receive(t, sessions)
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for session.Send(frame) == nil {
				}
			})
		}
		senders.Go(func() { session.Close(1000, "") })
		for {
			op, _ := c.next()
			if op == codec.OpClose {
				break
			}
		}
		c.write(closeFrame(1000, ""))
		c.expectEOF()
		senders.Wait()
	}
}

func TestReset(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := echoServer(t, inline)
		for range 20 {
			c := s.open()
			_ = tcp(c.Conn).SetLinger(0)
			_ = c.Close()
			if why := receive(t, closed); why.Reason != ReasonIOError && why.Reason != ReasonPeerGone {
				t.Errorf("closed with %+v", why)
			}
		}
	})
}

// A panic closes the session it happened in with 1011, is counted, and logged with its stack.
func TestPanics(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		for name, f := range map[string]Funcs{
			"OnOpen":    {Open: func(*Session) { panic("oops") }},
			"OnMessage": {Message: func(*Session, Opcode, []byte) { panic("oops") }},
		} {
			t.Run(name, func(t *testing.T) {
				closed := make(chan Status, 1)
				f.Close = func(_ *Session, why Status) { closed <- why }
				s := startServer(t, Config{Endpoints: []Endpoint{
					{Path: "/panic", Inline: inline, Handler: f},
					{Path: "/echo", Inline: inline, Handler: echoHandler{}},
				}})
				s.mayPanic = true
				other := s.open()
				c := s.connect()
				c.write(append([]byte(strings.Replace(openingHandshake, "/echo", "/panic", 1)), text("x")...))
				c.response("101")
				c.expectClose(1011)
				_ = c.Close()
				if why := receive(t, closed); why.Reason != ReasonHandlerPanic || why.Code != 1011 {
					t.Errorf("closed with %+v", why)
				}
				other.write(text("alive"))
				other.expect("text alive")
				if n := s.Stats().Panics; n != 1 {
					t.Errorf("%d panics counted", n)
				}
				if log := s.log.String(); strings.Count(log, "oops") != 1 || !strings.Contains(log, "close_test.go") {
					t.Errorf("the log: %s", log)
				}
			})
		}
	})
	t.Run("Accept", func(t *testing.T) {
		s := startServer(t, Config{Endpoints: []Endpoint{{
			Path: "/echo", Handler: echoHandler{}, Accept: func(*Request) (any, error) { panic("oops") },
		}}})
		s.mayPanic = true
		c := s.connect()
		c.write([]byte(openingHandshake))
		c.response("500")
	})
}

// OnOpen comes first, OnClose last and once, and no two calls for one session overlap,
// whatever clients and server do at the same time.
func TestHandlerContract(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		var opened, closed, broken atomic.Int64
		type life struct{ state, busy atomic.Int32 }
		enter := func(s *Session, want int32) func() {
			l := s.Data().(*life)
			if l.busy.Add(1) != 1 || l.state.Load() != want {
				broken.Add(1)
			}
			return func() { l.busy.Add(-1) }
		}
		s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: inline, Handler: Funcs{
			Open: func(s *Session) {
				s.SetData(&life{})
				defer enter(s, 0)()
				s.Data().(*life).state.Store(1)
				opened.Add(1)
			},
			Message: func(s *Session, op Opcode, payload []byte) {
				defer enter(s, 1)()
				if string(payload) == "close" {
					s.Close(1000, "")
				}
				_ = s.SendMessage(op, payload)
			},
			Close: func(s *Session, _ Status) {
				defer enter(s, 1)()
				s.Data().(*life).state.Store(2)
				closed.Add(1)
			},
		}}}})
		const clients, each = 8, 40
		var all sync.WaitGroup
		for k := range clients {
			all.Go(func() {
				for i := range each {
					c := s.open()
					c.write(join(text("a"), text("b")))
					switch (k + i) % 5 {
					case 0:
						_ = tcp(c.Conn).SetLinger(0)
					case 1:
						c.write(closeFrame(1000, ""))
					case 2:
						c.write(text("close"))
					case 3:
						c.write([]byte{0xff})
					}
					_ = c.Close()
				}
			})
		}
		all.Wait()
		eventually(t, "every session is closed", func() bool { return closed.Load() == clients*each })
		if opened.Load() != clients*each || broken.Load() != 0 {
			t.Errorf("%d opened, %d calls out of place", opened.Load(), broken.Load())
		}
		eventually(t, "the table is empty", func() bool { return s.table.Len() == 0 })
	})
}

// Every reason is counted under its own name.
func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if name := r.String(); name == "unknown" || name == "none" || seen[name] {
			t.Errorf("reason %d is %q", r, name)
		}
		seen[r.String()] = true
	}
	if got := fmt.Sprint(Reason(200)); got != "unknown" {
		t.Error(got)
	}
}
