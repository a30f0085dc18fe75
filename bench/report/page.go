package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The pages have no script and load nothing, and their policy forbids both: what a server put into a report can't run.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	pages = template.Must(template.New("").Parse(pageHTML))
)

// page is what all pages have.
type page struct {
	Title  string
	Policy string
	Style  template.CSS
}

func newPage(title string) page {
	sum := sha256.Sum256([]byte(pageCSS))
	return page{
		Title:  title,
		Policy: "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		Style:  template.CSS(pageCSS), //nolint:gosec // our own file
	}
}

// reportPage is what the page of a report shows.
type reportPage struct {
	page
	*Report
	Facts   []string // under the title
	Tiles   []figureView
	Figures []figureView
	Plots   []plot
	Table   [][]string
	Errors  []errorView
	Holding string // how many budgets hold
	Broken  bool
	Where   []pair
	Command string
	Server  string
}

// figureView is a figure for people.
type figureView struct {
	Name, Amount, Unit, What, Budget string
	Holds, Fails, Missing            bool
	Gauge                            string // how much of the budget is used, as a percentage; empty if that says nothing
	Samples                          string // the path of a small plot
	Spread                           string // "6.30 µs to 6.50 µs in 3 samples"
}

type errorView struct{ Count, What string }

type pair struct{ Name, Value string }

// maxTiles is how many figures stand out.
const maxTiles = 6

// WriteHTML writes one page that holds all it needs.
func (r *Report) WriteHTML(w io.Writer) error {
	r.tidy()
	p := reportPage{page: newPage("millpond bench " + clean(r.Scenario)), Report: r, Facts: r.facts(), Where: r.Environment.pairs()}
	p.Command, p.Server = clean(strings.Join(r.Command, " ")), clean(strings.Join(r.Environment.Server, " "))
	holding, budgets := 0, 0
	for _, f := range r.Figures {
		v := f.view()
		p.Figures = append(p.Figures, v)
		if v.Holds {
			holding++
		}
		if v.Holds || v.Fails {
			budgets++
		}
	}
	if budgets > 0 {
		p.Holding, p.Broken = grouped(float64(holding))+" of "+grouped(float64(budgets))+" budgets hold", holding < budgets
	}
	p.Tiles = tiles(p.Figures)
	names := make([]string, len(r.Latencies))
	for i, d := range r.Latencies {
		names[i] = clean(d.Name)
		row := []string{names[i]}
		for _, q := range quantiles {
			row = append(row, d.value(q.Q))
		}
		p.Table = append(p.Table, append(row, d.top(), grouped(float64(d.Count()))))
	}
	p.Plots = append(latencyPlots(r.Latencies, names), timelines([]*Report{r}, []string{""})...)
	for _, what := range r.kinds() {
		p.Errors = append(p.Errors, errorView{grouped(float64(r.Errors[what])), clean(what)})
	}
	return pages.ExecuteTemplate(w, "report", p)
}

// facts are those under the title.
func (r *Report) facts() (out []string) {
	if r.Connections > 0 {
		out = append(out, grouped(float64(r.Connections))+" connections")
	}
	if r.Duration > 0 {
		out = append(out, r.Duration.Round(roundTo(r.Duration)).String())
	}
	if !r.Started.IsZero() {
		out = append(out, r.Started.UTC().Format(time.DateTime)+" UTC")
	}
	if v := r.Environment.Millpond; v != "" {
		out = append(out, "millpond "+clean(v))
	}
	return out
}

// tiles are the figures that stand out: those with budgets, then those that come first.
func tiles(all []figureView) (out []figureView) {
	for _, budget := range []bool{true, false} {
		for _, f := range all {
			if has := f.Holds || f.Fails; has == budget && !(f.Missing && !has) && len(out) < maxTiles {
				out = append(out, f)
			}
		}
	}
	return out
}

func (f Figure) view() figureView {
	v := figureView{Name: clean(f.Name), What: f.what(), Missing: f.Missing != "", Amount: f.amount()}
	if i := strings.LastIndexByte(v.Amount, ' '); i > 0 && !v.Missing {
		v.Amount, v.Unit = v.Amount[:i], v.Amount[i+1:]
	}
	holds, has := f.Holds()
	v.Holds, v.Fails = holds, has && !holds
	if has {
		v.Budget = f.Budget.words(f.Unit)
		if limit, err := f.Budget.in(f); err == nil && limit > 0 && f.Budget.Op[0] == '>' && !v.Missing {
			v.Gauge = percentage(min(max(f.Value/limit, 0), 1))
		}
	}
	if n := len(f.Samples); n >= 3 {
		v.Samples = spark(f.Samples)
		v.Spread = humane(slices.Min(f.Samples), f.Unit) + " to " + humane(slices.Max(f.Samples), f.Unit) + " in " + grouped(float64(n)) + " samples"
	}
	return v
}

// spark is the path of a small plot of samples, from their lowest to their highest.
func spark(samples []float64) string {
	points := make([][2]float64, len(samples))
	for i, v := range samples {
		points[i] = [2]float64{float64(i), v}
	}
	low, high := slices.Min(samples), slices.Max(samples)
	if low == high {
		low, high = low-1, high+1
	}
	p := plot{Lines: []line{{points: points}}}
	p.draw(axis{high: float64(len(samples) - 1), every: 1}, axis{low: low - (high-low)/10, high: high + (high-low)/10, every: high - low}, false)
	return p.Lines[0].Path
}

func (e Environment) pairs() (out []pair) {
	add := func(name, value string) {
		if value != "" {
			out = append(out, pair{clean(name), clean(value)})
		}
	}
	add("Kernel", e.Kernel)
	add("CPU", e.CPU)
	if e.Cores > 0 {
		add("Cores", grouped(float64(e.Cores)))
	}
	if e.MemoryBytes > 0 {
		add("Memory", humane(float64(e.MemoryBytes), "B"))
	}
	add("Go", e.Go)
	add("millpond", e.Millpond)
	for _, k := range slices.Sorted(maps.Keys(e.Limits)) {
		add(k, e.Limits[k])
	}
	for _, k := range slices.Sorted(maps.Keys(e.Sysctl)) {
		add(k, e.Sysctl[k])
	}
	return out
}

// comparisonPage is what the page of a comparison shows.
type comparisonPage struct {
	page
	*Comparison
	Sides  []string
	Rows   []differenceView
	Plots  []plot
	Levels []quantileView
	Counts []pair // of verdicts
}

type differenceView struct {
	Difference
	BeforeText, AfterText, ChangeText, IntervalText, Mark, Class string
	Bar                                                          bool   // there is an interval to draw
	BarX, BarWidth, BarAt                                        string // on an axis of changes, the middle is none
}

type quantileView struct {
	Distribution, Quantile, Before, BeforeRange, After, AfterRange, Change, Mark, Class string
}

// WriteHTML writes one page that holds all it needs.
func (c *Comparison) WriteHTML(w io.Writer) error {
	p := comparisonPage{page: newPage("millpond bench compare: " + clean(c.Scenario)), Comparison: c, Sides: []string{c.Before.headline(), c.After.headline()}}
	widest := 0.05 // five percent are at least drawn as such
	for _, d := range c.Figures {
		widest = max(widest, min(max(math.Abs(d.Low), math.Abs(d.High)), 1))
	}
	counts := map[Verdict]int{}
	for _, d := range c.Figures {
		counts[d.Verdict]++
		v := differenceView{
			Difference: d, BeforeText: d.value(d.Before, d.beforeMissing), AfterText: d.value(d.After, d.afterMissing), ChangeText: d.change(),
			IntervalText: d.interval(), Mark: marks[d.Verdict], Class: string(d.Verdict),
		}
		v.Name, v.Text, v.Why = clean(d.Name), clean(d.Text), clean(d.Why)
		if v.Bar = d.Low != 0 || d.High != 0; v.Bar {
			x := axis{low: -widest, high: widest}
			v.BarX, v.BarWidth, v.BarAt = percentage(x.at(d.Low)), percentage(x.at(d.High)-x.at(d.Low)), percentage(x.at(d.Change()))
		}
		p.Rows = append(p.Rows, v)
	}
	for _, verdict := range []Verdict{Worse, Better, Same, Unknown} {
		if n := counts[verdict]; n > 0 {
			p.Counts = append(p.Counts, pair{string(verdict), grouped(float64(n)) + " " + string(verdict)})
		}
	}
	for _, q := range c.Quantiles {
		p.Levels = append(p.Levels, quantileView{
			clean(q.Distribution), q.Quantile, humane(float64(q.Before[1]), q.Unit), q.interval(q.Before),
			humane(float64(q.After[1]), q.Unit), q.interval(q.After), percent(q.Change()), marks[q.Verdict], string(q.Verdict),
		})
	}
	for _, d := range c.Before.Latencies {
		if i := slices.IndexFunc(c.After.Latencies, func(o *Distribution) bool { return o.Name == d.Name && o.Unit == d.Unit }); i >= 0 {
			pair := []*Distribution{d, c.After.Latencies[i]}
			names := []string{"before", "after"}
			levels := percentiles(clean(d.Name)+" by percentile", pair, names)
			levels.Wide = false
			p.Plots = append(p.Plots, levels, frequencies(clean(d.Name)+" distribution", pair, names))
		}
	}
	p.Plots = slices.DeleteFunc(p.Plots, func(p plot) bool { return len(p.Lines) == 0 })
	p.Plots = append(p.Plots, timelines([]*Report{c.Before, c.After}, []string{"before", "after"})...)
	return pages.ExecuteTemplate(w, "comparison", p)
}
