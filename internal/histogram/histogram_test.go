package histogram

import (
	"slices"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	if !slices.IsSorted(Bounds[:]) {
		t.Fatal(Bounds)
	}
	var h Histogram
	for _, d := range []time.Duration{0, Bounds[0], Bounds[0] + 1, time.Second, time.Hour} {
		h.Observe(d)
	}
	s := h.Snapshot()
	if want := 2*Bounds[0] + 1 + time.Second + time.Hour; s.Count != 5 || s.Sum != want {
		t.Errorf("%d, %v, want 5, %v", s.Count, s.Sum, want)
	}
	for i, bound := range Bounds {
		want := uint64(3)
		switch {
		case bound == Bounds[0]:
			want = 2
		case bound >= time.Second:
			want = 4
		}
		if s.Counts[i] != want {
			t.Errorf("up to %v there are %d, want %d", bound, s.Counts[i], want)
		}
	}
	s.Add(s)
	if s.Count != 10 || s.Counts[0] != 4 || s.Sum != 2*h.Snapshot().Sum {
		t.Errorf("twice: %+v", s)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Error(n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(time.Millisecond)
	}
}
