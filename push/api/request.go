package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/push/hub"
)

// call is one HTTP request on its way.
type call struct {
	id         string
	remote     string // the address that it came from
	key        *heldKey
	method     string // of the API
	begun      time.Time
	status     int // of a stream that has begun; 0 otherwise
	retryAfter time.Duration
	target     []slog.Attr // for the audit log, of a method that it has lines for

	// Any goroutine (atomic).
	answered atomic.Int64 // bytes of replies to the commands of a batch or pipe
}

type callKey struct{}

// callOf returns the call that a method is carried out for.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// maxIDBytes bounds a request id that a caller chooses.
const maxIDBytes = 128

// requestID returns the caller's, or a new one if there is none or it could not be shown in a log as it is.
func (h *Handler) requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id == "" || len(id) > maxIDBytes {
		return h.newID()
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' || id[i] == '"' || id[i] == '\\' {
			return h.newID()
		}
	}
	return id
}

func (h *Handler) newID() string {
	return h.idPrefix + strconv.FormatUint(h.ids.Add(1), 36)
}

// readBody reads a body of at most limit bytes, within the timeout. The caller gives it back with bodies.Put.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, limit int64) (*[]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	buffer := bodies.Get().(*[]byte)
	body, err := appendAll((*buffer)[:0], http.MaxBytesReader(w, r.Body, limit), min(r.ContentLength, limit))
	if cap(body) <= maxPooledBody {
		*buffer = body
	} else {
		buffer = &body
	}
	if err == nil {
		return buffer, nil
	}
	bodies.Put(buffer)
	var over *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, reject(http.StatusRequestTimeout, hub.ErrBadRequest, "the body did not come within %v", h.config.Timeout)
	}
	return nil, reject(http.StatusBadRequest, hub.ErrBadRequest, "the body ends too early")
}

func tooLarge(limit int64) error {
	return reject(http.StatusRequestEntityTooLarge, hub.ErrLimitExceeded, "the body has more than %d bytes", limit)
}

// maxPooledBody bounds what is kept for the next body.
const maxPooledBody = 64 << 10

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// appendAll appends what r has to b, of which the size may be known; no more than 64 KiB are taken on trust.
func appendAll(b []byte, r io.Reader, size int64) ([]byte, error) {
	if want := min(size, maxPooledBody-1) + 1; int64(cap(b)) < want { // one more, to see the end
		b = make([]byte, 0, want)
	}
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// enter takes one of the places for requests, of which there are so many.
func enter(places chan struct{}, c *call, what string) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
		c.retryAfter = time.Second
		return reject(http.StatusServiceUnavailable, hub.ErrTooManyRequests, "there are %d %s already", cap(places), what)
	}
}

// statuses are what errors are answered with for callers that want it so: all others get 200.
var statuses = map[uint32]int{
	hub.ErrInternal.Code:         http.StatusInternalServerError,
	hub.ErrUnauthorized.Code:     http.StatusUnauthorized,
	hub.ErrUnknownChannel.Code:   http.StatusNotFound,
	hub.ErrPermissionDenied.Code: http.StatusForbidden,
	hub.ErrMethodNotFound.Code:   http.StatusNotFound,
	hub.ErrSubscribed.Code:       http.StatusConflict,
	hub.ErrLimitExceeded.Code:    http.StatusRequestEntityTooLarge,
	hub.ErrBadRequest.Code:       http.StatusBadRequest,
	hub.ErrNotAvailable.Code:     http.StatusNotImplemented,
	hub.ErrTokenExpired.Code:     http.StatusBadRequest,
	hub.ErrExpired.Code:          http.StatusBadRequest,
	hub.ErrTooManyRequests.Code:  http.StatusTooManyRequests,
	hub.ErrUnrecoverable.Code:    http.StatusRequestedRangeNotSatisfiable,
	hub.ErrUnavailable.Code:      http.StatusServiceUnavailable,
}

// wantsStatuses reports whether refusals of the method itself are to be told by the status too.
func (h *Handler) wantsStatuses(r *http.Request) bool {
	const transport = "transport"
	return h.config.TransportErrors || r.Header.Get("X-Centrifugo-Error-Mode") == transport || r.Header.Get("X-Error-Mode") == transport ||
		r.URL.RawQuery != "" && r.URL.Query().Get("error_mode") == transport
}

// log writes a line for a request: at the level debug, or info if it failed.
func (h *Handler) log(r *http.Request, c *call, status int, err error) {
	log, level := h.config.Logger, slog.LevelDebug
	if err != nil {
		level = slog.LevelInfo
	}
	if !log.Enabled(r.Context(), level) {
		return
	}
	name := ""
	if c.key != nil {
		name = c.key.Name
	}
	attributes := []slog.Attr{
		slog.String("request", c.id), slog.String("method", c.method), slog.String("key", name), slog.Int("status", status),
		slog.String("remote", r.RemoteAddr), slog.Duration("took", time.Since(c.begun)),
	}
	if err != nil {
		skipped, ok := h.lines.next(err)
		if !ok {
			return
		}
		code, message := hub.Describe(err)
		attributes = append(attributes, slog.Uint64("code", uint64(code)), slog.String("error", message))
		if skipped > 0 {
			attributes = append(attributes, slog.Uint64("skipped", skipped))
		}
	}
	log.LogAttrs(r.Context(), level, "api request", attributes...)
}

// logLines keeps failures of one kind from filling the log.
type logLines struct {
	mu    sync.Mutex
	kinds map[uint32]*logKind // by code
}

type logKind struct {
	limiter *rate.Limiter
	skipped uint64
}

// next reports whether a line may be written for err, and how many of its kind were left out before.
func (l *logLines) next(err error) (skipped uint64, ok bool) {
	code, _ := hub.Describe(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = map[uint32]*logKind{}
	}
	k := l.kinds[code]
	if k == nil {
		k = &logKind{limiter: rate.NewLimiter(10, 50)}
		l.kinds[code] = k
	}
	if !k.limiter.Allow() {
		k.skipped++
		return 0, false
	}
	skipped, k.skipped = k.skipped, 0
	return skipped, true
}

// fieldError is a refusal that names the field of the request that it is about.
type fieldError struct {
	refusal *hub.Error
	field   string
	problem string
}

// Error says what is wrong with which field.
func (e *fieldError) Error() string {
	return fmt.Sprintf("%s: %q %s", e.refusal.Message, e.field, e.problem)
}

func (e *fieldError) Unwrap() error { return e.refusal }

// within returns err with the path of the command that it is about before the field.
func within(path string, err error) error {
	var field *fieldError
	if !errors.As(err, &field) {
		return err
	}
	inner := *field
	inner.field = path + "." + field.field
	return &inner
}

func wrong(field, format string, args ...any) error {
	return &fieldError{hub.ErrBadRequest, field, fmt.Sprintf(format, args...)}
}

func missing(field string) error { return wrong(field, "is missing or empty") }
