package report

import (
	"slices"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	part := func(after time.Duration, value float64) *Report {
		r := New("echo", 10)
		r.Started, r.Duration = begin.Add(after), 10*time.Second
		r.Add(
			Figure{Name: "lost", Value: value, Join: Sum, Samples: []float64{value, value}},
			Figure{Name: "slowest", Value: value, Join: Max},
			Figure{Name: "first", Value: value, Join: Min},
			Figure{Name: "p99", Value: value},
		)
		r.Distribution("round trip", "ns").RecordN(int64(value), 5)
		r.Series = []Series{
			{Name: "messages", Join: Sum, Points: [][2]float64{{1, value}, {2, 2 * value}}},
			{Name: "p99", Join: Max, Points: [][2]float64{{1, value}, {2, 2 * value}}},
		}
		r.Fail("reset", uint64(value))
		r.Warn("slow")
		return r
	}
	r := part(0, 1)
	late := part(10*time.Millisecond, 3)
	late.Cut = true
	if err := r.Merge(part(time.Millisecond, 2), late); err != nil {
		t.Fatal(err)
	}
	if r.Connections != 30 || r.Duration != 10*time.Second+10*time.Millisecond || !r.Cut || r.Errors["reset"] != 6 || len(r.Warnings) != 1 {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string]float64{"lost": 6, "slowest": 3, "first": 1} {
		if f, ok := r.Figure(name); !ok || f.Value != want {
			t.Errorf("%s is %v, want %v", name, f.Value, want)
		}
	}
	if f, _ := r.Figure("lost"); !slices.Equal(f.Samples, []float64{6, 6}) {
		t.Errorf("samples %v", f.Samples)
	}
	if _, ok := r.Figure("p99"); ok {
		t.Error("a quantile of three processes is none of all of them")
	}
	if d := r.Distribution("round trip", "ns"); d.Count() != 15 || d.Max() != 3 {
		t.Errorf("%d values", d.Count())
	}
	if len(r.Series) != 2 || r.Series[0].Points[1][1] != 12 || r.Series[1].Points[1][1] != 6 {
		t.Errorf("%+v", r.Series)
	}
}

// A child that ended early, or measured nothing, must not pass for one that found nothing.
func TestMergeUnequal(t *testing.T) {
	a, b := New("echo", 1), New("echo", 1)
	b.Started = a.Started
	a.Add(Figure{Name: "lost", Join: Sum, Samples: []float64{1, 1, 1}})
	b.Add(Figure{Name: "lost", Join: Sum, Missing: "it died", Samples: []float64{1}}, Figure{Name: "more", Value: 1, Join: Sum})
	a.Series = []Series{{Name: "s", Join: Sum, Points: [][2]float64{{0, 1}, {1, 1}, {2, 1}, {3, 1}}}}
	b.Series = []Series{{Name: "s", Join: Sum, Points: [][2]float64{{0, 1}, {1, 1}}}, {Name: "t", Points: [][2]float64{{0, 1}}}}
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if f, _ := a.Figure("lost"); f.Missing != "it died" || len(f.Samples) != 1 {
		t.Errorf("%+v", f)
	}
	if _, ok := a.Figure("more"); !ok || len(a.Series) != 2 {
		t.Error("what only one had is gone")
	}
	if got := a.Series[0].Points; got[1][1] != 2 || got[3][1] != 1 {
		t.Errorf("%v", got)
	}
}

// The points of a child that began later are later, and so is where they are joined.
func TestMergeLater(t *testing.T) {
	a, b := New("echo", 1), New("echo", 1)
	b.Started = a.Started.Add(2 * time.Second)
	a.Series = []Series{{Name: "s", Join: Sum, Points: [][2]float64{{0, 1}, {1, 1}, {2, 1}, {3, 1}}}}
	b.Series = []Series{{Name: "s", Join: Sum, Points: [][2]float64{{0, 10}, {1, 10}}}, {Name: "by", X: "connections", Points: [][2]float64{{7, 1}}}}
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if got, want := a.Series[0].Points, [][2]float64{{0, 1}, {1, 1}, {2, 11}, {3, 11}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := a.Series[1].Points[0][0]; got != 7 {
		t.Errorf("what is no time is moved to %v", got)
	}
}

func TestMergeRefuses(t *testing.T) {
	with := func(scenario, unit string) *Report {
		r := New(scenario, 1)
		r.Add(Figure{Name: "f", Unit: unit, Join: Sum, Value: 1})
		return r
	}
	latencies := func(unit string) *Report {
		r := New("echo", 1)
		r.Distribution("d", unit)
		return r
	}
	for name, parts := range map[string][]*Report{
		"another scenario": {with("echo", ""), with("idle", "")},
		"another unit":     {with("echo", "s"), with("echo", "ms")},
		"of two others":    {New("echo", 1), latencies("ns"), latencies("us")},
	} {
		if err := parts[0].Merge(parts[1:]...); err == nil {
			t.Errorf("%s is merged", name)
		}
		if f, ok := parts[0].Figure("f"); ok && f.Value != 1 {
			t.Errorf("%s: the report changed", name)
		}
	}
}
