package events

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/millpond/millpond/push/events/journal"
)

// adoptEvery is how often directories are looked for that another process has left, as one does that drained.
const adoptEvery = 5 * time.Second

// adopt takes over the journals of processes that are gone.
func (s *sender) adopt() {
	if s.config.Dir == "" {
		return
	}
	dirs, err := journal.Abandoned(s.config.Dir, s.own.dir)
	if err != nil {
		s.config.Logger.Warn("events: journals of processes that are gone", "error", err)
		return
	}
	for _, dir := range dirs {
		if slices.ContainsFunc(s.adopted, func(a source) bool { return a.dir == dir }) {
			continue
		}
		a, err := s.adoptOne(dir)
		switch {
		case errors.Is(err, journal.ErrLocked) || errors.Is(err, fs.ErrNotExist): // its process runs, or another has adopted it
		case err != nil:
			if !slices.Contains(s.broken, dir) { // it is tried again, in silence
				s.broken = append(s.broken, dir)
				s.config.Logger.Error("events: a journal of a process that is gone", "directory", dir, "error", err)
			}
		default:
			s.adopted = append(s.adopted, a)
			slices.SortFunc(s.adopted, func(a, b source) int { return cmp.Compare(a.dir, b.dir) })
			s.waiting.Store(int64(len(s.adopted)))
		}
	}
}

// adoptOne opens a journal and says in it that everything is over that was going on when its process ended.
func (s *sender) adoptOne(dir string) (source, error) {
	open := map[subject]Body{}
	j, err := journal.Open(dir, journal.Config{MaxBytes: s.config.QueueBytes, Logger: s.config.Logger}, func(r journal.Record) {
		var b Body
		if err := json.Unmarshal(r.Data, &b); err != nil {
			return // sound, and not ours: a later version's
		}
		if r.Tag == opens {
			open[b.subject()] = b
		} else if b.Type != CacheMiss {
			delete(open, b.subject())
		}
	})
	if err != nil {
		return source{}, err
	}
	over := slices.Collect(maps.Values(open))
	slices.SortFunc(over, func(a, b Body) int { // members leave before their channel is vacated
		return cmp.Or(-cmp.Compare(a.Type, b.Type), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.User, b.User), cmp.Compare(a.Client, b.Client))
	})
	now := time.Now().UnixNano()
	for _, b := range over {
		j.Append(now, 0, b.closing().encode())
	}
	if len(over) > 0 {
		err = j.Sync()
	}
	if err == nil {
		err = j.Checkpoint(j.Last(), func(func(uint8, []byte) error) error { return nil })
	}
	if err != nil {
		return source{}, errors.Join(err, j.Close())
	}
	s.mu.Lock()
	s.figures.Inferred += uint64(len(over))
	s.figures.Damaged += j.Stats().Damaged
	s.mu.Unlock()
	a := source{journal: j, node: nodeOf(dir), dir: dir}
	s.config.Logger.Info("events: adopted the journal of a process that is gone", "node", a.node, "directory", filepath.Base(dir),
		"events", j.Stats().Records, "inferred", len(over))
	return a, nil
}
