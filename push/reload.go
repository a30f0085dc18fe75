package push

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// reloads counts how often the settings were read again. Any goroutine (atomic).
type reloads struct {
	done, failed atomic.Int64
	latest       atomic.Int64 // when it was done, as a Unix time; 0 is never
}

var (
	descReloads  = desc("config_reloads_total", "Times that the settings were read again, by SIGHUP.", "outcome")
	descReloaded = desc("config_reloaded_timestamp_seconds", "When they were read without a fault; 0 is never.")
)

func (r *reloads) collect(gauge emitInt, counter emitCount) {
	counter(descReloads, r.done.Load(), "done")
	counter(descReloads, r.failed.Load(), "failed")
	gauge(descReloaded, int(r.latest.Load()))
}

// Reconfigure takes over of c what can change while the server runs: Engine.MaxConnections. A c that is not valid, or err, which says why there
// is none, changes nothing and is an error.
func (s *Server) Reconfigure(c Config, err error) error {
	if err == nil {
		err = c.Validate()
	}
	s.audited("reconfigure", err, slog.Int("max_connections", c.Engine.MaxConnections))
	if err != nil {
		s.reloads.failed.Add(1)
		return err
	}
	s.engine.SetMaxConnections(c.Engine.MaxConnections)
	s.reloads.done.Add(1)
	s.reloads.latest.Store(time.Now().Unix())
	return nil
}
