package report

import (
	"math"
	"strconv"
)

// axis maps values onto 0 to 1.
type axis struct {
	unit   string
	low    float64
	high   float64
	log    bool
	every  float64                // the distance of ticks, if it is not logarithmic
	labels func(v float64) string // nil means the value in its unit
}

// tick is a value that an axis names, at a percentage of it.
type tick struct {
	At    string
	Label string // may be empty: a line alone

	share float64
}

// wanted is about how many ticks an axis has.
const wanted = 5

// newAxis returns an axis for values between low and high: logarithmic if they differ much and wide says that they may,
// else from zero, so that a small change does not look like a large one.
func newAxis(unit string, low, high float64, wide bool) axis {
	a := axis{unit: unit, low: min(low, 0), high: high}
	if wide && low > 0 && high/low > 40 {
		a.low, a.log = low, true
		return a
	}
	if a.high <= a.low {
		a.high = a.low + 1
	}
	a.every = a.step()
	a.high = math.Ceil(a.high/a.every-1e-9) * a.every
	a.low = math.Floor(a.low/a.every+1e-9) * a.every
	return a
}

// at is where a value is, 0 to 1.
func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		low, high, v = math.Log(low), math.Log(high), math.Log(max(v, low))
	}
	if high == low {
		return 0
	}
	return min(max((v-low)/(high-low), 0), 1)
}

// step is the distance of ticks: 1, 2 or 5 times a power of ten of the unit in which people read the highest value.
func (a axis) step() float64 {
	scale := a.scale()
	raw := (a.high - a.low) / scale / wanted
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= raw*(1-1e-9) {
			return n * power * scale
		}
	}
	return 10 * power * scale
}

// scale is how many of the axis's unit the unit is in which people read the highest value.
func (a axis) scale() float64 {
	u := unitOf(a.unit)
	if u.kind == size || u.kind == span {
		for _, s := range steps[u.kind] {
			if a.high*u.scale >= s.from {
				return unitOf(s.name).scale / u.scale
			}
		}
	}
	return 1
}

// ticks are those of the axis, the lowest first. down is for an axis that begins at the bottom: SVG counts from the
// top.
func (a axis) ticks(down bool) (out []tick) {
	add := func(v float64) {
		label := "0"
		switch {
		case a.labels != nil:
			label = a.labels(v)
		case v != 0:
			label = humane(v, a.unit)
		}
		at := a.at(v)
		if down {
			at = 1 - at
		}
		out = append(out, tick{percentage(at), label, at})
	}
	if !a.log {
		for i := math.Ceil(a.low/a.every - 1e-9); i <= a.high/a.every+1e-9; i++ {
			add(i * a.every)
		}
		return out
	}
	digits := []float64{1}
	if a.high/a.low < 1000 {
		digits = []float64{1, 2, 5}
	}
	for power := math.Floor(math.Log10(a.low)); power <= math.Log10(a.high); power++ {
		for _, d := range digits {
			if v := d * math.Pow(10, power); v >= a.low && v <= a.high {
				add(v)
			}
		}
	}
	return out
}

// percentage is a share as SVG has it.
func percentage(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" }

// apart is how far labels on a line must be from one another, so that they don't touch on a telephone.
const apart = 0.17

// spaced leaves out labels that would touch the one before.
func spaced(ticks []tick) []tick {
	last := -apart
	for i := range ticks {
		if ticks[i].share-last < apart {
			ticks[i].Label = ""
			continue
		}
		last = ticks[i].share
	}
	return ticks
}
