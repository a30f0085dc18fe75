package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// IdleConfig says what Idle does. The zero value works.
type IdleConfig struct {
	Target Target
	// Connections are opened in each round. Zero means 15,000.
	Connections int
	// Rounds of connect, one echoed message, hold, disconnect. Zero means 1.
	Rounds int
	// MessageBytes is the size of the message. Zero means 64.
	MessageBytes int
	// Hold is how long the connections stay open. Zero means 5 s.
	Hold time.Duration
	// Settle is how long the server has after a round to give memory back. Zero means 4 s.
	Settle time.Duration
}

// IdleReport is what Idle found.
type IdleReport struct {
	Connections int         `json:"connections"`
	Rounds      []IdleRound `json:"rounds"`
	Base        int64       `json:"base_rss_bytes"` // with no connection, after one has come and gone

	// BaseCPU is what the server takes with no connection in the time that a round is held.
	BaseCPU time.Duration `json:"base_cpu_ns"`
}

// IdleRound is one round. The figures of the server are 0 when its process is not known.
type IdleRound struct {
	Open                int            `json:"open"`
	Failures            map[string]int `json:"failures"`
	Connecting          time.Duration  `json:"connecting_ns"` // until the last message was back
	BytesPerConnection  int64          `json:"rss_bytes_per_connection"`
	GoroutinesWith      int            `json:"goroutines_with"`    // while the connections were open
	GoroutinesWithout   int            `json:"goroutines_without"` // after they left
	HoldCPU             time.Duration  `json:"hold_cpu_ns"`
	Hold                time.Duration  `json:"hold_ns"`
	ClientBytesPerConn  int64          `json:"client_rss_bytes_per_connection"`
	BytesAfterwardsOver int64          `json:"rss_bytes_over_base_afterwards"`
}

// Idle measures what an open, idle connection costs the server.
func Idle(ctx context.Context, c IdleConfig) (report IdleReport, err error) {
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, echoPath); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c.Connections = cmp.Or(c.Connections, 15000)
	c.MessageBytes = cmp.Or(c.MessageBytes, 64)
	c.Hold = cmp.Or(c.Hold, 5*time.Second)
	report.Connections = c.Connections
	// One connection comes and goes first, so that what is needed once is not counted.
	if _, err := idleRound(ctx, c, 1, 0); err != nil {
		return report, err
	}
	if report.Base, err = rss(c.Target.PID); err != nil {
		return report, err
	}
	if report.BaseCPU, err = heldCPU(ctx, c); err != nil {
		return report, err
	}
	rounds := cmp.Or(c.Rounds, 1)
	metrics := c.Target.Metrics
	for i := range rounds {
		// Asking for the metrics costs the server megabytes, which must not count as the
		// connections': so only in the end, after all memory is measured.
		if c.Target.Metrics = ""; i == rounds-1 {
			c.Target.Metrics = metrics
		}
		round, err := idleRound(ctx, c, c.Connections, report.Base)
		report.Rounds = append(report.Rounds, round)
		if err != nil {
			return report, err
		}
	}
	return report, nil
}

func idleRound(ctx context.Context, c IdleConfig, n int, base int64) (r IdleRound, err error) {
	p, err := newPoller()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	own, _ := rss(os.Getpid())
	l, err := c.Target.newLoad(ctx, p, c.MessageBytes, 1)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	err = l.openAll(ctx, n)
	defer func() {
		l.closeAll()
		if base > 0 {
			r.BytesAfterwardsOver, _ = settledRSS(ctx, c, base)
			r.GoroutinesWithout, _ = goroutines(ctx, c.Target.Metrics)
		}
	}()
	r.Connecting, r.Open = time.Since(begin), int(l.open.Load())
	if err != nil {
		r.Failures = l.counts()
		return r, err
	}
	if base > 0 { // not the first connection of all
		r.HoldCPU, err = heldCPU(ctx, c)
	}
	r.Hold, r.Failures = c.Hold, l.counts()
	if now, err := rss(c.Target.PID); err == nil {
		r.BytesPerConnection = (now - base) / int64(n)
	}
	if now, err := rss(os.Getpid()); err == nil {
		r.ClientBytesPerConn = (now - own) / int64(n)
	}
	if base > 0 && err == nil {
		r.GoroutinesWith, err = goroutines(ctx, c.Target.Metrics)
	}
	return r, err
}

// heldCPU returns what the server takes while nothing is done for as long as a round is held.
func heldCPU(ctx context.Context, c IdleConfig) (time.Duration, error) {
	before, err := cpu(c.Target.PID)
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(c.Hold):
	case <-ctx.Done():
	}
	after, err := cpu(c.Target.PID)
	return after - before, err
}

// settledRSS waits until the server has given back what it gives back, and returns how much it
// holds over base.
func settledRSS(ctx context.Context, c IdleConfig, base int64) (int64, error) {
	if c.Target.PID == 0 {
		return 0, nil
	}
	select {
	case <-time.After(cmp.Or(c.Settle, 4*time.Second)):
	case <-ctx.Done():
	}
	now, err := rss(c.Target.PID)
	return now - base, err
}

// String is the report for people.
func (r IdleReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "idle: %d connections, one echoed message each; server at %.1f MB before\n", r.Connections, float64(r.Base)/1e6)
	for i, round := range r.Rounds {
		fmt.Fprintf(&b, "round %d: %d open in %.1fs (%.0f/s)\n", i+1, round.Open, round.Connecting.Seconds(),
			float64(round.Open)/round.Connecting.Seconds())
		fmt.Fprintf(&b, "  server memory       %6d B of RSS growth per connection\n", round.BytesPerConnection)
		if round.GoroutinesWith > 0 {
			fmt.Fprintf(&b, "  server goroutines   %6d with them, %d without\n", round.GoroutinesWith, round.GoroutinesWithout)
		}
		share, base := 100*round.HoldCPU.Seconds()/round.Hold.Seconds(), 100*r.BaseCPU.Seconds()/round.Hold.Seconds()
		fmt.Fprintf(&b, "  server CPU          %6.2f %% of a core while held for %v, %.2f %% without connections: heartbeats\n"+
			"                      of 100,000 connections would take %.1f %%\n", share, round.Hold, base,
			base+(share-base)/float64(max(round.Open, 1))*100_000)
		fmt.Fprintf(&b, "  client memory       %6d B of RSS growth per connection\n", round.ClientBytesPerConn)
		fmt.Fprintf(&b, "  after they left     %6.1f MB over the beginning\n", float64(round.BytesAfterwardsOver)/1e6)
		writeFailures(&b, round.Failures)
	}
	return b.String()
}

func writeFailures(b *strings.Builder, failures map[string]int) {
	for what, n := range failures {
		fmt.Fprintf(b, "  FAILED              %6d %s\n", n, what)
	}
}

// Failed returns how many connections failed in all rounds.
func (r IdleReport) Failed() int {
	sum := 0
	for _, round := range r.Rounds {
		for _, n := range round.Failures {
			sum += n
		}
	}
	return sum
}
