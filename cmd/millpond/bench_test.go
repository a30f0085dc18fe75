package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/millpond/millpond/bench"
	"github.com/millpond/millpond/bench/report"
)

// runBench runs a scenario as a user does, with servers and clients in processes of their own, and reads its report.
func runBench(t *testing.T, report any, args ...string) {
	t.Helper()
	command := exec.Command(os.Args[0], append([]string{"bench", "--json"}, args...)...)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=tree")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out, report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// runScenario is runBench for scenarios with the common report.
func runScenario(t *testing.T, args ...string) *report.Report {
	t.Helper()
	var raw json.RawMessage
	runBench(t, &raw, args...)
	r, err := report.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return r
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

// A storm lets in what the bound allows, and the others have their 503.
func TestBenchConnect(t *testing.T) {
	for _, flags := range [][]string{nil, {"--tls", "--processes=3"}} {
		r := runScenario(t, append(flags, "connect", "--established=20", "--rate=100", "--connections=300", "--max-connections=200", "--accept-rate=1000")...)
		if figure(t, r, "open") != 180 || figure(t, r, "refused") != 120 || len(r.Errors) > 0 || figure(t, r, "p99-before") == 0 {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

// Handshakes are full, or resumed, as their name says, or the command fails.
func TestBenchHandshakes(t *testing.T) {
	r := runScenario(t, "handshakes", "--connections=40", "--at-once=4", "--compare=1")
	for _, kind := range []string{"full", "resumed"} {
		if figure(t, r, kind+"/cpu-s") <= 0 || figure(t, r, "net-http-"+kind+"/cpu-s") <= 0 || figure(t, r, kind+"-x-of-net-http") <= 0 {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}

// Idle connections over TLS are all open, and each has had its message back.
func TestBenchIdleOverTLS(t *testing.T) {
	r := runScenario(t, "--tls", "idle", "--connections=50", "--duration=100ms", "--size=15000")
	if figure(t, r, "open") != 50 || len(r.Errors) > 0 || figure(t, r, "goroutines") == 0 {
		t.Errorf("%+v", r)
	}
}

// Every connection gets its own message and the shared one, by either codec.
func TestBenchChannels(t *testing.T) {
	for _, flags := range [][]string{nil, {"--protobuf", "--presence"}} {
		var r bench.ChannelsReport
		runBench(t, &r, append([]string{"channels", "--connections=40", "--hold=50ms"}, flags...)...)
		if r.Subscribed != 40 || r.Received != 80 || r.Presence != (r.Present == 40) || r.Failed() > 0 || r.Base == 0 || r.GoroutinesWith == 0 {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

// Both servers deliver every message to everybody.
func TestBenchBroadcast(t *testing.T) {
	for _, flags := range [][]string{nil, {"--protobuf"}} {
		var r bench.BroadcastReport
		runBench(t, &r, append([]string{"broadcast", "--connections=30", "--messages=10", "--pairs=2"}, flags...)...)
		for _, kind := range []string{bench.BroadcastSingle, bench.BroadcastQueued} {
			if len(r.Server[kind]) != 2 || len(r.Bare[kind]) != 2 || r.Ratio[kind] <= 0 {
				t.Fatalf("%q: %+v", flags, r)
			}
			for i := range 2 {
				if r.Server[kind][i].Deliveries != 300 || r.Bare[kind][i].Deliveries != 300 {
					t.Errorf("%q: %s: %+v, %+v", flags, kind, r.Server[kind][i], r.Bare[kind][i])
				}
			}
		}
		if r.Failed() > 0 {
			t.Errorf("%q: %v", flags, r.Failures)
		}
	}
}

// Clients that come and go miss nothing, by either codec.
func TestBenchLoss(t *testing.T) {
	for _, flags := range [][]string{nil, {"--protobuf"}} {
		var r bench.LossReport
		runBench(t, &r, append([]string{
			"loss", "--duration=1500ms", "--deliveries=1000", "--subscribers=30", "--channels=5", "--rate=300",
			"--stay=150ms", "--away=50ms", "--slow=100ms",
		}, flags...)...)
		if r.Lost+r.Doubled+r.Reordered+r.Mismatches+r.Changed+r.Unrecovered > 0 || r.Failed() > 0 {
			t.Errorf("%q: %+v", flags, r)
		}
		if r.Checked() < 1000 || r.Recovered == 0 || r.Recoveries == 0 || len(r.Reconnects) < 4 || r.Published == 0 {
			t.Errorf("%q: nothing is proved: %+v", flags, r)
		}
	}
}

// Each way of publishing gets its publications accepted.
func TestBenchAPI(t *testing.T) {
	var r bench.PublishingReport
	runBench(t, &r, "api", "--connections=2", "--together=10", "--duration=200ms")
	for _, way := range []string{bench.PublishSingle, bench.PublishBatch, bench.PublishBroadcast, bench.PublishBulk} {
		if run := r.Runs[way]; run.Publications == 0 || run.ServerCPU <= 0 {
			t.Errorf("%s: %+v", way, r)
		}
	}
}
