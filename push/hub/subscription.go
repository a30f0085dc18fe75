package hub

import (
	"fmt"
	"slices"
	"time"
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
	from   uint64 // number of the first publication in the shard's queue that it may see; when following, the last offset that it may not
	held   *Batch // what arrived before the start; nil if nothing did
	index  int32  // place in shard.subs
	state  subscriptionState
	joins  bool // join and leave are let through
	placed bool // it has a position in the stream: StartAfter was called

	// Tag is for whoever called Subscribe to note something of its own.
	Tag uint8
}

type subscriptionState uint8

const (
	holding   subscriptionState = iota // Subscribe returned, the start did not yet come
	overrun                            // as holding, but more arrived than may be held: the oldest are lost
	live                               // started
	stopped                            // by Batch.Stop, or behind a reset
	following                          // started after an offset that the queue may not have passed yet
	released                           // unsubscribed
)

// Subscriber returns what Subscribe was given.
func (s *Subscription) Subscriber() Subscriber { return s.subscriber }

// Channel returns the name of the channel.
func (s *Subscription) Channel() string { return s.shard.channel.name }

// ReceiveEvents lets the events KindJoin and KindLeave through from now on. It comes before the start.
func (s *Subscription) ReceiveEvents() {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.joins || s.state == released {
		return
	}
	s.joins = true
	s.shard.queueMu.Lock()
	s.shard.joiners++
	s.shard.queueMu.Unlock()
}

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
	s.placed = true
	if s.startLocked(after) && after > 0 && s.state == live {
		// What is up to it was published before, but may not have come to the shard's subscribers yet, or, where a broker's
		// log is ahead of what it brings, not even to the shard.
		s.state, s.from = following, after
	}
	return nil
}

// startLocked delivers what is held above the offset after, and lets the live ones through. It reports false when
// that was done before. shard.mu is held.
func (s *Subscription) startLocked(after uint64) bool {
	if s.state != holding && s.state != overrun {
		return false
	}
	s.state = live
	held := s.held
	s.held = nil
	if held == nil {
		return true
	}
	held.publications = slices.DeleteFunc(held.publications, func(p *Publication) bool { return p.Offset != 0 && p.Offset <= after })
	s.shard.channel.bucket.deliveries.Add(uint64(len(held.publications)))
	held.subscription = s
	held.each(func() {
		if s.state != stopped && (held.class != boundeds || s.mayHave(held.publications[0])) {
			s.deliverLocked(held)
		}
	})
	held.recycle()
	return true
}

// Unsubscribe ends the subscription. When it returns, no Deliver of it is
// running and none will begin. Further calls do nothing.
func (s *Subscription) Unsubscribe() {
	if s.shard.remove(s) {
		s.shard.channel.bucket.leave(s.shard, s.subscriber)
	}
}

// handLocked gives s what it may see of b. It returns how many were delivered. shard.mu is held.
func (s *Subscription) handLocked(b *Batch) int {
	if b.class == comings && !s.joins || s.state == stopped {
		return 0
	}
	switch b.skip = 0; {
	case s.state == following:
		s.followLocked(b)
	case s.from > b.numbers[0]:
		b.skip = b.place(s.from)
	}
	n := len(b.publications) - b.skip
	if n == 0 {
		return 0
	}
	if s.state == live || s.state == following {
		if b.class == boundeds && !s.mayHave(b.publications[0]) {
			return 0
		}
		b.subscription = s
		s.deliverLocked(b)
		return n
	}
	s.holdLocked(b.Publications())
	return 0
}

// deliverLocked delivers b. Who has a position gets nothing behind a reset: they would take what comes for what is next, and ask for what
// follows when they subscribe again, which is in their turn. shard.mu is held.
func (s *Subscription) deliverLocked(b *Batch) {
	s.subscriber.Deliver(b)
	if b.class == resets && s.placed {
		s.state = stopped
	}
}

// Identified is a Subscriber that knows its connection, so that publications can leave it out.
type Identified interface {
	// Is reports whether the connection has this id. It is called like Deliver.
	Is(id string) bool
}

// mayHave reports whether a publication that is bounded is for s, now.
func (s *Subscription) mayHave(p *Publication) bool {
	if p.Over(time.Now()) {
		return false
	}
	exclude := p.derived.Load().exclude
	if exclude == "" {
		return true
	}
	who, ok := s.subscriber.(Identified)
	return !ok || !who.Is(exclude)
}

// followLocked leaves out what is not beyond the offset at which the subscription started, and what passes by the
// history among it.
func (s *Subscription) followLocked(b *Batch) {
	for i, p := range b.publications {
		switch {
		case p.Offset > s.from || p.Kind == KindReset: // the old stream's offset means nothing in the new one
			s.state, s.from = live, 0
			return
		case p.Offset > 0:
			b.skip = i + 1
		}
	}
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
