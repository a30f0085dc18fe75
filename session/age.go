package session

import (
	"sync"
	"time"
)

// ages tell about when a session was accepted, without a byte for each: ids of a shard of the Table grow, and now and then the newest of them
// are noted.
type ages struct {
	// Guarded by mu.
	mu    sync.Mutex
	marks []mark // oldest first
}

// mark is how far the ids had come at a time.
type mark struct {
	at          time.Time
	generations [tableShards]uint32
}

// maxMarks bounds them, at 88 bytes each.
const maxMarks = 1024

// thinLocked leaves out marks that lie closer together than accuracy asks for: within 1/64 of their age, or more if they are still too many.
func (a *ages) thinLocked(now time.Time) {
	for share := time.Duration(64); len(a.marks) > maxMarks*3/4 && share > 0; share /= 2 {
		kept := a.marks[:1]
		for i := 1; i < len(a.marks)-1; i++ {
			m, last := a.marks[i], kept[len(kept)-1]
			if a.marks[i+1].at.Sub(last.at) > now.Sub(m.at)/share {
				kept = append(kept, m)
			}
		}
		a.marks = append(kept, a.marks[len(a.marks)-1])
	}
}

// note adds a mark, if there were sessions since the one before.
func (a *ages) note(t *Table, now time.Time) {
	m := mark{at: now}
	for i := range t.shards {
		t.shards[i].mu.Lock()
		m.generations[i] = t.shards[i].generation
		t.shards[i].mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.marks); n > 0 && a.marks[n-1].generations == m.generations {
		return
	}
	a.marks = append(a.marks, m)
	if len(a.marks) >= maxMarks {
		a.thinLocked(now)
	}
}

// of returns when the session with an id was accepted, or a little later; now if that was since the last mark.
func (a *ages) of(id uint64, now time.Time) time.Time {
	shard, generation := uint32(id)%tableShards, uint32(id>>32)
	a.mu.Lock()
	defer a.mu.Unlock()
	low, high := 0, len(a.marks)
	for low < high { // the first mark that has seen it
		middle := (low + high) / 2
		if int32(a.marks[middle].generations[shard]-generation) >= 0 { // it wraps around
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == len(a.marks) {
		return now
	}
	return a.marks[low].at
}

// Accepted returns about when the session was: a second or two late, for one that is old 1/64 of its age. Nothing is kept for it in the session.
func (s *Session) Accepted() time.Time { return s.srv.ages.of(s.id, time.Now()) }
