package bench

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Connect measures a storm of connects: how long it takes until every one is in or refused, and what it does to those
// who are in: the round trips of an echo at a steady rate, before it and during it. The storm is made by other
// processes, of low priority: it is the server that is measured. An own server has the bounds below, and the same storm
// comes upon another such server first.
type Connect struct {
	// Established connections send messages before the storm and during it. Zero means 1,000 with --protocol echo,
	// negative none.
	Established int
	// MaxConnections and AcceptRate are the own server's. Zero means 13,000, so that some are refused, and 2,000 a second.
	MaxConnections int
	AcceptRate     int
}

// niceness is the storm's.
const niceness = 10

// Name implements Scenario.
func (Connect) Name() string { return "connect" }

// Prepare implements Scenario.
func (c Connect) Prepare(o *Options) error {
	err := errors.Join(
		o.Speak(c.Name(), ProtocolEcho, ProtocolPlain, ProtocolJSON, ProtocolProtobuf, ProtocolRaw),
		o.Allow(c.Name(), "rate", "size", "connect-rate", "ramp", "processes"),
	)
	if (c.MaxConnections != 0 || c.AcceptRate != 0) && o.Target.URL != "" {
		err = errors.Join(err, errors.New("--max-connections, --accept-rate: they are of the own server, not with --url"))
	}
	if o.Protocol != ProtocolEcho && (o.Rate != 0 || o.Size != 0 || c.Established > 0) {
		err = errors.Join(err, errors.New("--established, --rate, --size: only connections of --protocol echo send anything here"))
	}
	if o.Protocol == ProtocolRaw && o.Raw.Message != "" {
		err = errors.Join(err, errors.New("--raw-message: bench connect sends nothing but --raw-open"))
	}
	if c.MaxConnections < 0 || c.AcceptRate < 0 || c.Established > maxConnections {
		err = errors.Join(err, errors.New("--established, --max-connections, --accept-rate: want 0 or more"))
	}
	o.Connections, o.Rate, o.Size = cmp.Or(o.Connections, 15_000), cmp.Or(o.Rate, 2000), cmp.Or(o.Size, 64)
	if o.Target.URL == "" {
		o.Target.Flags = append(o.Target.Flags, c.bounds()...)
	}
	return err
}

func (c Connect) bounds() []string {
	most, rate := cmp.Or(c.MaxConnections, 13_000), cmp.Or(c.AcceptRate, 2000)
	return []string{"--max-connections=" + strconv.Itoa(most), "--accept-rate=" + strconv.Itoa(rate), "--max-handshakes=20000"}
}

// storm is what came of one.
type storm struct {
	tally
	took    time.Duration // until every one was in or refused
	costs   costs
	dropped float64 // packets of connects, by the kernel, because the backlog was full; of an own server or one with --pid
	dialing tally   // what the established saw while the clients of the storm made their sockets, on the same cores
	during  tally   // from then on until every one was in or refused
	leaving tally   // while they all hung up at once
}

// Run implements Scenario.
func (c Connect) Run(ctx context.Context, r *Run) error {
	s := &storming{run: r, own: r.Options.Target.URL == ""}
	if err := s.establish(ctx, c); err != nil {
		return err
	}
	var err error
	var elsewhere *storm
	if s.own && s.established != nil {
		// The same storm on another server first: what the machine alone does to the latencies.
		if elsewhere, err = s.elsewhere(ctx); err != nil {
			return errors.Join(err, s.end())
		}
	}
	r.stage("the storm")
	r.recording()
	here, err := s.storm(ctx, r.Target)
	err = errors.Join(err, s.end())
	s.figures(c, here, elsewhere)
	return err
}

// storming is a run of Connect.
type storming struct {
	run         *Run
	own         bool  // the server is ours
	established *crew // nil without
	before      tally
	end         func() error // of what the established send
}

// establish lets those in who send messages, and sees how long these take.
func (s *storming) establish(ctx context.Context, c Connect) error {
	r := s.run
	s.end = func() error { return nil }
	n := cmp.Or(c.Established, 1000)
	if n < 0 || r.Options.Protocol != ProtocolEcho {
		return nil
	}
	var err error
	if s.established, err = r.newCrew(ctx, crewPlan{job: "load", target: r.Target, connections: n, config: loadConfig{Greet: true}}); err != nil {
		return err
	}
	r.stage("connecting those who are in before")
	if _, err := s.established.order(ctx, "open", openArgs{}); err != nil {
		return err
	}
	sending, stop := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() {
		_, err := s.established.order(sending, "pace", paceArgs{Rate: r.Options.Rate, For: 24 * time.Hour})
		over <- err
	}()
	s.end = func() error {
		stop()
		if err := <-over; err != nil && sending.Err() == nil {
			return err
		}
		_, err := s.established.order(ctx, "rest", nil)
		return err
	}
	r.stage("before the storm")
	err = sleep(ctx, time.Second)
	_, err2 := r.take(s.established)
	if err = errors.Join(err, err2); err == nil {
		err = sleep(ctx, max(c.implied(r.Options.Connections), 3*time.Second))
	}
	s.before, err2 = r.take(s.established)
	if err = errors.Join(err, err2); err != nil {
		return errors.Join(err, s.end())
	}
	return nil
}

// implied is how long the own server's accept rate makes the storm.
func (c Connect) implied(connections int) time.Duration {
	return time.Duration(float64(connections) / float64(cmp.Or(c.AcceptRate, 2000)) * float64(time.Second))
}

// elsewhere lets the storm come upon another server of the same kind.
func (s *storming) elsewhere(ctx context.Context) (*storm, error) {
	want := s.run.Options.Target
	want.OwnTLS = s.run.Target.secure()
	other, stop, err := start(ctx, want)
	if err != nil {
		return nil, err
	}
	s.run.stage("the same storm on another server")
	found, err := s.storm(ctx, other.at(echoPath))
	return found, errors.Join(err, stop())
}

// storm lets the storm come and go.
func (s *storming) storm(ctx context.Context, t Target) (*storm, error) {
	r := s.run
	c, err := r.newCrew(ctx, crewPlan{
		job: "load", target: t, connections: r.Options.Connections, apart: true, nice: niceness,
		config: loadConfig{Greet: r.Options.Protocol == ProtocolEcho, Refusable: true},
	})
	if err != nil {
		return nil, err
	}
	found := &storm{}
	saw := func() (t tally, err error) {
		if s.established == nil {
			return t, nil
		}
		return r.take(s.established)
	}
	m, err := r.mark(ctx, t.gauge())
	if err != nil {
		return nil, err
	}
	if _, err := saw(); err != nil {
		return nil, err
	}
	dropped, err := overflows(t.PID)
	if err != nil {
		return nil, err
	}
	opened := make(chan error, 1)
	go func() {
		_, err := c.order(ctx, "open", openArgs{AtOnce: true})
		opened <- err
	}()
	var errs [8]error
	_, errs[6] = c.order(ctx, "begun", nil)
	found.dialing, errs[0] = saw()
	errs[1] = <-opened
	found.costs, errs[2] = m.costs(context.WithoutCancel(ctx))
	found.took = found.costs.took
	found.dropped, errs[7] = overflows(t.PID)
	found.dropped -= dropped
	found.during, errs[3] = saw()
	if found.tally, err = r.take(c); err == nil {
		err = r.dismiss(c)
	}
	found.leaving, errs[4] = saw()
	errs[5] = sleep(ctx, time.Second)
	return found, errors.Join(append(errs[:], err)...)
}

// figures adds what the storm did.
func (s *storming) figures(c Connect, here, elsewhere *storm) {
	r := s.run
	if here == nil {
		return
	}
	open, refused := here.Counts[countOpen], here.Counts[countRefused]
	r.Report.Add(
		report.Figure{Name: countOpen, Value: float64(open), Higher: true, Text: "connections of the storm that are in"},
		report.Figure{Name: countRefused, Value: float64(refused), Text: "that were refused with 503 and told to come later"},
		report.Figure{
			Name: "connects/s", Value: float64(open+refused) / max(here.took.Seconds(), 1e-9), Unit: "/s", Higher: true,
			Text: "until every one was in or refused",
		},
		report.Figure{Name: "took", Value: here.took.Seconds(), Unit: "s", Text: "until every one was in or refused"},
	)
	if s.own {
		r.Report.Add(report.Figure{Name: "implied", Value: c.implied(r.Options.Connections).Seconds(), Unit: "s", Text: "what the accept rate makes of that"})
	}
	r.serverFigure(report.Figure{
		Name: "backlog-overflows", Value: here.dropped,
		Text: "packets of connects that the kernel dropped because the backlog was full (net.core.somaxconn): those connects are slow, and a few are reset",
	}, r.Target.PID > 0)
	r.latencyFigures(here.Latencies[connecting], "connect-", "from when a connection was due until it was ready")
	r.costFigures(here.costs, open+refused, "connect")
	if s.established == nil {
		return
	}
	phase := func(name, text string, t tally) float64 {
		f := report.Figure{Name: "p99-" + name, Unit: "ns", Text: "round trip of those who are in, " + text}
		d := t.Latencies[roundTrip]
		if d == nil || d.Count() == 0 {
			f.Missing = "it was over before a message came back"
			r.Report.Add(f)
			return 0
		}
		f.Value = float64(d.Quantile(0.99))
		r.Report.Add(f)
		d.Name = text
		r.Report.Latencies = append(r.Report.Latencies, d)
		return f.Value
	}
	before := phase("before", "before the storm", s.before)
	phase("dialing", "while the storm makes its sockets", here.dialing)
	during := phase("during", "while it comes in", here.during)
	phase("leaving", "while it hangs up", here.leaving)
	ratio := func(name, text string, by float64) {
		f := report.Figure{Name: name, Unit: "x", Text: "p99 while the storm comes in, over that " + text}
		if by == 0 || during == 0 {
			f.Missing = "one of them was not measured"
		} else {
			f.Value = during / by
		}
		r.Report.Add(f)
	}
	if elsewhere != nil {
		phase("elsewhere-dialing", "while it makes its sockets to another server", elsewhere.dialing)
		other := phase("elsewhere", "while it comes in at another server", elsewhere.during)
		phase("elsewhere-leaving", "while it hangs up there", elsewhere.leaving)
		ratio("during/elsewhere", "while the same storm is another server's", other)
	}
	ratio("during/before", "before the storm", before)
	all := newTally()
	for _, t := range []tally{s.before, here.dialing, here.during, here.leaving} {
		all.add(t)
	}
	r.paceFigures(all)
}
