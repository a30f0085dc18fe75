package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// write is the goroutine that writes and syncs, until Close.
func (j *Journal) write() {
	defer close(j.done)
	for {
		select {
		case <-j.wake:
		case <-j.stop:
			j.commit()
			return
		}
		wait := j.config.SyncInterval
		if !j.commit() {
			wait = retryAfter
			nudge(j.wake)
		}
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-j.stop:
			timer.Stop()
		}
	}
}

// commit writes everything that is pending and syncs it. If it cannot, all of that is pending again.
func (j *Journal) commit() (ok bool) {
	j.mu.Lock()
	batch, waiting, last := j.pending, j.waiting, j.latest
	if waiting == 0 {
		j.mu.Unlock()
		return true
	}
	j.pending, j.waiting = j.spare[:0], 0
	j.mu.Unlock()

	seg, err := j.current(batch)
	if err == nil {
		err = put(seg, batch)
	}
	j.mu.Lock()
	j.lastErr = err
	if err != nil {
		j.stats.WriteErrors++
		j.sealLocked() // what is in it now is uncertain; its size is not
		j.restoreLocked(batch, waiting)
		may := j.quiet.may(time.Now())
		j.synced.Broadcast()
		j.mu.Unlock()
		if may {
			j.config.Logger.Error("journal: records wait in memory", "directory", j.dir, "bytes", len(batch), "error", err)
		}
		return false
	}
	j.stats.Syncs++
	seg.last, seg.size = last, seg.size+int64(len(batch))
	j.since += int64(len(batch))
	j.durable = last
	if seg.size >= j.config.SegmentBytes {
		j.sealLocked()
	}
	j.boundLocked()
	removed := j.removableLocked()
	j.synced.Broadcast()
	j.mu.Unlock()
	if j.spare = batch[:0]; cap(batch) > j.config.MaxPendingBytes/4 { // what a storm has left
		j.spare = nil
	}
	j.remove(removed)
	nudge(j.ready)
	return true
}

// put adds b to the segment's file and syncs it; on an error the file is as it was, if that can be had.
func put(seg *segment, b []byte) error {
	_, err := seg.file.Write(b)
	if err == nil {
		err = seg.file.Sync()
	}
	if err != nil {
		return errors.Join(err, seg.file.Truncate(seg.size))
	}
	return nil
}

// restoreLocked puts what could not be written back before what has come since. Too much of it is given up.
func (j *Journal) restoreLocked(batch []byte, waiting int) {
	if len(batch)+len(j.pending) > j.config.MaxPendingBytes {
		j.stats.NotWritten += uint64(waiting)
		j.spare = batch[:0]
		return
	}
	j.spare = j.pending[:0]
	j.pending, j.waiting = append(batch, j.pending...), j.waiting+waiting
}

// current returns the segment to write to; the next one begins with batch.
func (j *Journal) current(batch []byte) (*segment, error) {
	j.mu.Lock()
	if n := len(j.segments); n > 0 && !j.segments[n-1].sealed() {
		defer j.mu.Unlock()
		return j.segments[n-1], nil
	}
	j.mu.Unlock()
	first, _, err := parseRecord(batch)
	if err != nil {
		panic(fmt.Sprintf("journal: a record of our own: %v", err))
	}
	seg := &segment{first: first.Seq}
	if j.dir == "" {
		seg.file = &memoryFile{}
	} else {
		seg.path = filepath.Join(j.dir, segmentName(seg.first))
		// Truncated: an attempt that failed may have left it.
		f, err := os.OpenFile(seg.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syncDir(j.dir); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		seg.file = f
	}
	j.mu.Lock()
	j.segments = append(j.segments, seg)
	j.mu.Unlock()
	return seg, nil
}

func (s *segment) sealed() bool { return s.file == nil || s.end }

// sealLocked ends the segment that is written to.
func (j *Journal) sealLocked() {
	n := len(j.segments)
	if n == 0 || j.segments[n-1].sealed() {
		return
	}
	seg := j.segments[n-1]
	seg.end = true
	if seg.path != "" {
		_ = seg.file.Close() // it is synced
		seg.file = nil
	}
	if seg.last == 0 { // nothing ever came into it; the next one may have its name
		j.segments = j.segments[:n-1]
		j.at = min(j.at, len(j.segments))
	}
}

// boundLocked gives up the oldest segments while there is too much.
func (j *Journal) boundLocked() {
	for j.at < len(j.segments)-1 && j.unreadLocked() > j.config.MaxBytes {
		seg := j.segments[j.at]
		if lost := seg.last - min(seg.last, max(j.readSeq, j.gone)); lost > 0 {
			j.stats.GivenUp += lost
			if j.quiet.may(time.Now()) {
				j.config.Logger.Error("journal: the queue is full, so its oldest records are given up",
					"directory", j.dir, "records", lost, "max_bytes", j.config.MaxBytes)
			}
		}
		j.gone = max(j.gone, seg.last)
		j.at, j.offset = j.at+1, 0
	}
}

// removableLocked takes out the segments that nobody needs: acknowledged or given up, and covered by a checkpoint. Those are
// removed without one too if the disk would fill otherwise.
func (j *Journal) removableLocked() (removed []*segment) {
	total := int64(0)
	for _, seg := range j.segments {
		total += seg.size
	}
	for j.at > 0 {
		seg := j.segments[0]
		covered := j.dir == "" || seg.last <= j.covered || total > 2*j.config.MaxBytes
		if !seg.sealed() || seg.last > j.gone || !covered {
			break
		}
		total -= seg.size
		removed = append(removed, seg)
		j.segments = j.segments[1:]
		j.at--
	}
	return removed
}

func (j *Journal) remove(segments []*segment) {
	for _, seg := range segments {
		if seg.path == "" {
			continue
		}
		if err := os.Remove(seg.path); err != nil {
			j.config.Logger.Warn("journal: a segment stays", "error", err)
		}
	}
}
