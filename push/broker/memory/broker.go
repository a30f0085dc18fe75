package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/hub/names"
)

const stripes = 64

// Config bounds what a Broker keeps. The zero value works.
type Config struct {
	// MaxHistoryBytes bounds the data of all channels' histories. When it is reached, publications that would expire soon
	// go first; their channels' positions stay, so that whoever recovers learns of it. Zero means 256 MiB.
	MaxHistoryBytes int
	// MaxStreams bounds the channels whose position is kept while nobody subscribes to them. Zero means 1,048,576.
	MaxStreams int
	// PositionTTL is for how long the position of a channel with history outlives its last publication and its last
	// subscriber. Zero means 24 h.
	PositionTTL time.Duration
	// MaxIdempotencyKeys bounds the idempotency keys that are known: each 64th part of it, one at least, is for as many of the
	// channels. Beyond it the oldest are forgotten early. Zero means 1,048,576.
	MaxIdempotencyKeys int
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c Config) Validate() error {
	var errs []error
	for name, n := range map[string]int64{
		"history-bytes": int64(c.MaxHistoryBytes), "history-channels": int64(c.MaxStreams), "history-position-ttl": int64(c.PositionTTL),
		"idempotency-keys": int64(c.MaxIdempotencyKeys),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, n))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.MaxHistoryBytes == 0 {
		c.MaxHistoryBytes = 256 << 20
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 1 << 20
	}
	if c.MaxIdempotencyKeys == 0 {
		c.MaxIdempotencyKeys = 1 << 20
	}
	if c.PositionTTL == 0 {
		c.PositionTTL = 24 * time.Hour
	}
	return c
}

// Broker orders publications within one process, and keeps those that are to be kept. Make it with New and give it
// to hub.New.
//
// A channel without history has a stream from its first publication with a subscriber to the leaving of the last one. In it,
// offsets are 1, 2, 3, …; the next stream has another epoch. Without subscribers it leaves nothing behind: each of
// its publications has offset 1 in an epoch of its own. A channel with history keeps its stream for Config.PositionTTL.
type Broker struct {
	// Immutable after Attach.
	config  Config
	sink    hub.Sink
	start   time.Time
	stripes [stripes]stripe

	// Any goroutine (atomic).
	bytes  atomic.Int64  // of all stripes' publications
	victim atomic.Uint32 // the stripe that gives up publications next
	lives  atomic.Uint32 // the number of the latest stream
}

var _ hub.Broker = (*Broker)(nil)

// stripe has a part of the channels.
type stripe struct {
	// Immutable after New.
	secret uint64 // makes epochs differ from those of other processes
	total  *atomic.Int64

	// Guarded by mu.
	mu       sync.Mutex
	streams  names.Table[*stream]
	versions map[string]version // the latest of those channels that have versions
	due      schedule           // the streams of which something expires
	bytes    int                // of their publications
	epoch    string             // of the stream with this number
	epochOf  uint32
	timed    bool // some publication of the stripe has, or had, bounds of its own
	keys     idempotency

	_ [16]byte // neighbours are busy on other cores
}

// New returns a broker without channels. The Config must be valid.
func New(c Config) *Broker {
	b := &Broker{config: c.withDefaults(), start: time.Now()}
	secret := rand.Uint64()
	for i := range b.stripes {
		b.stripes[i].secret = secret
		b.stripes[i].total = &b.bytes
		b.stripes[i].keys.most = max(b.config.MaxIdempotencyKeys/stripes, 1)
	}
	return b
}

// Attach names the sink; see [hub.Broker].
func (b *Broker) Attach(sink hub.Sink) { b.sink = sink }

// now is in seconds since New, on the monotonic clock.
func (b *Broker) now() uint32 { return uint32(time.Since(b.start) / time.Second) }

// Publish numbers data, keeps it if it is to be kept, and hands it to the sink before it returns.
// It never waits; an ended ctx is its only error, and nothing was published then.
func (b *Broker) Publish(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error) {
	if err := ctx.Err(); err != nil {
		return hub.Position{}, err
	}
	position := b.publish(channel, data, options)
	b.boundBytes()
	return position, nil
}

func (b *Broker) publish(channel string, data []byte, options hub.PublishOptions) hub.Position {
	now := b.now()
	s, hash := b.stripe(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if options.Kind != hub.KindMessage {
		b.sink.Deliver(channel, &hub.Publication{Kind: options.Kind, Info: options.Info})
		return hub.Position{}
	}
	if options.IdempotencyKey != "" {
		if position, ok := s.keys.find(channel, options.IdempotencyKey, now); ok {
			return position
		}
	}
	st := b.stream(s, hash, channel)
	if options.Version != 0 && !s.newer(st, options.Version, options.VersionEpoch) {
		return s.position(st)
	}
	p := &hub.Publication{Data: data, Tags: options.Tags, Info: options.Info, Delta: options.Delta}
	p.Bound(options.ExcludeClient, ends(options.TTL))
	p.Notify(options.Delivered)
	var position hub.Position
	keep := options.Retention.Enabled() && !options.SkipHistory
	if keep || !st.kept() && !options.SkipHistory {
		st.offset++
		p.Offset, position = st.offset, s.position(st)
	} // else it passes by the history, in which a number that is missing would be a loss
	if keep {
		st.expire(s, now)
		st.keep(s, p, options.Retention, now)
	}
	subscribed := b.sink.Deliver(st.name, p)
	if options.IdempotencyKey != "" {
		s.keys.note(st.name, options.IdempotencyKey, position, now)
	}
	b.settle(s, st, now, subscribed)
	return position
}

// boundBytes gives up publications while all histories together have too many bytes: a few of one part of the channels
// after the other, in each those that would expire first. It is called without a lock.
func (b *Broker) boundBytes() {
	for tries := 0; tries < 2*stripes && b.bytes.Load() > int64(b.config.MaxHistoryBytes); tries++ {
		s := &b.stripes[b.victim.Add(1)%stripes]
		s.mu.Lock()
		s.giveUp(int(b.bytes.Load()) - b.config.MaxHistoryBytes)
		s.mu.Unlock()
	}
}

// settle decides what becomes of a stream after something was done with it. s.mu is held.
func (b *Broker) settle(s *stripe, st *stream, now uint32, subscribed bool) {
	switch {
	case st.kept() || s.dated(st):
		st.touch(now + seconds(b.config.PositionTTL))
		s.due.put(st)
		s.boundStreams(b.config.MaxStreams/stripes, b.sink)
	case !subscribed:
		s.forget(st)
	}
}

// Subscribe has nothing to prepare: the stream begins with its first publication, or when its position is asked for.
func (b *Broker) Subscribe(context.Context, string, hub.Retention) error { return nil }

// Unsubscribe forgets a channel without history. The sink reports it as not subscribed from
// before this call on, so a publication that comes later does not revive it.
func (b *Broker) Unsubscribe(channel string, _ hub.Retention) {
	now := b.now()
	s, hash := b.stripe(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams.Find(hash, channel); st != nil {
		b.settle(s, st, now, false)
	}
}

// History returns what is kept, as far as q wants it; see [hub.Broker].
func (b *Broker) History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error) {
	if err := ctx.Err(); err != nil {
		return hub.History{}, err
	}
	now := b.now()
	s, hash := b.stripe(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := b.stream(s, hash, channel)
	st.life |= 1
	st.expire(s, now)
	h := hub.History{Publications: st.query(q, s.timed), Top: s.position(st), Floor: st.floor()}
	b.settle(s, st, now, false)
	return h, nil
}

// RemoveHistory forgets the channel's publications.
func (b *Broker) RemoveHistory(ctx context.Context, channel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, hash := b.stripe(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams.Find(hash, channel); st != nil {
		st.clear(s)
		s.due.put(st)
	}
	return nil
}

// Expire forgets what is too old. It is called about once a second; each call looks at what is due, and at nothing else.
func (b *Broker) Expire() {
	now := b.now()
	for i := range b.stripes {
		s := &b.stripes[i]
		s.mu.Lock()
		s.expire(now, b.sink)
		s.mu.Unlock()
	}
}

// Stats tell what a Broker keeps.
type Stats struct {
	Streams      int
	Publications int
	Bytes        int   // of the publications' data and what belongs to them
	MaxBytes     int   // Config.MaxHistoryBytes
	Keys         int   // of idempotency
	Evicted      int64 // publications that went before their time, for MaxHistoryBytes
}

// Stats returns them.
func (b *Broker) Stats() (st Stats) {
	st.MaxBytes = b.config.MaxHistoryBytes
	for i := range b.stripes {
		s := &b.stripes[i]
		s.mu.Lock()
		st.Streams += s.streams.Len()
		st.Bytes += s.bytes
		st.Publications += s.due.publications
		st.Evicted += s.due.evicted
		st.Keys += len(s.keys.positions)
		s.mu.Unlock()
	}
	return st
}

// stripe returns where a channel's stream is, and the hash by which it is found there.
func (b *Broker) stripe(channel string) (*stripe, uint64) {
	hash := names.Hash(channel)
	return &b.stripes[hash%stripes], hash
}

// stream returns the channel's, making it if need be; it keeps the name. s.mu is held.
func (b *Broker) stream(s *stripe, hash uint64, channel string) *stream {
	st := s.streams.Find(hash, channel)
	if st == nil {
		st = &stream{name: channel, life: 2 * b.lives.Add(1), index: -1}
		s.streams.Add(hash, st)
	}
	return st
}

// ends is when a time to live is over, the zero time for none.
func ends(ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return time.Now().Add(ttl)
}

// seconds converts d, rounded up.
func seconds(d time.Duration) uint32 {
	const most = 1 << 30 // as good as never
	return uint32(min((d+time.Second-1)/time.Second, most))
}

// epoch returns the 8 letters that tell one life of a stream from the others. They are made of its number, so that
// streams need not keep them, and are no secret.
func epoch(secret uint64, life uint32) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEF" // 32, so 5 bits choose one
	bits := secret + uint64(life)*0x9e3779b97f4a7c15   // as SplitMix64 does: every number leads to other bits
	bits = (bits ^ bits>>30) * 0xbf58476d1ce4e5b9
	bits = (bits ^ bits>>27) * 0x94d049bb133111eb
	bits ^= bits >> 31
	var epoch [8]byte
	for i := range epoch {
		epoch[i] = letters[bits%32]
		bits /= 32
	}
	return string(epoch[:])
}
