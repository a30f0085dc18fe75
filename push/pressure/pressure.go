// Package pressure watches how near the process and its control group are to the end of their memory, so that new connections are refused
// before the kernel ends the process. Those who are in stay.
package pressure

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/internal/cgroup"
)

// Config says what is watched.
type Config struct {
	// LimitBytes is what the process may take, by its resident memory; what the kernel keeps for its sockets is not in it. Zero means no bound
	// of its own. The control group's limit is watched either way, and there the kernel's part counts. Negative means that nothing is watched.
	LimitBytes int64
	// HighWater is the part of a limit from which new clients are refused. Zero means 0.9.
	HighWater float64
	// TuneGo makes Go collect its garbage in time, by debug.SetMemoryLimit: what of a limit others do not have, the kernel's sockets among them.
	TuneGo bool
	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

const defaultHighWater = 0.9

// Validate reports every value that makes no sense, each by the name of its flag.
func (c Config) Validate() error {
	var errs []error
	if c.LimitBytes > 0 && c.LimitBytes < minLimit {
		errs = append(errs, fmt.Errorf("memory-limit: %d is less than %d", c.LimitBytes, minLimit))
	}
	if !(c.HighWater >= 0 && c.HighWater < 1) {
		errs = append(errs, fmt.Errorf("memory-high-water: %v is not between 0 and 1", c.HighWater))
	}
	return errors.Join(errs...)
}

// minLimit is in bytes what the program needs before anybody connects.
const minLimit = 32 << 20

// Level says how short memory is.
type Level int32

// The levels.
const (
	None   Level = iota
	High         // above the high-water mark of a limit
	Severe       // above the middle between it and the limit
)

// Reading is one limit and how much of it is taken, in bytes.
type Reading struct {
	Scope       string // "process" or "cgroup"
	Used, Limit int64
}

// level is that of a reading, by the part of the limit that is the high-water mark.
func (r Reading) level(high float64) Level {
	switch used := float64(r.Used) / float64(r.Limit); {
	case used >= (1+high)/2:
		return Severe
	case used >= high:
		return High
	}
	return None
}

// Watch watches. Its methods may be called by any goroutine, Tick by one at a time.
type Watch struct {
	// Immutable after New.
	config Config
	root   fs.FS

	// Owned by the caller of Tick.
	goLimit  int64     // that was set last; 0: none
	goBefore int64     // what it was before
	told     time.Time // when the operator was told of too little memory
	short    bool      // and not yet that there is enough

	// Guarded by mu.
	mu     sync.Mutex
	groups cgroup.Limits
	latest []Reading

	// Any goroutine (atomic).
	level atomic.Int32
	worst atomic.Int32 // since the last Tick
	next  atomic.Int64 // when it is to be looked at again, in ns since start
}

// start is where the clock of Watch.next begins.
var start = time.Now()

// New makes a Watch.
func New(c Config) (*Watch, error) { return newWatch(c, os.DirFS("/")) }

func newWatch(c Config, root fs.FS) (*Watch, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.HighWater == 0 {
		c.HighWater = defaultHighWater
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	w := &Watch{config: c, root: root}
	w.readLimits()
	w.look()
	for _, r := range w.Readings() {
		c.Logger.Info("memory is limited", "limit", r.Scope, "bytes", r.Limit, "used", r.Used)
	}
	return w, nil
}

// lookEvery is how old an answer of Level may be: a storm of connections takes a few megabytes in that time.
const lookEvery = 10 * time.Millisecond

// Level says how short memory is. It looks at most once in 10 ms, which takes some ten microseconds.
func (w *Watch) Level() Level {
	now, next := int64(time.Since(start)), w.next.Load()
	if now >= next && w.next.CompareAndSwap(next, now+int64(lookEvery)) {
		w.look()
	}
	return Level(w.level.Load())
}

// Readings returns the limits that there are.
func (w *Watch) Readings() []Reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Reading(nil), w.latest...)
}

// look reads what is taken. What cannot be read, for want of descriptors for instance, is as it was.
func (w *Watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.config.LimitBytes < 0 {
		return
	}
	before := w.latest
	w.latest = w.latest[:0:0]
	if limit := w.config.LimitBytes; limit > 0 {
		used, ok := w.resident()
		w.addLocked(before, Reading{"process", used, limit}, ok)
	}
	if limit := w.groups.MemoryBytes; limit > 0 {
		used, ok := w.groups.MemoryUsed(w.root, int64(w.config.HighWater*float64(limit)))
		w.addLocked(before, Reading{"cgroup", used, limit}, ok)
	}
	level := None
	for _, r := range w.latest {
		level = max(level, r.level(w.config.HighWater))
	}
	w.level.Store(int32(level))
	if w.worst.Load() < int32(level) {
		w.worst.Store(int32(level))
	}
}

// addLocked adds r to the latest readings or, if it could not be read, the one before.
func (w *Watch) addLocked(before []Reading, r Reading, ok bool) {
	for _, old := range before {
		if old.Scope == r.Scope && !ok {
			r.Used = old.Used
		}
	}
	w.latest = append(w.latest, r)
}

// resident is the memory of the process (proc_pid_statm(5)).
func (w *Watch) resident() (bytes int64, ok bool) {
	b, err := fs.ReadFile(w.root, "proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

// readLimits reads the control group's, which may change while it runs.
func (w *Watch) readLimits() {
	groups, err := cgroup.Read(w.root)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.groups = groups
	w.mu.Unlock()
}

// Tick is to be called about once a second: it follows limits that change, sets Go's, and tells the operator.
func (w *Watch) Tick(now time.Time) {
	if w.config.LimitBytes < 0 {
		return
	}
	w.readLimits()
	w.look()
	if w.config.TuneGo {
		w.tune()
	}
	w.tell(now)
}

// tellEvery is how often the operator is told of too little memory, at most.
const tellEvery = time.Minute

func (w *Watch) tell(now time.Time) {
	level := Level(w.worst.Swap(0))
	switch {
	case level > None && now.Sub(w.told) >= tellEvery:
		w.told, w.short = now, true
		for _, r := range w.Readings() {
			w.config.Logger.Warn("memory is short: new clients are refused", "limit", r.Scope, "bytes", r.Limit, "used", r.Used)
		}
	case level == None && w.short && now.Sub(w.told) >= tellEvery:
		w.short = false
		w.config.Logger.Info("memory is enough again")
	}
}

// tune sets Go's limit to what is left of the tightest limit's middle between high-water mark and end when all is taken off that Go does not manage:
// the program itself, other processes of the group, and what the kernel keeps for sockets, which is most of what an idle connection takes.
func (w *Watch) tune() {
	var best int64
	managed := goMemory()
	for _, r := range w.Readings() {
		end := int64(float64(r.Limit) * (1 + w.config.HighWater) / 2)
		limit := max(end-max(r.Used-managed, 0), r.Limit/4) // with less, Go would do nothing but collect
		if best == 0 || limit < best {
			best = limit
		}
	}
	if best == 0 || within(best, w.goLimit, best/64) { // each change stops the world
		return
	}
	if before := debug.SetMemoryLimit(best); w.goLimit == 0 {
		w.goBefore = before
	}
	w.goLimit = best
}

func within(a, b, distance int64) bool { return a-b <= distance && b-a <= distance }

// goMemory is what Go's limit is compared with.
func goMemory() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() - sample[1].Value.Uint64())
}

// Close gives Go the limit back that it had before the first Tick. No Tick may come after.
func (w *Watch) Close() {
	if w.goLimit != 0 {
		debug.SetMemoryLimit(w.goBefore)
	}
}
