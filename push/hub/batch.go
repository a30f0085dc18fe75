package hub

import (
	"slices"
	"sync"

	"github.com/millpond/millpond/internal/histogram"
)

// keptBatch bounds the capacity, in publications, of batches that are reused.
// Larger ones go to the garbage collector, so one burst is not remembered.
const keptBatch = 1024

// Batch is what a Subscriber is handed: the publications of one channel that
// waited, oldest first, at least one. It is valid during the call only.
//
// Its life: it is a shard's queue while publications wait, then it is taken
// as a whole and passed from subscriber to subscriber, then it is reused.
type Batch struct {
	// Guarded by queueMu while it is the queue; owned by the goroutine that
	// delivers afterwards.
	publications []*Publication
	numbers      []uint64 // of each in its shard's queue, rising; none for what a subscription holds
	bytes        int
	events       events
	room         chan struct{} // closed when the queue is taken; nil if nobody waits

	// Owned by the goroutine that delivers.
	class        class
	subscription *Subscription // that is served
	skip         int           // publications that it must not see
	encoded      [encodings]frameList
}

// frameList is a *frames[T] of which T is known to the protocol alone.
type frameList interface{ reset() }

type frames[T any] struct{ list []T }

func (f *frames[T]) reset() {
	clear(f.list)
	f.list = f.list[:0]
}

// Channel returns the name of the channel that all publications of b are of.
func (b *Batch) Channel() string { return b.subscription.Channel() }

// Subscription returns the one that b is delivered to.
func (b *Batch) Subscription() *Subscription { return b.subscription }

// Positioned reports whether the subscriber has a position in the stream, by StartAfter, so that it may miss nothing without hearing of it.
func (b *Batch) Positioned() bool { return b.subscription.placed }

// Stop ends the deliveries of the subscription after this one; the subscriber must unsubscribe. Deliver may call it.
func (b *Batch) Stop() { b.subscription.state = stopped }

// IsReset reports whether b is a KindReset, which comes alone.
func (b *Batch) IsReset() bool { return b.class == resets }

// Publications returns the publications to deliver. The slice is valid during
// the call of Deliver; the publications themselves may be kept.
func (b *Batch) Publications() []*Publication { return b.publications[b.skip:] }

// Frames returns the publications of b in encoding e, in order: Encoded for
// each. The slice is made once for all subscribers of a shard, which is why
// delivering to one more of them allocates nothing; it is valid during the call
// of Deliver, the frames in it may be kept.
func Frames[T any](b *Batch, e Encoding, build func(channel string, p *Publication) T) []T {
	f, _ := b.encoded[e].(*frames[T])
	if f == nil {
		f = new(frames[T])
		b.encoded[e] = f
	}
	if len(f.list) != len(b.publications) {
		f.list = f.list[:0]
		for _, p := range b.publications {
			f.list = append(f.list, Encoded(b.Channel(), p, e, build))
		}
	}
	return f.list[b.skip:]
}

// each narrows b to one run of a class after another and calls deliver.
func (b *Batch) each(deliver func()) {
	all, numbers := b.publications, b.numbers
	for from := 0; from < len(all); from += len(b.publications) {
		b.narrow(all[from:])
		b.numbers = numbers[min(from, len(numbers)):]
		deliver()
	}
	b.publications, b.numbers = all, numbers
}

// place returns how many of b's publications have a number below that.
func (b *Batch) place(number uint64) int {
	i, _ := slices.BinarySearch(b.numbers[:len(b.publications)], number)
	return i
}

// narrow makes b the longest run of one class at the beginning of all. What is bounded comes alone, for it has bounds of its own.
func (b *Batch) narrow(all []*Publication) {
	n := 1
	b.class = all[0].class()
	for b.class != boundeds && n < len(all) && all[n].class() == b.class {
		n++
	}
	b.forgetFrames()
	b.publications = all[:n]
}

func (b *Batch) forgetFrames() {
	for _, f := range b.encoded {
		if f != nil {
			f.reset()
		}
	}
}

// class is what batches are sorted by.
type class uint8

const (
	messages class = iota
	comings        // KindJoin and KindLeave: not for all subscribers
	resets
	boundeds // messages that are not for everybody, or not for ever
)

func (p *Publication) class() class {
	if p.bounded {
		return boundeds
	}
	return p.Kind.class()
}

func (k Kind) class() class {
	switch k {
	case KindJoin, KindLeave:
		return comings
	case KindReset:
		return resets
	}
	return messages
}

// add appends p. Nothing may be added once frames have been made.
func (b *Batch) add(p *Publication) {
	b.publications = append(b.publications, p)
	b.bytes += len(p.Data)
}

// full reports whether b is at a bound, in publications or in bytes of data. Events in a queue are not counted.
func (b *Batch) full(publications, bytes int) bool {
	return len(b.publications)-b.events.count-b.events.gaps >= publications || b.bytes >= bytes
}

// roomSignal returns the channel that is closed when the queue b is taken.
func (b *Batch) roomSignal() <-chan struct{} {
	if b.room == nil {
		b.room = make(chan struct{})
	}
	return b.room
}

// wake lets those go who wait for room.
func (b *Batch) wake() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// batches keeps idle channels free of queues and busy ones free of garbage.
var batches = sync.Pool{New: func() any { return new(Batch) }}

func newBatch() *Batch { return batches.Get().(*Batch) }

// done notes that the publications of b were delivered, or with nil will not be, and that b is not needed any more.
func (b *Batch) done(timed *histogram.Histogram) {
	for _, p := range b.publications {
		p.delivered(timed)
	}
	b.recycle()
}

func (b *Batch) recycle() {
	if cap(b.publications) > keptBatch {
		return
	}
	clear(b.publications)
	b.publications, b.numbers = b.publications[:0], b.numbers[:0]
	b.bytes, b.events, b.subscription, b.skip, b.class = 0, events{}, nil, 0, messages
	b.forgetFrames()
	batches.Put(b)
}
