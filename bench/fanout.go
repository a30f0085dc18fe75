package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Fanout measures deliveries to many subscribers of few channels: at a rate of publications, with the time each took
// to come, and then, unless NoBare, what a delivery costs the server beside a loop that knows nothing but send(2),
// one publication at a time and queued.
type Fanout struct {
	// Channels that the subscribers share. Zero means 1.
	Channels int
	// Publishers publish at the same time. Zero means 1.
	Publishers int
	// Queue publishes so many in each channel as fast as the server takes them, waits until all have them, and does
	// that again, instead of a rate. Zero means a rate.
	Queue int
	// NoBare leaves the yardstick out.
	NoBare bool
	// Messages are published in each run beside the yardstick. Zero means 20.
	Messages int
}

// Name implements Scenario.
func (Fanout) Name() string { return "fanout" }

// fanoutWarmUp is how many messages come first beside the yardstick, and are not counted; fanoutPairs is how often both
// are measured, unless --compare says it.
const (
	fanoutWarmUp = 5
	fanoutPairs  = 7
)

// Prepare implements Scenario.
func (f Fanout) Prepare(o *Options) error {
	o.Connections, o.Duration, o.Warmup = cmp.Or(o.Connections, 15_000), cmp.Or(o.Duration, 10*time.Second), cmp.Or(o.Warmup, time.Second)
	err := errors.Join(
		channelScenario("fanout", o, 100, false, "warmup", "rate", "compare"),
		atLeast("channels", f.Channels, 0), atLeast("publishers", f.Publishers, 0), atLeast("queue", f.Queue, 0), atLeast("messages", f.Messages, 0),
	)
	if f.Channels > o.Connections {
		err = errors.Join(err, fmt.Errorf("--channels %d: want at most --connections, so that each has a subscriber", f.Channels))
	}
	if f.Queue > 0 && o.Rate > 0 {
		err = errors.Join(err, errors.New("--queue, --rate: one or the other"))
	}
	if f.NoBare && o.Compare > 0 {
		err = errors.Join(err, errBareOrNot)
	}
	if !f.NoBare {
		o.Target.Flags = []string{"--ping-interval=-1s"} // the yardstick has no heartbeats
	}
	if o.Rate == 0 && f.Queue == 0 {
		o.Rate = max(30_000/float64(o.Connections), 1) * float64(max(f.Channels, 1))
	}
	return err
}

// fanning is a run of Fanout.
type fanning struct {
	Fanout
	run       *Run
	api       *api
	server    *audience
	bare      *audience // nil without
	bareGauge gauge
	stopBare  func() error // nil without
}

// Run implements Scenario.
func (f Fanout) Run(ctx context.Context, r *Run) (err error) {
	f.Channels, f.Publishers, f.Messages = cmp.Or(f.Channels, 1), cmp.Or(f.Publishers, 1), cmp.Or(f.Messages, 20)
	publisher, err := newAPI(r.Target, r.Options.timeout())
	if err != nil {
		return err
	}
	defer publisher.close()
	n := &fanning{Fanout: f, run: r, api: publisher}
	if n.server, err = r.summon(ctx, n.summoned(r.Target)); err != nil {
		return err
	}
	n.server.publishBy(publisher, f.Publishers)
	r.stage("subscribing")
	if err = n.server.subscribe(ctx); err == nil {
		err = n.load(ctx)
	}
	if err == nil && !f.NoBare {
		err = n.compare(ctx)
	}
	v, err2 := n.server.settle(ctx, n.server.press)
	r.judged(v)
	return errors.Join(err, err2, n.endBare(ctx))
}

func (n *fanning) summoned(t Target) summoned {
	return summoned{
		target: t, connections: n.run.Options.Connections, publishers: n.Publishers,
		crowdConfig: crowdConfig{Channels: n.Channels, Each: 1, Positions: true},
	}
}

// load publishes at the rate, or in queues, and measures that.
func (n *fanning) load(ctx context.Context) error {
	r, s := n.run, n.server
	r.stage("warming up")
	if err := n.publish(ctx, r.Options.Warmup); err != nil {
		return err
	}
	if err := s.order(ctx, "reset", nil); err != nil {
		return err
	}
	if _, err := r.take(s.crew); err != nil {
		return err
	}
	r.recording()
	r.stage("publishing")
	before := s.press.sum()
	m, err := r.mark(ctx, r.Target.gauge())
	if err != nil {
		return err
	}
	err = n.publish(ctx, r.Options.Duration)
	c, err2 := m.costs(context.WithoutCancel(ctx))
	t, err3 := r.take(s.crew)
	r.deliveries(t, c)
	r.Report.Add(report.Figure{
		Name: "publications/s", Value: float64(s.press.sum()-before) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "that the API accepted",
	})
	return errors.Join(err, err2, err3)
}

// publish publishes for as long as d, and waits until all have all of it.
func (n *fanning) publish(ctx context.Context, d time.Duration) error {
	s := n.server
	if n.Queue == 0 {
		err := s.press.pace(ctx, d, steadily(n.run.Options.Rate))
		if err == nil {
			err = s.await(ctx, false)
		}
		return err
	}
	for begin := time.Now(); time.Since(begin) < d; {
		if err := s.press.flood(ctx, n.Queue); err != nil {
			return err
		}
		if err := s.await(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

// The kinds of runs beside the yardstick.
const (
	fanoutSingle = "one at a time" // a message is published when all have received the one before
	fanoutQueued = "queued"        // all are published as fast as the server takes them
)

// compare measures the server and the yardstick in turn.
func (n *fanning) compare(ctx context.Context) error {
	r := n.run
	if why := r.noYardstick(ctx); why != "" && r.Options.Compare > 0 {
		return errors.New("--compare: " + why)
	} else if why != "" {
		r.Report.Add(report.Figure{Name: "x-of-bare", Unit: "x", Text: "the server's CPU per delivery over that of a bare send(2) loop", Missing: why})
		return nil
	}
	r.Options.Compare = cmp.Or(r.Options.Compare, fanoutPairs)
	bare, stop, err := startPrinting(ctx, "the bare loop", "bench", "bare-fan-server")
	if err != nil {
		return err
	}
	n.stopBare = stop
	r.stage("connecting to the bare loop")
	if err := n.startBare(ctx, bare); err != nil {
		return err
	}
	for _, a := range []*audience{n.server, n.bare} {
		if err := n.measured(ctx, a, fanoutWarmUp, fanoutSingle, nil); err != nil {
			return err
		}
	}
	for _, kind := range []string{fanoutSingle, fanoutQueued} {
		if err := n.pairs(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

// startBare connects as many to the yardstick, which sends all to all, and one that publishes.
func (n *fanning) startBare(ctx context.Context, t Target) (err error) {
	r := n.run
	s := n.summoned(t)
	n.bareGauge = t.gauge()
	s.Channels, s.publishers, s.Bare, s.Positions = 1, 1, true, false
	if n.bare, err = r.summon(ctx, s); err != nil {
		return err
	}
	if err := n.bare.subscribe(ctx); err != nil {
		return err
	}
	publisher, err := dialBare(ctx, t, &r.Options)
	if err == nil {
		n.bare.press = newPress(nil, n.bare.config.Prefix, 1, 1, r.Options.Size)
		n.bare.press.bare = publisher
	}
	return err
}

// endBare judges the yardstick, too, and ends it.
func (n *fanning) endBare(ctx context.Context) (err error) {
	if n.bare != nil && n.bare.press != nil {
		var v verdict
		if v, err = n.bare.settle(ctx, n.bare.press); v.err() != nil {
			err = errors.Join(err, fmt.Errorf("the bare loop: %w", v.err()))
		}
		n.bare.press.bare.close()
	}
	if n.stopBare != nil {
		err = errors.Join(err, n.stopBare())
	}
	return err
}

// pairs measures both in turn.
func (n *fanning) pairs(ctx context.Context, kind string) error {
	r := n.run
	var ratios, server, yardstick []float64
	for i := range r.Options.Compare {
		r.stage("beside the bare loop, %s, %d of %d", kind, i+1, r.Options.Compare)
		var a, b float64
		if err := n.measured(ctx, n.server, n.Messages, kind, &a); err != nil {
			return err
		}
		if err := n.measured(ctx, n.bare, n.Messages, kind, &b); err != nil {
			return err
		}
		server, yardstick, ratios = append(server, a), append(yardstick, b), append(ratios, a/b)
	}
	suffix, limit := "", "x-of-bare>1.1x"
	if kind == fanoutQueued {
		suffix, limit = "-queued", "x-of-bare-queued>=1x"
	}
	var budget *report.Limit
	if r.Options.Connections >= 1000 { // with few, what else the server does shows
		budget = report.MustLimit(limit)
	}
	r.addMedian(report.Figure{
		Name: "x-of-bare" + suffix, Unit: "x", Samples: ratios, Budget: budget,
		Text: "the server's CPU per delivery over that of a bare send(2) loop, publications " + kind + ": the median of the pairs",
	})
	r.addMedian(report.Figure{Name: "cpu-us/delivery" + suffix + "-beside", Unit: "us", Samples: server, Text: "the server's CPU for each delivery then"})
	r.addMedian(report.Figure{Name: "bare-cpu-us/delivery" + suffix, Unit: "us", Samples: yardstick, Text: "the bare loop's"})
	return nil
}

// measured publishes messages in each channel, and adds the server's CPU time for a delivery, in microseconds.
func (n *fanning) measured(ctx context.Context, a *audience, messages int, kind string, perDelivery *float64) error {
	atOnce := 1
	if kind == fanoutQueued {
		atOnce = messages
	}
	before := a.press.sum()
	m, err := n.run.mark(ctx, n.gauge(a))
	if err != nil {
		return err
	}
	for sent := 0; sent < messages; sent += atOnce {
		if err := a.press.flood(ctx, atOnce); err != nil {
			return err
		}
		if err := a.await(ctx, true); err != nil {
			return err
		}
	}
	_ = sleep(ctx, 20*time.Millisecond) // for what the server does when all is sent
	c, err := m.costs(ctx)
	if perDelivery != nil {
		subscribers := float64(n.run.Options.Connections) / float64(a.config.Channels)
		*perDelivery = c.server.Seconds() * 1e6 / (float64(a.press.sum()-before) * subscribers)
	}
	return err
}

// gauge is that of an audience's server.
func (n *fanning) gauge(a *audience) gauge {
	if a == n.bare {
		return n.bareGauge
	}
	return n.run.Target.gauge()
}
