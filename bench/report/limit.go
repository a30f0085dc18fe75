package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millpond/millpond/internal/nearest"
)

// Limit is what a figure must not be: "p99>50ms" says that a p99 over 50 ms fails.
type Limit struct {
	Name   string  // the figure's
	Op     string  // ">", ">=", "<", "<=" or "!=": the figure fails if that holds
	Value  float64 // in Unit
	Unit   string  // empty is a bare number
	Change bool    // Value is a difference between two reports: "p99>+10%"
}

// operators are in the order in which they are looked for: ">=" before ">". In words they say what a figure that holds
// is.
var operators = []struct{ op, words string }{{">=", "under"}, {"<=", "over"}, {"!=", "exactly"}, {">", "at most"}, {"<", "at least"}}

// ParseLimit reads a limit: the name of a figure, an operator, and a number with a unit. After a sign the number is a
// difference between two reports, for [Comparison.FailIf].
func ParseLimit(s string) (Limit, error) {
	at := strings.IndexAny(s, "<>!=")
	if at < 0 {
		return Limit{}, fmt.Errorf("%q: want NAME, an operator and a value, as p99>50ms", s)
	}
	l := Limit{Name: strings.TrimSpace(s[:at])}
	if l.Name == "" {
		return Limit{}, fmt.Errorf("%q has no name of a figure before the operator", s)
	}
	for _, o := range operators {
		rest, ok := strings.CutPrefix(s[at:], o.op)
		if !ok {
			continue
		}
		var err error
		rest = strings.TrimSpace(rest)
		l.Op, l.Change = o.op, strings.HasPrefix(rest, "+") || strings.HasPrefix(rest, "-")
		if l.Value, l.Unit, err = parseValue(rest); err != nil {
			return Limit{}, fmt.Errorf("%q: %w", s, err)
		}
		return l, nil
	}
	return Limit{}, fmt.Errorf("%q: the operator is none of > >= < <= !=", s)
}

// MustLimit is ParseLimit for a budget that the code states. It panics on an error.
func MustLimit(s string) *Limit {
	l, err := ParseLimit(s)
	if err != nil {
		panic(err)
	}
	return &l
}

// String is what ParseLimit reads.
func (l Limit) String() string {
	sign := ""
	if l.Change && l.Value >= 0 {
		sign = "+"
	}
	return fmt.Sprintf("%s%s%s%g%s", l.Name, l.Op, sign, l.Value, l.Unit)
}

// MarshalText is String.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLimit.
func (l *Limit) UnmarshalText(b []byte) (err error) {
	*l, err = ParseLimit(string(b))
	return err
}

// words says what a figure that holds is: "at most 50 ms".
func (l Limit) words(unit string) string {
	value := l.Value
	if u := unitOf(l.Unit); u.kind == count {
		value *= u.scale
	} else {
		unit = l.Unit
	}
	for _, o := range operators {
		if o.op == l.Op {
			return o.words + " " + humane(value, unit)
		}
	}
	return l.String()
}

// in returns the limit's value in another unit.
func (l Limit) in(f Figure) (float64, error) {
	want, have := unitOf(f.Unit), unitOf(l.Unit)
	if l.Unit == "" || (l.Unit == "k" || l.Unit == "M") && want.kind != count {
		// A time is no bare number: 50 may be meant in ms, and pass for ever in s.
		if want.kind == span && l.Value != 0 && !strings.Contains(f.Name, "us/") {
			return 0, fmt.Errorf("%s is a time: say ns, µs, ms or s after %g", f.Name, l.Value)
		}
		return l.Value * have.scale, nil
	}
	if want.kind != have.kind || want.kind == other {
		return 0, fmt.Errorf("%s is a %s, in %s: it can't be compared with %g%s", f.Name, want.kind, orNone(f.Unit), l.Value, l.Unit)
	}
	return l.Value * have.scale / want.scale, nil
}

func orNone(unit string) string {
	if unit == "" {
		return "no unit"
	}
	return unit
}

// broken says whether the value is what l forbids.
func (l Limit) broken(value, limit float64) bool {
	switch l.Op {
	case ">":
		return value > limit
	case ">=":
		return value >= limit
	case "<":
		return value < limit
	case "<=":
		return value <= limit
	default:
		return value != limit
	}
}

// CheckLimits says what is wrong with limits on these figures: names that they don't have, units that don't fit. A
// scenario asks before it runs, with figures that have only their names and units.
func CheckLimits(scenario string, limits []Limit, figures []Figure) error {
	r := Report{Scenario: scenario, Figures: figures}
	var all []error
	for _, l := range limits {
		f, err := r.named(l)
		switch {
		case err != nil:
		case l.Change:
			err = fmt.Errorf("%+g%s is a difference, which bench compare knows", l.Value, l.Unit)
		default:
			_, err = l.in(f)
		}
		if err != nil {
			all = append(all, fmt.Errorf("--fail-if %s: %w", l, err))
		}
	}
	return errors.Join(all...)
}

// named returns the figure that a limit is on.
func (r *Report) named(l Limit) (Figure, error) {
	if f, ok := r.Figure(l.Name); ok {
		return f, nil
	}
	names := r.Names()
	if len(names) == 0 {
		return Figure{}, fmt.Errorf("%s has no figures", clean(r.Scenario))
	}
	slices.Sort(names)
	return Figure{}, fmt.Errorf("%s has no figure %s; is %s meant? It has %s", clean(r.Scenario), l.Name, clean(nearest.Name(l.Name, names)), clean(strings.Join(names, ", ")))
}

// FailIf returns an error with a line for each limit that does not hold, nil if all do. What was not measured does not
// hold.
func (r *Report) FailIf(limits []Limit) error {
	r.tidy()
	var all []error
	for _, l := range limits {
		if err := r.failsIf(l); err != nil {
			all = append(all, fmt.Errorf("--fail-if %s: %w", l, err))
		}
	}
	return errors.Join(all...)
}

func (r *Report) failsIf(l Limit) error {
	f, err := r.named(l)
	if err != nil {
		return err
	}
	if l.Change {
		return fmt.Errorf("%+g%s is a difference, which bench compare knows", l.Value, l.Unit)
	}
	limit, err := l.in(f)
	if err != nil {
		return err
	}
	if f.Missing != "" {
		return fmt.Errorf("%s was not measured: %s", f.Name, clean(f.Missing))
	}
	if l.broken(f.Value, limit) {
		return fmt.Errorf("%s is %s, not %s", f.Name, humane(f.Value, f.Unit), l.words(f.Unit))
	}
	return nil
}

// Holds says whether a figure keeps its budget, and whether it has one. What was not measured holds none.
func (f Figure) Holds() (holds, has bool) {
	if f.Budget == nil {
		return false, false
	}
	limit, err := f.Budget.in(f)
	return err == nil && f.Missing == "" && !f.Budget.broken(f.Value, limit), true
}
