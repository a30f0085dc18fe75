package hub

import "sync"

// lockedDeliveries is how many subscribers are served under one hold of
// shard.mu: at about 5 µs for a send, others wait 0.2 ms for the lock.
const lockedDeliveries = 32

// shard is a part of a channel's subscribers with the queue of what they are
// still to get. It is the Task that delivers it.
type shard struct {
	// Immutable after it joined its channel.
	channel *channel
	index   int32 // place in the channel

	// Guarded by bucket.mu.
	reserved int32 // subscriptions that are here or on their way in or out

	// Guarded by mu; cursor too, below, where there is room.
	subs []*Subscription // in no order
	mu   sync.Mutex

	// Guarded by queueMu.
	queueMu   sync.Mutex
	queue     *Batch // nil while nothing waits
	end       uint64 // number that the next publication gets
	listeners int32  // len(subs); while 0 nothing is queued
	joiners   int32  // of them, those that want events; while 0 none is queued
	cursor    int32  // subs[:cursor] have the batch that is being delivered; 0 at rest
	running   bool   // some goroutine delivers; it alone takes the queue
	submitted bool   // the executor has the task and has not begun it
	refused   bool   // the executor did not take the task: Flush must
}

// add lets s take part from the next publication on.
func (s *shard) add(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.index = int32(len(s.subs))
	s.subs = append(s.subs, sub)
	s.queueMu.Lock()
	sub.from = s.end
	s.listeners++
	s.queueMu.Unlock()
}

// remove takes sub out. It reports false if that was done before.
// It waits for a delivery to sub that is in progress, but for no other shard's.
func (s *shard) remove(sub *Subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.state == released {
		return false
	}
	sub.state = released
	if sub.held != nil {
		sub.held.recycle()
		sub.held = nil
	}
	hole := sub.index
	if hole < s.cursor {
		// The last one has perhaps not been served yet. So the hole is
		// filled from the end of the served, and theirs from the very end.
		s.cursor--
		s.moveLocked(s.cursor, hole)
		hole = s.cursor
	}
	last := int32(len(s.subs) - 1)
	if hole != last { // else it would give back the old place to the one moved above
		s.moveLocked(last, hole)
	}
	s.subs[last] = nil
	s.subs = s.subs[:last]
	s.shrinkLocked()
	s.queueMu.Lock()
	s.listeners--
	if sub.joins {
		s.joiners--
	}
	if s.listeners == 0 {
		s.discardLocked()
	}
	s.queueMu.Unlock()
	return true
}

func (s *shard) moveLocked(from, to int32) {
	moved := s.subs[from]
	s.subs[to] = moved
	moved.index = to
}

// shrinkLocked gives memory back once three quarters of it are unused.
func (s *shard) shrinkLocked() {
	n, c := len(s.subs), cap(s.subs)
	if n == 0 {
		s.subs = nil
	} else if c >= 32 && n <= c/4 {
		s.subs = append(make([]*Subscription, 0, c/2), s.subs...)
	}
}

// deliver hands b to every subscriber. The caller has claimed the shard.
//
// Messages and events go one kind at a time, for events are not for all.
func (s *shard) deliver(b *Batch) {
	b.each(func() {
		for s.deliverSome(b) {
		}
	})
}

// deliverSome serves the next subscribers under one hold of the lock and
// reports whether there are more. A panic of a subscriber ends its turn alone.
func (s *shard) deliverSome(b *Batch) (more bool) {
	bucket := s.channel.bucket
	delivered := 0
	var current *Subscription
	s.mu.Lock()
	defer func() {
		s.mu.Unlock()
		bucket.deliveries.Add(uint64(delivered))
		if current == nil {
			return
		}
		if v := recover(); v != nil {
			more = true
			bucket.hub.panicked(current.subscriber, v)
		}
	}()
	for range lockedDeliveries {
		if int(s.cursor) >= len(s.subs) {
			s.cursor = 0
			current = nil
			return false
		}
		current = s.subs[s.cursor]
		s.cursor++
		delivered += current.handLocked(b)
	}
	current = nil
	return true
}
