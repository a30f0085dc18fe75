package pace

import (
	"errors"
	"math"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/roster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAdmit(t *testing.T) {
	const bound = 1000
	var a Answers
	for i, step := range []struct {
		waiting, bytes int
		long           int // noted by the caller afterwards
		want           bool
	}{
		{0, 10, 0, true},
		{2000, 10, 0, true}, // all that waits is short
		{2001, 10, 0, false},
		{2000, 5000, 0, true}, // a long one
		{7000, 10, 0, true},
		{7001, 10, 0, false},
		{1001, 10, 0, true}, // still on its way, for all that is known
		{7000, 10, 0, true},
		{1000, 10, 0, true}, // it has left
		{2001, 10, 0, false},
		{0, bound, 0, true}, // not a long one
		{2001, 10, 0, false},
		{0, 10, 3000, true}, // what the caller knows to be long
		{5000, 10, 0, true},
		{5001, 10, 0, false},
		{0, 10, math.MaxInt, true}, // is not to overflow
		{math.MaxInt32, 10, 0, true},
	} {
		if got := a.Admit(step.waiting, step.bytes, bound); got != step.want {
			t.Errorf("step %d: %t while %d wait", i, got, step.waiting)
		}
		if step.long > 0 {
			a.Long(step.long)
		}
	}
	if n := unsafe.Sizeof(a); n > 4 {
		t.Errorf("%d bytes for each client", n)
	}
}

func TestCheckRoom(t *testing.T) {
	if err := CheckRoom(1000, 1000); err != nil {
		t.Error(err)
	}
	if err := CheckRoom(1001, 1000); !errors.Is(err, hub.ErrTooManyRequests) || err.Error() != "too many requests: 1001 bytes wait for you" {
		t.Error(err)
	}
}

// slow is a client, and its connection, whose turns the test gives it.
type slow struct {
	roster.Entry[*slow]
	waiting int
	woken   int // by Wake
	drained int // asked to be woken then
}

func (s *slow) Wake() bool   { s.woken++; return true }
func (s *slow) Waiting() int { return s.waiting }

// WakeWhenDrained finds nothing to wait for once the client has read everything.
func (s *slow) WakeWhenDrained() bool {
	s.drained++
	return s.waiting > 0
}

func TestWhenSent(t *testing.T) {
	r := roster.New[*slow]()
	called := 0
	f := func() { called++ }
	check := func(when string, s *slow, calls, drained, woken int) {
		t.Helper()
		if called != calls || s.drained != drained || s.woken != woken {
			t.Errorf("%s: %d calls, %d times when drained, woken %d times", when, called, s.drained, s.woken)
		}
	}
	s := &slow{waiting: StartBelow}
	WhenSent(r, s, s, f)
	check("when little waits", s, 1, 0, 0)
	s.waiting++
	WhenSent(r, s, s, f)
	check("when much waits", s, 1, 1, 0)
	r.Run(s)
	check("woken for something else", s, 1, 2, 0)
	s.waiting = 0
	r.Run(s)
	check("when it has left", s, 2, 2, 0)
	r.Run(s)
	check("afterwards", s, 2, 2, 0)

	// It leaves just before the wake is asked for.
	hasty := &hastyConn{slow: s, reads: []int{StartBelow + 1}}
	WhenSent(r, s, hasty, f)
	check("when it leaves meanwhile", s, 2, 3, 1)
	r.Run(s)
	check("and the turn has come", s, 3, 3, 1)

	// One that goes has what waits called, so that nothing is forgotten.
	s.waiting = StartBelow + 1
	WhenSent(r, s, s, f)
	r.Close(s)
	check("when the client goes", s, 4, 4, 1)
	WhenSent(r, s, s, f)
	check("when it is gone", s, 5, 4, 1)
	if r.Waiting() != 0 {
		t.Error("a task is left")
	}
}

// hastyConn is a connection of which more was waiting when it was asked for the first time.
type hastyConn struct {
	*slow
	reads []int
}

func (h *hastyConn) Waiting() int {
	if len(h.reads) > 0 {
		n := h.reads[0]
		h.reads = h.reads[1:]
		return n
	}
	return h.slow.Waiting()
}
