package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Drain measures a restart of the own server under load: its clients are sent away, wait as the SDKs do, and come
// back to the next process. Publishers try again until they are answered.
type Drain struct {
	// How it is restarted. Empty means DrainRestart.
	How string
	// Channels that clients share. Zero means 20.
	Channels int

	dir   string // of the sockets that are handed over
	first *ownServer
	next  *ownServer // nil before it is there
}

// The ways of Drain.
const (
	DrainRestart  = "restart"  // SIGTERM, and the next process when the first has ended
	DrainTakeover = "takeover" // the next process takes the listening sockets over, while the first sends its clients away
)

// Name implements Scenario.
func (*Drain) Name() string { return "drain" }

// Prepare implements Scenario.
func (d *Drain) Prepare(o *Options) error {
	d.How, d.Channels = cmp.Or(d.How, DrainRestart), cmp.Or(d.Channels, 20)
	o.Connections, o.Duration, o.Rate = cmp.Or(o.Connections, 2000), cmp.Or(o.Duration, 10*time.Second), cmp.Or(o.Rate, 100)
	err := errors.Join(channelScenario("drain", o, 4096, false, "rate"), atLeast("channels", d.Channels, 1))
	if o.Target.URL != "" {
		err = errors.Join(err, errors.New("bench drain: not with --url: it restarts the server, so it must be an own one"))
	}
	if d.How != DrainRestart && d.How != DrainTakeover {
		err = errors.Join(err, fmt.Errorf("--how %s: want %s or %s", d.How, DrainRestart, DrainTakeover))
	}
	o.Target.Flags = append(o.Target.Flags, "--max-recovered=4096")
	return err
}

// serve implements server's start: the next process must listen where the first does.
func (d *Drain) serve(ctx context.Context, t Target) (_ Target, stop func() error, err error) {
	if d.dir, err = os.MkdirTemp("", "millpond-bench-"); err != nil {
		return t, nil, err
	}
	if d.How == DrainTakeover {
		t.Flags = append(t.Flags, "--takeover="+d.socket())
	}
	if d.first, err = startServer(ctx, t); err != nil {
		return t, nil, errors.Join(err, os.RemoveAll(d.dir))
	}
	return d.first.Target, func() error {
		var err error
		for _, s := range []*ownServer{d.next, d.first} {
			if s != nil {
				err = errors.Join(err, s.stop())
			}
		}
		return errors.Join(err, os.RemoveAll(d.dir))
	}, nil
}

// Run implements Scenario.
func (d *Drain) Run(ctx context.Context, r *Run) (err error) {
	publisher, err := newAPI(r.Target, r.Options.timeout())
	if err != nil {
		return err
	}
	defer publisher.close()
	a, err := r.summon(ctx, summoned{target: r.Target, connections: r.Options.Connections, publishers: 4, crowdConfig: crowdConfig{
		Channels: d.Channels, Each: 1, Positions: true, Behaviour: Behaviour{Restart: true},
	}})
	if err != nil {
		return err
	}
	a.publishBy(publisher, min(4, d.Channels))
	a.press.strict, a.press.retry = false, r.Options.timeout()
	r.stage("subscribing")
	if err = a.subscribe(ctx); err == nil {
		r.recording()
		err = d.measure(ctx, a)
	}
	v, err2 := a.settle(ctx, a.press)
	r.judged(v)
	r.returned(v)
	return errors.Join(err, err2)
}

// measure restarts the server in the midst of publishing.
func (d *Drain) measure(ctx context.Context, a *audience) error {
	r := a.run
	behaving, calm := context.WithCancel(ctx)
	defer calm()
	behaved := make(chan error, 1)
	go func() { behaved <- a.order(behaving, "behave", json.RawMessage("null")) }()
	publishing, over := context.WithCancel(ctx)
	defer over()
	published := make(chan error, 1)
	go func() { published <- a.press.pace(publishing, 24*time.Hour, steadily(r.Options.Rate)) }()
	m, err := r.mark(ctx, gauge{})
	if err == nil {
		r.stage("publishing")
		err = sleep(ctx, r.Options.Duration/2)
	}
	var back time.Duration
	if err == nil {
		r.stage("restarting")
		begin := time.Now()
		since := monotonic()
		if err = d.restart(ctx); err == nil {
			r.stage("waiting until all are back")
			err = a.order(ctx, "returned", since)
			back = time.Since(begin)
		}
	}
	if err == nil {
		r.stage("publishing")
		err = sleep(ctx, r.Options.Duration/2)
	}
	over()
	if e := <-published; !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	c, err2 := m.costs(context.WithoutCancel(ctx))
	calm()
	if err = errors.Join(err, err2, <-behaved); err == nil {
		err = a.awaitFor(ctx, false, 2*time.Second) // what clients were told that they missed does not come
	}
	t, err2 := r.take(a.crew)
	r.latencyFigures(t.Latencies[delivering], "", "from when a publication was due until a subscriber had it; what it missed does not count")
	r.Report.Add(
		report.Figure{Name: "back", Value: back.Seconds(), Unit: "s", Text: "from the beginning of the restart until all clients were back"},
		report.Figure{Name: "refused", Value: float64(t.Counts[countUnreached]), Text: "connects that were refused"},
		report.Figure{Name: "retried", Value: float64(a.press.retried.Load()), Text: "requests of publishers that had to be sent again"},
	)
	r.published(a.press, c.took)
	return errors.Join(err, err2)
}

// restart does what How says.
func (d *Drain) restart(ctx context.Context) (err error) {
	if d.How == DrainTakeover {
		if err = d.offers(ctx); err != nil {
			return err
		}
		if d.next, err = startServer(ctx, d.first.want); err != nil {
			return err
		}
		return d.first.wait()
	}
	if err = d.first.terminate(); err != nil {
		return err
	}
	d.next, err = startServer(ctx, d.first.again())
	return err
}

// offers waits until the first process offers its sockets.
func (d *Drain) offers(ctx context.Context) error {
	var err error
	waited := await(ctx, patience, func() bool {
		_, err = os.Stat(d.socket())
		return err == nil
	})
	return errors.Join(waited, err)
}

// socket is where processes hand over.
func (d *Drain) socket() string { return filepath.Join(d.dir, "takeover") }
