package poller

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the way in: ciphertext from the kernel to what the user of a connection is given, and crypto/tls's buffers
// on that way.

// tlsBuffers are what one read with TLS needs. A loop has them once it has read one.
type tlsBuffers struct {
	raw   [40 << 10]byte  // for crypto/tls: twice the longest record and some, so that it does not make a buffer
	plain [112 << 10]byte // more than a scratch buffer and an unfinished record decrypt to
}

var tlsBufferPool = sync.Pool{New: func() any { return new(tlsBuffers) }}

// received takes ciphertext that was read, and delivers what it says; loop goroutine. Before the end of the handshake it
// is kept for that; and while something that came before is not delivered, for drain or whoever the connection was given to: the
// handshake may have ended, and all that followed from it been done, since the loop began to read.
func (c *Conn) received(b []byte) {
	c.mu.Lock()
	switch {
	case c.state&shaking != 0:
		c.feedLocked(b)
	case c.state&(draining|closed) != 0 || c.restLocked():
		c.rare.tls.in, c.rare.tls.fresh = append(c.rare.tls.in, b...), true
		c.drainLocked()
	default:
		c.mu.Unlock()
		c.decrypt(b, c.loop.tlsBuffers())
		return
	}
	c.mu.Unlock()
}

// decrypt delivers what b says; whoever reads.
func (c *Conn) decrypt(b []byte, buf *tlsBuffers) {
	c.mu.Lock()
	t := c.rare.tls
	n, err := t.decryptLocked(b, buf)
	if err != nil {
		t.end = err
		c.updateInterestLocked()
	}
	c.mu.Unlock()
	if n > 0 {
		c.deliver(buf.plain[:n])
	}
	if err != nil {
		c.endOfTLS()
	}
	c.mu.Lock()
	c.drainLocked() // there may have been more than buf has room for
	c.mu.Unlock()
}

// decryptRest delivers what came with the handshake, or tells what ended the stream. It reports false when there
// is nothing of that; drain.
func (c *Conn) decryptRest() bool {
	c.mu.Lock()
	t := c.rare.tls
	fresh, end, eof := t.fresh, t.end, t.eof
	var b []byte
	if fresh {
		n := min(len(t.in), scratchBytes)
		b, t.in = t.in[:n], t.in[n:]
		t.fresh = len(t.in) > 0
	}
	c.mu.Unlock()
	switch {
	case fresh:
		buf := tlsBufferPool.Get().(*tlsBuffers)
		defer tlsBufferPool.Put(buf)
		c.decrypt(b, buf)
	case end != nil:
		c.endOfTLS()
	case eof:
		c.endOfInput(ErrTruncated)
	}
	return fresh || end != nil || eof
}

// endOfCiphertext takes note of the end of TCP's stream, before which a close_notify should have come, or of a read error.
func (c *Conn) endOfCiphertext(errno unix.Errno) {
	err := ErrTruncated
	if errno != 0 {
		err = &OpError{Op: "read", Err: errno}
	}
	c.mu.Lock()
	t := c.rare.tls
	t.eof = true
	last := false
	switch {
	case c.state&shaking == 0:
		last = c.state&draining == 0 || errno != 0 // else drain sees it, after what it is at
	case t.shake.started:
		t.wakeLocked() // the peer may have said why
	default: // there is nobody to tell
		c.shutLocked(&OpError{Op: OpTLSHandshake, Err: err})
	}
	c.updateInterestLocked()
	c.mu.Unlock()
	if last {
		c.endOfInput(err)
	}
}

// hangUpShaking takes note of a hang-up during the handshake, in which the peer may have said why. It reports false
// when nobody is there to look at that.
func (c *Conn) hangUpShaking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.rare.tls
	if c.state&(dialing|shaking|shut) != shaking || !t.shake.started {
		return false
	}
	c.state |= hungup
	c.readHungUpLocked()
	t.wakeLocked()
	return true
}

// readHungUpLocked reads, for the handshake, what the kernel still holds after a hang-up, of which no event tells.
func (c *Conn) readHungUpLocked() {
	t := c.rare.tls
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	for !t.eof && len(t.in) < maxShaking {
		n, errno := read(int(c.fd), *scratch)
		c.loop.bytesRead.Add(int64(n))
		t.in = append(t.in, (*scratch)[:n]...)
		t.eof = n == 0 && errno != unix.EINTR
	}
}

// endOfTLS tells what ended the stream, unless something before it is still to be taken.
func (c *Conn) endOfTLS() {
	c.mu.Lock()
	if c.state&closed != 0 { // or given away
		c.mu.Unlock()
		return
	}
	err, kept := c.rare.tls.end, c.keptLocked()
	c.mu.Unlock()
	switch {
	case kept:
	case err == io.EOF: //nolint:errorlint // crypto/tls's own
		c.endOfInput(nil)
	default:
		c.endOfInput(&OpError{Op: OpTLS, Err: err})
	}
}

// decryptLocked decrypts b, all of it, and returns how many bytes of buf.plain that makes. err is what ended the
// stream, io.EOF if it was the peer's close_notify.
func (t *TLS) decryptLocked(b []byte, buf *tlsBuffers) (n int, err error) {
	later := t.in
	t.in = b
	t.lend(buf.raw[:0])
	full := false
	for err == nil && !full && t.mayRead() {
		var m int
		m, err = t.conn.Read(buf.plain[n:])
		n += m
		full = n+maxPlaintext > len(buf.plain)
	}
	if full && len(t.in)+t.buffered() > 0 { // whoever had the connection before us has read much
		later, t.fresh = append(bytes.Clone(t.in), later...), true
	}
	t.takeBack()
	t.in = later
	if err == errNoInput { //nolint:errorlint // our own, passed through
		err = nil
	}
	if hand := field[bytes.Buffer](t.conn, handField); err == nil && hand != nil && t.server && hand.Len() > maxAfterwards {
		err = errAfterwards
	}
	return n, err
}

// maxAfterwards bounds what a client may send of an unfinished handshake message after the handshake. The only one of TLS 1.3
// that it has to send then, KeyUpdate, has 5 bytes; crypto/tls would collect 256 KiB.
const maxAfterwards = 1 << 10

var errAfterwards = errors.New("poller: a long handshake message after the handshake")

// mayRead reports whether crypto/tls may have or find something. Asking it in vain costs an allocation.
func (t *TLS) mayRead() bool {
	return rawInputField < 0 || inputField < 0 || len(t.in)+t.buffered() > 0
}

// buffered is how many bytes crypto/tls has, decrypted or not.
func (t *TLS) buffered() (n int) {
	if raw := field[bytes.Buffer](t.conn, rawInputField); raw != nil {
		n += raw.Len()
	}
	if input := field[bytes.Reader](t.conn, inputField); input != nil {
		n += input.Len()
	}
	return n
}

// The fields of a tls.Conn that keep their memory for as long as it lives: 17 to 40 KB once a record of full size was
// read. They are lent a buffer while something is read, and are empty afterwards. A tls.Conn that has them no
// more, or as something else, only costs more memory; a test tells.
var (
	rawInputField = offset[bytes.Buffer]("rawInput")
	handField     = offset[bytes.Buffer]("hand")
	inputField    = offset[bytes.Reader]("input")
)

// offset returns where a tls.Conn has the field of that type, or -1.
func offset[T any](name string) int {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return -1
	}
	return int(f.Offset)
}

// field returns a pointer to a field of conn, or nil.
func field[T any](conn *tls.Conn, offset int) *T {
	if offset < 0 {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(conn), offset))
}

// lend gives crypto/tls room for ciphertext, if it has none with an unfinished record in it.
func (t *TLS) lend(room []byte) {
	if raw := field[bytes.Buffer](t.conn, rawInputField); raw != nil && raw.Len() == 0 {
		*raw = *bytes.NewBuffer(room)
	}
}

// takeBack undoes lend. What is left of an unfinished record is copied.
func (t *TLS) takeBack() {
	if raw := field[bytes.Buffer](t.conn, rawInputField); raw != nil {
		if raw.Len() == 0 {
			*raw = bytes.Buffer{}
		} else {
			*raw = *bytes.NewBuffer(bytes.Clone(raw.Bytes()))
		}
	}
	if hand := field[bytes.Buffer](t.conn, handField); hand != nil && hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	if input := field[bytes.Reader](t.conn, inputField); input != nil && input.Len() == 0 {
		*input = bytes.Reader{} // it still refers to the record that it had
	}
}
