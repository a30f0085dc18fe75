package pool

import (
	"encoding/binary"
	"sync"
)

// Inbox is an ordered queue of records, each a kind and some bytes. The zero value is
// empty and holds no memory; it costs 24 bytes. Its owner runs at most once at a
// time: whoever is told so by Push or Done hands the owner to a Pool, and the owner
// takes the waiting records as one Batch.
type Inbox struct {
	// Guarded by mu.
	mu        sync.Mutex
	waiting   *Batch // nil while nothing waits
	scheduled bool   // the owner is in a Pool, or running
}

// Push appends a record; payload is copied. schedule tells the caller to hand the
// owner to a Pool now. bytes is what waits, records' headers included, the batch
// that is being handled not.
func (in *Inbox) Push(kind byte, payload []byte) (schedule bool, bytes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.waiting == nil {
		in.waiting = batches.Get().(*Batch)
	}
	in.waiting.add(kind, payload)
	schedule = !in.scheduled
	in.scheduled = true
	return schedule, len(in.waiting.buf)
}

// Take takes everything that waits; the owner calls it first of all. It is nil when
// nothing does.
func (in *Inbox) Take() *Batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.waiting
	in.waiting = nil
	return b
}

// Done ends the owner's turn. schedule tells it to hand itself to a Pool again,
// behind the others, because more has come.
func (in *Inbox) Done() (schedule bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.scheduled = in.waiting != nil
	return in.scheduled
}

// Waiting returns how many bytes wait.
func (in *Inbox) Waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.waiting == nil {
		return 0
	}
	return len(in.waiting.buf)
}

// Batch is a run of records in one buffer, owned by whoever took it.
type Batch struct {
	buf  []byte // kind, length (4 bytes), payload; and so on
	read int
}

// recordHeader precedes each record: no more than an empty frame has on the wire, so
// that a flood of tiny messages takes no more room here than it took there.
const recordHeader = 5

// maxPooledBatch keeps one large message from being held for ever.
const maxPooledBatch = 64 << 10

var batches = sync.Pool{New: func() any { return &Batch{buf: make([]byte, 0, 256)} }}

func (b *Batch) add(kind byte, payload []byte) {
	b.buf = append(b.buf, kind)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(len(payload)))
	b.buf = append(b.buf, payload...)
}

// Next returns the next record. payload may be changed, and is valid until Release.
func (b *Batch) Next() (kind byte, payload []byte, ok bool) {
	if b.read == len(b.buf) {
		return 0, nil, false
	}
	rest := b.buf[b.read:]
	end := recordHeader + int(binary.LittleEndian.Uint32(rest[1:]))
	b.read += end
	return rest[0], rest[recordHeader:end:end], true
}

// Release gives the buffer back.
func (b *Batch) Release() {
	if cap(b.buf) <= maxPooledBatch {
		b.buf, b.read = b.buf[:0], 0
		batches.Put(b)
	}
}
