package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/bench"
	"github.com/millpond/millpond/bench/report"
)

// runScenario runs one as a user does, with servers and clients in processes of their own, and reads its report.
func runScenario(t *testing.T, args ...string) *report.Report {
	t.Helper()
	out, problems, err := tryScenario(args...)
	if err != nil {
		t.Fatalf("%v: %s: %s", err, problems, out)
	}
	r, err := report.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Figures {
		limit := report.Limit{Name: f.Name, Op: ">", Unit: f.Unit}
		if err := bench.CheckLimits(named(r.Scenario), []report.Limit{limit}); err != nil {
			t.Errorf("a limit on %s: %v", f.Name, err)
		}
	}
	return r
}

// named is a scenario that has only its name.
type named string

func (n named) Name() string                        { return string(n) }
func (named) Prepare(*bench.Options) error          { return nil }
func (named) Run(context.Context, *bench.Run) error { return nil }

// tryScenario is runScenario for one that may fail: it returns what was printed, and what was complained of.
func tryScenario(args ...string) (out, problems []byte, err error) {
	command := exec.Command(os.Args[0], append([]string{"bench", "--json"}, args...)...)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=tree")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err = command.Output()
	return out, stderr.Bytes(), err
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
	t.Parallel()
	for _, flags := range [][]string{nil, {"--tls", "--processes=3"}} {
		r := runScenario(t, append(flags, "connect", "--established=20", "--rate=100", "--connections=300", "--max-connections=200", "--accept-rate=1000")...)
		if figure(t, r, "open") != 180 || figure(t, r, "refused") != 120 || len(r.Errors) > 0 || figure(t, r, "p99-before") == 0 {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

// Handshakes are full, or resumed, as their name says, or the command fails.
func TestBenchHandshakes(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "handshakes", "--connections=40", "--at-once=4", "--compare=1")
	for _, kind := range []string{"full", "resumed"} {
		if figure(t, r, kind+"/cpu-s") <= 0 || figure(t, r, "net-http-"+kind+"/cpu-s") <= 0 || figure(t, r, kind+"-x-of-net-http") <= 0 {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}

// Idle connections over TLS are all open, and each has had its message back.
func TestBenchIdleOverTLS(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "--tls", "idle", "--connections=50", "--duration=100ms", "--size=15000")
	if figure(t, r, "open") != 50 || len(r.Errors) > 0 || figure(t, r, "goroutines") == 0 {
		t.Errorf("%+v", r)
	}
}

// An echo is measured beside the bare loop, if it can be and is not refused.
func TestBenchEchoBesideTheBareLoop(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--dev")
	url, metrics := "--url=ws://"+p.public, "--metrics=http://"+p.internal+"/metrics"
	for _, tt := range []struct {
		flags []string
		pairs int // of measurements; 0 for none, -1 for none and a reason
	}{
		{nil, 3},
		{[]string{"--compare=2", "--depth=4", "--processes=2"}, 2},
		{[]string{"--no-bare"}, 0},
		{[]string{url}, -1},
		{[]string{url, metrics, "--compare=1", "--rate=500"}, 1},
	} {
		r := runScenario(t, append([]string{"echo", "--connections=10", "--duration=300ms", "--warmup=20ms"}, tt.flags...)...)
		f, ok := r.Figure("x-of-bare")
		if ok != (tt.pairs != 0) || (f.Missing != "") != (tt.pairs < 0) || len(f.Samples) != max(tt.pairs, 0) || len(r.Errors) > 0 {
			t.Errorf("%q: %+v, %v", tt.flags, f, r.Errors)
		}
		if figure(t, r, "messages/s") == 0 || figure(t, r, "lost") != 0 || tt.pairs > 0 && figure(t, r, "bare-cpu-us/message") <= 0 {
			t.Errorf("%q: %+v", tt.flags, r.Figures)
		}
	}
}

// faultless are the figures of what a server must not do.
func faultless(t *testing.T, r *report.Report) {
	t.Helper()
	for _, name := range []string{"lost", "doubled", "reordered", "offset-faults", "changed", "misplaced", "foreign", "epoch-faults", "late"} {
		if n := figure(t, r, name); n != 0 {
			t.Errorf("%s: %v %s", r.Scenario, n, name)
		}
	}
	if len(r.Errors) > 0 {
		t.Errorf("%s: %v", r.Scenario, r.Errors)
	}
}

// Both servers deliver every message to everybody, in each protocol, at a rate and in queues.
func TestBenchFanout(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{
		nil, {"--protocol=centrifuge-protobuf", "--channels=3", "--publishers=6"}, {"--protocol=plain", "--queue=10"}, {"--processes=2", "--publishers=3"},
	} {
		r := runScenario(t, append([]string{"fanout", "--connections=30", "--duration=500ms", "--warmup=100ms", "--messages=10", "--compare=2"}, flags...)...)
		faultless(t, r)
		for _, name := range []string{"deliveries/s", "publications/s", "p50", "x-of-bare", "x-of-bare-queued", "cpu-us/delivery"} {
			if figure(t, r, name) <= 0 {
				t.Errorf("%q: %s is 0", flags, name)
			}
		}
	}
}

// Every connection gets the messages that are its own and the shared one.
func TestBenchPersonal(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--presence"}, {"--protocol=plain"}, {"--protocol=centrifuge-protobuf", "--processes=2"}} {
		r := runScenario(t, append([]string{"personal", "--connections=40", "--settle=50ms", "--rate=500"}, flags...)...)
		faultless(t, r)
		if figure(t, r, "goroutines") == 0 || figure(t, r, "p50") == 0 {
			t.Errorf("%q: %+v", flags, r.Figures)
		}
		if flags[0] == "--presence" && figure(t, r, "present") != 40 {
			t.Errorf("%v present", figure(t, r, "present"))
		}
	}
}

// Those who stay get all while others come and go.
func TestBenchChurn(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "churn", "--connections=20", "--channels=4", "--rate=100", "--visits=100", "--stay=50ms", "--duration=700ms", "--warmup=50ms", "--settle=50ms")
	if server := strings.Join(r.Environment.Server, " "); !strings.Contains(server, "--config=millpond.yaml") {
		t.Errorf("the server's command line has a path of this run: %s", server)
	}
	faultless(t, r)
	if figure(t, r, "visits/s") == 0 || figure(t, r, "p50") == 0 || figure(t, r, "without-p50") == 0 || figure(t, r, "visit-p50") == 0 {
		t.Errorf("nothing is proved: %+v", r.Figures)
	}
}

// Clients that come and go miss nothing, in each protocol.
func TestBenchRecover(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"centrifuge-json", "centrifuge-protobuf", "plain"} {
		r := runScenario(t, "recover", "--protocol="+protocol, "--duration=1500ms", "--deliveries=1000", "--connections=30", "--channels=5", "--rate=300",
			"--stay=150ms", "--away=50ms", "--slow=100ms")
		faultless(t, r)
		if figure(t, r, "unrecovered") > 0 || figure(t, r, "skipped") > 0 {
			t.Errorf("%s: %+v", protocol, r.Figures)
		}
		if figure(t, r, "checked") < 1000 || figure(t, r, "recovered") == 0 || figure(t, r, "recoveries") == 0 || figure(t, r, "returns") < 30 {
			t.Errorf("%s: nothing is proved: %+v", protocol, r.Figures)
		}
	}
}

// All clients are back after a restart, and nothing is lost that the server has not said.
func TestBenchDrain(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"restart", "takeover"} {
		r := runScenario(t, "drain", "--how="+how, "--connections=40", "--channels=4", "--rate=100", "--duration=1s")
		faultless(t, r)
		if figure(t, r, "back") <= 0 || figure(t, r, "returns") < 40 || figure(t, r, "unrecovered") != 40 {
			t.Errorf("%s: %+v", how, r.Figures)
		}
	}
}

// A day goes by.
func TestBenchMixed(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "mixed", "--connections=60", "--channels=5", "--visits=20", "--rate=200", "--duration=3s")
	faultless(t, r)
	for _, name := range []string{
		"visits/s", "deliveries/s", "returns", "personal/s", "shared/s", "announced/s", "asks/s", "presence-calls/s", "history-calls/s",
	} {
		if figure(t, r, name) == 0 {
			t.Errorf("nothing is proved: %s is 0: %+v", name, r.Figures)
		}
	}
	if figure(t, r, "announcements") != 4 || figure(t, r, "presence-faults")+figure(t, r, "history-faults") != 0 || len(r.Warnings) > 0 {
		t.Errorf("%+v, %q", r.Figures, r.Warnings)
	}
}

// Each way of publishing gets its publications accepted.
func TestBenchAPI(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "api", "--connections=2", "--together=10", "--duration=200ms")
	for _, way := range []string{bench.PublishSingle, bench.PublishBatch, bench.PublishBroadcast, bench.PublishBulk} {
		if figure(t, r, way+"/s") == 0 || figure(t, r, "cpu-us/"+way) <= 0 {
			t.Errorf("%s: %+v", way, r.Figures)
		}
	}
}

// The first --pid is the process that is asked for what only one has; the others are beside it.
func TestBenchProcesses(t *testing.T) {
	for _, pids := range [][]int{nil, {1}, {1, 2, 3}} {
		target := (&benchFlags{PID: pids}).target()
		got := append([]int{target.PID}, target.Beside...)
		if want := append([]int{}, pids...); !slices.Equal(got, want) && (len(want) > 0 || !slices.Equal(got, []int{0})) {
			t.Errorf("--pid %v: %v", pids, got)
		}
	}
}
