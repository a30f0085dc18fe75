package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// LossConfig says what Loss does. The zero value works.
type LossConfig struct {
	// Target is a server with recovery in the channels of namespace bench, where anybody may subscribe and publish. An
	// empty URL starts the own binary's with them, and with small buffers, so that clients that do not read are soon evicted.
	Target Target
	// Publishers share the channels among them. Zero means 4.
	Publishers int
	// Channels. Zero means 20.
	Channels int
	// Rate is how many messages they publish, in all, per second. Zero means 1,000.
	Rate int
	// Subscribers are clients. Zero means 300.
	Subscribers int
	// Subscriptions of each. Zero means 2.
	Subscriptions int
	// Duration of the publishing. Zero means 60 s. It goes on until there are enough deliveries, five times as long at most.
	Duration time.Duration
	// Deliveries that must have been checked. Zero means 1,000,000.
	Deliveries int64
	// Stay is how long a client stays connected, on average. Zero means 5 s.
	Stay time.Duration
	// Away is how long it is gone at most. Zero means 500 ms.
	Away time.Duration
	// Slow is how long a client stops reading, so that it is evicted. Zero means 3 s.
	Slow time.Duration
	// MessageBytes is the size of a publication's data. Zero means 256.
	MessageBytes int
	// Protobuf instead of JSON.
	Protobuf bool
}

func (c LossConfig) withDefaults() LossConfig {
	c.Publishers, c.Channels, c.Rate = cmp.Or(c.Publishers, 4), cmp.Or(c.Channels, 20), cmp.Or(c.Rate, 1000)
	c.Subscribers, c.Subscriptions = cmp.Or(c.Subscribers, 300), cmp.Or(c.Subscriptions, 2)
	c.Duration, c.Deliveries = cmp.Or(c.Duration, time.Minute), cmp.Or(c.Deliveries, 1_000_000)
	c.Stay, c.Away, c.Slow = cmp.Or(c.Stay, 5*time.Second), cmp.Or(c.Away, 500*time.Millisecond), cmp.Or(c.Slow, 3*time.Second)
	c.MessageBytes = cmp.Or(c.MessageBytes, 256)
	return c
}

func (c LossConfig) validate() error {
	if c.Subscriptions > c.Channels || c.Publishers > c.Channels {
		return fmt.Errorf("--channels %d: must not be less than --subscriptions and --publishers", c.Channels)
	}
	return nil
}

// LossReport is what Loss found.
type LossReport struct {
	Publishers    int           `json:"publishers"`
	Channels      int           `json:"channels"`
	Subscribers   int           `json:"subscribers"`
	Subscriptions int           `json:"subscriptions"` // of each
	Protobuf      bool          `json:"protobuf"`
	Duration      time.Duration `json:"duration_ns"` // of the publishing
	Published     int64         `json:"published"`

	LossCounts
	Reconnects map[string]int `json:"reconnects"` // by what ended the connection or, for "resubscribed", the subscription
	Failures   map[string]int `json:"failures"`
}

// LossCounts are what the subscribers have seen.
type LossCounts struct {
	Delivered   int64 `json:"delivered"`   // publications that were pushed
	Recovered   int64 `json:"recovered"`   // publications that came in the answer to a subscribe command
	Recoveries  int64 `json:"recoveries"`  // subscriptions that went on where they were
	Unrecovered int64 `json:"unrecovered"` // subscriptions of which the server said that it could not
	Skipped     int64 `json:"skipped"`     // publications that were missed by those, which therefore are not lost

	Lost       int64 `json:"lost"`       // publications that never came
	Doubled    int64 `json:"doubled"`    // that came twice
	Reordered  int64 `json:"reordered"`  // that came after a later one
	Mismatches int64 `json:"mismatches"` // of a number and the server's offset, or a changed epoch
	Changed    int64 `json:"changed"`    // publications whose data was not what was published
}

func (c *LossCounts) add(o *LossCounts) {
	c.Delivered += o.Delivered
	c.Recovered += o.Recovered
	c.Recoveries += o.Recoveries
	c.Unrecovered += o.Unrecovered
	c.Skipped += o.Skipped
	c.Lost += o.Lost
	c.Doubled += o.Doubled
	c.Reordered += o.Reordered
	c.Mismatches += o.Mismatches
	c.Changed += o.Changed
}

// Checked is how many publications the subscribers have looked at.
func (c *LossCounts) Checked() int64 { return c.Delivered + c.Recovered }

// Err says what the server must not have done, or nil.
func (c *LossCounts) Err() error {
	if c.Lost+c.Doubled+c.Reordered+c.Mismatches+c.Changed == 0 {
		return nil
	}
	return fmt.Errorf("%d publications lost, %d doubled, %d out of order, %d with a wrong offset or epoch, %d changed",
		c.Lost, c.Doubled, c.Reordered, c.Mismatches, c.Changed)
}

// lossFlags and lossHistory are the own server's: a client that does not read is evicted after a second or so, and who comes back
// within half a minute recovers all.
var lossFlags = []string{
	"--send-buffer-bytes=4096", "--outbox-messages=64", "--outbox-bytes=4194304", "--max-recovered=4096",
	"--ping-interval=5s", "--pong-timeout=4s",
}

const lossHistory = 4096

// loss is a run.
type loss struct {
	// Immutable after newLoss.
	config   LossConfig
	dialect  *dialect
	channels []*numberedChannel

	// Any goroutine (atomic).
	checked atomic.Int64

	// Closed by the goroutine that runs it.
	draining chan struct{} // nothing more is published

	// Guarded by mu.
	mu         sync.Mutex
	reconnects map[string]int
	failures   map[string]int
}

// numberedChannel is a channel whose messages are numbered from 1 by its one publisher.
type numberedChannel struct {
	name      string
	published atomic.Uint64 // the last number that the server has accepted
}

// Loss proves that nothing is lost: publishers number their messages, and subscribers, which are cut off, stop reading, and
// come and go all the time, must have seen each number of their channels once and in order when all is over.
func Loss(ctx context.Context, c LossConfig) (r LossReport, err error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return r, err
	}
	c.Target.Config, c.Target.Flags = benchNamespace(lossHistory, false), lossFlags
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, centrifugePath); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	publisher, err := newAPI(c.Target)
	if err != nil {
		return r, err
	}
	defer publisher.close()
	p, err := newPoller()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	d, err := c.Target.newDialect(ctx, p, inOptions(c.Protobuf))
	if err != nil {
		return r, err
	}
	d.receiveBuffer = 4096
	l := &loss{
		config: c, dialect: d, draining: make(chan struct{}),
		reconnects: map[string]int{}, failures: map[string]int{},
	}
	for n := range c.Channels {
		l.channels = append(l.channels, &numberedChannel{name: fmt.Sprintf("bench:%x-%d", time.Now().UnixNano(), n)})
	}
	r = LossReport{
		Publishers: c.Publishers, Channels: c.Channels, Subscribers: c.Subscribers, Subscriptions: c.Subscriptions, Protobuf: c.Protobuf,
	}
	err = l.run(ctx, publisher, &r)
	r.Reconnects, r.Failures = l.reconnects, l.failures
	return r, err
}

// run lets the subscribers come, then the publishers publish, and in the end all have what there was.
func (l *loss) run(ctx context.Context, publisher *api, r *LossReport) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var subscribers sync.WaitGroup
	var followers []*follower
	first := make(chan struct{}, l.config.Subscribers) // once for each, when it is subscribed
	for n := range l.config.Subscribers {
		f := l.newFollower(n)
		followers = append(followers, f)
		subscribers.Go(func() { f.live(ctx, first) })
	}
	for range followers {
		select {
		case <-first:
		case <-time.After(30 * time.Second):
			cancel(errors.New("not all subscribers could subscribe"))
		case <-ctx.Done():
		}
	}
	begin := time.Now()
	l.publishAll(ctx, cancel, publisher)
	r.Duration = time.Since(begin)
	close(l.draining)
	subscribers.Wait()
	awaitEmpty(l.dialect.poller)
	for _, c := range l.channels {
		r.Published += int64(c.published.Load())
	}
	for _, f := range followers {
		f.settle()
		r.add(&f.counts)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if r.Checked() < l.config.Deliveries {
		return fmt.Errorf("only %d of %d deliveries were checked in %v", r.Checked(), l.config.Deliveries, r.Duration.Round(time.Second))
	}
	return nil
}

// publishAll publishes until it has been long enough and enough was checked.
func (l *loss) publishAll(ctx context.Context, fail context.CancelCauseFunc, publisher *api) {
	begin := time.Now()
	over := func() bool {
		elapsed := time.Since(begin)
		return ctx.Err() != nil || elapsed >= 5*l.config.Duration || elapsed >= l.config.Duration && l.checked.Load() >= l.config.Deliveries
	}
	var publishers sync.WaitGroup
	for k := range l.config.Publishers {
		publishers.Go(func() {
			if err := l.publish(ctx, publisher, k, over); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	publishers.Wait()
}

// publish is one publisher, at its part of the rate, with its part of the channels: number k and every so many after it.
func (l *loss) publish(ctx context.Context, publisher *api, k int, over func() bool) error {
	var own []*numberedChannel
	for n := k; n < len(l.channels); n += l.config.Publishers {
		own = append(own, l.channels[n])
	}
	rate := float64(l.config.Rate) / float64(l.config.Publishers)
	begin := time.Now()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for sent := 0; !over(); <-ticker.C {
		for ; sent < int(time.Since(begin).Seconds()*rate) && !over(); sent++ {
			c := own[sent%len(own)]
			n := c.published.Load() + 1
			offset, err := publisher.publish(ctx, c.name, c.data(n, l.config.MessageBytes))
			if err != nil {
				return err
			}
			if c.published.Store(n); offset != n {
				return fmt.Errorf("the server says that publication %d of a channel has offset %d", n, offset)
			}
		}
	}
	return nil
}

// data is the channel's publication n.
func (c *numberedChannel) data(n uint64, size int) []byte {
	return numbered(n, size) // the same in all channels: the push says which it is
}

// note counts why a connection, or a subscription, had to be made again.
func (l *loss) note(cause string) {
	l.mu.Lock()
	l.reconnects[cause]++
	l.mu.Unlock()
}

func (l *loss) fail(err error) {
	l.mu.Lock()
	l.failures[err.Error()]++
	l.mu.Unlock()
}

// between is a random time, of which mean is what its name says, and never more than four times that.
func between(mean time.Duration) time.Duration {
	return time.Duration(min(rand.ExpFloat64(), 4) * float64(mean))
}
