package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/session"
)

// Limits bound what the dashboard costs. The zero value works.
type Limits struct {
	// MaxWatchers bounds the pages that watch at a time. Zero means 16; negative means none.
	MaxWatchers int
	// MaxResults bounds the connections that one node finds for a query. Zero means 100.
	MaxResults int
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (l Limits) Validate() error {
	if l.MaxResults < 0 {
		return fmt.Errorf("dashboard-max-results: %d is negative", l.MaxResults)
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	l.MaxWatchers = max(cmp.Or(l.MaxWatchers, 16), 0)
	l.MaxResults = cmp.Or(l.MaxResults, 100)
	return l
}

// Caller is who uses the page.
type Caller struct {
	Key        string // its name
	Disconnect bool   // it may end connections
	Publish    bool   // it may publish by the API
}

// Error is a refusal of a request.
type Error struct {
	Status int // of HTTP
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Config holds what a Dashboard needs. All fields but Limits must be set.
type Config struct {
	// Engine returns the server that the page's connections are of, once it is there.
	Engine func() *session.Server
	// Caller says who a request comes from, or why they may not look: an *Error.
	Caller func(r *http.Request) (Caller, error)
	// Watched is told when somebody begins to watch, and when nobody does any more.
	Watched func(on bool)
	// Figures are the present ones; without Watchers and Cost. It is called once a second while somebody watches.
	Figures func() *Figures
	// Find finds connections.
	Find func(ctx context.Context, q Query) (*Found, error)
	// Disconnect ends a connection, and reports false if there is none with that id. Its error may be an *Error.
	Disconnect func(ctx context.Context, caller Caller, remote string, d Disconnect) (bool, error)
	// Bounds are those of the Durations, in seconds.
	Bounds []float64
	// Path is where the page finds its socket.
	Path string
	// Private says that the socket is for those who come by ServeSocket alone.
	Private bool
	// Compression of the socket; nil is none.
	Compression *session.Compression
	Limits
}

// Dashboard serves pages. Its methods may be called by any goroutine.
type Dashboard struct {
	// Immutable after New.
	config  Config
	tickets tickets
	finding chan struct{} // has a place for each query under way

	running sync.WaitGroup // of run
	turn    sync.Mutex     // of run, of which the next may begin before the last has ended

	// Guarded by mu.
	mu       sync.Mutex
	watchers map[*session.Session]struct{}
	deserted chan struct{}  // closed when the last of them is gone; nil while there are none
	latest   *session.Frame // for those who come; nil while there is none

	// Any goroutine (atomic).
	refused atomic.Int64 // for MaxWatchers
}

// maxFinding bounds the queries under way: each may look at all connections.
const maxFinding = 2

// New returns a Dashboard that nobody watches.
func New(c Config) (*Dashboard, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Limits = c.withDefaults()
	return &Dashboard{config: c, finding: make(chan struct{}, maxFinding), watchers: map[*session.Session]struct{}{}}, nil
}

// Close waits until nothing runs any more. It is called when the engine has ended.
func (d *Dashboard) Close() { d.running.Wait() }

// Stats are figures of the dashboard itself.
type Stats struct {
	Watchers int   // pages that watch now
	Refused  int64 // pages that were one too many
}

// Stats returns the present figures.
func (d *Dashboard) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{Watchers: len(d.watchers), Refused: d.refused.Load()}
}

// Recheck has all pages show their keys again: the keys have changed.
func (d *Dashboard) Recheck() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.watchers {
		s.Close(closeRecheck, "the API's keys have changed")
	}
}

// closeRecheck is the code by which pages are told to ask for another ticket. They do so after any other, too.
const closeRecheck session.CloseCode = 4401

// Endpoint is where the page's socket is.
func (d *Dashboard) Endpoint() session.Endpoint {
	return session.Endpoint{
		Path: d.config.Path, Handler: (*handler)(d), Private: d.config.Private, Accept: d.accept,
		MaxMessageBytes: 1024, SlowPolicy: session.PolicyLatest, Compression: d.config.Compression,
	}
}

var (
	errTicket = &session.Refusal{Status: http.StatusUnauthorized, Kind: "ticket", Reason: "a ticket of this minute is needed, which POST session gives"}
	errFull   = &session.Refusal{
		Status: http.StatusServiceUnavailable, Kind: "watchers", Reason: "too many pages watch already: --dashboard-max-watchers",
	}
)

// accept lets those in that have a ticket, each of which is good for one connection.
func (d *Dashboard) accept(r *session.Request) (any, error) {
	if !d.tickets.take(r.Query().Get("ticket"), time.Now()) {
		return nil, errTicket
	}
	d.mu.Lock()
	full := len(d.watchers) >= d.config.MaxWatchers
	d.mu.Unlock()
	if full {
		d.refused.Add(1)
		return nil, errFull
	}
	return nil, nil
}

// handler is a Dashboard as the engine sees it.
type handler Dashboard

var _ session.Handler = (*handler)(nil)

// OnOpen implements session.Handler.
func (h *handler) OnOpen(s *session.Session) { (*Dashboard)(h).join(s) }

// OnMessage implements session.Handler. The page has nothing to say.
func (*handler) OnMessage(s *session.Session, _ session.Opcode, _ []byte) {
	s.Close(session.CloseCode(1008), "nothing is to be said here") // RFC 6455 §7.4.1: policy violation
}

// OnClose implements session.Handler.
func (h *handler) OnClose(s *session.Session, _ session.Status) { (*Dashboard)(h).leave(s) }

func (d *Dashboard) join(s *session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.watchers) >= d.config.MaxWatchers { // several came at once
		d.refused.Add(1)
		s.Close(session.CloseCode(1013), errFull.Reason) // try again later
		return
	}
	d.watchers[s] = struct{}{}
	if d.deserted == nil {
		deserted := make(chan struct{})
		d.deserted = deserted
		d.running.Go(func() { d.run(deserted) })
	}
	if d.latest != nil {
		show(s, d.latest)
	}
}

func (d *Dashboard) leave(s *session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.watchers, s)
	if len(d.watchers) == 0 && d.deserted != nil {
		close(d.deserted)
		d.deserted, d.latest = nil, nil
	}
}

// run sends figures once a second until the last watcher is gone.
func (d *Dashboard) run(deserted <-chan struct{}) {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.config.Watched(true)
	defer d.config.Watched(false)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for cost := time.Duration(0); ; {
		begun := time.Now()
		d.tell(cost)
		cost = time.Since(begun)
		select {
		case <-deserted:
			return
		case <-ticker.C:
		}
	}
}

// tell sends the present figures to all who watch.
func (d *Dashboard) tell(cost time.Duration) {
	f := d.config.Figures()
	f.Cost = cost.Seconds()
	d.mu.Lock()
	f.Watchers = len(d.watchers)
	d.mu.Unlock()
	b, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("dashboard: %v", err)) // numbers and strings
	}
	frame := session.NewFrame(session.OpText, b)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deserted != nil {
		d.latest = frame
	}
	for s := range d.watchers {
		show(s, frame)
	}
}

// show sends figures, in the place of those that wait.
func show(s *session.Session, f *session.Frame) {
	_ = s.SendWith(f, session.Delivery{Policy: session.PolicyLatest, Key: 1})
}
