package events

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/millpond/millpond/push/webhook/sign"
)

// Config says where events go. The zero value of a bound is its default.
type Config struct {
	// URL is what the batches are posted to, http or https. Empty is no events.
	URL string
	// Secrets sign the batches, each with a signature of its own, so that the backend may know either while one is changed for
	// another.
	Secrets [][]byte
	// Unsigned allows that there is no secret.
	Unsigned bool

	// Connects and Disconnects choose those events of clients; those of channels are chosen by their options.
	Connects    bool
	Disconnects bool

	// BatchEvents and BatchBytes bound a batch; one event may be larger. Zero means 500, and 256 KiB.
	BatchEvents int
	BatchBytes  int
	// Delay is how long an event waits for others to be sent with it. Zero means 100 ms, negative none.
	Delay time.Duration
	// Debounce is how long a departure is held back: who comes back within it has not been away. As long, one cache_miss of a channel is
	// enough. Zero means 1 s, negative none.
	Debounce time.Duration
	// Timeout bounds one POST. Zero means 10 s.
	Timeout time.Duration
	// MaxBackoff bounds the time between two attempts. Zero means 30 s.
	MaxBackoff time.Duration
	// MaxRejections is how often the backend may reject a batch, with 400, 410, 413 or 422, until it is given up, so that the
	// others get their turn. Zero means 20, negative no bound.
	MaxRejections int
	// ShutdownTimeout bounds the last attempt to send what waits when the process ends. Zero means 5 s.
	ShutdownTimeout time.Duration

	// Dir has a directory for each process's journal. Empty is none: then what waits is in memory, and lost when the process ends.
	Dir string
	// QueueBytes bounds what waits to be sent; of more, the oldest is given up. Zero means 64 MiB; 256 KiB at least.
	QueueBytes int64
	// SyncInterval is the least time between two fsyncs: events of the last one may be lost in a crash of the process. Zero means
	// 20 ms, negative none: whenever the one before has ended.
	SyncInterval time.Duration

	// Node is the uid of this process: letters and digits.
	Node string
	// Version is the server's, for the User-Agent.
	Version string
	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

const (
	minQueueBytes = 256 << 10
	maxDebounce   = time.Minute
	maxEvents     = 10_000
	maxBytes      = 16 << 20
)

// Enabled reports whether there is anywhere to send events to.
func (c *Config) Enabled() bool { return c.URL != "" }

// Validate reports all that is wrong with c, each by the name of its flag, or nil.
func (c *Config) Validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	if !c.Enabled() {
		check(!c.Connects && !c.Disconnects, "events: there is no events-url to send them to")
		check(len(c.Secrets) == 0, "events-secret-file: there is no events-url")
		return errors.Join(problems...)
	}
	u, err := url.Parse(c.URL)
	// The error would quote a password.
	check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Fragment == "", "events-url: it is not http://HOST… or https://HOST…")
	check(len(c.Secrets) > 0 || c.Unsigned, "events-secret-file: it is needed, for the backend must be able to tell who sends it events")
	for i, secret := range c.Secrets {
		if err := sign.CheckSecret(secret); err != nil {
			check(false, "events-secret-file: line %d: %w", i+1, err)
		}
	}
	check(c.BatchEvents >= 0 && c.BatchEvents <= maxEvents, "events-batch: %d is not between 1 and %d", c.BatchEvents, maxEvents)
	check(c.BatchBytes >= 0 && c.BatchBytes <= maxBytes, "events-batch-bytes: %d is not between 1 and %d", c.BatchBytes, maxBytes)
	check(c.Delay <= maxDebounce, "events-delay: %v is more than %v", c.Delay, maxDebounce)
	check(c.Debounce <= maxDebounce, "events-debounce: %v is more than %v", c.Debounce, maxDebounce)
	check(c.SyncInterval <= maxDebounce, "events-sync: %v is more than %v", c.SyncInterval, maxDebounce)
	check(c.Timeout >= 0, "events-timeout: %v is negative", c.Timeout)
	check(c.MaxBackoff >= 0, "events-backoff: %v is negative", c.MaxBackoff)
	check(c.ShutdownTimeout >= 0, "events-shutdown-timeout: %v is negative", c.ShutdownTimeout)
	check(c.QueueBytes == 0 || c.QueueBytes >= minQueueBytes, "events-queue-bytes: %d is less than %d", c.QueueBytes, minQueueBytes)
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	c.BatchEvents = cmp.Or(c.BatchEvents, 500)
	c.BatchBytes = cmp.Or(c.BatchBytes, 256<<10)
	c.Delay = orNone(cmp.Or(c.Delay, 100*time.Millisecond))
	c.Debounce = orNone(cmp.Or(c.Debounce, time.Second))
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 30*time.Second)
	c.MaxRejections = cmp.Or(c.MaxRejections, 20)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, 5*time.Second)
	c.SyncInterval = orNone(cmp.Or(c.SyncInterval, 20*time.Millisecond))
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func orNone(d time.Duration) time.Duration { return max(d, 0) }
