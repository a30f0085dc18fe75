package codec

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"

	"github.com/gobwas/ws"
)

// Message is one complete message of data, or one control frame.
type Message struct {
	// Opcode is OpText, OpBinary, OpClose, OpPing or OpPong.
	Opcode Opcode
	// Payload is unmasked, and UTF-8 if Opcode is OpText. The payload of a close frame is for ParseClose. It lies in
	// the bytes given to Next, or in memory of the decoder's: it is valid until the next call on the decoder, and as
	// long as the caller's bytes are. It may be changed in place; appending to it copies.
	Payload []byte
}

// Decoder turns the bytes that one connection receives into messages. The zero value is ready; a Decoder is meant
// to be a field of the connection and must not be copied while it holds anything.
//
// It belongs to one goroutine at a time. While no frame and no message is unfinished it holds no memory.
type Decoder struct {
	// p is what is unfinished, or lent to the caller, or the fault that ended it. Nil while there is nothing of that.
	p *partial
}

// Next decodes from the start of b, up to the end of the first message or control frame.
//
// With ok, m is that message and n the number of bytes of b that it took; the caller goes on with b[n:]. Without ok
// there is no message yet: n is len(b), all of b was taken into the decoder, and the caller comes back with bytes
// that follow. With err, which is always a *Fault, the peer broke the protocol: the caller sends the fault's close
// frame and stops, and any further call returns the same fault.
//
// Next changes b: payloads are unmasked in place. It keeps no reference to b, but m.Payload may lie in it.
// An empty b is allowed. The call without ok also gives back the memory of the message before, so the caller
// should always loop to it:
//
//	for {
//		m, n, ok, err := d.Next(o, b)
//		if err != nil || !ok {
//			break
//		}
//		b = b[n:]
//		// use m
//	}
//
// Control frames come out where they stand, also between the fragments of a message. After an OpClose the caller
// stops: what follows is to be discarded (RFC 6455 §1.4), and Next doesn't do that by itself.
//
// o must be the same for all calls. Sources: RFC 6455 §5 and §8.1.
func (d *Decoder) Next(o *Options, b []byte) (m Message, n int, ok bool, err error) {
	if d.p != nil {
		d.settle()
	}
	if d.p != nil {
		return d.resume(o, b)
	}
	start, end := wholeFrame(o, b)
	if end == 0 {
		return d.resume(o, b)
	}
	m = Message{Opcode: Opcode(b[0] & opcodeBits), Payload: b[start:end:end]}
	if !o.Client {
		// RFC 6455 §6.2: "A server MUST remove masking for data frames received from a client".
		ws.Cipher(m.Payload, [4]byte(b[start-4:start]), 0)
	}
	if m.Opcode == OpText && !utf8.Valid(m.Payload) {
		return d.fail(FaultInvalidUTF8.fault())
	}
	return m, end, true, nil
}

// wholeFrame finds the payload of the frame at the start of b when the frame is the usual one: flawless, complete in
// b, unfragmented, without reserved bits, shorter than 64 KiB, while no message is unfinished. For everything else
// it returns zeros, and resume finds out what it is.
//
// It repeats a little of what ParseHeader knows, for speed: BenchmarkDecode/64B against BenchmarkDecodeGeneral/64B.
func wholeFrame(o *Options, b []byte) (start, end int) {
	if len(b) < 2 || (b[1]&maskBit == 0) != o.Client {
		return 0, 0
	}
	size, start := int(b[1]&lengthBits), 2
	switch b[0] {
	case finBit | byte(OpText), finBit | byte(OpBinary):
		if size == length16 {
			if len(b) < 4 {
				return 0, 0
			}
			size, start = int(binary.BigEndian.Uint16(b[2:])), 4
			if size < length16 {
				return 0, 0
			}
		} else if size == length64 {
			return 0, 0
		}
		if size > o.maxMessage() {
			return 0, 0
		}
	case finBit | byte(OpPing), finBit | byte(OpPong), finBit | byte(OpClose):
		if size > maxControlBytes {
			return 0, 0
		}
	default:
		return 0, 0
	}
	if !o.Client {
		start += 4
	}
	if end = start + size; end > len(b) {
		return 0, 0
	}
	return start, end
}

// resume is Next for everything that wholeFrame leaves over: frames and messages in pieces, and faults.
// RFC 6455 §5.4: "Clients and servers MUST support receiving both fragmented and unfragmented messages."
// Each round takes at least the rest of a header, so the number of rounds is bounded by len(b).
func (d *Decoder) resume(o *Options, b []byte) (m Message, n int, ok bool, err error) {
	if d.p != nil && d.p.fault != 0 {
		return Message{}, 0, false, d.p.fault.fault()
	}
	for {
		if d.p == nil || !d.p.inFrame {
			h, k, whole, fault := d.header(o, b[n:])
			if fault != nil {
				return d.fail(fault)
			}
			n += k
			if !whole {
				return Message{}, n, false, nil
			}
			if h.Length <= int64(len(b)-n) && (h.Opcode.IsControl() || (h.Fin && h.Opcode != OpContinuation)) {
				return d.inPlace(o, h, b, n)
			}
			d.hold().begin(h)
		}
		p := d.p
		k := int(min(p.left, int64(len(b)-n)))
		m, ok, fault := p.payload(o, b[n:n+k])
		if fault != nil {
			return d.fail(fault)
		}
		n += k
		if ok || p.inFrame {
			return m, n, ok, nil
		}
	}
}

// inPlace hands out the frame whose header is h and whose payload is there whole, from b[n:], without copying it.
func (d *Decoder) inPlace(o *Options, h Header, b []byte, n int) (Message, int, bool, error) {
	end := n + int(h.Length)
	m := Message{Opcode: h.Opcode, Payload: b[n:end:end]}
	if h.Masked {
		ws.Cipher(m.Payload, h.Mask, 0)
	}
	if h.RSV&compressed != 0 {
		p := d.hold()
		p.buf = extend(nil, m.Payload)
		if fault := p.inflate(o, h.Opcode); fault != nil {
			return d.fail(fault)
		}
		m.Payload, p.lent = p.buf.b[:len(p.buf.b):len(p.buf.b)], true
		return m, end, true, nil
	}
	if h.Opcode == OpText && !utf8.Valid(m.Payload) {
		return d.fail(FaultInvalidUTF8.fault())
	}
	if d.p != nil && !d.fragmented() {
		d.rest() // the header may have come in pieces
	}
	return m, end, true, nil
}

// header reads the header that starts, or goes on, at the start of b, and returns how many bytes of b it took.
// Without whole it is not complete, and all of b was kept for later.
func (d *Decoder) header(o *Options, b []byte) (h Header, n int, whole bool, fault *Fault) {
	if d.p == nil || d.p.headLen == 0 {
		if fault = d.check(o, b); fault != nil {
			return Header{}, 0, false, fault
		}
		if n = headerBytes(b); n > 0 {
			return readHeader(b[:n]), n, true, nil
		}
		if len(b) > 0 {
			p := d.hold()
			p.headLen = uint8(copy(p.head[:], b))
		}
		return Header{}, len(b), false, nil
	}
	// What is copied beyond the header is payload, and is not looked at.
	p := d.p
	have := int(p.headLen)
	head := p.head[:have+copy(p.head[have:], b)]
	if fault = d.check(o, head); fault != nil {
		return Header{}, 0, false, fault
	}
	if n = headerBytes(head); n > 0 {
		p.headLen = 0
		return readHeader(head[:n]), n - have, true, nil
	}
	p.headLen = uint8(len(head))
	return Header{}, len(b), false, nil
}

// fail gives back all payload, and makes the decoder return f from now on. RFC 6455 §7.1.7: "An
// endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the remote
// endpoint after being instructed to _Fail the WebSocket Connection_."
func (d *Decoder) fail(f *Fault) (Message, int, bool, error) {
	p := d.hold()
	giveBuffer(p.buf)
	*p = partial{fault: f.Kind}
	return Message{}, 0, false, f
}

// settle ends the loan of the payload that the last call handed out.
func (d *Decoder) settle() {
	if !d.p.lent {
		return
	}
	d.p.lent = false
	if !d.fragmented() {
		d.rest()
	}
}

// rest gives back what the decoder needs no more between two messages: all, if there is no context takeover.
func (d *Decoder) rest() {
	if d.p.window == nil {
		d.Release()
		return
	}
	d.p.clear()
}

// hold returns what the decoder holds, and makes it hold something first if it doesn't.
func (d *Decoder) hold() *partial {
	if d.p == nil {
		d.p = partials.Get().(*partial)
	}
	return d.p
}

// Release gives everything back that the decoder holds. The last message's payload is invalid afterwards, and the
// decoder is as new. The connection's end calls it once; calling it again does nothing.
func (d *Decoder) Release() {
	p := d.p
	if p == nil {
		return
	}
	d.p = nil
	giveBuffer(p.buf)
	*p = partial{}
	partials.Put(p)
}

// InProgress reports whether the peer owes bytes: the rest of a frame, or of a fragmented message.
func (d *Decoder) InProgress() bool {
	p := d.p
	return p != nil && (p.inFrame || p.headLen > 0 || d.fragmented())
}

// Buffered returns the memory that the decoder holds beyond itself, in bytes: 0 on an idle connection, else a
// constant, the buffer of an unfinished message and the window of a context takeover.
func (d *Decoder) Buffered() int {
	if d.p == nil {
		return 0
	}
	n := int(unsafe.Sizeof(partial{}))
	if d.p.buf != nil {
		n += cap(d.p.buf.b)
	}
	if d.p.window != nil {
		n += cap(d.p.window.b)
	}
	return n
}

// fragmented reports whether a data message is unfinished.
func (d *Decoder) fragmented() bool { return d.p != nil && d.p.opcode != 0 }

// deflated reports whether the unfinished message is compressed.
func (d *Decoder) deflated() bool { return d.fragmented() && d.p.deflated }

// assembled returns the number of payload bytes of the unfinished message.
func (d *Decoder) assembled() int {
	if d.p == nil || d.p.buf == nil {
		return 0
	}
	return len(d.p.buf.b)
}
