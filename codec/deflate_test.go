package codec

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// stdDeflate is a message's payload as another implementation makes it. window is a preset dictionary.
func stdDeflate(level int, message, window string) string {
	var out bytes.Buffer
	w, err := flate.NewWriterDict(&out, level, []byte(window))
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, message)
	_ = w.Flush()
	return strings.TrimSuffix(out.String(), "\x00\x00\xff\xff")
}

// deflateWires are messages of clients; the first are the examples of RFC 7692 §7.2.3.
func deflateCases() []streamCase {
	o := Options{Deflate: true, MaxMessageBytes: 300}
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	long := strings.Repeat("a", 300)
	ok := func(name string, wire []byte, want ...Message) streamCase {
		return streamCase{name: "deflate: " + name, o: o, wire: wire, want: want}
	}
	wrong := func(name string, wire []byte, at int, fault FaultKind, want ...Message) streamCase {
		return streamCase{name: "deflate: " + name, o: o, wire: wire, at: at, fault: fault, want: want}
	}
	// whole is wrong with a fault that only its last byte shows.
	whole := func(name string, wire []byte, fault FaultKind) streamCase { return wrong(name, wire, len(wire), fault) }
	first := frame(0x41, hello[:3])
	return []streamCase{
		ok("one block", frame(0xc1, hello), msg(OpText, "Hello")),
		ok("two frames", join(frame(0x41, hello[:3]), frame(0x80, hello[3:])), msg(OpText, "Hello")),
		ok("empty frames", join(frame(0x41, ""), frame(0x00, hello), frame(0x00, ""), frame(0x80, "")), msg(OpText, "Hello")),
		ok("stored", frame(0xc1, "\x00\x05\x00\xfa\xffHello\x00"), msg(OpText, "Hello")),
		ok("final block", frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), msg(OpText, "Hello")),
		ok("final block and nothing after", frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00"), msg(OpText, "Hello")),
		ok("two final blocks", frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), msg(OpText, "HelloHello")),
		ok("two blocks", frame(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), msg(OpText, "Hello")),
		ok("empty message", frame(0xc1, "\x00"), msg(OpText, "")),
		ok("no payload", frame(0xc2, ""), msg(OpBinary, "")),
		ok("plain between", join(frame(0xc1, hello), text("plain"), frame(0xc2, hello)), msg(OpText, "Hello"), msg(OpText, "plain"), msg(OpBinary, "Hello")),
		ok("plain fragments", join(firstText("a"), last("b")), msg(OpText, "ab")),
		ok("ping between fragments", join(first, ping("now"), frame(0x80, hello[3:])), msg(OpPing, "now"), msg(OpText, "Hello")),
		ok("of the limit", frame(0xc1, stdDeflate(9, long, "")), msg(OpText, long)),

		whole("over the limit", frame(0xc1, stdDeflate(9, long+"a", "")), FaultDeflateTooBig),
		whole("far over the limit", frame(0xc1, stdDeflate(9, strings.Repeat(long, 1000), "")), FaultDeflateTooBig),
		wrong("too long while compressed", header(0xc2, true, length16, 369), 4, FaultMessageTooBig),
		ok("as long as may be while compressed", header(0xc2, true, length16, 368)),
		wrong("too long plain", header(0x82, true, length16, 301), 4, FaultMessageTooBig),
		wrong("rsv1 on a continuation", join(first, frame(0xc0, hello[3:])), len(first)+1, FaultReservedBits),
		wrong("rsv1 on a ping", frame(0xc9, ""), 1, FaultReservedBits),
		wrong("rsv1 on a close", frame(0xc8, ""), 1, FaultReservedBits),
		wrong("rsv1 on a reserved opcode", frame(0xc3, ""), 1, FaultReservedBits),
		wrong("rsv2", frame(0xa1, hello), 1, FaultReservedBits),
		wrong("rsv3", frame(0x91, hello), 1, FaultReservedBits),
		wrong("rsv1 and rsv2", frame(0xe1, hello), 1, FaultReservedBits),
		whole("reserved block", frame(0xc1, "\x07\x00"), FaultDeflateCorrupt),
		whole("stored with a wrong length", frame(0xc1, "\x00\x05\x00\xfb\xffHello\x00"), FaultDeflateCorrupt),
		whole("cut short", frame(0xc1, hello[:4]), FaultDeflateCorrupt),
		whole("distance too far", frame(0xc1, "\x4a\x84\x03\x00"), FaultDeflateCorrupt),
		whole("no compression at all", frame(0xc1, "Hello"), FaultDeflateCorrupt),
		whole("too many streams", frame(0xc1, strings.Repeat("\x03\x00", 64)+"\x00"), FaultDeflateCorrupt),
		whole("text that is not UTF-8", frame(0xc1, "\x00\x02\x00\xfd\xff\xc3\x28\x00"), FaultInvalidUTF8),
		ok("binary that is not UTF-8", frame(0xc2, "\x00\x02\x00\xfd\xff\xc3\x28\x00"), msg(OpBinary, "\xc3\x28")),
		whole("a code point cut off", frame(0xc1, "\x00\x01\x00\xfe\xff\xc3\x00"), FaultInvalidUTF8),
	}
}

// takeoverCases are streams whose compressed messages refer to those before.
func takeoverCases() []streamCase {
	o := Options{Deflate: true, TakeoverBits: 8}
	hello, again := "\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf2\x00\x11\x00\x00" // RFC 7692 §7.2.3.2
	far := strings.Repeat("x", 256)
	return []streamCase{
		{name: "takeover: refers back", o: o, wire: join(frame(0xc1, hello), frame(0xc1, again)), want: []Message{msg(OpText, "Hello"), msg(OpText, "Hello")}},
		{
			name: "takeover: plain messages don't count", o: o, wire: join(frame(0xc1, hello), text(far), ping("p"), frame(0x41, again[:2]), ping(""), frame(0x80, again[2:])),
			want: []Message{msg(OpText, "Hello"), msg(OpText, far), msg(OpPing, "p"), msg(OpPing, ""), msg(OpText, "Hello")},
		},
		{name: "takeover: nothing to refer to", o: o, wire: frame(0xc1, again), fault: FaultDeflateCorrupt, at: 11},
		{
			name: "takeover: none agreed on", o: Options{Deflate: true}, wire: join(frame(0xc1, hello), frame(0xc1, again)),
			want: []Message{msg(OpText, "Hello")}, fault: FaultDeflateCorrupt, at: 24,
		},
		{
			name: "takeover: out of the window", o: o, wire: join(frame(0xc1, hello), frame(0xc1, "\x00\x00\x01\xff\xfe"+far+"\x00"), frame(0xc1, "\x02\x00\x0a\x00\x00")),
			want: []Message{msg(OpText, "Hello"), msg(OpText, far)}, fault: FaultDeflateCorrupt, at: 13 + 270 + 11,
		},
	}
}

// TestInflate holds the decoder to what another implementation compresses, of sizes around all buffers.
func TestInflate(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 100, 511, 512, 513, 32767, 32768, 32769, 65535, 65536, 300_000} {
		for _, kind := range []string{"text", "noise"} {
			message := strings.Repeat(`{"channel":"orders","data":{"id":1234}}`, size/39+1)[:size]
			if kind == "noise" {
				message = string(noise(random, size))
			}
			o := &Options{Deflate: true, MaxMessageBytes: max(size, 1)}
			for _, level := range []int{-2, 0, 1, 6, 9} {
				wire := frame(0xc2, stdDeflate(level, message, ""))
				want := outcome{messages: []Message{msg(OpBinary, message)}}
				if got := decode(t, o, slices.Clone(wire)); !got.equal(want) {
					t.Fatalf("%s of %d bytes, level %d: got %.200v", kind, size, level, got)
				}
				if got := decode(t, o, wire, 4096); !got.equal(want) {
					t.Fatalf("%s of %d bytes, level %d, in reads: got %.200v", kind, size, level, got)
				}
			}
		}
	}
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// TestBomb shows what 64 MiB in 64 KiB cost: about as much as the limit allows, and a fault.
func TestBomb(t *testing.T) {
	bomb := frame(0xc2, stdDeflate(9, strings.Repeat("\x00", 64<<20), ""))
	if len(bomb) > 70_000 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	for _, limit := range []int{64 << 10, 1 << 20} {
		var d Decoder
		o := &Options{Deflate: true, MaxMessageBytes: limit}
		_, _, _, err := d.Next(o, slices.Clone(bomb))
		if err != FaultDeflateTooBig.fault() && err != FaultMessageTooBig.fault() {
			t.Errorf("limit %d: %v", limit, err)
		}
		d.Release()
	}
}

// TestDeflate inflates what the own compressor makes, with another implementation, and sees how far it refers back.
func TestDeflate(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{1, 256, 257, 40_000} {
		for bits := MinWindowBits; bits <= MaxWindowBits; bits++ {
			d := &Deflate{WindowBits: bits, Level: 1 + bits%maxDeflateLevel}
			var window, theirs []byte
			for round := range 4 {
				// Half of it is old.
				payload := noise(random, size/2)
				payload = append(payload, window[:min(len(window), size-len(payload))]...)
				deflated := d.AppendPayload([]byte("head"), payload, window)[4:]
				back, distance, err := inflatePuff(deflated, theirs, size)
				if err != nil || !bytes.Equal(back, payload) {
					t.Fatalf("%d bytes, %d bits, round %d: %v", size, bits, round, err)
				}
				if distance > 1<<bits {
					t.Fatalf("%d bytes, %d bits: refers %d bytes back", size, bits, distance)
				}
				window = d.Slide(window, payload)
				if theirs = append(theirs, payload...); len(theirs) > 1<<bits {
					theirs = theirs[len(theirs)-1<<bits:]
				}
				if !bytes.Equal(window, theirs) {
					t.Fatalf("%d bytes, %d bits, round %d: the windows differ", size, bits, round)
				}
			}
		}
	}
}

// TestDeflatedFrame shows which variant a connection gets, and that it is made once.
func TestDeflatedFrame(t *testing.T) {
	var full Deflate
	for _, c := range []struct {
		name     string
		frame    *Frame
		d        *Deflate
		deflated bool
		distance int
	}{
		{"usual", NewFrame(OpText, []byte(strings.Repeat("0123456789", 100))), &full, true, 32768},
		{"short", NewFrame(OpText, bytes.Repeat([]byte("a"), 255)), &full, false, 0},
		{"short of a choice", NewFrame(OpText, bytes.Repeat([]byte("a"), 100)), &Deflate{MinBytes: 100}, true, 32768},
		{"ping", NewFrame(OpPing, bytes.Repeat([]byte("a"), 100)), &Deflate{MinBytes: 1}, false, 0},
		{"noise", NewFrame(OpBinary, noise(rand.New(rand.NewPCG(5, 6)), 1000)), &full, false, 0},
		{"fits the window", NewFrame(OpText, []byte(strings.Repeat("0123456789", 100))), &Deflate{WindowBits: 10}, true, 1024},
		{"exceeds the window", NewFrame(OpText, []byte(strings.Repeat("0123456789", 103))), &Deflate{WindowBits: 10}, true, 256},
		{"smallest window", NewFrame(OpText, []byte(strings.Repeat("0123456789", 1000))), &Deflate{WindowBits: 8}, true, 256},
	} {
		wire := c.frame.Deflated(c.d)
		if wire[0]&0x40 != 0 != c.deflated {
			t.Errorf("%s: first byte %x", c.name, wire[0])
		}
		if again := c.frame.Deflated(c.d); &again[0] != &wire[0] {
			t.Errorf("%s: made twice", c.name)
		}
		if !c.deflated {
			if &wire[0] != &c.frame.Bytes()[0] {
				t.Errorf("%s: not the plain frame", c.name)
			}
			continue
		}
		h, n, err := ParseHeader(wire)
		if err != nil || h.RSV != 4 || !h.Fin || h.Opcode != c.frame.Opcode() || int(h.Length) != len(wire)-n {
			t.Errorf("%s: header %+v, %v", c.name, h, err)
		}
		back, distance, err := inflatePuff(wire[n:], nil, c.frame.Len())
		if err != nil || !bytes.Equal(back, c.frame.Payload()) || distance > c.distance {
			t.Errorf("%s: %v, refers %d bytes back", c.name, err, distance)
		}
		client := &Options{Deflate: true, Client: true}
		if got := decode(t, client, slices.Clone(wire)); len(got.messages) != 1 || !bytes.Equal(got.messages[0].Payload, c.frame.Payload()) {
			t.Errorf("%s: our client gets %v", c.name, got)
		}
	}
}

func TestDeflateOptions(t *testing.T) {
	for _, d := range []Deflate{{Level: -1}, {Level: 7}, {MinBytes: -1}, {WindowBits: 7}, {WindowBits: 16}} {
		if d.Validate() == nil {
			t.Errorf("%+v is valid", d)
		}
		if wire := NewFrame(OpText, bytes.Repeat([]byte("a"), 1000)).Deflated(&d); len(wire) == 0 { // must not panic
			t.Errorf("%+v makes nothing", d)
		}
	}
	for _, bits := range []int{-1, 7, 16} {
		if (&Options{TakeoverBits: bits}).Validate() == nil {
			t.Errorf("%d bits are valid", bits)
		}
	}
}

// TestTakeoverMemory shows what an idle connection holds: nothing without context takeover, else its window.
func TestTakeoverMemory(t *testing.T) {
	message := strings.Repeat("0123456789", 10_000)
	for _, bits := range []int{0, 8, 15} {
		o := &Options{Deflate: true, MaxMessageBytes: 1 << 20, TakeoverBits: bits}
		var d Decoder
		b := frame(0xc1, stdDeflate(1, message, ""))
		_, n, ok, err := d.Next(o, b)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, _, ok, err := d.Next(o, b[n:]); ok || err != nil {
			t.Fatal(ok, err)
		}
		most := 0
		if bits > 0 {
			most = 1<<bits + 1<<bits/4 + 300
		}
		if held := d.Buffered(); held > most {
			t.Errorf("%d bits: %d bytes are held, want at most %d", bits, held, most)
		}
		if d.Release(); d.Buffered() != 0 {
			t.Error("not released")
		}
	}
}

// FuzzInflate compares with the naive twin, and takes apart what the compressor makes.
func FuzzInflate(f *testing.F) {
	for _, c := range slices.Concat(deflateCases(), takeoverCases()) {
		if h, n, err := ParseHeader(c.wire); err == nil && n > 0 && int(h.Length) == len(c.wire)-n {
			f.Add(masked(string(c.wire[n:])), []byte("window"), uint16(300))
		}
	}
	for level := -2; level <= 9; level++ {
		f.Add([]byte(stdDeflate(level, strings.Repeat("fuzz the window ", 20), "the window")), []byte("the window"), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, payload, window []byte, limit uint16) {
		o := &Options{MaxMessageBytes: int(limit) + 1}
		p := &partial{buf: extend(nil, payload), window: &buffer{window}}
		want, _, err := inflatePuff(payload, window[max(0, len(window)-1<<15):], int(limit)+1)
		fault := p.inflate(o, OpBinary)
		if got := verdict(fault); got != fmt.Sprint(err) {
			t.Fatalf("got %v, want %v", got, err)
		}
		if err == nil && !bytes.Equal(p.buf.b, want) {
			t.Fatalf("got %q, want %q", p.buf.b, want)
		}
		giveBuffer(p.buf)
		d := &Deflate{WindowBits: int(limit%8) + 8, Level: int(limit%6) + 1}
		w := d.Slide(nil, window)
		back, distance, err := inflatePuff(d.AppendPayload(nil, payload, w), w, len(payload))
		if err != nil || !bytes.Equal(back, payload) || distance > 1<<d.WindowBits {
			t.Fatalf("round trip of %q after %q: %v, %d bytes back", payload, w, err, distance)
		}
	})
}

func verdict(f *Fault) string {
	switch f {
	case nil:
		return fmt.Sprint(error(nil))
	case FaultDeflateTooBig.fault():
		return errPuffTooBig.Error()
	}
	return errPuff.Error()
}
