package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/millpond/millpond/bench"
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

// A storm lets in what the bound allows, and the others have their 503.
func TestBenchStorm(t *testing.T) {
	for _, flags := range [][]string{nil, {"--tls"}} {
		var r bench.StormReport
		runBench(t, &r, append(flags, "storm", "--established=20", "--rate=100", "--connections=300", "--max-connections=200", "--accept-rate=1000")...)
		// A storm this small may be over before the next message of the others is due, so only all of it is sure to have some.
		during := r.Here.Dialing.Messages + r.Here.During.Messages + r.Here.Leaving.Messages
		if r.Open != 180 || r.Refused != 120 || len(r.Failures) > 0 || during == 0 || r.Before.Messages == 0 {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

// Handshakes are full, or resumed, as their name says, or the command fails.
func TestBenchHandshakes(t *testing.T) {
	var r bench.HandshakesReport
	runBench(t, &r, "handshakes", "--connections=40", "--at-once=4", "--pairs=1")
	for _, kind := range []string{"full", "resumed"} {
		if len(r.Server[kind]) != 1 || r.Server[kind][0].CPU <= 0 || r.NetHTTP[kind][0].CPU <= 0 || r.Ratio[kind] <= 0 {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}

// Idle connections over TLS are all open, and each has had its message back.
func TestBenchIdleOverTLS(t *testing.T) {
	var r bench.IdleReport
	runBench(t, &r, "--tls", "idle", "--connections=50", "--hold=100ms", "--message-bytes=15000")
	if len(r.Rounds) != 1 || r.Rounds[0].Open != 50 || r.Failed() > 0 {
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
