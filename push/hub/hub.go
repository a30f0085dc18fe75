package hub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/hub/names"
)

// buckets is the number of parts of the channel map. Publishers of different
// channels meet on one lock with a probability of 1 in 256.
const buckets = 256

// Config holds what a Hub needs. Broker and Executor must be set.
type Config struct {
	// Broker orders publications.
	Broker Broker

	// Executor runs fan-out.
	Executor Executor

	// Channels are the options of channels without a namespace, Namespaces those of the others. With AnyNamespace, Channels are
	// also those of names with a namespace that is not there. Reconfigure replaces them.
	Channels     Options
	Namespaces   []Namespace
	AnyNamespace bool

	// MaxPresence bounds the clients that a presence lists. Zero means 10,000.
	MaxPresence int

	// MaxRecovered bounds the publications that one subscriber recovers. Zero means 300.
	MaxRecovered int

	// MaxChannelBytes bounds a channel's name. Zero means 255.
	MaxChannelBytes int

	// ShardSubscribers is how many subscribers of a channel one task serves.
	// Smaller shards spread a broadcast over more workers; each task costs
	// about a microsecond. Zero means 1024.
	ShardSubscribers int

	// MaxWaiting bounds the publications that wait in a shard, and with it
	// what one Batch carries. Zero means 128.
	MaxWaiting int

	// MaxWaitingBytes bounds the data that waits in a shard. One publication
	// may be larger. Zero means 256 KiB.
	MaxWaitingBytes int

	// MaxHeld and MaxHeldBytes bound what one subscription holds between
	// Subscribe and the start; of more, only the newest are kept, and StartAfter fails. Both are memory that is used
	// only then. Zero means 1024 publications and 1 MiB.
	MaxHeld      int
	MaxHeldBytes int

	// Observer, if set, learns who comes and goes in channels whose options have Events.
	Observer Observer

	// Tracer, if set, is asked whether anybody follows a publication.
	Tracer Tracer

	// OnPanic, if set, learns of a subscriber that panicked in Deliver, on
	// the goroutine of the panic, so that debug.Stack shows it. The other
	// subscribers are served. The connection should be closed.
	OnPanic func(s Subscriber, value any)
}

// Validate reports all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var problems []error
	if c.Broker == nil {
		problems = append(problems, errors.New("hub: Broker is missing"))
	}
	if c.Executor == nil {
		problems = append(problems, errors.New("hub: Executor is missing"))
	}
	for _, field := range []struct {
		name  string
		value int
	}{
		{"MaxRecovered", c.MaxRecovered},
		{"MaxPresence", c.MaxPresence},
		{"MaxChannelBytes", c.MaxChannelBytes},
		{"ShardSubscribers", c.ShardSubscribers},
		{"MaxWaiting", c.MaxWaiting},
		{"MaxWaitingBytes", c.MaxWaitingBytes},
		{"MaxHeld", c.MaxHeld},
		{"MaxHeldBytes", c.MaxHeldBytes},
	} {
		if field.value < 0 || field.value > math.MaxInt32 {
			problems = append(problems, fmt.Errorf("hub: %s is %d, want 0 to %d", field.name, field.value, math.MaxInt32))
		}
	}
	_, err := compileNamespaces(c.Channels, c.Namespaces)
	return errors.Join(append(problems, err)...)
}

func (c Config) withDefaults() Config {
	for _, field := range []struct {
		value *int
		zero  int
	}{
		{&c.MaxRecovered, 300},
		{&c.MaxPresence, 10_000},
		{&c.MaxChannelBytes, 255},
		{&c.ShardSubscribers, 1024},
		{&c.MaxWaiting, 128},
		{&c.MaxWaitingBytes, 256 << 10},
		{&c.MaxHeld, 1024},
		{&c.MaxHeldBytes, 1 << 20},
	} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	return c
}

// Hub is the map of channels. It has no goroutine of its own and needs no
// closing. All methods may be called by any goroutine, though none from within
// Subscriber.Deliver.
type Hub struct {
	// Immutable after New.
	config  Config
	buckets [buckets]bucket

	// Any goroutine (atomic).
	namespaces atomic.Pointer[namespaces]
	panics     atomic.Uint64
	fanout     histogram.Histogram // of publications that are timed
	published  histogram.Histogram // of one in publishSample
	recovery   recoveries
	meter      atomic.Pointer[Meter] // nil for nobody
}

var _ Sink = (*Hub)(nil)

// New returns a hub and attaches it to the broker.
func New(config Config) (*Hub, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Hub{config: config.withDefaults()}
	namespaces, err := compileNamespaces(config.Channels, config.Namespaces)
	if err != nil {
		return nil, err
	}
	namespaces.any = config.AnyNamespace
	h.namespaces.Store(namespaces)
	for i := range h.buckets {
		h.buckets[i].hub = h
	}
	h.config.Broker.Attach(h)
	return h, nil
}

// bucket returns where a channel is, and the hash by which it is found there.
func (h *Hub) bucket(channel string) (*bucket, uint64) {
	hash := names.Hash(channel)
	return &h.buckets[hash%buckets], hash
}

// Subscribe adds s to the channel. Nothing is delivered before
// [Subscription.Start] or [Subscription.StartAfter]; until then publications are held, up to
// Config.MaxHeld. The caller must end it with Unsubscribe.
//
// It may wait for the broker. The error wraps ErrBadRequest or ErrUnknownChannel for a bad name and
// ErrTooManyRequests if ctx ended first; others are the broker's.
func (h *Hub) Subscribe(ctx context.Context, channel string, s Subscriber) (*Subscription, error) {
	if _, err := h.Options(channel); err != nil {
		return nil, err
	}
	b, hash := h.bucket(channel)
	shard, err := b.join(ctx, hash, channel, s)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{subscriber: s, shard: shard}
	shard.add(sub)
	return sub, nil
}

// Publish sends data to the channel's subscribers, on all nodes, and returns
// its position once the broker has accepted it. data is kept: it must not be
// changed any more.
//
// While the channel's subscribers on this node have too much waiting, it helps
// to deliver, or waits for those who do. The error wraps ErrBadRequest or ErrUnknownChannel for a bad
// name and ErrTooManyRequests if ctx ended while it waited; nothing was
// published then. Other errors are the broker's.
func (h *Hub) Publish(ctx context.Context, channel string, data []byte, options PublishOptions) (Position, error) {
	o, err := h.Options(channel)
	if err != nil {
		return Position{}, err
	}
	if o.MaxPublicationBytes > 0 && len(data) > o.MaxPublicationBytes {
		return Position{}, fmt.Errorf("%w: the data has %d bytes, at most %d are allowed in channel %q", ErrLimitExceeded, len(data), o.MaxPublicationBytes, clip(channel))
	}
	options.Retention = o.retention()
	options.Delta = (options.Delta || o.DeltaPublish) && o.AllowFossilDelta
	if err := h.Admit(ctx, channel); err != nil {
		return Position{}, err
	}
	published := func(error) {}
	if h.config.Tracer != nil {
		if done, delivered, carrier := h.config.Tracer.Follow(ctx, options.Trace, channel); done != nil {
			published, options.Delivered, options.TraceCarrier = done, delivered, carrier
		}
	}
	position, err := h.toBroker(ctx, channel, data, options)
	published(err)
	h.Flush(channel)
	if err != nil {
		return Position{}, fmt.Errorf("publish to %q: %w", channel, err)
	}
	return position, nil
}

// Tracer follows publications.
type Tracer interface {
	// Follow begins to follow one, that belongs to trace or to ctx. The hub calls published when the broker has it, or has refused it, and delivered
	// when the last subscriber of this node was handed it, or will not be; never for one that the broker did not hand over. carrier is what other
	// nodes know the publication's trace by. It must not block. All are nil, or empty, if nobody follows it.
	Follow(ctx context.Context, trace any, channel string) (published func(error), delivered func(), carrier string)
}

// publishSample is of how many publications one is timed: until the broker has accepted it.
const publishSample = 16

// toBroker publishes, and notes how long that took.
func (h *Hub) toBroker(ctx context.Context, channel string, data []byte, options PublishOptions) (Position, error) {
	if rand.Uint32()%publishSample != 0 {
		return h.config.Broker.Publish(ctx, channel, data, options)
	}
	begin := time.Now()
	position, err := h.config.Broker.Publish(ctx, channel, data, options)
	h.published.Observe(time.Since(begin))
	return position, err
}

// fanoutSample is of how many publications in a bucket one is timed, those in channels of more than one shard aside, which all are.
const fanoutSample = 16

// Deliver queues p for the channel's subscribers; see [Sink].
func (h *Hub) Deliver(channel string, p *Publication) (subscribed bool) {
	b, hash := h.bucket(channel)
	b.mu.Lock()
	b.publications++
	c := b.channels.Find(hash, channel)
	if c == nil || c.count == 0 {
		b.mu.Unlock()
		h.measure(channel, p, 0)
		p.delivered(nil)
		return false
	}
	subscribers := c.count
	more := c.shardsLocked()
	timed := p.Kind == KindMessage && (b.publications%fanoutSample == 1 || len(more) > 0)
	if h.namespaces.Load().deltas {
		b.noteBaseLocked(channel, p)
	}
	b.mu.Unlock()
	h.measure(channel, p, subscribers)
	if d := p.derived.Load(); !p.bounded && (d != nil || timed || len(more) > 0) {
		if d == nil {
			d = new(derived)
			p.derived.Store(d)
		}
		if timed {
			d.since = time.Since(start)
		}
		d.pending.Store(int32(1 + len(more)))
	}

	c.first.enqueue(p)
	for _, s := range more {
		s.enqueue(p)
	}
	return true
}

var start = time.Now()

// Subscribed reports whether the channel has local subscribers; see [Sink].
func (h *Hub) Subscribed(channel string) bool {
	b, hash := h.bucket(channel)
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.channels.Find(hash, channel)
	return c != nil && c.count > 0
}

// Admit waits for room in the channel's queues; see [Sink].
func (h *Hub) Admit(ctx context.Context, channel string) error {
	b, hash := h.bucket(channel)
	if b.waiting.Load() == 0 {
		return nil
	}
	first, more := b.find(hash, channel)
	if first == nil {
		return nil
	}
	if err := first.admit(ctx); err != nil {
		return err
	}
	for _, s := range more {
		if err := s.admit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Flush delivers what the executor refused; see [Sink].
func (h *Hub) Flush(channel string) {
	b, hash := h.bucket(channel)
	if b.refused.Load() == 0 {
		return
	}
	first, more := b.find(hash, channel)
	if first == nil {
		return
	}
	first.flush()
	for _, s := range more {
		s.flush()
	}
}

func (h *Hub) panicked(s Subscriber, value any) {
	h.panics.Add(1)
	if h.config.OnPanic != nil {
		h.config.OnPanic(s, value)
	}
}
