//go:build !race

package codec

import (
	"bytes"
	"strings"
	"testing"
)

// TestPooledAllocations holds the budgets of the paths that take memory from a pool, once the pool is warm. The race
// detector makes sync.Pool forget things at random, so there is nothing to count under it.
func TestPooledAllocations(t *testing.T) {
	o := &Options{MaxMessageBytes: 1 << 20}
	whole := 1 << 30
	hello := text("Hello")
	allocates(t, "ParseHeader", 0, func() { _, _, _ = ParseHeader(hello) })
	allocates(t, "64-bit length", 0, stream(t, o, bin(strings.Repeat("x", 65536)), whole, 1))
	allocates(t, "split header", 0, stream(t, o, hello, 3, 1))
	allocates(t, "split payload", 0, stream(t, o, hello, 8, 1))
	allocates(t, "split ping", 0, stream(t, o, ping("payload"), 8, 1))
	allocates(t, "byte by byte", 0, stream(t, o, join(hello, ping("p"), hello), 1, 3))
	allocates(t, "fragments with a ping", 0,
		stream(t, o, join(firstText("a"), ping("payload"), more("b"), last("c")), whole, 2))
	allocates(t, "64 KiB in reads of 4 KiB", 0, stream(t, o, text(strings.Repeat("x", 65536)), 4096, 1))
	deflated := &Options{Deflate: true}
	long := strings.Repeat("0123456789", 100)
	allocates(t, "inflate", 0, stream(t, deflated, frame(0xc1, stdDeflate(0, long, "")), whole, 1))
	allocates(t, "inflate in pieces", 0, stream(t, deflated, frame(0xc1, stdDeflate(-2, long, "")), 100, 1))
	takeover := &Options{Deflate: true, TakeoverBits: 15}
	allocates(t, "inflate with context", 0, stream(t, takeover, frame(0xc1, stdDeflate(0, long, "")), whole, 1))
	var d Deflate
	shared, payload, buf := NewFrame(OpText, []byte(long)), []byte(long), make([]byte, 0, 1000)
	shared.Deflated(&d)
	allocates(t, "deflated frame", 0, func() { shared.Deflated(&d) })
	allocates(t, "deflate", 0, func() { buf = d.AppendPayload(buf[:0], payload, payload) })
	flood := join(firstText(""), bytes.Repeat(more(""), 1000), last(""))
	allocates(t, "empty fragments", 0, stream(t, o, flood, whole, 1))
}
