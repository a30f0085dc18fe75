package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// marks of verdicts, for people.
var marks = map[Verdict]string{Better: "✓ better", Worse: "✗ worse", Same: "~ same", Unknown: "?"}

// WriteText writes the comparison for people.
func (c *Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "before: %s\nafter:  %s\n\n", c.Before.headline(), c.After.headline())
	var figures table
	figures.add("", "before", "after", "change", "", "", "")
	for _, d := range c.Figures {
		figures.add(clean(d.Name), d.value(d.Before, d.beforeMissing), d.value(d.After, d.afterMissing), d.change(), d.interval(), marks[d.Verdict], clean(d.Why))
	}
	figures.write(&b, left, right, right, right, left, left, left)
	if len(c.Quantiles) > 0 {
		b.WriteString("\n")
		var t table
		t.add("", "", "before", "", "after", "", "change", "")
		for _, q := range c.Quantiles {
			t.add(clean(q.Distribution), q.Quantile, humane(float64(q.Before[1]), q.Unit), q.interval(q.Before),
				humane(float64(q.After[1]), q.Unit), q.interval(q.After), percent(q.Change()), marks[q.Verdict])
		}
		t.write(&b, left, left, right, left, right, left, right, left)
	}
	if len(c.Notes) > 0 {
		b.WriteString("\n  NOTE\n")
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "    ! %s\n", clean(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the comparison for programs.
func (c *Comparison) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(c)
}

// headline names a report in one line.
func (r *Report) headline() string {
	s := r.title()
	if !r.Started.IsZero() {
		s += ", " + r.Started.UTC().Format("2006-01-02 15:04:05")
	}
	if v := r.Environment.Millpond; v != "" {
		s += ", millpond " + clean(v)
	}
	return s
}

func (d Difference) value(v float64, missing bool) string {
	if missing {
		return "–"
	}
	return humane(v, d.Unit)
}

func (d Difference) change() string {
	if d.beforeMissing || d.afterMissing {
		return ""
	}
	return percent(d.Change())
}

func (d Difference) interval() string {
	if d.Low == 0 && d.High == 0 {
		return ""
	}
	return fmt.Sprintf("(%s to %s)", percent(d.Low), percent(d.High))
}

// Change is the relative change.
func (q QuantileDifference) Change() float64 {
	return relative(float64(q.Before[1]), float64(q.After[1]))
}

func (q QuantileDifference) interval(v [3]int64) string {
	return fmt.Sprintf("(%s to %s)", humane(float64(v[0]), q.Unit), humane(float64(v[2]), q.Unit))
}
