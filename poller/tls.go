package poller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// TLS is the secured side of one connection: crypto/tls's Conn, and the transport that it runs over. The handshake has
// a goroutine while it lasts, because crypto/tls cannot go on with one that was interrupted. Afterwards reads and
// writes never block: where there is no more input, crypto/tls is told of a temporary error, from which it resumes, and
// what the kernel does not take waits here, one record at most, before any more is encrypted. So the queue of a
// connection holds what is to be sent as it was given, shared, and the policies of a full one work as without TLS.
type TLS struct {
	conn *tls.Conn // over transport

	// Guarded by transport.owner.mu.
	in     []byte // ciphertext that crypto/tls has not read
	out    []byte // ciphertext that the kernel has not taken
	errno  unix.Errno
	server bool  // the peer is a client
	eof    bool  // the kernel has no more ciphertext
	fresh  bool  // what came with the handshake is still to be decrypted
	end    error // what ended the stream, io.EOF for a close_notify; told when all before it is delivered
	shake  *shake
	wire   transport
}

// shake is what a connection has during the handshake.
type shake struct {
	client  bool
	started bool          // there is a goroutine
	wake    chan struct{} // of one: there is input, or the end
}

// ErrTruncated is the cause of the end of a connection whose peer closed TCP without TLS's close_notify: whoever
// is between may have cut the stream. RFC 8446 §6.1.
var ErrTruncated = errors.New("poller: the stream was closed without close_notify")

// maxPlaintext is what one record holds. RFC 8446 §5.1.
const maxPlaintext = 16 << 10

// maxShaking bounds the ciphertext that waits for a handshake that computes; TCP holds the rest.
const maxShaking = 64 << 10

// secure makes c, which is not attached yet, a connection with TLS.
func (c *Conn) secure(config *tls.Config, client bool) {
	t := &TLS{server: !client, shake: &shake{client: client, wake: make(chan struct{}, 1)}}
	t.wire = transport{tls: t, owner: c}
	if client {
		t.conn = tls.Client(&t.wire, config)
	} else {
		t.conn = tls.Server(&t.wire, config)
	}
	c.secured, c.rare = true, &rare{tls: t}
}

// TLS returns what the handshake agreed on. It is false for a connection without TLS, and before the end of the handshake.
func (c *Conn) TLS() (state tls.ConnectionState, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.secured || c.state&shaking != 0 || c.rare.tls.conn == nil {
		return tls.ConnectionState{}, false
	}
	return c.rare.tls.conn.ConnectionState(), true
}

// feedLocked takes ciphertext for the handshake.
func (c *Conn) feedLocked(b []byte) {
	t := c.rare.tls
	t.in = append(t.in, b...)
	if !t.shake.started && helloWhole(t.in) {
		t.shake.started = true
		go c.handshake()
	}
	t.wakeLocked()
	c.updateInterestLocked()
}

// helloWhole reports whether b has the whole first record, or what is none: until then the handshake needs no goroutine.
func helloWhole(b []byte) bool {
	const header, typeHandshake = 5, 22
	if len(b) > 0 && b[0] != typeHandshake {
		return true
	}
	return len(b) >= header && len(b) >= header+min(int(b[3])<<8|int(b[4]), maxPlaintext)
}

// wakeLocked has the handshake look at what has come.
func (t *TLS) wakeLocked() {
	if t.shake != nil {
		select {
		case t.shake.wake <- struct{}{}:
		default:
		}
	}
}

// handshake runs on a goroutine of its own, which then delivers what came with its end.
func (c *Conn) handshake() {
	t, p := c.rare.tls, c.loop.owner
	p.enterHandshake()
	err := t.handshake(p.logger)
	<-p.shaking
	c.mu.Lock()
	client := t.shake.client
	t.shake, t.fresh = nil, true
	if c.state &^= shaking; c.state&(shut|closed) != 0 {
		c.mu.Unlock()
		p.tls.failed(err)
		return
	}
	if err != nil {
		if notTLS(err) && !t.eof {
			_, _ = send(int(c.fd), []byte(answerToPlain))
		}
		c.shutLocked(&OpError{Op: OpTLSHandshake, Err: err})
		c.mu.Unlock()
		p.tls.failed(err)
		return
	}
	c.state |= draining // for so short a time that the event mask is left alone
	c.mu.Unlock()
	p.tls.done(t.conn.ConnectionState())
	if client {
		c.events.OnConnected()
	}
	c.drain()
}

// enterHandshake waits for a place among the handshakes that compute.
func (p *Poller) enterHandshake() {
	p.queued.Add(1)
	p.shaking <- struct{}{}
	p.queued.Add(-1)
}

// handshake is crypto/tls's. It runs functions of the configuration, in which anything may happen.
func (t *TLS) handshake(logger *slog.Logger) (err error) {
	defer func() {
		if v := recover(); v != nil {
			logger.Error("poller: TLS handshake panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("poller: panic: %v", v)
		}
	}()
	return t.conn.HandshakeContext(context.Background())
}

// answerToPlain is what a client gets that speaks HTTP where TLS is spoken.
const answerToPlain = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" +
	"Content-Length: 31\r\n\r\nthis port speaks TLS: use wss:\r\n"

// notTLS reports whether the peer seems to have sent an HTTP request.
func notTLS(err error) bool {
	var e tls.RecordHeaderError
	if !errors.As(err, &e) || e.Conn == nil {
		return false
	}
	switch string(e.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// Over returns the connection, given away by a loop, with conn as its transport: the same socket. Reattach undoes it.
func (t *TLS) Over(conn net.Conn) *tls.Conn {
	t.wire.over, t.wire.owner = conn, nil
	return t.conn
}
