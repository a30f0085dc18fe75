package codec

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
)

// The bounds of a window's size, as the exponent of 2. RFC 7692 §7.1.2.
const (
	MinWindowBits = 8
	MaxWindowBits = 15
)

// flushTail is what the sender of a message took off its end, RFC 7692 §7.2.1: the length of an empty
// stored block. An empty block that is the last of a stream follows, so that the reader
// ends by itself.
const flushTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// maxStreams bounds the blocks of one message that claim to be the last of their stream. RFC 7692 §7.2.3.5 allows
// them; each costs a reader's reset, which copies the window.
const maxStreams = 64

// inflater is a pooled reader of deflated bytes.
type inflater struct {
	src bytes.Reader // of which the reader takes no byte too many
	r   io.Reader    // a flate.Resetter
}

var inflaters = sync.Pool{New: func() any {
	z := new(inflater)
	z.r = flate.NewReader(&z.src)
	return z
}}

// inflate replaces the compressed payload in p.buf by the message, of type op. RFC 7692 §7.2.2. p.buf may be nil: a
// message without payload.
func (p *partial) inflate(o *Options, op Opcode) *Fault {
	if p.buf == nil {
		// An empty message is one byte, RFC 7692 §7.2.3.6; that of none is as clear.
		p.deflated, p.buf = false, takeBuffer(1)
		return nil
	}
	p.buf = extend(p.buf, []byte(flushTail))
	z := inflaters.Get().(*inflater)
	z.src.Reset(p.buf.b)
	var window []byte
	if p.window != nil {
		window = p.window.b
	}
	out, fault := z.inflate(takeBuffer(min(4*len(p.buf.b), o.maxMessage()+1)), window, o.maxMessage())
	z.src.Reset(nil)
	inflaters.Put(z)
	giveBuffer(p.buf)
	p.buf, p.deflated = out, false
	if fault == nil && op == OpText && !utf8.Valid(out.b) {
		fault = FaultInvalidUTF8.fault()
	}
	if fault == nil && o.TakeoverBits > 0 {
		if p.window == nil {
			p.window = new(buffer)
		}
		p.window.b = slide(window, out.b, 1<<o.TakeoverBits)
	}
	return fault
}

// inflate appends what the source inflates to, at most limit bytes, to out, and returns the buffer that took its place.
// window is what came before.
func (z *inflater) inflate(out *buffer, window []byte, limit int) (*buffer, *Fault) {
	z.reset(window)
	for streams := 1; ; {
		n, err := z.r.Read(out.b[len(out.b):cap(out.b)])
		out.b = out.b[:len(out.b)+n]
		if len(out.b) > limit {
			return out, FaultDeflateTooBig.fault()
		}
		switch {
		case errors.Is(err, io.EOF):
			// RFC 7692 §7.2.3.5: the end of a stream need not be that of the message.
			if rest := z.src.Len(); rest == 0 || rest == len(flushTail) {
				return out, nil
			}
			if streams++; streams > maxStreams {
				return out, FaultDeflateCorrupt.fault()
			}
			z.reset(slide(bytes.Clone(window), out.b, 1<<MaxWindowBits))
		case err != nil:
			return out, FaultDeflateCorrupt.fault()
		case len(out.b) == cap(out.b):
			larger := takeBuffer(2 * cap(out.b))
			larger.b = append(larger.b, out.b...)
			giveBuffer(out)
			out = larger
		}
	}
}

// reset begins a stream that may refer to window.
func (z *inflater) reset(window []byte) {
	_ = z.r.(flate.Resetter).Reset(&z.src, window) // has no error to return
}

// slide returns window with b at its end, cut to its last size bytes. The memory of window is reused.
func slide(window, b []byte, size int) []byte {
	if len(b) >= size {
		return append(window[:0], b[len(b)-size:]...)
	}
	if over := len(window) + len(b) - size; over > 0 {
		window = window[:copy(window, window[over:])]
	}
	return append(window, b...)
}
