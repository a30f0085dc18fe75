package poller

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// randomBytes returns n bytes that a seed determines.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

func TestReadSizes(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		e := &tape{}
		peer := attach(t, p, kind, e)
		var want []byte
		for i, size := range []int{1, 2, 13, 4095, 4096, scratchBytes - 1, scratchBytes, scratchBytes + 1, 5*scratchBytes + 7, 1 << 20} {
			b := randomBytes(uint64(i), size)
			want = append(want, b...)
			if _, err := peer.Write(b); err != nil {
				t.Fatal(err)
			}
			e.waitBytes(t, len(want))
		}
		if got := e.received(); got != string(want) {
			t.Errorf("read other bytes than were sent (%d, want %d)", len(got), len(want))
		}
		if got := p.Stats().BytesRead; got < int64(len(want)) {
			t.Errorf("Stats count %d bytes read, want %d", got, len(want))
		}
	})
}

// TestReadSplit sends one stream whole, split at each byte, and byte by byte.
func TestReadSplit(t *testing.T) {
	const stream = "0123456789abcdef"
	send := func(t *testing.T, p *Poller, parts ...string) {
		e := &tape{}
		peer := attach(t, p, "unix", e)
		sent := 0
		for _, part := range parts {
			if _, err := peer.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			sent += len(part)
			e.waitBytes(t, sent) // each part is a read of its own
		}
		if got := e.received(); got != stream {
			t.Errorf("%d parts: read %q", len(parts), got)
		}
	}
	p := newPoller(t, Config{Loops: 1})
	send(t, p, stream)
	for i := 1; i < len(stream); i++ {
		send(t, p, stream[:i], stream[i:])
	}
	var bytewise []string
	for _, c := range stream {
		bytewise = append(bytewise, string(c))
	}
	send(t, p, bytewise...)
}

// TestReadInPlace changes the scratch buffer in OnData, as unmasking does, on two
// connections of one loop: neither sees the other's bytes.
func TestReadInPlace(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	var es [2]*tape
	var peers [2]net.Conn
	for i := range es {
		es[i] = &tape{}
		es[i].onData = func(b []byte) {
			for j := range b {
				b[j] ^= 0xff
			}
		}
		peers[i] = attach(t, p, "unix", es[i])
	}
	for round := 1; round <= 50; round++ {
		for i, peer := range peers {
			if _, err := peer.Write(bytes.Repeat([]byte{byte(i)}, 100)); err != nil {
				t.Fatal(err)
			}
		}
		for i, e := range es {
			e.waitBytes(t, round*100)
			if got := e.received(); got != string(bytes.Repeat([]byte{^byte(i)}, round*100)) {
				t.Fatalf("round %d: connection %d read other bytes", round, i)
			}
		}
	}
}

// TestReadFair holds the loop inside OnData until two connections have input: the
// flooder gets maxReads, then the other is served.
func TestReadFair(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	gate, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	blocker := &tape{onData: func([]byte) { once.Do(func() { close(entered) }); <-gate }}
	blockerPeer := attach(t, p, "unix", blocker)

	// A pipe holds more than maxReads full reads in any process; a socket may not.
	var flood [2]int
	if err := unix.Pipe2(flood[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	const size = 3 * maxReads * scratchBytes
	if _, err := unix.FcntlInt(uintptr(flood[1]), unix.F_SETPIPE_SZ, size); err != nil {
		t.Fatal(err)
	}
	var order []string // written by the loop only
	flooder := &tape{discard: true, onData: func([]byte) { order = append(order, "flood") }}
	flooder.onEOF = func() { flooder.Close(nil) }
	if err := p.Attach(&flooder.Conn, flood[0], flooder, nil); err != nil {
		t.Fatal(err)
	}
	other := &tape{onData: func([]byte) { order = append(order, "other") }}
	otherPeer := attach(t, p, "unix", other)

	if _, err := blockerPeer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, entered, "the loop to be held")
	if n, err := unix.Write(flood[1], make([]byte, size)); n != size {
		t.Fatalf("wrote %d of %d bytes: %v", n, size, err)
	}
	if _, err := otherPeer.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	close(gate)
	flooder.waitBytes(t, size)
	other.waitBytes(t, 1)
	_ = unix.Close(flood[1])
	flooder.waitClosed(t)
	for i, who := range order {
		if who == "other" {
			if i != maxReads {
				t.Errorf("the other was served after %d reads of the flooder, want %d", i, maxReads)
			}
			return
		}
	}
	t.Error("the other was never served")
}

// pendingInput is how much the kernel holds for a reader of fd.
func pendingInput(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReadAfterClose closes from inside OnData while more input is in the kernel's
// hands: none of it is delivered any more.
func TestReadAfterClose(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		for range 20 {
			fd, peer := pair(t, kind)
			if _, err := peer.Write(make([]byte, 2*scratchBytes)); err != nil {
				t.Fatal(err)
			}
			// A TCP window takes a part at first; a unix socket takes it all.
			if !until(func() bool { return pendingInput(t, fd) >= scratchBytes/2 }) {
				t.Fatal("the input does not arrive")
			}
			e := &tape{discard: true}
			e.onData = func([]byte) { e.Close(nil) }
			if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
				t.Fatal(err)
			}
			e.waitClosed(t)
			if reads, _ := e.counts(); reads != 1 {
				t.Fatalf("OnData was called %d times, want once", reads)
			}
			peer.Close()
		}
	})
}

// TestAttachFirst hands input that was read before to Attach: it comes first,
// and everything that may be done inside OnData works there too.
func TestAttachFirst(t *testing.T) {
	t.Run("order", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		fd, peer := pair(t, "tcp")
		if _, err := peer.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
		e := &tape{}
		e.onData = func(b []byte) {
			e.Cork() // not on the loop: to be ignored
			if _, err := e.SendCopy(nil, b, Out{}); err != nil {
				t.Error(err)
			}
		}
		if err := p.Attach(&e.Conn, fd, e, []byte("first ")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
		readFull(t, peer, "first second")
		if got := e.received(); got != "first second" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("close", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		fd, _ := pair(t, "tcp")
		e := &tape{}
		e.onData = func([]byte) { e.Close(errTest) }
		if err := p.Attach(&e.Conn, fd, e, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if cause := e.waitClosed(t); cause != errTest {
			t.Errorf("cause %v", cause)
		}
	})
	t.Run("pause", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		fd, peer := pair(t, "tcp")
		if _, err := peer.Write([]byte("2")); err != nil {
			t.Fatal(err)
		}
		e := &tape{}
		e.onData = func(b []byte) {
			if b[0] == '1' {
				e.PauseReading()
			}
		}
		if err := p.Attach(&e.Conn, fd, e, []byte("1")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
		fence(t, p)
		if got := e.received(); got != "1" {
			t.Errorf("read %q while paused", got)
		}
		e.ResumeReading()
		e.waitBytes(t, 2)
	})
	t.Run("queue", func(t *testing.T) {
		p := newPoller(t, Config{Loops: 1})
		fd, peer := tcpPair(t, 4096, 4096)
		big := randomBytes(1, 1<<20)
		e := &tape{}
		e.onData = func([]byte) {
			if _, err := e.Send(big, Out{}); err != nil {
				t.Error(err)
			}
			if !e.NotifyDrained() {
				t.Error("nothing waits")
			}
		}
		if err := p.Attach(&e.Conn, fd, e, []byte("x")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
		readFull(t, peer, string(big))
		e.wait(t, "OnDrained", func() bool { return e.drains == 1 })
	})
}

// fence waits until every loop of p has begun a new turn twice, so that whatever was ready
// before has been handled.
func fence(t testing.TB, p *Poller) {
	t.Helper()
	for i, l := range p.loops {
		one := &Poller{loops: []*loop{l}}
		f, err := newProbe(one)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"f", "g"} {
			if err := errors.Join(f.write(s), f.expect(s)); err != nil {
				t.Fatalf("loop %d: %v", i, err)
			}
		}
		if err := f.close(); err != nil {
			t.Fatalf("loop %d: %v", i, err)
		}
	}
}

// TestAttachBadFD gives Attach what can't be polled: an error, no event, and the
// descriptor is closed.
func TestAttachBadFD(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := &tape{}
	if err := p.Attach(&e.Conn, fd, e, nil); err == nil {
		t.Fatal("no error")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is still open (%v)", err)
	}
	if _, err := e.Send([]byte("x"), Out{}); err != ErrClosed {
		t.Errorf("Send: %v, want ErrClosed", err)
	}
	e.Close(nil)
	if e.closes != 0 {
		t.Error("OnClose was called")
	}
}
