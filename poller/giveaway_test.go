package poller

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGiveAway hands over a descriptor from inside OnData: the taker can read what came
// later and write; no event follows, and we close nothing.
func TestGiveAway(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind string) {
		for _, corked := range []bool{false, true} {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			taken := make(chan int, 1)
			asked := make(chan struct{}) // until then the peer reads nothing, or nothing might wait
			e.onData = func([]byte) {
				defer close(asked)
				if corked {
					e.Cork()
				}
				_, _ = e.Send([]byte("ours "), Out{})
				if !e.GiveAway(func(fd int, _ *TLS) { taken <- fd }) {
					t.Error("GiveAway says no")
				}
				if e.GiveAway(func(int, *TLS) { t.Error("given away twice") }) {
					t.Error("GiveAway says yes twice")
				}
			}
			fd, peer := pair(t, kind)
			if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
				t.Fatal(err)
			}
			poke(t, peer)
			if got := await(t, taken, "the descriptor"); got != fd {
				t.Fatalf("descriptor %d, want %d", got, fd)
			}
			if _, err := peer.Write([]byte("for the taker")); err != nil {
				t.Fatal(err)
			}
			if !until(func() bool { return pendingInput(t, fd) == 13 }) {
				t.Error("the taker's bytes were read by us")
			}
			wantIdle(t)
			if got := p.Stats().Conns; got != 0 {
				t.Errorf("%d connections", got)
			}
			wantDead(t, e)
			if _, err := unix.Write(fd, []byte("theirs")); err != nil {
				t.Fatal(err)
			}
			readFull(t, peer, "ours theirs")
			peer.Close()
			fence(t, p)
			wantOpen(t, &e.Conn)
			if err := unix.Close(fd); err != nil {
				t.Error(err)
			}
			if got := e.received(); got != "!" || e.eofs+e.closes+e.late > 0 {
				t.Errorf("read %q, %d EOF, %d OnClose", got, e.eofs, e.closes)
			}
		}
	})
}

// TestGiveAwayQueued refuses while something waits, also when it waits only since
// the cork was pulled.
func TestGiveAwayQueued(t *testing.T) {
	for _, corked := range []bool{false, true} {
		t.Run(fmt.Sprintf("corked=%v", corked), func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			answer := randomBytes(1, scratchBytes)
			want := string(answer)
			if !corked {
				want += want
			}
			asked := make(chan struct{}) // until then the peer reads nothing, or nothing might wait
			e.onData = func([]byte) {
				defer close(asked)
				if corked {
					e.Cork()
				} else {
					_, _ = e.Send(answer, Out{})
				}
				_, _ = e.Send(answer, Out{})
				if e.GiveAway(func(int, *TLS) {}) {
					t.Error("given away with a queue")
				}
			}
			peer := stalled(t, p, e)
			poke(t, peer)
			<-asked
			readFull(t, peer, want)
		})
	}
}

// TestGiveAwayRace lets the peer reset at the same moment: either the taker or we
// close the descriptor, and never both.
func TestGiveAwayRace(t *testing.T) {
	rounds := 300
	if raceEnabled {
		rounds = 100
	}
	p := newPoller(t, Config{Loops: 2})
	given := 0
	for range rounds {
		e := &tape{}
		outcome := make(chan error, 2)
		errGone := errors.New("OnClose")
		e.onData = func([]byte) {
			e.GiveAway(func(fd int, _ *TLS) { outcome <- unix.Close(fd) })
		}
		e.onClose = func() { outcome <- errGone }
		fd, peer := pair(t, "tcp")
		if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
			t.Fatal(err)
		}
		poke(t, peer)
		reset(t, peer)
		switch err := await(t, outcome, "the outcome"); err {
		case nil:
			given++
		case errGone:
		default:
			t.Fatalf("close by the taker: %v", err)
		}
		if len(outcome) > 0 {
			t.Fatal("given away and closed")
		}
	}
	t.Logf("given away %d of %d", given, rounds)
}
