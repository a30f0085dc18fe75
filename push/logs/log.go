package logs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The places of Config.Path that are no files.
const (
	Off    = "off"
	Stderr = "stderr"
)

// Config says where lines go, and how they look. The zero value is no log.
type Config struct {
	// Path is a file, "stderr", or "off", as is the empty string. A file is appended to, and made for its owner and group
	// alone.
	Path string
	// JSON writes a JSON object a line instead of key=value pairs.
	JSON bool
	// Logger is told when lines are lost, and when that is over. Nil means slog.Default().
	Logger *slog.Logger
}

// Log is one of the logs. Its methods may be called by any goroutine, also of a nil *Log, which writes nothing.
type Log struct {
	file  *file
	lines *slog.Logger
}

// Open opens a log; nil without an error if Config.Path says that there is none.
func Open(c Config) (*Log, error) {
	if c.Path == "" || c.Path == Off {
		return nil, nil
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	f, err := openFile(c.Path, c.Logger)
	if err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey && len(groups) == 0 {
			return slog.Attr{}
		}
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(clean(a.Value.String()))
		}
		return a
	}}
	l := &Log{file: f, lines: slog.New(slog.NewTextHandler(f, o))}
	if c.JSON {
		l.lines = slog.New(slog.NewJSONHandler(f, o))
	}
	return l, nil
}

// Line writes one line. kind is its msg.
func (l *Log) Line(kind string, attrs ...slog.Attr) {
	if l != nil {
		l.lines.LogAttrs(context.Background(), slog.LevelInfo, kind, attrs...)
	}
}

// Reopen opens the file by its name again, for logrotate has renamed it. If that fails, the old one stays in use.
func (l *Log) Reopen() error {
	if l == nil {
		return nil
	}
	return l.file.reopen()
}

// Stats are a log's figures since Open.
type Stats struct {
	Written int64 // lines
	Failed  int64 // lines that could not be written, for a full disk for instance
	Dropped int64 // lines given up because too many waited for a disk that takes its time
}

// Stats returns the present figures.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	return Stats{l.file.written.Load(), l.file.failed.Load(), l.file.dropped.Load()}
}

// Close writes what waits, and closes the file; when ctx ends first, it leaves that to itself. Lines that come later are
// dropped.
func (l *Log) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.file.close(ctx)
}

// maxValue bounds a string in a line, in bytes.
const maxValue = 512

// clean makes a string one that shows what it is: the handlers quote newlines and other controls of ASCII, and this replaces
// what else could move a terminal's cursor or turn the direction of the text around.
func clean(s string) string {
	if len(s) > maxValue {
		cut := maxValue
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = fmt.Sprintf("%s… (%d bytes)", s[:cut], len(s))
	}
	return strings.Map(func(r rune) rune {
		if r == 0x7f || r > 0x7f && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
