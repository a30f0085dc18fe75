package hub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millpond/millpond/push/hub/names"
)

// channel is a name with at least one subscriber, or about to get or lose it.
//
// A personal channel has one subscriber, so there may be as many of these as
// of connections: keep it at 128 bytes.
type channel struct {
	// Immutable after newChannel.
	name   string
	bucket *bucket

	// Guarded by bucket.mu.
	rare     *rare // nil for nearly all channels
	count    int32 // sum of the shards' reserved
	changing bool  // the broker is asked

	// Guarded by its own locks.
	first shard
}

// Name implements names.Named.
func (c *channel) Name() string { return c.name }

// rare is what few channels have. Guarded by bucket.mu.
type rare struct {
	changed chan struct{} // closed when the broker has answered; nil while nobody waits for that
	more    []*shard      // shards after the first
	room    int32         // no shard below this index has room
}

func newChannel(b *bucket, name string) *channel {
	// A clone, so that a name cut out of a request doesn't keep the request.
	c := &channel{name: strings.Clone(name), bucket: b, changing: true}
	c.first.channel = c
	return c
}

// answerLocked returns what is closed when the broker has answered; nil if it is not asked.
func (c *channel) answerLocked() <-chan struct{} {
	if !c.changing {
		return nil
	}
	r := c.rareLocked()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// changedLocked tells those who wait that the broker has answered.
func (c *channel) changedLocked() {
	c.changing = false
	if c.rare == nil || c.rare.changed == nil {
		return
	}
	close(c.rare.changed)
	if c.rare.changed = nil; c.rare.more == nil {
		c.rare = nil
	}
}

// rareLocked returns c.rare, making it if need be.
func (c *channel) rareLocked() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// shardsLocked returns the shards after the first. They are only ever appended
// to, so the slice may be read without the lock.
func (c *channel) shardsLocked() []*shard {
	if c.rare == nil {
		return nil
	}
	return c.rare.more
}

func (c *channel) shardLocked(index int32) *shard {
	if index == 0 {
		return &c.first
	}
	return c.rare.more[index-1]
}

// reserveLocked takes a place in the first shard that has fewer than limit
// subscriptions, or in a new one. Filling from the front lets the shards at the
// end run empty as subscribers leave; an empty shard costs a broadcast nothing.
func (c *channel) reserveLocked(limit int) *shard {
	s := &c.first
	if int(s.reserved) >= limit || c.rare != nil && c.rare.more != nil {
		s = c.rareLocked().reserve(c, limit)
	}
	s.reserved++
	c.count++
	return s
}

func (c *channel) releaseLocked(s *shard) {
	s.reserved--
	c.count--
	if c.rare != nil {
		c.rare.room = min(c.rare.room, s.index)
	}
}

// reserve returns the first shard of c that has room, perhaps a new one.
func (r *rare) reserve(c *channel, limit int) *shard {
	n := int32(1 + len(r.more))
	for r.room < n && int(c.shardLocked(r.room).reserved) >= limit {
		r.room++
	}
	if r.room == n {
		r.more = append(r.more, &shard{channel: c, index: n})
	}
	return c.shardLocked(r.room)
}

// bucket is a part of the hub's map of channels.
type bucket struct {
	// Immutable after New.
	hub *Hub

	// Guarded by mu.
	mu            sync.Mutex
	channels      names.Table[*channel]
	subscriptions int
	publications  uint64
	bases         map[string][]byte // of channels with deltas and subscribers: the latest message's data

	// Any goroutine (atomic).
	deliveries atomic.Uint64
	waiting    atomic.Int64
	refused    atomic.Int32 // shards that wait for Flush

	_ [64]byte // neighbours are busy on other cores
}

// find returns the channel's shards, or nil if there is no such channel.
func (b *bucket) find(hash uint64, name string) (first *shard, more []*shard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.channels.Find(hash, name)
	if c == nil {
		return nil, nil
	}
	return &c.first, c.shardsLocked()
}

// join reserves a place for a subscription. The first one makes the channel
// and asks the broker for it; the others wait for its answer.
func (b *bucket) join(ctx context.Context, hash uint64, name string, subscriber Subscriber) (*shard, error) {
	for {
		b.mu.Lock()
		c := b.channels.Find(hash, name)
		if c == nil {
			c = newChannel(b, name)
			b.channels.Add(hash, c)
			b.mu.Unlock()
			return b.open(ctx, hash, c, subscriber)
		}
		answer := c.answerLocked()
		if answer == nil {
			defer b.mu.Unlock()
			return b.reserveLocked(c, subscriber), nil
		}
		b.mu.Unlock()
		select {
		case <-answer:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: subscribing to %q: %w", ErrTooManyRequests, name, ctx.Err())
		}
	}
}

// open asks the broker for a new channel. If the broker refuses, the channel
// goes, and those who waited ask again, each for itself.
func (b *bucket) open(ctx context.Context, hash uint64, c *channel, subscriber Subscriber) (s *shard, err error) {
	err = b.hub.config.Broker.Subscribe(ctx, c.name, b.hub.namespaces.Load().find(c.name).retention())
	b.mu.Lock()
	defer b.mu.Unlock()
	c.changedLocked()
	if err != nil {
		b.channels.Remove(hash, c.name)
		return nil, fmt.Errorf("subscribe to %q: %w", c.name, err)
	}
	return b.reserveLocked(c, subscriber), nil
}

func (b *bucket) reserveLocked(c *channel, subscriber Subscriber) *shard {
	b.subscriptions++
	s := c.reserveLocked(b.hub.config.ShardSubscribers)
	b.cameLocked(c, subscriber)
	return s
}

// leave gives up a subscriber's place of s. The last one closes the channel.
func (b *bucket) leave(s *shard, subscriber Subscriber) {
	c := s.channel
	b.mu.Lock()
	c.releaseLocked(s)
	b.subscriptions--
	b.wentLocked(c, subscriber)
	if c.count > 0 {
		b.mu.Unlock()
		return
	}
	c.changing = true
	b.mu.Unlock()

	b.hub.config.Broker.Unsubscribe(c.name, b.hub.namespaces.Load().find(c.name).retention())

	b.mu.Lock()
	defer b.mu.Unlock()
	c.changedLocked()
	b.channels.Remove(names.Hash(c.name), c.name)
	delete(b.bases, c.name)
}
