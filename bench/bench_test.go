package bench

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/millpond/millpond/bench/report"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" { // the yardstick is the program's, not this one's: a test forgot NoBare
		os.Exit(2)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// server is an echo by another library; tamper may change what it sends back.
func server(t *testing.T, tamper func(n int, b []byte) [][]byte) Target {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for n := 0; ; n++ {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			out := [][]byte{b}
			if tamper != nil {
				out = tamper(n, b)
			}
			for _, b := range out {
				if c.Write(r.Context(), kind, b) != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	return Target{URL: "ws" + strings.TrimPrefix(s.URL, "http") + "/", PID: os.Getpid()}
}

// measure runs a scenario that has to have a report.
func measure(t *testing.T, s Scenario, o Options) (*report.Report, error) {
	t.Helper()
	r, err := Measure(t.Context(), s, o, Stage{})
	if r == nil {
		t.Fatal(err)
	}
	return r, err
}

// figure is a figure that was measured.
func figure(t *testing.T, r *report.Report, name string) float64 {
	t.Helper()
	f, ok := r.Figure(name)
	if !ok || f.Missing != "" {
		t.Errorf("figure %s: %+v of %v", name, f, r.Names())
	}
	return f.Value
}

func TestIdle(t *testing.T) {
	r, err := measure(t, Idle{Rounds: 2, Settle: time.Millisecond}, Options{Target: server(t, nil), Connections: 50, Duration: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := r.Figure("open")
	if figure(t, r, "open") != 50 || len(f.Samples) != 2 || len(r.Errors) > 0 || figure(t, r, "rss-before") == 0 || len(r.Latencies) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestEcho(t *testing.T) {
	for name, tt := range map[string]struct {
		scenario Echo
		rate     float64
	}{"one at a time": {}, "16 deep": {scenario: Echo{Depth: 16}}, "at a rate": {rate: 500}} {
		t.Run(name, func(t *testing.T) {
			tt.scenario.NoBare = true
			r, err := measure(t, tt.scenario, Options{
				Target: server(t, nil), Connections: 4, Rate: tt.rate, Duration: 300 * time.Millisecond, Warmup: 10 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			p50, highest := figure(t, r, "p50"), figure(t, r, "max")
			if figure(t, r, "messages/s") == 0 || len(r.Errors) > 0 || p50 == 0 || highest < p50 || figure(t, r, "lost") != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Figures of a process that does nothing are not taken for the server's without a word.
func TestCostsOfAnotherProcess(t *testing.T) {
	for name, tt := range map[string]struct {
		costs costs
		n     int64
		warns bool
	}{
		"none of many": {costs{took: time.Second, visible: true}, suspicious, true},
		"none of few":  {costs{took: time.Second, visible: true}, suspicious - 1, false},
		"some of many": {costs{took: time.Second, visible: true, server: time.Microsecond}, suspicious, false},
		"not measured": {costs{took: time.Second}, suspicious, false},
	} {
		r := Run{Report: report.New("echo", 1)}
		r.costFigures(tt.costs, tt.n, "message")
		if warned := slices.ContainsFunc(r.Report.Warnings, func(w string) bool { return strings.Contains(w, "--pid") }); warned != tt.warns {
			t.Errorf("%s: %q", name, r.Report.Warnings)
		}
	}
}

// A server that does not do what it must is reported, whatever it does.
func TestLyingServers(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper func(n int, b []byte) [][]byte
		path   string
		want   string
	}{
		"changes a byte": {func(n int, b []byte) [][]byte {
			if n == 3 {
				b[len(b)/2]++
			}
			return [][]byte{b}
		}, "", errContent.Error()},
		"doubles": {func(_ int, b []byte) [][]byte { return [][]byte{b, b, b} }, "", errContent.Error()},
		"swaps": {func() func(n int, b []byte) [][]byte {
			var held []byte
			return func(n int, b []byte) [][]byte {
				if n%2 == 0 {
					held = b
					return nil
				}
				return [][]byte{b, held}
			}
		}(), "", errContent.Error()},
		"greets": {func(n int, b []byte) [][]byte {
			if n == 1 {
				return [][]byte{b, []byte("and this")}
			}
			return [][]byte{b}
		}, "", "a message came "},
		"is a batch behind": {func() func(n int, b []byte) [][]byte {
			var before [2][]byte
			return func(n int, b []byte) [][]byte {
				out := b
				if n >= 2 {
					out = before[n%2]
				}
				before[n%2] = b
				return [][]byte{out}
			}
		}(), "", errContent.Error()},
		"cuts":    {func(_ int, b []byte) [][]byte { return [][]byte{b[1:]} }, "", errContent.Error()},
		"refuses": {nil, "refused", "refused with 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			target := server(t, tt.tamper)
			target.URL += tt.path
			r, err := measure(t, Echo{Depth: 2, NoBare: true}, Options{Target: target, Connections: 1, Duration: 200 * time.Millisecond, Warmup: time.Millisecond})
			found := false
			for what := range r.Errors {
				found = found || strings.Contains(what, tt.want)
			}
			if !found || err == nil {
				t.Errorf("errors %v, %v, want %q", r.Errors, err, tt.want)
			}
		})
	}
}

// A server that loses messages leaves its clients waiting, and the run ends all the same.
func TestServerThatDrops(t *testing.T) {
	target := server(t, func(int, []byte) [][]byte { return nil })
	r, err := Measure(t.Context(), Idle{}, Options{Target: target, Connections: 2, Timeout: 300 * time.Millisecond}, Stage{})
	if err == nil || r.Errors[errTimeout.Error()] != 1 {
		t.Errorf("%v: %+v", err, r)
	}
	// From the second message on.
	target = server(t, func(n int, b []byte) [][]byte { return [][]byte{b}[:max(1-n, 0)] })
	for _, rate := range []float64{0, 100} {
		r, err = measure(t, Echo{NoBare: true}, Options{
			Target: target, Connections: 2, Rate: rate, Timeout: 300 * time.Millisecond, Duration: 50 * time.Millisecond, Warmup: time.Millisecond,
		})
		if err == nil || figure(t, r, "lost") != 2 {
			t.Errorf("rate %v: %v, %+v", rate, err, r)
		}
	}
}

func TestTarget(t *testing.T) {
	for url, ok := range map[string]bool{
		"ws://127.0.0.1:80/": true, "ws://localhost:80/x?y=1": true, "wss://127.0.0.1:443/": true,
		"http://127.0.0.1:80/": false, "ws://127.0.0.1/": false, "": false, "ws://127.0.0.1:99999/": false,
	} {
		if _, _, _, err := (Target{URL: url}).resolve(t.Context()); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestListeningLine(t *testing.T) {
	for _, line := range []string{
		`time=x level=INFO msg=listening listener=public address=127.0.0.1:1234`,
		`{"level":"INFO","msg":"listening","listener":"public","address":"127.0.0.1:1234"}`,
	} {
		if m := listening.FindStringSubmatch(line); m == nil || m[1] != "public" || m[2] != "127.0.0.1:1234" {
			t.Errorf("%s: %q", line, m)
		}
	}
}

func TestSlow(t *testing.T) {
	r, err := measure(t, Slow{Stalled: 2}, Options{Target: server(t, nil), Connections: 20, Rate: 500, Compare: 2, Duration: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := r.Figure("p99-with/without")
	if len(f.Samples) != 2 || f.Value <= 0 || len(r.Errors) > 0 || len(r.Latencies) != 2 || figure(t, r, "bytes/stalled") == 0 {
		t.Errorf("%+v", r)
	}
	for _, d := range r.Latencies {
		if d.Count() != 500 || d.Quantile(0.5) == 0 || d.Max() < d.Quantile(0.99) {
			t.Errorf("%s: %d values", d.Name, d.Count())
		}
	}
	if _, err := Measure(t.Context(), Slow{Stalled: 5}, Options{Target: server(t, nil), Connections: 5}, Stage{}); err == nil {
		t.Error("all may stall")
	}
}
