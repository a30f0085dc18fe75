package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/bench/report"
	"github.com/millpond/millpond/bench/verify"
)

// Personal measures users with a channel of their own and one that all share, both with recovery: what such a
// connection costs the server when it is subscribed and when a message has come through each channel, and then how a
// message to each user arrives.
type Personal struct {
	// Presence turns it on in the own server's channels.
	Presence bool
	// Publishers publish at the same time. Zero means 8.
	Publishers int
	// Settle is how long the server's memory may settle before it is read. Zero means 5 s.
	Settle time.Duration
}

// Name implements Scenario.
func (Personal) Name() string { return "personal" }

// Prepare implements Scenario.
func (p Personal) Prepare(o *Options) error {
	o.Connections = cmp.Or(o.Connections, 15_000)
	if o.Rate == 0 {
		o.Rate = 1000
	}
	err := errors.Join(channelScenario("personal", o, 100, p.Presence, "rate"), atLeast("publishers", p.Publishers, 0))
	if o.Duration != 0 {
		err = errors.Join(err, errors.New("--duration: bench personal ends when each user has a message; --rate says how long that takes"))
	}
	if p.Presence && o.Target.URL != "" {
		err = errors.Join(err, errors.New("--presence: the own server's, not with --url"))
	}
	return err
}

// personal is a run of Personal.
type personal struct {
	Personal
	run                  *Run
	api                  *api
	base                 usage
	all                  *audience
	subscribed, messages float64 // bytes a connection
	client, fixed        float64 // the load's growth in bytes, and that with one connection
	present              int
	with, without        int // goroutines
	personalIn, sharedIn time.Duration
	subscribing          time.Duration
	afterwards           float64
}

// Run implements Scenario.
func (p Personal) Run(ctx context.Context, r *Run) (err error) {
	p.Publishers, p.Settle = cmp.Or(p.Publishers, 8), cmp.Or(p.Settle, 5*time.Second)
	s := &personal{Personal: p, run: r}
	if s.api, err = newAPI(r.Target, r.Options.timeout()); err != nil {
		return err
	}
	defer s.api.close()
	// One connection does it all first, so that what is needed once is not counted.
	r.stage("one connection first")
	for range 2 { // the second says what a crew of one takes
		first := &personal{Personal: p, run: r, api: s.api}
		first.Settle = time.Millisecond
		if err = first.hold(ctx, 1); first.all != nil {
			v, e := first.leave(ctx)
			if err = errors.Join(err, e); err != nil {
				r.judged(v)
			}
		}
		if s.fixed = first.client; err != nil {
			return err
		}
	}
	if s.base, err = r.Target.gauge().use(ctx); err != nil {
		return err
	}
	r.recording()
	err = s.hold(ctx, r.Options.Connections)
	if err == nil {
		err = s.toEach(ctx)
	}
	if s.all == nil {
		return err
	}
	v, err2 := s.leave(ctx)
	if err == nil {
		err = s.after(ctx)
	}
	s.figures()
	r.judged(v)
	return errors.Join(err, err2)
}

// hold connects n, sends a message through each channel, and measures memory.
func (p *personal) hold(ctx context.Context, n int) (err error) {
	r := p.run
	trim()
	_, own, err := r.own()
	if err != nil {
		return err
	}
	if p.all, err = r.summon(ctx, summoned{
		target: r.Target, connections: n, publishers: 1,
		crowdConfig: crowdConfig{Channels: n + 1, Each: 2, Personal: true, Shared: 1, Everywhere: n + 1, Positions: true},
	}); err != nil {
		return err
	}
	r.stage("subscribing")
	begin := time.Now()
	if err := p.all.subscribe(ctx); err != nil {
		return err
	}
	p.subscribing = time.Since(begin)
	if p.subscribed, err = p.growth(ctx, n); err != nil {
		return err
	}
	if err := p.all.order(ctx, "trim", nil); err != nil { // as the server does when it is quiet
		return err
	}
	_, now, err := r.own()
	if err != nil {
		return err
	}
	p.client = float64(now - own)
	r.stage("a message through each channel")
	p.all.press = newPress(p.api, p.all.config.Prefix, n+1, p.Publishers, r.Options.Size)
	if err := p.everywhere(ctx, n); err != nil {
		return err
	}
	if p.messages, err = p.growth(ctx, n); err != nil {
		return err
	}
	// Asking for the metrics costs the server megabytes: so only when its memory is measured.
	if p.with, err = goroutines(ctx, r.Target.Metrics); err == nil && p.Presence {
		p.present, err = p.api.present(ctx, channelName(p.all.config.Prefix, n))
	}
	return err
}

// growth is the server's memory of each connection.
func (p *personal) growth(ctx context.Context, n int) (float64, error) {
	if err := sleep(ctx, p.Settle); err != nil {
		return 0, err
	}
	u, err := p.run.Target.gauge().use(ctx)
	return float64(u.RSS-p.base.RSS) / float64(n), err
}

// everywhere sends one message to all personal channels, and then one to the shared one.
func (p *personal) everywhere(ctx context.Context, n int) error {
	press := p.all.press
	var names []string
	for k := range n {
		names = append(names, channelName(p.all.config.Prefix, k))
	}
	send := func(channels []string, first int) (time.Duration, error) {
		begin := time.Now()
		stamp := verify.Stamp{Channel: verify.Everywhere, Sequence: 1, Time: monotonic()}
		offsets, err := p.api.broadcast(ctx, channels, stamp.Append(nil, p.run.Options.Size))
		for k, offset := range offsets {
			err = errors.Join(err, press.note(first+k, offset))
		}
		if err != nil {
			return 0, err
		}
		err = p.all.await(ctx, true)
		return time.Since(begin), err
	}
	var err error
	if p.personalIn, err = send(names, 0); err == nil {
		p.sharedIn, err = send([]string{channelName(p.all.config.Prefix, n)}, n)
	}
	return err
}

// toEach sends each user a message of its own.
func (p *personal) toEach(ctx context.Context) error {
	r, s := p.run, p.all
	if err := s.order(ctx, "reset", nil); err != nil {
		return err
	}
	if _, err := r.take(s.crew); err != nil {
		return err
	}
	r.stage("a message to each user")
	m, err := r.mark(ctx, r.Target.gauge())
	if err != nil {
		return err
	}
	n := r.Options.Connections
	users, _ := s.press.split(n)
	err = users.pace(ctx, time.Duration(float64(n)/r.Options.Rate*float64(time.Second)), steadily(r.Options.Rate))
	if err == nil {
		err = s.await(ctx, false)
	}
	c, err2 := m.costs(context.WithoutCancel(ctx))
	t, err3 := r.take(s.crew)
	r.deliveries(t, c)
	return errors.Join(err, err2, err3)
}

// leave ends the connections.
func (p *personal) leave(ctx context.Context) (verdict, error) {
	if p.all.press == nil { // nothing was published
		p.all.press = newPress(p.api, p.all.config.Prefix, p.all.config.Channels, 1, p.run.Options.Size)
	}
	v, err := p.all.settle(ctx, p.all.press)
	_, err2 := p.run.take(p.all.crew)
	return v, errors.Join(err, err2, p.run.dismiss(p.all.crew))
}

// after measures the server when all have left.
func (p *personal) after(ctx context.Context) (err error) {
	if err = sleep(ctx, p.Settle); err != nil {
		return err
	}
	u, err := p.run.Target.gauge().use(ctx)
	p.afterwards = float64(u.RSS - p.base.RSS)
	if err == nil {
		p.without, err = goroutines(ctx, p.run.Target.Metrics)
	}
	if err == nil && p.Presence && p.present != p.run.Options.Connections {
		err = fmt.Errorf("the server says that %d are present of %d", p.present, p.run.Options.Connections)
	}
	return err
}

func (p *personal) figures() {
	r := p.run
	visible := r.Target.gauge().visible()
	n := float64(r.Options.Connections)
	var budget *report.Limit
	if n >= 1000 && r.Options.Size <= 64 && !r.Target.secure() { // with few connections, what else the server does shows
		budget = report.MustLimit("bytes/conn>1024B")
	}
	r.serverFigure(report.Figure{
		Name: "bytes/conn", Value: p.messages, Unit: "B", Budget: budget,
		Text: "growth of the server's resident memory per connection, after a message through each of its two channels",
	}, visible)
	r.serverFigure(report.Figure{Name: "bytes/conn-subscribed", Value: p.subscribed, Unit: "B", Text: "the same before those messages"}, visible)
	r.Report.Add(
		report.Figure{Name: "client-bytes/conn", Value: (p.client - p.fixed) / max(n-1, 1), Unit: "B", Text: "growth of the load's resident memory per connection, with two subscriptions that are checked"},
		report.Figure{Name: "subscribes/s", Value: n / max(p.subscribing.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "connections, with both channels"},
		report.Figure{Name: "broadcast-personal", Value: p.personalIn.Seconds(), Unit: "s", Text: "until one broadcast was in all personal channels"},
		report.Figure{Name: "publish-shared", Value: p.sharedIn.Seconds(), Unit: "s", Text: "until one publication in the shared channel was with all"},
	)
	if r.Target.Metrics != "" && p.with > 0 {
		r.Report.Add(
			report.Figure{Name: "goroutines", Value: float64(p.with), Text: "of the server, with the connections"},
			report.Figure{Name: "goroutines-without", Value: float64(p.without), Text: "of the server, after they left"},
		)
	}
	if p.Presence {
		r.Report.Add(report.Figure{Name: "present", Value: float64(p.present), Text: "in the shared channel, by the server's count"})
	}
	r.serverFigure(report.Figure{Name: "bytes-afterwards", Value: p.afterwards, Unit: "B", Text: "that the server had over the beginning after they left"}, visible)
}
