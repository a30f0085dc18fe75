package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Slow measures what clients that do not read cost the others: the round trips of an echo at a steady rate, without
// and with them in turn, on the same connections.
type Slow struct {
	// Stalled is how many connections send and do not read. Zero means a tenth.
	Stalled int
}

// Name implements Scenario.
func (Slow) Name() string { return "slow" }

// Prepare implements Scenario.
func (s Slow) Prepare(o *Options) error {
	o.Connections, o.Rate = cmp.Or(o.Connections, 10_000), cmp.Or(o.Rate, 10_000)
	o.Duration, o.Compare = cmp.Or(o.Duration, 4*time.Second), cmp.Or(o.Compare, 5)
	o.Warmup = cmp.Or(o.Warmup, o.Duration/4)
	err := errors.Join(
		o.Speak(s.Name(), ProtocolEcho),
		o.Allow(s.Name(), "duration", "warmup", "rate", "size", "compare", "connect-rate", "ramp", "processes"),
	)
	o.Size = cmp.Or(o.Size, 64)
	if n := s.stalled(o); n < 1 || n >= o.Connections {
		err = errors.Join(err, fmt.Errorf("--stalled %d: want at least 1 and less than the %d connections", n, o.Connections))
	}
	return err
}

func (s Slow) stalled(o *Options) int {
	if s.Stalled == 0 {
		return max(o.Connections/10, 1)
	}
	return s.Stalled
}

// slowPhase is one phase.
type slowPhase struct {
	tally
	costs
}

func (p slowPhase) p99() float64 {
	if d := p.Latencies[roundTrip]; d != nil {
		return float64(d.Quantile(0.99))
	}
	return math.NaN()
}

// slowing is a run of Slow.
type slowing struct {
	run           *Run
	crew          *crew
	stalled       int
	without, with []slowPhase
}

// Run implements Scenario.
func (s Slow) Run(ctx context.Context, r *Run) error {
	c, err := r.newCrew(ctx, crewPlan{job: "load", target: r.Target, connections: r.Options.Connections, config: loadConfig{Greet: true}})
	if err != nil {
		return err
	}
	r.stage("connecting")
	if _, err := c.order(ctx, "open", openArgs{}); err != nil {
		return err
	}
	r.recording()
	run := &slowing{run: r, crew: c, stalled: s.stalled(&r.Options)}
	for n := range r.Options.Compare {
		if err = run.pair(ctx, n); err != nil {
			break
		}
	}
	run.figures()
	return err
}

// pair measures without and with clients that stall.
func (s *slowing) pair(ctx context.Context, n int) error {
	of := fmt.Sprintf("pair %d of %d: ", n+1, s.run.Options.Compare)
	without, err := s.phase(ctx, of+"all read")
	if err != nil {
		return err
	}
	if _, err := s.crew.order(ctx, "stall", s.stalled); err != nil {
		return err
	}
	with, err := s.phase(ctx, of+"some stall")
	if err == nil {
		s.without, s.with = append(s.without, without), append(s.with, with)
	}
	_, err2 := s.crew.order(ctx, "release", s.stalled)
	return errors.Join(err, err2)
}

// phase sends at the rate, first to warm up and then to be counted.
func (s *slowing) phase(ctx context.Context, what string) (p slowPhase, err error) {
	r := s.run
	r.stage("%s", what)
	pace := paceArgs{Rate: r.Options.Rate, For: r.Options.Warmup, Skip: s.stalled}
	if _, err = s.crew.order(ctx, "pace", pace); err != nil {
		return p, err
	}
	_, err = s.crew.order(ctx, "reset", nil)
	if _, err2 := r.take(s.crew); err != nil || err2 != nil {
		return p, errors.Join(err, err2)
	}
	m, err := r.mark(ctx, r.Target.gauge())
	if err != nil {
		return p, err
	}
	pace.For = r.Options.Duration
	_, err = s.crew.order(ctx, "pace", pace)
	var err2, err3 error
	p.costs, err2 = m.costs(context.WithoutCancel(ctx))
	p.tally, err3 = r.take(s.crew)
	return p, errors.Join(err, err2, err3)
}

// figures adds what the pairs have found.
func (s *slowing) figures() {
	r := s.run
	var ratios, without, with, memory []float64
	most := float64(0)
	both := [2]slowPhase{{tally: newTally()}, {tally: newTally()}}
	for i := range s.with {
		a, b := s.without[i], s.with[i]
		if a.p99() > 0 && b.p99() > 0 {
			without, with, ratios = append(without, a.p99()), append(with, b.p99()), append(ratios, b.p99()/a.p99())
		}
		memory = append(memory, float64(b.rss-s.without[0].rss)/float64(s.stalled))
		most = max(most, memory[i])
		for j, p := range []slowPhase{a, b} {
			both[j].add(p.tally)
			both[j].took += p.took
			both[j].server += p.server
			both[j].client += p.client
			both[j].visible, both[j].rss, both[j].clientRSS = p.visible, max(both[j].rss, p.rss), max(both[j].clientRSS, p.clientRSS)
		}
	}
	r.Report.Add(report.Figure{Name: "stalled", Value: float64(s.stalled), Text: fmt.Sprintf("connections, each behind %d KiB that it does not read", stallBytes>>10)})
	r.addMedian(report.Figure{
		Name: "p99-with/without", Unit: "x", Samples: ratios, Budget: report.MustLimit("p99-with/without>1.1x"),
		Text: "the others' p99 with clients that stall over that without: the median of the pairs",
	})
	r.addMedian(report.Figure{Name: "p99-without", Unit: "ns", Samples: without, Text: "round trip while all read, the median of the phases"})
	r.addMedian(report.Figure{Name: "p99-with", Unit: "ns", Samples: with, Text: "round trip of the others while some stall, the median of the phases"})
	if len(s.with) > 0 {
		r.serverFigure(report.Figure{
			Name: "bytes/stalled", Value: most, Unit: "B", Samples: memory, Text: "growth of the server's memory per client that stalls, at most",
		}, both[1].visible)
		for i, name := range []string{"round trip, all read", "round trip, some stall"} {
			if d := both[i].Latencies[roundTrip]; d != nil {
				d.Name = name
				r.Report.Latencies = append(r.Report.Latencies, d)
			}
		}
		n := both[1].Counts[countBack]
		r.costFigures(both[1].costs, n, "message")
		all := newTally()
		all.add(tally{Counts: both[0].Counts})
		all.add(tally{Counts: both[1].Counts})
		r.paceFigures(all)
	}
}
