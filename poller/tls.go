package poller

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

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

// transport is what crypto/tls reads and writes.
type transport struct {
	tls   *TLS
	owner *Conn    // nil after GiveAway
	over  net.Conn // in its place
}

// ErrTruncated is the cause of the end of a connection whose peer closed TCP without TLS's close_notify: whoever
// is between may have cut the stream. RFC 8446 §6.1.
var ErrTruncated = errors.New("poller: the stream was closed without close_notify")

// maxPlaintext is what one record holds. RFC 8446 §5.1.
const maxPlaintext = 16 << 10

// maxShaking bounds the ciphertext that waits for a handshake that computes; TCP holds the rest.
const maxShaking = 64 << 10

// maxUnsent bounds the ciphertext that waits for the kernel before no more is read: four records.
const maxUnsent = 4 * maxPlaintext

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

// errNoInput tells crypto/tls to come again: a temporary error leaves it as it was.
var errNoInput error = noInput{}

type noInput struct{}

func (noInput) Error() string   { return "no input yet" }
func (noInput) Timeout() bool   { return true }
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

// Over returns the connection, given away by a loop, with conn as its transport: the same socket. Reattach undoes it.
func (t *TLS) Over(conn net.Conn) *tls.Conn {
	t.wire.over, t.wire.owner = conn, nil
	return t.conn
}

// handshakes counts what became of TLS handshakes.
type handshakes struct {
	complete [2][2]atomic.Int64 // TLS 1.2 or 1.3; full or resumed
	failures [numTLSFailures]atomic.Int64
}

// TLSFailure says why a TLS handshake failed.
type TLSFailure uint8

// The reasons.
const (
	// TLSNotSpoken: the peer sent no TLS record, but plain HTTP, say.
	TLSNotSpoken TLSFailure = iota
	// TLSCertificate: the peer's certificate is missing, or not to be trusted.
	TLSCertificate
	// TLSAlert: the peer did not want to go on, and said so.
	TLSAlert
	// TLSGone: the peer closed the connection, or the deadline did.
	TLSGone
	// TLSProtocol: no version, cipher suite or protocol in common, or a fault of the peer's.
	TLSProtocol
	numTLSFailures
)

var tlsFailures = [numTLSFailures]string{"not_tls", "certificate", "alert", "gone", "protocol"}

// String returns the name that metrics have.
func (f TLSFailure) String() string { return tlsFailures[f] }

func (h *handshakes) done(state tls.ConnectionState) {
	version, resumed := 0, 0
	if state.Version == tls.VersionTLS13 {
		version = 1
	}
	if state.DidResume {
		resumed = 1
	}
	h.complete[version][resumed].Add(1)
}

func (h *handshakes) failed(err error) { h.failures[tlsFailure(err)].Add(1) }

func tlsFailure(err error) TLSFailure {
	var header tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &header) && header.Conn != nil: // the first record
		return TLSNotSpoken
	case errors.As(err, &certificate), err != nil && err.Error() == "tls: client didn't provide a certificate":
		return TLSCertificate
	case errors.As(err, &op) && op.Op == "remote error":
		return TLSAlert
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return TLSGone
	}
	return TLSProtocol
}

// TLSStats count the ends of TLS handshakes since New.
type TLSStats struct {
	Complete map[TLSKind]int64
	Running  int // that compute now
	Queued   int // that wait to compute
	Failures map[string]int64
}

// TLSKind tells handshakes apart.
type TLSKind struct {
	Version string // "1.2" or "1.3"
	Resumed bool
}

// TLSStats returns the counts; any goroutine.
func (p *Poller) TLSStats() TLSStats {
	s := TLSStats{Complete: map[TLSKind]int64{}, Running: len(p.shaking), Queued: int(p.queued.Load()), Failures: map[string]int64{}}
	for i, version := range []string{"1.2", "1.3"} {
		s.Complete[TLSKind{version, false}] = p.tls.complete[i][0].Load()
		s.Complete[TLSKind{version, true}] = p.tls.complete[i][1].Load()
	}
	for i := range p.tls.failures {
		s.Failures[tlsFailures[i]] = p.tls.failures[i].Load()
	}
	return s
}
