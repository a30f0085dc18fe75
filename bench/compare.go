package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millpond/millpond/bench/report"
)

// compare measures the server and the yardstick in turn, pairs of runs with the same load. What else the machine does then troubles
// both. The figures are the server's, of all its runs.
func (e Echo) compare(ctx context.Context, r *Run) (err error) {
	bare, stop, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	all := echoed{tally: newTally()}
	var ratios, server, yardstick []float64
	for i := range r.Options.Compare {
		if err = ctx.Err(); err != nil {
			break
		}
		var a, b echoed
		if a, err = e.measure(ctx, r, r.Target, fmt.Sprintf("the server, %d of %d", i+1, r.Options.Compare)); err != nil {
			break
		}
		all.join(a)
		if b, err = e.measure(ctx, r, bare, fmt.Sprintf("the bare loop, %d of %d", i+1, r.Options.Compare)); err != nil {
			break
		}
		server, yardstick = append(server, a.perMessage()*1e6), append(yardstick, b.perMessage()*1e6)
		ratios = append(ratios, a.perMessage()/b.perMessage())
	}
	e.figures(r, all, server)
	r.addMedian(report.Figure{
		Name: "x-of-bare", Unit: "x", Samples: ratios, Budget: report.MustLimit("x-of-bare>1.15x"),
		Text: "the server's CPU per message over that of a bare loop that reads, unmasks and writes back: the median of the pairs",
	})
	r.addMedian(report.Figure{Name: "bare-cpu-us/message", Unit: "us", Samples: yardstick, Text: "the bare loop's CPU for each message"})
	return err
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
