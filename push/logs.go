package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/tracing"
)

// This file has the logs of what is done to the server, and of its connections.

// openLogs opens the logs that the Config wants, and the way to a receiver of spans.
func (s *Server) openLogs() (err error) {
	s.repeats = logs.NewRepeats(s.config.Logger, s.config.LogRepeatInterval)
	audit, access := s.config.AuditLog, s.config.AccessLog
	audit.Logger, access.Logger = s.config.Logger, s.config.Logger
	if s.audit, err = logs.Open(audit); err != nil {
		return fmt.Errorf("audit-log: %w", err)
	}
	log, err := logs.Open(access)
	if err != nil {
		return fmt.Errorf("access-log: %w", err)
	}
	s.access = newAccessLog(log, cmp.Or(s.config.AccessSample, 1))
	trace := s.config.Trace
	trace.Version, trace.Logger = s.config.Version, s.config.Logger
	s.tracer, err = tracing.New(trace)
	return err
}

// followed is who the hub asks about publications; nil if nobody follows any.
func (s *Server) followed() hub.Tracer {
	if s.tracer == nil {
		return nil
	}
	return s.tracer
}

// accessLines is the log of connections; nil if there is none.
func (s *Server) accessLines() *logs.Log {
	if s.access == nil {
		return nil
	}
	return s.access.log
}

func (s *Server) reopenLogs() error { return errors.Join(s.audit.Reopen(), s.accessLines().Reopen()) }

func (s *Server) closeLogs(ctx context.Context) error {
	return errors.Join(s.tracer.Close(ctx), s.audit.Close(ctx), s.accessLines().Close(ctx))
}

// audited writes an audit line for what the server did to itself, because a signal or a file that changed asked for it.
func (s *Server) audited(action string, err error, target ...slog.Attr) {
	act := logs.Act{Action: action, Target: target, Outcome: logs.OK}
	if err != nil {
		act.Outcome = err.Error()
	}
	s.audit.Audit(act)
}
