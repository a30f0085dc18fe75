package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Mixed is a day in a minute: users with a channel of their own and two of those that they share, of whom some lose
// their connection, close their laptops, stall, change what they look at, or want to know who else does; visitors who
// come, read a while and leave; and backends that publish little at night and much at noon, to single users and to
// channels, announce something to all users a few times, and ask who is in a channel and what was said there.
type Mixed struct {
	// Channels that users and visitors share. Zero means 50.
	Channels int
	// Visits begin in a second at noon. Zero means a fiftieth of the connections.
	Visits float64
	// Stay is how long a user stays as it is, on average. Zero means 20 s.
	Stay time.Duration
	// Overdue is how late a publication may come to a user that is there and reads. Zero means 5 s.
	Overdue time.Duration
}

// Name implements Scenario.
func (Mixed) Name() string { return "mixed" }

// Prepare implements Scenario.
func (m Mixed) Prepare(o *Options) error {
	o.Connections, o.Duration, o.Size = cmp.Or(o.Connections, 3000), cmp.Or(o.Duration, time.Minute), cmp.Or(o.Size, 256)
	o.Rate = cmp.Or(o.Rate, 300)
	o.Target.Flags = []string{"--max-recovered=4096"}
	return errors.Join(channelScenario("mixed", o, 4096, true, "rate"), atLeast("channels", m.Channels, 0))
}

// Shares of the day.
const (
	mixedPersonal      = 0.5  // of publications
	mixedNight         = 0.1  // of noon's rate
	mixedAnnouncements = 4    // in the day, to all users
	mixedQuestions     = 0.05 // calls of presence for each publication, and as many of history
)

// day is the rate at a time, of noon's.
func day(at, whole time.Duration) float64 {
	return mixedNight + (1-mixedNight)*math.Pow(math.Sin(math.Pi*at.Seconds()/whole.Seconds()), 2)
}

// mixing is a run of Mixed.
type mixing struct {
	Mixed
	run             *Run
	users, visitors *audience
	herald          *herald
	questions       *questions
}

// Run implements Scenario.
func (m Mixed) Run(ctx context.Context, r *Run) (err error) {
	m.Channels, m.Visits = cmp.Or(m.Channels, 50), cmp.Or(m.Visits, float64(r.Options.Connections)/50)
	publisher, err := newAPI(r.Target, r.Options.timeout())
	if err != nil {
		return err
	}
	defer publisher.close()
	s := &mixing{Mixed: m, run: r}
	if err = s.summon(ctx, publisher); err != nil {
		return err
	}
	r.recording()
	before, err := r.Target.gauge().use(ctx)
	if err == nil {
		err = s.day(ctx)
	}
	v, err2 := s.users.settle(ctx, s.users.press)
	w, err3 := s.visitors.settle(ctx, s.users.press)
	v.add(w)
	r.judged(v)
	r.returned(v)
	if after, err := r.Target.gauge().use(ctx); err == nil {
		r.serverFigure(report.Figure{
			Name: "bytes-afterwards", Value: float64(after.RSS - before.RSS), Unit: "B", Text: "that the server had over the morning after all had left: histories, too",
		}, r.Target.gauge().visible())
	}
	return errors.Join(err, err2, err3)
}

func (s *mixing) summon(ctx context.Context, publisher *api) (err error) {
	r := s.run
	n := r.Options.Connections
	config := crowdConfig{
		Channels: n + s.Channels, Each: min(3, 1+s.Channels), Personal: true, Shared: s.Channels, Everywhere: n, Positions: true,
		Overdue: cmp.Or(s.Overdue, 5*time.Second), Apart: true,
		Behaviour: Behaviour{
			Stay: cmp.Or(s.Stay, 15*time.Second), SlowFor: 3 * time.Second, Reset: 2, FIN: 6, Close: 4, Slow: 1, Moves: 7, Asks: 7,
		},
	}
	if s.users, err = r.summon(ctx, summoned{target: r.Target, connections: n, publishers: 1, heralded: true, crowdConfig: config}); err != nil {
		return err
	}
	s.users.publishBy(publisher, 4)
	s.herald = s.users.press.herald(s.users.config.Prefix, n)
	visits := crowdConfig{
		Prefix: s.users.config.Prefix, Channels: n + s.Channels, Each: 1, OnlyShared: true, Shared: s.Channels, Everywhere: n, Positions: true,
		Visitors: true, VisitRate: s.Visits, Behaviour: Behaviour{Stay: 3 * time.Second},
	}
	c := Churn{Visits: s.Visits, Stay: visits.Behaviour.Stay}
	guests := summoned{target: r.Target, connections: c.visitors(), publishers: 1, heralded: true, crowdConfig: visits}
	if s.visitors, err = r.summon(ctx, guests); err != nil {
		return err
	}
	s.questions = newQuestions(s.users, n+c.visitors())
	r.stage("subscribing")
	if err = s.users.subscribe(ctx); err == nil {
		err = s.visitors.order(ctx, "publishing", json.RawMessage("null"))
	}
	return err
}

// day is the day.
func (s *mixing) day(ctx context.Context) error {
	r := s.run
	visiting, leave := context.WithCancel(ctx)
	defer leave()
	var others sync.WaitGroup
	var failed error
	others.Go(func() { failed = s.visitors.order(visiting, "visit", json.RawMessage("null")) })
	took, err := s.users.restless(ctx, "the day", s.backends)
	leave()
	others.Wait()
	r.published(s.users.press, took)
	r.Report.Add(report.Figure{
		Name: "announcements", Value: float64(s.herald.stamp.Sequence), Text: "publications to all users at once; each is one in each user's channel",
	})
	v, err2 := r.take(s.visitors.crew)
	r.Report.Add(
		report.Figure{Name: "visits/s", Value: float64(v.Counts[countVisits]) / max(took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "visitors that came and subscribed"},
		report.Figure{Name: "visits-missed", Value: float64(v.Counts[countMissed]), Text: "visits that were due, and no connection was free"},
	)
	r.latencyFigures(v.Latencies[subscribing], "visit-", "from when a visitor connected until it was subscribed")
	err = errors.Join(err, err2, failed, s.visitors.order(context.WithoutCancel(ctx), "disperse", json.RawMessage("null")))
	if err == nil {
		err = s.evening(ctx)
	}
	s.questions.figures(r, took)
	return err
}

// backends publish, announce and ask for as long as the day is.
func (s *mixing) backends(outer context.Context) error {
	users, whole := s.run.Options.Connections, s.run.Options.Duration
	personal, shared := s.users.press.split(users)
	share := func(of float64) func(time.Duration) float64 {
		return func(at time.Duration) float64 { return of * s.run.Options.Rate * day(at, whole) }
	}
	begin := monotonic()
	asking := turns{begin: begin, d: whole, rate: share(mixedQuestions), of: 1}
	announcing := turns{begin: begin, d: whole, rate: steadily(mixedAnnouncements * 2 / whole.Seconds()), first: 1, of: 2}
	ctx, fail := context.WithCancelCause(outer)
	defer fail(nil)
	var under sync.WaitGroup
	for _, work := range []func() error{
		func() error { return personal.pace(ctx, whole, share(mixedPersonal)) },
		func() error { return shared.pace(ctx, whole, share(1-mixedPersonal)) },
		func() error {
			return announcing.take(ctx, func(_ int, due int64) error { return s.herald.publish(ctx, due) })
		},
		func() error {
			return asking.take(ctx, func(i int, due int64) error { return s.questions.ask(ctx, askPresence, users+i%s.Channels, due) })
		},
		func() error {
			return asking.take(ctx, func(i int, due int64) error {
				k := users + i/2%s.Channels // of users and of what they share in turn
				if i%2 > 0 {
					k = i / 2 % users
				}
				return s.questions.ask(ctx, askHistory, k, due)
			})
		},
	} {
		under.Go(func() {
			if err := work(); err != nil {
				fail(err)
			}
		})
	}
	under.Wait()
	return ended(outer, ctx)
}

// evening looks, when all users are there and all visitors gone, whether the server says of each channel just that.
func (s *mixing) evening(ctx context.Context) error {
	s.run.stage("who is present")
	users, c := s.run.Options.Connections, s.users.config
	present := make([]int, s.Channels)
	for n := range users {
		for i := 1; i < c.Each; i++ {
			present[c.assigned(n, i)-users]++
		}
	}
	end := time.Now().Add(s.run.Options.patience())
	for k, want := range present {
		if err := s.questions.await(ctx, users+k, want, max(time.Until(end), time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}
