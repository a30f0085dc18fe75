package tap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/session"
)

// Limits bound what captures cost. The zero value works.
type Limits struct {
	// MaxCaptures bounds the captures that run at a time, MaxInspectors those of the playground, which have places of their own.
	// Zero means 8, and 16; negative means none.
	MaxCaptures, MaxInspectors int
	// MaxConnections bounds the connections of one capture at a time. Zero means 100.
	MaxConnections int
	// BytesPerSecond bounds what one capture shows, by the bytes of frames; what is more is left out. Zero means 4 MiB.
	BytesPerSecond int
	// BufferBytes bounds what waits for a capture's reader. Zero means 4 MiB. FrameBytes bounds what is kept of one frame, and
	// of one message to inflate it. Zero means 256 KiB.
	BufferBytes, FrameBytes int
	// MaxDuration bounds the time of a capture. Zero means an hour.
	MaxDuration time.Duration
	// PayloadBytes is how much of each message those are shown who may not see it whole. Zero is nothing.
	PayloadBytes int
	// StartsPerMinute bounds how often captures begin, a burst of 10 on top; those of the playground apart. Zero means 60.
	StartsPerMinute float64
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (l Limits) Validate() error {
	var errs []error
	for name, v := range map[string]float64{
		"tap-max-connections": float64(l.MaxConnections), "tap-bytes-per-second": float64(l.BytesPerSecond),
		"tap-buffer-bytes": float64(l.BufferBytes), "tap-frame-bytes": float64(l.FrameBytes), "tap-max-duration": float64(l.MaxDuration),
		"tap-payload-bytes": float64(l.PayloadBytes), "tap-starts-per-minute": l.StartsPerMinute,
	} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s: %v is negative, or no number", name, v))
		}
	}
	return errors.Join(errs...)
}

func (l Limits) withDefaults() Limits {
	l.MaxCaptures = max(cmp.Or(l.MaxCaptures, 8), 0)
	l.MaxInspectors = max(cmp.Or(l.MaxInspectors, 16), 0)
	l.MaxConnections = cmp.Or(l.MaxConnections, 100)
	l.BytesPerSecond = cmp.Or(l.BytesPerSecond, 4<<20)
	l.BufferBytes = cmp.Or(l.BufferBytes, 4<<20)
	l.FrameBytes = cmp.Or(l.FrameBytes, 256<<10)
	l.MaxDuration = cmp.Or(l.MaxDuration, time.Hour)
	l.StartsPerMinute = cmp.Or(l.StartsPerMinute, 60)
	return l
}

// Act is a line of the audit log: that a capture began, or ended.
type Act struct {
	Action      string // "tap_start" or "tap_stop"
	Key, Remote string // who, and from where
	Target      []slog.Attr
	Outcome     string // "ok", or why there was none
}

// Config holds what Taps need. All fields but Limits must be set.
type Config struct {
	Engine      func() *session.Server // once it is there
	Connections Connections
	// Caller says who wants to look on, or why they may not: an *Error.
	Caller Authorizer
	Audit  func(Act)
	Limits
}

// Taps are the captures of a server. The methods may be called by any goroutine.
type Taps struct {
	// Immutable after New.
	config      Config
	starts      *rate.Limiter
	inspections *rate.Limiter // of the playground, which anybody may begin
	stopped     context.Context
	stop        context.CancelFunc

	// Guarded by mu.
	mu         sync.Mutex
	captures   int
	inspectors int
	refused    map[string]int64

	// Any goroutine (atomic).
	connections atomic.Int64
	started     atomic.Int64
	frames      atomic.Int64
	bytes       atomic.Int64
	dropped     atomic.Int64
}

// Refusals are the reasons in Stats.Refused.
var Refusals = []string{"captures", "rate", "unauthorized", "forbidden", "bad_request"}

// New returns Taps, none of which runs.
func New(c Config) (*Taps, error) {
	if err := c.Limits.Validate(); err != nil {
		return nil, err
	}
	c.Limits = c.withDefaults()
	limiter := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(c.StartsPerMinute/60), 10) }
	t := &Taps{config: c, starts: limiter(), inspections: limiter(), refused: map[string]int64{}}
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// Stop ends all captures: a server that shuts down would wait for them.
func (t *Taps) Stop() { t.stop() }

// Stats are figures, since New but for the first three.
type Stats struct {
	Captures    int // now
	Inspectors  int // now: of the playground
	Connections int // now: that are looked on at, once for each capture
	Started     int64
	Frames      int64 // shown
	Bytes       int64 // of them
	Dropped     int64 // frames left out, because a reader was too slow or a bound was reached
	Refused     map[string]int64
}

// Stats returns the present figures.
func (t *Taps) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := Stats{
		Captures: t.captures, Inspectors: t.inspectors, Connections: int(t.connections.Load()), Started: t.started.Load(),
		Frames: t.frames.Load(), Bytes: t.bytes.Load(), Dropped: t.dropped.Load(), Refused: map[string]int64{},
	}
	for _, reason := range Refusals {
		st.Refused[reason] = t.refused[reason]
	}
	return st
}

// Error is why a capture cannot begin.
type Error struct {
	Status int    // of HTTP
	Reason string // of Refusals
	Text   string
}

func (e *Error) Error() string { return e.Text }

func (t *Taps) countRefusal(e *Error) {
	t.mu.Lock()
	t.refused[e.Reason]++
	t.mu.Unlock()
}

// enter takes a place for a capture, until leave.
func (t *Taps) enter(inspector bool) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, limit := &t.captures, t.config.MaxCaptures
	if inspector {
		n, limit = &t.inspectors, t.config.MaxInspectors
	}
	if *n >= limit {
		return &Error{Status: 503, Reason: "captures", Text: fmt.Sprintf("%d captures run, and no more may: --tap-max-captures", *n)}
	}
	starts := t.starts
	if inspector {
		starts = t.inspections
	}
	if !starts.Allow() {
		return &Error{Status: 429, Reason: "rate", Text: "captures begin too often: --tap-starts-per-minute"}
	}
	*n++
	return nil
}

func (t *Taps) leave(inspector bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if inspector {
		t.inspectors--
	} else {
		t.captures--
	}
}
