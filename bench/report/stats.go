package report

import (
	"math"
	"math/rand/v2"
	"slices"
)

// significance is how improbable a difference must be by chance to count as one.
const significance = 0.05

// exactly is up to how many samples in all probabilities are counted out. It is a millisecond's work.
const exactly = 60

// enough says whether n and m samples can show a difference at all: if each of the one were over each of the other,
// chance would do that in less than one of 20 cases. It takes four and four.
func enough(n, m int) bool {
	ways := 1.0 // n+m over n
	for i := range min(n, m) {
		ways *= float64(n+m-i) / float64(i+1)
	}
	return 2/ways < significance
}

// mannWhitney returns how probable it is that two sets of samples of one distribution are at least as far from one
// another as a and b: the two-sided U test. It asks only for the order of the samples, so that outliers do no harm.
// Ties are exact up to 60 samples.
func mannWhitney(a, b []float64) float64 {
	ranks, away, ties := ranked(a, b)
	if len(ranks) <= exactly {
		return chance(ranks, len(a), away)
	}
	return approximately(float64(len(a)), float64(len(b)), away, ties)
}

// ranked returns twice the ranks of all samples, in order; equal ones share the mean of theirs, which may be a half.
// away is how far the sum of a's is from what is expected, ties is the sum of t³-t over groups of t equal ones.
func ranked(a, b []float64) (ranks []int, away, ties float64) {
	all := slices.Concat(a, b)
	slices.Sort(all)
	ranks = make([]int, len(all))
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + j + 1
		}
		t := float64(j - i)
		ties += t*t*t - t
		i = j
	}
	sum := 0
	for _, v := range a {
		i, _ := slices.BinarySearch(all, v)
		sum += ranks[i]
	}
	return ranks, math.Abs(float64(sum - len(a)*(len(all)+1))), ties
}

// approximately is the chance of being so far away by the normal distribution, corrected for ties and for U being
// whole.
func approximately(n, m, away, ties float64) float64 {
	size := n + m
	variance := n * m / 12 * (size + 1 - ties/(size*(size-1)))
	if variance <= 0 {
		return 1
	}
	return math.Erfc(max(away/2-0.5, 0) / math.Sqrt(2*variance))
}

// chance counts out the share of all ways to take n of the doubled ranks whose sum is at least so far from its mean.
func chance(ranks []int, n int, away float64) float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	ways := make([][]float64, n+1) // of taking so many, by their sum
	for i := range ways {
		ways[i] = make([]float64, total+1)
	}
	ways[0][0] = 1
	for taken, r := range ranks {
		for k := min(taken+1, n); k > 0; k-- {
			for s := total; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	mean := float64(n * (len(ranks) + 1))
	var far, every float64
	for s, w := range ways[n] {
		every += w
		if math.Abs(float64(s)-mean) >= away {
			far += w
		}
	}
	return far / every
}

// median returns that of samples, which it leaves as they are.
func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// resamples is how often bootstrap draws, and drawn how many samples it takes at most: more would not tell more.
const (
	resamples = 2000
	drawn     = 1000
)

// bootstrap returns between which relative changes that of the medians is in 95 of 100 cases. It draws the same each
// time, so that the same files give the same answer.
func bootstrap(a, b []float64) (low, high float64) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(from []float64) float64 {
		to := make([]float64, min(len(from), drawn))
		for i := range to {
			to[i] = from[random.IntN(len(from))]
		}
		return median(to)
	}
	changes := make([]float64, 0, resamples)
	for range resamples {
		if c := relative(draw(a), draw(b)); finite(c) {
			changes = append(changes, c)
		}
	}
	if len(changes) < resamples {
		return math.Inf(-1), math.Inf(1)
	}
	slices.Sort(changes)
	return changes[resamples*25/1000], changes[resamples*975/1000-1]
}

// relative is the change from a to b as a share of a.
func relative(a, b float64) float64 {
	if a == b {
		return 0
	}
	return (b - a) / math.Abs(a)
}

// between returns the values that quantile q is between in 95 of 100 cases, by the order of the values.
func (d *Distribution) between(q float64) (low, high int64) {
	n := float64(d.Count())
	if n == 0 {
		return 0, 0
	}
	width := 1.96 * math.Sqrt(q*(1-q)/n)
	return d.Quantile(max(q-width, 0)), d.Quantile(min(q+width, 1))
}
