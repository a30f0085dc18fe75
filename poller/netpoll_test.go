package poller

import (
	"net"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSelfTestTurnsRed breaks what netpoll.go relies on, one thing at a time.
func TestSelfTestTurnsRed(t *testing.T) {
	other, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	t.Run("the descriptor is not epoll's", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		right := p.loops[0].epfd
		p.loops[0].epfd = other
		if err := p.selfTest(); err == nil {
			t.Error("the self-test passes")
		}
		p.loops[0].epfd = right
		if err := p.selfTest(); err != nil {
			t.Errorf("put right: %v", err)
		}
	})
	t.Run("a mask without effect", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		var probes [2]*probe
		for i := range probes {
			var err error
			if probes[i], err = newProbe(p); err != nil {
				t.Fatal(err)
			}
		}
		// The mask of a pause is believed to be in force already, so it is never set.
		c := &probes[0].conn
		c.mu.Lock()
		c.interest = 0
		c.mu.Unlock()
		err := probes[0].echoPaused(probes[1])
		if err == nil || !strings.Contains(err.Error(), "while reading was paused") {
			t.Errorf("%v", err)
		}
		for _, pr := range probes {
			if err := pr.close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRegisterTwice checks that epoll's answer to a second registration is an error.
func TestRegisterTwice(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	attach(t, p, "unix", e)
	op := p.loops[0].poll.Alloc()
	op.FD = int(e.fd)
	if err := register(p.loops[0].epfd, op, int(e.fd), unix.EPOLLIN); err == nil {
		t.Error("a descriptor was registered twice")
	}
	op.Free()
}

// TestEventArrayKeepsItsSize makes more descriptors ready at once than one epoll_wait may
// return: netpoll's array does not grow, nobody is forgotten, and each is read.
func TestEventArrayKeepsItsSize(t *testing.T) {
	const conns = 4 * maxEvents
	p := newPoller(t, Config{Loops: 1})
	gate, entered := make(chan struct{}), make(chan struct{})
	blocker := &tape{onData: func([]byte) { close(entered); <-gate }}
	blockerPeer := attach(t, p, "unix", blocker)
	var es []*tape
	var peers []net.Conn
	for range conns {
		e := &tape{}
		es, peers = append(es, e), append(peers, attach(t, p, "unix", e))
	}
	poke(t, blockerPeer)
	await(t, entered, "the loop to be held")
	for _, peer := range peers {
		poke(t, peer)
	}
	close(gate)
	for _, e := range es {
		e.waitBytes(t, 1)
	}
	for _, e := range es {
		e.Close(nil)
	}
	for _, e := range es {
		e.waitClosed(t)
	}
	fence(t, p)
	poll := reflect.ValueOf(p.loops[0].poll).Elem()
	size, events := poll.FieldByName("size").Int(), poll.FieldByName("events").Len()
	if size != maxEvents || events != maxEvents {
		t.Errorf("size %d, %d events; want %d", size, events, maxEvents)
	}
}

// TestResetFunc checks the reflection against a Poll that lacks what is needed.
func TestResetFunc(t *testing.T) {
	type wrongType struct{ Reset func(int) }
	type right struct{ Reset func(size, caps int) }
	for _, c := range []struct {
		v    any
		want bool
	}{{&struct{}{}, false}, {&wrongType{}, false}, {&right{}, true}} {
		if _, ok := resetFunc(reflect.ValueOf(c.v).Elem().FieldByName("Reset")); ok != c.want {
			t.Errorf("%T: %v, want %v", c.v, ok, c.want)
		}
	}
}

// TestOperatorsAreReused opens and ends connections one after another, in each way:
// netpoll's cache of operators, which never shrinks, holds no more than one block.
func TestOperatorsAreReused(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	cached := func() int {
		return reflect.ValueOf(p.loops[0].poll).Elem().FieldByName("opcache").Elem().FieldByName("cache").Len()
	}
	before := cached()
	for i := range 20 * before {
		e := &tape{}
		given := make(chan int, 1)
		if i%3 == 2 {
			e.onData = func([]byte) { e.GiveAway(func(fd int, _ *TLS) { given <- fd }) }
		}
		fd, peer := rawPair(t)
		if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			e.Close(nil)
			e.waitClosed(t)
		case 1:
			_ = unix.SetsockoptLinger(peer, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		default:
			if _, err := unix.Write(peer, []byte("!")); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(await(t, given, "the descriptor"))
		}
		_ = unix.Close(peer)
		if i%3 == 1 {
			e.waitClosed(t)
		}
		if i%16 == 0 {
			fence(t, p) // the loop takes freed operators back at the end of a turn
		}
	}
	if after := cached(); after > 2*before {
		t.Errorf("%d operators, %d before", after, before)
	}
}
