package poller

import (
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// This file is the net.Conn that crypto/tls runs over.

// transport is what crypto/tls reads and writes.
type transport struct {
	tls   *TLS
	owner *Conn    // nil after GiveAway
	over  net.Conn // in its place
}

// errNoInput tells crypto/tls to come again: a temporary error leaves it as it was.
var errNoInput error = noInput{}

type noInput struct{}

func (noInput) Error() string { return "no input yet" }

func (noInput) Timeout() bool { return true }

func (noInput) Temporary() bool { return true }

// Read implements net.Conn. During the handshake it waits for input, else the caller holds the connection's mu.
func (w *transport) Read(b []byte) (int, error) {
	switch {
	case w.over != nil && len(w.tls.in) == 0:
		return w.over.Read(b)
	case w.tls.shake != nil:
		return w.await(b)
	}
	return w.take(b)
}

func (w *transport) take(b []byte) (int, error) {
	t := w.tls
	if len(t.in) == 0 {
		return 0, errNoInput
	}
	n := copy(b, t.in)
	t.in = t.in[n:]
	return n, nil
}

// await is Read during the handshake. While it waits, another handshake may compute.
func (w *transport) await(b []byte) (int, error) {
	c, t := w.owner, w.tls
	for {
		c.mu.Lock()
		if c.state&(shut|closed) != 0 {
			c.mu.Unlock()
			return 0, net.ErrClosed
		}
		if c.state&hungup != 0 {
			c.readHungUpLocked()
		}
		n, err := w.take(b)
		if len(t.in) == 0 {
			t.in = nil
		}
		if n == 0 && t.eof {
			err = io.EOF
		}
		c.updateInterestLocked()
		c.mu.Unlock()
		if err != errNoInput { //nolint:errorlint // take's own
			return n, err
		}
		<-c.loop.owner.shaking
		<-t.shake.wake
		c.loop.owner.enterHandshake()
	}
}

// Write implements net.Conn. It takes everything: crypto/tls does not survive an error. During the handshake it
// locks, else the caller has.
func (w *transport) Write(b []byte) (int, error) {
	if w.over != nil {
		return w.over.Write(b)
	}
	c, t := w.owner, w.tls
	if t.shake != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	if c.state&(shut|closed) != 0 {
		return 0, net.ErrClosed
	}
	sent := 0
	for len(t.out) == 0 && sent < len(b) {
		n, errno := send(int(c.fd), b[sent:])
		c.loop.bytesSent.Add(int64(n))
		sent += n
		switch errno {
		case 0, unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			t.errno = errno
			return sent, &OpError{Op: "send", Err: errno}
		}
		break
	}
	if sent < len(b) {
		t.out = append(t.out, b[sent:]...)
		c.updateInterestLocked()
	}
	return len(b), nil
}

// Close implements net.Conn, for whom the connection was given to.
func (w *transport) Close() error {
	if w.over != nil {
		return w.over.Close()
	}
	return nil
}

// LocalAddr implements net.Conn.
func (w *transport) LocalAddr() net.Addr {
	if w.over != nil {
		return w.over.LocalAddr()
	}
	return net.TCPAddrFromAddrPort(w.owner.LocalAddr())
}

// RemoteAddr implements net.Conn. During the handshake functions of the configuration may call it.
func (w *transport) RemoteAddr() net.Addr {
	if w.over != nil {
		return w.over.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(w.owner.RemoteAddr())
}

// SetDeadline implements net.Conn; on a loop nothing waits.
func (w *transport) SetDeadline(t time.Time) error {
	if w.over != nil {
		return w.over.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline implements net.Conn.
func (w *transport) SetReadDeadline(t time.Time) error {
	if w.over != nil {
		return w.over.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (w *transport) SetWriteDeadline(t time.Time) error {
	if w.over != nil {
		return w.over.SetWriteDeadline(t)
	}
	return nil
}
