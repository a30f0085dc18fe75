package api

import (
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/hub"
)

// account is what is known of the use of one key, by its name.
type account struct {
	// With locks of their own.
	requests *rate.Limiter
	bytes    *rate.Limiter

	// Any goroutine (atomic).
	outcomes [][outcomes]atomic.Uint64 // by the method's number
}

// Outcomes are numbered 0 for success, code - 99 for the codes of hub.Error, and one for all others.
const (
	firstCode = 100
	outcomes  = 22
)

// count notes one command's outcome; code 0 is success.
func (a *account) count(method int, code uint32) {
	i := uint32(outcomes - 1)
	switch {
	case code == 0:
		i = 0
	case code >= firstCode && code < firstCode+outcomes-2:
		i = code - firstCode + 1
	}
	a.outcomes[method][i].Add(1)
}

// accountLocked returns the account of a key, with its rates. accountsMu is held.
func (h *Handler) accountLocked(k Key) *account {
	a := h.accounts[k.Name]
	if a == nil {
		a = &account{requests: rate.NewLimiter(rate.Inf, 0), bytes: rate.NewLimiter(rate.Inf, 0), outcomes: make([][outcomes]atomic.Uint64, len(h.numbers))}
		h.accounts[k.Name] = a
	}
	setRate(a.requests, orDefault(k.RequestsPerSecond, h.requestsPerSec), 1)
	// A burst has room for the largest body, which would never get through otherwise.
	setRate(a.bytes, orDefault(k.BytesPerSecond, h.bytesPerSec), float64(max(h.config.MaxBodyBytes, h.config.MaxBatchBytes)))
	return a
}

// setRate bounds l to so much a second, and at once, or to nothing if that is zero.
func setRate(l *rate.Limiter, perSecond, atLeast float64) {
	if perSecond == 0 {
		l.SetLimit(rate.Inf)
		return
	}
	l.SetBurst(int(min(max(math.Ceil(perSecond), atLeast), math.MaxInt32)))
	l.SetLimit(rate.Limit(perSecond))
}

// charge takes n from a rate, at most what it has room for. What is missing is made up for by those who come later.
func charge(l *rate.Limiter, n int) {
	if l.Limit() != rate.Inf && n > 0 {
		l.ReserveN(time.Now(), min(n, l.Burst()))
	}
}

// admit takes one request from the caller's rate, or reports when to come again. Bytes are paid for afterwards.
func (c *call) admit() error {
	var wait time.Duration
	if l := c.key.bytes; l.Limit() != rate.Inf {
		wait = l.ReserveN(time.Now(), 0).Delay()
	}
	if l := c.key.requests; wait == 0 && l.Limit() != rate.Inf {
		r := l.ReserveN(time.Now(), 1)
		if wait = r.Delay(); wait > 0 {
			r.Cancel()
		}
	}
	if wait == 0 {
		return nil
	}
	c.retryAfter = wait
	return reject(http.StatusTooManyRequests, hub.ErrTooManyRequests, "the key %q has used up its rate; try again after %v", c.key.Name, wait.Round(time.Millisecond))
}

// setRetryAfter tells the caller when to come again.
func (c *call) setRetryAfter(header http.Header) {
	if c.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(c.retryAfter.Seconds()))))
	}
}

// Outcome is what became of commands.
type Outcome struct {
	Key    string // its name; "" for requests without a valid one
	Method string // "" for paths that are none, and for a pipe as a whole
	Code   uint32 // of hub.Error; 0 is success, 1 any other code
}

// collect adds up all accounts.
func (h *Handler) collect() map[Outcome]uint64 {
	h.accountsMu.Lock()
	defer h.accountsMu.Unlock()
	sum := map[Outcome]uint64{}
	for name, a := range h.accounts {
		for method, number := range h.numbers {
			for i := range outcomes {
				n := a.outcomes[number][i].Load()
				if n == 0 {
					continue
				}
				code := uint32(i)
				if i > 0 {
					code += firstCode - 1
				}
				if i == outcomes-1 {
					code = 1
				}
				sum[Outcome{name, method, code}] = n
			}
		}
	}
	return sum
}

// collectDurations returns those of methods that were asked for.
func (h *Handler) collectDurations() map[string]histogram.Snapshot {
	all := map[string]histogram.Snapshot{}
	for method, number := range h.numbers {
		if s := h.durations[number].Snapshot(); s.Count > 0 {
			all[method] = s
		}
	}
	return all
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
