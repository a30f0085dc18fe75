package codec

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Deflate says how messages to one kind of peer are compressed, by RFC 7692. One value is shared by all
// connections that have agreed on the same, and never changed.
type Deflate struct {
	// Level is from 1, the fastest, to 6. Zero means 1. Higher ones, which zlib knows, spend more time on clearing
	// their tables than on a message.
	Level int

	// MinBytes is the length below which a message is sent as it is, because compressing would gain little. Zero
	// means 256.
	MinBytes int

	// WindowBits is how far back the peer looks, as the exponent of 2: 8 to 15. Zero means 15.
	WindowBits int
}

const (
	defaultDeflateLevel    = 1
	maxDeflateLevel        = 6
	defaultDeflateMinBytes = 256
)

// Validate reports what is wrong with d, naming the flag, or nil.
func (d *Deflate) Validate() error {
	switch {
	case d.Level < 0 || d.Level > maxDeflateLevel:
		return fmt.Errorf("--compression-level %d: want 1 to %d", d.Level, maxDeflateLevel)
	case d.MinBytes < 0:
		return fmt.Errorf("--compression-min-bytes %d: is negative", d.MinBytes)
	case d.WindowBits != 0 && (d.WindowBits < MinWindowBits || d.WindowBits > MaxWindowBits):
		return fmt.Errorf("--compression-window-bits %d: want %d to %d", d.WindowBits, MinWindowBits, MaxWindowBits)
	}
	return nil
}

// Worth reports whether a message with length bytes is long enough to be compressed.
func (d *Deflate) Worth(length int) bool {
	if d.MinBytes == 0 {
		return length >= defaultDeflateMinBytes
	}
	return length >= d.MinBytes
}

func (d *Deflate) level() int {
	if d.Level < 1 || d.Level > maxDeflateLevel {
		return defaultDeflateLevel
	}
	return d.Level
}

func (d *Deflate) windowBits() int {
	if d.WindowBits < MinWindowBits || d.WindowBits > MaxWindowBits {
		return MaxWindowBits
	}
	return d.WindowBits
}

// compressor is a pooled deflate writer and what it writes to.
type compressor struct {
	w   *flate.Writer
	out []byte
}

// Write implements io.Writer.
func (c *compressor) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// Compressors take about 600 KiB each, in pools by level for the full window, and by bits for smaller ones, where
// the library has no levels.
var (
	byLevel  [maxDeflateLevel + 1]sync.Pool
	byWindow [MaxWindowBits]sync.Pool
)

func takeCompressor(level, bits int) (*compressor, *sync.Pool) {
	pool := &byLevel[level]
	if bits < MaxWindowBits {
		pool = &byWindow[bits]
	}
	if c, ok := pool.Get().(*compressor); ok {
		return c, pool
	}
	c := new(compressor)
	var err error
	if bits < MaxWindowBits {
		c.w, err = flate.NewWriterWindow(c, 1<<bits)
	} else {
		c.w, err = flate.NewWriter(c, level)
	}
	if err != nil {
		panic("codec: a level or a window in its bounds was refused: " + err.Error())
	}
	return c, pool
}

// AppendPayload appends the compressed form of a message's payload to dst and returns the longer slice. window is
// what the peer has inflated before, if it keeps its context, and else nil; neither it nor payload is kept. Any
// goroutine. RFC 7692 §7.2.1.
func (d *Deflate) AppendPayload(dst, payload, window []byte) []byte {
	return appendDeflated(dst, payload, window, d.level(), d.windowBits())
}

func appendDeflated(dst, payload, window []byte, level, bits int) []byte {
	c, pool := takeCompressor(level, bits)
	c.out = dst
	c.w.ResetDict(c, window)
	_, err := c.w.Write(payload)
	if err == nil {
		err = c.w.Flush()
	}
	dst, c.out = c.out, nil
	c.w.ResetDict(nil, nil) // keeps no reference
	pool.Put(c)
	if err != nil {
		panic("codec: writing to memory failed: " + err.Error())
	}
	return dst[:len(dst)-4] // "\x00\x00\xff\xff"
}

// Slide returns window with the end of payload, of which a peer that keeps its context has then seen the last
// 1<<WindowBits bytes. The memory of window is reused. window may be nil.
func (d *Deflate) Slide(window, payload []byte) []byte {
	return slide(window, payload, 1<<d.windowBits())
}

// AppendDeflatedHeader appends the header of an unmasked, unfragmented frame with length bytes of compressed payload.
// RFC 7692 §6.1.
func AppendDeflatedHeader(dst []byte, op Opcode, length int) []byte {
	at := len(dst)
	dst = appendHeader(dst, op, true, 0, length)
	dst[at] |= rsv1
	return dst
}
