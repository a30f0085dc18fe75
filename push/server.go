package push

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/auth"
	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/certs"
	"github.com/millpond/millpond/push/dashboard"
	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/pressure"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/push/takeover"
	"github.com/millpond/millpond/push/tap"
	"github.com/millpond/millpond/push/tracing"
	"github.com/millpond/millpond/session"
)

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = session.ErrServerClosed

// Server is the whole product. Its methods may be called by any goroutine.
type Server struct {
	// Immutable after New.
	config   Config
	engine   *session.Server
	hub      *hub.Hub
	broker   broker
	memory   *memory.Broker // the broker, or nil
	nats     *natsSide      // the broker and what it stands on, or nil
	queue    *queueSide     // nil without
	verifier *auth.Verifier // of tokens
	// revocations are tokens that are refused all the same.
	revocations *auth.Revocations
	nodes       *nodes // the others; nil without
	plain       *plain.Handler[*session.Frame]
	// centrifuge is the Centrifuge protocol.
	centrifuge  *centrifuge.Handler[*session.Frame]
	backend     *backend // the application's
	api         *api.Handler
	openAPI     *api.Handler // asks for no key; nil without Dev
	apiKeys     apiKeys      // where the API's keys come from
	taps        *tap.Taps
	dashboard   *dashboard.Dashboard // nil without
	watched     watched
	baseline    int    // bytes of memory that the process had without connections
	uid         string // of this process
	started     time.Time
	memoryWatch *pressure.Watch
	certs       *certs.Store    // nil without TLS
	events      *events.Events  // nil if nobody wants any
	repeats     *logs.Repeats   // before the log, for the broker and the cluster; nil until openLogs
	audit       *logs.Log       // nil if there is none
	access      *accessLog      // nil if there is none
	tracer      *tracing.Tracer // nil if nobody follows anything
	public      []*session.Listener
	addrs       []net.Addr
	internal    *internalSide      // nil when a public address carries the internal routes
	handover    *takeover.Handover // nil, or what another process gives
	taken       chan struct{}
	ended       chan struct{} // closed when Shutdown has done what it does once

	// Any goroutine (atomic).
	live     atomic.Pointer[Config] // config with what Reconfigure took over
	reloads  reloads
	draining atomic.Bool
	closing  sync.Once // what Shutdown does once

	reconfiguring sync.Mutex // is held while live changes, and what follows from it

	// Guarded by mu.
	mu    sync.Mutex
	offer *takeover.Offer // nil, or waits for another process
	down  bool            // Shutdown was called
}

// New makes a server and opens its listeners; nothing is accepted before Serve.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		config: c.withDefaults(), taken: make(chan struct{}), ended: make(chan struct{}),
		uid: rand.Text(), started: time.Now(),
	}
	s.live.Store(&s.config)
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.queue.close(context.Background()), s.closeEvents(context.Background()), s.closeLogs(context.Background()), s.closeBroker(context.Background()))
	}
	err := s.listen()
	if err == nil {
		err = s.joinNodes()
	}
	if err != nil {
		return nil, errors.Join(err, s.discard())
	}
	return s, nil
}

// build makes the rooms, from the inside to the outside.
func (s *Server) build() error {
	c := s.config
	var err error
	// The hub's tasks run on the engine, whose handlers need the hub.
	if c.TLS.Enabled() {
		c.TLS.Logger = c.Logger
		if s.certs, err = certs.New(c.TLS); err != nil {
			return err
		}
		defer func() {
			if s.engine == nil {
				_ = s.certs.Close()
			}
		}()
	}
	if err := s.newEvents(); err != nil {
		return err
	}
	if err := s.openLogs(); err != nil {
		return err
	}
	if err := s.newBroker(); err != nil {
		return err
	}
	c = s.config // with the broker's ways to other nodes
	s.newNodes()
	executor := &executor{}
	s.hub, err = hub.New(hub.Config{
		Tracer:   s.followed(),
		Channels: c.channels(), Namespaces: c.namespaces(), AnyNamespace: c.anyNamespace(), MaxRecovered: c.MaxRecovered,
		MaxPresence: c.MaxPresence, Observer: s.observer(),
		Broker: s.broker, Executor: executor, OnPanic: s.onSubscriberPanic,
		// What waits for fan-out arrives at a session in one batch: a quarter of its outbox, so
		// that a burst alone does not make a slow consumer of a client that reads.
		MaxWaiting: min(128, s.outboxMessages()/4+1), MaxWaitingBytes: s.outboxBytes()/4 + 1,
	})
	if err != nil {
		return err
	}
	if s.backend, err = newBackend(&c, s.tracer); err != nil {
		return err
	}
	if err = s.newVerifier(); err != nil {
		return err
	}
	defer func() {
		if s.engine == nil {
			_ = s.closeVerifier()
		}
	}()
	if s.plain, err = s.newPlain(); err != nil {
		return err
	}
	if s.centrifuge, err = s.newCentrifuge(); err != nil {
		return err
	}
	apiConfig := s.apiConfig()
	if apiConfig.Keys, err = s.apiKeys.load(c); err != nil {
		return err
	}
	if s.api, err = api.New(apiConfig); err != nil {
		return err
	}
	if err = s.newQueue(); err != nil {
		return err
	}
	if c.Dev {
		apiConfig.Insecure = true
		if s.openAPI, err = api.New(apiConfig); err != nil {
			return err
		}
	}
	if s.taps, err = s.newTaps(); err != nil {
		return err
	}
	if s.dashboard, err = s.newDashboard(); err != nil {
		return err
	}
	_, s.baseline = usage()
	engine := c.Engine
	engine.Logger = c.Logger
	engine.MaxMessageBytes = c.MaxMessageBytes
	if s.memoryWatch, err = s.watchMemory(); err != nil {
		return err
	}
	engine.Pressure = s.pressure
	engine.Endpoints = s.endpoints()
	engine.HTTP = s.publicRoutes()
	if s.certs != nil {
		engine.TLS = s.certs.TLS()
	}
	if s.engine, err = session.New(engine); err != nil {
		return err
	}
	executor.engine.Store(s.engine)
	return nil
}

// joinNodes joins the others, if there may be any. It is the last that is done before clients come.
func (s *Server) joinNodes() error {
	if s.nodes == nil {
		return nil
	}
	return s.nodes.join()
}

func (s *Server) outboxBytes() int { return cmp.Or(s.config.Engine.OutboxBytes, 256<<10) }

func (s *Server) outboxMessages() int { return cmp.Or(s.config.Engine.OutboxMessages, 1024) }

// executor runs the hub's tasks on the engine.
type executor struct {
	engine atomic.Pointer[session.Server]
}

// Submit implements hub.Executor.
func (e *executor) Submit(t hub.Task) bool {
	e.engine.Load().Go(t)
	return true
}

// Where sessions are opened by whom AllowedOrigins has.
const (
	plainPath      = "/push"
	centrifugePath = "/connection/websocket"
	echoPath       = "/echo"
)

func (s *Server) endpoints() []session.Endpoint {
	c := s.config
	endpoints := []session.Endpoint{s.access.wrap(s.plainEndpoint(), "plain"), s.access.wrap(s.centrifugeEndpoint(), centrifugeJSON)}
	if c.Echo {
		maxMessage := c.MaxMessageBytes
		if maxMessage == 0 {
			maxMessage = defaultEchoMessageBytes
		}
		endpoints = append(endpoints, s.access.wrap(session.Endpoint{
			Path: echoPath, Handler: echo{}, Inline: true, PauseOnBacklog: true,
			AllowedOrigins: c.AllowedOrigins, MaxMessageBytes: maxMessage, Compression: c.compression(),
		}, "echo"))
	}
	if s.dashboard != nil {
		endpoints = append(endpoints, s.dashboard.Endpoint())
	}
	return endpoints
}

// echo sends every message back.
type echo struct{}

// OnOpen implements session.Handler.
func (echo) OnOpen(*session.Session) {}

// OnMessage implements session.Handler.
func (echo) OnMessage(s *session.Session, op session.Opcode, payload []byte) {
	_ = s.SendMessage(op, payload)
}

// OnClose implements session.Handler.
func (echo) OnClose(*session.Session, session.Status) {}

func (s *Server) onSubscriberPanic(_ hub.Subscriber, value any) {
	s.config.Logger.Error("push: delivery panicked", "panic", value)
}

func (s *Server) onInternalError(err error) {
	s.config.Logger.Error("push: internal error", "error", err)
}

// discard undoes New when it fails half-way.
func (s *Server) discard() error {
	errs := []error{s.queue.close(context.Background()), s.engine.Shutdown(context.Background()), s.backend.close(context.Background())}
	for _, l := range s.public {
		if s.handover != nil {
			l.Share() // the process that has it goes on
		}
		errs = append(errs, l.Close())
	}
	if s.handover != nil {
		errs = append(errs, s.handover.Close())
	}
	s.nodes.close()
	return errors.Join(append(errs, s.closeCerts(), s.closeVerifier(), s.closeEvents(context.Background()), s.closeLogs(context.Background()), s.closeBroker(context.Background()))...)
}

func (s *Server) closeEvents(ctx context.Context) error {
	if s.events == nil {
		return nil
	}
	return s.events.Close(ctx)
}

func (s *Server) closeCerts() error {
	if s.certs == nil {
		return nil
	}
	return s.certs.Close()
}

// Reload reads the files of certificates, of the API's keys and of the tokens' keys again, and opens those of logs by their names. What is wrong
// with those of a kind leaves that kind as it was, and is an error.
func (s *Server) Reload() error {
	err := errors.Join(s.reopenLogs(), s.verifier.Reload(), s.reloadAPIKeys())
	if s.certs != nil {
		err = errors.Join(err, s.certs.Reload())
	}
	s.audited("reload", err)
	return err
}

// Addrs returns the public addresses, with the ports that the kernel chose.
func (s *Server) Addrs() []net.Addr { return s.addrs }

// InternalAddr returns the address of API, health and metrics.
func (s *Server) InternalAddr() net.Addr {
	if s.internal == nil {
		for i, address := range s.config.Listen {
			if address == s.config.InternalListen {
				return s.addrs[i]
			}
		}
	}
	return s.internal.listener.Addr()
}

// Serve serves until Shutdown has ended, and then returns ErrServerClosed. An error of
// a listener ends it too.
func (s *Server) Serve() error {
	log := s.config.Logger
	if s.config.Dev {
		log.Warn("DEVELOPMENT MODE: no tokens needed, clients may subscribe and publish anywhere; never run it like this in production")
	}
	failed := make(chan error, len(s.public)+2)
	stop := make(chan struct{})
	var running sync.WaitGroup
	s.memoryWatch.Tick(time.Now())
	running.Go(func() { s.keepHouse(stop) })
	s.queue.begin()
	for i, l := range s.public {
		secured := s.config.secured(s.config.Listen[i])
		log.Info("listening", "listener", "public", "address", s.addrs[i].String(), "tls", secured)
		if secured {
			running.Go(func() { failed <- s.engine.ServeTLS(l) })
		} else {
			running.Go(func() { failed <- s.engine.Serve(l) })
		}
	}
	log.Info("listening", "listener", "internal", "address", s.InternalAddr().String())
	if s.internal != nil {
		running.Go(func() { failed <- s.internal.serve() })
	}
	if err := s.handOn(); err != nil {
		failed <- err
	}
	err := <-failed
	if !errors.Is(err, ErrServerClosed) && !errors.Is(err, http.ErrServerClosed) {
		err = errors.Join(fmt.Errorf("push: %w", err), s.Shutdown(context.Background()))
	} else {
		<-s.ended
		err = ErrServerClosed
	}
	close(stop)
	running.Wait()
	s.memoryWatch.Close()
	return err
}

// Drain prepares a Shutdown: /readyz turns 503, the queue is left to others, for the grace time clients are still accepted, so that a load balancer
// has time to notice, and then rate sessions a second are closed with 1001, until none is left or ctx ends. A rate of
// zero leaves them to Shutdown.
func (s *Server) Drain(ctx context.Context, grace time.Duration, rate float64) error {
	s.draining.Store(true)
	if err := errors.Join(s.closeOffer(), s.queue.close(ctx)); err != nil {
		s.config.Logger.Warn("draining", "error", err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return s.engine.Drain(ctx, rate)
}

// Shutdown ends the server: /readyz turns 503, nobody is accepted any more, every client gets
// a close frame with 1001. When ctx ends first, it cuts what is left and returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	err := errors.Join(s.closeOffer(), s.queue.close(ctx))
	s.stopStreams()
	err = errors.Join(err, s.engine.Shutdown(ctx), s.backend.close(ctx))
	if s.internal != nil {
		err = errors.Join(err, s.internal.shutdown(ctx))
	}
	s.closing.Do(func() {
		if s.dashboard != nil {
			s.dashboard.Close()
		}
		s.nodes.close()
		err = errors.Join(err, s.closeCerts(), s.closeVerifier(), s.closeEvents(ctx), s.closeLogs(ctx), s.closeBroker(ctx))
		close(s.ended)
	})
	return err
}
