package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// RecordsConfig says what Records are made of. Log, Apply, Own and Logger must be set.
type RecordsConfig struct {
	Log Log

	// Apply takes a record in that came from the log, one at a time; it may block. An error is logged and counted.
	Apply func(record []byte) error

	// Own returns the records that this node has; what the log has not is put there.
	Own func() []Record

	// Retry is the time after which is tried again what has failed. Zero means 2 s. Refresh is the time after which the log is
	// read from its beginning again, since it may have been lost and made anew. Zero means 10 min.
	Retry   time.Duration
	Refresh time.Duration

	// MaxRecordBytes bounds a record. Zero means 4 KiB. MaxPending bounds those that wait for the log. Zero means 100,000.
	MaxRecordBytes int
	MaxPending     int

	Logger *slog.Logger
}

// Record is something that all nodes have to know, also those that are away now or start later.
type Record struct {
	Data  []byte
	Until time.Time // when it may be forgotten; zero is never
}

// ErrPending says that the log did not take a record yet: it is put again until it does, while the process lives.
var ErrPending = errors.New("it does not last in the cluster yet")

// Records keep a node's knowledge and the log in step. The methods may be called by any goroutine.
type Records struct {
	// Immutable after FollowRecords.
	config RecordsConfig
	stop   context.CancelFunc
	synced chan struct{} // closed when all records of the log are known for the first time
	ended  sync.WaitGroup
	wake   chan struct{} // has one entry when something is pending

	// Guarded by mu.
	mu      sync.Mutex
	pending map[string]Record

	// Any goroutine (atomic).
	put, failed, applied, refused, restarts atomic.Uint64
}

// FollowRecords begins to follow the log.
func FollowRecords(c RecordsConfig) *Records {
	c.Retry = cmp.Or(c.Retry, 2*time.Second)
	c.Refresh = cmp.Or(c.Refresh, 10*time.Minute)
	c.MaxRecordBytes = cmp.Or(c.MaxRecordBytes, 4<<10)
	c.MaxPending = cmp.Or(c.MaxPending, 100_000)
	ctx, stop := context.WithCancel(context.Background())
	r := &Records{config: c, stop: stop, synced: make(chan struct{}), wake: make(chan struct{}, 1), pending: map[string]Record{}}
	r.ended.Go(func() { r.follow(ctx) })
	r.ended.Go(func() { r.putPending(ctx) })
	return r
}

// Close ends it. Records that the log has not taken are for the next process, if this node keeps them.
func (r *Records) Close() {
	r.stop()
	r.ended.Wait()
}

// Synced is closed once this node knows all that the log had.
func (r *Records) Synced() <-chan struct{} { return r.synced }

// Add puts a record into the log. With ErrPending that is still to come.
func (r *Records) Add(ctx context.Context, record Record) error {
	if len(record.Data) > r.config.MaxRecordBytes {
		return fmt.Errorf("cluster: a record of %d bytes is larger than %d", len(record.Data), r.config.MaxRecordBytes)
	}
	key := keyOf(record.Data)
	err := r.config.Log.Put(ctx, key, record.Data, record.Until)
	if err == nil {
		r.put.Add(1)
		return nil
	}
	r.failed.Add(1)
	if !r.postpone(key, record) {
		return fmt.Errorf("cluster: as many records wait for the log as may: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrPending, err)
}

// keyOf names a record by its content.
func keyOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (r *Records) postpone(key string, record Record) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, found := r.pending[key]; !found && len(r.pending) >= r.config.MaxPending {
		return false
	}
	r.pending[key] = record
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

// follow follows the log until ctx ends.
func (r *Records) follow(ctx context.Context) {
	logged := false
	for ctx.Err() == nil {
		seen := map[string]struct{}{} // keys; nil once the log is known
		reading, cancel := context.WithTimeout(ctx, r.config.Refresh)
		err := r.config.Log.Follow(reading, func(data []byte) {
			if seen != nil {
				seen[keyOf(data)] = struct{}{}
			}
			r.apply(data)
		}, func() {
			r.caughtUp(seen)
			seen, logged = nil, false
		})
		over := reading.Err() != nil
		if cancel(); ctx.Err() != nil {
			return
		}
		if over && seen == nil {
			continue
		}
		r.restarts.Add(1)
		if !logged { // once until it works again
			r.config.Logger.Warn("the cluster's log cannot be read; it is tried again", "error", err)
			logged = true
		}
		sleep(ctx, r.config.Retry)
	}
}

func (r *Records) apply(data []byte) {
	var err error
	if len(data) > r.config.MaxRecordBytes {
		err = fmt.Errorf("it has %d bytes, more than %d", len(data), r.config.MaxRecordBytes)
	} else {
		err = r.config.Apply(data)
	}
	if err == nil {
		r.applied.Add(1)
		return
	}
	r.refused.Add(1)
	r.config.Logger.Error("a record of the cluster's log is not taken in", "record", clip(string(data)), "error", err)
}

// caughtUp gives the log what this node alone has.
func (r *Records) caughtUp(seen map[string]struct{}) {
	for _, own := range r.config.Own() {
		key := keyOf(own.Data)
		if _, found := seen[key]; !found && !r.postpone(key, own) {
			r.config.Logger.Error("a record of this node's does not fit among those that wait for the log")
			break
		}
	}
	select {
	case <-r.synced:
	default:
		close(r.synced)
	}
}

// putPending puts what the log has not taken yet.
func (r *Records) putPending(ctx context.Context) {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		for !r.putAll(ctx) {
			if sleep(ctx, r.config.Retry); ctx.Err() != nil {
				return
			}
		}
	}
}

// putAll puts all that waits, and reports whether the log took it.
func (r *Records) putAll(ctx context.Context) bool {
	r.mu.Lock()
	keys := make([]string, 0, len(r.pending))
	for key := range r.pending {
		keys = append(keys, key)
	}
	r.mu.Unlock()
	slices.Sort(keys)
	for _, key := range keys {
		r.mu.Lock()
		record := r.pending[key]
		r.mu.Unlock()
		bounded, cancel := context.WithTimeout(ctx, putTimeout)
		err := r.config.Log.Put(bounded, key, record.Data, record.Until)
		cancel()
		if err != nil {
			r.failed.Add(1)
			return false
		}
		r.put.Add(1)
		r.mu.Lock()
		delete(r.pending, key)
		r.mu.Unlock()
	}
	return true
}

// putTimeout bounds one attempt of those that nobody waits for.
const putTimeout = 5 * time.Second

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// RecordsStats are figures of Records since FollowRecords.
type RecordsStats struct {
	Put      uint64 // records that the log took
	Failed   uint64 // attempts to put one that failed
	Applied  uint64 // records that came
	Refused  uint64 // of those that came: not taken in
	Restarts uint64 // times that the log could not be followed any more
	Pending  int    // records that wait for the log
	Synced   bool
}

// Stats returns the present figures.
func (r *Records) Stats() RecordsStats {
	r.mu.Lock()
	pending := len(r.pending)
	r.mu.Unlock()
	s := RecordsStats{
		Put: r.put.Load(), Failed: r.failed.Load(), Applied: r.applied.Load(), Refused: r.refused.Load(), Restarts: r.restarts.Load(), Pending: pending,
	}
	select {
	case <-r.synced:
		s.Synced = true
	default:
	}
	return s
}
