package codec

import (
	"strings"
	"testing"
)

// allocates fails t if f allocates more than want times a run.
func allocates(t *testing.T, name string, want float64, f func()) {
	t.Helper()
	f()
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("%s: %v allocations, want %v", name, got, want)
	}
}

// stream returns a function that feeds wire to one decoder in reads of the given size. Each run restores the bytes,
// because Next unmasks in place.
func stream(t *testing.T, o *Options, wire []byte, size, messages int) func() {
	d := new(Decoder)
	scratch := make([]byte, len(wire))
	return func() {
		copy(scratch, wire)
		got := 0
		for rest := scratch; len(rest) > 0; {
			b := rest[:min(size, len(rest))]
			rest = rest[len(b):]
			for {
				_, n, ok, err := d.Next(o, b)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got++
				b = b[n:]
			}
		}
		if got != messages || (o.TakeoverBits == 0 && d.Buffered() != 0) {
			t.Fatalf("%d messages, want %d; %d bytes held", got, messages, d.Buffered())
		}
	}
}

// TestAllocations holds the budgets of the paths that take nothing from a pool.
func TestAllocations(t *testing.T) {
	o, client := &Options{}, &Options{Client: true}
	whole := 1 << 20
	allocates(t, "text", 0, stream(t, o, text(strings.Repeat("x", 64)), whole, 1))
	allocates(t, "16-bit length", 0, stream(t, o, bin(strings.Repeat("x", 1024)), whole, 1))
	allocates(t, "ping", 0, stream(t, o, ping("payload"), whole, 1))
	allocates(t, "three frames", 0, stream(t, o, join(text("a"), pong(""), bin("b")), whole, 3))
	allocates(t, "server's frame", 0, stream(t, client, unmaskedFrame(fin|0x1, "Hello"), whole, 1))

	dst := make([]byte, 0, 256)
	payload := []byte("payload")
	frame := NewFrame(OpText, payload)
	allocates(t, "NewFrame", 2, func() { frame = NewFrame(OpText, payload) })
	allocates(t, "Frame", 0, func() { _, _ = frame.Bytes(), frame.Payload() })
	allocates(t, "AppendFrame", 0, func() { dst = AppendFrame(dst[:0], OpPong, payload) })
	allocates(t, "AppendMaskedFrame", 0, func() { dst = AppendMaskedFrame(dst[:0], OpText, true, payload, testMask) })
	allocates(t, "AppendClose", 0, func() { dst = AppendClose(dst[:0], StatusGoingAway, "restart") })
	allocates(t, "ParseClose without a reason", 0, func() { _, _, _ = ParseClose([]byte{3, 232}) })
	refused := header(fin|0x3, true, 0, 0)
	allocates(t, "ParseHeader of a wrong header", 0, func() { _, _, _ = ParseHeader(refused) })
}
