package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// logger brings the server's log to ours. What the server says of its own life is for debugging.
type logger struct {
	to *slog.Logger

	// Guarded by mu.
	mu    sync.Mutex
	fatal string // the first

	// Any goroutine (atomic).
	storeFailed atomic.Bool
	namesake    atomic.Int64 // when a server with this one's name tried to connect, in Unix nanoseconds; 0 for never
}

// Noticef implements server.Logger.
func (l *logger) Noticef(format string, v ...any) { l.to.Debug("nats: " + fmt.Sprintf(format, v...)) }

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, v ...any) { l.to.Warn("nats: " + fmt.Sprintf(format, v...)) }

// Errorf implements server.Logger. That a part of the storage is given up, or that another server has this one's name, the server says nowhere else.
func (l *logger) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	switch lower := strings.ToLower(text); {
	case strings.Contains(lower, "critical write error"), strings.Contains(lower, "will be disabled"):
		l.storeFailed.Store(true)
	case strings.Contains(lower, "remote server has a duplicate name"):
		l.namesake.Store(time.Now().UnixNano())
	}
	l.to.Error("nats: " + text)
}

// Fatalf implements server.Logger. The process goes on: Start has an error of it.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.to.Error("nats: " + text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == "" {
		l.fatal = text
	}
}

// Debugf implements server.Logger.
func (l *logger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *logger) Tracef(string, ...any) {}

func (l *logger) firstFatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
