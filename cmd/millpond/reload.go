package main

import (
	"log/slog"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/millpond/millpond/push"
)

// reloadable are the keys whose values change while the server runs; files that others name are read again by push.Server.Reload.
var reloadable = []string{"log_level", "max_connections"}

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
	c, next, config, err := r.read()
	if err = r.server.Reconfigure(config, err); err != nil {
		for _, err := range flatten(err) {
			r.logger.Error("settings are as they were", "error", err)
		}
	} else {
		r.level.Set(c.LogLevel)
		r.tell(next)
	}
	if err := r.server.Reload(); err == nil {
		r.logger.Info("reloaded")
	}
}

func (r *reloader) read() (*serveCommand, []shown, push.Config, error) {
	var c cli
	parser, err := newParser(&c, loadFile)
	if err != nil {
		return nil, nil, push.Config{}, err
	}
	ctx, err := parser.Parse(r.args)
	if err != nil {
		return nil, nil, push.Config{}, err
	}
	next, err := inForce(ctx, string(c.Serve.Config))
	if err != nil {
		return nil, nil, push.Config{}, err
	}
	config, err := c.Serve.config(r.logger)
	return &c.Serve, next, config, err
}

// tell logs what is not as it was.
func (r *reloader) tell(next []shown) {
	for i, now := range next {
		before := r.current[i]
		switch {
		case now.raw == before.raw:
		case slices.Contains(reloadable, now.Key):
			r.logger.Info("setting changed", "key", now.Key, "old", before.Value, "new", now.Value)
			r.current[i] = now
		default:
			r.logger.Warn("setting changed: it needs a restart", "key", now.Key, "old", before.Value, "new", now.Value)
		}
	}
}

// newReloader is for the settings that ctx has.
func newReloader(server *push.Server, ctx *kong.Context, c *serveCommand, s *streams, level *slog.LevelVar, logger *slog.Logger) (*reloader, error) {
	current, err := inForce(ctx, string(c.Config))
	return &reloader{server: server, args: s.args, level: level, logger: logger, current: current}, err
}
