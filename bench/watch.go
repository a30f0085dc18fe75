package bench

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/millpond/millpond/bench/report"
)

// watch looks at a run every second: for its progress, and for the report's series.
type watch struct {
	// Immutable after newWatch.
	run  *Run
	show func(string) // one line
	end  func()
	quit context.CancelFunc
	over sync.WaitGroup

	// Any goroutine (atomic).
	stage     atomic.Pointer[string]
	recorded  atomic.Bool // series have begun, at Report.Started
	recording atomic.Bool // and go on

	// Owned by the goroutine that watches, then by who has stopped it.
	points map[plotted]*report.Series
	order  []plotted
	last   moment
}

// plotted names a series.
type plotted struct{ plot, name string }

// moment is what a look has seen.
type moment struct {
	at     time.Time
	counts map[string]int64
	server usage
	client time.Duration
}

// watchEvery is the time between two looks, plainEvery that between two lines of progress where there is no terminal.
const (
	watchEvery = time.Second
	plainEvery = 5 * time.Second
)

func (r *Run) newWatch(stage Stage) *watch {
	ctx, quit := context.WithCancel(context.Background())
	w := &watch{run: r, quit: quit, points: map[plotted]*report.Series{}, show: func(string) {}, end: func() {}}
	switch {
	case stage.Live == nil:
	case stage.Terminal:
		w.show, w.end = onTerminal(stage.Live)
	default:
		var last time.Time
		w.show = func(line string) {
			if time.Since(last) >= plainEvery {
				last = time.Now()
				_, _ = fmt.Fprintln(stage.Live, line)
			}
		}
	}
	w.over.Go(func() { w.look(ctx) })
	return w
}

// onTerminal shows one line that changes. end leaves it.
func onTerminal(out io.Writer) (show func(string), end func()) {
	var line atomic.Pointer[string]
	line.Store(new(string))
	p := mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(200*time.Millisecond))
	bar := p.AddSpinner(0, mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + *line.Load() })), mpb.BarRemoveOnComplete())
	return func(s string) { line.Store(&s) }, func() {
		bar.SetTotal(-1, true)
		p.Wait()
	}
}

// stage says what the run does now.
func (r *Run) stage(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.watch.stage.Store(&s)
}

// stop ends it.
func (w *watch) stop() {
	w.quit()
	w.over.Wait()
	w.end()
}

func (w *watch) look(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.once(ctx)
		}
	}
}

// once looks. The server's metrics are not asked for, because that costs it something; its process is.
func (w *watch) once(ctx context.Context) {
	r := w.run
	r.mu.Lock()
	crews := append([]*crew(nil), r.crews...)
	r.mu.Unlock()
	all := newTally()
	for _, c := range crews {
		t, err := c.collect(true)
		if err != nil {
			return // the scenario gets that error, too
		}
		all.add(t)
	}
	now := moment{at: time.Now(), counts: all.Counts}
	now.server, _ = gauge{pid: r.Target.PID, beside: r.Target.Beside}.use(ctx)
	now.client, _, _ = r.own()
	w.show(w.line(now, all))
	if w.recording.Load() && !w.last.at.IsZero() {
		w.plot(now, all)
	}
	w.last = now
}

// line is the progress for people.
func (w *watch) line(now moment, t tally) string {
	var parts []string
	if s := w.stage.Load(); s != nil {
		parts = append(parts, *s)
	}
	parts = append(parts, fmt.Sprintf("%d connections", t.Counts[countOpen]))
	if n := t.Counts[countBack]; n > 0 {
		parts = append(parts, fmt.Sprintf("%.0f messages/s", w.rate(now, countBack)))
	}
	if d := t.headline(); d != nil {
		parts = append(parts, fmt.Sprintf("%s p99 %v", d.Name, time.Duration(d.Quantile(0.99)).Round(10*time.Microsecond)))
	}
	var errs uint64
	for _, n := range t.Errors {
		errs += n
	}
	return strings.Join(append(parts, fmt.Sprintf("%d errors", errs)), ", ")
}

// headline is the distribution that says most: what messages took, or else what connecting did. Nil if there is none.
func (t tally) headline() *report.Distribution {
	var best *report.Distribution
	for name, d := range t.Latencies {
		if d.Count() > 0 && (best == nil || best.Name == connecting || name != connecting && name < best.Name) {
			best = d
		}
	}
	return best
}

// rate is how much a count has grown in a second.
func (w *watch) rate(now moment, count string) float64 {
	if w.last.at.IsZero() {
		return 0
	}
	return float64(max(now.counts[count]-w.last.counts[count], 0)) / now.at.Sub(w.last.at).Seconds()
}

// plot adds a point to each series.
func (w *watch) plot(now moment, t tally) {
	x := now.at.Sub(w.run.Report.Started).Seconds()
	if x <= 0 {
		return
	}
	w.point("Connections", "open", "", x, float64(t.Counts[countOpen]))
	if t.Counts[countBack] > 0 {
		w.point("Messages", countBack, "/s", x, w.rate(now, countBack))
	}
	for name, d := range t.Latencies {
		if d.Count() == 0 {
			continue
		}
		w.point(name, "p50", "ns", x, float64(d.Quantile(0.5)))
		w.point(name, "p99", "ns", x, float64(d.Quantile(0.99)))
		w.point(name, "max", "ns", x, float64(d.Max()))
	}
	took := now.at.Sub(w.last.at)
	w.point("CPU", "load", "%", x, share(now.client-w.last.client, took))
	if pid := w.run.Target.PID; pid != 0 {
		w.point("CPU", "server", "%", x, share(now.server.CPU-w.last.server.CPU, took))
		w.point("Memory", "server", "B", x, float64(now.server.RSS))
	}
	if k, err := kernelUse(w.run.Target.PID); err == nil {
		w.point("Memory", "TCP buffers", "B", x, float64(k.TCP))
	}
}

// point adds one. x rises.
func (w *watch) point(plot, name, unit string, x, y float64) {
	key := plotted{plot, name}
	s := w.points[key]
	if s == nil {
		s = &report.Series{Name: name, Plot: plot, Unit: unit}
		w.points[key] = s
		w.order = append(w.order, key)
	}
	s.Points = append(s.Points, [2]float64{x, y})
}

// series are those that there are, when it has stopped.
func (w *watch) series() (out []report.Series) {
	for _, key := range w.order {
		out = append(out, *w.points[key])
	}
	return out
}
