package poller

import (
	"errors"
	"fmt"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// Errors that callers branch on.
var (
	// ErrClosed is returned by sends on a connection that is closed or closing.
	ErrClosed = errors.New("poller: connection closed")
	// ErrQueueFull is returned by a send for which the queue has no room.
	ErrQueueFull = errors.New("poller: queue full")
	// ErrQueueStale is returned by a send behind a buffer that has waited longer than Limits.Age.
	ErrQueueStale = errors.New("poller: queue stale")
)

// OpError is a system call on a socket, or TLS on it, that went wrong.
type OpError struct {
	Op  string // "read", "send", "connect", "epoll_ctl", …
	Err error  // a unix.Errno, or crypto/tls's
}

// The Ops of TLS.
const (
	OpTLSHandshake = "tls handshake"
	OpTLS          = "tls" // what came after it
)

func (e *OpError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// Close asks for the end of the connection at once; what waits in the queue is
// dropped, what the kernel has already taken is still delivered. cause goes to OnClose; the first one counts.
func (c *Conn) Close(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&(shut|closed) == 0 {
		c.uncorkLocked()
		c.notifyLocked()
	}
	c.shutLocked(cause)
}

// Abort is Close, and the kernel forgets the connection: the peer gets a reset, and
// the memory of what it has not acknowledged is free at once.
func (c *Conn) Abort(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&closed == 0 {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	c.shutLocked(cause)
}

// Finish shuts down sending as soon as the queue is empty: the peer reads
// everything and then the end of the stream. Nothing more can be sent. Reading goes on
// until the peer closes too; the caller sets a deadline and then calls Close.
func (c *Conn) Finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state&shaking != 0: // nothing was said
		c.shutLocked(nil)
	case c.state&(unsendable&^sealed) == 0:
		c.uncorkLocked()
		c.state |= finishing
		c.finishLocked()
	}
}

// finishLocked does what Finish promised once the queue is empty.
func (c *Conn) finishLocked() {
	if !c.emptyLocked() || c.state&(finishing|finished|shut|closed) != finishing {
		return
	}
	c.notifyLocked()
	if c.emptyLocked() {
		c.state |= finished
		_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

// shutLocked begins the end: the kernel answers the shutdown with a hang-up, and
// that leads to finalize.
func (c *Conn) shutLocked(cause error) {
	if c.state&(shut|closed) != 0 {
		return
	}
	c.state |= shut
	c.noteLocked(cause)
	if c.state&shaking != 0 {
		c.rare.tls.wakeLocked()
	}
	switch {
	case c.state&(hungup|draining) == hungup|draining: // drain sees it
	case c.state&hungup != 0:
		go c.finalize()
	default:
		_ = unix.Shutdown(int(c.fd), unix.SHUT_RDWR)
	}
}

// onHup is netpoll's callback for a hang-up or an error: the operator is detached,
// so onReady will not be called again. It runs on a goroutine that
// netpoll starts for all hang-ups of one turn.
func (c *Conn) onHup(netpoll.Poll) error {
	if c.secured && c.hangUpShaking() {
		return nil // the handshake's goroutine goes on to the end
	}
	c.mu.Lock()
	if c.state&(closed|hungup) != 0 {
		c.mu.Unlock()
		return nil
	}
	c.state |= hungup
	c.takeHangUpLocked()
	other := c.state&draining != 0 // which goes on with what the kernel has, and finalizes
	if c.state&shut != 0 {
		c.mu.Unlock()
		if !other {
			c.finalize()
		}
		return nil
	}
	drained := c.state&wantDrained != 0
	c.dropLocked() // nothing can leave any more
	c.state = c.state&^wantDrained | draining
	c.mu.Unlock()
	if drained {
		c.events.OnDrained()
	}
	if !other {
		c.drain()
	}
	return nil
}

// takeHangUpLocked finds out what a hang-up ends. Where input may be left, reading
// it will tell; else this is the last chance to notice an error.
func (c *Conn) takeHangUpLocked() {
	op := "send"
	switch {
	case c.state&shut != 0:
		return
	case c.state&dialing != 0:
		op = "connect"
	case c.state&shaking != 0:
		op = OpTLSHandshake
		c.rare.tls.wakeLocked()
	case c.state&ended == 0:
		return
	}
	err := socketError(int(c.fd))
	switch {
	case err != nil:
	case c.state&(dialing|shaking) != 0:
		err = unix.ECONNRESET
	case !c.emptyLocked():
		err = unix.EPIPE
	default:
		return // both sides have said all; Close is the user's to call
	}
	c.state |= shut
	c.noteLocked(&OpError{Op: op, Err: err})
}

// yieldTLS gives up the connection's TLS, with the ciphertext that was read too late for anybody here.
func (c *Conn) yieldTLS() *TLS {
	if !c.secured {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.rare.tls
	c.rare = &rare{tls: new(TLS)} // it is no longer this one's to look at
	return t
}

// finalize frees the operator and closes the descriptor: the only place that does.
func (c *Conn) finalize() {
	c.mu.Lock()
	if c.state&closed != 0 {
		c.mu.Unlock()
		return
	}
	c.state |= closed | shut
	op := c.op
	c.op = nil
	var cause error
	if c.rare != nil {
		cause, c.rare.kept = c.rare.cause, nil
	}
	c.dropLocked()
	c.mu.Unlock()

	op.Free()
	_ = unix.Close(int(c.fd))
	c.loop.conns.Add(-1)
	c.events.OnClose(cause)
}

// dropLocked gives up what waits for the kernel.
func (c *Conn) dropLocked() {
	if c.out != nil {
		c.releaseQueueLocked()
	}
	if c.secured {
		c.rare.tls.out = nil
	}
}

// releaseQueueLocked is for a queue that is empty, or given up.
func (c *Conn) releaseQueueLocked() {
	c.out.release()
	c.out = nil
	c.loop.queues.Add(-1)
}

// noteLocked keeps why the connection ends.
func (c *Conn) noteLocked(cause error) {
	if cause != nil {
		c.rareLocked().cause = cause
	}
}

// GiveAway takes the socket out of the poller and, once the loop has let go of it,
// hands the descriptor, and its TLS if it has, to take on a goroutine of its own. It may be called only from
// inside OnData, and not for what was given to Attach as read before. It reports false when
// the connection is already ending or something waits in its queue; then take is not called. No event follows, OnClose neither.
func (c *Conn) GiveAway(take func(fd int, t *TLS)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uncorkLocked() // may leave a queue, or fail and end the connection
	if c.state&(shut|closed|hungup|attaching) != 0 || !c.emptyLocked() {
		return false
	}
	c.state |= closed | shut
	op := c.op
	c.op = nil
	_ = op.Control(netpoll.PollDetach)
	go func() {
		op.Free() // waits for the callback that called us, or reads at this moment
		c.loop.conns.Add(-1)
		take(int(c.fd), c.yieldTLS())
	}()
	return true
}
