package poller

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// lagProbe measures how late a loop is: the time from a wake-up to the loop's answer. That is what every connection on it waits,
// whether the loop itself has much to do or gets no CPU.
type lagProbe struct {
	// Immutable after start.
	fd int // an eventfd
	op *netpoll.FDOperator

	// Any goroutine (atomic).
	sent atomic.Int64 // when the wake-up that is not answered yet left, on the clock of now(); 0 for none
	lag  atomic.Int64 // of the last answer, in ns
}

// minProbe is how often a loop is woken at most.
const minProbe = 5 * time.Millisecond

func (g *lagProbe) start(l *loop) error {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return &OpError{Op: "eventfd", Err: err}
	}
	op := l.poll.Alloc()
	op.FD = fd
	op.OnRead, op.OnWrite, op.OnHup = g.answer, ignore, ignore
	if err := op.Control(netpoll.PollReadable); err != nil {
		op.Free()
		return errors.Join(&OpError{Op: "epoll_ctl", Err: err}, unix.Close(fd))
	}
	g.fd, g.op = fd, op
	return nil
}

// stop is for when the loop is gone.
func (g *lagProbe) stop() error {
	if g.op == nil {
		return nil
	}
	g.op = nil
	return unix.Close(g.fd)
}

// answer is netpoll's callback; loop goroutine.
func (g *lagProbe) answer(netpoll.Poll) error {
	var b [8]byte
	_, _ = read(g.fd, b[:])
	if sent := g.sent.Swap(0); sent != 0 {
		g.lag.Store(int64(now()) - sent)
	}
	return nil
}

// send wakes the loop, unless it has not answered the last time.
func (g *lagProbe) send() {
	if g.sent.CompareAndSwap(0, int64(now())) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(g.fd, one[:])
	}
}

// value is the lag now: at least the age of a wake-up that is not answered.
func (g *lagProbe) value() time.Duration {
	lag := time.Duration(g.lag.Load())
	if sent := g.sent.Load(); sent != 0 {
		lag = max(lag, now()-time.Duration(sent))
	}
	return lag
}

// Lag returns by how much the loops were late when they were last asked, the latest of them. Probe asks.
func (p *Poller) Lag() time.Duration {
	var lag time.Duration
	for _, l := range p.loops {
		lag = max(lag, l.lag.value())
	}
	return lag
}

// Probe asks every loop how late it is, without waiting for the answers. Accepting does so by itself.
func (p *Poller) Probe() {
	at, last := int64(now()), p.probed.Load()
	if at-last < int64(minProbe) || !p.probed.CompareAndSwap(last, at) {
		return
	}
	for _, l := range p.loops {
		l.lag.send()
	}
}
