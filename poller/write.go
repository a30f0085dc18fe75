package poller

import (
	"golang.org/x/sys/unix"
)

// Send sends b, which is not empty. It never blocks: what the kernel does not take
// waits in the queue, by reference, so b must never change again. dropped counts
// the buffers given up by o.Policy. The error is ErrClosed, ErrQueueFull or ErrQueueStale (nothing
// was queued), or the kernel's, which also ends the connection.
func (c *Conn) Send(b []byte, o Out) (dropped int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state&unsendable != 0:
		return 0, ErrClosed
	case c.state&corked != 0 && c.gatherLocked(b, nil):
		return 0, nil
	case c.out != nil:
		return c.out.push(b, o, c.loop.limits)
	}
	n, err := c.sendLocked(b)
	if n < len(b) && err == nil {
		c.queueLocked(b, n, o)
	}
	return 0, err
}

// SendAll sends the buffers in order, as Send does each, in as few system calls as
// it can. bs itself is not kept.
func (c *Conn) SendAll(bs [][]byte, o Out) (dropped int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&unsendable != 0 {
		return 0, ErrClosed
	}
	c.uncorkLocked()
	for len(bs) > 0 && c.out == nil {
		if bs, err = c.sendVecLocked(bs, o); err != nil {
			return dropped, err
		}
	}
	for _, b := range bs {
		n, err := c.out.push(b, o, c.loop.limits)
		if dropped += n; err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// SendCopy sends head and body as one buffer, as Send does, but borrows them: they
// may change as soon as it returns. Either may be empty, not both.
func (c *Conn) SendCopy(head, body []byte, o Out) (dropped int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state&unsendable != 0:
		return 0, ErrClosed
	case c.state&corked != 0 && c.gatherLocked(head, body):
		return 0, nil
	case c.out != nil:
		return c.out.push(join(head, body), o, c.loop.limits)
	}
	n, err := c.sendBothLocked(head, body)
	if n < len(head)+len(body) && err == nil {
		c.queueLocked(join(head, body), n, o)
	}
	return 0, err
}

// SendLast sends b, borrowed, and refuses everything after it, while reading goes
// on. With drop set, whole buffers that wait are given up, so that b leaves soon.
func (c *Conn) SendLast(b []byte, drop bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&unsendable != 0 {
		return ErrClosed
	}
	c.uncorkLocked()
	c.state |= sealed
	if c.out != nil {
		if drop {
			c.out.dropWhole()
		}
		// Without the bound of age: it may be what ended the connection.
		_, err := c.out.push(join(b, nil), Out{Pinned: true}, Limits{})
		return err
	}
	n, err := c.sendLocked(b)
	if n < len(b) && err == nil {
		c.queueLocked(join(b, nil), n, Out{Pinned: true})
	}
	return err
}

func join(head, body []byte) []byte {
	b := make([]byte, 0, len(head)+len(body))
	return append(append(b, head...), body...)
}

// unsendable are the states in which nothing can be sent any more.
const unsendable = dialing | shaking | sealed | finishing | finished | shut | closed

// Cork gathers what is sent in the loop's buffer until OnData returns, so that the
// answers to many small messages leave in one system call. It may be called
// only from inside OnData.
func (c *Conn) Cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Before the registration and in drain OnData does not run on the loop, whose buffer
	// it is.
	if c.out == nil && c.state&(corked|attaching|draining|hungup|unsendable) == 0 {
		c.loop.cork = c.loop.cork[:0]
		c.state |= corked
		c.loop.corked = c
	}
}

// uncork ends what Cork began; loop goroutine.
func (c *Conn) uncork() {
	c.loop.corked = nil
	c.mu.Lock()
	c.uncorkLocked()
	c.mu.Unlock()
}

// uncorkLocked sends what was gathered, and gathers no more.
func (c *Conn) uncorkLocked() {
	if c.state&corked == 0 {
		return
	}
	c.state &^= corked
	b := c.loop.cork
	if len(b) == 0 || c.state&(shut|closed) != 0 {
		return
	}
	if n, err := c.sendLocked(b); n < len(b) && err == nil {
		// Accepted already, so it may not be dropped; at most one cork buffer. Whole, so that the queue's first buffer always
		// begins where what was sent began: see ReportSent.
		c.queueLocked(append([]byte(nil), b...), n, Out{Pinned: true})
	}
}

// gatherLocked adds head and body to the cork buffer. It reports false when the
// buffer had no room: then it has been sent and the connection is no longer corked.
func (c *Conn) gatherLocked(head, body []byte) bool {
	b := c.loop.cork
	if len(b)+len(head)+len(body) > cap(b) {
		c.uncorkLocked()
		return false
	}
	c.loop.cork = append(append(b, head...), body...)
	return true
}

// queueLocked makes b wait, of which the kernel took sent bytes.
func (c *Conn) queueLocked(b []byte, sent int, o Out) {
	c.out = queues.Get().(*queue)
	c.loop.queues.Add(1)
	_, _ = c.out.push(b, o, c.loop.limits) // an empty queue takes any buffer
	c.out.sent = sent
	c.out.bytes -= sent
	c.updateInterestLocked()
}

// sendLocked sends b to the kernel. n < len(b) without an error means: it is full.
func (c *Conn) sendLocked(b []byte) (n int, err error) {
	for n < len(b) {
		m, errno := c.sendSomeLocked(b[n:])
		if n += m; errno != 0 && errno != unix.EINTR {
			return n, c.sendErrorLocked(errno)
		}
	}
	return n, nil
}

// sendSomeLocked makes one attempt to send b, and returns how many bytes were taken.
func (c *Conn) sendSomeLocked(b []byte) (n int, errno unix.Errno) {
	if c.secured {
		n, errno = c.sendTLS(b)
	} else {
		n, errno = send(int(c.fd), b)
		c.loop.bytesSent.Add(int64(n))
	}
	if c.state&reporting != 0 {
		c.reportLocked(b[:n])
	}
	return n, errno
}

// sendVecSomeLocked is the same for the first count of vec.
func (c *Conn) sendVecSomeLocked(vec *[maxVec]unix.Iovec, count int) (n int, errno unix.Errno) {
	if c.secured {
		n, errno = c.sendVecTLS(vec[:count])
	} else {
		n, errno = sendVec(int(c.fd), vec, count)
		c.loop.bytesSent.Add(int64(n))
	}
	if c.state&reporting != 0 {
		c.reportVecLocked(vec[:count], n)
	}
	return n, errno
}

// sendErrorLocked ends the connection unless errno only says that the kernel is full.
func (c *Conn) sendErrorLocked(errno unix.Errno) error {
	if errno == unix.EAGAIN {
		return nil
	}
	err := &OpError{Op: "send", Err: errno}
	c.shutLocked(err)
	return err
}

// smallSend is up to which size joining two buffers on the stack is cheaper than a
// vector of two.
const smallSend = 512

func (c *Conn) sendBothLocked(head, body []byte) (int, error) {
	switch {
	case len(body) == 0:
		return c.sendLocked(head)
	case len(head) == 0:
		return c.sendLocked(body)
	}
	if len(head)+len(body) <= smallSend {
		var buf [smallSend]byte
		n := copy(buf[:], head)
		n += copy(buf[n:], body)
		return c.sendLocked(buf[:n])
	}
	var vec [maxVec]unix.Iovec
	vec[0].Base, vec[1].Base = &head[0], &body[0]
	vec[0].SetLen(len(head))
	vec[1].SetLen(len(body))
	n, errno := c.sendVecSomeLocked(&vec, 2)
	if errno != 0 && errno != unix.EINTR {
		return 0, c.sendErrorLocked(errno)
	}
	if n >= len(head) {
		m, err := c.sendLocked(body[n-len(head):])
		return n + m, err
	}
	m, err := c.sendLocked(head[n:])
	if n += m; n == len(head) && err == nil {
		m, err = c.sendLocked(body)
		n += m
	}
	return n, err
}

// sendVecLocked sends the first buffers of bs in one call and returns those that
// are left. When the kernel is full, the first of them has been queued.
func (c *Conn) sendVecLocked(bs [][]byte, o Out) ([][]byte, error) {
	count := c.vecSize(bs)
	if count == 1 {
		n, err := c.sendLocked(bs[0])
		if n < len(bs[0]) && err == nil {
			c.queueLocked(bs[0], n, o)
		}
		return bs[1:], err
	}
	var vec [maxVec]unix.Iovec
	for i, b := range bs[:count] {
		vec[i].Base = &b[0]
		vec[i].SetLen(len(b))
	}
	n, errno := c.sendVecSomeLocked(&vec, count)
	if errno == unix.EINTR {
		return bs, nil
	}
	if errno != 0 {
		if err := c.sendErrorLocked(errno); err != nil {
			return nil, err
		}
	}
	for i, b := range bs[:count] {
		if n < len(b) {
			c.queueLocked(b, n, o)
			return bs[i+1:], nil
		}
		n -= len(b)
	}
	return bs[count:], nil
}

// vecSize returns how many of bs leave in one call: with TLS what fits in a record, but always one.
func (c *Conn) vecSize(bs [][]byte) int {
	count := min(len(bs), maxVec)
	if !c.secured {
		return count
	}
	bytes := len(bs[0])
	for i := 1; i < count; i++ {
		if bytes += len(bs[i]); bytes > maxPlaintext {
			return i
		}
	}
	return count
}

// maxFlushes is how many vectors of one connection leave in one turn of its loop.
const maxFlushes = 4

// writable goes on with what waits: a connect, or the queue; loop goroutine.
func (c *Conn) writable() {
	c.mu.Lock()
	if c.state&dialing != 0 {
		c.state &^= dialing
		shaking := c.state&shaking != 0
		if shaking {
			c.rare.tls.shake.started = true
			go c.handshake()
		}
		c.updateInterestLocked()
		c.mu.Unlock()
		if !shaking {
			c.events.OnConnected()
		}
		return
	}
	if c.secured && c.state&(shut|closed) == 0 {
		c.flushCiphertextLocked()
	}
	for i := 0; i < maxFlushes && c.out != nil && c.state&(shut|closed) == 0; i++ {
		if !c.flushLocked() {
			break
		}
	}
	drained := c.emptyLocked() && c.state&(wantDrained|shut) == wantDrained
	if drained {
		c.state &^= wantDrained
	}
	c.updateInterestLocked()
	c.mu.Unlock()
	if drained {
		c.events.OnDrained()
	}
}

// flushLocked sends the head of the queue in one call and reports whether more may
// be tried at once.
func (c *Conn) flushLocked() bool {
	var vec [maxVec]unix.Iovec
	n, errno := c.sendVecSomeLocked(&vec, c.out.vec(&vec))
	if errno != 0 {
		return errno == unix.EINTR || c.sendErrorLocked(errno) != nil
	}
	c.out.advance(n)
	if len(c.out.items()) == 0 {
		c.releaseQueueLocked()
		c.finishLocked()
	}
	return true
}

// NotifyDrained asks for one OnDrained when the queue is next empty. It reports
// false, and asks for nothing, when it is empty already.
func (c *Conn) NotifyDrained() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.emptyLocked() || c.state&(shut|closed) != 0 {
		return false
	}
	c.state |= wantDrained
	return true
}
