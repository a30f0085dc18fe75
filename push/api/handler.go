package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/millpond/millpond/push/hub"
)

// prefix is what stands before the method in a request's path.
const prefix = "/api/"

// Hub is where publications go, and where they are kept: the *hub.Hub.
type Hub interface {
	Publish(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error)
	History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error)
	RemoveHistory(ctx context.Context, channel string) error
	Presence(channel string) ([]*hub.ClientInfo, error)
	PresenceStats(channel string) (hub.PresenceStats, error)
	Channels(f func(name string, subscribers int) bool)
}

var _ Hub = (*hub.Hub)(nil)

// Config holds what a Handler needs. Hub, Clients and Info must be set.
type Config struct {
	Hub     Hub
	Clients Clients
	Info    func() Node

	// Keys are the valid keys; any one will do. With none, and without
	// Insecure, every request is refused.
	Keys []string

	// Insecure asks for no key. It is for development on loopback. Requests
	// that a browser sends for a page of another origin are refused then,
	// since otherwise every page the developer visits could publish.
	Insecure bool

	// MaxBodyBytes bounds a request's body. Zero means 1 MiB.
	MaxBodyBytes int64

	// MaxChannels bounds the channels of one broadcast, and of one list. Zero means 10,000.
	MaxChannels int

	// MaxCommands bounds the commands of one batch. Zero means 1,000.
	MaxCommands int

	// OnInternalError, if set, gets the errors of which the caller is told
	// only "internal server error".
	OnInternalError func(err error)
}

// Validate reports all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var problems []error
	if c.Hub == nil {
		problems = append(problems, errors.New("api: Hub is missing"))
	}
	if c.Clients == nil {
		problems = append(problems, errors.New("api: Clients is missing"))
	}
	if c.Info == nil {
		problems = append(problems, errors.New("api: Info is missing"))
	}
	if c.MaxCommands < 0 {
		problems = append(problems, fmt.Errorf("api: MaxCommands is %d, want 0 or more", c.MaxCommands))
	}
	for i, key := range c.Keys {
		if key == "" {
			problems = append(problems, fmt.Errorf("api: key %d is empty", i+1))
		}
	}
	if c.MaxBodyBytes < 0 {
		problems = append(problems, fmt.Errorf("api: MaxBodyBytes is %d, want 0 or more", c.MaxBodyBytes))
	}
	if c.MaxChannels < 0 {
		problems = append(problems, fmt.Errorf("api: MaxChannels is %d, want 0 or more", c.MaxChannels))
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 1 << 20
	}
	if c.MaxChannels == 0 {
		c.MaxChannels = 10_000
	}
	if c.MaxCommands == 0 {
		c.MaxCommands = 1_000
	}
	return c
}

// Handler answers requests below /api/. It may be used by many goroutines.
type Handler struct {
	// Immutable after New.
	config  Config
	keys    keys
	origins *http.CrossOriginProtection

	// Any goroutine (atomic).
	requests  atomic.Uint64
	refused   atomic.Uint64
	published atomic.Uint64
	failed    atomic.Uint64
}

var _ http.Handler = (*Handler)(nil)

// New returns a handler. It keeps no reference to config.Keys.
func New(config Config) (*Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Handler{
		config:  config.withDefaults(),
		keys:    newKeys(config.Keys),
		origins: http.NewCrossOriginProtection(),
	}, nil
}

// Stats are a handler's figures since New.
type Stats struct {
	Requests  uint64 // that came
	Refused   uint64 // answered with a status of 400 or more
	Published uint64 // publications accepted, one for each channel
	Failed    uint64 // publications not accepted
}

// Stats returns the present figures.
func (h *Handler) Stats() Stats {
	return Stats{
		Requests:  h.requests.Load(),
		Refused:   h.refused.Load(),
		Published: h.published.Load(),
		Failed:    h.failed.Load(),
	}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	result, err := h.serve(w, r)
	status, answer := http.StatusOK, response{Result: result}
	if err != nil {
		var rejection *rejection
		if errors.As(err, &rejection) {
			h.refused.Add(1)
			status = rejection.status
		}
		answer = response{Error: h.describe(err)}
	}
	h.write(w, status, answer)
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

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := h.authorize(r); err != nil {
		return nil, err
	}
	method, found := methods[strings.TrimPrefix(r.URL.Path, prefix)]
	if !found || !strings.HasPrefix(r.URL.Path, prefix) {
		return nil, reject(http.StatusNotFound, hub.ErrMethodNotFound, "no such path; behind %s there are %s", prefix, methodNames())
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, reject(http.StatusMethodNotAllowed, hub.ErrBadRequest, "HTTP method %.20q, want POST", r.Method)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.config.MaxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, reject(http.StatusRequestEntityTooLarge, hub.ErrLimitExceeded, "the body has more than %d bytes", tooLarge.Limit)
		}
		return nil, reject(http.StatusBadRequest, hub.ErrBadRequest, "the body ends too early")
	}
	return method(h, r.Context(), body)
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

func (h *Handler) describe(err error) *responseError {
	code, message := hub.Describe(err)
	if code == hub.ErrInternal.Code && h.config.OnInternalError != nil {
		h.config.OnInternalError(err)
	}
	return &responseError{code, message}
}

func (h *Handler) write(w http.ResponseWriter, status int, answer response) {
	body, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("api: response %+v: %v", answer, err)) // all its types can be marshalled
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// The caller may be gone. There is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}
