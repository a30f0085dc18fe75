package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millpond/millpond/bench/report"
)

// writeReport writes a report of a server that takes so many µs for a message, and returns the file's name.
func writeReport(t *testing.T, dir, name string, connections int, cpu ...float64) string {
	t.Helper()
	r := report.New("echo", connections)
	r.Add(report.Figure{Name: "cpu-us/message", Value: cpu[len(cpu)/2], Unit: "us", Samples: cpu})
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBenchCompare(t *testing.T) {
	dir := t.TempDir()
	before := writeReport(t, dir, "before.json", 100, 10, 10.1, 10.2, 10.3, 10.4)
	after := writeReport(t, dir, "after.json", 100, 12, 12.1, 12.2, 12.3, 12.4)
	more := writeReport(t, dir, "more.json", 200, 10)
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"version":1,"scenario":"echo","figures":[{}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.html")
	runs := strings.Join([]string{before, before, before, before}, ",")
	for _, tt := range []struct {
		name string
		args []string
		code int
		out  string
		err  string
	}{
		{"worse", []string{before, after}, 0, "✗ worse  p=0.008 n=5+5", ""},
		{"better", []string{after, before}, 0, "✓ better", ""},
		{"several runs", []string{runs, strings.ReplaceAll(runs, before, after)}, 0, "n=4+4", ""},
		{"a page", []string{before, after, "--html", page}, 0, "✗ worse", ""},
		{"a page where none can be", []string{before, after, "--html", dir + "/no/page.html"}, 1, "✗ worse", "--html: "},
		{"limits that hold", []string{before, after, "--fail-if", "cpu-us/message>+30%,cpu-us/message>+5us"}, 0, "✗ worse", ""},
		{"limits that do not", []string{before, after, "--fail-if=cpu-us/message>+1%", "--fail-if=cpu-us/message>+1us"}, 3, "✗ worse", "cpu-us/message went from 10.2 µs to 12.2 µs (+19.6 %)\n"},
		{"a limit on nothing", []string{before, after, "--fail-if=cpu>+1%"}, 1, "", "is cpu-us/message meant?"},
		{"a limit that is none", []string{before, after, "--fail-if=cpu"}, 2, "", "as p99>50ms"},
		{"other connections", []string{before, more}, 1, "", "100 and 200 connections"},
		{"other connections, told so", []string{before, more, "--different"}, 0, "too few samples", ""},
		{"a broken report", []string{before, broken}, 1, "", "broken.json: a report of bench that is broken"},
		{"no report", []string{before, dir + "/none.json"}, 1, "", "none.json"},
		{"reports without end", []string{before, strings.Repeat(after+",", maxRuns) + after}, 1, "", "at most 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"bench", "compare"}, tt.args...), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.err) {
				t.Errorf("exit code %d\n%s\n%s", code, stdout.String(), stderr.String())
			}
		})
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("</html>")) {
		t.Errorf("%v %.200s", err, b)
	}
	if _, err := os.Stat(filepath.Join(dir, "no")); err == nil {
		t.Error("a directory was made")
	}

	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"bench", "--json", "compare", before, after}, &stdout, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	var c report.Comparison
	if err := json.Unmarshal(stdout.Bytes(), &c); err != nil || len(c.Figures) != 1 || c.Figures[0].Verdict != report.Worse {
		t.Errorf("%v %s", err, stdout.String())
	}
}
