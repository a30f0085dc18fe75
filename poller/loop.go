package poller

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"
	"golang.org/x/time/rate"
)

// scratchBytes is how much one read may return. Each loop has one such buffer, and
// one of the same size for Cork.
const scratchBytes = 64 << 10

const defaultMaxLag = 50 * time.Millisecond

// Config says how a Poller is to be made. The zero value works.
type Config struct {
	// Loops is the number of event loops, each with a goroutine and about 200 KiB.
	// Zero means GOMAXPROCS.
	Loops int
	// Limits bound each connection's queue.
	Limits Limits
	// AcceptRate is how many connections all listeners together accept in a second; those that come faster wait in
	// the kernel's backlog. A tenth of a second's worth may come at once. Zero means no bound.
	AcceptRate float64
	// MaxLag is how late a loop may be until accepting pauses, so that those who are in come first. Zero means 50 ms,
	// negative means any.
	MaxLag time.Duration
	// TLSHandshakes is how many TLS handshakes compute at the same time; those that wait for their peer do not count.
	// Zero means half of GOMAXPROCS, so that a storm of them leaves the loops room.
	TLSHandshakes int
	// Logger gets the faults of listeners. Nil means slog.Default().
	Logger *slog.Logger
}

// Validate reports every value that makes no sense.
func (c Config) Validate() error {
	var errs []error
	if c.Loops < 0 || c.Loops > 1024 {
		errs = append(errs, fmt.Errorf("loops: %d is not between 0 and 1024", c.Loops))
	}
	if !(c.AcceptRate >= 0) {
		errs = append(errs, fmt.Errorf("accept-rate: %v is negative, or no number", c.AcceptRate))
	}
	if c.TLSHandshakes < 0 {
		errs = append(errs, fmt.Errorf("tls-handshakes: %d is negative", c.TLSHandshakes))
	}
	if c.Limits.Bytes < 0 {
		errs = append(errs, fmt.Errorf("outbox-bytes: %d is negative", c.Limits.Bytes))
	}
	if c.Limits.Buffers < 0 {
		errs = append(errs, fmt.Errorf("outbox-messages: %d is negative", c.Limits.Buffers))
	}
	return errors.Join(errs...)
}

// Poller is a set of event loops.
type Poller struct {
	// Immutable after New.
	loops  []*loop
	logger *slog.Logger
	maxLag time.Duration

	shaking chan struct{} // a place for each TLS handshake that computes

	// Any goroutine (atomic).
	pace   atomic.Pointer[rate.Limiter] // of all listeners; nil without AcceptRate
	next   atomic.Uint32
	probed atomic.Int64 // when the loops were last asked for their lag
	queued atomic.Int64 // TLS handshakes that wait for a place to compute
	tls    handshakes
}

// loop is one netpoll poller with the goroutine that waits on it.
type loop struct {
	// Immutable after newLoop.
	owner   *Poller
	poll    netpoll.Poll
	epfd    int
	index   int
	limits  Limits
	stopped chan struct{}
	lag     lagProbe

	// Owned by the loop goroutine.
	scratch []byte
	corked  *Conn       // whose OnData asked for Cork
	cork    []byte      // guarded by the mu of the Conn that is corked, while one is
	tls     *tlsBuffers // nil until a connection with TLS was read

	// Any goroutine (atomic).
	conns     atomic.Int64
	queues    atomic.Int64 // connections for which something waits
	bytesRead atomic.Int64
	_         [64]byte // bytesSent is written by every goroutine that sends
	bytesSent atomic.Int64
}

// SetAcceptRate sets Config.AcceptRate anew.
func (p *Poller) SetAcceptRate(perSecond float64) {
	var pace *rate.Limiter
	if before := p.pace.Load(); before != nil && before.Limit() == rate.Limit(perSecond) {
		return // it goes on with what it has on its account
	}
	if perSecond > 0 {
		pace = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
	}
	p.pace.Store(pace)
}

// New opens the loops and proves on real sockets that netpoll still behaves as
// this package needs.
func New(c Config) (*Poller, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := c.Loops
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	p := &Poller{logger: c.Logger, maxLag: c.MaxLag}
	if p.maxLag == 0 {
		p.maxLag = defaultMaxLag
	}
	if p.logger == nil {
		p.logger = slog.Default()
	}
	if c.TLSHandshakes == 0 {
		c.TLSHandshakes = max(1, runtime.GOMAXPROCS(0)/2)
	}
	p.shaking = make(chan struct{}, c.TLSHandshakes)
	p.SetAcceptRate(c.AcceptRate)
	for range n {
		l, err := p.newLoop(len(p.loops), c.Limits.orDefault())
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.loops = append(p.loops, l)
		if err := l.lag.start(l); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	if err := p.selfTest(); err != nil {
		return nil, errors.Join(fmt.Errorf("poller: self-test: %w", err), p.Close())
	}
	return p, nil
}

func (p *Poller) newLoop(index int, lim Limits) (*loop, error) {
	poll, epfd, err := newPoll()
	if err != nil {
		return nil, err
	}
	l := &loop{
		owner: p, poll: poll, epfd: epfd, index: index, limits: lim, stopped: make(chan struct{}),
		scratch: make([]byte, scratchBytes), cork: make([]byte, 0, scratchBytes),
	}
	go func() {
		defer close(l.stopped)
		if err := poll.Wait(); err != nil {
			panic(fmt.Sprintf("poller: epoll_wait: %v", err)) // the descriptor is ours alone
		}
	}()
	return l, nil
}

// tlsBuffers are for a read with TLS; loop goroutine.
func (l *loop) tlsBuffers() *tlsBuffers {
	if l.tls == nil {
		l.tls = new(tlsBuffers)
	}
	return l.tls
}

func (p *Poller) nextLoop() *loop {
	return p.loops[int(p.next.Add(1))%len(p.loops)]
}

// Close stops the loops and waits for them. Every connection and listener must
// have been closed before.
func (p *Poller) Close() error {
	var errs []error
	for _, l := range p.loops {
		select {
		case <-l.stopped: // its descriptors' numbers may be others' by now
			continue
		default:
		}
		if err := l.poll.Close(); err != nil {
			errs = append(errs, err)
			continue
		}
		<-l.stopped
		errs = append(errs, l.lag.stop())
	}
	return errors.Join(errs...)
}

// Stats are sums over all loops since New.
type Stats struct {
	Conns     int64 // open now
	Queues    int64 // of these, with something that waits for the kernel
	BytesRead int64
	BytesSent int64 // taken by the kernel
}

// Stats returns the sums; any goroutine.
func (p *Poller) Stats() Stats {
	var s Stats
	for _, l := range p.loops {
		s.Conns += l.conns.Load()
		s.Queues += l.queues.Load()
		s.BytesRead += l.bytesRead.Load()
		s.BytesSent += l.bytesSent.Load()
	}
	return s
}

// Loops returns how many loops there are.
func (p *Poller) Loops() int { return len(p.loops) }
