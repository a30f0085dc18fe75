package poller

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pausing makes e take n bytes of each OnData and pause reading when some are left.
func pausing(e *tape, n int) {
	e.take = func(b []byte) int {
		if len(b) <= n {
			return len(b)
		}
		e.PauseReading()
		return n
	}
}

// resumeUntil resumes reading, as often as it is paused, until e has total bytes.
func resumeUntil(t *testing.T, e *tape, total int) {
	t.Helper()
	if !until(func() bool { e.ResumeReading(); _, n := e.counts(); return n == total }) {
		t.Fatalf("got %q, want %d bytes", e.received(), total)
	}
}

func write(t testing.TB, peer io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(peer, s); err != nil {
		t.Fatal(err)
	}
}

// TestRest leaves a rest at each byte: nothing comes while reading is paused, and then everything, in order,
// with the end of the stream behind it.
func TestRest(t *testing.T) {
	const sent, later = "abcdefgh", "ijk"
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		for n := 1; n < len(sent); n++ {
			e := &tape{}
			pausing(e, n)
			peer := attach(t, p, kind, e)
			write(t, peer, sent)
			e.waitBytes(t, n)
			write(t, peer, later)
			if err := peer.(halfCloser).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			wantIdle(t)
			if got := e.received(); got != sent[:n] {
				t.Fatalf("took %q, want %q", got, sent[:n])
			}
			resumeUntil(t, e, len(sent+later))
			e.waitEOF(t)
			if got := e.received(); got != sent+later {
				t.Errorf("got %q, want %q", got, sent+later)
			}
		}
	})
}

// TestRestTakenAtOnce resumes reading before OnData returns.
func TestRestTakenAtOnce(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	e.take = func([]byte) int {
		e.PauseReading()
		e.ResumeReading()
		return 1
	}
	peer := attach(t, p, "tcp", e)
	write(t, peer, "abcd")
	e.waitBytes(t, 4)
	if got := e.received(); got != "abcd" {
		t.Errorf("got %q", got)
	}
}

// TestRestOfFirst leaves a rest of what was given to Attach, and has it before it is registered and after.
func TestRestOfFirst(t *testing.T) {
	for _, when := range []string{"within", "after"} {
		t.Run(when, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			pausing(e, 1)
			e.onData = func([]byte) {
				if when == "within" {
					go e.ResumeReading()
				}
			}
			fd, peer := pair(t, "tcp")
			write(t, peer, "d")
			if err := p.Attach(&e.Conn, fd, e, []byte("abc")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
			resumeUntil(t, e, 4)
			if got := e.received(); got != "abcd" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestRestAndHangUp lets the peer go while a rest is kept: the rest and what the kernel has still come.
func TestRestAndHangUp(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	pausing(e, 2)
	peer := attach(t, p, "unix", e)
	write(t, peer, "abcd")
	e.waitBytes(t, 2)
	write(t, peer, "ef")
	_ = peer.Close()
	wantIdle(t)
	resumeUntil(t, e, 6)
	e.waitEOF(t)
	if got := e.received(); got != "abcdef" {
		t.Errorf("got %q", got)
	}
}

// TestRestAndClose closes while a rest is kept, and while it is being delivered: OnClose comes last, once.
func TestRestAndClose(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		p := newPoller(t, Config{Loops: 1})
		kept := &tape{}
		pausing(kept, 1)
		peer := attach(t, p, kind, kept)
		write(t, peer, "ab")
		kept.waitBytes(t, 1)
		kept.Close(errTest)
		kept.ResumeReading()
		if cause := kept.waitClosed(t); cause != errTest {
			t.Errorf("cause %v", cause)
		}
		if got := kept.received(); got != "a" {
			t.Errorf("got %q", got)
		}

		e := &tape{}
		pausing(e, 1)
		entered, leave := make(chan struct{}), make(chan struct{})
		second := false
		e.onData = func([]byte) {
			if second {
				close(entered)
				<-leave
			}
			second = true
		}
		peer = attach(t, p, kind, e)
		write(t, peer, "ab")
		e.waitBytes(t, 1)
		e.ResumeReading()
		await(t, entered, "the rest")
		e.Close(errTest)
		wantIdle(t)
		if _, err := unix.FcntlInt(uintptr(e.fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("the descriptor was closed while the rest was delivered: %v", err)
		}
		close(leave)
		if cause := e.waitClosed(t); cause != errTest {
			t.Errorf("cause %v", cause)
		}
	})
}

// TestRestIsCopied checks that what is kept is no longer the loop's buffer.
func TestRestIsCopied(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e, other := &tape{}, &tape{}
	pausing(e, 1)
	peer, peer2 := attach(t, p, "tcp", e), attach(t, p, "tcp", other)
	write(t, peer, strings.Repeat("a", 100))
	e.waitBytes(t, 1)
	write(t, peer2, strings.Repeat("b", 100))
	other.waitBytes(t, 100)
	e.take = nil
	e.ResumeReading()
	e.waitBytes(t, 100)
	if got := e.received(); got != strings.Repeat("a", 100) {
		t.Errorf("got %q", got)
	}
}
