package poller

import (
	"crypto/tls"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// testTimeout is how long a test waits for what must come. It is only used up when
// it does not.
const testTimeout = 15 * time.Second

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		os.Exit(child(mode))
	}
	// The runtime's own epoll descriptors are opened at first use and stay.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	goleak.VerifyTestMain(m)
}

func TestNew(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	if got := p.Stats().Conns; got != 0 {
		t.Errorf("%d connections after the self-test", got)
	}
	if got := p.Loops(); got != 2 {
		t.Errorf("%d loops, want 2", got)
	}
}

// TestLoopsDefault checks that the zero Config works.
func TestLoopsDefault(t *testing.T) {
	p := newPoller(t, Config{})
	if got, want := p.Loops(), runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d loops, want %d", got, want)
	}
}

func TestConfigValidate(t *testing.T) {
	bad := Config{Loops: -1, Limits: Limits{Bytes: -1, Buffers: -1}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	want := "loops: -1 is not between 0 and 1024\noutbox-bytes: -1 is negative\noutbox-messages: -1 is negative"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, err := New(bad); err == nil {
		t.Error("New took it")
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}

// TestCloseTwice closes a Poller again after its eventfd's number was given to
// another file: nothing may be written there.
func TestCloseTwice(t *testing.T) {
	before := openFDs(t)
	p, err := New(Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var pipes [][2]int
	for range 4 { // takes the numbers that Close gave free
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		pipes = append(pipes, fds)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for _, fds := range pipes {
		var b [8]byte
		if n, err := unix.Read(fds[0], b[:]); err != unix.EAGAIN {
			t.Errorf("a foreign pipe got %d bytes (%v)", n, err)
		}
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// newPoller opens a Poller whose end checks that every connection, descriptor and
// loop is gone.
func newPoller(t testing.TB, c Config) *Poller {
	t.Helper()
	before := openFDs(t)
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !until(func() bool { return p.Stats().Conns == 0 }) {
			t.Errorf("%d connections left", p.Stats().Conns)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		// OnClose runs after the count; what the test itself closes in its own
		// goroutines may take a moment longer.
		if !until(func() bool { return openFDs(t) == before }) {
			t.Errorf("%d descriptors open, %d before", openFDs(t), before)
		}
	})
	return p
}

// openFDs counts this process' descriptors.
func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return len(names) - 1
}

// until polls a condition that nothing announces, up to testTimeout.
func until(ok func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return true
		}
	}
	return ok()
}

// await fails the test unless c is closed, or delivers, in time.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("waited %v for %s", testTimeout, what)
		panic("unreachable")
	}
}

// tape is a connection that records what it is told.
type tape struct {
	Conn

	// Immutable after Attach. Each hook runs before the event is recorded.
	onConnected func()
	onData      func(b []byte)
	onEOF       func()
	onDrained   func()
	onClose     func()
	discard     bool               // do not keep the data
	take        func(b []byte) int // how much of b OnData takes, if not all

	// Guarded by rec.
	rec       sync.Mutex
	changed   chan struct{} // closed and replaced at each event
	data      []byte
	total     int
	reads     int
	connected int
	eofs      int
	drains    int
	closes    int
	cause     error
	busy      int // events that run now: never more than one
	overlaps  int
	late      int // events after OnClose
}

func (e *tape) event(hook func(), note func()) {
	e.rec.Lock()
	if e.busy++; e.busy > 1 {
		e.overlaps++
	}
	if e.closes > 0 {
		e.late++
	}
	e.rec.Unlock()
	if hook != nil {
		hook()
	}
	e.rec.Lock()
	e.busy--
	note()
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
	e.rec.Unlock()
}

func (e *tape) OnConnected() { e.event(e.onConnected, func() { e.connected++ }) }
func (e *tape) OnEOF()       { e.event(e.onEOF, func() { e.eofs++ }) }
func (e *tape) OnDrained()   { e.event(e.onDrained, func() { e.drains++ }) }

func (e *tape) OnClose(cause error) {
	e.event(e.onClose, func() { e.closes++; e.cause = cause })
}

func (e *tape) OnData(b []byte) (rest []byte) {
	if e.take != nil {
		n := e.take(b)
		b, rest = b[:n], b[n:]
	}
	var hook func()
	if e.onData != nil {
		hook = func() { e.onData(b) }
	}
	e.event(hook, func() {
		e.reads++
		e.total += len(b)
		if !e.discard {
			e.data = append(e.data, b...)
		}
	})
	return rest
}

// wait waits until ok, which runs under rec, holds.
func (e *tape) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	for {
		e.rec.Lock()
		done := ok()
		if !done && e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed := e.changed
		e.rec.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			e.rec.Lock()
			defer e.rec.Unlock()
			t.Fatalf("waited %v for %s: %d bytes in %d reads, %d EOF, %d drained, %d closed (%v)",
				testTimeout, what, e.total, e.reads, e.eofs, e.drains, e.closes, e.cause)
		}
	}
}

func (e *tape) waitBytes(t testing.TB, n int) {
	t.Helper()
	e.wait(t, "data", func() bool { return e.total >= n })
}

func (e *tape) waitEOF(t testing.TB) {
	t.Helper()
	e.wait(t, "OnEOF", func() bool { return e.eofs > 0 })
}

// waitClosed waits for OnClose, checks what must hold of every connection, and
// returns the cause.
func (e *tape) waitClosed(t testing.TB) error {
	t.Helper()
	e.wait(t, "OnClose", func() bool { return e.closes > 0 })
	e.rec.Lock()
	defer e.rec.Unlock()
	if e.closes != 1 || e.eofs > 1 || e.overlaps > 0 || e.late > 0 {
		t.Errorf("%d OnClose, %d OnEOF, %d overlapping events, %d after OnClose; want 1, at most 1, 0, 0",
			e.closes, e.eofs, e.overlaps, e.late)
	}
	return e.cause
}

// received returns a copy of the data so far.
func (e *tape) received() string {
	e.rec.Lock()
	defer e.rec.Unlock()
	return string(e.data)
}

// counts returns the number of reads and bytes so far.
func (e *tape) counts() (reads, total int) {
	e.rec.Lock()
	defer e.rec.Unlock()
	return e.reads, e.total
}

// attach makes a new connection of kind "tcp", "unix", "tls" or "tls1.2", attaches one end and
// returns the other.
func attach(t testing.TB, p *Poller, kind string, e *tape) net.Conn {
	t.Helper()
	fd, peer := pair(t, kind)
	if kind == "tls" || kind == "tls1.2" {
		if err := p.AttachTLS(&e.Conn, fd, e, nil, serverTLS()); err != nil {
			t.Fatal(err)
		}
		config := clientTLS()
		if kind == "tls1.2" {
			config.MaxVersion = tls.VersionTLS12
		}
		t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
		return shakeHands(t, e, peer, config)
	}
	if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	return peer
}

// halfCloser is what a net.Conn of both kinds can do besides.
type halfCloser interface {
	CloseWrite() error
	SetReadBuffer(n int) error
	SetWriteBuffer(n int) error
}

// pair makes a connected, non-blocking descriptor and its peer, which is closed at
// the end of the test.
func pair(t testing.TB, kind string) (int, net.Conn) {
	t.Helper()
	if kind == "unix" {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fds[0], netConn(t, fds[1])
	}
	return tcpPair(t, 0, 0)
}

// tcpPair makes a TCP connection over loopback. sndbuf is the descriptor's send buffer and
// rcvbuf the peer's receive buffer, set early enough to bound its window; zero
// leaves them to the kernel.
func tcpPair(t testing.TB, sndbuf, rcvbuf int) (int, net.Conn) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	l, err := unix.Socket(unix.AF_INET, kind, 0)
	check(err)
	defer unix.Close(l)
	check(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(l, 1))
	addr, err := unix.Getsockname(l)
	check(err)
	c, err := unix.Socket(unix.AF_INET, kind, 0)
	check(err)
	check(unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if rcvbuf > 0 {
		check(unix.SetsockoptInt(c, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf))
	}
	check(unix.Connect(c, addr))
	fd, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	check(err)
	check(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if sndbuf > 0 {
		check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sndbuf))
	}
	return fd, netConn(t, c)
}

// netConn makes a net.Conn of a descriptor and closes it at the end of the test.
func netConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "peer")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(2 * testTimeout)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// cpuTime is what this process has used so far.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// wantIdle fails when the process uses CPU time while nothing happens: a loop that
// is told the same readiness for ever uses all of it.
func wantIdle(t testing.TB) {
	t.Helper()
	const window = 60 * time.Millisecond
	var used time.Duration
	for range 3 { // the collector or a late goroutine may have work once
		before := cpuTime(t)
		<-time.After(window)
		if used = cpuTime(t) - before; used < window/4 {
			return
		}
	}
	t.Errorf("used %v of CPU time in %v of idleness", used, window)
}

// bothKinds runs a test over TCP, over unix sockets and over TLS.
func bothKinds(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{"tcp", "unix", "tls", "tls1.2"} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}
