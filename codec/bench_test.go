package codec

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// zeroMask leaves the payload as it is, so that a benchmark can decode the same bytes again and again. Unmasking
// takes the same time with any key.
var zeroMask [4]byte

// benchWires are streams of n messages each.
func benchWires() []struct {
	name string
	wire []byte
	n    int
} {
	one := func(op Opcode, size int) []byte {
		return AppendMaskedFrame(nil, op, true, bytes.Repeat([]byte("x"), size), zeroMask)
	}
	return []struct {
		name string
		wire []byte
		n    int
	}{
		{"16B", one(OpBinary, 16), 1},
		{"64B", one(OpBinary, 64), 1},
		{"64B-text", one(OpText, 64), 1},
		{"1KiB", one(OpBinary, 1024), 1},
		{"1KiB-text", one(OpText, 1024), 1},
		{"64KiB", one(OpBinary, 65536), 1},
		{"64KiB-text", one(OpText, 65536), 1},
		{"16x16B", bytes.Repeat(one(OpText, 16), 16), 16},
		{"ping", one(OpPing, 0), 1},
	}
}

// BenchmarkDecode is one read of whole frames, with the call that finds nothing more. ns/op is per read.
func BenchmarkDecode(b *testing.B) {
	for _, c := range benchWires() {
		b.Run(c.name, func(b *testing.B) {
			var d Decoder
			o := &Options{}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.wire)))
			for b.Loop() {
				got := 0
				for rest := c.wire; ; got++ {
					_, n, ok, err := d.Next(o, rest)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					rest = rest[n:]
				}
				if got != c.n {
					b.Fatalf("%d messages", got)
				}
			}
		})
	}
}

// BenchmarkDecodeGeneral is BenchmarkDecode without the short cut of wholeFrame: what it gains.
func BenchmarkDecodeGeneral(b *testing.B) {
	for _, c := range benchWires() {
		b.Run(c.name, func(b *testing.B) {
			var d Decoder
			o := &Options{}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.wire)))
			for b.Loop() {
				for rest := c.wire; ; {
					_, n, ok, err := d.resume(o, rest)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					rest = rest[n:]
				}
			}
		})
	}
}

// BenchmarkDecodeInPieces is what reads that cut a frame cost, and fragments.
func BenchmarkDecodeInPieces(b *testing.B) {
	long := bytes.Repeat([]byte("x"), 65536)
	var fragmented []byte
	for i := range 16 {
		op := OpContinuation
		if i == 0 {
			op = OpText
		}
		fragmented = AppendMaskedFrame(fragmented, op, i == 15, long[:64], zeroMask)
	}
	empty := AppendMaskedFrame(nil, OpText, false, nil, zeroMask)
	empty = append(empty, bytes.Repeat(AppendMaskedFrame(nil, OpContinuation, false, nil, zeroMask), 998)...)
	empty = AppendMaskedFrame(empty, OpContinuation, true, nil, zeroMask)
	for _, c := range []struct {
		name string
		wire []byte
		size int
	}{
		{"64B-in-3B", AppendMaskedFrame(nil, OpText, true, long[:64], zeroMask), 3},
		{"64B-in-40B", AppendMaskedFrame(nil, OpText, true, long[:64], zeroMask), 40},
		{"64KiB-in-4KiB", AppendMaskedFrame(nil, OpText, true, long, zeroMask), 4096},
		{"16-fragments-of-64B", fragmented, len(fragmented)},
		{"1000-empty-fragments", empty, len(empty)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var d Decoder
			o := &Options{}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.wire)))
			for b.Loop() {
				got := 0
				for rest := c.wire; len(rest) > 0; {
					read := rest[:min(c.size, len(rest))]
					rest = rest[len(read):]
					for {
						_, n, ok, err := d.Next(o, read)
						if err != nil {
							b.Fatal(err)
						}
						if !ok {
							break
						}
						got++
						read = read[n:]
					}
				}
				if got != 1 {
					b.Fatalf("%d messages", got)
				}
			}
		})
	}
}

// BenchmarkHeader is ParseHeader alone.
func BenchmarkHeader(b *testing.B) {
	wire := text(strings.Repeat("x", 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, n, _ := ParseHeader(wire); n == 0 {
			b.Fatal("no header")
		}
	}
}

// BenchmarkFrame is what encoding costs: a shared frame, and one in a buffer that is there.
func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"16B", 16}, {"64B", 64}, {"1KiB", 1024}, {"64KiB", 65536}} {
		payload := bytes.Repeat([]byte("x"), c.size)
		b.Run("New/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				NewFrame(OpText, payload)
			}
		})
		b.Run("Append/"+c.name, func(b *testing.B) {
			dst := make([]byte, 0, c.size+maxHeaderBytes)
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				dst = AppendFrame(dst[:0], OpText, payload)
			}
		})
	}
}

// BenchmarkDeflate is what compressing a message costs, once for all that are sent it; wire-B is what then leaves.
func BenchmarkDeflate(b *testing.B) {
	line := `{"id":12345,"symbol":"ABCD","price":%d.25,"volume":100,"side":"buy","time":"2026-01-02T03:04:05Z"},`
	var text strings.Builder
	for n := 0; text.Len() < 16<<10; n++ {
		text.WriteString(strings.Replace(line, "%d", strconv.Itoa(n*n), 1))
	}
	for _, level := range []int{1, 6} {
		for _, size := range []int{256, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("level=%d/%dB", level, size), func(b *testing.B) {
				payload := []byte(text.String()[:size])
				d := &Deflate{Level: level}
				var wire []byte
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					wire = NewFrame(OpText, payload).Deflated(d)
				}
				b.ReportMetric(float64(len(wire)), "wire-B")
			})
		}
	}
}
