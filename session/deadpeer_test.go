package session

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/codec"
)

// vanish makes the client's kernel discard every packet that arrives for it, as if the network had gone: it
// acknowledges nothing, and sends neither FIN nor RST. A classic BPF filter that lets nothing through does it.
func (c *raw) vanish() {
	c.t.Helper()
	raw, err := tcp(c.Conn).SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	}); err != nil || failed != nil {
		c.t.Fatal(err, failed)
	}
}

// An idle client whose network is gone is found within ping interval and pong timeout, and let go of after the close timeout.
func TestDeadPeer(t *testing.T) {
	closed := make(chan Status, 2)
	s := heartbeatServer(t, echoHandler{closed})
	dead, alive := s.open(), s.open()
	alive.write(text("hello"))
	alive.expect("text hello")
	dead.vanish()
	most := s.pingTicks + s.pongTicks + s.ahead()
	found := uint32(0)
	tickAlive := func() {
		s.Range(func(session *Session) { // the living answers
			if session.RemoteAddr().String() == alive.LocalAddr().String() {
				session.lastSeen.Store(s.clock.Load())
			}
		})
		s.tick()
	}
	for tick := uint32(1); found == 0 && tick <= most; tick++ {
		tickAlive()
		if s.Stats().Closed[ReasonPongTimeout] > 0 {
			found = tick
		}
	}
	if found == 0 {
		t.Fatalf("not found within %d ticks", most)
	}
	for range s.closeTicks + 1 { // its close frame is never acknowledged
		tickAlive()
	}
	if why := receive(t, closed); why.Reason != ReasonPongTimeout {
		t.Errorf("ended for %+v", why)
	}
	eventually(t, "the descriptor is closed", func() bool { return s.poller.Stats().Conns == 1 })
	if n := s.Stats().CloseTimeouts; n != 1 {
		t.Errorf("%d close timeouts, want 1", n)
	}
	alive.write(text("still here"))
	for op, message := alive.next(); message != "still here"; op, message = alive.next() {
		if op != codec.OpPing {
			t.Fatalf("got %v %q", op, message)
		}
	}
}

// A client whose network is gone while data is on its way is found by the kernel, without any heartbeat.
func TestDeadPeerWithUnsentData(t *testing.T) {
	closed := make(chan Status, 1)
	s := startServerOn(t, SocketOptions{UserTimeout: 300 * time.Millisecond}, Config{
		PingInterval: -1, Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{closed}}},
	})
	c := s.open()
	c.write(text("hello"))
	c.expect("text hello")
	c.vanish()
	s.Range(func(s *Session) { _ = s.Send(NewFrame(OpText, []byte("into the void"))) })
	why := receive(t, closed)
	if why.Reason != ReasonIOError || !errors.Is(why.Err, unix.ETIMEDOUT) {
		t.Errorf("ended for %+v", why)
	}
	if n := s.Stats().Closed[ReasonIOError]; n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}
