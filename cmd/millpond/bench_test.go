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
		if r.Open != 180 || r.Refused != 120 || len(r.Failures) > 0 || r.Here.During.Messages == 0 || r.Before.Messages == 0 {
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
