package poller

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acceptOn serves a new listener, closes what it accepts and counts.
func acceptOn(t *testing.T, p *Poller) (*Acceptor, func()) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, accepted := serveInto(t, p, l)
	go func() {
		for fd := range accepted {
			_ = unix.Close(fd)
		}
	}()
	t.Cleanup(func() { _ = a.Close(); close(accepted) })
	return a, func() {
		t.Helper()
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

// TestLag holds one loop up: that is noticed on the other, where accepting pauses until it is over.
func TestLag(t *testing.T) {
	p := newPoller(t, Config{Loops: 2, MaxLag: 20 * time.Millisecond})
	a, connect := acceptOn(t, p)
	connect()
	if !until(func() bool { return a.Stats().Accepted == 1 }) {
		t.Fatal("nothing is accepted")
	}
	release := make(chan struct{})
	e := &tape{onData: func([]byte) { <-release }}
	for e.loop == nil || e.loop == a.loop { // one that lives on the other loop
		e = &tape{onData: func([]byte) { <-release }}
		peer := attach(t, p, "tcp", e)
		if e.loop != a.loop {
			write(t, peer, "x")
		}
	}
	if !until(func() bool { p.Probe(); return p.Lag() > 20*time.Millisecond }) {
		t.Fatalf("the lag is %v", p.Lag())
	}
	before := a.Stats()
	for range 5 {
		connect() // the kernel does
	}
	if !until(func() bool { return a.Stats().Lagged > before.Lagged+3 }) {
		t.Errorf("accepting has not paused: %+v", a.Stats())
	}
	if n := a.Stats().Accepted; n != before.Accepted {
		t.Errorf("%d were accepted all the same", n-before.Accepted)
	}
	close(release)
	if !until(func() bool { return a.Stats().Accepted == before.Accepted+5 }) {
		t.Errorf("accepting has not gone on: %+v", a.Stats())
	}
	if !until(func() bool { p.Probe(); return p.Lag() < 20*time.Millisecond }) {
		t.Errorf("the lag stays at %v", p.Lag())
	}
}

// TestManyHandshakes pauses accepting while more TLS handshakes wait than can be computed soon.
func TestManyHandshakes(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, TLSHandshakes: 2, MaxLag: -1})
	a, connect := acceptOn(t, p)
	p.queued.Store(2*maxQueued + 1)
	connect()
	if !until(func() bool { return a.Stats().Crowded > 0 }) || a.Stats().Accepted > 0 {
		t.Errorf("accepting has not paused: %+v", a.Stats())
	}
	p.queued.Store(0)
	if !until(func() bool { return a.Stats().Accepted == 1 }) {
		t.Errorf("accepting has not gone on: %+v", a.Stats())
	}
}
