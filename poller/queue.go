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
	// Apart does not count a pinned buffer's bytes against the bound of the others, so that a long answer on its way to
	// a slow client does not make it too slow for what comes behind. As one of Limits.Buffers it counts all the same:
	// who lets a thousand answers wait, however short they are, is slow.
	Apart bool
	// Key names what the buffer is about, for Latest and Pinned. Zero is no key.
	Key uint64
}

// Limits bound what may wait in one connection's queue. A queue that is empty takes
// one buffer of any size, so that a message longer than the bound can leave.
type Limits struct {
	Bytes   int // Zero means 256 KiB.
	Buffers int // Zero means 1024.
	// Age bounds how long the oldest buffer has waited when another comes, pinned or not. Zero means no bound.
	Age time.Duration
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
	apart  bool // only what is pinned
}

// queue holds what the kernel has not taken yet, in order. A connection has one
// only while something waits. Guarded by its connection's mu.
type queue struct {
	buf    []waiting // those below head have left, and are cleared
	head   int
	sent   int // bytes of the first that the kernel has taken
	bytes  int // of all, less sent
	pinned int // of bytes: those that may not be dropped, save what is half sent and not pinned
	fixed  int // how many are pinned
	apart  int // of pinned: what is not counted against the bound
}

// items are those that wait, oldest first.
func (q *queue) items() []waiting { return q.buf[q.head:] }

var queues = sync.Pool{New: func() any { return &queue{buf: make([]waiting, 0, 8)} }}

// maxPooledItems keeps a queue that once was long from staying so for ever.
const maxPooledItems = 64

func (q *queue) release() {
	if cap(q.buf) > maxPooledItems {
		return
	}
	clear(q.buf)
	*q = queue{buf: q.buf[:0]}
	queues.Put(q)
}

// push appends b, which is kept by reference, within lim. dropped counts the
// buffers given up, b itself included; err is ErrQueueFull or ErrQueueStale when b was refused.
func (q *queue) push(b []byte, o Out, lim Limits) (dropped int, err error) {
	at := now()
	if items := q.items(); lim.Age > 0 && len(items) > 0 && at-items[0].since > lim.Age {
		return 0, ErrQueueStale
	}
	if o.Key != 0 && (o.Pinned || o.Policy == Latest) {
		if w := q.find(o.Key, o.Pinned); w != nil {
			if !o.Pinned && !q.fitsInstead(len(b), len(w.b), lim) {
				return 0, ErrQueueFull
			}
			q.count(w, -1)
			w.b = b
			q.count(w, 1)
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
	q.append(waiting{b: b, key: o.Key, since: at, pinned: o.Pinned, apart: o.Pinned && o.Apart})
	return dropped, nil
}

// append adds w at the end. Room at the front is used before more is taken.
func (q *queue) append(w waiting) {
	if len(q.buf) == cap(q.buf) && q.head >= len(q.buf)/2 {
		n := copy(q.buf, q.items())
		clear(q.buf[n:])
		q.buf, q.head = q.buf[:n], 0
	}
	q.buf = append(q.buf, w)
	q.count(&w, 1)
}

// count adds w, or takes it off, with sign -1.
func (q *queue) count(w *waiting, sign int) {
	q.bytes += sign * len(w.b)
	if w.pinned {
		q.pinned += sign * len(w.b)
		q.fixed += sign
	}
	if w.apart {
		q.apart += sign * len(w.b)
	}
}

// counted is how many bytes count against the bound.
func (q *queue) counted() int {
	n := q.bytes - q.apart
	if q.sent > 0 && q.items()[0].apart {
		n += q.sent // which is not in bytes, but in apart
	}
	return n
}

func (q *queue) fits(n int, lim Limits) bool {
	count := len(q.items())
	return count == 0 || (q.counted()+n <= lim.Bytes && count < lim.Buffers)
}

// fitsInstead is fits for n bytes that replace a buffer of old bytes.
func (q *queue) fitsInstead(n, old int, lim Limits) bool {
	return n <= old || len(q.items()) == 1 || q.counted()+n-old <= lim.Bytes
}

// canFit reports whether n bytes fit once all is dropped that may be: what is pinned
// or half sent stays.
func (q *queue) canFit(n int, lim Limits) bool {
	bytes, buffers := q.pinned-q.apart, q.fixed
	if q.sent > 0 {
		switch first := &q.items()[0]; {
		case first.apart:
		case first.pinned:
			bytes -= q.sent
		default:
			bytes += len(first.b) - q.sent
			buffers++
		}
	}
	return buffers == 0 || (bytes+n <= lim.Bytes && buffers < lim.Buffers)
}

// find returns the newest waiting buffer with this key, and as pinned, that is still whole, or nil.
func (q *queue) find(key uint64, pinned bool) *waiting {
	items := q.items()
	for i := len(items) - 1; i >= 0; i-- {
		if items[i].key == key && items[i].pinned == pinned && (i > 0 || q.sent == 0) {
			return &items[i]
		}
	}
	return nil
}

// dropOldest drops whole, unpinned buffers, oldest first, until n bytes fit. Its cost is that of what it drops
// and of what it may not drop among them, however many wait behind.
func (q *queue) dropOldest(n int, lim Limits) (dropped int) {
	end := q.head
	for ; end < len(q.buf) && (q.counted()+n > lim.Bytes || len(q.items())-dropped >= lim.Buffers); end++ {
		if w := &q.buf[end]; !w.pinned && (end > q.head || q.sent == 0) {
			q.count(w, -1)
			w.b = nil
			dropped++
		}
	}
	head := end
	for i := end - 1; i >= q.head; i-- {
		if q.buf[i].b != nil {
			head--
			q.buf[head] = q.buf[i]
		}
	}
	clear(q.buf[q.head:head])
	q.head = head
	return dropped
}

// dropWhole drops everything of which the kernel has not taken a part.
func (q *queue) dropWhole() {
	kept := q.head
	if q.sent > 0 {
		kept++
	}
	for i := kept; i < len(q.buf); i++ {
		q.count(&q.buf[i], -1)
	}
	clear(q.buf[kept:])
	q.buf = q.buf[:kept]
}

// vec fills v with the head of the queue and returns how many entries it used.
func (q *queue) vec(v *[maxVec]unix.Iovec) int {
	items := q.items()
	items = items[:min(len(items), maxVec)]
	for i := range items {
		b := items[i].b
		if i == 0 {
			b = b[q.sent:]
		}
		v[i].Base = &b[0]
		v[i].SetLen(len(b))
	}
	return len(items)
}

// advance takes n bytes that the kernel has accepted off the head.
func (q *queue) advance(n int) {
	n += q.sent
	q.bytes += q.sent // each buffer is counted whole, and then taken off whole
	for q.head < len(q.buf) && n >= len(q.buf[q.head].b) {
		n -= len(q.buf[q.head].b)
		q.count(&q.buf[q.head], -1)
		q.buf[q.head] = waiting{}
		q.head++
	}
	q.bytes -= n
	q.sent = n
}

var start = time.Now()

// now is the time since the program began, on the monotonic clock.
func now() time.Duration { return time.Since(start) }
