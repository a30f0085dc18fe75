package poller

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPauseFlood throws 64 MiB at a connection whose reading is paused: nothing is
// delivered, memory stays bounded, the sender is slowed; then every byte comes in order.
func TestPauseFlood(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		const total = 64 << 20
		p := newPoller(t, Config{Loops: 1})
		next, wrong := 0, 0 // the loop's alone
		e := &tape{discard: true}
		e.onData = func(b []byte) {
			for _, c := range b {
				if c != byte(next%251) {
					wrong++
				}
				next++
			}
		}
		peer := attach(t, p, kind, e)
		e.PauseReading()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var pushed int // guarded by mu
		var mu sync.Mutex
		wrote := make(chan error, 1)
		go func() { wrote <- writePattern(peer, total, func(n int) { mu.Lock(); pushed += n; mu.Unlock() }) }()

		// The peer is stuck when the kernel takes nothing for a while.
		last, since := -1, time.Now()
		until(func() bool {
			mu.Lock()
			defer mu.Unlock()
			if pushed != last {
				last, since = pushed, time.Now()
			}
			return time.Since(since) > 100*time.Millisecond
		})
		if last > total/2 {
			t.Errorf("the sender was let write %d bytes to a paused connection", last)
		}
		if reads, _ := e.counts(); reads != 0 {
			t.Errorf("%d reads while paused", reads)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		wantIdle(t)

		e.ResumeReading()
		if err := await(t, wrote, "the flood"); err != nil {
			t.Fatal(err)
		}
		e.waitBytes(t, total)
		if next != total || wrong > 0 {
			t.Errorf("%d bytes, %d of them wrong", next, wrong)
		}
	})
}

// writePattern writes total bytes that tell their place, modulo 251.
func writePattern(peer net.Conn, total int, wrote func(n int)) error {
	b := make([]byte, 251*400)
	for i := range b {
		b[i] = byte(i % 251)
	}
	for total > 0 {
		n, err := peer.Write(b[:min(len(b), total)])
		wrote(n)
		total -= n
		if err != nil {
			return err
		}
	}
	return nil
}

// TestPauseAtRandom pauses and resumes from several goroutines, and from inside OnData,
// while data flows: all of it arrives, in order, one event at a time.
func TestPauseAtRandom(t *testing.T) {
	total := 32 << 20
	if raceEnabled {
		total = 4 << 20
	}
	p := newPoller(t, Config{Loops: 2})
	next, wrong := 0, 0
	e := &tape{discard: true}
	e.onData = func(b []byte) {
		for _, c := range b {
			if c != byte(next%251) {
				wrong++
			}
			next++
		}
		if next%3 == 0 {
			e.PauseReading()
		}
	}
	peer := attach(t, p, "tcp", e)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e.PauseReading()
				e.ResumeReading()
				runtime.Gosched()
			}
		})
	}
	if err := writePattern(peer, total, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if err := peer.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	e.waitEOF(t)
	close(stop)
	wg.Wait()
	if next != total || wrong > 0 {
		t.Errorf("%d of %d bytes, %d of them wrong", next, total, wrong)
	}
}

// TestPausedStillFlushes is why the event mask is our own: netpoll has none without
// "readable", and a connection that is not read must still send.
func TestPausedStillFlushes(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := stalled(t, p, e)
	e.PauseReading()
	if _, err := peer.Write([]byte("not now")); err != nil {
		t.Fatal(err)
	}
	sent := fill(t, e)
	if !e.NotifyDrained() {
		t.Fatal("nothing waits")
	}
	readFull(t, peer, sent)
	e.wait(t, "OnDrained", func() bool { return e.drains == 1 })
	if got := e.received(); got != "" {
		t.Errorf("read %q while paused", got)
	}
	wantDisarmed(t, e)
	e.ResumeReading()
	e.waitBytes(t, 7)
}

// TestPausedThenEnd ends the peer in each way while reading is paused: nothing is
// told until ResumeReading; then everything, in order.
func TestPausedThenEnd(t *testing.T) {
	data := string(randomBytes(1, 100_000))
	cases := []struct {
		name, kind string
		end        func(t *testing.T, peer net.Conn)
		eof        bool
	}{
		{"tcp FIN", "tcp", func(_ *testing.T, c net.Conn) { c.Close() }, true},
		{"tcp half close", "tcp", func(_ *testing.T, c net.Conn) { _ = c.(halfCloser).CloseWrite() }, true},
		{"tcp RST", "tcp", func(t *testing.T, c net.Conn) { reset(t, c) }, false},
		{"unix close", "unix", func(_ *testing.T, c net.Conn) { c.Close() }, true},
		{"unix half close", "unix", func(_ *testing.T, c net.Conn) { _ = c.(halfCloser).CloseWrite() }, true},
	}
	for _, c := range cases {
		for _, closeInstead := range []bool{false, true} {
			name := c.name
			if closeInstead {
				name += ", Close"
			}
			t.Run(name, func(t *testing.T) {
				p := newPoller(t, Config{Loops: 1})
				e := &tape{}
				fd, peer := pair(t, c.kind)
				if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
				e.PauseReading()
				if _, err := peer.Write([]byte(data)); err != nil {
					t.Fatal(err)
				}
				if !until(func() bool { return pendingInput(t, fd) == len(data) }) {
					t.Fatal("the data does not arrive")
				}
				c.end(t, peer)
				fence(t, p)
				wantIdle(t)
				if e.reads+e.eofs+e.closes != 0 {
					t.Error("something was told while paused")
				}
				if closeInstead {
					e.Close(errTest)
					if cause := e.waitClosed(t); cause != errTest || e.reads+e.eofs > 0 {
						t.Errorf("cause %v, %d reads, %d EOF", cause, e.reads, e.eofs)
					}
					return
				}
				e.ResumeReading()
				if c.eof {
					e.waitEOF(t)
				} else if cause := e.waitClosed(t); !errors.Is(cause, unix.ECONNRESET) {
					t.Errorf("cause %v", cause)
				}
				// What a reset leaves readable is the kernel's to say.
				if got := e.received(); c.eof && got != data {
					t.Errorf("%d bytes, want %d", len(got), len(data))
				}
			})
		}
	}
}

// TestDrainPaused pauses inside the reads that follow a hang-up, and has another
// goroutine resume before OnData returns, or after: there is never a second reader.
func TestDrainPaused(t *testing.T) {
	data := string(randomBytes(2, 3*scratchBytes))
	for _, during := range []bool{true, false} {
		p := newPoller(t, Config{Loops: 1})
		for range 30 {
			e := &tape{}
			e.onData = func([]byte) {
				e.PauseReading()
				resumed := make(chan struct{})
				go func() { e.ResumeReading(); close(resumed) }()
				if during {
					<-resumed
					for range 20 {
						runtime.Gosched() // room for a second reader, if there is one
					}
				}
			}
			peer := attach(t, p, "unix", e)
			e.PauseReading() // so that the hang-up comes first
			if _, err := peer.Write([]byte(data)); err != nil {
				t.Fatal(err)
			}
			peer.Close()
			fence(t, p)
			e.ResumeReading()
			e.waitEOF(t)
			if got := e.received(); got != data {
				t.Fatalf("%d bytes, want %d", len(got), len(data))
			}
			e.Close(nil)
			e.waitClosed(t)
		}
	}
}

// TestWriteAndClose has the peer of a unix socket write and close at once, in all
// sizes: nothing is lost.
func TestWriteAndClose(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	for i := range 200 {
		data := randomBytes(uint64(i), 1+i*997%150_000)
		e := &tape{}
		peer := attach(t, p, "unix", e)
		if _, err := peer.Write(data); err != nil {
			t.Fatal(err)
		}
		peer.Close()
		e.waitEOF(t)
		if got := e.received(); got != string(data) {
			t.Fatalf("%d bytes, want %d", len(got), len(data))
		}
		if _, err := e.Send([]byte("too late"), Out{}); !errors.Is(err, unix.EPIPE) {
			t.Fatalf("Send to a peer that is gone: %v, want EPIPE", err)
		}
		e.waitClosed(t)
	}
}
