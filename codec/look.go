package codec

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/gobwas/ws"
)

// This file is for those who look on: what a Decoder is in the middle of, frames as they were on the wire, and messages
// as they were before compression.

// Unfinished is what a Decoder holds of frames that have not arrived whole. The slices are copies.
type Unfinished struct {
	// Head is the beginning of a header. Empty while InFrame.
	Head []byte

	// InFrame says that Frame is arriving, of whose payload there is Payload, unmasked.
	InFrame bool
	Frame   Header
	Payload []byte

	// Opcode is OpText or OpBinary while a message is unfinished, else 0. Before is the payload of its frames that have
	// arrived whole, together and unmasked; Deflated says that it is compressed.
	Opcode   Opcode
	Deflated bool
	Before   []byte

	// Window is what the peer's next compressed message may refer to, with context takeover.
	Window []byte
}

// Unfinished returns what d is in the middle of. It is called between two calls of Next.
func (d *Decoder) Unfinished() Unfinished {
	p := d.p
	if p == nil || p.fault != 0 {
		return Unfinished{}
	}
	u := Unfinished{Head: bytes.Clone(p.head[:p.headLen]), InFrame: p.inFrame, Opcode: p.opcode}
	if p.window != nil {
		u.Window = bytes.Clone(p.window.b)
	}
	if p.inFrame {
		u.Frame = p.frame
	}
	if p.opcode != 0 {
		u.Deflated = p.deflated
		if p.buf != nil {
			u.Before = bytes.Clone(p.buf.b)
		}
	}
	switch {
	case !p.inFrame:
	case p.frame.Opcode.IsControl():
		u.Payload = bytes.Clone(p.control[:p.ctrlLen])
	default:
		at := len(u.Before) - int(p.frame.Length-p.left)
		u.Before, u.Payload = u.Before[:at:at], u.Before[at:]
		if p.frame.Opcode != OpContinuation { // the message begins with it
			u.Opcode, u.Deflated = 0, false
		}
	}
	return u
}

// AppendWire appends h as it is on the wire, with the least bytes for its length: 2 to 14.
func (h Header) AppendWire(dst []byte) []byte {
	first, masked := byte(h.Opcode)|h.RSV<<4, byte(0)
	if h.Fin {
		first |= finBit
	}
	if h.Masked {
		masked = maskBit
	}
	switch {
	case h.Length < length16:
		dst = append(dst, first, masked|byte(h.Length))
	case h.Length <= 0xFFFF:
		dst = binary.BigEndian.AppendUint16(append(dst, first, masked|length16), uint16(h.Length))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, masked|length64), uint64(h.Length))
	}
	if h.Masked {
		dst = append(dst, h.Mask[:]...)
	}
	return dst
}

// Compressed reports whether RSV1 is set, the "Per-Message Compressed" of RFC 7692 §6.
func (h Header) Compressed() bool { return h.RSV&compressed != 0 }

// HeaderBytes returns the length in bytes of the header at the start of b, whatever it says, or 0 when it is not there
// whole.
func HeaderBytes(b []byte) int { return headerBytes(b) }

// ReadHeader decodes b, which is exactly one header, of which nothing is judged: a length of more than 63 bits becomes
// the largest there is.
func ReadHeader(b []byte) Header {
	h := Header{
		Fin: b[0]&finBit != 0, RSV: b[0] & rsvBits >> 4, Opcode: Opcode(b[0] & opcodeBits),
		Masked: b[1]&maskBit != 0,
	}
	length, _ := lengthBounds(b)
	h.Length = int64(min(length, 1<<63-1))
	if h.Masked {
		h.Mask = [4]byte(b[len(b)-4:])
	}
	return h
}

// Mask applies a masking key to payload in place: once to mask it, once more to undo that. RFC 6455 §5.3.
func Mask(payload []byte, key [4]byte) { ws.Cipher(payload, key, 0) }

// MaskAt is Mask for a part of a payload that begins at offset.
func MaskAt(payload []byte, key [4]byte, offset int) { ws.Cipher(payload, key, offset) }

// Inflate returns what the payload of a compressed message was, at most limit bytes. window is what its sender may refer
// to, nil without context takeover. The error is a *Fault. Any goroutine. RFC 7692 §7.2.2.
func Inflate(payload, window []byte, limit int) ([]byte, error) {
	if len(payload) == 0 {
		return nil, nil
	}
	source := takeBuffer(len(payload) + len(flushTail))
	source.b = append(append(source.b, payload...), flushTail...)
	z := inflaters.Get().(*inflater)
	z.src.Reset(source.b)
	out, fault := z.inflate(takeBuffer(min(4*len(source.b), limit+1)), window, limit)
	z.src.Reset(nil)
	inflaters.Put(z)
	giveBuffer(source)
	b := bytes.Clone(out.b)
	giveBuffer(out)
	if fault != nil {
		return b[:min(len(b), limit)], fault
	}
	return b, nil
}

// InflateFirst returns the first byte of a compressed message of whose payload there is the beginning alone; ok is false if that does not tell.
func InflateFirst(payload, window []byte) (first byte, ok bool) {
	z := inflaters.Get().(*inflater)
	z.src.Reset(payload)
	z.reset(window)
	var b [1]byte
	n, _ := io.ReadFull(z.r, b[:]) // what there is comes before the error that there is no more
	z.src.Reset(nil)
	inflaters.Put(z)
	return b[0], n == 1
}

// SlideWindow returns window with the end of a message, of which the last 1<<bits bytes count. The memory of window is reused.
func SlideWindow(window, message []byte, bits int) []byte { return slide(window, message, 1<<bits) }
