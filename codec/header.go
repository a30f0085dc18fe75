package codec

import (
	"io"
	"sync"

	"github.com/gobwas/ws"
)

// Lengths of the wire format, in bytes. RFC 6455 §5.2 and §5.5.
const (
	maxHeaderBytes  = 14
	maxControlBytes = 125
)

// Bits of the first two bytes of a frame. RFC 6455 §5.2.
const (
	finBit     = 0x80
	rsvBits    = 0x70
	rsv1       = 0x40
	opcodeBits = 0x0F
	maskBit    = 0x80
	lengthBits = 0x7F

	length16 = 126 // a length of 16 bits follows
	length64 = 127 // a length of 64 bits follows
)

// compressed is RSV1 as Header.RSV holds it: "Per-Message Compressed" of RFC 7692 §6.
const compressed = 4

// Header is the header of one frame. RFC 6455 §5.2.
type Header struct {
	// Fin says that this is the last frame of its message.
	Fin bool
	// RSV holds RSV1, RSV2 and RSV3 as the bits 4, 2 and 1.
	RSV byte
	// Opcode says what the frame carries.
	Opcode Opcode
	// Masked says that the payload is masked with Mask.
	Masked bool
	// Mask is the masking key. Zero if Masked is false.
	Mask [4]byte
	// Length is the length of the payload in bytes, as declared by the peer. It is never negative.
	Length int64
}

// ParseHeader reads one frame header from the start of b and returns its length in bytes. It returns n == 0 and no
// error when b is too short; nothing is consumed, and b is neither changed nor kept.
//
// It refuses what is wrong in itself, whoever sent it: reserved opcodes, control frames that are fragmented or too
// long, lengths that are not minimal or exceed 63 bits. It does so at the first byte that shows it, also when the
// rest of the header is still missing. Masks, reserved bits, order of fragments and limits depend on the
// connection and are judged by Decoder. The error is always a *Fault. Any goroutine. RFC 6455 §5.2.
func ParseHeader(b []byte) (h Header, n int, err error) {
	if f := checkForm(b); f != nil {
		return Header{}, 0, f
	}
	if n = headerBytes(b); n == 0 {
		return Header{}, 0, nil
	}
	return readHeader(b[:n]), n, nil
}

// lengthBounds returns the least and the greatest payload length, in bytes, that the header bytes in b allow. They
// are equal once the length is there whole. b holds two bytes of the header or more.
func lengthBounds(b []byte) (least, most uint64) {
	size := b[1] & lengthBits
	if size < length16 {
		return uint64(size), uint64(size)
	}
	for i := 2; i < 2+lengthFieldBytes(size); i++ {
		low, high := byte(0x00), byte(0xFF)
		if i < len(b) {
			low, high = b[i], b[i]
		}
		least = least<<8 | uint64(low)
		most = most<<8 | uint64(high)
	}
	return least, most
}

// lengthFieldBytes returns how many bytes of extended length follow the 7-bit length size.
func lengthFieldBytes(size byte) int {
	switch size {
	case length16:
		return 2
	case length64:
		return 8
	}
	return 0
}

// headerBytes returns the length in bytes of the header at the start of b, or 0 when it is not there whole.
func headerBytes(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	n := 2 + lengthFieldBytes(b[1]&lengthBits)
	if b[1]&maskBit != 0 {
		n += 4
	}
	if n > len(b) {
		return 0
	}
	return n
}

// headerReader gives the bytes of one header to ws.ReadHeaderBuffer, with the scratch that it wants. Both escape
// through its io.Reader, so they are pooled instead of being on the stack.
type headerReader struct {
	rest    []byte
	scratch [maxHeaderBytes]byte
}

// Read copies what is left.
func (r *headerReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

var headerReaders = sync.Pool{New: func() any { return new(headerReader) }}

// readHeader decodes b, which is exactly one header that checkForm accepts.
func readHeader(b []byte) Header {
	r := headerReaders.Get().(*headerReader)
	r.rest = b
	h, err := ws.ReadHeaderBuffer(r, r.scratch[:])
	r.rest = nil
	headerReaders.Put(r)
	if err != nil {
		panic("codec: a whole and well-formed header was refused: " + err.Error())
	}
	return Header{
		Fin:    h.Fin,
		RSV:    h.Rsv,
		Opcode: Opcode(h.OpCode),
		Masked: h.Masked,
		Mask:   h.Mask,
		Length: h.Length,
	}
}
