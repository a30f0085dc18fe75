package poller

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serve listens on address and accepts; the acceptor is closed at the end of the
// test.
func serve(t testing.TB, p *Poller, address string, o SocketOptions, accept func(fd int, peer netip.AddrPort)) *Acceptor {
	t.Helper()
	l, err := Listen(address, o)
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Serve(l, accept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// dialAll opens n blocking client connections, closed at the end of the test.
func dialAll(t testing.TB, network, address string, n int) []net.Conn {
	t.Helper()
	var cs []net.Conn
	for range n {
		c, err := net.DialTimeout(network, address, testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		cs = append(cs, c)
	}
	return cs
}

func TestAccept(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	type accepted struct {
		fd   int
		peer netip.AddrPort
	}
	const n = 3 * acceptBatch
	got := make(chan accepted, n)
	a := serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, peer netip.AddrPort) { got <- accepted{fd, peer} })
	want := map[string]bool{}
	for _, c := range dialAll(t, "tcp", a.Addr(), n) {
		want[c.LocalAddr().String()] = true
	}
	for range n {
		c := await(t, got, "a connection")
		if !want[c.peer.String()] {
			t.Errorf("peer %v is nobody's", c.peer)
		}
		delete(want, c.peer.String())
		for _, flag := range []struct{ get, bit int }{{unix.F_GETFD, unix.FD_CLOEXEC}, {unix.F_GETFL, unix.O_NONBLOCK}} {
			if v, err := unix.FcntlInt(uintptr(c.fd), flag.get, 0); err != nil || v&flag.bit == 0 {
				t.Errorf("descriptor flags %x lack %x (%v)", v, flag.bit, err)
			}
		}
		_ = unix.Close(c.fd)
	}
	if s := a.Stats(); s.Accepted != n || s.Backoffs != 0 || s.Aborted != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAcceptInherits checks the options that an accepted socket must have without a
// system call of its own.
func TestAcceptInherits(t *testing.T) {
	cases := []struct {
		name string
		o    SocketOptions
		want map[[2]int]int
	}{
		{"zero", SocketOptions{}, map[[2]int]int{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY}:      1,
			{unix.SOL_SOCKET, unix.SO_SNDBUF}:         2 * 64 << 10,
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}: 30_000,
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:      1,
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:     120,
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:    20,
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:      3,
		}},
		{"set", SocketOptions{SendBuffer: 20_000, UserTimeout: 1500 * time.Millisecond, KeepAlive: 3 * time.Second}, map[[2]int]int{
			{unix.SOL_SOCKET, unix.SO_SNDBUF}:         40_000,
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}: 1500,
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:     3,
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:    1,
		}},
		{"no keepalive", SocketOptions{KeepAlive: -1}, map[[2]int]int{{unix.SOL_SOCKET, unix.SO_KEEPALIVE}: 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			fds := make(chan int, 1)
			a := serve(t, p, "127.0.0.1:0", c.o, func(fd int, _ netip.AddrPort) { fds <- fd })
			dialAll(t, "tcp", a.Addr(), 1)
			fd := await(t, fds, "a connection")
			defer unix.Close(fd)
			for option, want := range c.want {
				if got, err := unix.GetsockoptInt(fd, option[0], option[1]); err != nil || got != want {
					t.Errorf("option %v is %d (%v), want %d", option, got, err, want)
				}
			}
		})
	}
}

// TestAcceptPause pauses from outside and from inside the callback: at most the one is accepted,
// the others wait in the backlog until the pause is over.
func TestAcceptPause(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	blocker := &tape{onData: func([]byte) { entered <- struct{}{}; <-gate }}
	blockerPeer := attach(t, p, "unix", blocker)
	var a *Acceptor
	ready := make(chan struct{})
	a = serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, _ netip.AddrPort) {
		<-ready
		a.Pause(time.Hour)
		_ = unix.Close(fd)
		entered <- struct{}{}
	})
	close(ready)
	poke(t, blockerPeer)
	await(t, entered, "the loop to be held")
	dialAll(t, "tcp", a.Addr(), 10) // all of them wait when accepting begins
	close(gate)
	await(t, entered, "the first")
	fence(t, p)
	if s := a.Stats(); s.Accepted != 1 {
		t.Errorf("%d accepted in spite of the pause, want 1", s.Accepted)
	}
	wantIdle(t)
	for i := int64(2); i <= 10; i++ {
		a.Pause(time.Millisecond) // a new pause replaces the old
		await(t, entered, "the next")
	}
	if s := a.Stats(); s.Accepted != 10 || s.Backoffs != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAcceptCloseWhileAccepting closes the acceptor in a storm of connects: nothing is
// accepted after Close returns, no descriptor leaks, and the address is free.
func TestAcceptCloseWhileAccepting(t *testing.T) {
	for range 10 {
		p := newPoller(t, Config{Loops: 2})
		l, err := Listen("127.0.0.1:0", SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		closed, late := false, 0
		a, err := p.Serve(l, func(fd int, _ netip.AddrPort) {
			mu.Lock()
			if closed {
				late++
			}
			mu.Unlock()
			_ = unix.Close(fd)
		})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					c, err := net.DialTimeout("tcp", a.Addr(), time.Second)
					if err != nil {
						return
					}
					c.Close()
				}
			})
		}
		if !until(func() bool { return a.Stats().Accepted > 20 }) {
			t.Fatal("nothing is accepted")
		}
		for range 2 {
			wg.Go(func() { a.Pause(time.Microsecond) })
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		closed = true
		mu.Unlock()
		if err := a.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		a.Pause(time.Microsecond)
		wg.Wait()
		if late > 0 {
			t.Errorf("%d accepted after Close", late)
		}
		again, err := Listen(a.Addr(), SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestServeTwice gives one listener to one loop twice: an error.
func TestServeTwice(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Serve(l, func(int, netip.AddrPort) {})
	if err != nil {
		t.Fatal(err)
	}
	var op *OpError
	if _, err := p.Serve(l, nil); !errors.As(err, &op) || op.Op != "epoll_ctl" {
		t.Errorf("%v, want an OpError of epoll_ctl", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefuse(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	a := serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, _ netip.AddrPort) { Refuse(fd, []byte("503")) })
	c := dialAll(t, "tcp", a.Addr(), 1)[0]
	if got, err := io.ReadAll(c); string(got) != "503" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// childEnv names the mode of a test binary that runs itself: the limit on descriptors is
// the whole process'.
const childEnv = "POLLER_TEST_CHILD"

// TestAcceptOutOfDescriptors runs out of descriptors three times in a row: netpoll's own accept loop
// recovers once and then spins for ever.
func TestAcceptOutOfDescriptors(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=emfile")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("recovered 3 times")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// child is the body of a test binary that was started by a test.
func child(mode string) int {
	if err := map[string]func() error{"emfile": emfileChild}[mode](); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// emfileChild fills its descriptor table, lets clients connect, checks that
// accepting pauses without spinning, makes room, and expects every client; three times.
func emfileChild() error {
	const clients, rounds = 5, 3
	var log bytes.Buffer
	p, err := New(Config{Loops: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return err
	}
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		return err
	}
	accepted := make(chan int, clients*rounds)
	a, err := p.Serve(l, func(fd int, _ netip.AddrPort) { accepted <- fd })
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(a.Addr())
	if err != nil {
		return err
	}
	for round := range rounds {
		if err := emfileRound(a, to, clients, accepted); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	s := a.Stats()
	if s.Accepted != clients*rounds || s.Backoffs < rounds || s.Backoffs > 100*rounds {
		return fmt.Errorf("%+v", s)
	}
	if err := a.Close(); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	if lines := strings.Count(log.String(), "out of resources"); lines != rounds {
		return fmt.Errorf("%d log lines, want one for each of the %d episodes:\n%s", lines, rounds, log.String())
	}
	fmt.Printf("recovered %d times\n", rounds)
	return nil
}

func emfileRound(a *Acceptor, to netip.AddrPort, clients int, accepted <-chan int) error {
	var socks, fillers []int
	for range clients { // made before, connected after the table is full
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		socks = append(socks, s)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(socks[clients-1] + 20), Max: old.Max}); err != nil {
		return err
	}
	for {
		fd, err := unix.Dup(socks[0])
		if err == unix.EMFILE {
			break
		}
		if err != nil {
			return err
		}
		fillers = append(fillers, fd)
	}
	before, cpu := a.Stats(), childCPU()
	for _, s := range socks {
		if err := unix.Connect(s, sockaddr(to)); err != nil {
			return err
		}
	}
	began := time.Now()
	if !until(func() bool { return a.Stats().Backoffs >= before.Backoffs+4 }) {
		return fmt.Errorf("no backoff: %+v", a.Stats())
	}
	if used, wall := childCPU()-cpu, time.Since(began); used > wall/2 {
		return fmt.Errorf("used %v of CPU time in %v of waiting for descriptors", used, wall)
	}
	if n := a.Stats().Backoffs - before.Backoffs; n > 50 {
		return fmt.Errorf("%d backoffs: they do not grow", n)
	}
	for _, fd := range fillers {
		_ = unix.Close(fd)
	}
	for range clients {
		select {
		case fd := <-accepted:
			_ = unix.Close(fd)
		case <-time.After(testTimeout):
			return fmt.Errorf("the backlog was not accepted: %+v", a.Stats())
		}
	}
	for _, s := range socks {
		_ = unix.Close(s)
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
}

func childCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestAcceptRate shows that no more are accepted than the rate allows, that the others wait and are not refused, and that
// they come in as time goes on.
func TestAcceptRate(t *testing.T) {
	for _, c := range []struct {
		name           string
		rate           float64
		dialed, atOnce int64
		all            bool
	}{
		{"hardly any", 0.001, 5, 1, false},
		{"a burst", 100, 30, 10, true},
		{"no bound", 0, 30, 30, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1, AcceptRate: c.rate})
			l, err := Listen("127.0.0.1:0", SocketOptions{})
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan int, c.dialed)
			a, err := p.Serve(l, func(fd int, _ netip.AddrPort) { accepted <- fd })
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			for range c.dialed {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			want := c.atOnce
			if c.all {
				want = c.dialed
			}
			for range want {
				_ = unix.Close(<-accepted)
			}
			if !c.all { // the pause lasts for longer than any test
				for a.Stats().Paced == 0 {
					runtime.Gosched()
				}
				if n := a.Stats().Accepted; n != want {
					t.Errorf("%d accepted, want %d", n, want)
				}
			}
			if tokens := p.pace.Load(); tokens != nil && c.all && tokens.Tokens() < -1 {
				t.Errorf("%v tokens are left", tokens.Tokens())
			}
			if paced := a.Stats().Paced; paced > 0 != (c.atOnce < c.dialed) {
				t.Errorf("paced %d times", paced)
			}
			if err := a.Close(); err != nil { // nobody who waits is reset
				t.Error(err)
			}
			for range c.dialed - want {
				_ = unix.Close(<-accepted)
			}
		})
	}
}

// TestAcceptRateRefills connects one by one, with time between: each finds a token, for none was taken but by a
// connection.
func TestAcceptRateRefills(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, AcceptRate: 10}) // one at once
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan int, 1)
	a, err := p.Serve(l, func(fd int, _ netip.AddrPort) { accepted <- fd })
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 4 {
		for p.pace.Load().Tokens() < 1 {
			runtime.Gosched()
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(<-accepted)
		if tokens := p.pace.Load().Tokens(); tokens < 0 {
			t.Errorf("one connection took %v tokens", 1-tokens)
		}
		_ = conn.Close()
	}
}
