package journal

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Next returns the records after those that it returned before, as many as there are and no more than maxRecords and maxBytes, but for one
// that is larger alone. They are valid until the next call.
func (j *Journal) Next(maxRecords, maxBytes int) []Record {
	for {
		seg, offset, size := j.cursor()
		if seg == nil {
			return nil
		}
		records, n, err := j.read(seg, offset, size, maxRecords, maxBytes)
		if err != nil {
			j.damaged(seg, offset+int64(n), err)
		}
		moved := j.advance(seg, offset+int64(n), records, err != nil)
		if moved && len(records) > 0 {
			return records
		}
	}
}

// cursor returns where to read: the segment, and up to which offset. The segment is nil if there is nothing.
func (j *Journal) cursor() (seg *segment, offset, size int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ; j.at < len(j.segments); j.at, j.offset = j.at+1, 0 {
		seg = j.segments[j.at]
		if j.offset < seg.size {
			return seg, j.offset, seg.size
		}
		if !seg.sealed() || j.at == len(j.segments)-1 {
			break
		}
	}
	return nil, 0, 0
}

// advance notes what was read of a segment. It reports false if that was given up meanwhile.
func (j *Journal) advance(seg *segment, offset int64, records []Record, skip bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.at >= len(j.segments) || j.segments[j.at] != seg {
		return false
	}
	if j.offset = offset; skip {
		j.offset = seg.size
	}
	if n := len(records); n > 0 {
		j.readSeq = records[n-1].Seq
	}
	return true
}

// read reads records of a segment and returns how many bytes they take. An error is of what comes behind them.
func (j *Journal) read(seg *segment, offset, size int64, maxRecords, maxBytes int) (records []Record, n int, err error) {
	source, err := j.source(seg)
	if err != nil {
		return nil, 0, err
	}
	want := int(min(size-offset, int64(maxBytes)))
	for {
		if cap(j.buffer) < want {
			j.buffer = make([]byte, want)
		}
		b := j.buffer[:want]
		if read, err := source.ReadAt(b, offset); read < want {
			b = b[:read]
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			records, n, _ = parse(b, maxRecords, j.readAfter())
			return records, n, err
		}
		records, n, err = parse(b, maxRecords, j.readAfter())
		switch {
		case err != nil || n > 0:
			return records, n, err
		case int64(want) == size-offset:
			return nil, 0, errDamaged // torn within what was synced
		}
		want = int(min(size-offset, minRecord+MaxData)) // one large record
	}
}

func (j *Journal) readAfter() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.readSeq
}

// parse returns the whole records in b with a number above after, and how many bytes they and the others before them take.
func parse(b []byte, maxRecords int, after uint64) (records []Record, n int, err error) {
	for len(records) < maxRecords {
		r, size, err := parseRecord(b[n:])
		if err != nil || size == 0 {
			return records, n, err
		}
		n += size
		if r.Seq > after {
			records, after = append(records, r), r.Seq
		}
	}
	return records, n, nil
}

// source returns what the segment is read from.
func (j *Journal) source(seg *segment) (io.ReaderAt, error) {
	if seg.path == "" {
		return seg.file, nil
	}
	if j.open != seg {
		j.closeReader()
		f, err := os.Open(seg.path)
		if err != nil {
			return nil, err
		}
		j.open, j.reader = seg, f
	}
	return j.reader, nil
}

func (j *Journal) closeReader() {
	if j.reader != nil {
		_ = j.reader.Close() // it was read alone
	}
	j.open, j.reader = nil, nil
}

// damaged counts and logs that the rest of a segment is skipped.
func (j *Journal) damaged(seg *segment, offset int64, err error) {
	j.mu.Lock()
	j.stats.Damaged++
	rest := seg.size - offset
	j.mu.Unlock()
	j.config.Logger.Error("journal: a damaged segment; its rest is skipped", "file", seg.path, "offset", offset, "bytes", rest, "error", err)
}

// Ack notes that the reader needs no record up to seq any more.
func (j *Journal) Ack(seq uint64) {
	j.mu.Lock()
	j.sent, j.gone = max(j.sent, seq), max(j.gone, seq)
	removed := j.removableLocked()
	finished := j.durable <= j.gone
	j.mu.Unlock()
	j.remove(removed)
	if now := time.Now(); j.dir != "" && (finished || now.Sub(j.savedAt) >= positionEvery) {
		j.savedAt = now
		if err := j.savePosition(); err != nil {
			j.config.Logger.Warn("journal: the position was not written; records may be read again after a restart", "error", err)
		}
	}
}

// Sent returns the number of the last record that was acknowledged.
func (j *Journal) Sent() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sent
}

// position is the content of that file.
type position struct {
	Sent uint64 `json:"sent"`
	Gone uint64 `json:"gone"`
}

func (j *Journal) savePosition() error {
	j.mu.Lock()
	p := position{j.sent, j.gone}
	j.mu.Unlock()
	if p.Gone == j.saved {
		return nil
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(j.dir, positionName), append(b, '\n'), 0o600)
	}
	if err == nil {
		j.saved = p.Gone
	}
	return err
}
