package push

import (
	"testing"
	"time"
)

// Memory is given back when a storm is over, once, and not often.
func TestTrim(t *testing.T) {
	trims := 0
	trimmer := &trimmer{free: func() { trims++ }}
	now, bytes := time.Now(), uint64(0)
	second := func(n uint64) {
		now, bytes = now.Add(time.Second), bytes+n
		trimmer.trim(bytes, now)
	}
	for i, c := range []struct {
		bytes uint64
		want  int
	}{
		{trimQuiet, 0},                     // little was allocated, there is nothing to give back
		{trimAfter, 0}, {2 * trimAfter, 0}, // a storm
		{trimQuiet + 1, 0}, {trimQuiet, 1}, // it is over
		{trimAfter, 1}, {0, 1}, // the next comes too early
		{0, 2}, {0, 2},
	} {
		if second(c.bytes); trims != c.want {
			t.Fatalf("second %d: %d times, want %d", i, trims, c.want)
		}
	}
	for range 100 {
		second(0)
	}
	if trims != 2 {
		t.Errorf("%d times at rest", trims)
	}
	if allocated() == 0 {
		t.Error("nothing was ever allocated")
	}
}
