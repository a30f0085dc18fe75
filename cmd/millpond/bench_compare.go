package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/millpond/millpond/bench/report"
)

type compareCommand struct {
	Before    string `arg:"" help:"Report of bench --json, or several runs of one load: A1.json,A2.json."`
	After     string `arg:"" help:"The same of what came after."`
	Different bool   `help:"Compare reports of different scenarios, or numbers of connections, anyway."`
}

// Run sets reports side by side.
func (c *compareCommand) Run(_ context.Context, s *streams, b *cli) error {
	before, err := readReports(c.Before)
	if err != nil {
		return err
	}
	after, err := readReports(c.After)
	if err != nil {
		return err
	}
	comparison, err := report.Compare(before, after, c.Different)
	if err != nil {
		return err
	}
	if err := comparison.CheckLimits(b.Bench.FailIf); err != nil {
		return err
	}
	write := comparison.WriteText
	if b.Bench.JSON {
		write = comparison.WriteJSON
	}
	err = write(s.out)
	if b.Bench.HTML != "" {
		err = errors.Join(err, writeResult("html", b.Bench.HTML, comparison.WriteHTML))
	}
	return overLimit(err, comparison.FailIf(b.Bench.FailIf))
}

// maxRuns is how many reports of one load are read: each may take some megabytes.
const maxRuns = 100

func readReports(names string) (reports []*report.Report, err error) {
	files := strings.Split(names, ",")
	if len(files) > maxRuns {
		return nil, fmt.Errorf("%d reports, at most %d", len(files), maxRuns)
	}
	for _, name := range files {
		r, err := report.ReadFile(name)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// writeResult writes the file of a flag, whole or not at all.
func writeResult(flag, name string, write func(io.Writer) error) error {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	defer func() { _ = f.Cleanup() }()
	if err := write(f); err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return f.CloseAtomicallyReplace()
}
