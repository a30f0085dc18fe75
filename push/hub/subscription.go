package hub

import "fmt"

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
	held  *Batch // what arrived before Start; nil if nothing did
	index int32  // place in shard.subs
	state subscriptionState
}

type subscriptionState uint8

const (
	holding  subscriptionState = iota // Subscribe returned, Start did not yet come
	overrun                           // as holding, but more arrived than may be held
	live                              // started
	released                          // unsubscribed
)

// Channel returns the name of the channel.
func (s *Subscription) Channel() string { return s.shard.channel.name }

// Start lets publications through: first those that arrived since Subscribe,
// then the live ones. Publications at or below the offset after are left out,
// because the subscriber has them from the history; zero leaves out none.
//
// The error wraps ErrUnrecoverable if so much arrived before Start that some
// was lost; the caller then unsubscribes. Starting twice, or after
// Unsubscribe, does nothing.
func (s *Subscription) Start(after uint64) error {
	sh := s.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch s.state {
	case live, released:
		return nil
	case overrun:
		return fmt.Errorf("%w: too many publications arrived while subscribing to %q", ErrUnrecoverable, s.Channel())
	}
	s.state = live
	held := s.held
	s.held = nil
	if held == nil {
		return nil
	}
	held.skip = len(held.publications)
	for i, p := range held.publications {
		if p.Offset > after {
			held.skip = i
			break
		}
	}
	if n := len(held.Publications()); n > 0 {
		sh.channel.bucket.deliveries.Add(uint64(n))
		s.subscriber.Deliver(held)
	}
	held.recycle()
	return nil
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

// holdLocked keeps publications for Start, within the bounds of the Config.
func (s *Subscription) holdLocked(publications []*Publication) {
	if s.state != holding {
		return
	}
	config := &s.shard.channel.bucket.hub.config
	if s.held == nil {
		s.held = newBatch()
	}
	for _, p := range publications {
		if s.held.full(config.MaxHeld, config.MaxHeldBytes) {
			s.held.recycle()
			s.held = nil
			s.state = overrun
			return
		}
		s.held.add(p)
	}
}
