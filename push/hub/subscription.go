package hub

import (
	"fmt"
	"slices"
)

// Subscriber receives the publications of channels: a protocol's client.
type Subscriber interface {
	// Deliver hands over the next publications of one channel; the channel
	// is named in each. Calls for one subscription never overlap; those for
	// different channels may. It runs under a lock of the hub: it must not
	// block, and must not call the hub or a Subscription. b is valid during
	// the call only.
	Deliver(b *Batch)
}

// Subscription is one subscriber on one channel. Its methods may be called by
// any goroutine but not from within Deliver.
//
// There are millions of these: keep it at 48 bytes.
type Subscription struct {
	// Immutable after Subscribe.
	subscriber Subscriber
	shard      *shard

	// Guarded by shard.mu.
	from  uint64 // number of the first publication in the shard's queue that it may see
	held  *Batch // what arrived before the start; nil if nothing did
	index int32  // place in shard.subs
	state subscriptionState
}

type subscriptionState uint8

const (
	holding  subscriptionState = iota // Subscribe returned, the start did not yet come
	overrun                           // as holding, but more arrived than may be held: the oldest are lost
	live                              // started
	released                          // unsubscribed
)

// Channel returns the name of the channel.
func (s *Subscription) Channel() string { return s.shard.channel.name }

// Start lets publications through, for a subscriber that took no position of the channel: first the
// newest of those that arrived since Subscribe, as many as may be held and without a gap among them, then the live
// ones. Starting twice, or after Unsubscribe, does nothing.
func (s *Subscription) Start() {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.startLocked(0)
}

// StartAfter is Start for a subscriber that has everything up to the offset after from the history, so that what
// is delivered must go on from there: publications at or below it are left out, zero leaves out none. Those without an
// offset are not.
//
// The error wraps ErrUnrecoverable if so much arrived since Subscribe that some was lost; the caller then
// unsubscribes.
func (s *Subscription) StartAfter(after uint64) error {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.state == overrun {
		return fmt.Errorf("%w: too many publications arrived while subscribing to %q", ErrUnrecoverable, s.Channel())
	}
	s.startLocked(after)
	return nil
}

// startLocked delivers what is held above the offset after, and lets the live ones through. shard.mu is held.
func (s *Subscription) startLocked(after uint64) {
	if s.state == live || s.state == released {
		return
	}
	s.state = live
	held := s.held
	s.held = nil
	if held == nil {
		return
	}
	held.publications = slices.DeleteFunc(held.publications, func(p *Publication) bool { return p.Offset != 0 && p.Offset <= after })
	if n := len(held.Publications()); n > 0 {
		s.shard.channel.bucket.deliveries.Add(uint64(n))
		s.subscriber.Deliver(held)
	}
	held.recycle()
}

// Unsubscribe ends the subscription. When it returns, no Deliver of it is
// running and none will begin. Further calls do nothing.
func (s *Subscription) Unsubscribe() {
	if s.shard.remove(s) {
		s.shard.channel.bucket.leave(s.shard)
	}
}

// handLocked gives s what it may see of b, whose first publication has number first
// in the shard's queue. It returns how many were delivered. shard.mu is held.
func (s *Subscription) handLocked(b *Batch, first uint64) int {
	b.skip = 0
	if s.from > first {
		b.skip = int(min(s.from-first, uint64(len(b.publications))))
	}
	n := len(b.publications) - b.skip
	if n == 0 {
		return 0
	}
	if s.state == live {
		s.subscriber.Deliver(b)
		return n
	}
	s.holdLocked(b.Publications())
	return 0
}

// holdLocked keeps publications for the start, within the bounds of the Config: of too many, the newest.
func (s *Subscription) holdLocked(publications []*Publication) {
	if s.state == released {
		return
	}
	config := &s.shard.channel.bucket.hub.config
	if s.held == nil {
		s.held = newBatch()
	}
	for _, p := range publications {
		if s.held.full(config.MaxHeld, config.MaxHeldBytes) {
			s.held.recycle()
			s.held = newBatch()
			s.state = overrun
		}
		s.held.add(p)
	}
}
