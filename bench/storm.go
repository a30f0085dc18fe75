package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StormConfig says what Storm does. The zero value works.
type StormConfig struct {
	// Target is a server with the bounds below. An empty URL starts the own binary's with them.
	Target Target
	// Established connections send messages before the storm and during it. Zero means 1,000.
	Established int
	// Rate is how many messages they send, in all, per second. Zero means 2,000.
	Rate int
	// Storm is how many connections come at once. Zero means 15,000.
	Storm int
	// MaxConnections and AcceptRate are the server's. Zero means 13,000, so that some are refused, and 2,000 a second.
	MaxConnections int
	AcceptRate     int
}

// StormReport is what Storm found.
type StormReport struct {
	Established int            `json:"established"`
	Storm       int            `json:"storm"`
	Before      StallPhase     `json:"before"`
	Elsewhere   StormPhases    `json:"elsewhere"` // while the same storm comes upon another server on the same machine
	Here        StormPhases    `json:"here"`
	Open        int            `json:"open"`    // of the storm
	Refused     int            `json:"refused"` // answered 503
	Took        time.Duration  `json:"took_ns"` // until every one was in or refused
	Implied     time.Duration  `json:"implied_ns"`
	Failures    map[string]int `json:"failures"`
}

// StormPhases are what the established see.
type StormPhases struct {
	Dialing StallPhase `json:"dialing"` // while the clients of the storm make their sockets, on the same cores
	During  StallPhase `json:"during"`  // from then on until every one is in or refused
	Leaving StallPhase `json:"leaving"` // while they all hang up at once
}

// storming is what the process that makes the storm prints.
type storming struct {
	Open     int            `json:"open"`
	Refused  int            `json:"refused"`
	Took     time.Duration  `json:"took_ns"`
	Failures map[string]int `json:"failures"`
}

// Storm measures what a storm of connects does to those who are in: the round trips of an echo at a steady rate, before
// it and during it. The storm is another process, of low priority: it is the server that is measured.
func Storm(ctx context.Context, c StormConfig) (r StormReport, err error) {
	c.Established, c.Rate, c.Storm = cmp.Or(c.Established, 1000), cmp.Or(c.Rate, 2000), cmp.Or(c.Storm, 15_000)
	c.MaxConnections, c.AcceptRate = cmp.Or(c.MaxConnections, 13_000), cmp.Or(c.AcceptRate, 2000)
	other := Target{OwnTLS: c.Target.OwnTLS || c.Target.TLS != TLS{}}
	other.Flags = []string{"--max-connections=" + strconv.Itoa(c.MaxConnections), "--accept-rate=" + strconv.Itoa(c.AcceptRate), "--max-handshakes=20000"}
	c.Target.Flags = other.Flags
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, echoPath); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r.Established, r.Storm = c.Established, c.Storm
	r.Implied = time.Duration(float64(c.Storm) / float64(c.AcceptRate) * float64(time.Second))
	p, err := newPoller()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l, err := c.Target.newLoad(ctx, p, stallMessageBytes, 1)
	if err != nil {
		return r, err
	}
	defer l.closeAll()
	if err := l.openAll(ctx, c.Established); err != nil {
		return r, err
	}
	s := newSteady(l, c.Rate)
	s.clients = l.clients
	s.begin()
	if err := s.pace(ctx, time.Second, nil); err != nil {
		return r, err
	}
	s.reset()
	if err := s.pace(ctx, r.Implied, nil); err != nil {
		return r, err
	}
	r.Before = phaseOf(s.reset())

	// The same storm on another server first: what the machine alone does to the latencies.
	elsewhere, stopOther, err := start(ctx, other)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stopOther()) }()
	c.Target, elsewhere = elsewhere, c.Target
	if _, r.Elsewhere, err = s.storm(ctx, c); err != nil {
		return r, err
	}
	c.Target = elsewhere
	storm, here, err := s.storm(ctx, c)
	r.Here = here
	r.Open, r.Refused, r.Took, r.Failures = storm.Open, storm.Refused, storm.Took, storm.Failures
	if r.Failures == nil {
		r.Failures = map[string]int{}
	}
	for what, n := range l.counts() {
		r.Failures["established: "+what] += n
	}
	return r, err
}

// storm lets the storm come and go, and returns what the steady clients saw of it.
func (s *steady) storm(ctx context.Context, c StormConfig) (storm storming, p StormPhases, err error) {
	dialed, settled, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var stormErr error
	go func() {
		defer close(over)
		storm, stormErr = runStorm(ctx, c, dialed, settled)
	}()
	s.reset()
	err = s.pace(ctx, time.Minute, dialed)
	p.Dialing = phaseOf(s.reset())
	err = errors.Join(err, s.pace(ctx, time.Hour, settled))
	p.During = phaseOf(s.reset())
	err = errors.Join(err, s.pace(ctx, time.Minute, over))
	p.Leaving = phaseOf(s.reset())
	<-over
	return storm, p, errors.Join(err, stormErr, s.pace(ctx, time.Second, nil))
}

// runStorm has another process make the connections. dialed is closed when they are all on their way, settled when all are in
// or refused.
func runStorm(ctx context.Context, c StormConfig, dialed, settled chan<- struct{}) (s storming, err error) {
	args := []string{"bench", "--url=" + c.Target.URL, "storm-clients", strconv.Itoa(c.Storm)}
	if c.Target.TLS.CA != "" {
		args = append(args, "--ca="+c.Target.TLS.CA)
	}
	command, stdin, stdout, err := startPiped(ctx, args...)
	if err != nil {
		return s, err
	}
	lines := bufio.NewReader(stdout)
	_, err = lines.ReadBytes('\n')
	close(dialed)
	if err == nil {
		err = json.NewDecoder(lines).Decode(&s)
	}
	close(settled)
	return s, errors.Join(err, stdin.Close(), command.Wait())
}

// niceness is the storm's.
const niceness = 10

// StormClients opens n connections at once, prints a line when they are on their way and another when all are in or
// refused, and holds them until in ends.
func StormClients(ctx context.Context, t Target, n int, in io.Reader, out io.Writer) (err error) {
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, niceness); err != nil {
		return err
	}
	p, err := newPoller()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l, err := t.newLoad(ctx, p, stallMessageBytes, 1)
	if err != nil {
		return err
	}
	defer l.closeAll()
	l.refusable, l.maxDialing, l.dialed = true, n, func() { _, _ = fmt.Fprintln(out, "dialed") }
	begin := time.Now()
	if err := l.openAll(ctx, n); err != nil {
		return err
	}
	s := storming{Open: int(l.open.Load()), Refused: int(l.refused.Load()), Took: time.Since(begin), Failures: l.counts()}
	if err := json.NewEncoder(out).Encode(s); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// String is the report for people.
func (r StormReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "storm: %d connections at once, beside %d that are established\n", r.Storm, r.Established)
	for _, p := range []struct {
		name string
		StallPhase
	}{
		{"before", r.Before},
		{"elsewhere: dialing", r.Elsewhere.Dialing},
		{"elsewhere: during", r.Elsewhere.During},
		{"elsewhere: leaving", r.Elsewhere.Leaving},
		{"here: dialing", r.Here.Dialing},
		{"here: during", r.Here.During},
		{"here: leaving", r.Here.Leaving},
	} {
		fmt.Fprintf(&b, "  %-18s %7d messages  p50 %8v  p99 %8v  max %8v\n", p.name, p.Messages,
			p.P50.Round(time.Microsecond), p.P99.Round(time.Microsecond), p.Max.Round(time.Microsecond))
	}
	if r.Here.During.Messages == 0 || r.Elsewhere.During.Messages == 0 {
		fmt.Fprintf(&b, "  the storm was over before a message came back: no p99 to compare\n")
	} else {
		fmt.Fprintf(&b, "  p99 during the storm: %.2f times that of the same storm elsewhere, %.2f times that before\n",
			float64(r.Here.During.P99)/float64(r.Elsewhere.During.P99), float64(r.Here.During.P99)/float64(max(r.Before.P99, 1)))
	}
	fmt.Fprintf(&b, "  %d in and %d refused with 503 after %.1fs; the accept rate implies %.1fs\n",
		r.Open, r.Refused, r.Took.Seconds(), r.Implied.Seconds())
	writeFailures(&b, r.Failures)
	return b.String()
}
