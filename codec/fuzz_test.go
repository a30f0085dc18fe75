package codec

import "testing"

// FuzzDecoder runs any stream through the decoder in any reads, and compares with the naive twin: the same messages,
// the same fault. What came out is then encoded and decoded once more.
func FuzzDecoder(f *testing.F) {
	for i, c := range cases {
		if len(c.wire) > 4096 {
			continue
		}
		f.Add(c.wire, []byte{byte(i), 1, 0, 5}, uint16(c.o.MaxMessageBytes), c.o.Client, c.o.Deflate, byte(c.o.TakeoverBits))
	}
	f.Fuzz(func(t *testing.T, wire, cuts []byte, limit uint16, client, deflate bool, takeover byte) {
		o := &Options{MaxMessageBytes: int(limit), Client: client, Deflate: deflate}
		if takeover > 0 {
			o.TakeoverBits = MinWindowBits + int(takeover)%(MaxWindowBits-MinWindowBits+1)
		}
		want := reference(*o, wire)
		if got := decode(t, o, wire); !got.equal(want) {
			t.Fatalf("whole:\n got %v\nwant %v", got, want)
		}
		if got := decodeCut(t, o, wire, cuts); !got.equal(want) {
			t.Fatalf("cut:\n got %v\nwant %v", got, want)
		}
		if got := decode(t, o, wire, 1); !got.equal(want) {
			t.Fatalf("byte by byte:\n got %v\nwant %v", got, want)
		}
		var again []byte
		for _, m := range want.messages {
			if client {
				again = AppendFrame(again, m.Opcode, m.Payload)
			} else {
				again = AppendMaskedFrame(again, m.Opcode, true, m.Payload, testMask)
			}
		}
		if n := len(want.messages); n == 0 || want.messages[n-1].Opcode != OpClose {
			want.fault = 0
		}
		if got := decodeCut(t, o, again, cuts); !got.equal(want) {
			t.Fatalf("round trip:\n got %v\nwant %v", got, want)
		}
	})
}

// decodeCut is decode in reads whose sizes are the bytes of cuts, empty ones among them, and then the rest.
func decodeCut(t *testing.T, o *Options, wire, cuts []byte) outcome {
	t.Helper()
	r := &reader{t: t, o: o}
	defer r.d.Release()
	for _, c := range cuts {
		n := min(int(c), len(wire))
		if !r.read(wire[:n]) {
			return r.got
		}
		wire = wire[n:]
	}
	r.read(wire)
	return r.got
}
