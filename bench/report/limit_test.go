package report

import (
	"strings"
	"testing"
)

func TestParseLimit(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Limit
	}{
		{"p99>50ms", Limit{"p99", ">", 50, "ms", false}},
		{" p99.9 >= 1.5 s ", Limit{"p99.9", ">=", 1.5, "s", false}},
		{"lost>0", Limit{"lost", ">", 0, "", false}},
		{"bytes/conn>1KiB", Limit{"bytes/conn", ">", 1, "KiB", false}},
		{"x of bare<=1.1x", Limit{"x of bare", "<=", 1.1, "x", false}},
		{"deliveries/s<100k/s", Limit{"deliveries/s", "<", 100, "k/s", false}},
		{"p50!=3µs", Limit{"p50", "!=", 3, "µs", false}},
		{"p99>+10%", Limit{"p99", ">", 10, "%", true}},
		{"messages/s<-5%", Limit{"messages/s", "<", -5, "%", true}},
	} {
		got, err := ParseLimit(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
		if again, err := ParseLimit(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q and read as %+v, %v", tt.in, got.String(), again, err)
		}
	}
	for _, in := range []string{"", "p99", ">5", "p99>", "p99>ms", "p99=5", "p99>5 parsecs", "p99>1e999", "p99>NaN", "p99>5>6", "p99>--5", "p99!5"} {
		if l, err := ParseLimit(in); err == nil {
			t.Errorf("%q is %+v", in, l)
		}
	}
}

func TestFailIf(t *testing.T) {
	r := New("echo", 1)
	r.Add(
		Figure{Name: "p99", Value: 60e6, Unit: "ns"},
		Figure{Name: "cpu-us/message", Value: 6, Unit: "us"},
		Figure{Name: "lost", Value: 0},
		Figure{Name: "bytes/conn", Value: 1000, Unit: "B"},
		Figure{Name: "deliveries/s", Value: 150_000, Unit: "/s"},
		Figure{Name: "goroutines", Missing: "no --metrics"},
		Figure{Name: "odd", Value: 3, Unit: "furlongs"},
	)
	for _, tt := range []struct{ limit, want string }{
		{"p99>60ms", ""},
		{"p99>=60ms", "p99 is 60 ms, not under 60 ms"},
		{"p99>50ms", "p99 is 60 ms, not at most 50 ms"},
		{"p99<0.1s", "not at least 100 ms"},
		{"p99>50", "is a time"},
		{"p99>5KiB", "is a time, in ns"},
		{"cpu-us/message>7", ""},
		{"cpu-us/message>5", "cpu-us/message is 6 µs, not at most 5 µs"},
		{"lost>0", ""},
		{"lost!=1", "lost is 0, not exactly 1"},
		{"bytes/conn>1KiB", ""},
		{"bytes/conn>0.5k", "not at most 500 B"},
		{"deliveries/s<150k", ""},
		{"deliveries/s<0.2M/s", "not at least 200,000 /s"},
		{"goroutines>100", "was not measured: no --metrics"},
		{"goroutines<100", "was not measured: no --metrics"},
		{"odd>4", ""},
		{"odd>4x", "can't be compared"},
		{"p9>50ms", "echo has no figure p9; is p99 meant? It has bytes/conn, "},
		{"p99>+10%", "bench compare"},
		{"lost>+1", "bench compare"},
	} {
		err := r.FailIf([]Limit{*MustLimit("lost>0"), *MustLimit(tt.limit)})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.limit, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.limit, err, tt.want)
		}
		// What is wrong with the limit itself is known before the run.
		wrong := strings.Contains(tt.want, "time") || strings.Contains(tt.want, "meant") || strings.Contains(tt.want, "compare")
		if err := CheckLimits("echo", []Limit{*MustLimit(tt.limit)}, r.Figures); (err != nil) != wrong {
			t.Errorf("%s: before the run: %v", tt.limit, err)
		}
	}
	err := r.FailIf([]Limit{*MustLimit("p99>1ms"), *MustLimit("lost>0"), *MustLimit("bytes/conn>1B")})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want a line for each of two limits: %v", err)
	}
	if err := New("idle", 1).FailIf([]Limit{*MustLimit("p99>1ms")}); err == nil {
		t.Error("a report without figures passes")
	}
}
