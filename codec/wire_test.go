package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"
)

// The wire is built here by hand, apart from the code under test.

// testMask is the masking key of all frames that the tests build. No byte of it is zero.
var testMask = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// fin is a first byte with FIN set.
const fin = 0x80

// frame builds a masked frame with the given first byte.
func frame(first byte, payload string) []byte {
	form := 0
	switch {
	case len(payload) > 0xFFFF:
		form = length64
	case len(payload) >= 126:
		form = length16
	}
	return append(header(first, true, form, uint64(len(payload))), masked(payload)...)
}

// header builds a header whose length is encoded by form: length16, length64, or 0 for 7 bits.
func header(first byte, withMask bool, form int, length uint64) []byte {
	second := byte(form)
	if form == 0 {
		second = byte(length)
	}
	if withMask {
		second |= 0x80
	}
	b := []byte{first, second}
	switch form {
	case length16:
		b = binary.BigEndian.AppendUint16(b, uint16(length))
	case length64:
		b = binary.BigEndian.AppendUint64(b, length)
	}
	if withMask {
		b = append(b, testMask[:]...)
	}
	return b
}

// masked masks s byte by byte.
func masked(s string) []byte {
	b := []byte(s)
	for i := range b {
		b[i] ^= testMask[i%4]
	}
	return b
}

// unmaskedFrame builds what a server sends.
func unmaskedFrame(first byte, payload string) []byte {
	b := frame(first, payload)
	at := len(b) - len(payload) - 4
	b[1] &^= 0x80
	return append(b[:at:at], payload...)
}

// Frames of the usual kinds.
func text(s string) []byte { return frame(fin|0x1, s) }
func bin(s string) []byte  { return frame(fin|0x2, s) }
func ping(s string) []byte { return frame(fin|0x9, s) }
func pong(s string) []byte { return frame(fin|0xA, s) }

// closing builds a close frame.
func closing(code uint16, reason string) []byte { return frame(fin|0x8, closeBody(code, reason)) }

// closeBody builds the payload of a close frame.
func closeBody(code uint16, reason string) string {
	return string([]byte{byte(code >> 8), byte(code)}) + reason
}

// Fragments.
func firstText(s string) []byte   { return frame(0x1, s) }
func firstBinary(s string) []byte { return frame(0x2, s) }
func more(s string) []byte        { return frame(0x0, s) }
func last(s string) []byte        { return frame(fin, s) }

// join concatenates frames.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// fragments builds a message in fragments of size bytes of payload.
func fragments(op byte, payload string, size int) []byte {
	var b []byte
	for first := op; ; first = 0 {
		if len(payload) <= size {
			return append(b, frame(fin|first, payload)...)
		}
		b = append(b, frame(first, payload[:size])...)
		payload = payload[size:]
	}
}

// msg is a Message that owns its payload.
func msg(op Opcode, payload string) Message { return Message{Opcode: op, Payload: []byte(payload)} }

// outcome is what became of a stream.
type outcome struct {
	messages []Message
	fault    FaultKind // 0: none
	at       int       // bytes delivered when the fault came
}

// String shortens long payloads.
func (o outcome) String() string {
	s := fmt.Sprintf("fault %v at %d, %d messages", o.fault, o.at, len(o.messages))
	for _, m := range o.messages {
		s += fmt.Sprintf(" %v(%d)%.20q", m.Opcode, len(m.Payload), m.Payload)
	}
	return s
}

// equal compares everything but the place of the fault, which depends on the reads.
func (o outcome) equal(p outcome) bool {
	if o.fault != p.fault || len(o.messages) != len(p.messages) {
		return false
	}
	for i, m := range o.messages {
		if m.Opcode != p.messages[i].Opcode || !bytes.Equal(m.Payload, p.messages[i].Payload) {
			return false
		}
	}
	return true
}

// canary follows the bytes of each read.
const canary = "\xDE\xAD\xBE\xEF\xDE\xAD\xBE\xEF\xDE\xAD\xBE\xEF\xDE\xAD\xBE\xEF"

// reader feeds a decoder as a connection's loop does: each read lands in one scratch buffer, which is overwritten
// by the next read. It checks every promise of Next on the way.
type reader struct {
	t       testing.TB
	d       Decoder
	o       *Options
	scratch []byte
	got     outcome
}

// read delivers one read, and reports whether the stream goes on.
func (r *reader) read(chunk []byte) bool {
	r.scratch = append(append(r.scratch[:0], chunk...), canary...)
	r.got.at += len(chunk)
	b := r.scratch[:len(chunk)]
	goesOn := r.drain(b)
	if string(r.scratch[len(chunk):]) != canary {
		r.t.Fatalf("bytes after the %d given were changed", len(chunk))
	}
	for i := range r.scratch {
		r.scratch[i] = 0xA5
	}
	return goesOn
}

// drain calls Next until it has no more messages, and reports whether the stream goes on.
func (r *reader) drain(b []byte) bool {
	for {
		m, n, ok, err := r.d.Next(r.o, b)
		if err != nil {
			r.refused(err)
			return false
		}
		if n < 0 || n > len(b) || (!ok && n != len(b)) {
			r.t.Fatalf("n = %d of %d with ok = %v", n, len(b), ok)
		}
		if !ok {
			return true
		}
		r.got.messages = append(r.got.messages, msg(m.Opcode, string(m.Payload)))
		if cap(m.Payload) != len(m.Payload) {
			r.t.Fatalf("payload of %d bytes has room for %d: an append would overwrite", len(m.Payload), cap(m.Payload))
		}
		b = b[n:]
		if m.Opcode != OpClose {
			continue
		}
		if _, _, err := ParseClose(m.Payload); err != nil {
			r.got.fault = err.(*Fault).Kind
		}
		return false
	}
}

// refused records the fault, and checks that it stays.
func (r *reader) refused(err error) {
	f := err.(*Fault)
	r.got.fault = f.Kind
	if r.d.InProgress() {
		r.t.Fatal("a failed decoder waits for more bytes")
	}
	_, n, ok, again := r.d.Next(r.o, text("more"))
	if again != err || ok || n != 0 {
		r.t.Fatalf("after %v, Next returned %d, %v, %v", err, n, ok, again)
	}
}

// decode runs a stream through a decoder, in reads of the given sizes, the last one again and again. No sizes
// means one read.
func decode(t testing.TB, o *Options, wire []byte, sizes ...int) outcome {
	t.Helper()
	r := &reader{t: t, o: o}
	defer r.d.Release()
	for i := 0; len(wire) > 0; i++ {
		size := len(wire)
		if len(sizes) > 0 {
			size = min(size, sizes[min(i, len(sizes)-1)])
		}
		if !r.read(wire[:size]) {
			return r.got
		}
		wire = wire[size:]
	}
	r.got.at = 0
	window := 0
	if r.d.p != nil && r.d.p.window != nil {
		window = int(unsafe.Sizeof(partial{})) + cap(r.d.p.window.b)
	}
	if !r.d.InProgress() && r.d.Buffered() != window {
		t.Fatalf("%d bytes held with nothing in progress", r.d.Buffered())
	}
	return r.got
}
