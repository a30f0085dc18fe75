package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// maxPending bounds the bytes of lines that wait for the disk.
const maxPending = 1 << 20

// file is where lines go, by a goroutine of its own, as many at once as there are.
type file struct {
	// Immutable after openFile.
	path   string
	logger *slog.Logger
	wake   chan struct{} // has room for one
	done   chan struct{} // closed when the last line is written

	// Owned by run.
	out  *os.File
	torn bool // a line was written in part
	sick bool // the last attempt failed, which is logged

	// Any goroutine (atomic).
	next    atomic.Pointer[os.File] // takes the place of out; nil for none
	written atomic.Int64
	failed  atomic.Int64
	dropped atomic.Int64

	// Guarded by mu.
	mu      sync.Mutex
	pending []byte
	closed  bool
}

func openFile(path string, logger *slog.Logger) (*file, error) {
	f := &file{path: path, logger: logger, wake: make(chan struct{}, 1), done: make(chan struct{})}
	var err error
	if f.out, err = f.open(); err != nil {
		return nil, err
	}
	go f.run()
	return f, nil
}

// open opens the file by its name. A pipe that nobody reads is an error: opening it would take for ever.
func (f *file) open() (*os.File, error) {
	if f.path == Stderr {
		return os.Stderr, nil
	}
	return os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
}

func (f *file) shut(out *os.File) error {
	if out == os.Stderr {
		return nil
	}
	return out.Close()
}

// Write implements io.Writer for the slog handlers, which give it one whole line at a time. It fails never.
func (f *file) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.pending)+len(line) > maxPending {
		f.dropped.Add(1)
		return len(line), nil
	}
	f.pending = append(f.pending, line...)
	f.signal()
	return len(line), nil
}

func (f *file) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *file) reopen() error {
	if f.path == Stderr {
		return nil
	}
	out, err := f.open()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return out.Close()
	}
	if old := f.next.Swap(out); old != nil {
		_ = old.Close()
	}
	f.signal()
	return nil
}

// run writes lines until close.
func (f *file) run() {
	defer close(f.done)
	var spare []byte
	for range f.wake {
		if next := f.next.Swap(nil); next != nil {
			_ = f.shut(f.out)
			f.out, f.torn = next, false
		}
		f.mu.Lock()
		lines, closed := f.pending, f.closed
		f.pending = spare[:0]
		f.mu.Unlock()
		f.write(lines)
		if spare = lines; cap(spare) > maxSpare {
			spare = nil
		}
		if closed {
			_ = f.shut(f.out)
			return
		}
	}
}

// maxSpare bounds the buffer that is kept for the next lines.
const maxSpare = 64 << 10

// write writes whole lines, and counts those that got there.
func (f *file) write(lines []byte) {
	if len(lines) == 0 {
		return
	}
	all := int64(bytes.Count(lines, []byte{'\n'}))
	if f.torn {
		if _, err := io.WriteString(f.out, "\n"); err != nil {
			f.fail(all, err)
			return
		}
		f.torn = false
	}
	n, err := f.out.Write(lines)
	whole := int64(bytes.Count(lines[:n], []byte{'\n'}))
	f.written.Add(whole)
	if err != nil {
		f.torn = n > 0 && lines[n-1] != '\n'
		f.fail(all-whole, err)
		return
	}
	if f.sick {
		f.sick = false
		f.logger.Info("logs: lines are written again", "file", f.path, "failed", f.failed.Load())
	}
}

func (f *file) fail(lines int64, err error) {
	f.failed.Add(lines)
	if !f.sick {
		f.sick = true
		f.logger.Error("logs: lines are lost", "file", f.path, "error", err)
	}
}

func (f *file) close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.signal()
	f.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return fmt.Errorf("logs: %s does not take the last lines: %w", f.path, ctx.Err())
	}
	if next := f.next.Swap(nil); next != nil {
		return next.Close()
	}
	return nil
}
