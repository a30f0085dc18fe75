package bench

import (
	"bytes"
	"hash/crc32"
	"sync"

	"github.com/millpond/millpond/bench/verify"
)

// desk is where the subscribers of one loop look at what they get, and count. What many get is read once: a message
// that is to the byte one of those that came lately is known.
type desk struct {
	prefix string // of the channels' names. Immutable

	// Guarded by mu.
	mu     sync.Mutex
	counts verify.Counts
	lately [memories]*memory
}

// memory is a message that brings nothing but publications.
type memory struct {
	payload []byte
	pubs    []parsed
}

// parsed is a publication whose data was read.
type parsed struct {
	channel int    // its number, -1 if it is none of the run's
	sum     uint32 // of its name
	offset  uint64
	stamp   verify.Stamp
	changed bool // it is not what was published
}

// memories is how many messages a loop remembers: what a connection gets in a queue, the next one gets, too.
// memorable is how long one may be, and have publications.
const (
	memories  = 256
	memorable = 16 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func place(payload []byte) uint32 { return crc32.Checksum(payload, castagnoli) % memories }

// recall returns the message if it is known.
func (d *desk) recall(payload []byte) *memory {
	if m := d.lately[place(payload)]; m != nil && bytes.Equal(m.payload, payload) {
		return m
	}
	return nil
}

// read reads a message, and remembers it if it brings publications alone.
func (d *desk) read(in *dialect, payload []byte, each func(*heard) error) error {
	m := &memory{}
	alone := len(payload) <= memorable
	err := in.hear(payload, func(h *heard) error {
		if alone = alone && h.kind == heardPublication; alone {
			m.pubs = append(m.pubs, *d.parsed(h.channel, h.pubs[0]))
		}
		return each(h)
	})
	if alone && err == nil && len(m.pubs) > 0 {
		m.payload = bytes.Clone(payload)
		d.lately[place(payload)] = m
	}
	return err
}

// parsed reads a publication's data.
func (d *desk) parsed(channel string, p published) *parsed {
	out := &parsed{channel: channelNumber(d.prefix, channel), sum: verify.Sum(channel), offset: p.offset}
	var err error
	out.stamp, err = verify.Parse(p.data)
	out.changed = err != nil
	return out
}
