package hub

import (
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/internal/histogram"
)

// Publication is one message of a channel, shared by all its receivers, or an event of the channel.
// A broker fills it and hands it to the hub; from then on it is immutable and
// may be read by any goroutine. It must not be copied.
type Publication struct {
	// Immutable after Sink.Deliver. The channel is not among it, for there may be one of these for each connection: keep it at 64 bytes.
	Data    []byte // as published: JSON for most, any bytes for some
	Tags    map[string]string
	Info    *ClientInfo // the client that published, joined or left; nil for a backend
	Offset  uint64      // rises strictly within the channel's epoch; 0 for one that passes by the channel's history
	Kind    Kind
	Delta   bool   // subscribers may have the difference to the message before
	bounded bool   // it is not for everybody, or not for ever: derived says so, and stays
	Expires uint32 // for a broker to note when it forgets it

	// Any goroutine (atomic).
	derived atomic.Pointer[derived] // nil for what one shard alone delivers without deltas, and for what has been delivered
}

// derived is what shards that deliver a publication share. It goes with the last delivery: histories keep data, and nothing
// else, so that what they count is what they take.
type derived struct {
	base    []byte        // the data of the message before, for a delta; nil if there is none. Immutable
	pending atomic.Int32  // shards that are still to deliver it
	exclude string        // the id of a connection that is not sent it; empty for none. Immutable
	ends    time.Time     // when it is worth nothing any more; zero for never. Immutable
	since   time.Duration // when the hub got it, as the time since start; 0 if that is not timed. Immutable
	notify  func()        // is called when it has been delivered; nil for nearly all. Immutable
	encoded [encodings]atomic.Value
}

// delivered notes that one more shard is done with p. timed, if not nil, gets how long that took if it was the last.
func (p *Publication) delivered(timed *histogram.Histogram) {
	d := p.derived.Load()
	if d == nil || p.bounded || d.pending.Add(-1) != 0 {
		return
	}
	p.derived.Store(nil)
	if d.notify != nil {
		d.notify()
	}
	if d.since != 0 && timed != nil {
		timed.Observe(time.Since(start) - d.since)
	}
}

// Kind says what a Publication is.
type Kind uint8

// The kinds. Subscribers get the events Join and Leave only if they asked for them by Subscription.ReceiveEvents.
const (
	KindMessage Kind = iota
	KindJoin         // Info came
	KindLeave        // Info went
	// KindReset says that the channel's stream began anew: what comes has nothing to do with the positions before. Who
	// relies on them must subscribe again.
	KindReset
)

// Bound says that the publication is not sent to the connection exclude, and to nobody after ends; the zero values are no bounds. A broker calls
// it before it hands the publication over.
func (p *Publication) Bound(exclude string, ends time.Time) {
	if exclude == "" && ends.IsZero() {
		return
	}
	p.bounded = true
	p.derived.Store(&derived{exclude: exclude, ends: ends})
}

// Notify has delivered called when the last shard of this node is done with the publication. With nil, and for one that is bounded, it does
// nothing. A broker calls it after Bound and before it hands the publication over.
func (p *Publication) Notify(delivered func()) {
	if delivered == nil || p.bounded {
		return
	}
	d := &derived{notify: delivered}
	d.pending.Store(1)
	p.derived.Store(d)
}

// Bounded reports whether Bound said something.
func (p *Publication) Bounded() bool { return p.bounded }

// Over reports whether the publication is worth nothing any more, at a time.
func (p *Publication) Over(now time.Time) bool {
	if !p.bounded {
		return false
	}
	ends := p.derived.Load().ends
	return !ends.IsZero() && !now.Before(ends)
}

// Base returns the data that a delta to this message is to be made from: that of the channel's message before, which every
// subscriber had. It is false for a message that was not published for deltas, is the first, or has been delivered.
func (p *Publication) Base() ([]byte, bool) {
	d := p.derived.Load()
	if d == nil || d.base == nil {
		return nil, false
	}
	return d.base, true
}

// Encoding numbers the ways in which protocols write a publication on the
// wire. Every protocol and codec that shares frames has one.
type Encoding uint8

// The encodings in use.
const (
	EncodingPlain              Encoding = iota // push/protocol/plain
	EncodingCentrifugeJSON                     // push/protocol/centrifuge
	EncodingCentrifugeProtobuf                 // the same in Protobuf
	EncodingCentrifugeString                   // JSON with the data as a string, for subscribers with deltas
	EncodingCentrifugeJSONDelta
	EncodingCentrifugeProtobufDelta

	encodings
)

// Encoded returns p, of a channel, in encoding e, made by build. While several shards deliver p, or a delta is made for it, it is made once and
// kept for later calls; before and after it is not, for the channel's history may be long. Callers that are first at
// the same time may build twice; all of them get the same one. An encoding must always be asked for with the same T.
func Encoded[T any](channel string, p *Publication, e Encoding, build func(channel string, p *Publication) T) T {
	d := p.derived.Load()
	if d == nil || p.bounded { // which is kept, and so would be its encodings
		return build(channel, p)
	}
	if v := d.encoded[e].Load(); v != nil {
		return v.(T)
	}
	d.encoded[e].CompareAndSwap(nil, build(channel, p))
	return d.encoded[e].Load().(T)
}
