package session

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/codec"
)

// A handler that blocks stops the reading of its socket: what the client pours in stays in
// its kernel, and comes, whole and in order, when the handler goes on. MILLPOND_FLOOD_MIB pours in more than 64 MiB.
func TestBlockedHandler(t *testing.T) {
	release := make(chan struct{})
	var got, wrong atomic.Int64
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{
		Message: func(_ *Session, _ Opcode, payload []byte) {
			<-release
			if int64(binary.BigEndian.Uint32(payload)) != got.Load() {
				wrong.Add(1)
			}
			got.Add(1)
		},
	}}}})
	c := s.open()
	const size = 4096
	messages := 64 << 20 / size
	if mib, err := strconv.Atoi(os.Getenv("MILLPOND_FLOOD_MIB")); err == nil {
		messages = mib << 20 / size
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		payload := make([]byte, size)
		for i := range messages {
			binary.BigEndian.PutUint32(payload, uint32(i))
			if _, err := c.Write(masked(OpBinary, true, string(payload))); err != nil {
				return
			}
		}
	}()
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	read := s.Stats().BytesIn
	if most := int64(s.config.InboxBytes + 2*(64<<10) + size); read > 2*most {
		t.Errorf("%d bytes were read while the handler was blocked, want about %d", read, most)
	}
	s.Range(func(session *Session) {
		waiting, most := session.inbox.Waiting(), s.config.InboxBytes+(64<<10)+size
		if waiting > most {
			t.Errorf("%d bytes wait in the inbox, want %d at most", waiting, most)
		}
		t.Logf("%d MiB poured in: %d KiB read, %d KiB wait", messages*size>>20, read>>10, waiting>>10)
	})
	close(release)
	<-done
	eventually(t, "all messages came", func() bool { return got.Load() == int64(messages) })
	if wrong.Load() > 0 {
		t.Errorf("%d messages out of order", wrong.Load())
	}
}

// A client of an echo that sends much and reads late gets everything, and the outbox stays bounded.
func TestPauseOnBacklog(t *testing.T) {
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: true, PauseOnBacklog: true, Handler: echoHandler{}}}})
	c := s.open()
	const messages = 3000
	payload := strings.Repeat("x", 10000)
	go func() {
		for range messages {
			if _, err := c.Write(text(payload)); err != nil {
				return
			}
		}
	}()
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	s.Range(func(session *Session) {
		if bytes, _, _ := session.conn.Waiting(); bytes > s.config.OutboxBytes {
			t.Errorf("%d bytes wait", bytes)
		}
	})
	for range messages {
		c.expect("text " + payload)
	}
}

// A client that never reads is evicted from a broadcast, and the others get everything.
func TestSlowConsumer(t *testing.T) {
	for _, tt := range []struct {
		policy Policy
		name   string
	}{{PolicyDisconnect, "disconnect"}, {PolicyDropOldest, "drop_oldest"}, {PolicyDropNewest, "drop_newest"}} {
		t.Run(tt.name, func(t *testing.T) {
			closed := make(chan Status, 10)
			s := startServer(t, Config{CloseTimeout: 500 * time.Millisecond, Endpoints: []Endpoint{
				{Path: "/echo", Handler: echoHandler{closed}, SlowPolicy: tt.policy},
			}})
			reader, stalled := s.open(), s.open()
			_ = tcp(stalled.Conn).SetReadBuffer(4096)
			const messages = 3000
			var reading sync.WaitGroup
			reading.Go(func() {
				for range messages {
					if op, _, err := reader.tryNext(); op != OpBinary || err != nil {
						t.Errorf("the reader got %v %v", op, err)
						return
					}
				}
			})
			frame := NewFrame(OpBinary, make([]byte, 4096))
			var sessions []*Session
			eventually(t, "both are open", func() bool {
				sessions = nil
				s.Range(func(session *Session) { sessions = append(sessions, session) })
				return len(sessions) == 2
			})
			slow := false
			for range messages {
				for _, session := range sessions {
					// The reader is waited for: only the stalled one is to be slow.
					for waiting, _, _ := session.conn.Waiting(); session.RemoteAddr().String() == reader.LocalAddr().String() && waiting > 100<<10; {
						runtime.Gosched()
						waiting, _, _ = session.conn.Waiting()
					}
					slow = errors.Is(session.Send(frame), ErrSlowConsumer) || slow
				}
			}
			reading.Wait()
			if slow != (tt.policy == PolicyDisconnect) {
				t.Errorf("slow consumer: %v", slow)
			}
			if tt.policy == PolicyDisconnect {
				if why := receive(t, closed); why.Reason != ReasonSlowConsumer {
					t.Errorf("closed with %+v", why)
				}
				return
			}
			if n := s.Stats().Dropped[tt.name]; n == 0 {
				t.Error("nothing was counted as dropped")
			}
			_ = tcp(stalled.Conn).SetLinger(0)
			_ = stalled.Close()
		})
	}
}

// Idle sessions cost no goroutine.
func TestGoroutines(t *testing.T) {
	s, _ := echoServer(t, true)
	s.open()
	before := runtime.NumGoroutine()
	for range 1000 {
		c := s.open()
		c.write(text("x"))
		c.expect("text x")
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines with 1 session, %d with 1,001", before, after)
	}
}

// Shutdown under load: every client gets 1001, a half-open handshake 503.
func TestShutdown(t *testing.T) {
	s, closed := echoServer(t, false)
	half := s.connect()
	half.write([]byte("GET /echo HTTP/1.1\r\n"))
	const clients = 100
	var all sync.WaitGroup
	for range clients {
		c := s.open()
		all.Go(func() {
			for {
				if _, err := c.Write(text("load")); err != nil {
					return
				}
				op, payload, err := c.tryNext()
				if err != nil {
					t.Error(err)
					return
				}
				if op == codec.OpClose {
					if CloseCode(payload[0])<<8|CloseCode(payload[1]) != 1001 {
						t.Errorf("close frame %q", payload)
					}
					_, _ = c.Write(closeFrame(1001, ""))
					c.expectEOF()
					_ = c.Close()
					return
				}
			}
		})
	}
	eventually(t, "all are in", func() bool { return s.table.Len() == clients+1 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	half.response("503")
	all.Wait()
	for range clients {
		if why := receive(t, closed); why.Reason != ReasonShutdown {
			t.Errorf("closed with %+v", why)
		}
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("the listener still accepts")
	}
}

// A handler that does not return cannot hold up Shutdown for longer than its context.
func TestShutdownWithABlockedHandler(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := startServer(t, Config{CloseTimeout: 200 * time.Millisecond, Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{
		Message: func(*Session, Opcode, []byte) { close(running); <-release },
	}}}})
	c := s.open()
	c.write(text("x"))
	receive(t, running)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	close(release)
}

// Behind a message that is larger than the outbox, small ones come in the same read: their
// answers find room, since reading then pauses.
func TestBacklogBehindALargeMessage(t *testing.T) {
	s := startServer(t, Config{Endpoints: []Endpoint{
		{Path: "/echo", Inline: true, PauseOnBacklog: true, Handler: echoHandler{}, MaxMessageBytes: 4 << 20},
	}})
	c := s.open()
	large := strings.Repeat("x", 4<<20)
	all := text(large)
	const small = 2000
	for range small {
		all = append(all, text("small")...)
	}
	c.pour(all)
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	c.expect("text " + large)
	for range small {
		c.expect("text small")
	}
}

// What waits for a client that reads nothing gets too old, and the session ends, by the next message or by the heartbeat.
func TestOutboxAge(t *testing.T) {
	for name, send := range map[string]func(*testServer, *Session){
		"message":   func(_ *testServer, s *Session) { _ = s.Send(NewFrame(OpText, []byte("next"))) },
		"pong":      func(_ *testServer, s *Session) { _ = s.Pong(nil) },
		"heartbeat": func(_ *testServer, s *Session) { s.ping() },
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan Status, 1)
			s := startServerOn(t, SocketOptions{SendBuffer: 4096}, Config{
				OutboxAge: 20 * time.Millisecond, CloseTimeout: 100 * time.Millisecond,
				Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{closed}, SlowPolicy: PolicyDropNewest}},
			})
			s.open()
			var session *Session
			eventually(t, "the session is open", func() bool {
				s.Range(func(s *Session) { session = s })
				return session != nil
			})
			for frame := NewFrame(OpBinary, make([]byte, 4096)); s.Stats().Dropped["drop_newest"] == 0; {
				_ = session.Send(frame)
			}
			eventually(t, "it has waited too long", func() bool {
				_, _, age := session.conn.Waiting()
				return age > s.config.OutboxAge
			})
			send(s, session)
			if why := receive(t, closed); why.Reason != ReasonOutboxAge || why.Code != codec.StatusPolicyViolation {
				t.Errorf("ended for %+v", why)
			}
		})
	}
}
