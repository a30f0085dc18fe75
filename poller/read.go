package poller

import (
	"sync"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// maxReads is how often one connection is read in one turn of its loop; a flooder
// gets 256 KiB and then waits until the others had theirs.
const maxReads = 4

// onReady is netpoll's callback for readable and for writable; loop goroutine.
func (c *Conn) onReady(netpoll.Poll) error {
	c.mu.Lock()
	interest, gone := c.interest, c.state&(shut|closed) != 0
	c.mu.Unlock()
	switch {
	case gone: // the event is older than a Close
	case interest&unix.EPOLLOUT == 0:
		c.readable()
	default:
		c.writable()
		if interest&unix.EPOLLIN != 0 {
			c.readable()
		}
	}
	return nil
}

// readable delivers what the kernel has.
func (c *Conn) readable() {
	for range maxReads {
		n, errno := read(int(c.fd), c.loop.scratch)
		switch {
		case n > 0:
			c.loop.bytesRead.Add(int64(n))
			c.events.OnData(c.loop.scratch[:n])
			if c.loop.corked != nil {
				c.uncork()
			}
			if n < len(c.loop.scratch) || !c.reading() {
				return
			}
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return
		default:
			c.endOfInput(errno)
			return
		}
	}
}

func (c *Conn) reading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state&(paused|ended|shut|closed) == 0
}

// endOfInput takes note of the end of the stream (errno 0) or of a read error,
// and tells the user once.
func (c *Conn) endOfInput(errno unix.Errno) {
	c.mu.Lock()
	if c.state&(ended|closed) != 0 {
		c.mu.Unlock()
		return
	}
	c.state |= ended
	c.updateInterestLocked() // a level-triggered end would be reported for ever
	if errno != 0 {
		c.shutLocked(&OpError{Op: "read", Err: errno})
		c.mu.Unlock()
		return
	}
	tell := c.state&shut == 0
	c.mu.Unlock()
	if tell {
		c.events.OnEOF()
	}
}

// scratches serve the reads that no loop makes: see drain.
var scratches = sync.Pool{New: func() any { b := make([]byte, scratchBytes); return &b }}

// drain delivers what the kernel still holds of a connection that hung up, on a
// goroutine of its own: the peer of a unix socket may write and close at once.
// It leaves off when reading is paused; ResumeReading starts it again.
func (c *Conn) drain() {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	for c.mayDrain() {
		n, errno := read(int(c.fd), *scratch)
		switch {
		case n > 0:
			c.loop.bytesRead.Add(int64(n))
			c.events.OnData((*scratch)[:n])
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			c.endOfInput(0) // nothing will come after a hang-up
		default:
			c.endOfInput(errno)
		}
	}
}

// mayDrain reports whether drain is to go on; if not, it ends the draining.
func (c *Conn) mayDrain() bool {
	c.mu.Lock()
	if c.state&(shut|paused|ended|closed) == 0 {
		c.mu.Unlock()
		return true
	}
	c.state &^= draining
	final := c.state&shut != 0
	c.mu.Unlock()
	if final {
		c.finalize()
	}
	return false
}
