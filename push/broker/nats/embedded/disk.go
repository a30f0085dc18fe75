package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// This file looks after the disk. A server of NATS that could not write takes nothing until it is started anew, and does not say so to those who publish. So
// publications are refused before the disk is full; and when it failed all the same, the server is restarted once there is room.

const (
	watchInterval = 250 * time.Millisecond
	shortestPause = time.Second // between two restarts; twice as long each time, up to the longest
	longestPause  = 30 * time.Second
	steadyAfter   = 2 * longestPause // a failure has nothing to do with those before
)

// pace says when a server of which the storage has failed is restarted: the first time at once, and then later each
// time that it fails again, so that a disk that stays broken does not make all that use the server begin anew all the
// time. Its zero value is that of a server that never failed.
type pace struct {
	pause time.Duration
	last  time.Time // when it was restarted, or that failed
}

// left is how long the next restart has to wait.
func (p *pace) left(now time.Time) time.Duration { return max(p.pause-now.Sub(p.last), 0) }

// tried notes a restart, or an attempt.
func (p *pace) tried(began, ended time.Time) {
	if began.Sub(p.last) > steadyAfter {
		p.pause = 0
	}
	p.pause, p.last = min(max(2*p.pause, shortestPause), longestPause), ended
}

// freeBytes is what there is for the data on its disk.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("data-dir: statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// watch looks at the disk until ctx ends.
func (s *Server) watch(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var restarts pace
	for {
		free, err := freeBytes(s.config.Dir)
		s.free.Store(free)
		now, failed := time.Now(), s.failed()
		switch {
		case err == nil && free < s.config.ReserveBytes:
			err = fmt.Errorf("the disk of the log is full: %d bytes are free, and nats-reserve-bytes is %d", free, s.config.ReserveBytes)
		case err == nil && failed && restarts.left(now) > 0:
			err = errors.New("the disk of the log has failed")
		case err == nil && failed:
			err = s.restart()
			restarts.tried(now, time.Now())
		}
		s.tell(err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// failed reports whether the server of NATS has given its storage, or a part of it, up.
func (s *Server) failed() bool {
	n, log := s.current()
	return log.storeFailed.Load() || !n.JetStreamEnabled()
}

// restart replaces the server of NATS by another one on the same data. Connections to the old one end.
func (s *Server) restart() error {
	s.config.Logger.Warn("broker: the storage had failed: the embedded server is restarted", "directory", s.config.Dir)
	n, _ := s.current()
	n.Shutdown()
	n.WaitForShutdown()
	if err := s.launch(); err != nil {
		return err
	}
	s.restarts.Add(1)
	return nil
}

// tell notes whether what is published can be stored.
func (s *Server) tell(err error) {
	before := s.Trouble()
	if err == nil {
		s.trouble.Store(nil)
		if before != nil {
			s.config.Logger.Info("broker: publications can be stored again", "directory", s.config.Dir)
		}
		return
	}
	if before == nil {
		s.config.Logger.Error("broker: nothing can be stored", "directory", s.config.Dir, "error", err)
	}
	s.trouble.Store(&err)
}

// Trouble says why nothing can be stored; nil while it can. It costs nothing.
func (s *Server) Trouble() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}
