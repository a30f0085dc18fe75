package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/tracing"
)

// prefix is what stands before the method in a request's path.
const prefix = "/api/"

// Hub is where publications go, and where they are kept: the *hub.Hub.
type Hub interface {
	Publish(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error)
	History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error)
	RemoveHistory(ctx context.Context, channel string) error
}

var _ Hub = (*hub.Hub)(nil)

// Config holds what a Handler needs. Hub, Audience, Clients and Info must be set.
type Config struct {
	Hub      Hub
	Audience Audience
	Clients  Clients
	Info     func() []Node

	// PersonalChannel returns the channel that is a user's own. Nil if there are none, and so no publishing to users.
	PersonalChannel func(user string) (string, error)

	// Together is the number of channels of one broadcast that are published to at the same time, for a broker that takes a while to answer. Zero
	// means 1.
	Together int

	// Revoker revokes tokens. With nil that is not available.
	Revoker Revoker

	// Keys are the valid keys; SetKeys and Reconfigure replace them. With none, and without Insecure, every request is refused.
	Keys []Key

	// Insecure asks for no key. It is for development on loopback. Requests
	// that a browser sends for a page of another origin are refused then,
	// since otherwise every page the developer visits could publish.
	Insecure bool

	Limits

	// TransportErrors tells all errors by the HTTP status too, not to those callers alone that ask for it.
	TransportErrors bool

	// Logger gets a line for each request that failed, and at the level debug for all. Nil means none.
	Logger *slog.Logger

	// Audit, if not nil, has a line for each command that changes something; with AuditPublishes also for each publication.
	Audit          *logs.Log
	AuditPublishes bool

	// Tracer has a span for each request; nil is none.
	Tracer *tracing.Tracer

	// OnInternalError, if set, gets the errors of which the caller is told
	// only "internal server error", with the id of the request.
	OnInternalError func(err error)
}

// Validate reports all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf("api: "+format, args...))
		}
	}
	check(c.Hub != nil, "Hub is missing")
	check(c.Audience != nil, "Audience is missing")
	check(c.Clients != nil, "Clients is missing")
	check(c.Info != nil, "Info is missing")
	return errors.Join(append(problems, c.Limits.Validate(), ValidateKeys(c.Keys))...)
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Handler answers requests below /api/. It may be used by many goroutines.
type Handler struct {
	// Immutable after New.
	config    Config
	origins   *http.CrossOriginProtection
	open      *heldKey              // for callers without a key; nil unless Insecure
	unknown   *account              // of those that are refused for having none
	queue     *heldKey              // of commands that come from a queue
	numbers   map[string]int        // of the methods, in accounts
	durations []histogram.Histogram // by the method's number
	idPrefix  string
	places    chan struct{} // one for each request under way
	streams   chan struct{} // one for each bulk
	stopped   context.Context
	stop      context.CancelFunc

	// With locks of their own.
	lines logLines

	// Any goroutine (atomic).
	keys      atomic.Pointer[[]heldKey]
	ids       atomic.Uint64
	requests  atomic.Uint64
	refused   atomic.Uint64
	published atomic.Uint64
	failed    atomic.Uint64
	bulkLines atomic.Uint64

	// Guarded by accountsMu.
	accountsMu     sync.Mutex
	accounts       map[string]*account // by the key's name
	requestsPerSec float64             // Limits.RequestsPerSecond
	bytesPerSec    float64             // Limits.BytesPerSecond
}

var _ http.Handler = (*Handler)(nil)

// New returns a handler. It keeps no reference to config.Keys.
func New(config Config) (*Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		config: config.withDefaults(), origins: http.NewCrossOriginProtection(),
		numbers: map[string]int{"": 0, "bulk": 1}, accounts: map[string]*account{}, idPrefix: rand.Text()[:8] + "-",
	}
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		h.numbers[name] = len(h.numbers)
	}
	h.durations = make([]histogram.Histogram, len(h.numbers))
	h.places, h.streams = make(chan struct{}, h.config.MaxRequests), make(chan struct{}, h.config.MaxStreams)
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.requestsPerSec, h.bytesPerSec = h.config.RequestsPerSecond, h.config.BytesPerSecond
	h.unknown = h.accountLocked(Key{}) // nobody else has h
	h.queue = &heldKey{Key{Name: queueName, Scopes: ScopePublish}, h.accountLocked(Key{Name: queueName})}
	if config.Insecure {
		open := Key{Name: "dev", Scopes: ScopeAll | ScopeTapPayload}
		h.open = &heldKey{open, h.accountLocked(open)}
	}
	return h, h.SetKeys(config.Keys)
}

// Stop ends the streams: a server that shuts down would wait for them. Other requests are carried out as before.
func (h *Handler) Stop() { h.stop() }

// Stats are a handler's figures since New.
type Stats struct {
	Requests  uint64 // that came
	Refused   uint64 // answered with a status of 400 or more
	Published uint64 // publications accepted, one for each channel
	Failed    uint64 // publications not accepted
	BulkLines uint64 // of bulks
	Running   int    // requests under way, at present
	Streams   int    // bulks, at present
	Outcomes  map[Outcome]uint64
	Durations map[string]histogram.Snapshot // of requests by method, "" for paths that are none and for pipes; without bulks
}

// Stats returns the present figures.
func (h *Handler) Stats() Stats {
	return Stats{
		Requests:  h.requests.Load(),
		Refused:   h.refused.Load(),
		Published: h.published.Load(),
		Failed:    h.failed.Load(),
		BulkLines: h.bulkLines.Load(),
		Running:   len(h.places),
		Streams:   len(h.streams),
		Outcomes:  h.collect(),
		Durations: h.collectDurations(),
	}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	c := &call{id: h.requestID(r), remote: r.RemoteAddr, begun: time.Now()}
	w.Header().Set("X-Request-Id", c.id)
	// Also for bodies that are not wanted: net/http reads them before the next request.
	_ = http.NewResponseController(w).SetReadDeadline(c.begun.Add(h.config.Timeout))
	if r.URL.Path == prefix+"openapi.json" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		describeAPI(w)
		return
	}
	r, span := h.config.Tracer.Server(r, "api")
	result, err := h.serve(w, r, c)
	c.trace(span, err)
	if c.status != 0 { // a stream, which has its answer
		h.log(r, c, c.status, err)
		return
	}
	status, answer := http.StatusOK, response{Result: result}
	if err != nil {
		answer = response{Error: h.describe(c, err)}
		var rejection *rejection
		switch {
		case errors.As(err, &rejection):
			status = rejection.status
		case h.wantsStatuses(r):
			status = orDefault(statuses[answer.Error.Code], http.StatusInternalServerError)
		}
		if status >= http.StatusBadRequest {
			h.refused.Add(1)
		}
		c.setRetryAfter(w.Header())
	}
	h.write(w, status, answer)
	h.log(r, c, status, err)
}

// rejection is a request that did not get as far as its method.
type rejection struct {
	status int
	error
}

func (r *rejection) Unwrap() error { return r.error }

func reject(status int, refusal *hub.Error, format string, args ...any) error {
	return &rejection{status, fmt.Errorf("%w: %s", refusal, fmt.Sprintf(format, args...))}
}

// serve carries out a request, and counts what became of it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, c *call) (result any, err error) {
	account := h.unknown
	defer func() {
		account.count(h.numbers[c.method], codeOf(err))
		if c.status == 0 { // no stream
			h.durations[h.numbers[c.method]].Observe(time.Since(c.begun))
		}
		if h.audited(c.method) {
			h.audit(c, c.method, c.target, err)
		}
	}()
	if c.key, err = h.authenticate(r); err != nil {
		return nil, err
	}
	account = c.key.account
	name, inside := strings.CutPrefix(r.URL.Path, prefix)
	if r.URL.Path+"/" == prefix { // as older libraries have it
		name, inside = "", true
	}
	run, found := h.find(name)
	if !found || !inside {
		return nil, reject(http.StatusNotFound, hub.ErrMethodNotFound, "no such path; behind %s there are %s", prefix, methodNames())
	}
	c.method = name
	if r.Method != http.MethodPost && (r.Method != http.MethodPut || c.method != "bulk") {
		w.Header().Set("Allow", http.MethodPost)
		return nil, reject(http.StatusMethodNotAllowed, hub.ErrBadRequest, "HTTP method %.20q, want POST", r.Method)
	}
	if err := c.permit(c.method); err != nil {
		return nil, err
	}
	if err := c.admit(); err != nil {
		return nil, err
	}
	return run(w, r, c)
}

// find returns what answers behind prefix: a method, bulk, or with an empty name a pipe.
func (h *Handler) find(name string) (func(w http.ResponseWriter, r *http.Request, c *call) (any, error), bool) {
	switch name {
	case "":
		return h.pipe, true
	case "bulk":
		return h.bulk, true
	}
	method, found := methods[name]
	return func(w http.ResponseWriter, r *http.Request, c *call) (any, error) {
		return h.whole(w, r, c, func(ctx context.Context, body []byte) (any, error) { return method(h, ctx, body) })
	}, found
}

// whole carries out a request of which the body is needed as a whole.
func (h *Handler) whole(w http.ResponseWriter, r *http.Request, c *call, run func(ctx context.Context, body []byte) (any, error)) (any, error) {
	if err := enter(h.places, c, "requests under way"); err != nil {
		return nil, err
	}
	defer func() { <-h.places }()
	limit := h.config.MaxBodyBytes
	if traitOf(c.method).large {
		limit = h.config.MaxBatchBytes
	}
	body, err := h.readBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	defer bodies.Put(body)
	charge(c.key.bytes, len(*body))
	if h.audited(c.method) {
		c.target = targetOf(*body)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), callKey{}, c), h.config.Timeout)
	defer cancel()
	return run(ctx, *body)
}

// invoke carries out one of several commands of a request.
func (h *Handler) invoke(ctx context.Context, name string, body []byte) (result any, err error) {
	c := callOf(ctx)
	method, found := methods[name]
	if !found || name == "batch" {
		return nil, fmt.Errorf("%w: %.40q in a batch", hub.ErrMethodNotFound, name)
	}
	if err = c.permit(name); err == nil {
		err = h.checkRoom(c)
	}
	if err == nil {
		result, err = method(h, ctx, body)
	}
	c.key.count(h.numbers[name], codeOf(err))
	if h.audited(name) {
		h.audit(c, name, targetOf(body), err)
	}
	return result, err
}

// checkRoom refuses another command when the replies to those before take too much memory: a small one may ask for a
// whole history.
func (h *Handler) checkRoom(c *call) error {
	if c.answered.Load() > h.config.MaxBatchBytes {
		return fmt.Errorf("%w: the replies to the commands before have more than %d bytes; ask again for the rest", hub.ErrLimitExceeded, h.config.MaxBatchBytes)
	}
	return nil
}

func codeOf(err error) uint32 {
	if err == nil {
		return 0
	}
	code, _ := hub.Describe(err)
	return code
}

// response is the body of every answer.
type response struct {
	Result any            `json:"result,omitempty"`
	Error  *responseError `json:"error,omitempty"`
}

type responseError struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

func (h *Handler) describe(c *call, err error) *responseError {
	code, message := hub.Describe(err)
	if code == hub.ErrInternal.Code && h.config.OnInternalError != nil {
		h.config.OnInternalError(fmt.Errorf("api request %s: %w", c.id, err))
	}
	return &responseError{code, message}
}

func (h *Handler) write(w http.ResponseWriter, status int, answer response) {
	body, err := answer.encode()
	if err != nil {
		panic(fmt.Sprintf("api: response %+v: %v", answer, err)) // all its types can be marshalled
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// Also for small answers: a caller may send request after request and read none. The next request sets another one.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.config.Timeout))
	_, _ = w.Write(body) // the caller may be gone, and there is nobody to tell
}

func (r response) encode() ([]byte, error) {
	if whole, ok := r.Result.(encoded); ok {
		return whole, nil
	}
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// encoded is a whole answer that is JSON already.
type encoded []byte
