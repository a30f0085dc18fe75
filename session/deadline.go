package session

import "sync"

// deadlines is a queue of sessions that must have got somewhere by a tick. All
// entries of one queue are added with the same delay, so they expire in the order in
// which they came: a queue does what a heap of timers would. A session that is done in time
// stays in the queue, and is no longer found in the Table or no longer in the state
// that matters.
type deadlines struct {
	// Guarded by mu.
	mu      sync.Mutex
	entries []deadline
	head    int
	settled int // entries below it have been looked at by settle
}

type deadline struct {
	id uint64
	at uint32 // tick
}

func (d *deadlines) add(id uint64, at uint32) {
	d.mu.Lock()
	d.entries = append(d.entries, deadline{id, at})
	d.mu.Unlock()
}

// expired takes out the next entry whose tick has come.
func (d *deadlines) expired(now uint32) (id uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head == len(d.entries) || int32(d.entries[d.head].at-now) > 0 {
		d.compactLocked()
		return 0, false
	}
	d.head++
	d.settled = max(d.settled, d.head)
	return d.entries[d.head-1].id, true
}

// settle drops the entries added since the last call that are of no interest any more,
// so that a queue to which every connection is added is as long as what is unfinished,
// not as what came within its delay.
func (d *deadlines) settle(keep func(id uint64) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.entries[:d.settled]
	for _, e := range d.entries[d.settled:] {
		if keep(e.id) {
			kept = append(kept, e)
		}
	}
	d.entries = kept
	d.settled = len(kept)
	if cap(d.entries) > 4*len(d.entries)+minDeadlines {
		d.entries = append(make([]deadline, 0, 2*len(kept)), kept...)
	}
}

// minDeadlines is the room for entries that is not worth giving back.
const minDeadlines = 1024

// compactLocked gives back what has expired: all of the memory when the queue is
// empty, for a storm may have made it long.
func (d *deadlines) compactLocked() {
	switch rest := len(d.entries) - d.head; {
	case rest == 0 && cap(d.entries) > minDeadlines:
		d.entries, d.head, d.settled = nil, 0, 0
	case rest == 0:
		d.entries, d.head, d.settled = d.entries[:0], 0, 0
	case d.head > rest:
		d.settled = max(d.settled-d.head, 0)
		d.entries, d.head = append([]deadline(nil), d.entries[d.head:]...), 0
	}
}
