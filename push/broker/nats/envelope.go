package nats

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// envelope is what travels: a publication and what the other nodes have to know of it.
//
// On the wire: a byte for the format, one for the flags, one for the kind; where the flags say so the channel (its length as a uvarint, and the
// name), the retention (size and milliseconds, as uvarints), and what is rare (its length as a uvarint, and JSON); then the data, up to the end.
type envelope struct {
	kind      kind
	channel   string // where the subject does not say it
	retention hub.Retention
	delta     bool
	rare      rare
	data      []byte
}

// kind says what an envelope is: a hub.Kind, or one of these.
type kind uint8

const (
	kindClear kind = 128 + iota // the channel's history is removed
	kindClaim                   // nothing but its id, or version
)

// rare is what few publications have.
type rare struct {
	Tags         map[string]string `json:"tags,omitempty"`
	Info         *hub.ClientInfo   `json:"info,omitempty"`
	Exclude      string            `json:"exclude,omitempty"`
	Ends         int64             `json:"ends,omitempty"` // Unix milliseconds
	Version      uint64            `json:"version,omitempty"`
	VersionEpoch string            `json:"version_epoch,omitempty"`
	Trace        string            `json:"trace,omitempty"` // what it is known by to those who follow it
	Claim        string            `json:"claim,omitempty"` // of a claim, the attempt that made it
}

func (r *rare) any() bool {
	return r.Tags != nil || r.Info != nil || r.Exclude != "" || r.Ends != 0 || r.Version != 0 || r.Trace != "" || r.Claim != ""
}

const (
	format = 1

	flagDelta     = 1
	flagChannel   = 2
	flagRetention = 4
	flagRare      = 8
)

var errEnvelope = errors.New("it is not a publication of this version of millpond")

func (e *envelope) encode() ([]byte, error) {
	var more []byte
	flags := byte(0)
	if e.delta {
		flags |= flagDelta
	}
	if e.channel != "" {
		flags |= flagChannel
	}
	if e.retention.Enabled() {
		flags |= flagRetention
	}
	if e.rare.any() {
		flags |= flagRare
		var err error
		if more, err = json.Marshal(&e.rare); err != nil {
			return nil, err
		}
	}
	b := make([]byte, 0, 3+3*binary.MaxVarintLen64+len(e.channel)+len(more)+len(e.data))
	b = append(b, format, flags, byte(e.kind))
	if e.channel != "" {
		b = append(binary.AppendUvarint(b, uint64(len(e.channel))), e.channel...)
	}
	if e.retention.Enabled() {
		b = binary.AppendUvarint(b, uint64(e.retention.Size))
		b = binary.AppendUvarint(b, uint64((e.retention.TTL+time.Millisecond-1)/time.Millisecond))
	}
	if more != nil {
		b = append(binary.AppendUvarint(b, uint64(len(more))), more...)
	}
	return append(b, e.data...), nil
}

// isClear reports whether b is an envelope by which a history was removed.
func isClear(b []byte) bool { return len(b) >= 3 && b[0] == format && kind(b[2]) == kindClear }

// decode reads b, of which data is a part afterwards.
func decode(b []byte) (e envelope, err error) {
	if len(b) < 3 || b[0] != format {
		return e, errEnvelope
	}
	flags := b[1]
	e.kind, e.delta = kind(b[2]), flags&flagDelta != 0
	r := reader{rest: b[3:]}
	if flags&flagChannel != 0 {
		e.channel = string(r.bytes())
	}
	if flags&flagRetention != 0 {
		const mostSize, mostTTL = 1 << 30, uint64(1<<62) / uint64(time.Millisecond)
		e.retention = hub.Retention{Size: int(min(r.uvarint(), mostSize)), TTL: time.Duration(min(r.uvarint(), mostTTL)) * time.Millisecond}
	}
	if flags&flagRare != 0 {
		if more := r.bytes(); !r.short && json.Unmarshal(more, &e.rare) != nil {
			return e, errEnvelope
		}
	}
	if r.short {
		return e, errEnvelope
	}
	e.data = r.rest
	return e, nil
}

// reader takes values off the front.
type reader struct {
	rest  []byte
	short bool // there was less than wanted
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.short, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// publication makes what the hub is handed.
func (e *envelope) publication(offset uint64) *hub.Publication {
	p := &hub.Publication{Kind: hub.Kind(e.kind), Data: e.data, Tags: e.rare.Tags, Info: e.rare.Info, Delta: e.delta, Offset: offset}
	var ends time.Time
	if e.rare.Ends != 0 {
		ends = time.UnixMilli(e.rare.Ends)
	}
	p.Bound(e.rare.Exclude, ends)
	return p
}

// envelopeOf is the one of a publication.
func envelopeOf(data []byte, o hub.PublishOptions) envelope {
	e := envelope{kind: kind(o.Kind), retention: o.Retention, delta: o.Delta, data: data}
	e.rare = rare{Tags: o.Tags, Info: o.Info, Exclude: o.ExcludeClient, Version: o.Version, VersionEpoch: o.VersionEpoch, Trace: o.TraceCarrier}
	if o.TTL > 0 {
		e.rare.Ends = time.Now().Add(o.TTL).UnixMilli()
	}
	return e
}
