package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Echo measures what a message costs the server that sends it back. Without a rate it is a closed loop: each connection
// waits for its answers, so the latencies are those of a server that is not overrun. With one, latencies count from
// when a message was due.
type Echo struct {
	// Depth is how many messages each sends before it waits for all of them. Zero means 1.
	Depth int
	// NoBare leaves the yardstick out, beside which a server on loopback is measured whose CPU is known.
	NoBare bool
}

// Name implements Scenario.
func (Echo) Name() string { return "echo" }

// Prepare implements Scenario.
func (e Echo) Prepare(o *Options) error {
	o.Connections = cmp.Or(o.Connections, 100)
	o.Duration, o.Warmup = cmp.Or(o.Duration, 10*time.Second), cmp.Or(o.Warmup, time.Second)
	err := errors.Join(
		o.Speak(e.Name(), ProtocolEcho, ProtocolRaw),
		o.Allow(e.Name(), "duration", "warmup", "rate", "size", "compare", "connect-rate", "ramp", "processes"),
	)
	o.Size = cmp.Or(o.Size, 64)
	switch {
	case e.Depth < 0 || e.Depth > 1<<16:
		err = errors.Join(err, fmt.Errorf("--depth %d: want 1 to %d", e.Depth, 1<<16))
	case e.Depth > 1 && o.Rate > 0:
		err = errors.Join(err, errors.New("--depth, --rate: one or the other: a rate is of single messages"))
	case e.Depth > 1 && o.Protocol == ProtocolRaw:
		err = errors.Join(err, errors.New("--depth: not with --protocol raw"))
	}
	if o.Protocol == ProtocolRaw && o.Raw.Message == "" {
		err = errors.Join(err, errors.New("--raw-message: bench echo has to send something"))
	}
	if e.NoBare && o.Compare > 0 {
		err = errors.Join(err, errBareOrNot)
	}
	return err
}

// echoed is one measurement.
type echoed struct {
	tally
	costs
}

// perMessage is the server's CPU time for a message, in seconds.
func (e echoed) perMessage() float64 {
	return e.server.Seconds() / float64(max(e.Counts[countBack], 1))
}

// errBareOrNot is that both were asked for.
var errBareOrNot = errors.New("--compare, --no-bare: one or the other")

// Run implements Scenario.
func (e Echo) Run(ctx context.Context, r *Run) error {
	besides, err := e.besides(ctx, r)
	if err != nil {
		return err
	}
	if besides {
		return e.compare(ctx, r)
	}
	m, err := (&echoRun{e, r, r.Target, "the server", r.Options.Duration, r.take}).measure(ctx)
	e.figures(r, m, nil)
	return err
}

// echoRun is one measurement to be made.
type echoRun struct {
	Echo
	run    *Run
	target Target
	name   string
	d      time.Duration
	take   func(*crew) (tally, error)
}

// measure opens connections to the target, lets them send for as long as d, and closes them.
func (e *echoRun) measure(ctx context.Context) (m echoed, err error) {
	r := e.run
	c, err := r.newCrew(ctx, crewPlan{
		job: "load", target: e.target, connections: r.Options.Connections, config: loadConfig{Depth: e.Depth, Greet: true},
	})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, r.dismiss(c)) }()
	r.stage("connecting to %s", e.name)
	if _, err = c.order(ctx, "open", openArgs{}); err != nil {
		return m, err
	}
	r.stage("warming up %s", e.name)
	if err = e.warmUp(ctx, r, c); err != nil {
		return m, err
	}
	before, err := e.take(c)
	if err != nil {
		return m, err
	}
	r.recording()
	r.stage("measuring %s", e.name)
	from, err := r.mark(ctx, e.target.gauge())
	if err != nil {
		return m, err
	}
	if r.Options.Rate > 0 {
		_, err = c.order(ctx, "pace", paceArgs{Rate: r.Options.Rate, For: e.d})
	} else {
		err = sleep(ctx, e.d)
	}
	var err2, err3, err4, err5 error
	m.costs, err2 = from.costs(context.WithoutCancel(ctx))
	m.tally, err3 = e.take(c)
	if r.Options.Rate == 0 {
		_, err4 = c.order(ctx, "rest", nil) // what is still under way must come, but is not counted
	}
	after, err5 := e.take(c)
	for _, name := range []string{countLost, countJammed} { // of the warm-up, too
		m.Counts[name] += before.Counts[name] + after.Counts[name]
	}
	return m, errors.Join(err, err2, err3, err4, err5)
}

// warmUp runs the load for a while, of which nothing is counted.
func (e Echo) warmUp(ctx context.Context, r *Run, c *crew) (err error) {
	if r.Options.Rate > 0 {
		_, err = c.order(ctx, "pace", paceArgs{Rate: r.Options.Rate, For: r.Options.Warmup})
	} else if _, err = c.order(ctx, "again", nil); err == nil {
		err = sleep(ctx, r.Options.Warmup)
	}
	_, err2 := c.order(ctx, "reset", nil)
	return errors.Join(err, err2)
}

// figures adds what was found; perMessage is the server's CPU for a message in each of several runs.
func (e Echo) figures(r *Run, m echoed, perMessage []float64) {
	n := m.Counts[countBack]
	r.Report.Add(report.Figure{
		Name: "messages/s", Value: float64(n) / max(m.took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "messages that came back",
	})
	of := "a round trip"
	if e.Depth > 1 {
		of = fmt.Sprintf("a round trip of %d messages", e.Depth)
	}
	r.latencyFigures(m.Latencies[roundTrip], "", of)
	r.costFigures(m.costs, n, "message", perMessage...)
	r.Report.Add(report.Figure{
		Name: countLost, Value: float64(m.Counts[countLost]), Budget: report.MustLimit("lost>0"), Text: "messages that never came back, the warm-up's among them",
	})
	r.paceFigures(m.tally)
}

// slept sleeps, and reports whether it was for as long as d.
func slept(ctx context.Context, d time.Duration) bool { return sleep(ctx, d) == nil }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
