package hub

import (
	"context"
	"fmt"
)

// taskRounds is how many batches a task delivers before it goes to the back of
// the executor's queue, so that a channel that never rests leaves workers to
// the others.
const taskRounds = 8

var _ Task = (*shard)(nil)

// enqueue appends p and makes sure that somebody will deliver it: a goroutine
// that is at it, the executor, or the publisher's Flush.
func (s *shard) enqueue(p *Publication) {
	s.queueMu.Lock()
	if s.listeners == 0 || s.joiners == 0 && p.Kind.class() == comings {
		s.queueMu.Unlock()
		p.delivered(nil)
		return
	}
	if s.queue == nil {
		s.queue = newBatch()
	}
	if s.queue.long(s.channel.bucket.hub.config.MaxWaiting) && s.queue.cancel(p) {
		s.channel.bucket.waiting.Add(-1)
		s.queueMu.Unlock()
		p.delivered(nil)
		return
	}
	s.queue.push(p, s.end)
	s.end++
	s.channel.bucket.waiting.Add(1)
	if s.running || s.submitted {
		s.queueMu.Unlock()
		return
	}
	s.submitted = true
	s.queueMu.Unlock()
	s.submit()
}

// submit offers the task, which the caller has marked as submitted. If the
// executor does not take it, the shard is left for Flush.
func (s *shard) submit() {
	hub := s.channel.bucket.hub
	if hub.config.Executor.Submit(s) {
		return
	}
	s.queueMu.Lock()
	s.submitted = false
	if s.queue != nil && !s.running && !s.refused {
		s.refused = true
		s.channel.bucket.refused.Add(1)
	}
	s.queueMu.Unlock()
}

// Run delivers what waits. The executor calls it; it does nothing if a
// publisher came first.
func (s *shard) Run() {
	s.queueMu.Lock()
	s.submitted = false
	claimed := s.claimLocked()
	s.queueMu.Unlock()
	if claimed {
		s.drain(taskRounds)
	}
}

// claimLocked makes the caller the one who delivers, if there is something to
// deliver and nobody does. The caller must then call drain.
func (s *shard) claimLocked() bool {
	if s.running || s.queue == nil {
		return false
	}
	s.running = true
	if s.refused {
		s.refused = false
		s.channel.bucket.refused.Add(-1)
	}
	return true
}

// drain delivers batch after batch until none waits. After every rounds
// batches it tries to leave the rest to the executor.
func (s *shard) drain(rounds int) {
	for round := 1; ; round++ {
		b := s.take()
		if b == nil {
			return
		}
		s.deliver(b)
		b.done(&s.channel.bucket.hub.fanout)
		if round%rounds == 0 && s.yield() {
			return
		}
	}
}

// take returns what waits, up to as much as publishers may let wait; of many events the rest is left. If
// nothing waits it returns nil and gives up the claim, in one step: what is
// queued after it finds nobody running.
func (s *shard) take() *Batch {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	b := s.queue
	if b == nil {
		s.running = false
		return nil
	}
	b.wake()
	b, s.queue = b.split(s.channel.bucket.hub.config.MaxWaiting)
	s.channel.bucket.waiting.Add(int64(-len(b.publications)))
	if len(b.publications) == 0 { // the joins that waited were taken out, all of them
		b.recycle()
		s.running = false
		return nil
	}
	return b
}

// discardLocked drops what waits when the last listener has gone. Without it,
// a refused shard whose channel disappears would be out of Flush's reach.
func (s *shard) discardLocked() {
	b := s.queue
	if b == nil {
		return
	}
	s.queue = nil
	bucket := s.channel.bucket
	b.closeGaps()
	bucket.waiting.Add(int64(-len(b.publications)))
	if s.refused {
		s.refused = false
		bucket.refused.Add(-1)
	}
	b.wake()
	b.done(nil)
}

// yield gives up the claim in favour of the executor and reports whether it
// did. It did not if nothing waits, or if the executor would not have it.
func (s *shard) yield() bool {
	s.queueMu.Lock()
	if s.queue == nil {
		s.queueMu.Unlock()
		return false
	}
	// Before Submit: a task that begins at once must find the shard free.
	s.running = false
	s.queue.wake()
	if s.submitted {
		s.queueMu.Unlock()
		return true
	}
	s.submitted = true
	s.queueMu.Unlock()
	if s.channel.bucket.hub.config.Executor.Submit(s) {
		return true
	}
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	s.submitted = false
	return !s.claimLocked()
}

// fullLocked reports whether publishers should wait.
func (s *shard) fullLocked() bool {
	config := &s.channel.bucket.hub.config
	return s.queue != nil && s.queue.full(config.MaxWaiting, config.MaxWaitingBytes)
}

// admit returns when the queue is not full. If nobody empties it, the caller
// does; so it makes progress without the executor.
func (s *shard) admit(ctx context.Context) error {
	for {
		s.queueMu.Lock()
		if !s.fullLocked() {
			s.queueMu.Unlock()
			return nil
		}
		if err := ctx.Err(); err != nil {
			s.queueMu.Unlock()
			return fmt.Errorf("%w: channel %q is full: %w", ErrTooManyRequests, s.channel.name, err)
		}
		if s.claimLocked() {
			s.queueMu.Unlock()
			s.drain(1)
			continue
		}
		room := s.queue.roomSignal()
		s.queueMu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

// flush delivers what the executor refused, unless it takes it now.
func (s *shard) flush() {
	s.queueMu.Lock()
	if !s.refused || !s.claimLocked() {
		s.queueMu.Unlock()
		return
	}
	s.queueMu.Unlock()
	if !s.yield() {
		s.drain(1)
	}
}
