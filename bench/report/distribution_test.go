package report

import (
	"math"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// wideHistogram is one that takes 50 MB once it is read.
func wideHistogram() (string, error) {
	b, err := hdrhistogram.New(1, math.MaxInt64, 5).Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return string(b), err
}

func TestDistribution(t *testing.T) {
	d := NewDistribution("d", "ns")
	if d.Count() != 0 || d.Quantile(0.5) != 0 || d.top() != "–" {
		t.Error("an empty one has values")
	}
	for i := range int64(1000) {
		d.Record(i + 1)
	}
	d.Record(-5)          // a clock that went back
	d.Record(2 * highest) // and one that jumped
	if d.Count() != 1002 || d.Quantile(0.5) != 500 || d.over != 1 || d.top() != "over 3,600 s" {
		t.Errorf("%d values, median %d, over %d, top %s", d.Count(), d.Quantile(0.5), d.over, d.top())
	}
	o := NewDistribution("o", "ns")
	o.RecordN(7, 1000)
	o.Merge(d)
	if o.Count() != 2002 || o.over != 1 || o.Quantile(0.4) != 7 {
		t.Errorf("merged %d values, over %d", o.Count(), o.over)
	}
	o.Reset()
	if o.Count() != 0 || o.over != 0 {
		t.Error("values are left after Reset")
	}
}

// A p99 of 20 values would be the highest of them by another name.
func TestFiguresNeedValues(t *testing.T) {
	for n, want := range map[int64][]bool{
		0:    {false, false, false, false, false},
		1:    {true, false, false, false, true},
		10:   {true, true, false, false, true},
		100:  {true, true, true, false, true},
		1000: {true, true, true, true, true},
	} {
		d := NewDistribution("d", "ns")
		d.RecordN(5, n)
		for i, f := range d.Figures("x-", "a thing") {
			if got := f.Missing == ""; got != want[i] {
				t.Errorf("%d values: %s measured: %v, want %v", n, f.Name, got, want[i])
			}
		}
	}
}
