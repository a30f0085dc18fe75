package codec

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
)

// Ping is the ping without payload, for heartbeats.
var Ping = NewFrame(OpPing, nil)

// Frame is one encoded, unfragmented, unmasked message, as a server sends it: any number of goroutines and
// connections send the same one at the same time. It never changes, and what it gives out must not be changed.
//
// What it holds is the plain encoding. The compressed one, for connections that negotiated permessage-deflate, is
// made by the first that wants it, and is then shared in the same way.
type Frame struct {
	// Immutable after NewFrame.
	wire    []byte
	payload int // index of the payload in wire

	// Guarded by mu while they are nil; then immutable.
	mu            sync.Mutex
	deflated      atomic.Pointer[[]byte] // for peers with a window that holds all of it
	deflatedSmall atomic.Pointer[[]byte] // for all others: with the smallest window there is
}

// NewFrame returns the frame of a message with opcode op. payload is copied, once. Text is not validated: the
// caller vouches for it. NewFrame panics on a control frame with more than 125 bytes and on a reserved opcode.
func NewFrame(op Opcode, payload []byte) *Frame {
	wire := make([]byte, 0, headerSpace(len(payload))+len(payload))
	wire = AppendHeader(wire, op, true, len(payload))
	return &Frame{payload: len(wire), wire: append(wire, payload...)}
}

// NewCloseFrame returns a close frame, by the rules of AppendClosePayload.
func NewCloseFrame(code CloseCode, reason string) *Frame {
	return &Frame{payload: 2, wire: AppendClose(nil, code, reason)}
}

// Bytes returns the frame as it goes on the wire. It must not be changed.
func (f *Frame) Bytes() []byte { return f.wire }

// Deflated returns the frame as it goes on the wire to a peer with which permessage-deflate was agreed on: compressed,
// if that makes it shorter. The first call compresses, and all others, for any number of connections, share the result:
// with no reference to what was sent before, so that it fits any of them. d's level counts at the first call. Any goroutine.
func (f *Frame) Deflated(d *Deflate) []byte {
	if !d.Worth(f.Len()) || f.Opcode().IsControl() {
		return f.wire
	}
	variant, bits := &f.deflated, MaxWindowBits
	if f.Len() > 1<<d.windowBits() {
		variant, bits = &f.deflatedSmall, MinWindowBits
	}
	if wire := variant.Load(); wire != nil {
		return *wire
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if wire := variant.Load(); wire != nil {
		return *wire
	}
	wire := f.deflate(d.level(), bits)
	variant.Store(&wire)
	return wire
}

// deflate returns the compressed frame, or the plain one if it is no longer than that.
func (f *Frame) deflate(level, bits int) []byte {
	scratch := takeBuffer(f.Len())
	defer giveBuffer(scratch)
	scratch.b = appendDeflated(scratch.b, f.Payload(), nil, level, bits)
	if len(scratch.b) >= f.Len() {
		return f.wire
	}
	wire := make([]byte, 0, headerSpace(len(scratch.b))+len(scratch.b))
	return append(AppendDeflatedHeader(wire, f.Opcode(), len(scratch.b)), scratch.b...)
}

// Opcode returns the frame's opcode.
func (f *Frame) Opcode() Opcode { return Opcode(f.wire[0] & opcodeBits) }

// Payload returns the message. It must not be changed.
func (f *Frame) Payload() []byte { return f.wire[f.payload:] }

// Len returns the length of the payload in bytes.
func (f *Frame) Len() int { return len(f.wire) - f.payload }

// AppendFrame appends an unfragmented, unmasked frame to dst and returns the longer slice. It panics on a control
// frame with more than 125 bytes and on a reserved opcode. Any goroutine.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	return append(AppendHeader(dst, op, true, len(payload)), payload...)
}

// AppendHeader appends the header of an unmasked frame with length bytes of payload to dst and returns the longer
// slice: 2, 4 or 10 bytes. It panics on what no endpoint may send: a reserved opcode, a control frame that is too
// long or not final, a negative length. Any goroutine. RFC 6455 §5.2, and §5.1: "A server MUST NOT mask any frames that
// it sends to the client."
func AppendHeader(dst []byte, op Opcode, fin bool, length int) []byte {
	return appendHeader(dst, op, fin, 0, length)
}

// AppendMaskedFrame appends a frame with a copy of payload, masked with mask, to dst and returns the longer slice:
// what a client sends. It panics as AppendHeader does. The caller chooses mask; RFC 6455 §5.3 wants it to be
// unpredictable. Any goroutine.
func AppendMaskedFrame(dst []byte, op Opcode, fin bool, payload []byte, mask [4]byte) []byte {
	dst = appendHeader(dst, op, fin, maskBit, len(payload))
	dst = append(dst, mask[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[at:], mask, 0)
	return dst
}

// appendHeader appends the first bytes of a header, up to the masking key. masked is maskBit or 0.
func appendHeader(dst []byte, op Opcode, fin bool, masked byte, length int) []byte {
	if !op.defined() || length < 0 {
		panic("codec: frame with a reserved opcode or a negative length")
	}
	if op.IsControl() && (length > maxControlBytes || !fin) {
		// RFC 6455 §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
		// fragmented."
		panic("codec: control frame that is too long or fragmented")
	}
	first := byte(op)
	if fin {
		first |= finBit
	}
	// RFC 6455 §5.2: "Note that in all cases, the minimal number of bytes MUST be used to encode the length".
	switch {
	case length < length16:
		return append(dst, first, masked|byte(length))
	case length <= 0xFFFF:
		dst = append(dst, first, masked|length16)
		return binary.BigEndian.AppendUint16(dst, uint16(length))
	}
	dst = append(dst, first, masked|length64)
	return binary.BigEndian.AppendUint64(dst, uint64(length))
}

// headerSpace returns the length in bytes of an unmasked header for length bytes of payload.
func headerSpace(length int) int {
	switch {
	case length < length16:
		return 2
	case length <= 0xFFFF:
		return 4
	}
	return 10
}
