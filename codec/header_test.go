package codec

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gobwas/ws"
)

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want Header
	}{
		{"text", text("Hello"), Header{true, 0, OpText, true, testMask, 5}},
		{"unmasked", unmaskedFrame(fin|0x2, "Hello"), Header{true, 0, OpBinary, false, [4]byte{}, 5}},
		{"fragment", more(""), Header{false, 0, OpContinuation, true, testMask, 0}},
		{"reserved bits", frame(fin|0x51, ""), Header{true, 5, OpText, true, testMask, 0}},
		{"16 bits", header(fin|0x1, true, length16, 126), Header{true, 0, OpText, true, testMask, 126}},
		{"16 bits, most", header(fin|0x1, false, length16, 65535), Header{true, 0, OpText, false, [4]byte{}, 65535}},
		{"64 bits", header(fin|0x1, true, length64, 65536), Header{true, 0, OpText, true, testMask, 65536}},
		{"64 bits, most", header(fin|0x1, true, length64, 1<<63-1), Header{true, 0, OpText, true, testMask, 1<<63 - 1}},
		{"close", closing(1000, ""), Header{true, 0, OpClose, true, testMask, 2}},
	} {
		before := bytes.Clone(c.b)
		h, n, err := ParseHeader(c.b)
		if h != c.want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", c.name, h, err, c.want)
		}
		if !bytes.Equal(before, c.b) {
			t.Errorf("%s: the bytes were changed", c.name)
		}
		for i := range n {
			if h, k, err := ParseHeader(c.b[:i]); k != 0 || err != nil || h != (Header{}) {
				t.Errorf("%s: %d of %d bytes gave %+v, %d, %v", c.name, i, n, h, k, err)
			}
		}
	}
}

func TestParseHeaderFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		at   int
		want FaultKind
	}{
		{"reserved opcode", frame(fin|0x3, ""), 1, FaultReservedOpcode},
		{"reserved control opcode", frame(fin|0xB, ""), 1, FaultReservedOpcode},
		{"fragmented control frame", frame(0x9, ""), 1, FaultControlFragmented},
		{"long control frame", header(fin|0x9, true, length16, 126), 2, FaultControlTooLong},
		{"16 bits, not minimal", header(fin|0x1, true, length16, 125), 4, FaultLengthNotMinimal},
		{"64 bits, not minimal", header(fin|0x1, true, length64, 65535), 8, FaultLengthNotMinimal},
		{"64 bits, MSB", header(fin|0x1, true, length64, 1<<63), 3, FaultLengthMSB},
	} {
		for i := range len(c.b) + 1 {
			h, n, err := ParseHeader(c.b[:i])
			var f *Fault
			if errors.As(err, &f) != (i >= c.at) || n != 0 || h != (Header{}) {
				t.Errorf("%s: %d bytes gave %+v, %d, %v", c.name, i, h, n, err)
			}
			if f != nil && f.Kind != c.want {
				t.Errorf("%s: %v, want %v", c.name, f.Kind, c.want)
			}
		}
	}
}

// TestWholeFrameAgrees compares the short cut of Next with the general way, on every pair of first bytes and on
// lengths around the limits. Where the short cut has an answer it is the same; where it should have one it has.
func TestWholeFrameAgrees(t *testing.T) {
	for _, client := range []bool{false, true} {
		for first := range 256 {
			for second := range 256 {
				for _, ext := range [][]byte{{0, 0}, {0, 125}, {0, 126}, {1, 0}, {2, 0}, {2, 1}, {255, 255}} {
					o := &Options{Client: client, MaxMessageBytes: 512}
					b := append([]byte{byte(first), byte(second)}, ext...)
					b = append(b, make([]byte, 600)...)
					checkWholeFrame(t, o, b)
				}
			}
		}
	}
}

// checkWholeFrame compares one answer of wholeFrame.
func checkWholeFrame(t *testing.T, o *Options, b []byte) {
	t.Helper()
	var d Decoder
	wantStart, wantEnd := 0, 0
	if d.check(o, b) == nil {
		h, n, _ := ParseHeader(b)
		if h.Fin && n > 0 && n+int(h.Length) <= len(b) && h.Length < 65536 {
			wantStart, wantEnd = n, n+int(h.Length)
		}
	}
	if start, end := wholeFrame(o, b); start != wantStart || end != wantEnd {
		t.Fatalf("wholeFrame(% x) = %d, %d, want %d, %d", b[:4], start, end, wantStart, wantEnd)
	}
	for _, short := range []int{0, 1, 2, 3, max(0, wantEnd-1)} {
		if start, end := wholeFrame(o, b[:short]); end > short || (end != 0 && end != wantEnd) {
			t.Fatalf("wholeFrame(% x) of %d bytes = %d, %d", b[:4], short, start, end)
		}
	}
}

// FuzzHeader compares ParseHeader with gobwas's own checks over the whole header, and with the wire.
func FuzzHeader(f *testing.F) {
	for _, c := range cases {
		f.Add(c.wire[:min(len(c.wire), maxHeaderBytes)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		for i := range len(b) {
			hi, ni, erri := ParseHeader(b[:i])
			switch {
			case erri != nil && erri != err:
				t.Fatalf("%d bytes: %v, all: %v", i, erri, err)
			case ni != 0 && (ni != n || hi != h):
				t.Fatalf("%d bytes: %+v, all: %+v", i, hi, h)
			case erri == nil && ni == 0 && err == nil && n != 0 && i >= n:
				t.Fatalf("%d bytes are no header of %d", i, n)
			}
		}
		theirs, errTheirs := ws.ReadHeader(bytes.NewReader(b))
		if n > 0 {
			checkHeader(t, b, h, n, theirs, errTheirs)
			return
		}
		var state ws.State
		if theirs.OpCode == ws.OpContinuation {
			state = ws.StateFragmented
		}
		if err == nil && errTheirs == nil {
			t.Fatalf("%d bytes are a header, but not here: %+v", len(b), theirs)
		}
		if err != nil && errTheirs == nil && ws.CheckHeader(theirs, state|ws.StateExtended) == nil &&
			err != error(FaultLengthNotMinimal.fault()) &&
			(err != error(FaultControlTooLong.fault()) || b[1]&lengthBits <= maxControlBytes) { // §5.5: by the 7 bits alone
			t.Fatalf("%+v refused: %v", theirs, err)
		}
	})
}

// checkHeader compares a header with what gobwas read, and with the bytes that it is built of.
func checkHeader(t *testing.T, b []byte, h Header, n int, theirs ws.Header, err error) {
	t.Helper()
	ours := ws.Header{
		Fin: h.Fin, Rsv: h.RSV, OpCode: ws.OpCode(h.Opcode), Masked: h.Masked, Mask: h.Mask, Length: h.Length,
	}
	if err != nil || ours != theirs {
		t.Fatalf("%+v, theirs %+v, %v", ours, theirs, err)
	}
	var wire bytes.Buffer
	if err := ws.WriteHeader(&wire, ours); err != nil || !bytes.Equal(wire.Bytes(), b[:n]) {
		t.Fatalf("% x was not minimal: % x, %v", b[:n], wire.Bytes(), err)
	}
	if h.RSV == 0 {
		ext := AppendHeader(nil, h.Opcode, h.Fin, int(h.Length))
		if ext[1] |= b[1] & 0x80; !bytes.HasPrefix(b, ext) {
			t.Fatalf("AppendHeader gave % x for % x", ext, b[:n])
		}
	}
}
