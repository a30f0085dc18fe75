package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// kind is what a unit measures. Values of one kind can be compared.
type kind string

const (
	count kind = "count"
	span  kind = "time"
	size  kind = "size"
	rate  kind = "rate"
	share kind = "percentage"
	times kind = "ratio"
	other kind = "quantity"
)

// unit is one of a kind: scale is how many of the kind's base, which are 1, a nanosecond, a byte, one a second, it is.
type unit struct {
	kind  kind
	scale float64
}

// units are the names by which figures and limits call them.
var units = map[string]unit{
	"": {count, 1}, "k": {count, 1e3}, "M": {count, 1e6},
	"ns": {span, 1}, "us": {span, 1e3}, "µs": {span, 1e3}, "μs": {span, 1e3}, "ms": {span, 1e6}, "s": {span, 1e9}, "m": {span, 60e9}, "h": {span, 3600e9},
	"B": {size, 1}, "kB": {size, 1e3}, "MB": {size, 1e6}, "GB": {size, 1e9},
	"KiB": {size, 1 << 10}, "MiB": {size, 1 << 20}, "GiB": {size, 1 << 30},
	"/s": {rate, 1}, "k/s": {rate, 1e3}, "M/s": {rate, 1e6},
	"%": {share, 1}, "x": {times, 1},
}

// unitOf returns what a figure's unit is. One that is not known is compared with itself alone.
func unitOf(name string) unit {
	if u, ok := units[name]; ok {
		return u
	}
	return unit{other, 1}
}

// step is a unit for people, for values from so many of the base on.
type step struct {
	from float64
	name string
}

// steps are those of each kind, the largest first.
var steps = map[kind][]step{
	span:  {{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {0, "ns"}},
	size:  {{1 << 30, "GiB"}, {1 << 20, "MiB"}, {10 << 10, "KiB"}, {0, "B"}}, // up to 10 KiB every byte of a connection is of interest
	count: {{0, ""}}, rate: {{0, "/s"}}, share: {{0, "%"}}, times: {{0, "×"}},
}

// humane writes a value with three significant digits or more in the unit that suits it.
func humane(value float64, name string) string {
	u := unitOf(name)
	if u.kind == other {
		return grouped(value) + " " + name
	}
	base := value * u.scale
	for _, s := range steps[u.kind] {
		if math.Abs(base) < s.from {
			continue
		}
		if scale := unitOf(s.name).scale; u.kind == span || u.kind == size {
			base /= scale
		}
		return strings.TrimRight(grouped(base)+" "+s.name, " ")
	}
	return grouped(base)
}

// grouped writes a value with three significant digits, or all those before the point, in groups of thousands.
func grouped(v float64) string {
	if v == 0 { // or minus that
		return "0"
	}
	decimals := 0
	if a := math.Abs(v); v != math.Trunc(v) && a < 100 && a > 0 {
		decimals = min(max(2-int(math.Floor(math.Log10(a))), 0), 6)
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	whole, fraction, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	var b strings.Builder
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + b.String() + fraction
}

// parseValue reads a number that a unit may follow.
func parseValue(s string) (value float64, name string, err error) {
	s = strings.TrimSpace(s)
	end := strings.LastIndexAny(s, "0123456789.") + 1
	name = strings.TrimSpace(s[end:])
	if _, ok := units[name]; !ok {
		return 0, "", fmt.Errorf("unit %q: want ns, µs, ms, s, m, h, B, KiB, MiB, GiB, kB, MB, GB, k, M, /s, k/s, M/s, %% or x", name)
	}
	value, err = strconv.ParseFloat(s[:end], 64)
	if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
		return 0, "", fmt.Errorf("%q is no number", s[:end])
	}
	return value, name, nil
}
