package report

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Verdict is what a comparison can say of a figure.
type Verdict string

// What can be said: Same is no difference, or none that is more than chance; Unknown has too few samples, or was not
// measured.
const (
	Better  Verdict = "better"
	Worse   Verdict = "worse"
	Same    Verdict = "same"
	Unknown Verdict = "unknown"
)

// Difference is a figure in two reports.
type Difference struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit,omitempty"`
	Text    string  `json:"text,omitempty"`
	Before  float64 `json:"before"`
	After   float64 `json:"after"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`              // "p=0.008 n=5+5", or why nothing can be said
	Low     float64 `json:"low,omitempty"`    // the relative change of the medians is between these in 95 of 100 cases; both 0 if that is not known
	High    float64 `json:"high,omitempty"`   //
	Higher  bool    `json:"higher,omitempty"` // is better

	beforeMissing, afterMissing bool
}

// QuantileDifference is one quantile of a distribution in two reports, with what it is between in 95 of 100 cases.
type QuantileDifference struct {
	Distribution string   `json:"distribution"`
	Quantile     string   `json:"quantile"`
	Unit         string   `json:"unit,omitempty"`
	Before       [3]int64 `json:"before"` // low, value, high
	After        [3]int64 `json:"after"`
	Verdict      Verdict  `json:"verdict"`

	counts [2]int64
}

// Comparison is one report beside another.
type Comparison struct {
	Before    *Report              `json:"-"`
	After     *Report              `json:"-"`
	Scenario  string               `json:"scenario"`
	Figures   []Difference         `json:"figures"`
	Quantiles []QuantileDifference `json:"quantiles,omitempty"`
	Notes     []string             `json:"notes,omitempty"` // what else differs, and what makes either doubtful
}

// pool makes one report of several runs of one load: the value of a figure is the median of the runs', its samples are
// their values, distributions add. One run stays as it is: then the samples are those of its intervals.
func pool(runs []*Report) (*Report, error) {
	if len(runs) == 0 {
		return nil, errors.New("no report to compare")
	}
	runs[0].tidy()
	first := *runs[0]
	if len(runs) == 1 {
		return &first, nil
	}
	first.Figures, first.Latencies, first.Series, first.Errors = nil, nil, nil, nil
	for i, run := range runs {
		run.tidy()
		if err := alike(runs[0], run); err != nil {
			return nil, fmt.Errorf("runs 1 and %d are of different loads: %w", i+1, err)
		}
		if err := runs[0].belongs(run); err != nil {
			return nil, err
		}
		first.Cut = first.Cut || run.Cut
		for what, n := range run.Errors {
			first.Fail(what, n)
		}
		for _, w := range run.Warnings {
			first.Warn(w)
		}
		for _, d := range run.Latencies {
			first.Distribution(d.Name, d.Unit).Merge(d)
		}
	}
	for _, f := range runs[0].Figures {
		f.Samples = nil
		for i, run := range runs {
			own, ok := run.Figure(f.Name)
			if !ok || own.Missing != "" {
				f.Missing = fmt.Sprintf("not measured in run %d", i+1)
				continue
			}
			f.Samples = append(f.Samples, own.Value)
		}
		if f.Missing == "" {
			f.Value = median(f.Samples)
		}
		first.Figures = append(first.Figures, f)
	}
	return &first, nil
}

// alike says why two reports can't be compared.
func alike(a, b *Report) error {
	if a.Scenario != b.Scenario {
		return fmt.Errorf("scenarios %s and %s", clean(a.Scenario), clean(b.Scenario))
	}
	if a.Connections != b.Connections {
		return fmt.Errorf("%d and %d connections", a.Connections, b.Connections)
	}
	return nil
}

// Compare sets what came after beside what was before: one run of each, or better several, which are pooled. Reports of
// different scenarios or numbers of connections are refused, unless different is true.
func Compare(befores, afters []*Report, different bool) (*Comparison, error) {
	before, err := pool(befores)
	if err != nil {
		return nil, err
	}
	after, err := pool(afters)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Before: before, After: after, Scenario: before.Scenario, Notes: notes(before, after)}
	if len(befores) == 1 || len(afters) == 1 {
		c.Notes = append(c.Notes, "of one run the samples are its intervals: they tell these runs apart, and maybe not what they are runs of; "+
			"give several of each, as A1.json,A2.json,A3.json,A4.json B1.json,…")
	}
	if err := alike(before, after); err != nil {
		if !different {
			return nil, fmt.Errorf("%w: what differs would be the loads, not the servers; --different compares them anyway", err)
		}
		c.Notes = append(c.Notes, "the loads differ: "+err.Error())
	}
	for _, d := range before.Latencies {
		if i := slices.IndexFunc(after.Latencies, func(o *Distribution) bool { return o.Name == d.Name && o.Unit == d.Unit }); i >= 0 {
			c.Quantiles = append(c.Quantiles, quantileDifferences(d, after.Latencies[i])...)
		}
	}
	for _, f := range before.Figures {
		other, ok := after.Figure(f.Name)
		if !ok {
			other = Figure{Missing: "not in the second report"}
		}
		d := difference(f, other)
		if d.Verdict == Unknown && f.Of != "" && f.Of == other.Of {
			c.byValues(&d, f.Of)
		}
		c.Figures = append(c.Figures, d)
	}
	for _, f := range after.Figures {
		if _, ok := before.Figure(f.Name); !ok {
			d := difference(Figure{Name: f.Name, Unit: f.Unit, Text: f.Text, Higher: f.Higher, Missing: "not in the first report"}, f)
			c.Figures = append(c.Figures, d)
		}
	}
	return c, nil
}

// byValues judges a figure that is a quantile of a distribution by the values that this has.
func (c *Comparison) byValues(d *Difference, of string) {
	for _, q := range c.Quantiles {
		if q.Distribution != of || !strings.HasSuffix("-"+d.Name, "-"+q.Quantile) || d.beforeMissing || d.afterMissing {
			continue
		}
		if q.Unit != d.Unit || d.Before != float64(q.Before[1]) || d.After != float64(q.After[1]) {
			return // it says that it is, and is not
		}
		d.Verdict = q.Verdict
		d.Why = "by " + grouped(float64(q.counts[0])) + " and " + grouped(float64(q.counts[1])) + " values"
		if q.Before[0] > 0 {
			d.Low, d.High = relative(float64(q.Before[2]), float64(q.After[0])), relative(float64(q.Before[0]), float64(q.After[2]))
		}
	}
}

// difference judges a figure.
func difference(a, b Figure) Difference {
	d := Difference{
		Name: a.Name, Unit: a.Unit, Text: a.Text, Before: a.Value, After: b.Value, Higher: a.Higher,
		Verdict: Unknown, beforeMissing: a.Missing != "", afterMissing: b.Missing != "",
	}
	scale := 1.0
	switch from, to := unitOf(b.Unit), unitOf(a.Unit); {
	case a.Missing != "":
		d.Before, d.Why = 0, a.Missing
		return d
	case b.Missing != "":
		d.After, d.Why = 0, b.Missing
		return d
	case a.Unit != b.Unit && (from.kind != to.kind || from.kind == other):
		d.Why, d.afterMissing = fmt.Sprintf("in %s and in %s", orNone(a.Unit), orNone(b.Unit)), true
		return d
	case a.Unit != b.Unit:
		scale = from.scale / to.scale
		d.After *= scale
	}
	n, m := len(a.Samples), len(b.Samples)
	if !enough(n, m) {
		if d.Why = fmt.Sprintf("too few samples to say: %d and %d, of 4 and 4", n, m); d.Before == d.After {
			d.Verdict, d.Why = Same, ""
		}
		return d
	}
	after := make([]float64, m)
	for i, v := range b.Samples {
		after[i] = v * scale
	}
	p := mannWhitney(a.Samples, after)
	if d.Why = fmt.Sprintf("p=%.3f n=%d+%d", p, n, m); p < 0.001 {
		d.Why = fmt.Sprintf("p<0.001 n=%d+%d", n, m)
	}
	if low, high := bootstrap(a.Samples, after); finite(low) {
		d.Low, d.High = low, high
	}
	switch {
	case p >= significance || median(after) == median(a.Samples):
		d.Verdict = Same
	case (median(after) > median(a.Samples)) == d.Higher:
		d.Verdict = Better
	default:
		d.Verdict = Worse
	}
	return d
}

func quantileDifferences(a, b *Distribution) (out []QuantileDifference) {
	for _, q := range quantiles {
		if float64(min(a.Count(), b.Count())) < needed(q.Q) {
			continue
		}
		d := QuantileDifference{Distribution: a.Name, Quantile: q.Name, Unit: a.Unit, Verdict: Same, counts: [2]int64{a.Count(), b.Count()}}
		d.Before[1], d.After[1] = a.Quantile(q.Q), b.Quantile(q.Q)
		d.Before[0], d.Before[2] = a.between(q.Q)
		d.After[0], d.After[2] = b.between(q.Q)
		switch {
		case d.After[0] > d.Before[2]:
			d.Verdict = Worse
		case d.After[2] < d.Before[0]:
			d.Verdict = Better
		}
		out = append(out, d)
	}
	return out
}

// notes say what else differs between the two, and what makes either doubtful.
func notes(a, b *Report) (out []string) {
	differ := func(what, x, y string) {
		if x != y {
			out = append(out, clean(fmt.Sprintf("%s: %s before, %s after", what, orElse(x, "unknown"), orElse(y, "unknown"))))
		}
	}
	differ("kernel", a.Environment.Kernel, b.Environment.Kernel)
	differ("CPU", a.Environment.CPU, b.Environment.CPU)
	differ("cores", grouped(float64(a.Environment.Cores)), grouped(float64(b.Environment.Cores)))
	differ("Go", a.Environment.Go, b.Environment.Go)
	differ("millpond", a.Environment.Millpond, b.Environment.Millpond)
	differ("server", strings.Join(a.Environment.Server, " "), strings.Join(b.Environment.Server, " "))
	for _, k := range slices.Sorted(maps.Keys(a.Environment.Sysctl)) {
		differ(k, a.Environment.Sysctl[k], b.Environment.Sysctl[k])
	}
	for _, side := range []struct {
		name string
		*Report
	}{{"before", a}, {"after", b}} {
		if side.Cut {
			out = append(out, side.name+" was cut short")
		}
		if len(side.Errors) > 0 {
			out = append(out, side.name+" had errors: "+clean(strings.Join(side.kinds(), "; ")))
		}
		for _, w := range side.Warnings {
			out = append(out, side.name+": "+clean(w))
		}
	}
	return out
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Change is the relative change, infinite from zero to something.
func (d Difference) Change() float64 { return relative(d.Before, d.After) }

// CheckLimits says what is wrong with limits on differences: names that there are not, values without a sign, units
// that don't fit.
func (c *Comparison) CheckLimits(limits []Limit) error {
	return c.each(limits, func(Limit, Difference, float64) error { return nil })
}

// FailIf returns an error with a line for each limit that does not hold, nil if all do. A difference that is chance by
// its samples holds; one that there are too few samples for is taken as it is. What either report did not measure does
// not hold.
func (c *Comparison) FailIf(limits []Limit) error {
	return c.each(limits, func(l Limit, d Difference, limit float64) error {
		if d.beforeMissing || d.afterMissing {
			return fmt.Errorf("%s can't be compared: %s", d.Name, clean(d.Why))
		}
		change := d.After - d.Before
		if l.Unit == "%" {
			change = 100 * d.Change()
		}
		if d.Verdict == Same || !l.broken(change, limit) {
			return nil
		}
		return fmt.Errorf("%s went from %s to %s (%s)", d.Name, humane(d.Before, d.Unit), humane(d.After, d.Unit), percent(d.Change()))
	})
}

func (c *Comparison) each(limits []Limit, check func(l Limit, d Difference, limit float64) error) error {
	figures := make([]Figure, len(c.Figures))
	for i, d := range c.Figures {
		figures[i] = Figure{Name: d.Name, Unit: d.Unit}
	}
	r := Report{Scenario: c.Scenario, Figures: figures}
	var all []error
	for _, l := range limits {
		f, err := r.named(l)
		limit := l.Value
		switch {
		case err != nil:
		case !l.Change:
			err = fmt.Errorf("a limit on a difference has a sign: %s%s+%g%s", l.Name, l.Op, l.Value, l.Unit)
		case l.Unit != "%":
			limit, err = l.in(f)
		}
		if err == nil {
			i := slices.IndexFunc(c.Figures, func(d Difference) bool { return d.Name == l.Name })
			err = check(l, c.Figures[i], limit)
		}
		if err != nil {
			all = append(all, fmt.Errorf("--fail-if %s: %w", l, err))
		}
	}
	return errors.Join(all...)
}

// percent writes a relative change with its sign.
func percent(change float64) string {
	switch {
	case math.IsInf(change, 0):
		return "from nothing"
	case change == 0:
		return "0 %"
	}
	return fmt.Sprintf("%+.1f %%", 100*change)
}
