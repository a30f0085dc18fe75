package poller

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// segmentsOut is how many segments with data this TCP socket has sent: what counts
// the sends, since nothing else can merge those of a socket with TCP_NODELAY that the
// peer's window has room for.
func segmentsOut(t testing.TB, e *tape) uint32 {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(int(e.fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	return info.Data_segs_out
}

// poke makes the loop call OnData of a connection once.
func poke(t testing.TB, peer net.Conn) {
	t.Helper()
	if _, err := peer.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
}

// TestCorkGathers sends in every form while corked: one segment leaves, in order.
func TestCorkGathers(t *testing.T) {
	for _, corked := range []bool{false, true} {
		p := newPoller(t, Config{Loops: 1})
		e := &tape{}
		e.onData = func([]byte) {
			if corked {
				e.Cork()
			}
			for range 10 {
				_, _ = e.Send([]byte("shared "), Out{})
				_, _ = e.SendCopy([]byte("co"), []byte("py "), Out{})
			}
		}
		peer := attach(t, p, "tcp", e)
		poke(t, peer)
		readFull(t, peer, strings.Repeat("shared copy ", 10))
		want := uint32(20)
		if corked {
			want = 1
		}
		if got := segmentsOut(t, e); got != want {
			t.Errorf("corked=%v: %d segments, want %d", corked, got, want)
		}
	}
}

// TestCorkTwice asks for Cork again after something was gathered.
func TestCorkTwice(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	e.onData = func([]byte) {
		e.Cork()
		_, _ = e.Send([]byte("one "), Out{})
		e.Cork()
		_, _ = e.Send([]byte("two"), Out{})
	}
	peer := attach(t, p, "tcp", e)
	poke(t, peer)
	readFull(t, peer, "one two")
	if got := segmentsOut(t, e); got != 1 {
		t.Errorf("%d segments, want 1", got)
	}
}

// TestCorkEnds checks each way in which what was gathered must leave, in order.
func TestCorkEnds(t *testing.T) {
	big := string(randomBytes(1, scratchBytes-10))
	cases := []struct {
		name string
		do   func(e *tape)
		want string
		eof  bool
	}{
		{"return", func(*tape) {}, "", false},
		{"overflow", func(e *tape) { _, _ = e.Send([]byte(big), Out{}); _, _ = e.Send([]byte("tail"), Out{}) }, big + "tail", false},
		{"overflow copy", func(e *tape) { _, _ = e.SendCopy([]byte(big[:5]), []byte(big[5:]), Out{}) }, big, false},
		{"larger than the buffer", func(e *tape) { _, _ = e.Send([]byte(big+big), Out{}) }, big + big, false},
		{"corked again", func(e *tape) {
			_, _ = e.Send([]byte(big), Out{})
			e.Cork()
			_, _ = e.Send([]byte("tail"), Out{})
		}, big + "tail", false},
		{"SendAll", func(e *tape) { _, _ = e.SendAll([][]byte{[]byte("a"), []byte("b")}, Out{}) }, "ab", false},
		{"SendLast", func(e *tape) { _ = e.SendLast([]byte("bye"), false) }, "bye", false},
		{"Close", func(e *tape) { e.Close(nil) }, "", true},
		{"Finish", func(e *tape) { e.Finish() }, "", true},
		{"SendLast, Finish", func(e *tape) { _ = e.SendLast([]byte("bye"), false); e.Finish() }, "bye", true},
	}
	p := newPoller(t, Config{Loops: 1})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bothKinds(t, func(t *testing.T, kind string) {
				e := &tape{}
				e.onData = func([]byte) {
					e.Cork()
					_, _ = e.Send([]byte("gathered "), Out{})
					c.do(e)
				}
				peer := attach(t, p, kind, e)
				poke(t, peer)
				readFull(t, peer, "gathered "+c.want)
				if c.eof {
					if n, err := peer.Read(make([]byte, 1)); n != 0 || err == nil {
						t.Errorf("read %d bytes more (%v), want the end", n, err)
					}
				}
			})
		})
	}
}

// TestCorkStalled gathers while the kernel has room for nothing or little: what was
// accepted is queued, pinned, and arrives.
func TestCorkStalled(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 100, Buffers: 2}})
	e := &tape{}
	answer := randomBytes(1, 30_000)
	e.onData = func([]byte) {
		e.Cork()
		_, _ = e.Send(answer, Out{})
		_, _ = e.Send(answer, Out{})
	}
	peer := stalled(t, p, e)
	poke(t, peer)
	e.waitBytes(t, 1)
	// A neighbour uses the loop's buffer while the rest of the first waits.
	n := &tape{}
	n.onData = func([]byte) {
		n.Cork()
		_, _ = n.Send(make([]byte, 60_000), Out{})
	}
	neighbour := attach(t, p, "unix", n)
	poke(t, neighbour)
	readFull(t, neighbour, strings.Repeat("\x00", 60_000))
	if dropped, err := e.Send([]byte("new"), Out{Policy: DropOldest}); dropped != 1 || err != nil {
		t.Errorf("dropped %d (%v), want the new one alone: the gathered are pinned", dropped, err)
	}
	readFull(t, peer, strings.Repeat(string(answer), 2))
	if n := pendingInput(t, peerFD(t, peer)); n != 0 {
		t.Errorf("%d bytes too many", n)
	}
}

func peerFD(t testing.TB, c net.Conn) int {
	t.Helper()
	raw, err := c.(interface {
		SyscallConn() (syscall.RawConn, error)
	}).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	if err := raw.Control(func(fd uintptr) { n = int(fd) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCorkWithOthers sends from other goroutines while the loop corks: each
// one's messages stay whole and in order.
func TestCorkWithOthers(t *testing.T) {
	const pokes, perPoke, others, perOther = 400, 5, 3, 800
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 64 << 20, Buffers: 1 << 20}})
	e := &tape{}
	number := uint32(0)
	e.onData = func(b []byte) {
		e.Cork()
		for range len(b) * perPoke {
			_, _ = e.Send(frame(others, number, int(number%300)), Out{})
			number++
		}
	}
	peer := attach(t, p, "tcp", e)
	var wg sync.WaitGroup
	for w := range uint32(others) {
		wg.Go(func() {
			for n := range uint32(perOther) {
				if _, err := e.SendCopy(frame(w, n, int(n%300)), nil, Out{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range pokes {
			if _, err := peer.Write([]byte("!")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	go func() {
		wg.Wait()
		until(func() bool { _, total := e.counts(); return total == pokes })
		e.Finish()
	}()
	got, err := checkFrames(peer, others+1)
	if err != nil {
		t.Fatal(err)
	}
	for w, n := range got {
		want := uint32(perOther)
		if w == others {
			want = pokes * perPoke
		}
		if n != want {
			t.Errorf("writer %d: %d messages, want %d", w, n, want)
		}
	}
}

// TestCorkOfNeighbours corks many connections of one loop in turn, which share one
// buffer: no answer reaches another's peer, also when OnData ends by Close or Abort.
func TestCorkOfNeighbours(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for round := range 30 {
		var peers []net.Conn
		var es []*tape
		for i := range 8 {
			mark := byte('a' + i)
			e := &tape{}
			e.onData = func([]byte) {
				e.Cork()
				_, _ = e.Send(bytes.Repeat([]byte{mark}, 1000), Out{})
				if i == round%8 {
					e.Abort(nil)
				}
			}
			es, peers = append(es, e), append(peers, attach(t, p, "unix", e))
		}
		for _, peer := range peers {
			poke(t, peer)
		}
		for i, peer := range peers {
			if i == round%8 {
				es[i].waitClosed(t)
				if n, _ := peer.Read(make([]byte, 1)); n != 0 {
					t.Fatal("what was gathered left after Abort")
				}
			} else {
				readFull(t, peer, strings.Repeat(string(rune('a'+i)), 1000))
			}
			peer.Close()
			es[i].Close(nil)
		}
	}
}
