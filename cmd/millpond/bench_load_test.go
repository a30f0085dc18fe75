package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/millpond/millpond/bench/report"
)

// This file has tests of the load as a whole: its processes, its end by a signal, its files.

// benchProcess is the tool as a user starts it, with a limit on open files if that is not 0.
func benchProcess(files int, args ...string) *exec.Cmd {
	command := exec.Command(os.Args[0], append([]string{"bench"}, args...)...)
	if files > 0 {
		command = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), os.Args[0], "bench"}, args...)...)
	}
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=tree")
	return command
}

// A load that one process may not hold is made by several, and what they find is one report.
func TestBenchBeyondTheLimitOnFiles(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--dev")
	url, pid := "--url=ws://"+p.public, "--pid="+strconv.Itoa(p.command.Process.Pid)
	for _, args := range [][]string{
		{"idle", "--connections=1000", "--duration=100ms", "--protocol=centrifuge-protobuf", "--connect-rate=2000"},
		{"idle", "--connections=1000", "--duration=100ms", "--protocol=plain", "--ramp=500ms"},
		{"echo", "--connections=1000", "--duration=500ms", "--warmup=100ms", "--no-bare", "--rate=1000"},
		{"echo", "--connections=1000", "--duration=500ms", "--warmup=100ms"}, // the bare loop may not hold them, either
	} {
		command := benchProcess(700, append(args, url, pid, "--json", "-q")...)
		command.Stderr = os.Stderr
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		r, err := report.Read(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Environment.Limits["nofile"], "700") || len(r.Environment.Server) < 2 || r.Environment.Server[1] != "serve" {
			t.Errorf("%+v", r.Environment)
		}
		if args[0] == "idle" && (figure(t, r, "open") != 1000 || r.Latencies[0].Count() != 1000 || figure(t, r, "bytes/conn") == 0) {
			t.Errorf("%q: %+v", args, r)
		}
		if args[0] == "echo" && (figure(t, r, "messages/s") == 0 || figure(t, r, "lost") != 0 || figure(t, r, "client-cpu") == 0) {
			t.Errorf("%q: %+v", args, r)
		}
		if args[len(args)-1] == "--rate=1000" && r.Latencies[0].Count() != 501 { // a third of 500, of each of three
			t.Errorf("%q: %d messages", args, r.Latencies[0].Count())
		}
	}
}

// Ctrl-C and SIGTERM end a run, which reports what it has found, by an exit code of its own.
func TestBenchCutShort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		signal    os.Signal
		processes string
		wait      string
	}{
		{os.Interrupt, "0", "measuring"}, {syscall.SIGTERM, "2", "measuring"}, {os.Interrupt, "2", "warming up"},
	} {
		command := benchProcess(0, "echo", "--connections=20", "--duration=1h", "--warmup=20s", "--json", "--processes="+tt.processes)
		if tt.wait == "measuring" {
			command.Args = append(command.Args, "--warmup=100ms")
		}
		var out bytes.Buffer
		command.Stdout = &out
		stderr, err := command.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), tt.wait) {
		}
		_ = command.Process.Signal(tt.signal)
		for lines.Scan() {
		}
		_ = command.Wait()
		r, err := report.Read(&out)
		if err != nil {
			t.Fatal(err)
		}
		if code := command.ProcessState.ExitCode(); code != exitCut || !r.Cut || len(r.Errors) > 0 {
			t.Errorf("%v: exit code %d, %+v", tt, code, r)
		}
		if tt.wait == "measuring" && (figure(t, r, "messages/s") == 0 || len(r.Latencies) != 1) {
			t.Errorf("%v: %+v", tt, r)
		}
	}
}

// Limits are an exit code, and reports are written to files, which can be compared.
func TestBenchLimitsAndFiles(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--dev")
	dir := t.TempDir()
	out, page := filepath.Join(dir, "report.json"), filepath.Join(dir, "report.html")
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--out", out, "--html", page, "--fail-if=lost>0", "--fail-if=p50>1h"}, 0, ""},
		{[]string{"--fail-if=messages/s>0"}, exitLimit, "messages/s is "},
		{[]string{"--fail-if=lost>0", "--protocol=raw", "--raw-message=a", "--raw-count=b", "--timeout=100ms"}, 1, "errors of"},
		{[]string{"--fail-if=nonsense"}, 2, "nonsense"},
		{[]string{"--duration=1h", "--fail-if=p98>50ms"}, 1, "echo has no figure p98; is p9"}, // before it runs
		{[]string{"--duration=1h", "--fail-if=p99>50"}, 1, "p99 is a time"},
		{[]string{"--out", dir + "/none/report.json"}, 1, "--out: "},
		{[]string{"--tls"}, 1, "--tls: "},
		{[]string{"--source=here"}, 1, "--source "},
		{[]string{"--token-file=" + os.DevNull}, 1, "is empty"},
		{[]string{"--protocol=morse"}, 2, "morse"},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"bench", "echo", "-q", "--connections=2", "--duration=100ms", "--warmup=10ms", "--url=ws://" + p.public}, tt.args...)
		if code := run(t.Context(), args, &stdout, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.err) {
			t.Errorf("%q: exit code %d, %s", tt.args, code, stderr.String())
		}
	}
	if _, err := report.ReadFile(out); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("</html>")) {
		t.Errorf("%v", err)
	}
}

// A storm of connects upon a server that is not ours counts refusals by their status, and takes no longer than the time limit.
func TestBenchConnectElsewhere(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--dev", "--max-connections=30")
	r := runScenario(t, "connect", "-q", "--url=ws://"+p.public, "--connections=50", "--established=10", "--rate=100")
	if figure(t, r, "open") != 20 || figure(t, r, "refused") != 30 {
		t.Errorf("%+v", r)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	out, err := benchProcess(0, "connect", "-q", "--json", "--url=ws://"+silent.Addr().String(), "--connections=50", "--established=-1", "--timeout=300ms").Output()
	if err == nil {
		t.Fatalf("%s", out)
	}
	if r, err = report.Read(bytes.NewReader(out)); err != nil || figure(t, r, "open") != 0 || len(r.Errors) != 1 {
		t.Errorf("%v: %+v", err, r)
	}
}
