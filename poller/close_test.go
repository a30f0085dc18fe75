package poller

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var errTest = errors.New("the test's cause")

// reset closes a TCP peer with a reset.
func reset(t testing.TB, peer net.Conn) {
	t.Helper()
	if err := peer.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantOpen checks that c's descriptor is still open.
func wantOpen(t testing.TB, c *Conn) {
	t.Helper()
	if _, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("descriptor %d: %v", c.fd, err)
	}
}

func TestClose(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		e := &tape{}
		peer := attach(t, p, kind, e)
		if _, err := e.Send([]byte("taken"), Out{}); err != nil {
			t.Fatal(err)
		}
		if !e.Open() {
			t.Error("not open")
		}
		e.Close(errTest)
		e.Close(errors.New("another"))
		e.Abort(errors.New("another"))
		if e.Open() {
			t.Error("open after Close")
		}
		if cause := e.waitClosed(t); cause != errTest {
			t.Errorf("cause %v, want the first", cause)
		}
		readFull(t, peer, "taken") // what the kernel had taken is delivered
		if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d, %v; want EOF", n, err)
		}
		wantDead(t, e)
	})
}

// wantDead calls every method on a closed connection: errors, zero values, no event
// and no harm to whoever has the descriptor's number now.
func wantDead(t testing.TB, e *tape) {
	t.Helper()
	var stranger [2]int
	if err := unix.Pipe2(stranger[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stranger[0])
	defer unix.Close(stranger[1])
	for name, err := range map[string]error{
		"Send":     second(e.Send([]byte("x"), Out{})),
		"SendAll":  second(e.SendAll([][]byte{[]byte("x")}, Out{})),
		"SendCopy": second(e.SendCopy([]byte("x"), []byte("y"), Out{})),
		"SendLast": e.SendLast([]byte("x"), true),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	e.Close(nil)
	e.Abort(nil)
	e.Finish()
	e.PauseReading()
	e.ResumeReading()
	e.Cork()
	if e.NotifyDrained() || e.Open() || e.GiveAway(func(int, *TLS) { t.Error("given away") }) {
		t.Error("NotifyDrained, Open or GiveAway says true")
	}
	if bytes, buffers, age := e.Waiting(); bytes != 0 || buffers != 0 || age != 0 {
		t.Errorf("%d bytes in %d buffers wait", bytes, buffers)
	}
	if e.RemoteAddr().IsValid() || e.LocalAddr().IsValid() {
		t.Error("it still has an address")
	}
}

// TestCloseDrops closes while much waits: the queue is dropped, and what the kernel had
// taken arrives.
func TestCloseDrops(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := stalled(t, p, e)
	sent := fill(t, e)
	waiting, _, _ := e.Waiting()
	e.Close(nil)
	e.waitClosed(t)
	got, err := io.ReadAll(peer)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != sent[:len(sent)-waiting] {
		t.Errorf("%d bytes arrived, want the %d that did not wait", len(got), len(sent)-waiting)
	}
}

// TestAbort resets the peer, also when it stalls with much unread.
func TestAbort(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := stalled(t, p, e)
	sent := fill(t, e)
	e.Abort(errTest)
	if cause := e.waitClosed(t); cause != errTest {
		t.Errorf("cause %v", cause)
	}
	n, err := io.Copy(io.Discard, peer)
	if !errors.Is(err, unix.ECONNRESET) || n >= int64(len(sent)) {
		t.Errorf("read %d of %d bytes, then %v; want a reset", n, len(sent), err)
	}
}

// TestCloseFromEvents closes from inside each event.
func TestCloseFromEvents(t *testing.T) {
	for _, how := range []string{"Close", "Abort"} {
		end := func(e *tape) {
			if how == "Close" {
				e.Close(errTest)
			} else {
				e.Abort(errTest)
			}
		}
		t.Run(how+" in OnData", func(t *testing.T) {
			bothKinds(t, func(t *testing.T, kind string) {
				p := newPoller(t, Config{Loops: 1})
				e := &tape{}
				e.onData = func([]byte) { end(e) }
				peer := attach(t, p, kind, e)
				poke(t, peer)
				if cause := e.waitClosed(t); cause != errTest {
					t.Errorf("cause %v", cause)
				}
			})
		})
		t.Run(how+" in OnEOF", func(t *testing.T) {
			bothKinds(t, func(t *testing.T, kind string) {
				for _, full := range []bool{false, true} {
					p := newPoller(t, Config{Loops: 1})
					e := &tape{}
					e.onEOF = func() { end(e) }
					peer := attach(t, p, kind, e)
					if full {
						peer.Close()
					} else if err := peer.(halfCloser).CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if cause := e.waitClosed(t); cause != errTest {
						t.Errorf("cause %v", cause)
					}
				}
			})
		})
		t.Run(how+" in OnDrained", func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			e.onDrained = func() { end(e) }
			peer := stalled(t, p, e)
			sent := fill(t, e)
			if !e.NotifyDrained() {
				t.Fatal("nothing waits")
			}
			n, _ := io.Copy(io.Discard, peer)
			if how == "Close" && n != int64(len(sent)) {
				t.Errorf("%d of %d bytes arrived", n, len(sent))
			}
			if cause := e.waitClosed(t); cause != errTest {
				t.Errorf("cause %v", cause)
			}
		})
	}
}

// TestPeerReset resets from the other side: the cause is the kernel's error.
func TestPeerReset(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for _, before := range []string{"", "data first"} {
		e := &tape{}
		peer := attach(t, p, "tcp", e)
		if before != "" {
			if _, err := peer.Write([]byte(before)); err != nil {
				t.Fatal(err)
			}
			e.waitBytes(t, len(before))
		}
		reset(t, peer)
		var op *OpError
		if cause := e.waitClosed(t); !errors.As(cause, &op) || op.Op != "read" || !errors.Is(cause, unix.ECONNRESET) {
			t.Errorf("cause %v, want an OpError of read with ECONNRESET", cause)
		}
		if e.eofs != 0 {
			t.Error("OnEOF was called for a reset")
		}
	}
}

// TestHalfClose shuts down the peer's sending side: OnEOF once, no spinning, sending still
// works, small and large, until Close.
func TestHalfClose(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 8 << 20}})
		e := &tape{}
		peer := attach(t, p, kind, e)
		if _, err := peer.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		if err := peer.(halfCloser).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		e.waitEOF(t)
		if got := e.received(); got != "request" {
			t.Errorf("read %q", got)
		}
		wantIdle(t)
		if !e.Open() {
			t.Error("a half-close ended the connection")
		}
		e.PauseReading() // nothing to read is left; it must not matter
		answer := randomBytes(1, 7<<20)
		if _, err := e.Send(answer, Out{}); err != nil {
			t.Fatal(err)
		}
		if !e.NotifyDrained() {
			t.Fatal("nothing waits: the test has no point")
		}
		e.ResumeReading()
		readFull(t, peer, string(answer))
		e.wait(t, "OnDrained", func() bool { return e.drains == 1 })
		wantDisarmed(t, e)
		e.Close(errTest)
		if cause := e.waitClosed(t); cause != errTest {
			t.Errorf("cause %v", cause)
		}
	})
}

// TestHalfClosedAtAttach attaches connections whose peer has already shut down its
// sending side: they too can be sent more than the kernel takes at once. netpoll's own
// mask, in force for a moment only, would now and then hang them up.
func TestHalfClosedAtAttach(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	attaches := 3000
	if raceEnabled {
		attaches = 500
	}
	lost := 0
	for range attaches {
		fd, peer := pair(t, "unix")
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := peer.(halfCloser).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		e := &tape{}
		if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
			t.Fatal(err)
		}
		e.waitEOF(t)
		e.mu.Lock()
		if e.state&hungup != 0 {
			lost++
		}
		e.mu.Unlock()
		e.Close(nil)
		e.waitClosed(t)
		peer.Close()
	}
	if lost > 0 {
		t.Errorf("%d of %d half-closed connections were hung up", lost, attaches)
	}
}

// TestHalfCloseThenGone has the peer end its stream, read little, and go away while
// the answer waits: the connection must not stay for ever.
func TestHalfCloseThenGone(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for _, queued := range []bool{true, false} {
		e := &tape{}
		peer := stalled(t, p, e)
		if err := peer.(halfCloser).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		e.waitEOF(t)
		if queued {
			fill(t, e)
		} else if _, err := e.Send([]byte("unread"), Out{}); err != nil {
			t.Fatal(err)
		} else if !until(func() bool { return pendingInput(t, peerFD(t, peer)) == 6 }) {
			t.Fatal("the answer does not arrive")
		}
		reset(t, peer)
		var op *OpError
		if cause := e.waitClosed(t); !errors.As(cause, &op) {
			t.Errorf("queued=%v: cause %v, want an OpError", queued, cause)
		}
	}
}

// TestGoneWhileQueued has the peer of a connection with a full queue go away, in each way
// and with reading paused or not. Who waits for OnDrained must not wait for ever.
func TestGoneWhileQueued(t *testing.T) {
	for _, kind := range []string{"tcp reset", "tcp close", "unix close"} {
		for _, pausedFirst := range []bool{false, true} {
			name := kind
			if pausedFirst {
				name += " while paused"
			}
			t.Run(name, func(t *testing.T) {
				p := newPoller(t, Config{Loops: 1})
				e := &tape{}
				e.onEOF = func() {
					if !e.NotifyDrained() {
						e.Close(nil)
					}
				}
				e.onDrained = func() {
					e.ResumeReading()
					if e.eofs > 0 {
						e.Close(nil)
					}
				}
				var peer net.Conn
				if kind == "unix close" {
					peer = attach(t, p, "unix", e)
				} else {
					peer = stalled(t, p, e)
				}
				if pausedFirst {
					e.PauseReading()
				}
				if _, err := peer.Write([]byte("last words")); err != nil {
					t.Fatal(err)
				}
				if !pausedFirst {
					e.waitBytes(t, 10)
				}
				fill(t, e)
				if !e.NotifyDrained() {
					t.Fatal("nothing waits")
				}
				if kind == "tcp reset" {
					reset(t, peer)
				} else {
					peer.Close()
				}
				e.waitClosed(t)
				if got := e.received(); kind == "unix close" && got != "last words" {
					t.Errorf("read %q", got)
				}
			})
		}
	}
}

func TestFinish(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		e := &tape{}
		peer := attach(t, p, kind, e)
		sent := fill(t, e)
		e.Finish()
		e.Finish()
		if _, err := e.Send([]byte("x"), Out{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after Finish: %v, want ErrClosed", err)
		}
		got, err := io.ReadAll(peer)
		if err != nil || string(got) != sent {
			t.Errorf("the peer read %d bytes (%v), want all %d and EOF", len(got), err, len(sent))
		}
		// Reading goes on until the peer closes too.
		if _, err := peer.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		e.waitBytes(t, 6)
		if err := peer.(halfCloser).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		e.waitEOF(t)
		if got := e.received(); got != "answer" {
			t.Errorf("read %q", got)
		}
		wantIdle(t)
		wantOpen(t, &e.Conn)
		e.Close(errTest)
		if cause := e.waitClosed(t); cause != errTest {
			t.Errorf("cause %v", cause)
		}
	})
}

// TestFinishThenFlood has the peer send much and close after Finish: both sides being done
// is a hang-up for the kernel, and still every byte is delivered before OnEOF.
func TestFinishThenFlood(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		e := &tape{}
		peer := attach(t, p, kind, e)
		e.Finish()
		want := randomBytes(1, 3<<20)
		if _, err := peer.Write(want); err != nil {
			t.Fatal(err)
		}
		_, _ = peer.Read(make([]byte, 1)) // what is unread when TCP is closed makes it a reset
		peer.Close()
		e.waitEOF(t)
		if got := e.received(); got != string(want) {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	})
}

// TestFinishStalled closes when the deadline of a Finish has passed.
func TestFinishStalled(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	stalled(t, p, e)
	fill(t, e)
	e.Finish()
	if waiting, _, _ := e.Waiting(); waiting == 0 {
		t.Error("Finish dropped the queue")
	}
	e.Close(errTest)
	if cause := e.waitClosed(t); cause != errTest {
		t.Errorf("cause %v", cause)
	}
}

// TestCloseConcurrently ends connections from many goroutines at once, while
// others send and pause, and the peer too may be the first.
func TestCloseConcurrently(t *testing.T) {
	rounds := 300
	if raceEnabled {
		rounds = 80
	}
	p := newPoller(t, Config{Loops: 2})
	causes := []error{errors.New("0"), errors.New("1"), errors.New("2"), errors.New("3")}
	for round := range rounds {
		e := &tape{}
		kind := []string{"tcp", "unix"}[round%2]
		peer := attach(t, p, kind, e)
		var wg sync.WaitGroup
		gate := make(chan struct{})
		do := func(f func()) { wg.Go(func() { <-gate; f() }) }
		do(func() { e.Close(causes[0]) })
		do(func() { e.Close(causes[1]) })
		do(func() { e.Abort(causes[2]) })
		do(e.Finish)
		do(func() { e.PauseReading(); e.ResumeReading() })
		do(func() {
			for range 20 {
				_, _ = e.Send([]byte("x"), Out{})
				_, _, _ = e.Waiting()
				_ = e.RemoteAddr()
			}
		})
		do(func() { _ = e.SendLast([]byte("bye"), true); _ = e.NotifyDrained() })
		do(func() {
			_, _ = peer.Write([]byte("data"))
			peer.Close()
		})
		close(gate)
		cause := e.waitClosed(t)
		wg.Wait()
		known := cause == causes[0] || cause == causes[1] || cause == causes[2]
		var op *OpError
		if !known && !errors.As(cause, &op) {
			t.Fatalf("cause %v is nobody's", cause)
		}
	}
}

// TestCloseWaitsForEvent holds the finalisation apart from the wish to close:
// the descriptor stays open as long as an event runs.
func TestCloseWaitsForEvent(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	entered, gate := make(chan struct{}), make(chan struct{})
	e.onData = func([]byte) { close(entered); <-gate }
	peer := attach(t, p, "tcp", e)
	poke(t, peer)
	await(t, entered, "OnData")
	e.Close(nil)
	wantOpen(t, &e.Conn)
	if e.closes != 0 {
		t.Error("OnClose while OnData runs")
	}
	close(gate)
	e.waitClosed(t)
}

func TestOpErrorText(t *testing.T) {
	err := error(&OpError{Op: "connect", Err: unix.ECONNREFUSED})
	if got := err.Error(); !strings.HasPrefix(got, "connect: connection refused") {
		t.Errorf("%q", got)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Error("the errno is hidden")
	}
}
