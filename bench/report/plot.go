package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// plot is a diagram. It is drawn by SVG in percentages of a box, so that text stays as large as text on every screen.
type plot struct {
	Title string
	Note  string
	Lines []line
	X, Y  []tick
	Hits  []hit
	Wide  bool
}

// line is one of a plot's. Area fills what is under it.
type line struct {
	Name  string
	Class string // of its colour
	Path  string // in thousandths of the box
	Area  string
	Last  string // its last value, for the legend

	points [][2]float64
	unit   string
}

// hit is a strip of a plot, which tells its values while one points at it.
type hit struct {
	X, Width, Middle string
	Text             string
}

// colours are as many as the page's style has for lines.
const colours = 8

// maxHits bounds the strips of a plot, maxDrawn the points of a line: a screen has no more.
const (
	maxHits  = 120
	maxDrawn = 1500
)

// draw fills in the paths, ticks and strips.
func (p *plot) draw(x, y axis, area bool) {
	p.X, p.Y = spaced(x.ticks(false)), y.ticks(true)
	for i := range p.Lines {
		l := &p.Lines[i]
		l.Class = cmp.Or(l.Class, "c"+strconv.Itoa(i%colours))
		var b strings.Builder
		for k, point := range thinned(l.points) {
			letter := byte('L')
			if k == 0 {
				letter = 'M'
			}
			fmt.Fprintf(&b, "%c%s %s", letter, thousandth(x.at(point[0])), thousandth(1-y.at(point[1])))
		}
		l.Path = b.String()
		if n := len(l.points); area && n > 0 {
			l.Area = fmt.Sprintf("%sL%s 1000L%s 1000Z", l.Path, thousandth(x.at(l.points[n-1][0])), thousandth(x.at(l.points[0][0])))
		}
	}
	p.strips(x, y)
}

func thousandth(share float64) string { return strconv.FormatFloat(1000*share, 'f', 1, 64) }

// thinned keeps of every group of points the lowest and the highest, so that no peak is lost.
func thinned(points [][2]float64) [][2]float64 {
	if len(points) <= maxDrawn {
		return points
	}
	group := (2*len(points) + maxDrawn - 1) / maxDrawn
	out := make([][2]float64, 0, maxDrawn+2)
	for part := range slices.Chunk(points, group) {
		low, high := part[0], part[0]
		for _, p := range part {
			if p[1] < low[1] {
				low = p
			}
			if p[1] > high[1] {
				high = p
			}
		}
		if low[0] > high[0] {
			low, high = high, low
		}
		out = append(out, low, high)
	}
	return out
}

// strips divide the box by the points of the line that has most.
func (p *plot) strips(x, y axis) {
	var longest []float64
	for _, l := range p.Lines {
		if len(l.points) > len(longest) {
			longest = longest[:0]
			for _, point := range l.points {
				longest = append(longest, point[0])
			}
		}
	}
	if len(longest) < 2 {
		return
	}
	every := (len(longest) + maxHits - 1) / maxHits
	var at []float64
	for i := 0; i < len(longest); i += every {
		at = append(at, longest[i])
	}
	for i, v := range at {
		from, to := 0.0, 1.0
		if i > 0 {
			from = (x.at(at[i-1]) + x.at(v)) / 2
		}
		if i < len(at)-1 {
			to = (x.at(v) + x.at(at[i+1])) / 2
		}
		p.Hits = append(p.Hits, hit{percentage(from), percentage(max(to-from, 0)), percentage(x.at(v)), p.says(x, y, v)})
	}
}

// says is what the lines are at x.
func (p *plot) says(x, y axis, v float64) string {
	label := humane(v, x.unit)
	if x.labels != nil {
		label = x.labels(v)
	}
	parts := []string{label}
	for _, l := range p.Lines {
		i := sort.Search(len(l.points), func(i int) bool { return l.points[i][0] >= v })
		if i == len(l.points) {
			continue
		}
		parts = append(parts, strings.TrimSpace(l.Name+" "+humane(l.points[i][1], y.unit)))
	}
	return strings.Join(parts, "   ")
}

// percentiles is the plot of which share of values is below which: each step to the right is a tenth of what was left.
func percentiles(title string, distributions []*Distribution, names []string) (p plot) {
	p = plot{Title: title, Note: "how many of all values are at most so high; each step to the right is ten times nearer to all of them", Wide: true}
	low, high, far := math.Inf(1), 0.0, 1.0
	for i, d := range distributions {
		if d.Count() == 0 {
			continue
		}
		far = max(far, math.Log10(float64(d.Count())))
		l := line{Name: names[i], Class: "c" + strconv.Itoa(i%colours), Last: d.value(0.99), unit: d.Unit}
		if l.Last != "–" {
			l.Last = "p99 " + l.Last
		}
		for k := 0.0; k <= 60*math.Log10(float64(d.Count())); k++ {
			v := float64(d.Quantile(1 - math.Pow(10, -k/60)))
			low, high = min(low, max(v, 1)), max(high, v)
			l.points = append(l.points, [2]float64{k / 60, v})
		}
		if l.points == nil { // a single value
			l.points = [][2]float64{{0, float64(d.Max())}}
			low, high = min(low, float64(d.Max())), max(high, float64(d.Max()))
		}
		p.Lines = append(p.Lines, l)
	}
	if len(p.Lines) == 0 {
		return p
	}
	x := axis{low: 0, high: far, every: 1, labels: nines}
	p.draw(x, newAxis(distributions[0].Unit, low, high, true), len(p.Lines) == 1)
	return p
}

// nines names the quantile that leaves a share of 10 to the power of -k.
func nines(k float64) string {
	if k == 0 {
		return "min"
	}
	left := 100 * math.Pow(10, -k)
	return "p" + strconv.FormatFloat(100-left, 'f', max(int(math.Ceil(k-2.0001)), 0), 64)
}

// bins is how many bars a factor of ten has in the plot of frequencies.
const bins = 24

// frequencies is the plot of how many values are how high: two humps are two causes.
func frequencies(title string, distributions []*Distribution, names []string) (p plot) {
	p = plot{Title: title, Note: "share of all values by their height"}
	low, high, most := math.MaxInt, 0, 0.0
	for i, d := range distributions {
		shares := map[int]float64{}
		for _, bar := range d.h.Distribution() {
			if bar.Count > 0 {
				bin := int(math.Floor(math.Log10(float64(max(bar.From, 1))) * bins))
				shares[bin] += 100 * float64(bar.Count) / float64(d.Count())
				low, high = min(low, bin), max(high, bin)
			}
		}
		if len(shares) == 0 {
			continue
		}
		l := line{Name: names[i], Class: "c" + strconv.Itoa(i%colours), unit: "%"}
		for bin, share := range shares {
			most = max(most, share)
			l.points = append(l.points, [2]float64{float64(bin), share})
		}
		p.Lines = append(p.Lines, l)
	}
	for i := range p.Lines {
		p.Lines[i].stairs(low, high)
	}
	if len(p.Lines) == 0 {
		return p
	}
	value := func(bin float64) float64 { return math.Pow(10, bin/bins) }
	unit := distributions[0].Unit
	x := axis{low: float64(low), high: float64(high + 1), every: bins, labels: func(v float64) string { return humane(value(v), unit) }}
	p.draw(x, newAxis("%", 0, most, false), len(p.Lines) <= 2)
	p.X = spaced(axis{unit: unit, low: value(x.low), high: value(x.high), log: true}.ticks(false))
	return p
}

// stairs makes of a line's bins the outline of bars from the lowest to the highest bin.
func (l *line) stairs(low, high int) {
	shares := map[int]float64{}
	for _, p := range l.points {
		shares[int(p[0])] = p[1]
	}
	l.points = nil
	for bin := low; bin <= high; bin++ {
		l.points = append(l.points, [2]float64{float64(bin), shares[bin]}, [2]float64{float64(bin + 1), shares[bin]})
	}
}

// timelines are the plots of series: those of one title, unit and X share one. Each report's series are drawn apart.
func timelines(reports []*Report, names []string) (plots []plot) {
	type id struct{ title, unit, x string }
	var order []id
	groups := map[id][]line{}
	for i, r := range reports {
		for _, s := range r.Series {
			if len(s.Points) == 0 {
				continue
			}
			key := id{cmp.Or(s.Plot, s.Name), s.Unit, s.X}
			if groups[key] == nil {
				order = append(order, key)
			}
			name := s.Name
			if names[i] != "" {
				name += " " + names[i]
			}
			groups[key] = append(groups[key], line{Name: name, points: s.Points, unit: s.Unit, Last: humane(s.Points[len(s.Points)-1][1], s.Unit)})
		}
	}
	for _, key := range order {
		p := plot{Title: key.title, Lines: groups[key]}
		unit := "s"
		if key.x != "" {
			unit, p.Note = "", "by "+key.x
		}
		left, right, low, high := bounds(p.Lines)
		x := newAxis(unit, left, right, false)
		x.low, x.high = left, max(right, left+1e-9)
		if unit == "s" { // minutes would be hard to read in decimals, hours are rare
			x.labels = func(v float64) string { return grouped(v) + " s" }
		}
		p.draw(x, newAxis(key.unit, low, high, unitOf(key.unit).kind == span), len(p.Lines) == 1)
		plots = append(plots, p)
	}
	return plots
}

// bounds are those of all points of lines.
func bounds(lines []line) (left, right, low, high float64) {
	left, right, low, high = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, p := range l.points {
			left, right, low, high = min(left, p[0]), max(right, p[0]), min(low, p[1]), max(high, p[1])
		}
	}
	return left, right, low, high
}

// latencyPlots are those of distributions, for each unit two.
func latencyPlots(distributions []*Distribution, names []string) (plots []plot) {
	byUnit := map[string][]int{}
	var order []string
	for i, d := range distributions {
		if byUnit[d.Unit] == nil {
			order = append(order, d.Unit)
		}
		byUnit[d.Unit] = append(byUnit[d.Unit], i)
	}
	for _, unit := range order {
		var ds []*Distribution
		var ns []string
		for _, i := range byUnit[unit] {
			ds, ns = append(ds, distributions[i]), append(ns, names[i])
		}
		subject := "Latency"
		if unitOf(unit).kind != span {
			subject = "Values"
		}
		plots = append(plots, percentiles(subject+" by percentile", ds, ns), frequencies(subject+" distribution", ds, ns))
	}
	return slices.DeleteFunc(plots, func(p plot) bool { return len(p.Lines) == 0 })
}
