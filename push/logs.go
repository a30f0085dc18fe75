package push

import (
	"fmt"
	"log/slog"

	"github.com/millpond/millpond/push/logs"
)

// This file joins the audit log with what is done to the server.

// openLogs opens the logs that the Config wants.
func (s *Server) openLogs() (err error) {
	c := s.config.AuditLog
	c.Logger = s.config.Logger
	if s.audit, err = logs.Open(c); err != nil {
		return fmt.Errorf("audit-log: %w", err)
	}
	return nil
}

// audited writes an audit line for what the server did to itself, because a signal or a file that changed asked for it.
func (s *Server) audited(action string, err error, target ...slog.Attr) {
	act := logs.Act{Action: action, Target: target, Outcome: logs.OK}
	if err != nil {
		act.Outcome = err.Error()
	}
	s.audit.Audit(act)
}
