package poller

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Policy says what happens to a buffer for which a full queue has no room.
type Policy uint8

// The policies. A buffer of which the kernel has already taken a part is never
// dropped, because the stream would be broken; nor is a pinned one.
const (
	// Reject keeps the queue as it is and reports ErrQueueFull.
	Reject Policy = iota
	// DropOldest drops waiting buffers, oldest first, until the new one fits. One that
	// would not fit even then is dropped itself, and nothing else.
	DropOldest
	// DropNewest drops the new buffer.
	DropNewest
	// Latest replaces the waiting buffer that has the same key, in a full queue too.
	// It is rejected when there is no such buffer and no room, or when it is longer
	// than the one it would replace and the queue too small for the difference.
	Latest
)

// Out says how one send is to be treated if it has to wait.
type Out struct {
	Policy Policy
	// Pinned buffers are never dropped and always find room. The caller bounds
	// them: either by their number or by a Key, of which only the newest waits.
	Pinned bool
	// Key names what the buffer is about, for Latest and Pinned. Zero is no key.
	Key uint64
}

// Limits bound what may wait in one connection's queue. A queue that is empty takes
// one buffer of any size, so that a message longer than the bound can leave.
type Limits struct {
	Bytes   int // Zero means 256 KiB.
	Buffers int // Zero means 1024.
}

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 256 << 10
	}
	if l.Buffers <= 0 {
		l.Buffers = 1024
	}
	return l
}

// waiting is one buffer of the queue, by reference.
type waiting struct {
	b      []byte
	key    uint64
	since  time.Duration // on the monotonic clock of now()
	pinned bool
}

// queue holds what the kernel has not taken yet, in order. A connection has one
// only while something waits. Guarded by its connection's mu.
type queue struct {
	items []waiting
	sent  int // bytes of items[0] that the kernel has taken
	bytes int // of all items, less sent
}

var queues = sync.Pool{New: func() any { return &queue{items: make([]waiting, 0, 8)} }}

// maxPooledItems keeps a queue that once was long from staying so for ever.
const maxPooledItems = 64

func (q *queue) release() {
	if cap(q.items) > maxPooledItems {
		return
	}
	clear(q.items[:cap(q.items)])
	q.items, q.sent, q.bytes = q.items[:0], 0, 0
	queues.Put(q)
}

// push appends b, which is kept by reference, within lim. dropped counts the
// buffers given up, b itself included; err is ErrQueueFull when b was refused.
func (q *queue) push(b []byte, o Out, lim Limits) (dropped int, err error) {
	if o.Key != 0 && (o.Pinned || o.Policy == Latest) {
		if i := q.find(o.Key, o.Pinned); i >= 0 {
			if !o.Pinned && !q.fitsInstead(len(b), len(q.items[i].b), lim) {
				return 0, ErrQueueFull
			}
			q.bytes += len(b) - len(q.items[i].b)
			q.items[i].b = b
			return 1, nil
		}
	}
	if !o.Pinned && !q.fits(len(b), lim) {
		switch o.Policy {
		case DropNewest:
			return 1, nil
		case DropOldest:
			if !q.canFit(len(b), lim) {
				return 1, nil
			}
			dropped = q.dropOldest(len(b), lim)
		default:
			return 0, ErrQueueFull
		}
	}
	q.items = append(q.items, waiting{b: b, key: o.Key, since: now(), pinned: o.Pinned})
	q.bytes += len(b)
	return dropped, nil
}

func (q *queue) fits(n int, lim Limits) bool {
	return len(q.items) == 0 || (q.bytes+n <= lim.Bytes && len(q.items) < lim.Buffers)
}

// fitsInstead is fits for n bytes that replace a buffer of old bytes.
func (q *queue) fitsInstead(n, old int, lim Limits) bool {
	return n <= old || len(q.items) == 1 || q.bytes+n-old <= lim.Bytes
}

// canFit reports whether n bytes fit once all is dropped that may be: what is pinned
// or half sent stays.
func (q *queue) canFit(n int, lim Limits) bool {
	bytes, buffers := 0, 0
	for i, w := range q.items {
		switch {
		case i == 0 && q.sent > 0:
			bytes += len(w.b) - q.sent
		case w.pinned:
			bytes += len(w.b)
		default:
			continue
		}
		buffers++
	}
	return buffers == 0 || (bytes+n <= lim.Bytes && buffers < lim.Buffers)
}

// find returns the index of the waiting buffer with this key, and as pinned, that
// is still whole, or -1.
func (q *queue) find(key uint64, pinned bool) int {
	for i := len(q.items) - 1; i >= 0; i-- {
		if q.items[i].key == key && q.items[i].pinned == pinned && (i > 0 || q.sent == 0) {
			return i
		}
	}
	return -1
}

// dropOldest drops whole, unpinned buffers, oldest first, until n bytes fit.
func (q *queue) dropOldest(n int, lim Limits) (dropped int) {
	kept := q.items[:0]
	for i, w := range q.items {
		over := q.bytes+n > lim.Bytes || len(q.items)-dropped >= lim.Buffers
		if over && !w.pinned && (i > 0 || q.sent == 0) {
			q.bytes -= len(w.b)
			dropped++
			continue
		}
		kept = append(kept, w)
	}
	clear(q.items[len(kept):])
	q.items = kept
	return dropped
}

// dropWhole drops everything of which the kernel has not taken a part.
func (q *queue) dropWhole() {
	kept := 0
	if q.sent > 0 {
		kept = 1
	}
	for _, w := range q.items[kept:] {
		q.bytes -= len(w.b)
	}
	clear(q.items[kept:])
	q.items = q.items[:kept]
}

// vec fills v with the head of the queue and returns how many entries it used.
func (q *queue) vec(v *[maxVec]unix.Iovec) int {
	n := 0
	for i := range q.items {
		b := q.items[i].b
		if i == 0 {
			b = b[q.sent:]
		}
		if n == maxVec {
			break
		}
		v[n].Base = &b[0]
		v[n].SetLen(len(b))
		n++
	}
	return n
}

// advance takes n bytes that the kernel has accepted off the head.
func (q *queue) advance(n int) {
	q.bytes -= n
	n += q.sent
	i := 0
	for i < len(q.items) && n >= len(q.items[i].b) {
		n -= len(q.items[i].b)
		i++
	}
	q.sent = n
	if i > 0 {
		rest := copy(q.items, q.items[i:])
		clear(q.items[rest:])
		q.items = q.items[:rest]
	}
}

var start = time.Now()

// now is the time since the program began, on the monotonic clock.
func now() time.Duration { return time.Since(start) }
