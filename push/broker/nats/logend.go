package nats

// Where a stream ends, asked by many at a time and of the server once.

import (
	"context"
	"sync"
)

// ask joins those who want to know the stream's end at the same time.
type ask struct {
	mu      sync.Mutex
	waiting *answer // of those who came while another question was under way
	asked   bool
}

type answer struct {
	done chan struct{}
	end  uint64
	err  error
}

// end returns the last sequence of the stream, as it is after the call began.
func (g *group) end(ctx context.Context) (uint64, error) {
	a := &g.asking
	a.mu.Lock()
	if a.waiting == nil {
		a.waiting = &answer{done: make(chan struct{})}
	}
	mine := a.waiting
	if !a.asked {
		a.asked = true
		if !g.broker.spawn(g.answerAll) {
			a.asked = false
			a.mu.Unlock()
			return 0, unavailable(errClosed)
		}
	}
	a.mu.Unlock()
	select {
	case <-mine.done:
		return mine.end, mine.err
	case <-ctx.Done():
		return 0, unavailable(ctx.Err())
	}
}

// answerAll asks for the end until nobody waits.
func (g *group) answerAll() {
	a := &g.asking
	for {
		a.mu.Lock()
		current := a.waiting
		if a.waiting = nil; current == nil {
			a.asked = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		var st state
		if st, current.err = g.broker.ask(g.n); current.err != nil {
			current.err = unavailable(current.err)
		}
		current.end = st.last
		close(current.done)
	}
}
