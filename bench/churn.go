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

// Churn measures what clients that come and go do to those who stay: their latencies without and with the others,
// what is lost, and what the server keeps of those who left.
type Churn struct {
	// Channels that all share. Zero means 20.
	Channels int
	// Visits begin in a second. Zero means 200.
	Visits float64
	// Stay is how long a visitor stays, on average. Zero means 2 s.
	Stay time.Duration
	// Settle is how long the server has to give memory back. Zero means 4 s.
	Settle time.Duration
}

// Name implements Scenario.
func (Churn) Name() string { return "churn" }

// Prepare implements Scenario.
func (c Churn) Prepare(o *Options) error {
	o.Connections, o.Duration, o.Warmup = cmp.Or(o.Connections, 2000), cmp.Or(o.Duration, 20*time.Second), cmp.Or(o.Warmup, time.Second)
	o.Rate = cmp.Or(o.Rate, 100)
	err := errors.Join(channelScenario("churn", o, 1000, false, "warmup", "rate"), atLeast("channels", c.Channels, 0))
	if c.Channels > o.Connections {
		err = errors.Join(err, fmt.Errorf("--channels %d: want at most --connections, so that each has a subscriber", c.Channels))
	}
	if !(c.Visits >= 0 && c.Visits <= 1e6) || c.Stay < 0 || c.visitors() > maxConnections {
		err = errors.Join(err, errors.New("--visits, --stay: want less"))
	}
	return err
}

// visitors is how many connections visits take: one may stay four times as long as the mean.
func (c Churn) visitors() int {
	return int(cmp.Or(c.Visits, 200)*cmp.Or(c.Stay, 2*time.Second).Seconds()*2) + 10
}

// Run implements Scenario.
func (c Churn) Run(ctx context.Context, r *Run) (err error) {
	c.Channels, c.Visits, c.Stay = cmp.Or(c.Channels, 20), cmp.Or(c.Visits, 200), cmp.Or(c.Stay, 2*time.Second)
	c.Channels = min(c.Channels, r.Options.Connections)
	publisher, err := newAPI(r.Target, r.Options.timeout())
	if err != nil {
		return err
	}
	defer publisher.close()
	s := &churning{Churn: c, run: r}
	if err = s.summon(ctx, publisher); err != nil {
		return err
	}
	err = s.measure(ctx)
	v, err2 := s.stayers.settle(ctx, s.stayers.press)
	w, err3 := s.visitors.settle(ctx, s.stayers.press)
	v.add(w)
	r.judged(v)
	return errors.Join(err, err2, err3)
}

// churning is a run of Churn.
type churning struct {
	Churn
	run               *Run
	stayers, visitors *audience
}

func (s *churning) summon(ctx context.Context, publisher *api) (err error) {
	r := s.run
	config := crowdConfig{Channels: s.Channels, Each: 1, Positions: true}
	if s.stayers, err = r.summon(ctx, summoned{target: r.Target, connections: r.Options.Connections, publishers: 1, crowdConfig: config}); err != nil {
		return err
	}
	s.stayers.publishBy(publisher, min(4, s.Channels))
	config.Prefix, config.Visitors, config.VisitRate, config.Behaviour.Stay = s.stayers.config.Prefix, true, s.Visits, s.Stay
	guests := summoned{target: r.Target, connections: s.Churn.visitors(), publishers: 1, crowdConfig: config}
	if s.visitors, err = r.summon(ctx, guests); err != nil {
		return err
	}
	r.stage("subscribing")
	if err = s.stayers.subscribe(ctx); err == nil {
		err = s.visitors.order(ctx, "publishing", nil)
	}
	return err
}

// measure publishes without and with visitors.
func (s *churning) measure(ctx context.Context) error {
	r := s.run
	r.stage("warming up")
	if err := s.stayers.press.pace(ctx, r.Options.Warmup, steadily(r.Options.Rate)); err != nil {
		return err
	}
	r.recording()
	r.stage("publishing without visitors")
	alone, _, err := s.phase(ctx)
	if err != nil {
		return err
	}
	if d := alone.Latencies[delivering]; d != nil {
		d.Name = "delivery without visitors"
		r.latencyFigures(d, "without-", "from when a publication was due until one who stays had it, without visitors")
	}
	before, err := r.Target.gauge().use(ctx)
	if err != nil {
		return err
	}
	visiting, leave := context.WithCancel(ctx)
	defer leave()
	var others sync.WaitGroup
	var failed error
	others.Go(func() { failed = s.visitors.order(visiting, "visit", json.RawMessage("null")) })
	r.stage("publishing while visitors come and go")
	t, c, err := s.phase(ctx)
	leave()
	others.Wait()
	r.deliveries(t, c)
	v, err2 := r.take(s.visitors.crew)
	r.Report.Add(
		report.Figure{Name: "visits/s", Value: float64(v.Counts[countVisits]) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "visitors that came and subscribed"},
		report.Figure{Name: "visits-missed", Value: float64(v.Counts[countMissed]), Text: "visits that were due, and no connection was free"},
	)
	r.latencyFigures(v.Latencies[subscribing], "visit-", "from when a visitor connected until it was subscribed")
	return errors.Join(err, err2, failed, s.after(ctx, before))
}

// phase publishes for the duration, and waits until those who stay have all.
func (s *churning) phase(ctx context.Context) (t tally, c costs, err error) {
	r := s.run
	if err = s.stayers.order(ctx, "reset", nil); err != nil {
		return t, c, err
	}
	if _, err = r.take(s.stayers.crew); err != nil {
		return t, c, err
	}
	m, err := r.mark(ctx, r.Target.gauge())
	if err != nil {
		return t, c, err
	}
	err = s.stayers.press.pace(ctx, r.Options.Duration, steadily(r.Options.Rate))
	if err == nil {
		err = s.stayers.await(ctx, false)
	}
	c, err2 := m.costs(context.WithoutCancel(ctx))
	t, err3 := r.take(s.stayers.crew)
	return t, c, errors.Join(err, err2, err3)
}

// after measures what the server keeps when the visitors have left.
func (s *churning) after(ctx context.Context, before usage) error {
	s.run.stage("after the visitors left")
	if err := s.visitors.order(ctx, "disperse", nil); err != nil {
		return err
	}
	if err := sleep(ctx, cmp.Or(s.Settle, 4*time.Second)); err != nil {
		return err
	}
	u, err := s.run.Target.gauge().use(ctx)
	s.run.serverFigure(report.Figure{
		Name: "bytes-afterwards", Value: float64(u.RSS - before.RSS), Unit: "B", Text: "that the server had over the beginning after the visitors left",
	}, s.run.Target.gauge().visible())
	return err
}
