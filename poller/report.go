package poller

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reporter is Events that wants to know what leaves, after ReportSent.
type Reporter interface {
	// OnSent gets a copy of what the kernel has just taken, or with TLS of what was just encrypted, in order. It runs under
	// the connection's lock: it must not block, nor call the Conn.
	OnSent(b []byte)
}

// ReportSent has the connection's Events, which must be a Reporter, told what leaves from now on, until StopReporting.
// Before that it calls begin, under the same lock: with the first buffer that has not left whole, nil if all have, how many
// of its bytes have left, and how many bytes are accepted and have not. first is valid until begin returns. It reports
// false, and does nothing, when the connection is closed.
func (c *Conn) ReportSent(begin func(first []byte, sent, waiting int)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&(shut|closed) != 0 {
		return false
	}
	var first []byte
	sent, waiting := 0, 0
	if c.out != nil {
		first, sent, waiting = c.out.items()[0].b, c.out.sent, c.out.bytes
	}
	if c.state&corked != 0 {
		waiting += len(c.loop.cork)
	}
	begin(first, sent, waiting)
	c.state |= reporting
	return true
}

// StopReporting undoes ReportSent: when it returns, no OnSent runs and none comes.
func (c *Conn) StopReporting() {
	c.mu.Lock()
	c.state &^= reporting
	c.mu.Unlock()
}

// reportLocked reports b. It is a copy that escapes: callers have b on the stack.
func (c *Conn) reportLocked(b []byte) {
	if len(b) > 0 {
		c.events.(Reporter).OnSent(bytes.Clone(b))
	}
}

// reportVecLocked reports the first n bytes of vec.
func (c *Conn) reportVecLocked(vec []unix.Iovec, n int) {
	all := make([]byte, 0, n)
	for i := range vec {
		part := unsafe.Slice(vec[i].Base, int(vec[i].Len))
		all = append(all, part[:min(len(part), n-len(all))]...)
	}
	if n > 0 {
		c.events.(Reporter).OnSent(all)
	}
}
