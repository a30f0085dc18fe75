package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// Open locks a directory that another process has left and reads what is in it: each gets the records of the checkpoint, and then
// those that came after it. What is damaged is skipped. The error is ErrLocked if another process has it.
func Open(dir string, c Config, each func(Record)) (*Journal, error) {
	j := newJournal(c)
	var err error
	if j.lock, err = lock(dir, 0); err != nil {
		return nil, err
	}
	j.dir = dir
	if err = j.load(each); err != nil {
		return nil, errors.Join(err, j.lock.Close())
	}
	go j.write()
	return j, nil
}

func (j *Journal) load(each func(Record)) error {
	p, err := j.loadPosition()
	if err != nil {
		return err
	}
	if err := j.loadCheckpoint(each); err != nil {
		return err
	}
	entries, err := os.ReadDir(j.dir) // in the order of names
	if err != nil {
		return err
	}
	last := max(p.Sent, p.Gone, j.covered)
	uncertain := uint64(0) // numbers that may have been given to what is damaged
	for _, entry := range entries {
		first, ok := firstOf(entry.Name())
		if !ok {
			continue
		}
		seg := &segment{path: filepath.Join(j.dir, entry.Name()), first: first}
		rest, err := j.scan(seg, func(r Record) {
			last = max(last, r.Seq)
			if r.Seq > j.covered {
				each(r)
			}
		})
		if err != nil {
			return err
		}
		last = max(last, first-1)
		if rest > 0 || seg.size == 0 {
			uncertain += uint64(max(int64(rest), j.config.SegmentBytes)) / minRecord
		}
		j.segments = append(j.segments, seg)
	}
	// A number must never mean two records, one of which has been sent.
	j.next = last + uncertain + 1
	j.latest, j.durable, j.sent, j.gone, j.readSeq = last, last, p.Sent, p.Gone, max(p.Sent, p.Gone)
	for j.at < len(j.segments)-1 && j.segments[j.at].last <= j.gone {
		j.at++
	}
	if len(j.segments) > 0 {
		nudge(j.ready)
	}
	return nil
}

// scan reads a whole segment, notes its last record and the size up to there, and returns how many bytes are behind.
func (j *Journal) scan(seg *segment, each func(Record)) (rest int, err error) {
	b, err := os.ReadFile(seg.path)
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(b) {
		r, size, err := parseRecord(b[n:])
		if err != nil || size == 0 || n == 0 && r.Seq != seg.first {
			break
		}
		n += size
		if r.Seq <= seg.last {
			continue
		}
		seg.last = r.Seq
		each(r)
	}
	seg.size, seg.last = int64(n), max(seg.last, seg.first-1)
	if rest = len(b) - n; rest > 0 || n == 0 {
		j.stats.Damaged++
		j.config.Logger.Error("journal: a torn or damaged segment; its rest is skipped", "file", seg.path, "offset", n, "bytes", rest)
	}
	return rest, nil
}

// loadPosition reads the file; one that is not there or not to be understood is the begin: then records are read again.
func (j *Journal) loadPosition() (p position, err error) {
	b, err := os.ReadFile(filepath.Join(j.dir, positionName))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Sent > p.Gone {
		j.stats.Damaged++
		j.config.Logger.Error("journal: a damaged position; records will be read again", "directory", j.dir, "error", err)
		return position{}, nil
	}
	return p, nil
}

// checkpointHead is the data of the first record of a checkpoint.
type checkpointHead struct {
	Covers uint64 `json:"covers"`
}

func (j *Journal) loadCheckpoint(each func(Record)) error {
	b, err := os.ReadFile(filepath.Join(j.dir, checkpointName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var head checkpointHead
	first, n, err := parseRecord(b)
	if err == nil && n > 0 {
		err = json.Unmarshal(first.Data, &head)
	}
	for n > 0 && err == nil && n < len(b) {
		r, size, wrong := parseRecord(b[n:])
		if err = wrong; err != nil || size == 0 {
			break
		}
		n += size
		each(r)
	}
	if err != nil || n < len(b) || n == 0 {
		j.stats.Damaged++
		j.config.Logger.Error("journal: a damaged checkpoint; its rest is skipped", "directory", j.dir, "offset", n, "error", err)
	}
	j.covered = head.Covers
	return nil
}

// CheckpointDue reports whether so much was written since the last checkpoint that another pays.
func (j *Journal) CheckpointDue() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dir != "" && j.since >= max(j.config.SegmentBytes, j.checkpointBytes)
}

// Checkpoint replaces the records up to the number covers, for a later Open, by those that add is given. The records behind covers
// are applied to them: it does not matter if what they change is in there already. What was appended until now is
// synced before the checkpoint counts.
func (j *Journal) Checkpoint(covers uint64, fill func(add func(tag uint8, data []byte) error) error) (err error) {
	f, err := renameio.NewPendingFile(filepath.Join(j.dir, checkpointName), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	w := bufio.NewWriterSize(f, 64<<10)
	head, err := json.Marshal(checkpointHead{Covers: covers})
	if err != nil {
		return err
	}
	var buffer []byte
	size := int64(0)
	add := func(tag uint8, data []byte) error {
		buffer = appendRecord(buffer[:0], Record{Tag: tag, Data: data})
		size += int64(len(buffer))
		_, err := w.Write(buffer)
		return err
	}
	if err := errors.Join(add(0, head), fill(add), w.Flush()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := errors.Join(j.Sync(), f.CloseAtomicallyReplace()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	j.mu.Lock()
	j.covered, j.since, j.checkpointBytes = max(j.covered, covers), 0, size
	removed := j.removableLocked()
	j.mu.Unlock()
	j.remove(removed)
	return nil
}

// Abandoned lists the directories in parent that hold a journal, the oldest name first, except own.
func Abandoned(parent, own string) ([]string, error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() || name[0] == '.' || name == filepath.Base(own) {
			continue
		}
		dirs = append(dirs, filepath.Join(parent, name))
	}
	slices.Sort(dirs)
	return dirs, nil
}
