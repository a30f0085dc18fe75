package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// run is a report of a server that takes so many µs for a message.
func run(cpu ...float64) *Report {
	r := New("echo", 100)
	r.Add(
		Figure{Name: "cpu-us/message", Value: median(cpu), Unit: "us", Samples: cpu},
		Figure{Name: "messages/s", Value: 1e6 / median(cpu), Unit: "/s", Higher: true, Samples: cpu},
		Figure{Name: "lost"},
		Figure{Name: "p99", Value: median(cpu) * 1e6, Unit: "ns"},
	)
	d := r.Distribution("round trip", "ns")
	for i := range int64(10_000) {
		d.Record(int64(median(cpu)*1e5) + i)
	}
	r.Add(d.Figures("rt-", "round trip")...)
	return r
}

func compare(t *testing.T, a, b []*Report, different bool) *Comparison {
	t.Helper()
	c, err := Compare(a, b, different)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func find(t *testing.T, c *Comparison, name string) Difference {
	t.Helper()
	for _, d := range c.Figures {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no figure %s", name)
	return Difference{}
}

func TestCompare(t *testing.T) {
	slow, fast, few := run(10, 10.1, 10.2, 10.3, 10.4), run(8, 8.1, 8.2, 8.3, 8.4), run(8, 8.1)
	for _, tt := range []struct {
		name          string
		before, after *Report
		figure        string
		want          Verdict
		why           string
	}{
		{"less is better", slow, fast, "cpu-us/message", Better, "p=0.008 n=5+5"},
		{"more is worse", fast, slow, "cpu-us/message", Worse, "p=0.008"},
		{"more is better where it is", fast, slow, "messages/s", Better, "p=0.008"},
		{"the same", slow, run(10.4, 10, 10.3, 10.2, 10.1), "cpu-us/message", Same, "p=1.000"},
		{"noise", slow, run(10.05, 10.15, 10.25, 10.35, 10.45), "cpu-us/message", Same, "p=0"},
		{"too few", slow, few, "cpu-us/message", Unknown, "too few samples to say: 5 and 2"},
		{"no samples", slow, fast, "p99", Unknown, "too few samples to say: 0 and 0"},
		{"a quantile, by its distribution", slow, fast, "rt-p50", Better, "by 10,000 and 10,000 values"},
		{"its maximum, which nothing says more of", slow, fast, "rt-max", Unknown, "too few samples"},
		{"no samples, no difference", slow, fast, "lost", Same, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := find(t, compare(t, []*Report{tt.before}, []*Report{tt.after}, false), tt.figure)
			if d.Verdict != tt.want || !strings.HasPrefix(d.Why, tt.why) {
				t.Errorf("%s, %s; want %s, %s", d.Verdict, d.Why, tt.want, tt.why)
			}
		})
	}
	c := compare(t, []*Report{slow}, []*Report{fast}, false)
	if d := find(t, c, "cpu-us/message"); d.Low > -0.19 || d.High < -0.21 || d.Low >= d.High {
		t.Errorf("-20 %% are %v to %v", d.Low, d.High)
	}
	if q := c.Quantiles[0]; q.Verdict != Better || q.Quantile != "p50" || len(c.Quantiles) != 5 {
		t.Errorf("%+v", c.Quantiles)
	}
}

func TestCompareQuantiles(t *testing.T) {
	of := func(n int, more int64) *Report {
		r := New("echo", 1)
		d := r.Distribution("d", "ns")
		for i := range n {
			d.Record(1000 + int64(i*1000/n) + more)
		}
		return r
	}
	for _, tt := range []struct {
		n    int
		more int64
		want Verdict
	}{
		{100, 50, Same},     // the median of 100 values is not that sure
		{10_000, 50, Worse}, // of 10,000 it is
		{10_000, -50, Better},
		{10_000, 0, Same},
	} {
		c := compare(t, []*Report{of(tt.n, 0)}, []*Report{of(tt.n, tt.more)}, false)
		if got := c.Quantiles[0]; got.Verdict != tt.want {
			t.Errorf("%d values, %+d ns: %+v, want %s", tt.n, tt.more, got, tt.want)
		}
	}
}

// What quantiles of few, scattered values may have changed by is around the change, and no latency falls by more than
// all of it.
func TestCompareScattered(t *testing.T) {
	of := func(each func(i int) int64) *Report {
		r := New("echo", 1)
		d := r.Distribution("d", "ns")
		for i := range 40 {
			d.Record(each(i))
		}
		r.Add(d.Figures("", "d")...)
		return r
	}
	scattered, few := of(func(i int) int64 { return 1000 << (i / 2) }), of(func(int) int64 { return 1000 })
	for _, tt := range []struct{ before, after *Report }{{scattered, few}, {few, scattered}} {
		d := find(t, compare(t, []*Report{tt.before}, []*Report{tt.after}, false), "p50")
		if d.Low <= -1 || d.Low >= d.Change() || d.High <= d.Change() {
			t.Errorf("%v, between %v and %v", d.Change(), d.Low, d.High)
		}
	}
}

func TestComparePools(t *testing.T) {
	before := []*Report{run(10), run(10.2), run(10.1), run(10.3)}
	after := []*Report{run(12), run(12.2), run(12.1), run(12.3)}
	c := compare(t, before, after, false)
	if d := find(t, c, "cpu-us/message"); d.Verdict != Worse || math.Abs(d.Before-10.15) > 1e-9 || !strings.Contains(d.Why, "n=4+4") {
		t.Errorf("%+v", d)
	}
	if c.Before.Latencies[0].Count() != 40_000 || before[0].Latencies[0].Count() != 10_000 {
		t.Error("distributions are not pooled, or the runs' own are changed")
	}
	if strings.Contains(strings.Join(c.Notes, " "), "one run") {
		t.Error(c.Notes)
	}
	blind := run(10)
	blind.Figures[0].Missing = "no --pid"
	if d := find(t, compare(t, append(before, blind), after, false), "cpu-us/message"); d.Verdict != Unknown || d.Why != "not measured in run 5" {
		t.Errorf("%+v", d)
	}
	if _, err := Compare(append(before, New("idle", 100)), after, false); err == nil {
		t.Error("runs of different scenarios are pooled")
	}
	if _, err := Compare(nil, after, false); err == nil {
		t.Error("nothing is compared")
	}
}

func TestCompareRefuses(t *testing.T) {
	more := run(1, 2, 3, 4)
	more.Connections = 200
	for _, other := range []*Report{more, New("idle", 100)} {
		if _, err := Compare([]*Report{run(1)}, []*Report{other}, false); err == nil || !strings.Contains(err.Error(), "--different") {
			t.Errorf("%s with %d connections: %v", other.Scenario, other.Connections, err)
		}
		c := compare(t, []*Report{run(1)}, []*Report{other}, true)
		if !strings.Contains(strings.Join(c.Notes, " "), "the loads differ") {
			t.Error(c.Notes)
		}
	}
}

func TestCompareFailIf(t *testing.T) {
	before, after := run(10, 10.1, 10.2, 10.3, 10.4), run(12, 12.1, 12.2, 12.3, 12.4)
	after.Figures[2].Value = 3 // lost
	before.Add(Figure{Name: "gone", Value: 1}, Figure{Name: "size", Value: 1024, Unit: "B"}, Figure{Name: "time", Value: 1, Unit: "s"})
	after.Add(Figure{Name: "new", Value: 1}, Figure{Name: "size", Value: 2, Unit: "KiB"}, Figure{Name: "time", Value: 2, Unit: "B"})
	c := compare(t, []*Report{before}, []*Report{after}, false)
	for _, tt := range []struct{ limit, want string }{
		{"cpu-us/message>+25%", ""},
		{"cpu-us/message>+10%", "cpu-us/message went from 10.2 µs to 12.2 µs (+19.6 %)"},
		{"cpu-us/message>+1us", "(+19.6 %)"},
		{"cpu-us/message>+3us", ""},
		{"messages/s<-10%", "messages/s went"},
		{"lost>+2", "lost went from 0 to 3 (from nothing)"},
		{"lost>+3", ""},
		{"lost>+1%", "lost went"},
		{"p99>+10%", "p99 went"}, // no samples: it is taken as it is
		{"size>+0.5KiB", "size went from 1,024 B to 2,048 B"},
		{"gone>+10%", "not in the second report"},
		{"new>+10%", "not in the first report"},
		{"time>+10%", "in s and in B"},
		{"p98>+10%", "is p99 meant?"},
		{"p99>50ms", "has a sign"},
		{"p99>+5KiB", "can't be compared"},
	} {
		err := c.FailIf([]Limit{*MustLimit(tt.limit)})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.limit, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.limit, err, tt.want)
		}
	}
	noise := compare(t, []*Report{run(10, 11, 12, 13, 14)}, []*Report{run(10.5, 11.5, 12.5, 13.5, 14.5)}, false)
	if err := noise.FailIf([]Limit{*MustLimit("cpu-us/message>+1%")}); err != nil {
		t.Errorf("what is chance by its samples fails: %v", err)
	}
}

func TestCompareText(t *testing.T) {
	before, after := sample(), sample()
	before.Figures[0].Value = 1
	after.Environment.Go = "go1.27"
	after.Cut = true
	after.Fail("\x1b[2J", 1)
	var b bytes.Buffer
	c := compare(t, []*Report{before}, []*Report{after}, false)
	if err := c.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before: echo: 10,000 connections", "Go: go1.26.8 before, go1.27 after", "after was cut short", "~ same", "too few samples"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("an error of the server reaches the terminal as it is")
	}
	t.Log("\n" + b.String())
	b.Reset()
	if err := c.WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"verdict": "same"`) {
		t.Errorf("%v\n%s", err, b.String())
	}
}
