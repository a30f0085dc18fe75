package hub

import "sync/atomic"

// Publication is one message of a channel, shared by all its receivers.
// A broker fills it and hands it to the hub; from then on it is immutable and
// may be read by any goroutine. It must not be copied.
type Publication struct {
	// Immutable after Sink.Deliver.
	Channel string
	Data    []byte // as published: JSON for most, any bytes for some
	Tags    map[string]string
	Info    *ClientInfo // the client that published; nil for a backend
	Offset  uint64      // rises strictly within the channel's epoch; 0 for one that passes by the channel's history

	// Any goroutine (atomic).
	encoded [encodings]atomic.Value
}

// Encoding numbers the ways in which protocols write a publication on the
// wire. Every protocol and codec that shares frames has one.
type Encoding uint8

// The encodings in use.
const (
	EncodingPlain Encoding = iota // push/protocol/plain

	encodings
)

// Encoded returns p in encoding e, made by build at the first call and shared
// by all later ones. Callers that are first at the same time may build twice;
// all of them get the same one. An encoding must always be asked for with the
// same T.
func Encoded[T any](p *Publication, e Encoding, build func(*Publication) T) T {
	if v := p.encoded[e].Load(); v != nil {
		return v.(T)
	}
	p.encoded[e].CompareAndSwap(nil, build(p))
	return p.encoded[e].Load().(T)
}
