// Package watch tells when files say something else. It looks at what they say, not at their times, once they have been left alone for
// a moment, and it sees files that are replaced by renaming others to their names or by turning a link.
package watch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/millpond/millpond/internal/files"
)

// Config says what to watch. All fields must be set.
type Config struct {
	// Name is what the files are, for the log.
	Name string
	// Files are their paths.
	Files []string
	// Reload is called when one of them has changed, by one goroutine. After an error it is called again, later and later: it may be
	// a fault that passes.
	Reload func() error
	Logger *slog.Logger
}

// Watcher watches until Close.
type Watcher struct {
	// Immutable after New.
	config  Config
	watcher *fsnotify.Watcher
	stop    chan struct{}
	done    chan struct{}

	// Owned by run.
	seen [sha256.Size]byte // fingerprint of the files
}

// New begins to watch. What the files say now is not reported.
func New(c Config) (*Watcher, error) {
	w := &Watcher{config: c, stop: make(chan struct{}), done: make(chan struct{})}
	w.seen = w.fingerprint()
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", c.Name, err)
	}
	for dir := range w.directories() {
		if err := w.watcher.Add(dir); err != nil {
			return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), w.watcher.Close())
		}
	}
	go w.run()
	return w, nil
}

// Close ends the watching. It does not return while Reload runs.
func (w *Watcher) Close() error {
	close(w.stop)
	<-w.done
	return w.watcher.Close()
}

// directories are where the files are, and where links lead from there: a watched file that is replaced would be lost.
func (w *Watcher) directories() map[string]bool {
	dirs := map[string]bool{}
	for _, f := range w.config.Files {
		dirs[filepath.Dir(f)] = true
		if target, err := filepath.EvalSymlinks(f); err == nil {
			dirs[filepath.Dir(target)] = true
		}
	}
	return dirs
}

// Calm is how long the files must have been left alone: those that belong together are replaced one after the other.
const Calm = 300 * time.Millisecond

// The pauses after which files that could not be loaded are tried again.
const (
	firstRetry = 5 * time.Second
	maxRetry   = 5 * time.Minute
)

func (w *Watcher) run() {
	defer close(w.done)
	settled := time.NewTimer(Calm)
	settled.Stop()
	retry := firstRetry
	for {
		select {
		case <-w.stop:
			settled.Stop()
			return
		case e := <-w.watcher.Events:
			if e.Op != fsnotify.Chmod {
				retry = firstRetry
				settled.Reset(Calm)
			}
		case err := <-w.watcher.Errors:
			w.config.Logger.Warn("watching "+w.config.Name, "error", err)
			settled.Reset(Calm) // events may have been lost
		case <-settled.C:
			if !w.changed() || w.config.Reload() == nil {
				break
			}
			w.seen = [sha256.Size]byte{} // what is there counts as changed
			settled.Reset(retry)
			retry = min(2*retry, maxRetry)
		}
	}
}

// changed reports whether a file says something else than when it was last looked at. Others may share the directories.
func (w *Watcher) changed() bool {
	sum := w.fingerprint()
	changed := sum != w.seen
	w.seen = sum
	return changed
}

// fingerprint is one of all files. One that cannot be read is as if it were empty; so is a pipe, out of which only who loads it may read.
func (w *Watcher) fingerprint() [sha256.Size]byte {
	h := sha256.New()
	for _, f := range w.config.Files {
		var b []byte
		if files.Watchable(f) {
			b, _ = files.Read(f, files.MaxSecretBytes) // loading it will tell
		}
		fmt.Fprintf(h, "%s %d\n", f, len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
