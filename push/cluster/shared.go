package cluster

import "sync"

// Shared lets those who want to know the same share the work: while one run is under way, all who come wait for the one
// after it. So nobody gets an answer that was begun before the question came, and of one key two runs at most are wanted at any time.
type Shared[T any] struct {
	// Immutable.
	Go func(f func()) bool // begins a goroutine, or reports that it is too late; Cluster.Go

	// Guarded by mu.
	mu   sync.Mutex
	runs map[string]*run[T]
}

// run is one under way, and what is to come after it.
type run[T any] struct {
	now, next []func(T, error)
}

// Do has f run, by a goroutine of its own, and done called with what it returns. Of one key f runs once at a time. It reports false, and does
// nothing, if that would be another key and there are most already, or it is too late.
func (s *Shared[T]) Do(key string, most int, f func() (T, error), done func(T, error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[key]; r != nil {
		r.next = append(r.next, done)
		return true
	}
	if len(s.runs) >= most {
		return false
	}
	if s.runs == nil {
		s.runs = map[string]*run[T]{}
	}
	r := &run[T]{now: []func(T, error){done}}
	if !s.Go(func() { s.carryOut(key, r, f) }) {
		return false
	}
	s.runs[key] = r
	return true
}

// carryOut runs f until nobody wants it any more.
func (s *Shared[T]) carryOut(key string, r *run[T], f func() (T, error)) {
	for {
		v, err := f()
		for _, done := range r.now {
			done(v, err)
		}
		s.mu.Lock()
		r.now, r.next = r.next, nil
		if len(r.now) == 0 {
			delete(s.runs, key)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}
