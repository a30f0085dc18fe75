package hub

import (
	"maps"
	"testing"
)

func TestRefusals(t *testing.T) {
	var r Refusals
	for _, code := range []uint32{100, 100, 119, 99, 120, 0, 1<<32 - 1} { // the last four are nobody's
		r.Count(code)
	}
	if got, want := r.Counts(), map[uint32]uint64{100: 2, 119: 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	last := ErrUnrecoverable.Code
	if r.Count(last); r.Counts()[last] != 1 {
		t.Errorf("%d is not counted", last)
	}
}
