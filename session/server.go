package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/pool"
)

// Server accepts connections and runs their sessions. Every method may be called by
// any goroutine.
type Server struct {
	// Immutable after New.
	config     Config
	tls        *tls.Config // nil without Config.TLS
	upgrader   *handshake.Upgrader
	poller     *poller.Poller
	pool       *pool.Pool // runs handlers, which may wait
	tasks      *pool.Pool // runs what is given to Go, which may not
	http       *httpSide
	counters   []counter // one per loop
	addresses  *addresses
	closeTicks uint32
	pingTicks  uint32 // 0 means no heartbeats
	pongTicks  uint32
	stopClock  chan struct{}
	stopOnce   sync.Once // closes stopClock
	clockDone  chan struct{}

	table      Table
	handshakes deadlines
	closings   deadlines
	taps       taps
	ages       ages

	// Owned by the clock's goroutine.
	pinged uint32 // the last tick whose phase was sent its pings

	// Guarded by mu.
	mu        sync.Mutex
	acceptors []*poller.Acceptor
	down      bool
	deserted  bool          // no acceptor will bring a session any more
	done      chan struct{} // closed when Shutdown has ended
	empty     chan struct{} // closed when the last session is gone after stopping
	refusals  map[handshake.Kind]int64

	// Any goroutine (atomic).
	clock       atomic.Uint32 // ticks since New
	stopping    atomic.Bool
	draining    atomic.Pointer[drain] // nil while nothing is drained
	opened      atomic.Int64
	deflating   atomic.Int64 // of opened
	admitted    atomic.Int64 // sessions now that are through the opening handshake
	refused     atomic.Int64 // by MaxConnections
	crowdedOut  atomic.Int64 // by MaxHandshakes
	addressFull atomic.Int64 // by MaxPerAddress
	pressedOut  atomic.Int64 // by Pressure

	maxConnections atomic.Int64 // 0 is no bound
	handedOver     atomic.Int64
	panics         atomic.Int64
	pauses         atomic.Int64
	pings          atomic.Int64
	closeTimeouts  atomic.Int64
	closed         [numReasons]atomic.Int64
	dropped        [PolicyLatest + 1]atomic.Int64
	faults         [codec.NumFaultKinds]atomic.Int64
	handled        histogram.Histogram
}

// counter has the figures that change with every message, on a cache line of one loop.
type counter struct {
	messagesIn  atomic.Int64
	messagesOut atomic.Int64

	deflatedOut  atomic.Int64 // of messagesOut
	deflateSaved atomic.Int64 // bytes

	pongs atomic.Int64

	_ [88]byte
}

// New makes a server and its loops. It must be ended by Shutdown.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	srv := &Server{
		config:     c,
		tls:        tlsConfig(c.TLS),
		addresses:  newAddresses(c.MaxPerAddress),
		closeTicks: ticks(c.CloseTimeout),
		pongTicks:  ticks(c.PongTimeout),
		stopClock:  make(chan struct{}), clockDone: make(chan struct{}),
		done: make(chan struct{}), empty: make(chan struct{}),
		refusals: map[handshake.Kind]int64{},
	}
	srv.SetMaxConnections(c.MaxConnections)
	if c.PingInterval > 0 {
		srv.pingTicks = max(ticks(c.PingInterval), srv.pongTicks+1)
	}
	var err error
	if srv.upgrader, err = handshake.New(c.handshake()); err != nil {
		return nil, err
	}
	if srv.poller, err = poller.New(c.poller()); err != nil {
		return nil, err
	}
	if srv.pool, err = pool.New(c.pool()); err != nil {
		return nil, errors.Join(err, srv.poller.Close())
	}
	if srv.tasks, err = pool.New(pool.Config{Workers: 2 * srv.poller.Loops(), Logger: c.Logger}); err != nil {
		return nil, errors.Join(err, srv.pool.Close(context.Background()), srv.poller.Close())
	}
	srv.counters = make([]counter, srv.poller.Loops())
	srv.http = newHTTPSide(srv)
	go srv.runClock()
	return srv, nil
}

// tlsConfig makes a configuration fit, as net/http does with its own: the protocol that follows is HTTP/1.1, unless
// the configuration knows better, and messages leave in as few records as they can.
func tlsConfig(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{"http/1.1"}
	}
	c.DynamicRecordSizingDisabled = true
	return c
}

func (srv *Server) counter(s *Session) *counter { return &srv.counters[s.conn.Loop()] }

// Serve accepts the connections of l until Shutdown, and then returns
// ErrServerClosed. It owns l. Several listeners may be served at the same time.
func (srv *Server) Serve(l *Listener) error { return srv.serve(l, false) }

// ServeTLS is Serve for clients that speak TLS, by Config.TLS. What is true of sessions without is true of theirs.
func (srv *Server) ServeTLS(l *Listener) error {
	if srv.tls == nil {
		return errors.Join(errors.New("session: ServeTLS without Config.TLS"), l.Close())
	}
	return srv.serve(l, true)
}

func (srv *Server) serve(l *Listener, secured bool) error {
	srv.mu.Lock()
	if srv.down {
		srv.mu.Unlock()
		return errors.Join(ErrServerClosed, l.Close())
	}
	a, err := srv.poller.Serve(l, func(fd int, peer netip.AddrPort) { srv.accept(fd, peer, secured) })
	if err != nil {
		srv.mu.Unlock()
		return errors.Join(fmt.Errorf("serve %s: %w", l.Addr(), err), l.Close())
	}
	srv.acceptors = append(srv.acceptors, a)
	srv.mu.Unlock()
	<-srv.done
	return ErrServerClosed
}

// accept makes a session of a new connection; loop goroutine.
func (srv *Server) accept(fd int, peer netip.AddrPort, secured bool) {
	plain := func(s *Session) error { return srv.poller.Attach(&s.conn, fd, (*wire)(s), nil) }
	switch {
	case srv.crowded(fd, secured):
	case srv.config.proxied(peer):
		srv.adopt(&opening{proxied: true, secured: secured}, plain)
	case secured:
		srv.adopt(nil, func(s *Session) error { return srv.poller.AttachTLS(&s.conn, fd, (*wire)(s), nil, srv.tls) })
	default:
		srv.adopt(nil, plain)
	}
}

// adopt makes a session of a connected socket, which attach gives to the poller. o is what is known before, or nil.
func (srv *Server) adopt(o *opening, attach func(*Session) error) {
	s := &Session{srv: srv}
	if o != nil {
		s.data = o
	}
	s.lastSeen.Store(srv.clock.Load())
	srv.table.add(s)
	srv.handshakes.add(s.id, srv.clock.Load()+ticks(srv.config.HandshakeTimeout))
	if err := attach(s); err != nil {
		srv.config.Logger.Warn("session: connection not registered", "error", err)
		(*wire)(s).OnClose(err)
	}
}

// countRefusal counts an opening handshake that was answered with err.
func (srv *Server) countRefusal(err error) {
	kind := handshake.KindInternal
	var f *handshake.Fault
	if errors.As(err, &f) {
		kind = f.Kind
	}
	srv.mu.Lock()
	srv.refusals[kind]++
	srv.mu.Unlock()
}

// forget takes a session out of the table.
func (srv *Server) forget(s *Session) {
	if s.endpoint != nil {
		srv.admitted.Add(-1)
		srv.addresses.give(s.id)
	}
	if srv.table.remove(s) && srv.stopping.Load() {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		srv.signalEmptyLocked()
	}
}

func (srv *Server) signalEmptyLocked() {
	select {
	case <-srv.empty:
	default:
		if srv.table.Len() == 0 && srv.deserted {
			close(srv.empty)
		}
	}
}

// Session returns the open session with this id, or nil.
func (srv *Server) Session(id uint64) *Session {
	if s := srv.table.Get(id); s != nil && s.state.Load() == open {
		return s
	}
	return nil
}

// Range calls f for every open session. f must not block.
func (srv *Server) Range(f func(*Session)) {
	srv.table.Range(func(s *Session) {
		if s.state.Load() == open {
			f(s)
		}
	})
}

// RangeUntil is Range until f returns false. What comes or goes meanwhile may be missed.
func (srv *Server) RangeUntil(f func(*Session) bool) {
	var at cursor
	for s := srv.table.walk(&at); s != nil; s = srv.table.walk(&at) {
		if s.state.Load() == open && !f(s) {
			return
		}
	}
}

// Task is work for Server.Go.
type Task = pool.Task

// Go runs t soon on another goroutine, and never blocks: for work that takes CPU and does not
// wait, such as a broadcast to a thousand sessions.
func (srv *Server) Go(t Task) { srv.tasks.Go(t) }

// Shutdown stops accepting, closes every session with 1001 and waits until all are
// gone, the clients' answers are in or CloseTimeout has passed, and the handlers have returned. When
// ctx ends first it cuts what is left and returns ctx's error. In any case the server's
// goroutines and descriptors are gone when it returns, save those of handlers that do not.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	if srv.down {
		srv.mu.Unlock()
		<-srv.done
		return nil
	}
	srv.down = true
	acceptors := srv.acceptors
	srv.mu.Unlock()
	defer close(srv.done)

	var errs []error
	for _, a := range acceptors {
		errs = append(errs, a.Close())
	}
	srv.stopping.Store(true)
	srv.http.stopUpgrades()
	srv.table.Range(func(s *Session) {
		s.refuse(handshake.ErrShuttingDown)
		s.goAway()
	})
	srv.mu.Lock()
	srv.deserted = true
	srv.signalEmptyLocked()
	srv.mu.Unlock()
	errs = append(errs, srv.http.shutdown(ctx), srv.awaitEmpty(ctx), srv.pool.Close(ctx), srv.tasks.Close(ctx))
	srv.stopTicking()
	return errors.Join(append(errs, srv.poller.Close())...)
}

// awaitEmpty waits for the last session, and cuts those that are left when ctx ends.
func (srv *Server) awaitEmpty(ctx context.Context) error {
	select {
	case <-srv.empty:
		return nil
	case <-ctx.Done():
	}
	if srv.table.Len() == 0 { // both were ready
		return nil
	}
	srv.table.Range(func(s *Session) { s.conn.Abort(nil) })
	<-srv.empty
	return fmt.Errorf("session: connections cut: %w", ctx.Err())
}
