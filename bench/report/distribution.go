package report

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// highest is the highest value that a Distribution tells from others: an hour of nanoseconds. What is
// higher counts as that.
const highest = int64(time.Hour)

// digits is how many significant digits are kept of a value.
const digits = 3

// Distribution is how often which value was: latencies, mostly. It takes about 300 KiB. One goroutine
// records; each loop has its own, and they are merged.
type Distribution struct {
	Name string // "round trip"
	Unit string // of the values, as a Figure's: "ns"

	h    *hdrhistogram.Histogram
	over uint64 // values above highest
}

// NewDistribution returns an empty one.
func NewDistribution(name, unit string) *Distribution {
	return &Distribution{Name: name, Unit: unit, h: hdrhistogram.New(1, highest, digits)}
}

// Record counts a value.
func (d *Distribution) Record(value int64) { d.RecordN(value, 1) }

// RecordN counts a value n times.
func (d *Distribution) RecordN(value, n int64) {
	if value > highest {
		value = highest
		d.over += uint64(n)
	}
	_ = d.h.RecordValues(max(value, 0), n) // it is in the range
}

// Merge adds what o has. They may have different names.
func (d *Distribution) Merge(o *Distribution) {
	d.h.Merge(o.h)
	d.over += o.over
}

// Clone returns a copy.
func (d *Distribution) Clone() *Distribution {
	return &Distribution{Name: d.Name, Unit: d.Unit, h: hdrhistogram.Import(d.h.Export()), over: d.over}
}

// Reset forgets all values, as those of a warm-up.
func (d *Distribution) Reset() {
	d.h.Reset()
	d.over = 0
}

// Count is how many values there are.
func (d *Distribution) Count() int64 { return d.h.TotalCount() }

// Quantile returns the value that share q of all, 0 to 1, are at most, 0 if there is none.
func (d *Distribution) Quantile(q float64) int64 { return d.h.ValueAtQuantile(q * 100) }

// Max returns the highest value.
func (d *Distribution) Max() int64 { return d.h.Max() }

// Mean returns the mean value.
func (d *Distribution) Mean() float64 { return d.h.Mean() }

// Figures are the quantiles as figures: prefix "" makes "p50", "p90", "p99", "p99.9" and "max", "connect-" makes
// "connect-p50". text is what the distribution is of, in words. Those that there are too few values for are there as
// not measured.
func (d *Distribution) Figures(prefix, text string) []Figure {
	var out []Figure
	add := func(name, words string, value int64, wanted float64) {
		f := Figure{Name: prefix + name, Of: d.Name, Unit: d.Unit, Text: text + ", " + words, Value: float64(value)}
		if n := d.Count(); float64(n) < wanted {
			f.Value, f.Missing = 0, fmt.Sprintf("of %d values", n)
		}
		out = append(out, f)
	}
	for _, q := range quantiles[:4] {
		add(q.Name, "at most this for "+grouped(q.Q*100)+" %", d.Quantile(q.Q), needed(q.Q))
	}
	add("max", "the highest", d.Max(), 1)
	return out
}

// needed is how many values a quantile wants: one above it, at least.
func needed(q float64) float64 {
	if q <= 0.5 {
		return 1
	}
	return 1 / (1 - q) * (1 - 1e-9)
}
