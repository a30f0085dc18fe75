package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/millpond/millpond/push/hub"
)

// Broker orders publications by NATS's logs, and brings them to every node that has subscribers. Make it with New, give it to hub.New, and
// close it before its Link.
type Broker struct {
	// Immutable after Attach.
	config     Config
	js         jetstream.JetStream
	sink       hub.Sink
	start      time.Time
	groups     []group
	partitions []partition
	ctx        context.Context // ends with Close
	cancel     func()
	attach     semaphore     // groups that begin to be read at the same time
	pending    chan struct{} // a place for each publication that waits for the log
	resets     *rate.Limiter
	recalls    recalls
	claims     claims
	stopSound  func() // nil for no server of a cluster's

	running  spawner
	handing  sync.Once
	handlers [handlers]chan *gonats.Msg

	// Any goroutine (atomic).
	ringBytes                                                    atomic.Int64
	published, refused, unknown                                  atomic.Int64
	interruptions, foreigners, resetCount, renewals, coreDropped atomic.Int64
	sound                                                        atomic.Bool // this node's server has all it ever had
}

var _ hub.Broker = (*Broker)(nil)

// semaphore admits so many at a time.
type semaphore chan struct{}

func (s semaphore) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s semaphore) release() { <-s }

// spawner knows the goroutines of a Broker.
type spawner struct {
	// Guarded by mu.
	mu     sync.Mutex
	closed bool

	group sync.WaitGroup
}

// errClosed says that the broker was closed.
var errClosed = errors.New("the broker is closed")

// spawn runs f on a goroutine that Close waits for. After Close it reports false.
func (b *Broker) spawn(f func()) bool {
	b.running.mu.Lock()
	defer b.running.mu.Unlock()
	if !b.running.closed {
		b.running.group.Go(f)
	}
	return !b.running.closed
}

// wait returns when all have ended, and no more begin.
func (s *spawner) wait() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.group.Wait()
}

// New makes the streams, or takes those that are there. If they don't fit the Config it is an error; if nobody answers, that goes on in the
// background, and until then nothing can be published or subscribed to.
func New(ctx context.Context, c Config) (*Broker, error) {
	if c.Link == nil {
		return nil, errors.New("nats: Link is missing")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	js, err := jetstream.New(
		c.Link.conn, jetstream.WithPublishAsyncTimeout(c.PublishTimeout), jetstream.WithPublishAsyncMaxPending(c.MaxPending+1),
		jetstream.WithDefaultTimeout(c.PublishTimeout),
	)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	b := &Broker{
		config: c, js: js, start: time.Now(), groups: make([]group, c.Groups), partitions: make([]partition, c.Partitions),
		attach: make(semaphore, 4), pending: make(chan struct{}, c.MaxPending), resets: rate.NewLimiter(rate.Limit(c.ResetRate), 100), claims: newClaims(c.MaxPending),
	}
	b.recalls.places, b.recalls.reading, b.recalls.waiting = make(chan struct{}, c.Recalls), make(semaphore, 1), map[recallOf]*recall{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for i := range b.groups {
		g := &b.groups[i]
		g.broker, g.n, g.prepared = b, i, make(chan struct{})
		if c.Renew == "" { // then all that needs a stream looks whether it is there
			close(g.prepared)
		}
	}
	b.sound.Store(c.Renew == "")
	err = b.tellSound()
	if err == nil {
		err = b.prepare(ctx)
	}
	if err != nil {
		if b.stopSound != nil {
			b.stopSound()
		}
		b.cancel()
		b.running.wait()
		return nil, err
	}
	c.Link.OnState(func(connected bool) {
		if connected && b.ctx.Err() == nil {
			for i := range b.groups {
				b.groups[i].again()
			}
		}
	})
	return b, nil
}

// prepare waits for the streams, for a while.
func (b *Broker) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.StartTimeout)
	defer cancel()
	done := make(chan error, 1)
	b.spawn(func() {
		err := b.prepareAll()
		done <- err
		if err != nil && b.ctx.Err() == nil {
			b.config.Logger.Error("broker: nothing can be published or subscribed to", "error", err)
		}
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		b.config.Logger.Warn("broker: JetStream does not answer; trying on", "waited", b.config.StartTimeout)
		return nil
	}
}

// prepareAll tries until all streams are there, or do not fit.
func (b *Broker) prepareAll() error {
	var left []*group
	for i := range b.groups {
		left = append(left, &b.groups[i])
	}
	var sound []string
	asked := b.config.Renew == "" || b.config.Member == ""
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var failed []*group
		for _, g := range left {
			st, err := b.stream(b.ctx, g.n)
			if err == nil && !asked { // now that most of the others are there
				sound, err = b.askSound(b.ctx)
				asked = err == nil
			}
			if err == nil {
				err = b.prepareOne(g, st, sound)
			}
			if errors.Is(err, errMisfit) || b.ctx.Err() != nil {
				return cmp.Or(err, b.ctx.Err())
			}
			if err != nil { // which says nothing of the others
				failed = append(failed, g)
				b.config.Logger.Warn("broker: a stream is not there yet", "error", err)
			}
		}
		if left = failed; len(left) == 0 {
			break
		}
		select {
		case <-time.After(wait):
		case <-b.ctx.Done():
		}
	}
	if b.config.Renew != "" && b.config.Renewed != nil {
		if err := b.config.Renewed(); err != nil {
			return err
		}
	}
	b.sound.Store(true)
	return nil
}

// prepareOne gives a stream another epoch if something may be missing in it.
func (b *Broker) prepareOne(g *group, st state, sound []string) (err error) {
	if b.needsRenewal(st, sound) { // also when nothing is left
		if st, err = b.renew(b.ctx, g.n, st.epoch); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch == "" {
		g.epoch = st.epoch
	}
	if !g.isPrepared() {
		close(g.prepared)
	}
	return nil
}

// Attach names the sink; see [hub.Broker].
func (b *Broker) Attach(sink hub.Sink) { b.sink = sink }

// now is in seconds since New, on the monotonic clock.
func (b *Broker) now() uint32 { return uint32(time.Since(b.start) / time.Second) }

func (b *Broker) groupOf(channel string) *group {
	return &b.groups[hash(channel)%uint64(len(b.groups))]
}

// Subscribe makes this node read the channel's group, or partition, if it does not; see [hub.Broker].
func (b *Broker) Subscribe(ctx context.Context, channel string, r hub.Retention) error {
	if r.Enabled() {
		return b.groupOf(channel).use(ctx)
	}
	return b.joinPartition(ctx, channel)
}

// Unsubscribe undoes it, in a while; see [hub.Broker].
func (b *Broker) Unsubscribe(channel string, r hub.Retention) {
	if r.Enabled() {
		b.groupOf(channel).release()
	} else {
		b.leavePartition(channel)
	}
}

// History returns what is kept, as far as q wants it; see [hub.Broker].
func (b *Broker) History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error) {
	return b.groupOf(channel).history(ctx, channel, q)
}

// ask returns what a stream is now.
func (b *Broker) ask(n int) (state, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.config.PublishTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, b.streamName(n))
	if err != nil {
		return state{}, err
	}
	return stateOf(s.CachedInfo()), nil
}

// Expire forgets what is too old, and leaves what nobody uses. It is called about once a second.
func (b *Broker) Expire() {
	now, since := b.now(), time.Now().Add(-b.config.IdleTimeout)
	age := seconds(b.config.MaxAge)
	for i := range b.groups {
		g := &b.groups[i]
		g.rest(since)
		if g.needsAnchor() {
			b.spawn(func() { g.anchor(b.ctx) })
		}
		if (now+uint32(i))%60 == 0 {
			g.mu.Lock()
			before := g.rings.bytes
			g.rings.expire(now, now-min(now, age), max(b.config.RingChannels/b.config.Groups, 1))
			b.ringBytes.Add(int64(g.rings.bytes - before))
			g.mu.Unlock()
		}
	}
	b.claims.expire(time.Now())
	for i := range b.partitions {
		b.coreDropped.Add(int64(b.partitions[i].rest(since)))
	}
}

// follow tells those who follow a publication that it is here, for subscribers of this node. It is called before the publication is handed over.
func (b *Broker) follow(channel string, e *envelope, p *hub.Publication) {
	if e.rare.Trace != "" && b.config.Follow != nil && b.sink.Subscribed(channel) {
		p.Notify(b.config.Follow(e.rare.Trace, channel))
	}
}

// interrupted notes that a group cannot be read.
func (b *Broker) interrupted(n int, err error) {
	b.interruptions.Add(1)
	b.config.Logger.Warn("broker: reading a stream was interrupted", "stream", b.streamName(n), "error", err)
}

// foreign notes a message that is none of ours.
func (b *Broker) foreign(subject string, err error) {
	b.foreigners.Add(1)
	b.config.Logger.Warn("broker: a message that is no publication was passed by", "subject", subject, "error", err)
}

// Close ends the reading. Publications that wait are answered before, or fail.
func (b *Broker) Close() {
	b.cancel()
	if b.stopSound != nil {
		b.stopSound()
	}
	for i := range b.partitions {
		p := &b.partitions[i]
		p.mu.Lock()
		if p.sub != nil {
			_ = p.sub.Unsubscribe()
			p.sub = nil
		}
		p.mu.Unlock()
	}
	b.claims.close()
	b.running.wait()
	b.js.CleanupPublisher()
}

// Stats are the figures of a Broker.
type Stats struct {
	Published, Refused, Unknown int64 // publications by their result; the last had no answer in time
	Pending                     int   // that wait for the log
	Groups                      int   // that are read
	Behind                      int   // of them, those that are not at the end, or cannot be read
	Lag                         int64 // messages in the logs that the groups are behind, as of the last ones they read
	Partitions                  int   // that are read
	Dropped                     int64 // messages of channels without history that came faster than they were handed over
	Interruptions               int64 // times that a group could not be read on
	Resets                      int64 // channels of which the subscribers had to begin anew
	Renewals                    int64 // streams that were found to be others than before
	Foreign                     int64 // messages that are none of ours
	RingBytes                   int64
	RingPublications            int
	RingChannels                int
	Evicted                     int64 // publications that left the rings before their time
	Recalls                     RecallStats
	Unsent                      int   // publications in channels without history that were claimed in the log, or may be, and not sent
	Resent                      int64 // of such, those that were made when they were published again
}

// RecallStats are requests for a channel's past of which memory had let something go, by their end.
type RecallStats struct {
	Found   int64 // the log had it
	Gone    int64 // it was not in the log any more, or beyond what is kept
	Refused int64 // too many waited
	Failed  int64 // the log could not be read in time, or it was too much
}

// Stats returns them.
func (b *Broker) Stats() Stats {
	st := Stats{
		Published: b.published.Load(), Refused: b.refused.Load(), Unknown: b.unknown.Load(), Pending: len(b.pending), RingBytes: b.ringBytes.Load(),
		Interruptions: b.interruptions.Load(), Resets: b.resetCount.Load(), Renewals: b.renewals.Load(), Foreign: b.foreigners.Load(), Dropped: b.coreDropped.Load(),
	}
	st.Unsent, st.Resent = b.claims.unsent(), b.claims.resent.Load()
	c := &b.recalls
	st.Recalls = RecallStats{Found: c.found.Load(), Gone: c.gone.Load(), Refused: c.refused.Load(), Failed: c.failed.Load()}
	for i := range b.groups {
		g := &b.groups[i]
		g.mu.Lock()
		if g.cancel != nil {
			st.Groups++
			st.Lag += g.pending.Load()
			if g.isFreshLocked() || g.wrong != nil {
				st.Behind++
			}
		}
		st.RingPublications += g.rings.count
		st.RingChannels += g.rings.table.Len()
		st.Evicted += g.rings.evicted
		g.mu.Unlock()
	}
	for i := range b.partitions {
		if n, active := b.partitions[i].dropped(); active {
			st.Partitions++
			st.Dropped += int64(n)
		}
	}
	return st
}
