package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/doctor"
)

func TestDoctor(t *testing.T) {
	code, stdout, stderr := runCommand("doctor", "--connections=1", "--json")
	var small doctor.Report
	if err := json.Unmarshal([]byte(stdout), &small); err != nil || small.Connections != 1 || len(small.Findings) < 10 {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, stdout, stderr)
	}
	if (code == 0) != (small.Verdict != doctor.Fault) {
		t.Errorf("exit code %d, verdict %s", code, small.Verdict)
	}

	// So many that no machine carries them.
	file := filepath.Join(t.TempDir(), "91-millpond.conf")
	code, stdout, stderr = runCommand("doctor", "--connections=2000000000", "--tls", "--data-dir=/does/not/exist", "--write-sysctl="+file)
	for _, want := range []string{"2,000,000,000 connections with TLS", "✗ nofile", "✗ memory", "✗ data directory", "do not fit here"} {
		if !strings.Contains(stdout+stderr, want) {
			t.Errorf("no %q in\n%s%s", want, stdout, stderr)
		}
	}
	settings, err := os.ReadFile(file)
	if code != 1 || err != nil || !strings.Contains(string(settings), "net.ipv4.tcp_mem = ") {
		t.Errorf("exit code %d, %v\n%s", code, err, settings)
	}
	if code, stdout, _ = runCommand("doctor", "--connections=2000000000", "--write-sysctl=-"); code != 1 || !strings.Contains(stdout, "net.ipv4.tcp_mem = ") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if code, _, stderr = runCommand("doctor", "--connections=0"); code != 1 || !strings.Contains(stderr, "--connections") {
		t.Errorf("none: exit code %d, %s", code, stderr)
	}
}

// serve says at its start, in a line each, what keeps so many connections out.
func TestServeExamines(t *testing.T) {
	args := []string{"serve", "--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--log-format=json"}
	_, _, stderr := runCommand(append(args, "--max-connections=2000000000")...)
	var limits []string
	for line := range strings.Lines(stderr) {
		var entry struct{ Msg, Limit, Fix string }
		if err := json.Unmarshal([]byte(line), &entry); err == nil && strings.Contains(entry.Msg, "cannot carry") {
			if limits = append(limits, entry.Limit); entry.Fix == "" {
				t.Errorf("nothing mends it: %s", line)
			}
		}
	}
	if !slices.Contains(limits, "nofile") || !slices.Contains(limits, "memory") {
		t.Errorf("warned of %q", limits)
	}
	if _, _, stderr = runCommand(append(args, "--max-connections=1")...); strings.Contains(stderr, "cannot carry") {
		t.Errorf("one connection: %s", stderr)
	}
}
