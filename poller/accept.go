package poller

import (
	"net/netip"
	"sync"
	"time"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// acceptBatch is how many connections one turn of the loop accepts at most, so that
// a storm of connects leaves room for those who are in.
const acceptBatch = 64

// Backoff after an error that says this process or the kernel is out of something.
const (
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second
)

// Acceptor accepts the connections of one listener on one loop.
type Acceptor struct {
	// Immutable after Serve.
	listener *Listener
	poller   *Poller
	loop     *loop
	accept   func(fd int, peer netip.AddrPort)

	// Owned by the loop goroutine.
	peer unix.RawSockaddrAny

	// Guarded by mu.
	mu      sync.Mutex
	op      *netpoll.FDOperator // nil once closed
	timer   *time.Timer         // set while accepting is paused
	backoff time.Duration
	stats   AcceptStats
}

// AcceptStats count since Serve.
type AcceptStats struct {
	Accepted int64
	// Backoffs counts the pauses for lack of descriptors or memory.
	Backoffs int64
	// Paced counts the pauses for the sake of AcceptRate.
	Paced int64
	// Lagged counts the pauses because a loop was later than MaxLag, and Crowded those because many TLS handshakes wait to
	// compute.
	Lagged, Crowded int64
	// Aborted counts the connections that were gone before they were accepted.
	Aborted int64
}

// Serve accepts l's connections from now on: accept gets each non-blocking
// descriptor, which is its to close or to Attach, with the peer's address (zero for a unix
// socket). It runs on the loop and must not block. Close of the Acceptor closes l.
func (p *Poller) Serve(l *Listener, accept func(fd int, peer netip.AddrPort)) (*Acceptor, error) {
	a := &Acceptor{listener: l, poller: p, loop: p.nextLoop(), accept: accept}
	op := a.loop.poll.Alloc()
	op.FD = l.fd
	op.OnRead, op.OnWrite, op.OnHup = a.onRead, ignore, ignore
	a.mu.Lock()
	defer a.mu.Unlock()
	a.op = op
	if err := op.Control(netpoll.PollReadable); err != nil {
		a.op = nil
		op.Free()
		return nil, &OpError{Op: "epoll_ctl", Err: err}
	}
	return a, nil
}

func ignore(netpoll.Poll) error { return nil }

// onRead is netpoll's callback for waiting connections; loop goroutine.
func (a *Acceptor) onRead(netpoll.Poll) error {
	a.poller.Probe()
	for range acceptBatch {
		if a.tooFast() {
			return nil
		}
		fd, errno := accept(a.listener.fd, &a.peer)
		switch errno {
		case 0:
			a.count(&a.stats.Accepted)
			if pace := a.poller.pace.Load(); pace != nil {
				pace.Reserve()
			}
			a.accept(fd, addrPort(&a.peer))
			if a.paused() {
				return nil
			}
		case unix.EAGAIN:
			return nil
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			a.backOff(errno)
			return nil
		default:
			// accept(2): network errors of the new socket are passed on here; the
			// next one may be fine.
			a.count(&a.stats.Aborted)
		}
	}
	return nil
}

// maxQueued is how many TLS handshakes may wait for each place to compute: less than a tenth of a second's worth.
const maxQueued = 64

// breather is for how long accepting pauses when there is too much to do.
const breather = 10 * time.Millisecond

// tooFast pauses accepting, and reports so, when no connection is to be accepted now: the rate does not allow it, or
// those who are in have to wait as it is. The others wait in the kernel's backlog.
func (a *Acceptor) tooFast() bool {
	p := a.poller
	pace := p.pace.Load()
	switch {
	case pace != nil && pace.Tokens() < 1:
		// Nothing is taken off the account before a connection is there: most turns end with an accept that finds none.
		missing := 1 - pace.Tokens()
		a.pause(&a.stats.Paced, time.Duration(missing/float64(pace.Limit())*float64(time.Second)))
	case p.maxLag > 0 && p.Lag() > p.maxLag:
		a.pause(&a.stats.Lagged, breather)
	case p.queued.Load() > int64(maxQueued*cap(p.shaking)):
		a.pause(&a.stats.Crowded, breather)
	default:
		return false
	}
	p.Probe()
	return true
}

// pause stops accepting for d and counts why.
func (a *Acceptor) pause(why *int64, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*why++
	a.pauseLocked(max(d, time.Millisecond))
}

func (a *Acceptor) paused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timer != nil
}

func (a *Acceptor) count(n *int64) {
	a.mu.Lock()
	*n++
	if n == &a.stats.Accepted {
		a.backoff = 0
	}
	a.mu.Unlock()
}

// backOff stops accepting for a while: the listener is level-triggered and would
// report the same connection for ever. The connections wait in the kernel's backlog.
func (a *Acceptor) backOff(errno unix.Errno) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stats.Backoffs++
	if a.backoff == 0 {
		a.poller.logger.Warn("accept: out of resources, backing off", "listener", a.listener.addr.String(), "error", errno)
	}
	a.backoff = min(max(2*a.backoff, minBackoff), maxBackoff)
	a.pauseLocked(a.backoff)
}

// Pause stops accepting for d.
func (a *Acceptor) Pause(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pauseLocked(d)
}

func (a *Acceptor) pauseLocked(d time.Duration) {
	if a.op == nil {
		return
	}
	_ = setMask(a.loop.epfd, a.op, a.listener.fd, 0)
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(d, a.resume)
}

func (a *Acceptor) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.op != nil {
		a.timer = nil
		_ = setMask(a.loop.epfd, a.op, a.listener.fd, unix.EPOLLIN)
	}
}

// Refuse answers a connection that was accepted and is not wanted, and closes it. response may be empty.
func Refuse(fd int, response []byte) {
	if len(response) > 0 {
		_, _ = send(fd, response)
	}
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	_ = unix.Close(fd)
}

// Stats returns the counts; any goroutine.
func (a *Acceptor) Stats() AcceptStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Addr returns the listener's address.
func (a *Acceptor) Addr() string { return a.listener.addr.String() }

// Close stops accepting and closes the listener, after those connections were accepted that waited. It waits for a running
// accept, so it must not be called from one. The last accepts are its caller's.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	op := a.op
	a.op = nil
	if a.timer != nil {
		a.timer.Stop()
	}
	if op != nil {
		_ = op.Control(netpoll.PollDetach)
	}
	a.mu.Unlock()
	if op == nil {
		return nil
	}
	op.Free() // waits for onRead
	if !a.listener.shared.Load() {
		a.acceptRest()
	}
	return a.listener.close()
}

// acceptRest accepts the connections that wait, which would be reset otherwise.
func (a *Acceptor) acceptRest() {
	for range maxBacklog {
		fd, errno := accept(a.listener.fd, &a.peer)
		switch errno {
		case 0:
			a.count(&a.stats.Accepted)
			a.accept(fd, addrPort(&a.peer))
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return
		}
	}
}
