package poller

import (
	"bytes"
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
	mine := c.state&draining == 0 && !c.restLocked()
	c.mu.Unlock()
	if gone { // the event is older than a Close
		return nil
	}
	if interest&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if interest != unix.EPOLLOUT && mine {
		c.readable()
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
			if c.secured {
				c.received(c.loop.scratch[:n])
			} else {
				c.deliver(c.loop.scratch[:n])
			}
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
			c.endOfStream(errno)
			return
		}
	}
}

func (c *Conn) reading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state&(paused|ended|shut|closed|draining) == 0 && !c.fullLocked()
}

// deliver hands b up. What its user leaves is kept until reading is resumed.
func (c *Conn) deliver(b []byte) {
	for b = c.events.OnData(b); len(b) > 0 && !c.keep(b); {
		b = c.events.OnData(b)
	}
}

// keep keeps what OnData left. It reports false when reading was resumed in the meantime.
func (c *Conn) keep(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&(shut|closed) != 0 {
		return true // nobody will ask for it
	}
	if c.state&paused == 0 {
		return false
	}
	c.rareLocked().kept = bytes.Clone(b)
	return true
}

// endOfStream takes note of the end of TCP's stream (errno 0) or of a read error.
func (c *Conn) endOfStream(errno unix.Errno) {
	switch {
	case c.secured:
		c.endOfCiphertext(errno)
	case errno != 0:
		c.endOfInput(&OpError{Op: "read", Err: errno})
	default:
		c.endOfInput(nil)
	}
}

// endOfInput takes note of the end of what the peer has to say, or of an error, and tells the user once.
func (c *Conn) endOfInput(err error) {
	c.mu.Lock()
	if c.state&(ended|closed) != 0 {
		c.mu.Unlock()
		return
	}
	c.state |= ended
	c.updateInterestLocked() // a level-triggered end would be reported for ever
	if err != nil {
		c.shutLocked(err)
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

// drainLocked starts drain where there is something for it.
func (c *Conn) drainLocked() {
	const not = paused | draining | attaching | shut | closed
	if c.state&not == 0 && (c.state&hungup != 0 || c.restLocked()) {
		c.state |= draining
		go c.drain()
	}
}

func (c *Conn) keptLocked() bool { return c.rare != nil && c.rare.kept != nil }

// restLocked reports that there is something to deliver, or to tell, of which no event will come.
func (c *Conn) restLocked() bool {
	if !c.secured || c.state&shaking != 0 {
		return c.keptLocked()
	}
	t := c.rare.tls
	return c.keptLocked() || t.fresh || (t.end != nil || t.eof) && c.state&ended == 0
}

// drain delivers what no event of the loop will bring, on a goroutine of its own: what OnData
// did not take, and what the kernel still holds of a connection that hung up, for the peer of a
// unix socket may write and close at once. It leaves off when reading is paused; ResumeReading starts it
// again.
func (c *Conn) drain() {
	for b, more := c.nextRest(); more; b, more = c.nextRest() {
		if b != nil {
			c.deliver(b)
		} else {
			c.readRest()
		}
	}
}

// nextRest returns what drain is to deliver next, nil for what the kernel has, or ends the draining.
func (c *Conn) nextRest() (b []byte, more bool) {
	c.mu.Lock()
	over := c.state&(shut|paused|ended|closed) != 0
	switch {
	case over:
	case c.keptLocked():
		b, c.rare.kept = c.rare.kept, nil
		c.mu.Unlock()
		return b, true
	case c.state&hungup != 0 || c.restLocked():
		c.mu.Unlock()
		return nil, true
	}
	c.state &^= draining
	c.updateInterestLocked()
	final := c.state&(hungup|shut) == hungup|shut
	c.mu.Unlock()
	if final {
		c.finalize()
	}
	return nil, false
}

// readRest delivers once what TLS has, or else reads once from a connection that hung up.
func (c *Conn) readRest() {
	if c.secured && c.decryptRest() {
		return
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	n, errno := read(int(c.fd), *scratch)
	switch {
	case n > 0:
		c.loop.bytesRead.Add(int64(n))
		if c.secured {
			buf := tlsBufferPool.Get().(*tlsBuffers)
			c.decrypt((*scratch)[:n], buf)
			tlsBufferPool.Put(buf)
		} else {
			c.deliver((*scratch)[:n])
		}
	case errno == unix.EINTR:
	case errno == unix.EAGAIN:
		c.endOfStream(0) // nothing will come after a hang-up
	default:
		c.endOfStream(errno)
	}
}
