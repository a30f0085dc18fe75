package codec

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// nextAll feeds d with b and returns the messages that it completes.
func nextAll(d *Decoder, o *Options, b []byte) (got []Message, fault bool) {
	b = slices.Clone(b)
	for {
		m, n, ok, err := d.Next(o, b)
		if err != nil {
			return got, true
		}
		b = b[n:]
		if !ok {
			return got, false
		}
		got = append(got, Message{m.Opcode, bytes.Clone(m.Payload)})
	}
}

// What Unfinished says, written as frames again, has another decoder go on where the first one was, wherever that is.
func TestUnfinished(t *testing.T) {
	for _, c := range cases {
		if c.fault != 0 || c.o.Client || len(c.wire) > 600 {
			continue
		}
		for i := range len(c.wire) + 1 {
			var first Decoder
			seen, _ := nextAll(&first, &c.o, c.wire[:i])
			u := first.Unfinished()
			current := u.Head
			if u.InFrame {
				payload := bytes.Clone(u.Payload)
				Mask(payload, u.Frame.Mask)
				current = append(u.Frame.AppendWire(nil), payload...)
			}
			if !bytes.HasSuffix(c.wire[:i], current) {
				t.Fatalf("%s: after %d bytes the frame is % x", c.name, i, current)
			}
			var before []byte
			if u.Opcode != 0 {
				before = AppendMaskedFrame(nil, u.Opcode, false, u.Before, testMask)
				if u.Deflated {
					before[0] |= rsv1
				}
			}
			second := Decoder{}
			if u.Window != nil {
				second.p = &partial{window: &buffer{b: u.Window}}
			}
			rest, fault := nextAll(&second, &c.o, slices.Concat(before, current, c.wire[i:]))
			got := slices.Concat(seen, rest)
			if closed := slices.IndexFunc(got, func(m Message) bool { return m.Opcode == OpClose }); closed >= 0 {
				got = got[:closed+1]
			}
			equal := slices.EqualFunc(got, c.want, func(a, b Message) bool { return a.Opcode == b.Opcode && string(a.Payload) == string(b.Payload) })
			if fault || !equal {
				t.Fatalf("%s: from byte %d on: %v, fault %v, want %v", c.name, i, got, fault, c.want)
			}
			first.Release()
		}
	}
}

// ReadHeader and AppendWire agree with the wire for every header there may be, also those that are faults.
func TestHeaderOnTheWire(t *testing.T) {
	for first := range 256 {
		for _, withMask := range []bool{false, true} {
			for _, length := range []uint64{0, 125, 126, 65535, 65536, 1<<63 - 1} {
				form := 0
				switch {
				case length > 0xFFFF:
					form = length64
				case length >= 126:
					form = length16
				}
				wire := header(byte(first), withMask, form, length)
				if HeaderBytes(wire) != len(wire) || HeaderBytes(wire[:len(wire)-1]) != 0 {
					t.Fatalf("% x: %d bytes", wire, HeaderBytes(wire))
				}
				h := ReadHeader(wire)
				if got := h.AppendWire(nil); !bytes.Equal(got, wire) || h.Length != int64(length) {
					t.Fatalf("% x: %+v is % x", wire, h, got)
				}
				if want, n, err := ParseHeader(wire); err == nil && n > 0 && want != h {
					t.Fatalf("% x: %+v, want %+v", wire, h, want)
				}
			}
		}
	}
	if h := ReadHeader(header(0x81, false, length64, 1<<64-1)); h.Length != 1<<63-1 {
		t.Errorf("a length of 64 bits: %d", h.Length)
	}
}

func TestInflateAlone(t *testing.T) {
	message := strings.Repeat("a message that is compressed ", 100)
	payload := []byte(stdDeflate(6, message, ""))
	if b, err := Inflate(payload, nil, len(message)); err != nil || string(b) != message {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := Inflate(payload, nil, 100); err == nil || string(b) != message[:100] {
		t.Errorf("more than the limit: %d bytes, %v", len(b), err)
	}
	again := []byte(stdDeflate(6, message, message))
	if b, err := Inflate(again, []byte(message), len(message)); err != nil || string(b) != message {
		t.Errorf("with a window: %d bytes, %v", len(b), err)
	}
	if _, err := Inflate(again, nil, len(message)); err == nil {
		t.Error("a window that is not there was not missed")
	}
	if b, err := Inflate(nil, nil, 10); err != nil || len(b) != 0 {
		t.Errorf("nothing: %d bytes, %v", len(b), err)
	}
	// Of whatever beginning there is, the first byte is right or unknown; a few bytes with the codes of the block tell it.
	for _, m := range []string{message, "\xff", strings.Repeat("noise 0123456789 and more ", 4000)} {
		for _, window := range []string{"", m + "before"} {
			whole, known := []byte(stdDeflate(6, m, window)), 0
			for n := range len(whole) + 1 {
				first, ok := InflateFirst(whole[:n], []byte(window))
				if ok && first != m[0] || !ok && known > 0 {
					t.Fatalf("of %d bytes of %d: %q, %v, want %q", n, len(whole), first, ok, m[0])
				}
				if ok {
					known++
				}
			}
			if len(whole)-known > 120 || known == 0 {
				t.Errorf("%d of %d beginnings tell", known, len(whole))
			}
		}
	}
	if w := SlideWindow([]byte("abc"), []byte("def"), 2); string(w) != "cdef" {
		t.Errorf("window %q", w)
	}
}
