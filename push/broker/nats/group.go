package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millpond/millpond/push/hub"
)

// group is the channels of one stream. While it is read, the node follows the stream's end, hands over what comes, and keeps it in rings.
type group struct {
	// Immutable after New.
	broker   *Broker
	n        int
	prepared chan struct{} // closed when the stream has the epoch that it is to have

	// Guarded by mu.
	mu     sync.Mutex
	users  int           // subscribed channels, and requests
	idle   time.Time     // since when there are none
	cancel func()        // ends the reading; nil while it is not read
	ended  chan struct{} // closed when the reading before has ended
	ready  chan struct{} // closed while what was read is all there was; nil while it is not read
	lost   bool          // the stream needs another epoch
	renew  func()        // makes the reading begin again; nil while it does not run
	wrong  error         // why it cannot be read just now
	epoch  string
	read   uint64 // everything up to it has been read
	old    uint64 // up to it nothing is handed over: it was in the stream when reading began anew
	readAt time.Time
	moved  chan struct{} // closed when read moves on; nil while nobody waits for that
	rings  rings

	asking ask
	burst  burst

	// Any goroutine (atomic).
	pending  atomic.Int64 // messages that the stream had beyond the last one read
	anchored atomic.Int64 // the latest time of an anchor that is known
}

// errNotRenewed says that positions of before mean nothing, and cannot be told from those of now yet.
var errNotRenewed = errors.New("the stream may have lost its end, and has got no new epoch yet")

// isPrepared reports whether the stream has the epoch that it is to have.
func (g *group) isPrepared() bool {
	select {
	case <-g.prepared:
		return true
	default:
		return false
	}
}

// errLost says that the stream has lost its end, or is another.
var errLost = errors.New("the stream has lost what was in it")

// use keeps the group being read until release. It returns when the node has read up to the end there was.
func (g *group) use(ctx context.Context) error {
	g.mu.Lock()
	g.users++
	if g.cancel == nil {
		reading, cancel := context.WithCancel(g.broker.ctx)
		before, ended := g.ended, make(chan struct{})
		g.cancel, g.ready, g.ended, g.wrong = cancel, make(chan struct{}), ended, nil
		if !g.isPrepared() {
			g.wrong = errNotRenewed
		}
		if !g.broker.spawn(func() {
			defer close(ended)
			if before != nil {
				<-before
			}
			g.follow(reading)
		}) {
			close(ended)
		}
	}
	ready := g.ready
	g.mu.Unlock()
	select {
	case <-ready:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	err := g.why(ctx.Err())
	g.release()
	return err
}

// why says what keeps the group from being read.
func (g *group) why(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wrong != nil {
		err = g.wrong
	}
	return unavailable(fmt.Errorf("the log is not there: %w", err))
}

func (g *group) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users == 0 {
		g.idle = time.Now()
	}
}

// rest ends the reading if nobody has used the group since a time.
func (g *group) rest(since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel == nil || g.users > 0 || g.idle.After(since) {
		return
	}
	g.cancel()
	g.cancel, g.ready, g.renew, g.lost = nil, nil, nil, false
	g.pending.Store(0)
	g.forgetLocked(0)
}

// forgetLocked begins anew: nothing up to an offset is known.
func (g *group) forgetLocked(floor uint64) {
	evicted := g.rings.evicted
	g.broker.ringBytes.Add(int64(-g.rings.bytes))
	g.rings = rings{floor: floor, solid: floor, evicted: evicted}
	g.read, g.readAt = floor, time.Time{}
}

// again makes the reading begin again, where it stands.
func (g *group) again() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.renew != nil {
		g.renew()
	}
}

// follow reads until ctx ends.
func (g *group) follow(ctx context.Context) {
	const shortest, longest = 50 * time.Millisecond, 3 * time.Second
	wait := shortest
	select {
	case <-g.prepared:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		session, cancel := context.WithCancel(ctx)
		g.mu.Lock()
		g.renew = cancel
		g.mu.Unlock()
		progress, err := g.session(session)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if progress {
			wait = shortest
		}
		g.mu.Lock()
		g.wrong = err
		g.mu.Unlock()
		if !errors.Is(err, context.Canceled) {
			g.broker.interrupted(g.n, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, longest)
	}
}

// session reads until something comes between. It reports whether it had come to the end of the stream.
func (g *group) session(ctx context.Context) (progress bool, err error) {
	if err := g.broker.attach.acquire(ctx); err != nil { // all groups at once would be a storm
		return false, err
	}
	free := sync.OnceFunc(g.broker.attach.release)
	defer free()
	st, err := g.present(ctx)
	if err != nil {
		return false, err
	}
	g.anchor(ctx)
	c, err := g.begin(ctx, st)
	if err != nil {
		return false, err
	}
	consumer, err := g.consumer(ctx, c.from)
	if err != nil {
		return false, err
	}
	messages := &feed{ctx: ctx, consumer: consumer, bytes: g.broker.config.FetchBytes}
	if g.isLast(consumer.CachedInfo().NumPending) { // and so there is nothing up to what was the end
		if err := g.atEnd(ctx, &c); err != nil {
			return false, err
		}
	}
	for next := uint64(1); ; next++ {
		if c.done {
			free()
		}
		m, err := g.next(ctx, &c, messages, consumer, next-1)
		if err != nil {
			return c.done, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return c.done, err
		}
		if meta.Sequence.Consumer != next {
			return c.done, fmt.Errorf("message %d of the stream came where another was awaited", meta.Sequence.Stream)
		}
		e := entry{subject: m.Subject(), data: m.Data(), seq: meta.Sequence.Stream, at: meta.Timestamp}
		g.pending.Store(int64(min(meta.NumPending, 1<<40)))
		if err := g.take(ctx, &c, e, g.isLast(meta.NumPending)); err != nil {
			return c.done, err
		}
	}
}

// isReplicated reports whether several servers have the stream.
func (g *group) isReplicated() bool { return g.broker.config.Replicas > 1 }

// isLast reports whether so many more messages mean that there are none. Of several servers the one that is read from may be behind: its disk may be full, or slow. There the
// end is where a message is that was put there for it.
func (g *group) isLast(pending uint64) bool { return pending == 0 && !g.isReplicated() }

const (
	// maxIdle is for how many seconds nothing may come while the stream has something. A request of the client's may have been lost on the way.
	maxIdle = 4
	// checkInterval is the time without a message after which a replicated stream is asked whether it has one: the server that is read from may not know of it.
	checkInterval = 5 * time.Second
)

// errStalled says that something should come, and does not.
var errStalled = errors.New("messages are in the stream, and none comes")

// next returns the next message. It does not wait for ever: what the way to the end waits for may have left the stream, and the server may be behind.
func (g *group) next(ctx context.Context, c *catchUp, messages *feed, consumer jetstream.Consumer, came uint64) (jetstream.Msg, error) {
	var there uint64 // where the stream ended a while ago
	for idle := 1; c.survey != nil || g.isReplicated(); idle++ {
		patience := time.Second
		if c.done && c.survey == nil {
			patience = checkInterval
		}
		waiting, cancel := context.WithTimeout(ctx, patience)
		m, err := messages.next(waiting)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return m, err
		case c.done && c.survey == nil:
			if there > g.position() {
				return nil, errStalled
			}
			if end, err := g.end(ctx); err == nil { // else it is away, and comes back
				there = end
			}
			continue
		case !g.isReplicated():
			if err := g.lookForEnd(ctx, c, consumer, came); err != nil {
				return nil, err
			}
		}
		if idle >= maxIdle && (c.survey != nil || !c.done) {
			return nil, errStalled
		}
	}
	return messages.next(ctx)
}

// lookForEnd asks whether all has come that the stream has.
func (g *group) lookForEnd(ctx context.Context, c *catchUp, consumer jetstream.Consumer, came uint64) error {
	asking, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	info, err := consumer.Info(asking)
	if err == nil && g.isLast(info.NumPending) && info.Delivered.Consumer == came {
		return g.atEnd(ctx, c)
	}
	return err
}

// position returns up to where everything was read.
func (g *group) position() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.read
}

func (g *group) consumer(ctx context.Context, from uint64) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	return g.broker.js.CreateConsumer(ctx, g.broker.streamName(g.n), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
}

// moveLocked notes that everything up to a sequence was read.
func (g *group) moveLocked(seq uint64, at time.Time) {
	g.read, g.readAt = seq, at
	if g.moved != nil {
		close(g.moved)
		g.moved = nil
	}
}

// await returns when everything up to a sequence was read.
func (g *group) await(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	for {
		g.mu.Lock()
		if g.read >= seq {
			g.mu.Unlock()
			return nil
		}
		if g.moved == nil {
			g.moved = make(chan struct{})
		}
		moved := g.moved
		g.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return g.why(ctx.Err())
		}
	}
}

// apply brings one message to the rings and the subscribers.
func (g *group) apply(ctx context.Context, e entry) error {
	channel, env, ok := g.open(e)
	if ok && !e.quiet && env.kind < kindClear {
		if err := g.broker.sink.Admit(ctx, channel); err != nil {
			return err
		}
	}
	delivered, err := g.applyLocking(ctx, channel, env, ok, e)
	if delivered {
		g.broker.sink.Flush(channel)
	}
	return err
}

// open decodes a message; what is none of ours is passed by.
func (g *group) open(e entry) (channel string, env envelope, ok bool) {
	kind, token, ok := cutSubject(e.subject, g.broker.config.Link.Prefix())
	if !ok || kind == kindVersion {
		return "", env, false
	}
	env, err := decode(e.data)
	if err == nil && env.kind == kindClaim {
		return "", env, false
	}
	if channel = env.channel; kind == kindHistory {
		channel, ok = unescape(token)
	}
	if err != nil || !ok || channel == "" || kind == kindHistory && g.broker.groupOf(channel) != g {
		g.broker.foreign(e.subject, err)
		return "", env, false
	}
	return channel, env, true
}

// applyLocking reports whether something was handed over.
func (g *group) applyLocking(ctx context.Context, channel string, env envelope, ok bool, e entry) (delivered bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ctx.Err(); err != nil { // rest came between
		return false, err
	}
	if e.seq <= g.read {
		if e.seq == g.read && !g.readAt.IsZero() && !g.readAt.Equal(e.at) {
			g.lost = true // the same number, but it is not what was read
			return false, errLost
		}
		return false, nil
	}
	defer g.moveLocked(e.seq, e.at)
	if !ok {
		return false, nil
	}
	before := g.rings.bytes
	defer func() { g.broker.ringBytes.Add(int64(g.rings.bytes - before)) }()
	p := g.broker.enter(&g.rings, channel, &env, e)
	g.boundLocked()
	if p == nil || e.quiet || e.seq <= g.old {
		return false, nil
	}
	g.broker.follow(channel, &env, p)
	g.broker.sink.Deliver(channel, p)
	return true, nil
}

// enter brings one message of a channel to its ring. It returns what is to be handed over, nil for nothing.
func (b *Broker) enter(s *rings, channel string, env *envelope, e entry) *hub.Publication {
	if env.kind == kindClear {
		s.clear(s.get(channel), e.seq)
		return nil
	}
	now := b.now()
	if env.rare.Version != 0 {
		s.get(channel).last = now // versions are forgotten with their rings
		if !s.newer(channel, env.rare.Version, env.rare.VersionEpoch) {
			return nil
		}
	}
	p := env.publication(0)
	if env.retention.Enabled() && env.kind == kind(hub.KindMessage) {
		p.Offset = e.seq
		r := s.get(channel)
		r.last = now
		age := max(time.Since(e.at), 0) // the clock of the server that stored it may be ahead of ours
		if p.Expires = now + seconds(env.retention.TTL-min(age, env.retention.TTL)); p.Expires > now {
			s.keep(r, p, min(env.retention.Size, b.config.MaxHistorySize))
		} else {
			s.clear(r, e.seq)
		}
	}
	return p
}

// boundLocked lets old publications go while the rings of all groups have too many bytes and those of this one more than their share. It is
// called before what this changes is added up.
func (g *group) boundLocked() {
	c := &g.broker.config
	share := c.RingBytes / c.Groups
	if over := int(g.broker.ringBytes.Load()) - c.RingBytes; over > 0 && g.rings.bytes > share {
		g.rings.bound(max(share, g.rings.bytes-over-share/8))
	}
}

// history answers q, from memory if that has all of it.
func (g *group) history(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error) {
	if err := g.use(ctx); err != nil {
		return hub.History{}, err
	}
	defer g.release()
	if err := g.approach(ctx, q); err != nil {
		return hub.History{}, err
	}
	h, more, err := g.remembered(channel, q)
	if more && (q.Since == nil || q.Since.Epoch == "" || q.Since.Epoch == h.Top.Epoch) {
		if past, ok := g.broker.recall(ctx, channel, q); ok {
			return past, nil
		}
	}
	return h, err
}

// remembered answers q from memory, and reports whether the log may have more.
func (g *group) remembered(channel string, q hub.HistoryQuery) (h hub.History, more bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isFreshLocked() {
		return hub.History{}, false, unavailable(errors.New("the log is being read anew"))
	}
	h = hub.History{Top: hub.Position{Offset: g.read, Epoch: g.epoch}}
	before := g.rings.bytes
	if h.Publications, h.Floor, more = g.rings.query(channel, q, g.broker.now()); q.Limit == 0 {
		h.Publications = nil
	}
	g.broker.ringBytes.Add(int64(g.rings.bytes - before))
	return h, more, nil
}

// approach reads as far as q needs it.
func (g *group) approach(ctx context.Context, q hub.HistoryQuery) error {
	g.mu.Lock()
	read, epoch := g.read, g.epoch
	g.mu.Unlock()
	ahead := q.Since != nil && q.Since.Offset > read && (q.Since.Epoch == "" || q.Since.Epoch == epoch)
	if q.Following && !ahead {
		return nil
	}
	end, err := g.end(ctx)
	if err != nil {
		return err
	}
	if q.Following {
		end = min(end, q.Since.Offset) // beyond the end it cannot be; the hub will see
	}
	return g.await(ctx, end)
}

// seconds converts d, rounded up.
func seconds(d time.Duration) uint32 {
	const most = 1 << 30 // as good as never
	return uint32(min((d+time.Second-1)/time.Second, most))
}
