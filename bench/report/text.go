package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// WriteText writes the summary for people, on a terminal or not.
func (r *Report) WriteText(w io.Writer) error {
	r.tidy()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.title())
	if r.Cut {
		b.WriteString("  CUT SHORT: the run was ended before its time, the figures are of what was done\n")
	}
	if len(r.Figures) > 0 {
		b.WriteString("\n")
	}
	var figures table
	for _, f := range r.Figures {
		figures.add(clean(f.Name), f.amount(), f.verdict(), f.what())
	}
	figures.write(&b, left, right, left, left)
	r.writeLatencies(&b)
	r.writeTroubles(&b)
	if e := r.Environment.String(); e != "" {
		fmt.Fprintf(&b, "\n  on %s\n", e)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// title is the first line.
func (r *Report) title() string {
	parts := []string{}
	if r.Connections > 0 {
		parts = append(parts, grouped(float64(r.Connections))+" connections")
	}
	if r.Duration > 0 {
		parts = append(parts, r.Duration.Round(roundTo(r.Duration)).String())
	}
	if len(parts) == 0 {
		return clean(r.Scenario)
	}
	return clean(r.Scenario) + ": " + strings.Join(parts, ", ")
}

func roundTo(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return 10 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// amount is the figure's value for people.
func (f Figure) amount() string {
	if f.Missing != "" {
		return "not measured"
	}
	return humane(f.Value, f.Unit)
}

// verdict says whether the budget holds.
func (f Figure) verdict() string {
	switch holds, has := f.Holds(); {
	case holds:
		return "✓ " + f.Budget.words(f.Unit)
	case has:
		return "✗ " + f.Budget.words(f.Unit)
	}
	return ""
}

// what says what the figure is, and why it has no value.
func (f Figure) what() string {
	if f.Missing == "" {
		return clean(f.Text)
	}
	return clean(strings.TrimPrefix(f.Text+"; "+f.Missing, "; "))
}

func (r *Report) writeLatencies(b *strings.Builder) {
	if len(r.Latencies) == 0 {
		return
	}
	var t table
	head := []string{""}
	for _, q := range quantiles {
		head = append(head, q.Name)
	}
	t.add(append(head, "max", "count")...)
	for _, d := range r.Latencies {
		row := []string{clean(d.Name)}
		for _, q := range quantiles {
			row = append(row, d.value(q.Q))
		}
		t.add(append(row, d.top(), grouped(float64(d.Count())))...)
	}
	b.WriteString("\n")
	t.write(b, left, right, right, right, right, right, right, right)
}

// value is a quantile for people: a dash if there are too few values for it.
func (d *Distribution) value(q float64) string {
	if float64(d.Count()) < needed(q) {
		return "–"
	}
	return humane(float64(d.Quantile(q)), d.Unit)
}

// top is the highest value for people.
func (d *Distribution) top() string {
	switch {
	case d.Count() == 0:
		return "–"
	case d.over > 0:
		return "over " + humane(float64(highest), d.Unit)
	}
	return humane(float64(d.Max()), d.Unit)
}

func (r *Report) writeTroubles(b *strings.Builder) {
	if len(r.Errors) > 0 {
		b.WriteString("\n  ERRORS\n")
		var t table
		for _, what := range r.kinds() {
			t.add("  ✗ "+grouped(float64(r.Errors[what])), clean(what))
		}
		t.write(b, left, left)
	}
	if len(r.Warnings) > 0 {
		b.WriteString("\n  WARNINGS\n")
		for _, warning := range r.Warnings {
			fmt.Fprintf(b, "    ! %s\n", clean(warning))
		}
	}
}

// kinds are those of the errors, the most frequent first.
func (r *Report) kinds() []string {
	return slices.SortedFunc(maps.Keys(r.Errors), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Errors[b], r.Errors[a]), strings.Compare(a, b))
	})
}

// table is rows of cells that are aligned by columns.
type table struct{ rows [][]string }

type side bool

const (
	left  side = false
	right side = true
)

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the rows, two columns indented, with two between cells.
func (t *table) write(b *strings.Builder, sides ...side) {
	widths := make([]int, len(sides))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			if widths[i] == 0 {
				continue
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if sides[i] == right {
				cell, pad = pad+cell, ""
			}
			line.WriteString("  " + cell + pad)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
