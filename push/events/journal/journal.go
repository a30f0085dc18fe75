package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config holds the bounds of a Journal.
type Config struct {
	// MaxBytes bounds what waits for the reader, headers included. Of more, the oldest segment is given up. Zero means 64 MiB; at least 256 KiB.
	MaxBytes int64
	// MaxPendingBytes bounds what waits in memory for the disk. Of more, all of it is given up. Zero means 4 MiB.
	MaxPendingBytes int
	// SegmentBytes is the size at which a segment ends. Zero means a sixteenth of MaxBytes, 4 MiB at most.
	SegmentBytes int64
	// SyncInterval is the least time between the starts of two fsyncs, whose records share it: what a crash of the host loses at most,
	// together with the time of the fsync itself. Zero is none: whenever the one before has ended.
	SyncInterval time.Duration
	// Logger gets what is wrong with files. Nil means slog.Default().
	Logger *slog.Logger
}

const (
	minBytes        = 256 << 10
	maxSegmentBytes = 4 << 20

	// retryAfter is between two attempts to write to a disk that is full or broken.
	retryAfter = time.Second
	// positionEvery is how often the position is written while there is more to read: what is acknowledged within it may be read
	// again after a crash.
	positionEvery = time.Second
)

func (c Config) withDefaults() Config {
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	c.MaxBytes = max(c.MaxBytes, minBytes)
	if c.MaxPendingBytes == 0 {
		c.MaxPendingBytes = 4 << 20
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(c.MaxBytes/16, maxSegmentBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// segment is a file of records with numbers that rise.
type segment struct {
	// Immutable.
	path string // empty in memory

	// Guarded by Journal.mu.
	first, last uint64 // last is 0 while there is none
	size        int64  // what may be read: whole, synced records
	file        file   // open while it is written to, and in memory always
	end         bool   // it is not written to any more
}

// Journal is the queue. Append, Sync and Stats may be called by any goroutine; Next and Ack by one, the reader; Checkpoint by one.
type Journal struct {
	// Immutable after Create or Open.
	config Config
	dir    string   // empty in memory
	lock   *os.File // nil in memory
	wake   chan struct{}
	ready  chan struct{}
	stop   chan struct{}
	done   chan struct{}

	// Owned by the writer.
	spare []byte // the buffer that is not pending

	// Owned by the reader.
	open    *segment // whose file is reader
	reader  *os.File
	buffer  []byte
	savedAt time.Time
	saved   uint64 // in the position file

	// Guarded by mu.
	mu              sync.Mutex
	synced          sync.Cond
	pending         []byte // records that are not written yet
	waiting         int    // how many those are
	next            uint64 // number of the next record
	latest          uint64 // number of the last record
	durable         uint64 // number of the last that is synced
	segments        []*segment
	at              int     // index in segments of what is read next
	offset          int64   // in it
	readSeq         uint64  // number of the last record read
	sent            uint64  // number of the last that was acknowledged
	gone            uint64  // number of the last that was acknowledged or given up
	covered         uint64  // number of the last that the checkpoint covers
	since           int64   // bytes written since the checkpoint
	checkpointBytes int64   // its size
	closed          bool    // Close was called
	lastErr         error   // of the latest attempt to write
	stats           Stats   // the counters in it
	quiet           quieter // of log lines
}

// Stats are a journal's figures.
type Stats struct {
	Records     uint64 // that wait for the reader or its acknowledgement
	Bytes       int64  // of them, headers included
	DiskBytes   int64  // of all segments
	Appended    uint64
	GivenUp     uint64 // records, because the queue was full
	NotWritten  uint64 // records, because the disk was full or too slow
	TooLarge    uint64 // records of more than MaxData
	Damaged     uint64 // places in files where a record should have been
	WriteErrors uint64
	Syncs       uint64
	Pending     int // bytes that wait for the disk
}

// quieter lets one log line of a kind through in ten seconds.
type quieter struct{ last time.Time }

func (q *quieter) may(now time.Time) bool {
	if now.Sub(q.last) < 10*time.Second {
		return false
	}
	q.last = now
	return true
}

func newJournal(c Config) *Journal {
	j := &Journal{
		config: c.withDefaults(), next: 1, wake: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	j.synced.L = &j.mu
	return j
}

// Memory returns a journal that ends with the process.
func Memory(c Config) *Journal {
	j := newJournal(c)
	go j.write()
	return j
}

// Create makes a new directory, locked, with an empty journal. Its parent is there.
func Create(dir string, c Config) (*Journal, error) {
	j := newJournal(c)
	// Under another name until it is locked: Open leaves it alone.
	temporary := filepath.Join(filepath.Dir(dir), making+filepath.Base(dir))
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return nil, err
	}
	var err error
	if j.lock, err = lock(temporary, os.O_CREATE); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temporary))
	}
	if err = os.Rename(temporary, dir); err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return nil, errors.Join(err, j.lock.Close(), os.RemoveAll(temporary))
	}
	j.dir = dir
	go j.write()
	return j, nil
}

// Append adds a record and returns its number; 0 if its data has more than MaxData bytes, or after Close. It does not wait: the record counts
// once it is synced.
func (j *Journal) Append(at int64, tag uint8, data []byte) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case len(data) > MaxData:
		j.stats.TooLarge++
		return 0
	case j.closed:
		j.stats.NotWritten++
		return 0
	}
	if len(j.pending)+minRecord+len(data) > j.config.MaxPendingBytes && j.waiting > 0 {
		j.stats.NotWritten += uint64(j.waiting)
		j.pending, j.waiting = j.pending[:0], 0
	}
	seq := j.next
	j.next, j.latest = j.next+1, seq
	j.pending = appendRecord(j.pending, Record{Seq: seq, Time: at, Tag: tag, Data: data})
	j.waiting++
	j.stats.Appended++
	if j.waiting == 1 {
		nudge(j.wake)
	}
	return seq
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Last returns the number of the latest record.
func (j *Journal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latest
}

// Sync waits until everything that was appended is synced, or given up. An error is that of the disk.
func (j *Journal) Sync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for last := j.latest; j.durable < last && j.lastErr == nil && !j.closed; {
		j.synced.Wait()
	}
	return j.lastErr
}

// Ready has a value when there may be something to read.
func (j *Journal) Ready() <-chan struct{} { return j.ready }

// Stats returns the present figures.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Pending = len(j.pending)
	s.Bytes, s.Records = j.unreadLocked(), j.latest-min(j.gone, j.latest)
	for _, seg := range j.segments {
		s.DiskBytes += seg.size
	}
	return s
}

// unreadLocked is how many bytes wait for the reader.
func (j *Journal) unreadLocked() int64 {
	n := int64(len(j.pending)) - j.offset
	for _, seg := range j.segments[min(j.at, len(j.segments)):] {
		n += seg.size
	}
	return max(n, 0)
}

// Empty reports whether everything was acknowledged or given up.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting == 0 && j.durable <= j.gone
}

// Close writes what waits and gives the directory back. It waits for the disk, not for the reader, which must have ended.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	close(j.stop)
	<-j.done
	j.closeReader()
	if j.dir == "" {
		return nil
	}
	err := j.savePosition()
	j.mu.Lock()
	for _, seg := range j.segments {
		if seg.file != nil {
			err = errors.Join(err, seg.file.Close())
		}
	}
	if j.lastErr != nil && j.waiting > 0 {
		err = errors.Join(err, fmt.Errorf("journal: %d records are lost: %w", j.waiting, j.lastErr))
	}
	j.mu.Unlock()
	return errors.Join(err, j.lock.Close())
}

// Remove is Close for a journal of which nothing is needed any more: its directory goes.
func (j *Journal) Remove() error {
	if j.dir == "" {
		return j.Close()
	}
	err := os.RemoveAll(j.dir) // the lock with it: who waits for that sees that it is no longer there
	return errors.Join(err, ignoreMissing(j.Close()))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
