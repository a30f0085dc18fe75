package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/internal/program"
)

// defaultConnections take the machine three minutes, or some more of a busy host; MILLPOND_MILLION_CONNECTIONS says how
// many else.
const defaultConnections = 20_000

// heartbeat is the time in which each connection has one: 333 of them a second are what emulated CPUs do that have a
// tenth of a real one.
const heartbeat = 3 * time.Millisecond

// build builds a command of ours as it ships: static.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	to := filepath.Join(dir, filepath.Base(pkg))
	command := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
	command.Dir, command.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// The machine boots, all connections open, each has its message back and stays open through heartbeats, and nothing is
// left when they have gone.
func TestMachine(t *testing.T) {
	if raceEnabled {
		t.Skip("the machine's programs are built as they ship, without the race detector")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine is an amd64") // and so would the programs in it have to be
	}
	program.Find(t, qemu)
	program.Find(t, "cpio")
	kernel, err := filepath.Abs("../../build/million/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	program.File(t, kernel)
	n := defaultConnections
	if s := os.Getenv("MILLPOND_MILLION_CONNECTIONS"); s != "" {
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir, interval := t.TempDir(), time.Duration(n)*heartbeat
	command := exec.Command("nice", build(t, dir, "./bench/million"), "-dir="+dir, "-kernel="+kernel, "-server="+build(t, dir, "./cmd/millpond"),
		"-sysctl=../../deploy/sysctl/90-millpond.conf", "-connections="+strconv.Itoa(n),
		"-ping-interval="+interval.String(), "-pong-timeout="+(interval-time.Second).String(), "-hold="+(interval+5*time.Second).String(), "-timeout=15m")
	out, err := command.CombinedOutput()
	if strings.Contains(string(out), "skipped: ") {
		t.Skipf("%s", out) // for want of memory: its programs and the kernel were found above
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, reportName))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	if m := r.Metrics; int(m.Connections) != n || int(m.Echoes) < n || m.Pongs == 0 {
		t.Errorf("the server's metrics are %+v", m)
	}
	if r.Settled.Sockets < 2*n || r.Settled.ServerRSS <= r.Base.ServerRSS || r.Settled.ClientRSS == 0 || r.Settled.Slab <= r.Base.Slab {
		t.Errorf("settled: %+v, before: %+v", r.Settled, r.Base)
	}
	if !strings.Contains(string(r.Client), strconv.Itoa(n)) {
		t.Errorf("the client's report is %s", r.Client)
	}
	for _, name := range []string{"heap.pprof", "metrics.txt", "console.log"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%s", &r)
}

// What the host lacks is a reason not to run, and said as one.
func TestMissing(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{qemu, "cpio"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/false\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	here := filepath.Join(bin, qemu)
	for _, c := range []struct{ name, path, kernel, memory, want string }{
		{"the emulator", t.TempDir(), here, "64", "qemu-system-x86_64 is not installed: make setup"},
		{"the kernel", bin, filepath.Join(bin, "none"), "64", "no kernel: "},
		{"memory", bin, here, "1000000000", "1000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			var out bytes.Buffer
			err := command(t.Context(), []string{"-dir=" + t.TempDir(), "-kernel=" + c.kernel, "-memory=" + c.memory}, &out)
			var missing missingError
			if !errors.As(err, &missing) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A machine that does not do its work is no report: not when it ends without one, nor when it does not end.
func TestMachineFails(t *testing.T) {
	for _, c := range []struct{ name, script, timeout, want string }{
		{"at once", "exit 3", "1m", "exit status 3"},
		{"silently", "exit 0", "1m", "no such file"},
		{"without a report", `for a; do case $a in file:*) : >"${a#file:}";; esac; done`, "1m", "ended without a report"},
		{"never", "exec sleep 1000", "1s", "not done after 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, qemu), []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			program.Find(t, "cpio")
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			some := filepath.Join(dir, qemu)
			var out bytes.Buffer
			err := command(ctx, []string{"-dir=" + dir, "-kernel=" + some, "-server=" + some, "-sysctl=" + some, "-memory=1", "-timeout=" + c.timeout}, &out)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A report says what is not as it must be.
func TestFault(t *testing.T) {
	good := report{Connections: 10, Metrics: counts{Connections: 10, Echoes: 11}}
	for _, c := range []struct {
		name   string
		change func(r *report)
		want   string
	}{
		{"nothing", func(*report) {}, ""},
		{"the machine failed", func(r *report) { r.Failed = "no memory" }, "no memory"},
		{"connections are missing", func(r *report) { r.Metrics.Connections = 9 }, "9 connections"},
		{"echoes are missing", func(r *report) { r.Metrics.Echoes = 9 }, "echoed 9"},
	} {
		r := good
		c.change(&r)
		if err := r.fault(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A metric is the sum of its own series, and of no other's.
func TestMetric(t *testing.T) {
	page := []byte("# HELP a_total All.\na_total{kind=\"x\"} 1\na_total{kind=\"y y\"} 2\na_total_more 4\nb 8\nb_c 16\n")
	for series, want := range map[string]float64{"a_total": 3, `a_total{kind="x"}`: 1, "b": 8, "c": 0} {
		if got := metric(page, series); got != want {
			t.Errorf("%s: %v, want %v", series, got, want)
		}
	}
}
