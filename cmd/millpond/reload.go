package main

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/push"
)

// reloader reads the settings again as they were read at the start.
type reloader struct {
	// Immutable.
	server *push.Server
	args   []string
	level  *slog.LevelVar
	logger *slog.Logger

	// Owned by the goroutine of the signals.
	current []shown
}

// reload takes over what can change and tells what needs a restart. With a fault anywhere nothing changes.
func (r *reloader) reload() {
	next, err := r.settled()
	if wrong := r.server.Reconfigure(next.config, err); wrong != nil {
		for _, err := range flatten(wrong) {
			var list problems
			if !errors.As(err, &list) {
				list = problems{next.document.locate(err.Error(), next.known)}
			}
			for _, p := range list {
				r.logger.Error("settings are as they were", "error", p.String())
			}
		}
	} else {
		r.level.Set(next.command.LogLevel)
		r.tell(next)
		warnOfExposed(r.logger, exposed(next.known, next.values, next.document))
	}
	if err := r.server.Reload(); err == nil {
		r.logger.Info("reloaded")
	}
}

// settings are what serve would be started with now.
type settings struct {
	command  *serveCommand
	document *document
	known    []setting
	values   []shown
	config   push.Config
}

var errUnsettled = errors.New("config: the file changed again and again while it was read")

// settled reads the settings until the file has not changed meanwhile: it may be being written.
func (r *reloader) settled() (next settings, err error) {
	for range 10 {
		next, err = r.read()
		if !files.Watchable(next.document.name) {
			return next, err
		}
		again, readErr := files.Read(next.document.name, maxFile)
		if readErr == nil && bytes.Equal(withoutMark(again), next.document.source) {
			return next, err
		}
	}
	return next, errors.Join(err, errUnsettled)
}

func (r *reloader) read() (settings, error) {
	var c cli
	s := settings{command: &c.Serve, document: &document{values: file{}}}
	parser, err := newParser(&c, func(name string, source []byte) (*document, error) {
		d, err := newDocument(name, source)
		if err == nil {
			s.document = d
		}
		return d, err
	})
	if err != nil {
		return s, err
	}
	s.known = settingsOf(parser.Model)
	ctx, err := parser.Parse(r.args)
	if err != nil {
		return s, err
	}
	s.values = inForce(ctx, c.Serve.sections())
	s.config, err = c.Serve.config(r.logger)
	return s, err
}

// tell logs what is not as it was: of flags the values, of what is in sections the names alone.
func (r *reloader) tell(next settings) {
	for i, now := range next.values {
		before := r.current[i]
		if reflect.DeepEqual(now.whole, before.whole) {
			continue
		}
		var what []any
		if s := next.known[i]; s.flag != nil {
			what = []any{"key", now.Key, "old", before.Value, "new", now.Value}
		} else {
			what = []any{"key", now.Key, "changed", strings.Join(differences(now.Key, before.whole, now.whole), " ")}
		}
		if next.known[i].reload == reloadValue {
			r.logger.Info("setting changed", what...)
			r.current[i] = now
		} else {
			r.logger.Warn("setting changed: it needs a restart", what...)
		}
	}
}

// differences are the places, such as namespaces[orders].history_size, at which two values of a file that are not the same differ.
func differences(at string, a, b any) (places []string) {
	left, right := members(a), members(b)
	if left == nil || right == nil {
		return []string{at}
	}
	all := maps.Clone(left)
	maps.Copy(all, right)
	for _, part := range slices.Sorted(maps.Keys(all)) {
		before, was := left[part]
		now, is := right[part]
		switch {
		case was != is:
			places = append(places, at+part)
		case !reflect.DeepEqual(before, now):
			places = append(places, differences(at+part, before, now)...)
		}
	}
	return places
}

// members are the parts of a section, or of a list of those, by how they are written behind its name; nil for what has no parts.
func members(v any) map[string]any {
	out := map[string]any{}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for key, value := range v {
			out["."+key] = value
		}
	case []any:
		for i, element := range v {
			section, ok := element.(map[string]any)
			if !ok {
				return nil
			}
			name, ok := section["name"].(string)
			if !ok {
				name = strconv.Itoa(i)
			}
			out["["+name+"]"] = element
		}
	default:
		return nil
	}
	return out
}

// newReloader is for the settings that ctx has.
func newReloader(server *push.Server, ctx *kong.Context, c *serveCommand, s *streams, level *slog.LevelVar, logger *slog.Logger) *reloader {
	return &reloader{server: server, args: s.args, level: level, logger: logger, current: inForce(ctx, c.sections())}
}

// warnOfExposed logs secrets that anybody on the host may read.
func warnOfExposed(logger *slog.Logger, list problems) {
	for _, p := range list {
		logger.Warn("a secret is open to others", "problem", p.String())
	}
}
