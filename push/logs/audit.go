package logs

import "log/slog"

// Act is something that somebody did to the server or to its clients. It has nothing that is secret: no tokens, no keys, no
// data of publications.
type Act struct {
	// Action is what was done: a method of the API, or a word as "tap_start" or "reload".
	Action string
	// Key is the name of the API's key that it was done with; empty for what a signal asked for, or a file that changed.
	Key string
	// Remote is the address that the request came from, Request its id; empty if there was none.
	Remote, Request string
	// Target is whom or what it was done to, by the keys user, client, channel and so on.
	Target []slog.Attr
	// Outcome is OK, or else why it was not done; Code that of the error, if there is one.
	Outcome string
	Code    uint32
}

// OK is the Outcome of what was done.
const OK = "ok"

// Audit writes a line for an act. The keys are always there, in the same order, and those of the target come last.
func (l *Log) Audit(a Act) {
	if l == nil {
		return
	}
	attrs := []slog.Attr{
		slog.String("action", a.Action), slog.String("key", a.Key), slog.String("remote", a.Remote), slog.String("request", a.Request),
		slog.String("outcome", a.Outcome), slog.Uint64("code", uint64(a.Code)),
	}
	l.Line("audit", append(attrs, slog.Attr{Key: "target", Value: slog.GroupValue(a.Target...)})...)
}
