package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Recover proves that nothing is lost: publishers number their messages, and subscribers, which are cut off, stop
// reading, and come and go all the time, must have seen each number of their channels once and in order when all is
// over. The own server has small buffers, so that clients that do not read are soon cut off.
type Recover struct {
	// Publishers share the channels among them. Zero means 4.
	Publishers int
	// Channels. Zero means 20.
	Channels int
	// Subscriptions of each client. Zero means 2.
	Subscriptions int
	// Deliveries that must have been checked: for want of them it goes on up to five times as long. Zero means
	// 1,000,000.
	Deliveries int64
	// Stay is how long a client stays as it is, on average. Zero means 5 s.
	Stay time.Duration
	// Away is how long it is gone at most. Zero means 500 ms.
	Away time.Duration
	// Slow is how long a client stops reading, so that it is cut off. Zero means 3 s.
	Slow time.Duration
	// Overdue is how late a publication may come to a client that is there and reads. Zero means 3 s.
	Overdue time.Duration
}

// Name implements Scenario.
func (Recover) Name() string { return "recover" }

func (c Recover) withDefaults() Recover {
	c.Publishers, c.Channels, c.Subscriptions = cmp.Or(c.Publishers, 4), cmp.Or(c.Channels, 20), cmp.Or(c.Subscriptions, 2)
	c.Deliveries = cmp.Or(c.Deliveries, 1_000_000)
	c.Stay, c.Away, c.Slow = cmp.Or(c.Stay, 5*time.Second), cmp.Or(c.Away, 500*time.Millisecond), cmp.Or(c.Slow, 3*time.Second)
	return c
}

// A client of the own server that does not read is cut off after a second or so, and who comes back within half a
// minute recovers all.
var recoverFlags = []string{
	"--send-buffer-bytes=4096", "--outbox-messages=64", "--outbox-bytes=4194304", "--max-recovered=4096",
	"--ping-interval=5s", "--pong-timeout=4s",
}

const recoverHistory = 4096

// Prepare implements Scenario.
func (c Recover) Prepare(o *Options) error {
	c = c.withDefaults()
	o.Connections, o.Duration, o.Size = cmp.Or(o.Connections, 300), cmp.Or(o.Duration, time.Minute), cmp.Or(o.Size, 256)
	o.Rate = cmp.Or(o.Rate, 1000)
	o.Target.Flags = recoverFlags
	err := errors.Join(
		channelScenario("recover", o, recoverHistory, false, "rate"),
		atLeast("publishers", c.Publishers, 1), atLeast("channels", c.Channels, 1), atLeast("subscriptions", c.Subscriptions, 1),
	)
	if c.Subscriptions > c.Channels || c.Publishers > c.Channels {
		err = errors.Join(err, fmt.Errorf("--channels %d: must not be less than --subscriptions and --publishers", c.Channels))
	}
	return err
}

// Run implements Scenario.
func (c Recover) Run(ctx context.Context, r *Run) (err error) {
	c = c.withDefaults()
	publisher, err := newAPI(r.Target, r.Options.timeout())
	if err != nil {
		return err
	}
	defer publisher.close()
	a, err := r.summon(ctx, summoned{target: r.Target, connections: r.Options.Connections, publishers: c.Publishers, crowdConfig: crowdConfig{
		Channels: c.Channels, Each: c.Subscriptions, Positions: true, ReadBuffer: 4096, Overdue: cmp.Or(c.Overdue, 3*time.Second),
		Behaviour: Behaviour{Stay: c.Stay, Away: c.Away, SlowFor: c.Slow, Reset: 1, FIN: 1, Close: 1, Slow: 1, Moves: 1},
	}})
	if err != nil {
		return err
	}
	a.publishBy(publisher, c.Publishers)
	r.stage("subscribing")
	if err = a.subscribe(ctx); err != nil {
		v, _ := a.settle(ctx, a.press)
		r.judged(v)
		return err
	}
	r.recording()
	took, err := a.restless(ctx, "publishing, while clients are cut off and come back", func(ctx context.Context) error { return c.publish(ctx, a) })
	v, err2 := a.settle(ctx, a.press)
	r.judged(v)
	r.returned(v)
	r.Report.Add(
		report.Figure{Name: "checked", Value: float64(v.Counts.Checked()), Text: "deliveries, pushed or recovered", Higher: true, Join: report.Sum},
	)
	r.published(a.press, took)
	if err == nil && v.Counts.Checked() < c.Deliveries && ctx.Err() == nil {
		err = fmt.Errorf("only %d of %d deliveries were checked in %v", v.Counts.Checked(), c.Deliveries, took.Round(time.Second))
	}
	return errors.Join(err, err2)
}

// restless publishes while the audience does what it does, and returns when all have come back and have all that
// there was.
func (a *audience) restless(ctx context.Context, stage string, publish func(context.Context) error) (took time.Duration, err error) {
	r := a.run
	behaving, calm := context.WithCancel(ctx)
	defer calm()
	var others sync.WaitGroup
	var failed error
	others.Go(func() { failed = a.order(behaving, "behave", json.RawMessage("null")) })
	r.stage("%s", stage)
	m, err := r.mark(ctx, r.Target.gauge())
	if err == nil {
		err = publish(ctx)
	}
	c, err2 := m.costs(context.WithoutCancel(ctx))
	calm()
	others.Wait()
	if err = errors.Join(err, err2, failed); err == nil {
		r.stage("all come back once more")
		err = a.order(ctx, "gather", json.RawMessage("null"))
	}
	if err == nil {
		err = a.await(ctx, false)
	}
	t, err2 := r.take(a.crew)
	r.deliveries(t, c)
	return c.took, errors.Join(err, err2)
}

// publish publishes until it has been long enough and enough was checked.
func (c Recover) publish(ctx context.Context, a *audience) error {
	r := a.run
	for part := range 5 {
		if err := a.press.pace(ctx, r.Options.Duration, steadily(r.Options.Rate)); err != nil {
			return err
		}
		t, err := a.crew.collect(false)
		if err != nil || t.Counts[countBack] >= c.Deliveries {
			return err
		}
		r.stage("publishing, part %d of at most 5: %d of %d deliveries", part+2, t.Counts[countBack], c.Deliveries)
	}
	return nil
}
