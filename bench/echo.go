package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// EchoConfig says what Echo does. The zero value works.
type EchoConfig struct {
	Target Target
	// Connections that send. Zero means 100.
	Connections int
	// Depth is how many messages each sends before it waits for all of them. Zero means 1.
	Depth int
	// MessageBytes is the size of a message. Zero means 64.
	MessageBytes int
	// Duration of the measurement, after WarmUp. Zero means 10 s.
	Duration time.Duration
	// WarmUp is not counted. Zero means 1 s.
	WarmUp time.Duration
}

// EchoReport is what Echo found.
type EchoReport struct {
	Connections  int            `json:"connections"`
	Depth        int            `json:"depth"`
	MessageBytes int            `json:"message_bytes"`
	Duration     time.Duration  `json:"duration_ns"`
	Messages     int64          `json:"messages"`
	ServerCPU    time.Duration  `json:"server_cpu_ns"`
	ClientCPU    time.Duration  `json:"client_cpu_ns"`
	P50          time.Duration  `json:"p50_ns"` // of a whole batch of Depth messages
	P99          time.Duration  `json:"p99_ns"`
	Max          time.Duration  `json:"max_ns"`
	Failures     map[string]int `json:"failures"`
}

// Echo measures what a message costs the server that sends it back. It is a closed loop: each
// connection waits for its answers, so the latencies are those of a server that is not overrun.
func Echo(ctx context.Context, c EchoConfig) (r EchoReport, err error) {
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, echoPath); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r.Connections, r.Depth = cmp.Or(c.Connections, 100), cmp.Or(c.Depth, 1)
	r.MessageBytes = cmp.Or(c.MessageBytes, 64)
	p, err := newPoller()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()

	l, err := c.Target.newLoad(ctx, p, r.MessageBytes, r.Depth)
	if err != nil {
		return r, err
	}
	l.again = true
	laps := make([]*hdrhistogram.Histogram, p.Loops()) // each written by one loop
	for i := range laps {
		laps[i] = hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
	}
	begin := time.Now().Add(cmp.Or(c.WarmUp, time.Second))
	l.lap = func(c *client, took time.Duration) {
		if time.Now().After(begin) {
			_ = laps[c.conn.Loop()].RecordValue(took.Nanoseconds())
		}
	}
	if err = l.openAll(ctx, r.Connections); err == nil {
		r.measure(ctx, l, c.Target.PID, begin, cmp.Or(c.Duration, 10*time.Second))
	}
	r.Failures = l.counts()
	l.closeAll()
	all := hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
	for _, h := range laps {
		all.Merge(h)
	}
	r.P50 = time.Duration(all.ValueAtQuantile(50))
	r.P99 = time.Duration(all.ValueAtQuantile(99))
	r.Max = time.Duration(all.Max())
	return r, err
}

// measure counts messages and CPU time from begin on.
func (r *EchoReport) measure(ctx context.Context, l *load, pid int, begin time.Time, d time.Duration) {
	wait := func(until time.Time) {
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
		}
	}
	wait(begin)
	from := time.Now()
	messages := l.messages.Load()
	server, _ := cpu(pid)
	client, _ := cpu(os.Getpid())
	wait(from.Add(d))
	serverAfter, _ := cpu(pid)
	clientAfter, _ := cpu(os.Getpid())
	r.Duration = time.Since(from)
	r.Messages = l.messages.Load() - messages
	r.ServerCPU, r.ClientCPU = serverAfter-server, clientAfter-client
}

// String is the report for people.
func (r EchoReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "echo: %d connections, %d deep, %d B, %.1fs\n", r.Connections, r.Depth, r.MessageBytes, r.Duration.Seconds())
	fmt.Fprintf(&b, "  messages            %10.0f /s\n", float64(r.Messages)/r.Duration.Seconds())
	fmt.Fprintf(&b, "  server CPU          %10.2f s per million messages (%.0f %% of a core)\n",
		r.ServerCPU.Seconds()/float64(max(r.Messages, 1))*1e6, 100*r.ServerCPU.Seconds()/r.Duration.Seconds())
	fmt.Fprintf(&b, "  client CPU          %10.2f s per million messages (%.0f %% of a core)\n",
		r.ClientCPU.Seconds()/float64(max(r.Messages, 1))*1e6, 100*r.ClientCPU.Seconds()/r.Duration.Seconds())
	fmt.Fprintf(&b, "  round trip          %10v p50, %v p99, %v max\n", r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Max.Round(time.Microsecond))
	writeFailures(&b, r.Failures)
	return b.String()
}
