package cluster

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Nobody gets an answer that was begun before the question; one run at a time and of one key; others up to the bound.
func TestShared(t *testing.T) {
	var running sync.WaitGroup
	s := Shared[int]{Go: func(f func()) bool { running.Go(f); return true }}
	var begun, atOnce, most atomic.Int32
	gate := make(chan struct{})
	work := func() (int, error) {
		if n := atOnce.Add(1); n > most.Load() {
			most.Store(n)
		}
		n := begun.Add(1)
		<-gate
		atOnce.Add(-1)
		return int(n), nil
	}
	answers := make(chan int, 100)
	done := func(n int, _ error) { answers <- n }
	if !s.Do("a", 2, work, done) {
		t.Fatal("refused")
	}
	eventually(t, "it is under way: those who come now want the next", func() bool { return begun.Load() == 1 })
	for range 10 {
		if !s.Do("a", 2, work, done) {
			t.Fatal("refused")
		}
	}
	if s.Do("b", 1, work, done) {
		t.Error("more keys than may be")
	}
	close(gate)
	running.Wait()
	if len(answers) != 11 || <-answers != 1 || begun.Load() != 2 || most.Load() != 1 {
		t.Errorf("%d answers, %d runs, %d at once", len(answers), begun.Load(), most.Load())
	}
	for range 10 {
		if n := <-answers; n != 2 {
			t.Errorf("an answer of run %d", n)
		}
	}
	if !s.Do("b", 1, work, done) {
		t.Error("a place is not free again")
	}
	running.Wait()
	late := Shared[int]{Go: func(func()) bool { return false }}
	if late.Do("a", 1, work, done) || late.runs["a"] != nil {
		t.Error("too late")
	}
}
