package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Scenario is a measurement: see the package's doc for how one is written.
type Scenario interface {
	// Name is the command's.
	Name() string
	// Prepare fills in what o leaves open, also what the own server needs, and says what of it makes no sense here.
	Prepare(o *Options) error
	// Run measures and adds what it finds to r.Report, also when ctx ends: then it returns soon with what there is.
	Run(ctx context.Context, r *Run) error
}

// Stage is where a run's progress goes and what its report says of the tool.
type Stage struct {
	Version  string    // the tool's
	Command  []string  // its arguments
	Live     io.Writer // progress; nil for none
	Terminal bool      // Live is one
}

// Run is a scenario under way.
type Run struct {
	Options Options
	Target  Target // the server, which listens
	Report  *report.Report

	watch *watch

	// Guarded by mu.
	mu    sync.Mutex
	crews []*crew // that are not dismissed
}

// ErrCut is a run that was ended before its time. Its report is of what was done.
var ErrCut = errors.New("the run was cut short")

// Measure runs a scenario. There is a report unless the options make no sense or nothing could be started; an error
// beside it says what it must not hide: that the run was cut short, or that something failed.
func Measure(ctx context.Context, s Scenario, o Options, stage Stage) (_ *report.Report, err error) {
	if err := errors.Join(s.Prepare(&o), o.validate()); err != nil {
		return nil, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	target, stop, err := serve(ctx, s, &o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r := &Run{Options: o, Target: target, Report: report.New(s.Name(), o.Connections)}
	r.Report.Command = Redact(stage.Command)
	r.Report.Environment = report.Here(stage.Version)
	r.Report.Environment.Server = commandLine(target.PID)
	r.watch = r.newWatch(stage)
	err = s.Run(ctx, r)
	r.watch.stop()
	err = errors.Join(err, r.closeCrews())
	r.Report.Duration = time.Since(r.Report.Started)
	r.Report.Series = append(r.Report.Series, r.watch.series()...)
	if ctx.Err() != nil {
		r.Report.Cut = true
		return r.Report, ErrCut // an order that was ended is not an error
	}
	return r.Report, errors.Join(err, r.failed())
}

// gcPercent lets garbage of the load take a quarter of what is live: there is little but the connections, which live
// on. While they are made it stays so, lest they lie scattered among the garbage of handshakes.
const gcPercent = 25

// easeGarbage lets garbage take garbageBytes, if that is more, of a load whose connections are made: of a small one a
// quarter is so little that the collector would run all the time.
func easeGarbage() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(int(max(gcPercent, 100*garbageBytes/max(m.HeapAlloc, 1))))
}

const garbageBytes = 24 << 20

// serving is a scenario that starts the server itself.
type serving interface {
	serve(ctx context.Context, want Target) (t Target, stop func() error, err error)
}

// serve returns the server of a scenario, and what ends it if it is an own one.
func serve(ctx context.Context, s Scenario, o *Options) (t Target, stop func() error, err error) {
	if own, ok := s.(serving); ok {
		t, stop, err = own.serve(ctx, o.Target)
		return t.at(o.Protocol.path()), stop, err
	}
	return o.Target.orOwn(ctx, o.Protocol.path())
}

// failed is an error if the report has errors.
func (r *Run) failed() error {
	var n uint64
	for _, of := range r.Report.Errors {
		n += of
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d errors of %d kinds", n, len(r.Report.Errors))
}

// closeCrews ends those that the scenario has left, and takes their last errors.
func (r *Run) closeCrews() (err error) {
	r.mu.Lock()
	crews := slices.Clone(r.crews)
	r.mu.Unlock()
	for _, c := range crews {
		_, e := r.take(c)
		err = errors.Join(err, e, r.dismiss(c))
	}
	return err
}

// dismiss ends a crew's connections and processes. What it has counted must have been taken.
func (r *Run) dismiss(c *crew) error {
	r.mu.Lock()
	r.crews = slices.DeleteFunc(r.crews, func(o *crew) bool { return o == c })
	r.mu.Unlock()
	return c.close()
}

// take returns what a crew has counted since the last time. Its errors are the report's.
func (r *Run) take(c *crew) (tally, error) {
	t, err := c.take()
	for what, n := range t.Errors {
		r.Report.Fail(what, n)
	}
	return t, err
}

// recording begins what the report is about, the first time that it is called: what was before is the warm-up.
func (r *Run) recording() {
	if r.watch.recorded.Swap(true) {
		return
	}
	r.Report.Started = time.Now()
	r.watch.recording.Store(true)
}

// mark is a moment at which something is measured.
type mark struct {
	run    *Run
	server gauge
	at     time.Time
	used   usage
	client time.Duration
}

// costs are what something took.
type costs struct {
	took, server, client time.Duration
	visible              bool // the server's processor time is known
	rss, clientRSS       int64
}

// mark begins to measure what the server and the load take.
func (r *Run) mark(ctx context.Context, server gauge) (m mark, err error) {
	m = mark{run: r, server: server}
	if m.used, err = server.use(ctx); err != nil {
		return m, err
	}
	m.client, _, err = r.own()
	m.at = time.Now()
	return m, err
}

// costs returns what was taken since.
func (m mark) costs(ctx context.Context) (c costs, err error) {
	c.took = time.Since(m.at)
	used, err := m.server.use(ctx)
	if err != nil {
		return c, err
	}
	client, rss, err := m.run.own()
	c.server, c.client, c.visible = used.CPU-m.used.CPU, client-m.client, m.server.visible()
	c.rss, c.clientRSS = used.RSS, rss
	return c, err
}

// own returns the processor time and the memory of all processes of the load.
func (r *Run) own() (used time.Duration, memory int64, err error) {
	r.mu.Lock()
	pids := []int{os.Getpid()}
	for _, c := range r.crews {
		pids = append(pids, c.processes()...)
	}
	r.mu.Unlock()
	for _, pid := range pids {
		u, e := gauge{pid: pid}.use(context.Background())
		if errors.Is(e, os.ErrNotExist) {
			continue // it has ended, which its crew tells
		}
		err = errors.Join(err, e)
		used += u.CPU
		memory += u.RSS
	}
	return used, memory, err
}

// share is a part of a core, in percent.
func share(used, took time.Duration) float64 { return 100 * used.Seconds() / max(took.Seconds(), 1e-9) }

// unknownServer is why a figure of the server is missing.
const unknownServer = "the server's process is not known: --pid, or --metrics"

// serverFigure adds a figure that needs to know the server.
func (r *Run) serverFigure(f report.Figure, visible bool) {
	if !visible {
		f.Value, f.Samples, f.Missing = 0, nil, unknownServer
	}
	r.Report.Add(f)
}

// costFigures adds what the server and the load took for so many messages, or whatever each is. samples are the
// server's of several runs.
func (r *Run) costFigures(c costs, n int64, each string, samples ...float64) {
	perOne := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(max(n, 1)) }
	r.serverFigure(report.Figure{
		Name: "cpu-us/" + each, Value: perOne(c.server), Unit: "us", Text: "server CPU for each " + each + ": as many seconds for a million",
		Samples: samples,
	}, c.visible)
	if c.visible && c.server == 0 && n >= suspicious {
		r.Report.Warn("the server took no CPU at all: --pid or --metrics seem to be another process's, such as the one that started it")
	}
	r.Report.Add(report.Figure{Name: "client-cpu-us/" + each, Value: perOne(c.client), Unit: "us", Text: "client CPU for each " + each})
	r.loadFigures(c)
}

// suspicious is how many messages no server carries without any CPU, be it counted in hundredths of a second.
const suspicious = 20_000

// loadFigures adds how busy the server and the load were, and warns if it was the load that was the bottleneck.
func (r *Run) loadFigures(c costs) {
	r.serverFigure(report.Figure{Name: "server-cpu", Value: share(c.server, c.took), Unit: "%", Text: "of a core, by the server"}, c.visible)
	r.Report.Add(report.Figure{Name: "client-cpu", Value: share(c.client, c.took), Unit: "%", Text: "of a core, by the load"})
	r.serverFigure(report.Figure{Name: "rss", Value: float64(c.rss), Unit: "B", Text: "the server's resident memory"}, c.visible)
	r.Report.Add(report.Figure{Name: "client-rss", Value: float64(c.clientRSS), Unit: "B", Text: "the load's resident memory"})
	cores := float64(runtime.GOMAXPROCS(0))
	if r.Target.PID != 0 {
		cores -= share(c.server, c.took) / 100 // it has that of the same cores
	}
	if busy := share(c.client, c.took) / 100; busy > 0.85*cores {
		r.Report.Warn(fmt.Sprintf("the load used %.1f of the %.1f cores that the server left: it may be the bottleneck, and rates and latencies its own",
			busy, cores))
	}
}

// lateShare is the part of messages that may be sent late before a run is doubtful.
const lateShare = 0.01

// paceFigures says how well a rate was held.
func (r *Run) paceFigures(t tally) {
	if late, sent := t.Counts[countLate], t.Counts[countSent]; float64(late) > lateShare*float64(sent) {
		r.Report.Warn(fmt.Sprintf("%d of %d messages were sent more than %v late, though a connection was free: the load was the bottleneck",
			late, sent, lateAfter))
	}
	if n := t.Counts[countJammed]; n > 0 {
		r.Report.Warn(fmt.Sprintf("%d messages were refused by the load's own queues, and never sent: the load was the bottleneck, or the "+
			"server does not read; they do not count as lost", n))
		if t.Counts[countBack] == 0 { // then nothing was measured
			r.Report.Fail("messages that were never sent, and none came back: the server does not read", uint64(n))
		}
	}
	if n := t.Counts[countUnsent]; n > 0 {
		r.Report.Warn(fmt.Sprintf("%d messages that were due could not be sent, because every connection waited for an answer; "+
			"they count in the latencies with the time that they had waited", n))
	}
}

// latencyFigures adds a distribution and its quantiles: "p50" and so on with the prefix.
func (r *Run) latencyFigures(d *report.Distribution, prefix, text string) {
	if d == nil || d.Count() == 0 {
		return
	}
	r.Report.Latencies = append(r.Report.Latencies, d)
	r.Report.Add(d.Figures(prefix, text)...)
}
