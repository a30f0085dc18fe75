package poller

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// dial dials with a tape, which is closed at the end of the test.
func dial(t testing.TB, p *Poller, to string, e *tape, o DialOptions) {
	t.Helper()
	if err := p.Dial(&e.Conn, netip.MustParseAddrPort(to), e, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
}

func (e *tape) waitConnected(t testing.TB) {
	t.Helper()
	e.wait(t, "OnConnected", func() bool { return e.connected > 0 || e.closes > 0 })
	e.rec.Lock()
	defer e.rec.Unlock()
	if e.connected != 1 || e.closes > 0 {
		t.Fatalf("%d OnConnected, closed with %v", e.connected, e.cause)
	}
}

// TestDial connects both ends on the same loops and talks, over IPv4 and IPv6.
func TestDial(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 2})
			server := &tape{}
			server.onData = func(b []byte) { _, _ = server.SendCopy([]byte("echo "), b, Out{}) }
			server.onEOF = func() { server.Close(nil) }
			peers := make(chan netip.AddrPort, 1)
			a := serve(t, p, address, SocketOptions{}, func(fd int, peer netip.AddrPort) {
				peers <- peer
				if err := p.Attach(&server.Conn, fd, server, nil); err != nil {
					t.Error(err)
				}
			})
			e := &tape{}
			e.onConnected = func() {
				if _, err := e.Send([]byte("hello"), Out{}); err != nil {
					t.Error(err)
				}
			}
			dial(t, p, a.Addr(), e, DialOptions{SendBuffer: 8192, ReceiveBuffer: 8192})
			e.waitConnected(t)
			e.waitBytes(t, len("echo hello"))
			if got := e.received(); got != "echo hello" {
				t.Errorf("read %q", got)
			}
			peer := await(t, peers, "the peer")
			if e.LocalAddr() != peer || e.RemoteAddr().String() != a.Addr() || server.RemoteAddr() != peer {
				t.Errorf("addresses %v to %v, want %v to %v", e.LocalAddr(), e.RemoteAddr(), peer, a.Addr())
			}
			for option, want := range map[[2]int]int{
				{unix.SOL_SOCKET, unix.SO_SNDBUF}: 16384, {unix.SOL_SOCKET, unix.SO_RCVBUF}: 16384,
				{unix.IPPROTO_TCP, unix.TCP_NODELAY}: 1,
			} {
				if got, err := unix.GetsockoptInt(int(e.fd), option[0], option[1]); err != nil || got != want {
					t.Errorf("option %v is %d (%v), want %d", option, got, err, want)
				}
			}
			e.Close(nil)
			server.waitClosed(t)
		})
	}
}

// TestDialSource connects from a chosen loopback address.
func TestDialSource(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	peers := make(chan netip.AddrPort, 1)
	a := serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, peer netip.AddrPort) {
		peers <- peer
		_ = unix.Close(fd)
	})
	e := &tape{}
	dial(t, p, a.Addr(), e, DialOptions{Source: netip.MustParseAddrPort("127.0.0.2:0")})
	e.waitConnected(t)
	if got := await(t, peers, "the peer").Addr().String(); got != "127.0.0.2" {
		t.Errorf("peer %s", got)
	}
	var op *OpError
	err := p.Dial(&(&tape{}).Conn, netip.MustParseAddrPort(a.Addr()), e, DialOptions{Source: netip.MustParseAddrPort("192.0.2.1:0")})
	if !errors.As(err, &op) || op.Op != "bind" || !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("a foreign source: %v", err)
	}
}

// TestDialRefused dials a port that nobody listens on. Over loopback the kernel
// knows at once.
func TestDialRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	err = p.Dial(&e.Conn, to, e, DialOptions{})
	if err == nil {
		err = e.waitClosed(t)
	} else if e.closes+e.connected > 0 {
		t.Error("an event followed an error of Dial")
	}
	var op *OpError
	if !errors.As(err, &op) || op.Op != "connect" || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v, want an OpError of connect with ECONNREFUSED", err)
	}
	if e.connected != 0 {
		t.Error("OnConnected")
	}
}

// crowded returns a listener whose backlog is full: a further SYN is dropped, and
// sent again after a second.
func crowded(t testing.TB) (fd int, address string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", SocketOptions{Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	for range 3 { // the backlog of 1 holds 2; the third is on its way
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(s) })
		if err := unix.Connect(s, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.fd, to.String()
}

// wantConnecting checks that e's connect hangs.
func wantConnecting(t testing.TB, e *tape) {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(int(e.fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != unix.BPF_TCP_SYN_SENT {
		t.Fatalf("TCP state %d (%v), want SYN_SENT", info.State, err)
	}
}

// TestDialHangs closes a connect that hangs.
func TestDialHangs(t *testing.T) {
	for _, abort := range []bool{false, true} {
		p := newPoller(t, Config{Loops: 1})
		_, address := crowded(t)
		e := &tape{}
		dial(t, p, address, e, DialOptions{})
		wantConnecting(t, e)
		wantIdle(t)
		if _, err := e.Send([]byte("x"), Out{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Send before OnConnected: %v, want ErrClosed", err)
		}
		e.PauseReading()
		e.ResumeReading()
		if abort {
			e.Abort(errTest)
		} else {
			e.Close(errTest)
		}
		if cause := e.waitClosed(t); cause != errTest || e.connected != 0 {
			t.Errorf("cause %v, %d OnConnected", cause, e.connected)
		}
	}
}

// TestDialFailsLater has the listener go away while a connect hangs: the next SYN is
// refused.
func TestDialFailsLater(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	fd, address := crowded(t)
	e := &tape{}
	dial(t, p, address, e, DialOptions{})
	wantConnecting(t, e)
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil { // stops listening
		t.Fatal(err)
	}
	var op *OpError
	if cause := e.waitClosed(t); !errors.As(cause, &op) || op.Op != "connect" || !errors.Is(cause, unix.ECONNREFUSED) {
		t.Errorf("cause %v, want an OpError of connect with ECONNREFUSED", cause)
	}
	if e.connected+e.eofs+e.reads > 0 {
		t.Error("another event came first")
	}
}

// TestDialPaused pauses before the connection stands.
func TestDialPaused(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	a := serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, _ netip.AddrPort) { Refuse(fd, []byte("hello")) })
	e := &tape{}
	e.onConnected = func() { e.PauseReading() }
	dial(t, p, a.Addr(), e, DialOptions{})
	e.waitConnected(t)
	if !until(func() bool { return pendingInput(t, int(e.fd)) == 5 }) {
		t.Fatal("the data does not arrive")
	}
	fence(t, p)
	if e.received() != "" || e.eofs > 0 {
		t.Error("read while paused")
	}
	e.ResumeReading()
	e.waitEOF(t)
	if got := e.received(); got != "hello" {
		t.Errorf("read %q", got)
	}
}

// TestDialFromEvents dials from inside OnData, OnConnected, OnEOF and OnClose: each of these
// connections has the next one made.
func TestDialFromEvents(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	a := serve(t, p, "127.0.0.1:0", SocketOptions{}, func(fd int, _ netip.AddrPort) { Refuse(fd, []byte("hello")) })
	to := netip.MustParseAddrPort(a.Addr())
	connected := make(chan string, 8)
	next := func(from string) func() {
		return func() {
			e := &tape{onConnected: func() { connected <- from }}
			e.onEOF = func() { e.Close(nil) }
			if err := p.Dial(&e.Conn, to, e, DialOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
	e := &tape{onConnected: next("OnConnected"), onClose: next("OnClose")}
	e.onData = func([]byte) { next("OnData")() }
	e.onEOF = func() { next("OnEOF")(); e.Close(nil) }
	dial(t, p, a.Addr(), e, DialOptions{})
	for range 4 {
		await(t, connected, "a connection from inside an event")
	}
}
