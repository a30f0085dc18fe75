package report

import (
	"math"
	"strings"
	"unicode"
)

// clean makes a text of a report, which may be what a server sent, safe for a terminal: no control characters, no
// marks that turn the direction of a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// tidy says of figures that are no number that they were not measured, and leaves out such samples and points: JSON has
// no such numbers, and a quotient by zero must not cost a report.
func (r *Report) tidy() {
	for i := range r.Figures {
		f := &r.Figures[i]
		if !finite(f.Value) {
			f.Value = 0
			if f.Missing == "" {
				f.Missing = "there was nothing to divide by"
			}
		}
		f.Samples = keep(f.Samples, finite)
	}
	for i := range r.Series {
		r.Series[i].Points = keep(r.Series[i].Points, func(p [2]float64) bool { return finite(p[0]) && finite(p[1]) })
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// keep returns what is wanted of s, which it leaves as it is.
func keep[T any](s []T, wanted func(T) bool) []T {
	for i := range s {
		if wanted(s[i]) {
			continue
		}
		kept := append([]T{}, s[:i]...)
		for _, v := range s[i+1:] {
			if wanted(v) {
				kept = append(kept, v)
			}
		}
		return kept
	}
	return s
}
