package report

import (
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Merge adds what others found who shared r's load, as child processes do: distributions of one name add, figures and
// series are joined as they say, connections, errors and warnings add. Figures that can't be joined, as quantiles, are
// left out of both sides: who merges makes them anew of the distributions. An error means that the reports don't belong
// together; r is then as it was.
func (r *Report) Merge(others ...*Report) error {
	all := append([]*Report{r}, others...)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if err := a.belongs(b); err != nil {
				return err
			}
		}
	}
	single := func(f Figure) bool { return f.Join == "" }
	r.Figures = slices.DeleteFunc(r.Figures, single)
	for _, o := range others {
		r.span(o)
		r.Connections += o.Connections
		r.Cut = r.Cut || o.Cut
		for what, n := range o.Errors {
			r.Fail(what, n)
		}
		for _, w := range o.Warnings {
			r.Warn(w)
		}
		for _, f := range o.Figures {
			if !single(f) {
				r.joinFigure(f)
			}
		}
		for _, d := range o.Latencies {
			r.Distribution(d.Name, d.Unit).Merge(d)
		}
	}
	r.joinSeries(all)
	return nil
}

// belongs says why b can't be joined with r.
func (r *Report) belongs(b *Report) error {
	if b.Scenario != r.Scenario {
		return fmt.Errorf("a report of %s does not belong to one of %s", clean(b.Scenario), clean(r.Scenario))
	}
	return errors.Join(joinable(r.Figures, b.Figures), joinable(r.Series, b.Series), joinable(r.Latencies, b.Latencies))
}

// span makes r's time that of both.
func (r *Report) span(o *Report) {
	end := r.Started.Add(r.Duration)
	if e := o.Started.Add(o.Duration); e.After(end) {
		end = e
	}
	if o.Started.Before(r.Started) {
		r.Started = o.Started
	}
	r.Duration = end.Sub(r.Started)
}

// Distribution returns the distribution of that name, a new one if there is none.
func (r *Report) Distribution(name, unit string) *Distribution {
	if i := slices.IndexFunc(r.Latencies, func(d *Distribution) bool { return d.Name == name }); i >= 0 {
		return r.Latencies[i]
	}
	r.Latencies = append(r.Latencies, NewDistribution(name, unit))
	return r.Latencies[len(r.Latencies)-1]
}

// joining is what figures and series have in common.
type joining interface {
	key() (name, unit string, join Join)
}

func (f Figure) key() (name, unit string, join Join)        { return f.Name, f.Unit, f.Join }
func (d *Distribution) key() (name, unit string, join Join) { return d.Name, d.Unit, Sum }
func (s Series) key() (name, unit string, join Join)        { return s.id(), s.Unit, s.Join }

// id tells a series from others: two plots may each have a p99.
func (s Series) id() string { return s.Plot + "/" + s.Name }

// joinable says which of a and b have one name and not one meaning.
func joinable[T joining](a, b []T) error {
	for _, x := range a {
		for _, y := range b {
			xName, xUnit, xJoin := x.key()
			yName, yUnit, yJoin := y.key()
			if xName == yName && (xUnit != yUnit || xJoin != yJoin) {
				return fmt.Errorf("%s is in %q and joined by %q here, in %q and by %q there", clean(xName), xUnit, xJoin, yUnit, yJoin)
			}
		}
	}
	return nil
}

func (j Join) of(a, b float64) float64 {
	switch j {
	case Max:
		return max(a, b)
	case Min:
		return min(a, b)
	default:
		return a + b
	}
}

func (r *Report) joinFigure(f Figure) {
	i := slices.IndexFunc(r.Figures, func(own Figure) bool { return own.Name == f.Name })
	if i < 0 {
		r.Figures = append(r.Figures, f)
		return
	}
	own := &r.Figures[i]
	// What one did not measure nobody knows of all.
	if own.Missing == "" {
		own.Missing = f.Missing
	}
	own.Value = f.Join.of(own.Value, f.Value)
	// Samples of intervals are joined one by one; those that only some have say nothing of all.
	n := min(len(own.Samples), len(f.Samples))
	joined := make([]float64, n)
	for k := range joined {
		joined[k] = f.Join.of(own.Samples[k], f.Samples[k])
	}
	own.Samples = joined
}

// joinSeries joins the series of one name. At any time the value of each is that of its last point before; the
// times are those of all of them.
func (r *Report) joinSeries(reports []*Report) {
	all := map[string][]Series{}
	var order []string
	for i, from := range reports {
		for _, s := range from.Series {
			if i > 0 && s.X == "" { // times count from r's beginning
				s.Points = shifted(s.Points, from.Started.Sub(r.Started).Seconds())
			}
			if all[s.id()] == nil {
				order = append(order, s.id())
			}
			all[s.id()] = append(all[s.id()], s)
		}
	}
	r.Series = r.Series[:0]
	for _, id := range order {
		r.Series = append(r.Series, joined(all[id])...)
	}
}

func shifted(points [][2]float64, by float64) [][2]float64 {
	out := make([][2]float64, len(points))
	for i, p := range points {
		out[i] = [2]float64{p[0] + by, p[1]}
	}
	return out
}

// joined makes one series of those of one name, or keeps them all if they can't be joined.
func joined(parts []Series) []Series {
	out := parts[0]
	if out.Join == "" || len(parts) == 1 {
		return parts
	}
	// The times are those of the part with most points: those of the others are milliseconds beside.
	for _, p := range parts {
		if len(p.Points) > len(out.Points) {
			out.Points = p.Points
		}
	}
	points := make([][2]float64, len(out.Points))
	for i, p := range out.Points {
		points[i][0] = p[0]
		first := true
		for _, part := range parts {
			v, ok := part.at(p[0])
			switch {
			case !ok:
			case first:
				points[i][1], first = v, false
			default:
				points[i][1] = out.Join.of(points[i][1], v)
			}
		}
	}
	out.Points = points
	return []Series{out}
}

// at returns the value of the point nearest to x, if x is within the series.
func (s Series) at(x float64) (float64, bool) {
	n := len(s.Points)
	if n == 0 {
		return 0, false
	}
	gap := 1.0
	if n > 1 {
		gap = (s.Points[n-1][0] - s.Points[0][0]) / float64(n-1)
	}
	if x < s.Points[0][0]-gap/2 || x > s.Points[n-1][0]+gap/2 {
		return 0, false
	}
	i := sort.Search(n, func(i int) bool { return s.Points[i][0] >= x })
	if i == n || i > 0 && x-s.Points[i-1][0] < s.Points[i][0]-x {
		i--
	}
	return s.Points[i][1], true
}
