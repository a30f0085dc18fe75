//go:build !race

package poller

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// The budgets are for the code that ships: the race detector allocates and empties
// pools at random.

func TestAllocations(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := attach(t, p, "tcp", e)
	discarded := make(chan struct{})
	go func() { defer close(discarded); _, _ = io.Copy(io.Discard, peer) }()
	t.Cleanup(func() { e.Close(nil); <-discarded })

	b := []byte("a small shared buffer of the size of a frame")
	body := make([]byte, 2000)
	all := [][]byte{b, b, b, b}
	for name, f := range map[string]func() error{
		"Send":           func() error { return second(e.Send(b, Out{})) },
		"SendCopy/small": func() error { return second(e.SendCopy(b[:4], b, Out{})) },
		"SendCopy/large": func() error { return second(e.SendCopy(b[:4], body, Out{})) },
		"SendAll/4":      func() error { return second(e.SendAll(all, Out{})) },
		"Pause":          func() error { e.PauseReading(); e.ResumeReading(); return nil },
	} {
		if got := testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

// TestEchoAllocations goes the whole way round on the loop: read, OnData, Cork,
// Send. The peer's side is raw system calls.
func TestEchoAllocations(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &echo{}
	fd, peer := rawPair(t)
	defer unix.Close(peer)
	if err := p.Attach(&e.conn, fd, e, nil); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if got := testing.AllocsPerRun(200, func() { roundTrip(t, peer, b, b) }); got != 0 {
		t.Errorf("%v allocations per echo, want 0", got)
	}
	e.conn.Close(nil)
}
