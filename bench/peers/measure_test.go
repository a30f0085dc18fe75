package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Servers are measured by the tool as it is, and are in the page. MILLPOND_PEERS=1 measures all of them, which takes
// minutes.
func TestMeasure(t *testing.T) {
	measured, command := peers[3:4], "-duration=300ms -few=4 -many=40 -only=gobwas -rounds=1"
	if os.Getenv("MILLPOND_PEERS") != "" {
		measured, command = peers, "-duration=300ms -few=4 -many=40 -rounds=1"
	}
	page := t.TempDir() + "/peers.md"
	var out, progress strings.Builder
	args := append(strings.Fields(command), "-millpond="+built(t), "-out="+page)
	if err := run(t.Context(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	b, err := os.ReadFile(page)
	if err != nil || string(b) != out.String() {
		t.Errorf("the page is not what is printed: %v", err)
	}
	if want := "`make peers PEERS='" + command + "'`"; !strings.Contains(out.String(), want) {
		t.Errorf("%s is not in the page", want)
	}
	if !strings.Contains(out.String(), "load average was") {
		t.Error("the page does not say what else the machine did")
	}
	var r result
	if b, err = os.ReadFile(strings.TrimSuffix(page, ".md") + ".json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != len(measured)+2 {
		t.Fatalf("%d servers", len(r.Rows))
	}
	for _, row := range r.Rows {
		if !strings.Contains(out.String(), "\n| "+row.Server+" |") {
			t.Errorf("%s is not in the page", row.Server)
		}
		for _, c := range row.Cells {
			// The bare loop has no page with its goroutines. So few connections may cost less than a page of memory.
			optional := c.Figure == "goroutines" && row.Server == bare || c.Figure == "bytes/conn" || c.Figure == "p99"
			if !optional && (c.Missing != "" || c.Median <= 0) {
				t.Errorf("%s, %s: %+v", row.Server, c.UseCase, c)
			}
		}
	}
}

// The page says where others are better, and what may be chance. The verdicts are those of millpond bench compare.
func TestVerdicts(t *testing.T) {
	dir := t.TempDir()
	p := plan{few: 1, many: 2, peers: peers[:3], rounds: 4, tool: &tool{path: built(t), dir: dir}}
	all := results{}
	for _, c := range p.cases() {
		all[c.name] = map[string][]*outcome{}
		for server, more := range map[string]float64{ours: 0, "gorilla": 5, "coder": -5, "gws": -0.05, bare: -6} {
			for i := range 4 {
				o := &outcome{Version: reportVersion, file: filepath.Join(dir, fmt.Sprintf("%s-%s-%d.json", c.name, server, i))}
				for _, column := range p.columns() {
					if column.useCase == c.name {
						o.Figures = append(o.Figures, figure{Name: column.figure, Unit: "us", Value: 10 + more + float64(i)/10})
					}
				}
				b, err := json.Marshal(map[string]any{"version": 1, "scenario": c.args[0], "started": o.Started, "figures": o.Figures})
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(o.file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				all[c.name][server] = append(all[c.name][server], o)
			}
		}
	}
	table, err := p.tabulate(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	got := table.markdown()
	for _, want := range []string{
		"| millpond | 10.15 |", "| gorilla | 15.15 |", "| coder | **5.15** |", "| gws | *10.10* |", "| bare loop | 4.15 |",
		"- **coder**: CPU-µs a message, 1 connections, 5.15 against 10.15 (p=0.029 n=4+4)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "**gorilla**") || strings.Contains(got, "**gws**") || strings.Contains(got, "**bare loop**") {
		t.Errorf("gorilla, chance or the floor is called better\n%s", got)
	}
}

// A millpond that reports errors, another version, or nothing ends the measurement: half a table would be a wrong one.
func TestRefusesBadReports(t *testing.T) {
	for name, prints := range map[string]string{
		"errors":          `{"version":1,"errors":{"reset":3}}`,
		"cut":             `{"version":1,"cut":true}`,
		"another version": `{"version":2}`,
		"no version":      `{"connections":5}`,
		"no JSON":         `hello`,
		"nothing":         ``,
	} {
		path := filepath.Join(t.TempDir(), "millpond")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+prints+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if o, err := (&tool{path: path, dir: t.TempDir()}).bench(t.Context(), "echo"); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestKind(t *testing.T) {
	if got := kind("the client took 98 % of 2 cores"); got != "the client took … % of … cores" {
		t.Error(got)
	}
}
