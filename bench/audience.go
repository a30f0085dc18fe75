package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// audience is a crowd and who publishes to it, as a scenario sees them.
type audience struct {
	run    *Run
	crew   *crew
	config crowdConfig
	press  *press // nil for one that listens to another's
}

// summoned says what an audience is to be.
type summoned struct {
	crowdConfig
	target      Target
	connections int
	publishers  int
	heralded    bool // there is one more, a herald
	apart       bool
}

// prefix is of channels that no other run has.
func prefix() string { return fmt.Sprintf("bench:%x-", time.Now().UnixNano()) }

// summon starts the processes of an audience.
func (r *Run) summon(ctx context.Context, s summoned) (*audience, error) {
	if s.Prefix == "" {
		s.Prefix = prefix()
	}
	s.Publishers = publishersOf(s.Channels, s.publishers)
	if s.heralded {
		s.Publishers++
	}
	s.Patience = r.Options.patience()
	s.Overdue = cmp.Or(s.Overdue, r.Options.timeout())
	c, err := r.newCrew(ctx, crewPlan{job: crowdJob, target: s.target, connections: s.connections, config: s.crowdConfig, apart: s.apart})
	return &audience{run: r, crew: c, config: s.crowdConfig}, err
}

// publishBy gives the audience its publishers.
func (a *audience) publishBy(p *api, publishers int) {
	a.press = newPress(p, a.config.Prefix, a.config.Channels, publishers, a.run.Options.Size)
	a.press.strict = a.run.Options.Target.URL == ""
}

// order is the crew's, for those that answer nothing.
func (a *audience) order(ctx context.Context, name string, args any) error {
	_, err := a.crew.order(ctx, name, args)
	return err
}

// subscribe has all subscribe.
func (a *audience) subscribe(ctx context.Context) error {
	if err := a.order(ctx, "subscribe", nil); err != nil {
		return err
	}
	return a.order(ctx, "publishing", nil)
}

// await returns when what was published has come, or nothing comes any more; that is an error if failing says so.
func (a *audience) await(ctx context.Context, failing bool) error { return a.awaitFor(ctx, failing, 0) }

// awaitFor is await with another patience.
func (a *audience) awaitFor(ctx context.Context, failing bool, patience time.Duration) error {
	if a.press.gapped() {
		if err := a.order(ctx, "gaps", nil); err != nil {
			return err
		}
	}
	return a.order(ctx, "await", awaited{a.press.published(), failing, patience})
}

// settle ends the connections, says what became of all that was published, and has the crew's last errors counted.
func (a *audience) settle(ctx context.Context, p *press) (v verdict, err error) {
	ctx = context.WithoutCancel(ctx) // what there is so far
	if p.gapped() {
		err = a.order(ctx, "gaps", nil)
	}
	answers, err2 := a.crew.order(ctx, "settle", p.settlement())
	v.Causes = map[string]int64{}
	for _, raw := range answers {
		var one verdict
		if len(raw) == 0 {
			continue
		}
		if err := json.Unmarshal(raw, &one); err != nil {
			return v, err
		}
		v.add(one)
	}
	return v, errors.Join(err, err2)
}

// add adds another part's.
func (v *verdict) add(o verdict) {
	v.Counts.Add(&o.Counts)
	v.Late += o.Late
	if v.Causes == nil {
		v.Causes = map[string]int64{}
	}
	for cause, n := range o.Causes {
		v.Causes[cause] += n
	}
}

// judged adds what subscribers have found. What the server must not have done are the report's errors.
func (r *Run) judged(v verdict) {
	c := &v.Counts
	for _, f := range []struct {
		name, text string
		n          int64
	}{
		{"lost", "publications that never came", c.Lost},
		{"doubled", "publications that came twice", c.Doubled},
		{"reordered", "publications that came after a later one", c.Reordered},
		{"offset-faults", "publications lost, doubled or out of order by the server's own offsets", c.Offsets.Lost + c.Offsets.Doubled + c.Offsets.Reordered},
		{"changed", "publications that are not, to the bit, what was published", c.Changed},
		{"misplaced", "publications of another channel", c.Misplaced},
		{"foreign", "publications in channels that were not subscribed to", c.Foreign},
		{"epoch-faults", "recoveries in another epoch than was asked for", c.Epochs},
		{"late", "publications that came, while the subscriber was there, later than it may: after --timeout, or --overdue", v.Late},
	} {
		r.Report.Add(report.Figure{Name: f.name, Value: float64(f.n), Text: f.text, Budget: report.MustLimit(f.name + ">0"), Join: report.Sum})
		if f.n > 0 {
			r.Report.Fail(f.text, uint64(f.n))
		}
	}
}

// returned adds how subscribers came back.
func (r *Run) returned(v verdict) {
	c := &v.Counts
	var total int64
	for _, cause := range slices.Sorted(maps.Keys(v.Causes)) {
		total += v.Causes[cause]
		r.Report.Add(report.Figure{Name: causePrefix + cause, Value: float64(v.Causes[cause]), Text: "times that subscribers came back after it", Join: report.Sum})
	}
	r.Report.Add(
		report.Figure{Name: "returns", Value: float64(total), Text: "times that subscribers came back", Join: report.Sum},
		report.Figure{Name: "recoveries", Value: float64(c.Recoveries), Text: "subscriptions that went on where they were", Join: report.Sum},
		report.Figure{Name: "recovered", Value: float64(c.Recovered), Text: "publications that came because they were missed", Join: report.Sum},
		report.Figure{Name: "unrecovered", Value: float64(c.Unrecovered), Text: "subscriptions that the server said it could not recover", Join: report.Sum},
		report.Figure{Name: "skipped", Value: float64(c.Skipped), Text: "publications that those missed, as the server said", Join: report.Sum},
	)
}

// deliveries adds how many came, and what each took, of all and, if they are counted apart, of each kind.
func (r *Run) deliveries(t tally, c costs) {
	n := t.Counts[countBack]
	whole := t.Latencies[delivering]
	if whole == nil {
		whole = report.NewDistribution(delivering, "ns")
		for _, kind := range kindNames {
			if d := t.Latencies[apart(kind)]; d != nil {
				whole.Merge(d)
			}
		}
	}
	r.Report.Add(report.Figure{
		Name: "deliveries/s", Value: float64(n) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "publications that subscribers got",
	})
	r.latencyFigures(whole, "", "from when a publication was due until a subscriber had it")
	r.costFigures(c, n, "delivery")
	for _, kind := range kindNames {
		d := t.Latencies[apart(kind)]
		if d == nil {
			continue
		}
		r.Report.Add(report.Figure{
			Name: kind + "/s", Value: float64(d.Count()) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true,
			Text: kind + " publications that subscribers got when they were published",
		})
		r.latencyFigures(d, kind+"-", "from when one of those was due until a subscriber had it")
	}
	if answers, refused := t.Counts[countAsked], t.Counts[countUntold]; answers+refused > 0 {
		r.Report.Add(report.Figure{
			Name: "asks/s", Value: float64(answers) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true,
			Text: "answers to clients that asked who is in a channel",
		})
		r.latencyFigures(t.Latencies[asking], "ask-", "from when a client asked until it knew")
		if refused > 0 {
			r.Report.Warn(fmt.Sprintf("%d times a client was not told who is in a channel: it has no presence, or may not be asked", refused))
		}
	}
}

// published adds how much was.
func (r *Run) published(p *press, took time.Duration) {
	r.Report.Add(report.Figure{
		Name: "publications/s", Value: float64(p.sum()) / max(took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "that the API accepted",
	})
}

// channelScenario prepares what all scenarios of channels have in common.
func channelScenario(name string, o *Options, history int, presence bool, flags ...string) error {
	o.Size = max(o.Size, 64)
	o.Target.Config = benchNamespace(history, presence)
	err := errors.Join(
		o.Speak(name, ProtocolJSON, ProtocolProtobuf, ProtocolPlain),
		o.Allow(name, append(flags, "duration", "size", "connect-rate", "ramp", "processes")...),
	)
	if o.Target.URL != "" && o.Target.API == "" {
		err = errors.Join(err, errNoAPI)
	}
	return err
}

// benchNamespace is the own server's file: channels that recover.
func benchNamespace(history int, presence bool) string {
	return fmt.Sprintf("namespaces:\n  - name: bench\n    history_size: %d\n    history_ttl: 300s\n    force_recovery: true\n    presence: %t\n"+
		"    allow_presence_for_subscriber: %[2]t\n", history, presence)
}

// atLeast says that a flag's value is too small.
func atLeast(flag string, value, least int) error {
	if value >= least {
		return nil
	}
	return fmt.Errorf("--%s %d: want at least %d", flag, value, least)
}
