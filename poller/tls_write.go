package poller

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the way out: what is sent becomes records, one at a time, when the kernel has taken those before.

// maxUnsent bounds the ciphertext that waits for the kernel before no more is read: four records.
const maxUnsent = 4 * maxPlaintext

// sendTLS encrypts at most a record of b, once all ciphertext before has left, and returns how many bytes it took.
func (c *Conn) sendTLS(b []byte) (int, unix.Errno) {
	t := c.rare.tls
	if errno := c.flushTLS(); errno != 0 {
		return 0, errno
	}
	// A copy, because what is given to an interface's method escapes: callers have b on the stack.
	buf := tlsRecords.Get().(*[]byte)
	defer tlsRecords.Put(buf)
	n, err := t.conn.Write(append((*buf)[:0], b[:min(len(b), maxPlaintext)]...))
	if err != nil {
		return 0, t.failure()
	}
	return n, 0
}

// failure is why Write failed.
func (t *TLS) failure() unix.Errno {
	if t.errno == 0 {
		return unix.EPIPE // crypto/tls has failed the connection before
	}
	return t.errno
}

// sendVecTLS encrypts the first bytes of vec as one record.
func (c *Conn) sendVecTLS(vec []unix.Iovec) (int, unix.Errno) {
	if errno := c.flushTLS(); errno != 0 {
		return 0, errno
	}
	buf := tlsRecords.Get().(*[]byte)
	defer tlsRecords.Put(buf)
	b := (*buf)[:0]
	for i := range vec {
		part := unsafe.Slice(vec[i].Base, int(vec[i].Len))
		if b = append(b, part[:min(len(part), maxPlaintext-len(b))]...); len(b) == maxPlaintext {
			break
		}
	}
	n, err := c.rare.tls.conn.Write(b)
	if err != nil {
		return 0, c.rare.tls.failure()
	}
	return n, 0
}

// tlsRecords are for what a record is to say.
var tlsRecords = sync.Pool{New: func() any { b := make([]byte, 0, maxPlaintext); return &b }}

// flushCiphertextLocked goes on with what flushTLS has left; loop goroutine.
func (c *Conn) flushCiphertextLocked() {
	if errno := c.flushTLS(); errno != 0 {
		_ = c.sendErrorLocked(errno)
		return
	}
	c.finishLocked()
}

// flushTLS sends the ciphertext that waits. It returns EAGAIN when some still does.
func (c *Conn) flushTLS() unix.Errno {
	t := c.rare.tls
	for len(t.out) > 0 {
		n, errno := send(int(c.fd), t.out)
		c.loop.bytesSent.Add(int64(n))
		t.out = t.out[n:]
		if errno != 0 && errno != unix.EINTR {
			return errno
		}
	}
	t.out = nil
	return 0
}

// notifyLocked sends a close_notify once. RFC 8446 §6.1: "Each party MUST send a "close_notify" alert before closing
// its write side of the connection, unless it has already sent some error alert."
func (c *Conn) notifyLocked() {
	if c.secured && c.state&shaking == 0 {
		_ = c.rare.tls.conn.CloseWrite() // does nothing the second time
	}
}
