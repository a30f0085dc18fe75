package poller

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// Events is what a connection tells its user. See the package's doc for the
// goroutines.
type Events interface {
	// OnConnected is called once for a connection made by Dial, before anything
	// else; never for an accepted one.
	OnConnected()
	// OnData hands up what was read, in order. b is the loop's scratch buffer: it
	// may be changed, and is valid until OnData returns. What OnData does not take it returns, having
	// paused reading: that is kept, and comes first when reading is resumed.
	OnData(b []byte) (rest []byte)
	// OnEOF tells that the peer has shut down its sending side. Sending still
	// works until the connection is closed, which is the user's to ask for: nothing
	// else ends it.
	OnEOF()
	// OnDrained tells that the queue has become empty after NotifyDrained: it has left,
	// or the kernel reported a hang-up and it never will.
	OnDrained()
	// OnClose tells that the descriptor is closed. cause is what was given to the
	// first Close, or the error that ended the connection.
	OnClose(cause error)
}

// Conn is one connected socket, driven by a loop. Its user embeds it by value and
// passes it to Attach; it must not be copied or moved.
type Conn struct {
	// Immutable after Attach.
	loop    *loop
	events  Events
	fd      int32
	secured bool // rare.tls is there

	// Guarded by mu.
	interest uint8 // the epoll mask in force, of which all bits that are used here fit
	state    state
	mu       sync.Mutex
	op       *netpoll.FDOperator // nil once released
	out      *queue              // nil while nothing waits
	rare     *rare               // nil while it has nothing of that
}

// rare is what few connections have at any moment, save those with TLS.
type rare struct {
	tls   *TLS   // set before Attach
	cause error  // why it ends; set once
	kept  []byte // what OnData did not take
}

func (c *Conn) rareLocked() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// state holds the flags of a Conn.
type state uint16

const (
	dialing     state = 1 << iota // connect(2) has not finished
	attaching                     // not registered yet: Attach delivers first
	paused                        // reading is paused by PauseReading
	ended                         // the peer sent everything it will: EOF or error
	hungup                        // the kernel reported a hang-up; the operator is detached
	draining                      // a goroutine of its own reads, and no loop: see drain
	sealed                        // SendLast was called
	finishing                     // shut down sending once the queue is empty
	finished                      // sending is shut down
	shut                          // Close was called or an error ended it
	closed                        // the descriptor is closed or given away
	wantDrained                   // call OnDrained when the queue is empty
	corked                        // sends gather in loop.cork, until OnData returns
	shaking                       // the TLS handshake has not ended
	reporting                     // OnSent is told what leaves
)

// Attach makes c drive the connected, non-blocking socket fd on one of the
// poller's loops. From here on fd belongs to c, also when Attach fails, in
// which case fd is closed and no event is delivered. Events may be delivered
// before Attach returns. first, if not empty, is input that was read from fd before: it is
// given to OnData by the caller's goroutine before anything else.
func (p *Poller) Attach(c *Conn, fd int, ev Events, first []byte) error {
	return p.attach(c, fd, ev, 0, first)
}

// AttachTLS is Attach for a socket whose peer is a client of TLS. Events are of what is said within.
// Until the handshake has ended nothing is delivered, and nothing can be sent; its failure closes the connection, with an
// *OpError whose Op is OpTLSHandshake as the cause, after an answer in plain HTTP if the peer spoke that. The caller
// sets a deadline.
//
// config is crypto/tls's. Its functions run on goroutines of their own.
func (p *Poller) AttachTLS(c *Conn, fd int, ev Events, first []byte, config *tls.Config) error {
	c.secure(config, false)
	return p.attach(c, fd, ev, shaking, first)
}

// Reattach is Attach for a socket that GiveAway gave away, with its TLS or nil. first is what was said within.
func (p *Poller) Reattach(c *Conn, fd int, t *TLS, ev Events, first []byte) error {
	if t != nil {
		t.wire.over, t.wire.owner, t.fresh = nil, c, true
		c.secured, c.rare = true, &rare{tls: t}
	}
	return p.attach(c, fd, ev, 0, first)
}

func (p *Poller) attach(c *Conn, fd int, ev Events, s state, first []byte) error {
	l := p.nextLoop()
	c.loop, c.events, c.fd = l, ev, int32(fd)
	op := l.poll.Alloc()
	op.FD = fd
	// One closure for both, 16 bytes less for each connection. While output waits, a socket that became readable costs
	// an attempt to write, and the other way round.
	ready := c.onReady
	op.OnRead, op.OnWrite, op.OnHup = ready, ready, c.onHup
	if len(first) > 0 && s&shaking == 0 {
		c.mu.Lock()
		c.op, c.state = op, attaching
		c.mu.Unlock()
		c.deliver(first)
	}

	// mu is held so that no callback sees a half-made connection.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.op = op
	c.state = c.state&^attaching | s
	c.interest = c.wantedLocked()
	if err := register(l.epfd, op, fd, uint32(c.interest)); err != nil {
		// Never in epoll, so nobody else can be in the operator.
		c.op, c.state = nil, closed|shut
		op.Free()
		_ = unix.Close(fd)
		return &OpError{Op: "epoll_ctl", Err: err}
	}
	l.conns.Add(1)
	if len(first) > 0 && s&shaking != 0 {
		c.feedLocked(first)
	}
	c.drainLocked()
	return nil
}

// PauseReading stops reading until ResumeReading, so that TCP slows the peer.
// One read that the loop has already been told of may still be delivered. Queued
// output goes on leaving.
func (c *Conn) PauseReading() {
	c.mu.Lock()
	c.state |= paused
	c.updateInterestLocked()
	c.mu.Unlock()
}

// ResumeReading undoes PauseReading.
func (c *Conn) ResumeReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&paused == 0 {
		return
	}
	c.state &^= paused
	c.drainLocked()
	c.updateInterestLocked()
}

// wantedLocked is the epoll mask that the state asks for.
func (c *Conn) wantedLocked() uint8 {
	var want uint8
	if c.state&(paused|ended|dialing|draining) == 0 && !c.fullLocked() {
		want |= unix.EPOLLIN
	}
	if !c.emptyLocked() || c.state&dialing != 0 {
		want |= unix.EPOLLOUT
	}
	return want
}

// fullLocked reports that no more input is wanted, because of TLS.
func (c *Conn) fullLocked() bool {
	if !c.secured {
		return false
	}
	t := c.rare.tls
	// A peer may have crypto/tls answer key updates, for ever, without reading.
	return t.end != nil || t.eof || len(t.out) > maxUnsent || c.state&shaking != 0 && len(t.in) >= maxShaking
}

// emptyLocked reports that nothing waits for the kernel.
func (c *Conn) emptyLocked() bool {
	return c.out == nil && (!c.secured || len(c.rare.tls.out) == 0)
}

// updateInterestLocked brings epoll's mask in line with the state.
func (c *Conn) updateInterestLocked() {
	if c.op == nil || c.state&(hungup|attaching) != 0 {
		return
	}
	want := c.wantedLocked()
	if want == c.interest {
		return
	}
	c.interest = want
	// It fails only when the kernel's hang-up has just taken the operator out.
	_ = setMask(c.loop.epfd, c.op, int(c.fd), uint32(want))
}

// Waiting tells how many bytes and buffers wait in the queue and for how long the
// oldest has.
func (c *Conn) Waiting() (bytes, buffers int, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secured {
		bytes = len(c.rare.tls.out)
	}
	if c.out == nil {
		return bytes, 0, 0
	}
	items := c.out.items()
	return bytes + c.out.bytes, len(items), now() - items[0].since
}

// Open reports whether the descriptor is still open and no close was asked for.
func (c *Conn) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state&(shut|closed) == 0
}

// Loop returns the number of the connection's loop, from 0.
func (c *Conn) Loop() int { return c.loop.index }

// RemoteAddr asks the kernel for the peer's address. It is the zero AddrPort for
// a unix socket or when the connection is gone.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.sockAddr(unix.SYS_GETPEERNAME) }

// LocalAddr asks the kernel for the own address, like RemoteAddr.
func (c *Conn) LocalAddr() netip.AddrPort { return c.sockAddr(unix.SYS_GETSOCKNAME) }

func (c *Conn) sockAddr(call uintptr) netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&closed != 0 {
		return netip.AddrPort{}
	}
	return sockName(call, int(c.fd))
}
