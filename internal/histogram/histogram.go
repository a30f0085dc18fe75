// Package histogram counts durations by size.
package histogram

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of the buckets: from what a hand-over between two goroutines takes to what nobody waits for.
var Bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations, and adds them up. The zero value is empty. Its methods may be called by any goroutine.
type Histogram struct {
	// Any goroutine (atomic).
	buckets [len(Bounds) + 1]atomic.Uint64 // each up to its bound and above the one before; the last has no bound
	sum     atomic.Int64                   // ns
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot is what a histogram has counted.
type Snapshot struct {
	Counts [len(Bounds)]uint64 // durations up to each bound, those of the bounds before among them
	Count  uint64              // all
	Sum    time.Duration
}

// Snapshot returns what was counted up to now.
func (h *Histogram) Snapshot() (s Snapshot) {
	s.Sum = time.Duration(h.sum.Load())
	for i := range h.buckets {
		if s.Count += h.buckets[i].Load(); i < len(Bounds) {
			s.Counts[i] = s.Count
		}
	}
	return s
}

// Add adds another one up to s.
func (s *Snapshot) Add(o Snapshot) {
	for i, n := range o.Counts {
		s.Counts[i] += n
	}
	s.Count += o.Count
	s.Sum += o.Sum
}
