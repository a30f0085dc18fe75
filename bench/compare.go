package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// noYardstick says why the server cannot be measured beside a yardstick, which is another process on this machine's
// loopback. Empty means that it can.
func (r *Run) noYardstick(ctx context.Context) string {
	most, err := fitting()
	addr, _, _, err2 := r.Target.resolve(ctx)
	switch {
	case errors.Join(err, err2) != nil:
		return errors.Join(err, err2).Error()
	case !addr.Addr().IsLoopback():
		return fmt.Sprintf("the bare loop would be on loopback, and the server is at %v", addr)
	case !r.Target.gauge().visible():
		return "CPU is compared, so the server's --pid or --metrics must be known"
	case r.Target.secure():
		return "the bare loop has no TLS"
	case r.Options.Connections > most:
		return fmt.Sprintf("the bare loop is one process, which holds %d connections here: ulimit -n", most)
	}
	return ""
}

// echoPairs is how often the server and the yardstick are measured, unless --compare says it.
const echoPairs = 3

// besides reports whether the server is to be measured beside the yardstick. If it cannot be, the report says why,
// unless --compare asks for it: then that is an error.
func (e Echo) besides(ctx context.Context, r *Run) (bool, error) {
	if e.NoBare {
		return false, nil
	}
	why := r.noYardstick(ctx)
	if r.Options.Protocol != ProtocolEcho {
		why = "the bare loop speaks --protocol echo"
	}
	if why != "" && r.Options.Compare > 0 {
		return false, errors.New("--compare: " + why)
	}
	if why != "" {
		r.Report.Add(report.Figure{Name: "x-of-bare", Unit: "x", Text: besideBare, Missing: why})
	}
	return why == "", nil
}

const besideBare = "the server's CPU per message over that of a bare loop that reads, unmasks and writes back"

// compare measures the server and the yardstick in turn, pairs of runs with the same load, each of a part of the
// duration. What else the machine does then troubles both. The figures are the server's, of all its runs.
func (e Echo) compare(ctx context.Context, r *Run) (err error) {
	pairs := r.Options.Compare
	if pairs == 0 {
		pairs = echoPairs
	}
	bare, stop, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	all := echoed{tally: newTally()}
	var ratios, server, yardstick []float64
	for i := range pairs {
		if err = ctx.Err(); err != nil {
			break
		}
		var a, b echoed
		run := echoRun{Echo: e, run: r, d: r.Options.Duration / time.Duration(pairs)}
		run.target, run.name, run.take = r.Target, fmt.Sprintf("the server, %d of %d", i+1, pairs), r.take
		if a, err = run.measure(ctx); a.took > 0 { // also of one that was cut short
			all.join(a)
		}
		if err != nil {
			break
		}
		run.target, run.name, run.take = bare, fmt.Sprintf("the bare loop, %d of %d", i+1, pairs), faultless
		r.aside(func() { b, err = run.measure(ctx) })
		if err != nil {
			break
		}
		if min(a.Counts[countBack], b.Counts[countBack]) == 0 {
			continue // there is nothing to compare
		}
		server, yardstick = append(server, a.perMessage()*1e6), append(yardstick, b.perMessage()*1e6)
		ratios = append(ratios, a.perMessage()/b.perMessage())
	}
	e.figures(r, all, server)
	r.addMedian(report.Figure{
		Name: "x-of-bare", Unit: "x", Samples: ratios, Budget: report.MustLimit("x-of-bare>1.15x"), Text: besideBare + ": the median of the pairs",
	})
	r.addMedian(report.Figure{Name: "bare-cpu-us/message", Unit: "us", Samples: yardstick, Text: "the bare loop's CPU for each message"})
	return err
}

// faultless takes what a crew of the yardstick has counted: its errors are not the server's, and end the comparison.
func faultless(c *crew) (tally, error) {
	t, err := c.take()
	if len(t.Errors) > 0 {
		err = errors.Join(err, fmt.Errorf("the bare loop: %s", strings.Join(slices.Sorted(maps.Keys(t.Errors)), ", ")))
	}
	return t, err
}

// aside does what the report's series are not about.
func (r *Run) aside(do func()) {
	was := r.watch.recording.Swap(false)
	do()
	r.watch.recording.Store(was)
}

// join adds another run of the same.
func (e *echoed) join(o echoed) {
	e.add(o.tally)
	e.took += o.took
	e.server += o.server
	e.client += o.client
	e.visible, e.rss, e.clientRSS = o.visible, max(e.rss, o.rss), max(e.clientRSS, o.clientRSS)
}

// addMedian adds a figure that is the median of its samples.
func (r *Run) addMedian(f report.Figure) {
	if len(f.Samples) == 0 {
		f.Missing = "the run ended before it was measured"
	} else {
		f.Value = median(f.Samples)
	}
	r.Report.Add(f)
}

func median(samples []float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
