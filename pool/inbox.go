package pool

import (
	"encoding/binary"
	"sync"
)

// Inbox is an ordered queue of records, each a kind and some bytes. The zero value is
// empty and holds no memory; it costs 16 bytes. Its owner runs at most once at a
// time: whoever is told so by Push or Done hands the owner to a Pool, and the owner
// takes the waiting records as one Batch.
//
// An owner that waits for something may hold the inbox: then only urgent records reach it until it resumes.
type Inbox struct {
	// Guarded by mu.
	mu sync.Mutex
	// waiting says also whether the owner is scheduled, that is in a Pool, or running: nil is nothing, running nothing but the owner; with any
	// other batch it is scheduled, unless that is parked.
	waiting *Batch
}

// running stands for no batch.
var running = new(Batch)

// Urgent is the bit of the kinds whose records reach the owner of a held inbox. They have no payload.
const Urgent byte = 0x80

// Push appends a record; payload is copied. schedule tells the caller to hand the
// owner to a Pool now. bytes is what waits, records' headers included, the batch
// that is being handled not.
func (in *Inbox) Push(kind byte, payload []byte) (schedule bool, bytes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.waiting == nil || in.waiting == running {
		schedule = in.waiting == nil
		in.waiting = batches.Get().(*Batch)
	}
	b := in.waiting
	if b.push(kind, payload); b.parked && b.ready() {
		b.parked, schedule = false, true
	}
	return schedule, len(b.buf)
}

// Take takes everything that waits for the owner, which calls it first of all. It is nil when
// nothing does.
func (in *Inbox) Take() *Batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.waiting
	switch {
	case b == nil || b == running:
		return nil
	case !b.held:
		in.waiting = running
		return b
	case len(b.urgent) == 0:
		return nil
	}
	out := batches.Get().(*Batch)
	for _, kind := range b.urgent {
		out.add(kind, nil)
	}
	b.urgent = b.urgent[:0]
	return out
}

// Done ends the owner's turn. schedule tells it to hand itself to a Pool again,
// behind the others, because more has come.
func (in *Inbox) Done() (schedule bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch b := in.waiting; {
	case b == nil || b == running:
		in.waiting = nil
		return false
	case b.ready():
		return true
	default:
		b.parked = true
		return false
	}
}

// Hold keeps what waits, and what is left of b, the batch that the owner handles, until Resume. The owner
// calls it in its turn, goes on with nothing of b, and releases it. It may be called again.
func (in *Inbox) Hold(b *Batch) {
	kept := batches.Get().(*Batch)
	kept.held = true
	kept.takeOver(b)
	in.mu.Lock()
	defer in.mu.Unlock()
	if later := in.waiting; later != nil && later != running {
		kept.takeOver(later)
		later.Release()
	}
	in.waiting = kept
}

// Resume ends a hold; the owner calls it in its turn. What was kept comes after the records that the owner has taken.
func (in *Inbox) Resume() {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.waiting
	if b == nil || !b.held {
		return
	}
	b.held = false
	for _, kind := range b.urgent {
		b.add(kind, nil)
	}
	b.urgent = b.urgent[:0]
	if len(b.buf) == 0 {
		b.Release()
		in.waiting = running
	}
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
	buf    []byte // kind, length (4 bytes), payload; and so on
	read   int
	held   bool   // by Inbox.Hold
	parked bool   // it is held, nothing in it is urgent, and the owner's turn is over
	urgent []byte // while it is held, the kinds of urgent records, which are not in buf
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

// push is add, unless the record reaches the owner of a held inbox.
func (b *Batch) push(kind byte, payload []byte) {
	if b.held && kind&Urgent != 0 {
		b.urgent = append(b.urgent, kind)
		return
	}
	b.add(kind, payload)
}

// ready reports whether there is something for the owner.
func (b *Batch) ready() bool { return !b.held || len(b.urgent) > 0 }

// takeOver pushes what is left of another.
func (b *Batch) takeOver(other *Batch) {
	b.urgent = append(b.urgent, other.urgent...)
	for kind, payload, ok := other.Next(); ok; kind, payload, ok = other.Next() {
		b.push(kind, payload)
	}
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
		b.buf, b.read, b.held, b.parked, b.urgent = b.buf[:0], 0, false, false, b.urgent[:0]
		batches.Put(b)
	}
}
