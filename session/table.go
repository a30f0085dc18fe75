package session

import (
	"sync"
	"sync/atomic"
)

const (
	tableShards = 16 // a power of two
	chunkSlots  = 256
)

// Table holds all sessions of a server: id → session, without a map entry, in
// shards of slots that are never moved. A slot is 8 bytes; an id is the slot's number
// below and a generation above, so that the id of a session that is gone finds nobody.
//
// The slots also spread the heartbeats: see Table.phase. All methods may be called
// by any goroutine.
type Table struct {
	shards [tableShards]tableShard
	next   atomic.Uint32
	length atomic.Int64
}

type tableShard struct {
	// Any goroutine (atomic).
	chunks atomic.Pointer[[]*chunk] // grows by copy; the chunks stay

	// Guarded by mu.
	mu         sync.Mutex
	free       []uint32 // indexes of slots that were used before
	used       uint32   // slots below it have been used
	generation uint32

	_ [64]byte
}

type chunk [chunkSlots]atomic.Pointer[Session]

// add gives s a slot and its id.
func (t *Table) add(s *Session) {
	n := t.next.Add(1) % tableShards
	shard := &t.shards[n]
	shard.mu.Lock()
	index := shard.takeLocked()
	shard.generation++
	s.id = uint64(shard.generation)<<32 | uint64(index*tableShards+n)
	shard.slot(index).Store(s)
	shard.mu.Unlock()
	t.length.Add(1)
}

// takeLocked returns the index of a slot that is free.
func (t *tableShard) takeLocked() uint32 {
	if n := len(t.free); n > 0 {
		index := t.free[n-1]
		t.free = t.free[:n-1]
		return index
	}
	index := t.used
	t.used++
	if index%chunkSlots == 0 {
		var chunks []*chunk
		if p := t.chunks.Load(); p != nil {
			chunks = append(chunks, *p...)
		}
		chunks = append(chunks, new(chunk))
		t.chunks.Store(&chunks)
	}
	return index
}

// slot returns the slot with this index, or nil if there was never one.
func (t *tableShard) slot(index uint32) *atomic.Pointer[Session] {
	chunks := t.chunks.Load()
	if chunks == nil || int(index/chunkSlots) >= len(*chunks) {
		return nil
	}
	return &(*chunks)[index/chunkSlots][index%chunkSlots]
}

// remove gives the slot of s back, and reports whether the table is now empty.
func (t *Table) remove(s *Session) (empty bool) {
	n := uint32(s.id) % tableShards
	index := uint32(s.id) / tableShards
	shard := &t.shards[n]
	shard.mu.Lock()
	shard.slot(index).Store(nil)
	shard.free = append(shard.free, index)
	shard.mu.Unlock()
	return t.length.Add(-1) == 0
}

// Get returns the session with this id, or nil.
func (t *Table) Get(id uint64) *Session {
	slot := t.shards[uint32(id)%tableShards].slot(uint32(id) / tableShards)
	if slot == nil {
		return nil
	}
	if s := slot.Load(); s != nil && s.id == id {
		return s
	}
	return nil
}

// cursor is a place in a walk over the table.
type cursor struct{ shard, index uint32 }

// walk returns the next session of a walk, or nil at its end. What comes or goes meanwhile may be missed.
func (t *Table) walk(c *cursor) *Session {
	for ; c.shard < tableShards; c.shard, c.index = c.shard+1, 0 {
		for {
			slot := t.shards[c.shard].slot(c.index)
			if slot == nil {
				break
			}
			c.index++
			if s := slot.Load(); s != nil {
				return s
			}
		}
	}
	return nil
}

// Len returns how many sessions there are, handshakes included.
func (t *Table) Len() int { return int(t.length.Load()) }

// Range calls f for every session that was there when it began and still is.
func (t *Table) Range(f func(*Session)) { t.phase(0, 1, f) }

// phase calls f for the sessions whose slot belongs to phase n of count: one after
// another, the phases 0 to count-1 touch each session once, evenly.
func (t *Table) phase(n, count uint32, f func(*Session)) {
	for i := range t.shards {
		shard := &t.shards[i]
		// Each shard begins elsewhere, else few sessions would all be in the first phases.
		first := (n + uint32(i)*count/tableShards) % count
		for index := first; ; index += count {
			slot := shard.slot(index)
			if slot == nil {
				break
			}
			if s := slot.Load(); s != nil {
				f(s)
			}
		}
	}
}
