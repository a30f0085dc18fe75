package memory

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/millpond/millpond/push/hub"
)

const stripes = 64

// Broker orders publications within one process. Make it with New and give it
// to hub.New.
//
// A channel's stream lives from its first publication with a subscriber to the
// leaving of the last one. In it, offsets are 1, 2, 3, …; the next stream has
// another epoch. A channel without subscribers leaves nothing behind: each of
// its publications has offset 1 in an epoch of its own.
type Broker struct {
	// Immutable after Attach.
	sink    hub.Sink
	seed    maphash.Seed
	stripes [stripes]stripe
}

var _ hub.Broker = (*Broker)(nil)

type stripe struct {
	// Guarded by mu.
	mu      sync.Mutex
	streams map[string]stream

	_ [48]byte // neighbours are busy on other cores
}

// stream is what is known of a channel that has been published to.
type stream struct {
	offset uint64 // of the latest publication
	epoch  string
}

// New returns a broker without channels.
func New() *Broker {
	b := &Broker{seed: maphash.MakeSeed()}
	for i := range b.stripes {
		b.stripes[i].streams = make(map[string]stream)
	}
	return b
}

// Attach names the sink; see [hub.Broker].
func (b *Broker) Attach(sink hub.Sink) { b.sink = sink }

// Publish numbers data and hands it to the sink before it returns.
// It never waits; an ended ctx is its only error, and nothing was published then.
func (b *Broker) Publish(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error) {
	if err := ctx.Err(); err != nil {
		return hub.Position{}, err
	}
	s := b.stripe(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known := s.streams[channel]
	if !known {
		st.epoch = newEpoch()
		// A clone, so that a name cut out of a request doesn't keep the request.
		channel = strings.Clone(channel)
	}
	st.offset++
	p := &hub.Publication{Channel: channel, Data: data, Tags: options.Tags, Offset: st.offset}
	if b.sink.Deliver(p) {
		s.streams[channel] = st
	} else {
		delete(s.streams, channel)
	}
	return hub.Position{Offset: st.offset, Epoch: st.epoch}, nil
}

// Subscribe has nothing to prepare: the stream begins with its first publication.
func (b *Broker) Subscribe(context.Context, string) error { return nil }

// Unsubscribe forgets the channel. The sink reports it as not subscribed from
// before this call on, so a publication that comes later does not revive it.
func (b *Broker) Unsubscribe(channel string) {
	s := b.stripe(channel)
	s.mu.Lock()
	delete(s.streams, channel)
	s.mu.Unlock()
}

// Streams returns how many channels the broker remembers.
func (b *Broker) Streams() int {
	n := 0
	for i := range b.stripes {
		s := &b.stripes[i]
		s.mu.Lock()
		n += len(s.streams)
		s.mu.Unlock()
	}
	return n
}

func (b *Broker) stripe(channel string) *stripe {
	return &b.stripes[maphash.String(b.seed, channel)%stripes]
}

// newEpoch returns 8 random letters. It tells streams apart and is no secret.
func newEpoch() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEF" // 32, so 5 bits choose one
	bits := rand.Uint64()
	var epoch [8]byte
	for i := range epoch {
		epoch[i] = letters[bits%32]
		bits /= 32
	}
	return string(epoch[:])
}
