package session

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// drain is a Server.Drain under way.
type drain struct {
	perTick float64 // sessions to close
	credit  float64 // of this tick and what was left over
	at      cursor
	waited  uint32        // ticks in which nobody was left but handshakes
	done    chan struct{} // closed when every session was told
}

// drainHandshakes is for how many ticks a drain waits for opening handshakes when there is nothing else to wait for.
const drainHandshakes = 10

// Drain stops accepting and closes the open sessions evenly, rate of them a second, with 1001, so that their clients do
// not all connect to the other servers at the same moment. Those that have connected may still finish their opening handshake,
// and are then told too. It returns when the last was told, or with ctx's error when ctx ends first. Messages flow until
// then. Afterwards comes Shutdown, which closes those that are left at once. A rate of zero is no bound.
func (srv *Server) Drain(ctx context.Context, rate float64) error {
	var errs []error
	for _, a := range srv.listening() {
		errs = append(errs, a.Close())
	}
	srv.http.server.SetKeepAlivesEnabled(false)
	if rate <= 0 {
		rate = math.Inf(1)
	}
	d := &drain{perTick: rate * tickInterval.Seconds(), done: make(chan struct{})}
	srv.draining.Store(d)
	select {
	case <-d.done:
	case <-ctx.Done():
		srv.draining.Store(nil)
		errs = append(errs, fmt.Errorf("session: not all were drained: %w", context.Cause(ctx)))
	}
	return errors.Join(errs...)
}

// drainSome closes the sessions that are due; the clock's goroutine.
func (srv *Server) drainSome() {
	d := srv.draining.Load()
	if d == nil {
		return
	}
	d.credit += d.perTick
	for d.credit >= 1 {
		s := srv.table.walk(&d.at)
		if s == nil {
			if d.waited++; d.waited <= drainHandshakes && int64(srv.table.Len()) > srv.admitted.Load() {
				d.at, d.credit = cursor{}, 0
				return
			}
			srv.draining.Store(nil)
			close(d.done)
			return
		}
		if s.goAway() {
			d.credit--
		}
	}
}
