package api

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Limits bound what the API may cost. The zero value works.
type Limits struct {
	// MaxBodyBytes bounds a request's body, and a line of a bulk. Zero means 1 MiB. MaxBatchBytes bounds the bodies of
	// batch, broadcast and pipes, and the replies to the commands of one: when those have more, the rest are not
	// carried out. Zero means 8 MiB.
	MaxBodyBytes  int64
	MaxBatchBytes int64

	// MaxChannels bounds the channels of one broadcast, and of one list. Zero means 10,000.
	MaxChannels int

	// MaxCommands bounds the commands of one batch. Zero means 1,000.
	MaxCommands int

	// MaxRequests bounds the requests that are carried out at the same time, MaxStreams the bulks, which have places of
	// their own. Either has a body or a line in memory. Zero means 256, and 32.
	MaxRequests int
	MaxStreams  int

	// Timeout bounds how long a request's body may take to come, how long a method may take, and how long an answer may
	// take to leave. Zero means 10 s. StreamTimeout bounds how long a bulk may be silent. Zero means 60 s.
	Timeout       time.Duration
	StreamTimeout time.Duration

	// RequestsPerSecond and BytesPerSecond, of bodies, bound what is done with each key. Zero is no bound.
	RequestsPerSecond float64
	BytesPerSecond    float64
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (l Limits) Validate() error {
	var errs []error
	for name, v := range map[string]float64{
		"api-max-body-bytes": float64(l.MaxBodyBytes), "api-max-batch-bytes": float64(l.MaxBatchBytes), "api-max-channels": float64(l.MaxChannels),
		"api-max-commands": float64(l.MaxCommands), "api-max-requests": float64(l.MaxRequests), "api-max-streams": float64(l.MaxStreams),
		"api-timeout": float64(l.Timeout), "api-stream-timeout": float64(l.StreamTimeout),
		"api-requests-per-second": l.RequestsPerSecond, "api-bytes-per-second": l.BytesPerSecond,
	} {
		if !isRate(v) {
			errs = append(errs, fmt.Errorf("%s: %v is negative, or no number", name, v))
		}
	}
	return errors.Join(errs...)
}

// isRate reports whether v makes sense as a bound, of which zero is none.
func isRate(v float64) bool { return v >= 0 && !math.IsInf(v, 0) } // and not NaN

func (l Limits) withDefaults() Limits {
	l.MaxBodyBytes = orDefault(l.MaxBodyBytes, 1<<20)
	l.MaxBatchBytes = orDefault(l.MaxBatchBytes, 8<<20)
	l.MaxChannels = orDefault(l.MaxChannels, 10_000)
	l.MaxCommands = orDefault(l.MaxCommands, 1_000)
	l.MaxRequests = orDefault(l.MaxRequests, 256)
	l.MaxStreams = orDefault(l.MaxStreams, 32)
	l.Timeout = orDefault(l.Timeout, 10*time.Second)
	l.StreamTimeout = orDefault(l.StreamTimeout, time.Minute)
	return l
}
