package webhook

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/millpond/millpond/internal/histogram"
)

// Stats are a client's figures since New.
type Stats struct {
	Outcomes  map[Outcome]uint64 // questions that ended; outcomes that did not occur are absent
	Running   int                // questions that are under way
	Waiting   int                // questions that wait for their turn
	Retries   uint64             // requests that were sent again
	Breaker   string             // "closed", "half-open" or "open"
	Durations histogram.Snapshot // of questions that were asked
}

// Stats returns the present figures.
func (c *Client) Stats() Stats {
	s := Stats{Outcomes: map[Outcome]uint64{}, Running: int(c.figures.running.Load()), Retries: c.figures.retries.Load(), Breaker: gobreaker.StateClosed.String()}
	if c.breaker != nil {
		s.Breaker = c.breaker.State().String()
	}
	c.mu.Lock()
	s.Waiting = c.waiting.Len()
	c.mu.Unlock()
	c.figures.mu.Lock()
	defer c.figures.mu.Unlock()
	for outcome, n := range c.figures.outcomes {
		s.Outcomes[outcome] = n
	}
	s.Durations = c.figures.took.Snapshot()
	return s
}

// figures are what a client counts, and what it has said in the log.
type figures struct {
	// Any goroutine (atomic).
	running atomic.Int64
	retries atomic.Uint64
	took    histogram.Histogram

	// Guarded by mu.
	mu       sync.Mutex
	outcomes map[Outcome]uint64
	said     map[Outcome]*said
}

// said is what the log has of one cause.
type said struct {
	at    time.Time
	since int // how often it was left out
}

func (f *figures) count(o Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outcomes == nil {
		f.outcomes = map[Outcome]uint64{}
	}
	f.outcomes[o]++
}

// logInterval is how often one cause of one endpoint is logged.
const logInterval = 10 * time.Second

// mayLog reports whether a cause may be logged now, and how often it was left out before.
func (f *figures) mayLog(o Outcome, now time.Time) (since int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = map[Outcome]*said{}
	}
	s := f.said[o]
	if s == nil {
		f.said[o] = &said{at: now}
		return 0, true
	}
	if now.Sub(s.at) < logInterval {
		s.since++
		return 0, false
	}
	since = s.since
	s.at, s.since = now, 0
	return since, true
}

// log says that a question was not answered. event may be empty.
func (c *Client) log(o Outcome, event Event, err error) {
	if since, ok := c.figures.mayLog(o, time.Now()); ok {
		c.config.Logger.Warn("webhook: a question was not answered", "webhook", c.config.Name, "event", string(event),
			"outcome", string(o), "error", err, "since_last", since)
	}
}

func (c *Client) breakerChanged(_ string, from, to gobreaker.State) {
	level := slog.LevelInfo
	if to == gobreaker.StateOpen {
		level = slog.LevelWarn
	}
	c.config.Logger.Log(c.ctx, level, "webhook: circuit breaker", "webhook", c.config.Name, "from", from.String(), "to", to.String())
}
