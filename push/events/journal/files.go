package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// file is a segment that is written to.
type file interface {
	io.ReaderAt
	io.Writer
	Sync() error
	Truncate(size int64) error
	Close() error
}

// The names in a directory.
const (
	lockName       = "lock"
	positionName   = "position"
	checkpointName = "checkpoint"
	segmentSuffix  = ".log"

	// making begins the name of a directory that is not locked yet.
	making = ".new-"
)

// segmentName is that of the segment which begins with a record; names sort as the numbers do.
func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

// firstOf reads a segment's name.
func firstOf(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0
}

// syncDir makes names in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// memoryFile is a segment of a journal without a directory.
type memoryFile struct {
	// Guarded by mu.
	mu sync.Mutex
	b  []byte
}

var _ file = (*memoryFile)(nil)

// ReadAt implements io.ReaderAt.
func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// Write implements io.Writer.
func (f *memoryFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b = append(f.b, p...)
	return len(p), nil
}

// Truncate implements file.
func (f *memoryFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b = f.b[:size]
	return nil
}

// Sync implements file.
func (*memoryFile) Sync() error { return nil }

// Close implements file.
func (*memoryFile) Close() error { return nil }

// ErrLocked says that a directory is another process's.
var ErrLocked = errors.New("journal: another process has it")

// lock makes a directory this process's, until the file is closed. flags may have os.O_CREATE.
func lock(dir string, flags int) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err == nil && !isAt(f, path) { // who had it before has removed the directory
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
