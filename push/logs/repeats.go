package logs

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Repeats keeps lines that say the same again from filling a log: the first is written at once. Those that follow within the interval are counted, and at its end
// the last of them is written, with their number as "repeated" and the time at which it was said. Lines say the same if they differ in nothing but digits. Lines for
// debugging are none of its business. It must be closed.
type Repeats struct {
	// Immutable after NewRepeats.
	to    *slog.Logger
	every time.Duration

	// Any goroutine (atomic).
	counted atomic.Int64

	// Guarded by mu.
	mu     sync.Mutex
	closed bool
	kinds  map[string]*repeated
}

// repeated is a kind of line that was written of late.
type repeated struct {
	timer *time.Timer // at the interval's end
	count int64       // that were not written
	last  slog.Record // of these
	to    slog.Handler
}

// maxKinds bounds the kinds that are known. All beyond of one level are one: no flood of warnings hides an error.
const maxKinds = 256

// NewRepeats returns one before to. Zero means 30 s; with a negative interval all is written.
func NewRepeats(to *slog.Logger, every time.Duration) *Repeats {
	every = cmp.Or(every, 30*time.Second)
	return &Repeats{to: to, every: every, closed: every < 0, kinds: map[string]*repeated{}}
}

// Logger returns what is to be logged to.
func (r *Repeats) Logger() *slog.Logger { return slog.New(&repeatsHandler{r, r.to.Handler()}) }

// Counted returns how many lines were counted instead of written, but for the last of each interval.
func (r *Repeats) Counted() int64 { return r.counted.Load() }

// Close writes what waits. All that is logged afterwards is written.
func (r *Repeats) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	kinds := r.kinds
	r.kinds = map[string]*repeated{}
	r.mu.Unlock()
	for _, k := range kinds {
		k.timer.Stop()
		k.write()
	}
}

// isAgain notes a line, and reports whether it is one to be counted.
func (r *Repeats) isAgain(line slog.Record, to slog.Handler) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	kind := kindOf(line)
	k := r.kinds[kind]
	if k == nil && len(r.kinds) >= maxKinds {
		kind = line.Level.String() // no line's
		k = r.kinds[kind]
	}
	if k == nil {
		r.kinds[kind] = &repeated{timer: time.AfterFunc(r.every, func() { r.expire(kind) })}
		return false
	}
	if k.count > 0 {
		r.counted.Add(1)
	}
	k.count++
	k.last, k.to = line.Clone(), to
	return true
}

// expire ends an interval of a kind: it is forgotten if nothing came.
func (r *Repeats) expire(kind string) {
	r.mu.Lock()
	k := r.kinds[kind]
	if k == nil { // closed
		r.mu.Unlock()
		return
	}
	said := *k
	if k.count == 0 {
		delete(r.kinds, kind)
	} else {
		k.count = 0
		k.timer.Reset(r.every)
	}
	r.mu.Unlock()
	said.write()
}

// write writes the last line, if there is one.
func (k *repeated) write() {
	if k.count == 0 {
		return
	}
	k.last.AddAttrs(slog.Int64("repeated", k.count))
	_ = k.to.Handle(context.Background(), k.last) // as slog does
}

// kindOf is what lines have in common that say the same: level, text and attributes, with a # for each number.
func kindOf(line slog.Record) string {
	var b strings.Builder
	b.WriteString(line.Level.String())
	writeFolded(&b, line.Message)
	line.Attrs(func(a slog.Attr) bool {
		writeFolded(&b, a.Key)
		writeFolded(&b, a.Value.String())
		return true
	})
	return b.String()
}

func writeFolded(b *strings.Builder, s string) {
	b.WriteByte(0)
	number := false
	for i := range len(s) {
		digit := s[i] >= '0' && s[i] <= '9'
		switch {
		case !digit:
			b.WriteByte(s[i])
		case !number:
			b.WriteByte('#')
		}
		number = digit
	}
}

// repeatsHandler is a handler of slog before another.
type repeatsHandler struct {
	repeats *Repeats
	to      slog.Handler
}

// Enabled implements slog.Handler.
func (h *repeatsHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *repeatsHandler) Handle(ctx context.Context, line slog.Record) error {
	if line.Level >= slog.LevelInfo && h.repeats.isAgain(line, h.to) {
		return nil
	}
	return h.to.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h *repeatsHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeatsHandler{h.repeats, h.to.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *repeatsHandler) WithGroup(name string) slog.Handler {
	return &repeatsHandler{h.repeats, h.to.WithGroup(name)}
}
