package hub

import (
	"fmt"
	"sync/atomic"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/hub/names"
)

// Stats are the hub's figures since New.
type Stats struct {
	Channels      int    // with subscribers on this node
	Subscriptions int    // on this node
	Waiting       int    // publications in the queues of shards, not yet taken
	Publications  uint64 // handed over by the broker
	Deliveries    uint64 // publications handed to subscribers
	Panics        uint64 // of subscribers in Deliver

	// Fanout is how long publications took from the broker to the last of their subscribers' sessions: one in 16 of a part of the channels,
	// and all in channels of several shards, save those that are bounded.
	Fanout histogram.Snapshot
	// Published is how long the broker took to accept a publication of this node, one in 16.
	Published histogram.Snapshot
	// Recoveries are by their outcomes; Recovered are the publications in them.
	Recoveries [NumRecoveryOutcomes]uint64
	Recovered  uint64
}

// RecoveryOutcome is what became of a subscriber's wish to have what it missed.
type RecoveryOutcome uint8

// The outcomes.
const (
	RecoveryDone       RecoveryOutcome = iota // it has all, which may be nothing
	RecoveryMissing                           // some of it is not kept any more
	RecoveryTooMany                           // more than Config.MaxRecovered
	RecoveryOtherEpoch                        // the stream it was of is over
	RecoveryFailed                            // the broker did not answer

	NumRecoveryOutcomes
)

// String returns the word for metrics.
func (o RecoveryOutcome) String() string {
	return [...]string{"recovered", "missing", "too_many", "other_epoch", "failed"}[o]
}

// recoveries counts them.
type recoveries struct {
	// Any goroutine (atomic).
	outcomes     [NumRecoveryOutcomes]atomic.Uint64
	publications atomic.Uint64
}

// count notes a recovery; why is why it is none.
func (c *recoveries) count(r Recovery, why RecoveryOutcome, err error) {
	switch {
	case err != nil:
		why = RecoveryFailed
	case r.Recovered:
		why = RecoveryDone
		c.publications.Add(uint64(len(r.Publications)))
	}
	c.outcomes[why].Add(1)
}

// Stats adds the figures up. It locks one part of the channel map at a time,
// so the sum is of slightly different moments.
func (h *Hub) Stats() Stats {
	s := Stats{
		Panics: h.panics.Load(), Fanout: h.fanout.Snapshot(), Published: h.published.Snapshot(), Recovered: h.recovery.publications.Load(),
	}
	for i := range h.recovery.outcomes {
		s.Recoveries[i] = h.recovery.outcomes[i].Load()
	}
	for i := range h.buckets {
		b := &h.buckets[i]
		b.mu.Lock()
		s.Channels += b.channels.Len()
		s.Subscriptions += b.subscriptions
		s.Publications += b.publications
		b.mu.Unlock()
		s.Waiting += int(b.waiting.Load())
		s.Deliveries += b.deliveries.Load()
	}
	return s
}

// ConsistencyCheck compares the maps with the gauges and returns the first
// contradiction. Call it while nobody subscribes, unsubscribes or publishes.
func (h *Hub) ConsistencyCheck() error {
	for i := range h.buckets {
		if err := h.buckets[i].check(); err != nil {
			return fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return nil
}

func (b *bucket) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	subscriptions, waiting, refused := 0, 0, 0
	for c := range b.channels.All() {
		name := c.name
		if b.channels.Find(names.Hash(name), name) != c || c.bucket != b || c.changing || c.count < 1 {
			return fmt.Errorf("channel %q: count %d, changing %t", name, c.count, c.changing)
		}
		count := 0
		for j := range 1 + len(c.shardsLocked()) {
			s := c.shardLocked(int32(j))
			if c.rare != nil && int32(j) < c.rare.room && int(s.reserved) < b.hub.config.ShardSubscribers {
				return fmt.Errorf("channel %q: shard %d has room but the search starts at %d", name, j, c.rare.room)
			}
			if err := s.check(&waiting, &refused); err != nil {
				return fmt.Errorf("channel %q shard %d: %w", name, j, err)
			}
			count += len(s.subs)
		}
		if count != int(c.count) {
			return fmt.Errorf("channel %q: count %d, have %d", name, c.count, count)
		}
		subscriptions += count
	}
	if subscriptions != b.subscriptions {
		return fmt.Errorf("subscriptions: gauge %d, have %d", b.subscriptions, subscriptions)
	}
	if n := b.waiting.Load(); n != int64(waiting) {
		return fmt.Errorf("waiting: gauge %d, have %d", n, waiting)
	}
	if n := b.refused.Load(); n != int32(refused) {
		return fmt.Errorf("refused: gauge %d, have %d", n, refused)
	}
	return nil
}

// check adds what waits in s to the sums.
func (s *shard) check(waiting, refused *int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	if int(s.reserved) != len(s.subs) || int(s.listeners) != len(s.subs) || s.cursor != 0 {
		return fmt.Errorf("reserved %d, listeners %d, cursor %d, have %d", s.reserved, s.listeners, s.cursor, len(s.subs))
	}
	for i, sub := range s.subs {
		if sub.shard != s || int(sub.index) != i || sub.state == released {
			return fmt.Errorf("subscription at %d: index %d, state %d", i, sub.index, sub.state)
		}
	}
	if s.queue != nil {
		n := len(s.queue.publications) - s.queue.events.gaps
		*waiting += n
		if n > 0 && !s.running && !s.submitted && !s.refused {
			return fmt.Errorf("%d publications wait for nobody", n)
		}
		if err := s.queue.check(); err != nil {
			return err
		}
	}
	if s.refused {
		*refused++
	}
	return nil
}

// check compares what the queue b knows of its events with what waits.
func (b *Batch) check() error {
	count, gaps, joins := 0, 0, 0
	for i, p := range b.publications {
		switch {
		case p == nil:
			gaps++
			continue
		case p.Kind.class() == comings:
			count++
		}
		if p.Kind == KindJoin && p.Info != nil {
			if number, ok := b.events.joins[p.Info.Client]; ok && number == b.numbers[i] {
				joins++
			}
		}
	}
	if e := b.events; count != e.count || gaps != e.gaps || joins != len(e.joins) || len(b.numbers) != len(b.publications) {
		return fmt.Errorf("events: counted %d, gaps %d, joins %d, have %d, %d, %d among %d", e.count, e.gaps, len(e.joins), count, gaps, joins, len(b.publications))
	}
	return nil
}
