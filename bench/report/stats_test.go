package report

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// counted is the U test by trying all ways to split the values in two: the oracle of mannWhitney.
func counted(a, b []float64) float64 {
	all := slices.Concat(a, b)
	// u is how many pairs the first of which is over the second, equal ones half.
	u := func(chosen int) (sum float64) {
		for i, x := range all {
			for j, y := range all {
				if chosen>>i&1 == 1 && chosen>>j&1 == 0 && x >= y {
					sum++
					if x == y {
						sum -= 0.5
					}
				}
			}
		}
		return sum
	}
	mean := float64(len(a)*len(b)) / 2
	away := math.Abs(u(1<<len(a)-1) - mean)
	var far, every float64
	for chosen := range 1 << len(all) {
		if bits.OnesCount(uint(chosen)) != len(a) {
			continue
		}
		every++
		if math.Abs(u(chosen)-mean) >= away {
			far++
		}
	}
	return far / every
}

func TestMannWhitney(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	samples := func(n int, ties bool, more float64) []float64 {
		s := make([]float64, n)
		for i := range s {
			s[i] = random.Float64()*10 + more
			if ties {
				s[i] = math.Floor(s[i] / 2)
			}
		}
		return s
	}
	for i := range 60 {
		a, b := samples(1+i%6, i%2 == 0, 0), samples(1+i%5, i%2 == 0, float64(i%7))
		if got, want := mannWhitney(a, b), counted(a, b); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v %v: %v, want %v", a, b, got, want)
		}
	}
	// The approximation for many samples is near to what is counted out.
	for i := range 20 {
		a, b := samples(30, i%2 == 0, 0), samples(30, i%2 == 0, float64(i)/4)
		ranks, away, ties := ranked(a, b)
		if counted, near := chance(ranks, 30, away), approximately(30, 30, away, ties); math.Abs(counted-near) > 0.02 {
			t.Errorf("counted %v, approximated %v", counted, near)
		}
	}
	if p := mannWhitney(slices.Repeat([]float64{1}, 50), slices.Repeat([]float64{1}, 50)); p != 1 {
		t.Errorf("equal samples differ with p=%v", p)
	}
}

func TestEnough(t *testing.T) {
	for _, tt := range []struct {
		n, m int
		want bool
	}{{0, 0, false}, {0, 100, false}, {1, 30, false}, {1, 40, true}, {3, 3, false}, {4, 4, true}, {3, 5, true}, {1000, 1000, true}} {
		if got := enough(tt.n, tt.m); got != tt.want {
			t.Errorf("%d and %d: %v", tt.n, tt.m, got)
		}
	}
}

func TestBootstrap(t *testing.T) {
	a := []float64{100, 101, 99, 100, 102, 98}
	b := []float64{110, 111, 109, 110, 112, 108}
	low, high := bootstrap(a, b)
	if low < 0.05 || low > 0.1 || high < 0.1 || high > 0.15 {
		t.Errorf("10 %% more are %v to %v", low, high)
	}
	if l, h := bootstrap(a, b); l != low || h != high {
		t.Error("the same files give another answer")
	}
	if low, high := bootstrap([]float64{0, 0, 0, 0}, []float64{1, 1, 1, 1}); finite(low) || finite(high) {
		t.Errorf("from nothing to something is %v to %v", low, high)
	}
	if math.Abs(median([]float64{4, 1, 3, 2})-2.5) > 0 || median([]float64{3, 1, 2}) != 2 {
		t.Error("median")
	}
}
