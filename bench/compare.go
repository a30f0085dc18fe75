package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CompareReport sets Echo's server beside the yardstick, in pairs of runs with the same load.
type CompareReport struct {
	Server []EchoReport `json:"server"`
	Bare   []EchoReport `json:"bare"`
	Ratio  float64      `json:"ratio"` // the server's CPU per message over the bare loop's: the median of the pairs
}

// Compare runs Echo on the own server and on the yardstick in turn, pairs times. What else the machine does
// then troubles both. c.Target must be empty.
func Compare(ctx context.Context, c EchoConfig, pairs int) (report CompareReport, err error) {
	own, stop, err := start(ctx, c.Target)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	bare, stopBare, err := startBare(ctx)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, stopBare()) }()
	var ratios []float64
	for range pairs {
		a, err := Echo(ctx, c.at(own))
		if err != nil {
			return report, err
		}
		b, err := Echo(ctx, c.at(bare))
		if err != nil {
			return report, err
		}
		report.Server, report.Bare = append(report.Server, a), append(report.Bare, b)
		ratios = append(ratios, a.perMessage()/b.perMessage())
	}
	slices.Sort(ratios)
	report.Ratio = ratios[len(ratios)/2]
	return report, nil
}

func (c EchoConfig) at(t Target) EchoConfig {
	c.Target = t
	return c
}

// perMessage is the server's CPU time for a message, in seconds.
func (r EchoReport) perMessage() float64 { return r.ServerCPU.Seconds() / float64(max(r.Messages, 1)) }

// Failed returns how many connections failed.
func (r CompareReport) Failed() (n int) {
	for _, run := range slices.Concat(r.Server, r.Bare) {
		for _, failures := range run.Failures {
			n += failures
		}
	}
	return n
}

// String is the report for people.
func (r CompareReport) String() string {
	var b strings.Builder
	for i := range r.Server {
		server, bare := r.Server[i], r.Bare[i]
		if i == 0 {
			fmt.Fprintf(&b, "echo: %d connections, %d deep, %d B; server CPU per million messages (the client's)\n",
				server.Connections, server.Depth, server.MessageBytes)
		}
		fmt.Fprintf(&b, "  %6.3f s (%.3f s)   bare loop %6.3f s (%.3f s)   ratio %.3f\n",
			server.perMessage()*1e6, server.clientPerMessage()*1e6, bare.perMessage()*1e6, bare.clientPerMessage()*1e6,
			server.perMessage()/bare.perMessage())
		writeFailures(&b, server.Failures)
		writeFailures(&b, bare.Failures)
	}
	fmt.Fprintf(&b, "  median of %d pairs: %.3f x the bare loop\n", len(r.Server), r.Ratio)
	return b.String()
}

func (r EchoReport) clientPerMessage() float64 {
	return r.ClientCPU.Seconds() / float64(max(r.Messages, 1))
}
