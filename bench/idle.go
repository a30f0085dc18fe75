package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Idle measures what an open, idle connection costs the server: with --protocol echo after one message each, else after
// the login.
type Idle struct {
	// Rounds of connecting, holding and leaving. Zero means 1.
	Rounds int
	// Settle is how long the server has after a round to give memory back. Zero means 4 s.
	Settle time.Duration
}

// Name implements Scenario.
func (Idle) Name() string { return "idle" }

// Prepare implements Scenario.
func (i Idle) Prepare(o *Options) error {
	o.Connections, o.Duration = cmp.Or(o.Connections, 15_000), cmp.Or(o.Duration, 5*time.Second)
	err := errors.Join(
		o.Speak(i.Name(), ProtocolEcho, ProtocolPlain, ProtocolJSON, ProtocolProtobuf, ProtocolRaw),
		o.Allow(i.Name(), "duration", "size", "connect-rate", "ramp", "processes"),
	)
	if o.Size != 0 && o.Protocol != ProtocolEcho {
		err = errors.Join(err, errors.New("--size: bench idle sends messages with --protocol echo only"))
	}
	if o.Protocol == ProtocolRaw && o.Raw.Message != "" {
		err = errors.Join(err, errors.New("--raw-message: bench idle sends nothing but --raw-open"))
	}
	if i.Rounds < 0 || i.Rounds > 10_000 {
		err = errors.Join(err, fmt.Errorf("--rounds %d: want 1 to 10,000", i.Rounds))
	}
	o.Size = cmp.Or(o.Size, 64)
	return err
}

// idleRound is one round.
type idleRound struct {
	open        int64
	connecting  time.Duration // until the last was ready
	perConn     float64       // the server's memory, of each
	client      float64
	tcp, slab   float64 // the kernel's, of each
	held        costs
	afterwards  float64 // bytes over the beginning after they left
	with, after int     // goroutines
}

// Run implements Scenario.
func (i Idle) Run(ctx context.Context, r *Run) (err error) {
	s := &idling{Idle: i, run: r, server: r.Target.gauge()}
	// One connection comes and goes first, so that what is needed once is not counted.
	r.stage("one connection first")
	for range 2 { // the second says what a crew of one takes
		if err = s.first(ctx); err != nil {
			return err
		}
	}
	if s.base, err = s.server.use(ctx); err != nil {
		return err
	}
	if s.baseKernel, err = kernelUse(r.Target.PID); err != nil {
		return err
	}
	r.stage("measuring without connections")
	without, err := s.hold(ctx, min(r.Options.Duration, maxWithout))
	if err != nil {
		return err
	}
	r.recording()
	for n := range cmp.Or(i.Rounds, 1) {
		round, e := s.round(ctx, n)
		s.rounds = append(s.rounds, round)
		if err = e; err != nil || ctx.Err() != nil {
			break
		}
	}
	s.figures(without)
	return err
}

// idling is a run of Idle.
type idling struct {
	Idle
	run        *Run
	server     gauge
	base       usage // with no connection, after one has come and gone
	baseKernel kernel
	fixed      float64 // what the load takes with one connection, in bytes
	rounds     []idleRound
	connect    *report.Distribution
}

func (s *idling) crew(ctx context.Context, n int) (*crew, error) {
	r := s.run
	return r.newCrew(ctx, crewPlan{
		job: "load", target: r.Target, connections: n, config: loadConfig{Greet: r.Options.Protocol == ProtocolEcho},
	})
}

// first lets one connection come and go.
func (s *idling) first(ctx context.Context) (err error) {
	c, err := s.crew(ctx, 1)
	if err != nil {
		return err
	}
	trim()
	_, before, err := s.run.own()
	if err == nil {
		_, err = c.order(ctx, "open", openArgs{})
	}
	if err == nil {
		_, err = c.order(ctx, "trim", nil)
	}
	_, after, err3 := s.run.own()
	s.fixed = float64(after - before)
	t, err2 := s.run.take(c)
	err = errors.Join(err, err3)
	if err = errors.Join(err, err2, s.run.dismiss(c)); err == nil && t.Counts[countOpen] == 0 {
		err = fmt.Errorf("the first connection of all failed: it spoke --protocol %s%s", s.run.Options.Protocol, map[bool]string{
			true: ", which wants a server that sends messages back",
		}[s.run.Options.Protocol == ProtocolEcho])
	}
	return err
}

// maxWithout is how long the server is measured without connections, however long these are held: what it takes then is
// steady.
const maxWithout = 10 * time.Second

// hold measures the server while nothing is done.
func (s *idling) hold(ctx context.Context, duration time.Duration) (costs, error) {
	m, err := s.run.mark(ctx, s.server)
	if err != nil {
		return costs{}, err
	}
	err = sleep(ctx, duration)
	c, err2 := m.costs(context.WithoutCancel(ctx))
	return c, errors.Join(err, err2)
}

// round opens all connections, holds them and lets them leave.
func (s *idling) round(ctx context.Context, number int) (d idleRound, err error) {
	r := s.run
	of := fmt.Sprintf("round %d of %d: ", number+1, cmp.Or(s.Rounds, 1))
	r.stage("%sconnecting", of)
	c, err := s.crew(ctx, r.Options.Connections)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.dismiss(c)) }()
	trim()
	_, own, err := r.own()
	if err != nil {
		return d, err
	}
	begin := time.Now()
	grown := s.grow(number)
	_, err = c.order(ctx, "open", openArgs{})
	grown()
	d.connecting = time.Since(begin)
	t, err2 := r.take(c)
	d.open = t.Counts[countOpen]
	if s.connect == nil {
		s.connect = t.Latencies[connecting]
	}
	if err = errors.Join(err, err2); err != nil {
		return d, err
	}
	r.stage("%sholding", of)
	if d.held, err = s.hold(ctx, r.Options.Duration); err != nil {
		return d, err
	}
	if _, err = c.order(ctx, "trim", nil); err != nil {
		return d, err
	}
	if err = s.weigh(&d, own); err != nil {
		return d, err
	}
	// Asking for the metrics costs the server megabytes, which must not count as the connections': so only when all
	// memory is measured, in the last round.
	last := number+1 >= cmp.Or(s.Rounds, 1)
	if last {
		d.with, err = goroutines(ctx, r.Target.Metrics)
	}
	r.stage("%sleaving", of)
	_, err2 = c.order(ctx, "leave", nil)
	_, err3 := r.take(c)
	if err = errors.Join(err, err2, err3); err != nil {
		return d, err
	}
	err = sleep(ctx, cmp.Or(s.Settle, 4*time.Second))
	u, err2 := s.server.use(context.WithoutCancel(ctx))
	d.afterwards = float64(u.RSS - s.base.RSS)
	if last && err == nil {
		d.after, err = goroutines(ctx, r.Target.Metrics)
	}
	return d, errors.Join(err, err2)
}

// weigh says what each connection has taken of memory.
func (s *idling) weigh(d *idleRound, own int64) error {
	n := float64(max(d.open, 1))
	_, now, err := s.run.own()
	if err != nil {
		return err
	}
	k, err := kernelUse(s.run.Target.PID)
	d.perConn, d.client = float64(d.held.rss-s.base.RSS)/n, (float64(now-own)-s.fixed)/max(n-1, 1)
	d.tcp, d.slab = float64(k.TCP-s.baseKernel.TCP)/n, float64(k.Slab-s.baseKernel.Slab)/n
	return err
}

// grow watches the server's memory as connections come, in the first round. The function that it returns ends that.
func (s *idling) grow(number int) (stop func()) {
	r := s.run
	if number > 0 || r.Target.PID == 0 {
		return func() {}
	}
	quit, over := make(chan struct{}), make(chan struct{})
	memory := report.Series{Name: "server", Plot: "Memory as connections grow", Unit: "B", X: "connections"}
	go func() {
		defer close(over)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			open := float64(r.openNow())
			now, err := rss(r.Target.PID)
			if n := len(memory.Points); err == nil && open > 0 && (n == 0 || memory.Points[n-1][0] < open) {
				memory.Points = append(memory.Points, [2]float64{open, float64(now - s.base.RSS)})
			}
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() {
		close(quit)
		<-over
		if len(memory.Points) > 0 {
			r.Report.Series = append(r.Report.Series, memory)
		}
	}
}

// openNow is how many connections are open.
func (r *Run) openNow() (n int64) {
	r.mu.Lock()
	crews := append([]*crew(nil), r.crews...)
	r.mu.Unlock()
	for _, c := range crews {
		if t, err := c.collect(false); err == nil {
			n += t.Counts[countOpen]
		}
	}
	return n
}

// figures adds what was found. Of several rounds the first one counts, with all as samples, but for what is left in the
// end.
func (s *idling) figures(without costs) {
	r := s.run
	if len(s.rounds) == 0 {
		return
	}
	of := func(f func(d idleRound) float64) (first float64, samples []float64) {
		for _, d := range s.rounds {
			samples = append(samples, f(d))
		}
		if len(samples) < 2 {
			return samples[0], nil
		}
		return samples[0], samples
	}
	add := func(needsServer bool, f report.Figure, value func(d idleRound) float64) {
		f.Value, f.Samples = of(value)
		if needsServer {
			r.serverFigure(f, s.server.visible())
			return
		}
		r.Report.Add(f)
	}
	first, last := s.rounds[0], s.rounds[len(s.rounds)-1]
	add(false, report.Figure{Name: countOpen, Higher: true, Text: "connections that were open at once"}, func(d idleRound) float64 { return float64(d.open) })
	add(false, report.Figure{Name: "connects/s", Unit: "/s", Higher: true, Text: "until the last was ready"}, func(d idleRound) float64 {
		return float64(d.open) / max(d.connecting.Seconds(), 1e-9)
	})
	add(true, report.Figure{
		Name: "bytes/conn", Unit: "B", Budget: s.budget(), Text: "growth of the server's resident memory per connection",
	}, func(d idleRound) float64 { return d.perConn })
	add(false, report.Figure{
		Name: "tcp-bytes/conn", Unit: "B", Text: "growth of TCP's buffers per connection, of both ends if they are on one machine",
	}, func(d idleRound) float64 { return d.tcp })
	add(false, report.Figure{
		Name: "kernel-bytes/conn", Unit: "B", Text: "growth of the kernel's own objects on the whole machine per connection, of both ends if they are on it",
	}, func(d idleRound) float64 { return d.slab })
	add(false, report.Figure{
		Name: "client-bytes/conn", Unit: "B", Text: "growth of the load's resident memory per connection",
	}, func(d idleRound) float64 { return d.client })
	if r.Target.Metrics != "" && last.with > 0 {
		r.Report.Add(
			report.Figure{Name: "goroutines", Value: float64(last.with), Text: "of the server, with the connections"},
			report.Figure{Name: "goroutines-without", Value: float64(last.after), Text: "of the server, after they left"},
		)
	}
	r.serverFigure(report.Figure{Name: "rss-before", Value: float64(s.base.RSS), Unit: "B", Text: "the server's resident memory with no connection"}, s.server.visible())
	held, idle := share(first.held.server, first.held.took), share(without.server, without.took)
	add(true, report.Figure{Name: "server-cpu", Unit: "%", Text: "of a core while they were held: heartbeats"}, func(d idleRound) float64 {
		return share(d.held.server, d.held.took)
	})
	r.serverFigure(report.Figure{Name: "server-cpu-without", Value: idle, Unit: "%", Text: "of a core without connections"}, s.server.visible())
	r.serverFigure(report.Figure{
		Name: "server-cpu-100k", Value: idle + (held-idle)/float64(max(first.open, 1))*100_000, Unit: "%",
		Text: "of a core that heartbeats of 100,000 connections would take, at this ping interval",
	}, s.server.visible())
	add(true, report.Figure{Name: "bytes-afterwards", Unit: "B", Text: "that the server had over the beginning after they left"}, func(d idleRound) float64 {
		return d.afterwards
	})
	r.latencyFigures(s.connect, "connect-", "from when a connection was due until it was ready")
}

// budget is that of DESIGN's section 4, if it is about these connections.
func (s *idling) budget() *report.Limit {
	if s.run.Options.Protocol != ProtocolEcho || s.run.Options.Connections < 1000 || s.run.Options.Size > 64 {
		return nil // with few connections, what else the server does shows
	}
	if s.run.Target.secure() {
		return report.MustLimit("bytes/conn>6144B")
	}
	return report.MustLimit("bytes/conn>512B")
}
