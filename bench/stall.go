package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millpond/millpond/codec"
)

// StallConfig says what Stall does. The zero value works.
type StallConfig struct {
	Target Target
	// Connections in all. Zero means 10,000.
	Connections int
	// Stalled is how many of them send and do not read. Zero means a tenth.
	Stalled int
	// Rate is how many messages the others send, in all, per second. Zero means 10,000.
	Rate int
	// Pairs of phases, without and with stalled clients. Zero means 5.
	Pairs int
	// Phase is how long each is measured. Zero means 4 s.
	Phase time.Duration
}

// StallReport is what Stall found.
type StallReport struct {
	Connections int            `json:"connections"`
	Stalled     int            `json:"stalled"`
	Rate        int            `json:"rate"`
	Without     []StallPhase   `json:"without"`
	With        []StallPhase   `json:"with"`
	Ratio       float64        `json:"p99_ratio"` // with over without: the median of the pairs
	Failures    map[string]int `json:"failures"`
}

// StallPhase is one phase. Latencies count from the time at which a message was due, so that a client that could not
// send for want of an answer does not hide it.
type StallPhase struct {
	Messages int64         `json:"messages"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
	RSS      int64         `json:"rss_bytes"` // the server's, in the end
}

const (
	stallMessageBytes = 64
	// stallBytes is what a stalled client sends: more than the server and both kernels hold for it.
	stallBytes = 1 << 20
	stallFrame = 16 << 10
)

// stall is a run. Its steady clients are those that are not stalled.
type stall struct {
	*steady
	config  StallConfig
	stalled []*client
	flood   batch
}

// Stall measures what clients that do not read cost the others: the round trips of an echo at a steady rate, without
// and with them in turn, on the same connections.
func Stall(ctx context.Context, c StallConfig) (r StallReport, err error) {
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, echoPath); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c.Connections = cmp.Or(c.Connections, 10_000)
	c.Stalled = cmp.Or(c.Stalled, c.Connections/10)
	c.Rate, c.Pairs, c.Phase = cmp.Or(c.Rate, 10_000), cmp.Or(c.Pairs, 5), cmp.Or(c.Phase, 4*time.Second)
	r.Connections, r.Stalled, r.Rate = c.Connections, c.Stalled, c.Rate
	if c.Stalled >= c.Connections {
		return r, fmt.Errorf("--stalled %d: must be less than the %d connections", c.Stalled, c.Connections)
	}
	p, err := newPoller()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l, err := c.Target.newLoad(ctx, p, stallMessageBytes, 1)
	if err != nil {
		return r, err
	}
	s := &stall{steady: newSteady(l, c.Rate), config: c, flood: newBatch(0, stallFrame, stallBytes/stallFrame)}
	s.load.options = codec.Options{MaxMessageBytes: stallFrame, Client: true}
	defer s.load.closeAll()
	if err := s.load.openAll(ctx, c.Connections); err != nil {
		return r, err
	}
	s.stalled, s.clients = s.load.clients[:c.Stalled], s.load.clients[c.Stalled:]
	err = s.run(ctx, &r)
	r.Failures = s.load.counts()
	return r, err
}

func (s *stall) run(ctx context.Context, r *StallReport) error {
	s.begin()
	s.load.lap = func(c *client, took time.Duration) {
		if c.batch == &s.flood {
			c.idle.Store(true)
			return
		}
		s.lap(c, took)
	}
	var ratios []float64
	for range s.config.Pairs {
		without, err := s.phase(ctx)
		if err != nil {
			return err
		}
		s.stall()
		with, err := s.phase(ctx)
		if err = errors.Join(err, s.release(ctx)); err != nil {
			return err
		}
		r.Without, r.With = append(r.Without, without), append(r.With, with)
		ratios = append(ratios, float64(with.P99)/float64(without.P99))
	}
	slices.Sort(ratios)
	r.Ratio = ratios[len(ratios)/2]
	return nil
}

// phase sends at the rate, a quarter of the time to warm up and then to be counted.
func (s *stall) phase(ctx context.Context) (p StallPhase, err error) {
	if err = s.pace(ctx, s.config.Phase/4, nil); err != nil {
		return p, err
	}
	s.reset()
	if err = s.pace(ctx, s.config.Phase, nil); err != nil {
		return p, err
	}
	p = phaseOf(s.reset())
	p.RSS, err = rss(s.config.Target.PID)
	return p, err
}

// stall makes the stalled clients send and not read.
func (s *stall) stall() {
	for _, c := range s.stalled {
		c.idle.Store(false)
		c.conn.PauseReading()
		c.sendBatch(&s.flood, time.Since(began))
	}
}

// release lets them read, and waits until each has everything.
func (s *stall) release(ctx context.Context) error {
	for _, c := range s.stalled {
		c.conn.ResumeReading()
	}
	timeout := time.After(time.Minute)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		waiting := slices.ContainsFunc(s.stalled, func(c *client) bool { return !c.idle.Load() })
		if !waiting || s.load.failed() {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			return errors.New("the stalled clients did not get all that they had sent within a minute")
		}
	}
}

// String is the report for people.
func (r StallReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stall: %d connections, %d messages a second; with %d of them stalled behind %d KiB each\n",
		r.Connections, r.Rate, r.Stalled, stallBytes>>10)
	for i := range r.With {
		for _, p := range []struct {
			name string
			StallPhase
		}{{"without", r.Without[i]}, {"with", r.With[i]}} {
			fmt.Fprintf(&b, "  %-8s %7d messages  p50 %8v  p99 %8v  max %8v  server RSS %6.1f MB\n", p.name, p.Messages,
				p.P50.Round(time.Microsecond), p.P99.Round(time.Microsecond), p.Max.Round(time.Microsecond), float64(p.RSS)/1e6)
		}
	}
	if n := len(r.With); n > 0 {
		most := slices.MaxFunc(r.With, func(a, b StallPhase) int { return cmp.Compare(a.RSS, b.RSS) })
		fmt.Fprintf(&b, "  p99 with over p99 without: median of %d pairs %.2f; server memory at most %d KiB per stalled client\n",
			n, r.Ratio, (most.RSS-r.Without[0].RSS)/int64(r.Stalled)>>10)
	}
	writeFailures(&b, r.Failures)
	return b.String()
}
