package report

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// sample is a report with a bit of everything.
func sample() *Report {
	r := New("echo", 10_000)
	r.Started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.Duration = 10 * time.Second
	r.Command = []string{"millpond", "bench", "echo", "--connections=10000"}
	r.Environment = Environment{
		Kernel: "Linux 6.18.0 amd64", CPU: "A CPU", Cores: 2, MemoryBytes: 23 << 30, Go: "go1.26.8", Millpond: "v0",
		Server: []string{"millpond", "serve", "--dev"}, Sysctl: map[string]string{"net.core.somaxconn": "4096"}, Limits: map[string]string{"nofile": "20000"},
	}
	d := r.Distribution("round trip", "ns")
	for i := range int64(100_000) {
		d.Record(100_000 + i*i/10)
	}
	d.Record(70e6)
	r.Add(d.Figures("", "round trip")...)
	r.Add(
		Figure{Name: "lost", Text: "messages that did not come back", Budget: MustLimit("lost>0"), Join: Sum},
		Figure{Name: "cpu-us/message", Value: 6.4123, Unit: "us", Text: "server CPU", Budget: MustLimit("cpu-us/message>5us"), Samples: []float64{6.3, 6.5, 6.4}},
		Figure{Name: "bytes/conn", Value: 334, Unit: "B", Text: "RSS growth of the server", Budget: MustLimit("bytes/conn>512B")},
		Figure{Name: "messages/s", Value: 189_123, Unit: "/s", Higher: true, Text: "messages that came back", Join: Sum},
		Figure{Name: "goroutines", Text: "of the server", Missing: "its metrics are not known: --metrics"},
	)
	speed, slow := Series{Name: "messages", Unit: "/s", Plot: "Throughput", Join: Sum}, Series{Name: "p99", Unit: "ns", Plot: "Round trip"}
	for i := range 10 {
		speed.Points = append(speed.Points, [2]float64{float64(i), 180_000 + 1000*float64(i)})
		slow.Points = append(slow.Points, [2]float64{float64(i), 1e6 + 1e5*float64(i%3)})
	}
	r.Series = append(r.Series, speed, slow)
	r.Fail("connection reset by peer", 3)
	r.Warn("the client was the bottleneck: 98 % of a core")
	return r
}

func TestRoundTrip(t *testing.T) {
	var first, second bytes.Buffer
	if err := sample().WriteJSON(&first); err != nil {
		t.Fatal(err)
	}
	r, err := Read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("what was read and written again differs:\n%s\n%s", first.String(), second.String())
	}
	want := sample().Latencies[0]
	if got := r.Latencies[0]; got.Count() != want.Count() || got.Quantile(0.99) != want.Quantile(0.99) || got.Max() != want.Max() {
		t.Errorf("the distribution has %d values, p99 %d, max %d", got.Count(), got.Quantile(0.99), got.Max())
	}
}

// A quotient by zero must neither cost the report nor pass for a measurement.
func TestNoNumber(t *testing.T) {
	r := New("echo", 1)
	r.Add(Figure{Name: "a", Value: math.NaN(), Samples: []float64{1, math.Inf(1), 2}})
	r.Series = []Series{{Name: "s", Points: [][2]float64{{0, 1}, {1, math.NaN()}, {2, 3}}}}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Figures[0]; f.Missing == "" || len(f.Samples) != 2 || len(got.Series[0].Points) != 2 {
		t.Errorf("%+v %+v", f, got.Series)
	}
	if err := got.FailIf([]Limit{*MustLimit("a>5")}); err == nil {
		t.Error("a figure that is no number passed its limit")
	}
}

func TestReadRefuses(t *testing.T) {
	var whole bytes.Buffer
	if err := sample().WriteJSON(&whole); err != nil {
		t.Fatal(err)
	}
	// edited is the sample's JSON with one thing changed.
	edited := func(edit func(m map[string]any)) string {
		var m map[string]any
		if err := json.Unmarshal(whole.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	latency := func(m map[string]any) map[string]any { return m["latencies"].([]any)[0].(map[string]any) }
	wide, err := wideHistogram()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "no report of bench"},
		{"no object", "[]", "no report of bench"},
		{"no version", "{}", "has no version"},
		{"another version", edited(func(m map[string]any) { m["version"] = 2 }), "version 2"},
		{"cut off", whole.String()[:whole.Len()/2], "no report of bench"},
		{"something behind", whole.String() + "{}", "no report of bench"},
		{"unknown key", edited(func(m map[string]any) { m["hello"] = 1 }), "hello"},
		{"unknown key of a latency", edited(func(m map[string]any) { latency(m)["hello"] = 1 }), "hello"},
		{"no scenario", edited(func(m map[string]any) { m["scenario"] = "" }), "no scenario"},
		{"negative time", edited(func(m map[string]any) { m["duration_ns"] = -1 }), "negative"},
		{"a figure twice", edited(func(m map[string]any) { m["figures"] = []any{m["figures"].([]any)[0], m["figures"].([]any)[0]} }), "twice"},
		{"a latency twice", edited(func(m map[string]any) { m["latencies"] = []any{latency(m), latency(m)} }), "twice"},
		{"no latency", edited(func(m map[string]any) { m["latencies"] = []any{nil} }), "without a name"},
		{"figures without end", edited(func(m map[string]any) { m["figures"] = make([]int, 0); m["series"] = manySeries(maxSeries + 1) }), "at most"},
		{"a series that goes back", edited(func(m map[string]any) {
			m["series"] = []any{map[string]any{"name": "s", "points": [][2]float64{{1, 1}, {0, 1}}}}
		}), "goes back"},
		{"a wrong count", edited(func(m map[string]any) { latency(m)["count"] = 7 }), "a count of 7"},
		{"no base64", edited(func(m map[string]any) { latency(m)["hdr"] = "!!!!!!!!!!!!" }), "hdr"},
		{"no zlib", edited(func(m map[string]any) { latency(m)["hdr"] = "AAAAAAAAAAAAAAAAAAAA" }), "hdr"},
		{"a histogram of 50 MB in 60 bytes", edited(func(m map[string]any) { latency(m)["hdr"] = wide; latency(m)["count"] = 0 }), "other bounds"},
		{"a budget that is none", edited(func(m map[string]any) { m["figures"].([]any)[0].(map[string]any)["budget"] = "p99" }), "operator"},
		{"a file without end", strings.Repeat(" ", maxFileBytes+1), "over 32 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func manySeries(n int) (out []any) {
	for range n {
		out = append(out, map[string]any{"name": "s", "points": []any{}})
	}
	return out
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"version":1,"scenario":"x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := Read(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := r.WriteText(&out); err != nil {
			t.Error(err)
		}
		if err := r.WriteJSON(&out); err != nil {
			t.Error(err)
		}
	})
}
