package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// This file is how the peers see `millpond bench`: as a command whose reports are JSON, so that this module and that
// one need nothing of each other.

// outcome is what the table needs of a report of bench.
type outcome struct {
	Version     int               `json:"version"`
	Started     time.Time         `json:"started"`
	Environment environment       `json:"environment"`
	Figures     []figure          `json:"figures"`
	Errors      map[string]uint64 `json:"errors"`
	Warnings    []string          `json:"warnings"`
	Cut         bool              `json:"cut"`

	file string // the whole report, for comparisons
}

// reportVersion is that of the reports that can be read.
const reportVersion = 1

type environment struct {
	Kernel   string `json:"kernel"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Go       string `json:"go"`
	Millpond string `json:"millpond"`
}

type figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Missing string  `json:"missing"`
}

// verdict is what a comparison says of a figure: "better", "worse", "same" or "unknown".
type verdict struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
}

// tool runs millpond's commands.
type tool struct {
	path string
	dir  string // where reports are kept until the end
	kept int
}

// run runs a command and returns what it prints.
func (t *tool) run(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, t.path, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // it ends its own server
	command.WaitDelay = 30 * time.Second
	if err := command.Run(); err != nil {
		said := stderr.String()
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said[max(len(said)-1000, 0):]))
	}
	return stdout.Bytes(), nil
}

// bench runs a scenario and keeps its report.
func (t *tool) bench(ctx context.Context, args ...string) (*outcome, error) {
	out, err := t.run(ctx, append(append([]string{"bench"}, args...), "--json")...)
	if err != nil {
		return nil, err
	}
	o := &outcome{}
	if err := json.Unmarshal(out, o); err != nil {
		return nil, fmt.Errorf("its report: %w", err)
	}
	if o.Version != reportVersion {
		return nil, fmt.Errorf("its report is of version %d, not %d", o.Version, reportVersion)
	}
	for what, n := range o.Errors {
		return nil, fmt.Errorf("%d errors: %s", n, what)
	}
	if o.Cut {
		return nil, errors.New("it was cut short")
	}
	t.kept++
	o.file = filepath.Join(t.dir, strconv.Itoa(t.kept)+".json")
	return o, os.WriteFile(o.file, out, 0o600)
}

// compare sets runs beside others. The verdicts are by figure.
func (t *tool) compare(ctx context.Context, before, after []*outcome) (map[string]verdict, error) {
	files := func(runs []*outcome) string {
		names := make([]string, len(runs))
		for i, o := range runs {
			names[i] = o.file
		}
		return strings.Join(names, ",")
	}
	out, err := t.run(ctx, "bench", "compare", files(before), files(after), "--json")
	if err != nil {
		return nil, err
	}
	var comparison struct {
		Figures []verdict `json:"figures"`
	}
	if err := json.Unmarshal(out, &comparison); err != nil {
		return nil, fmt.Errorf("a comparison: %w", err)
	}
	byName := map[string]verdict{}
	for _, v := range comparison.Figures {
		byName[v.Name] = v
	}
	return byName, nil
}

// figure returns the one of that name, if it was measured.
func (o *outcome) figure(name string) (figure, bool) {
	for _, f := range o.Figures {
		if f.Name == name {
			return f, f.Missing == ""
		}
	}
	return figure{}, false
}

// String is one line for people.
func (e environment) String() string {
	return fmt.Sprintf("%s, %s, %d cores, %s, millpond %s", e.Kernel, e.CPU, e.Cores, e.Go, e.Millpond)
}
