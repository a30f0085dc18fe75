package tap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// Caller is who may look on.
type Caller struct {
	Key string // its name
	// Payload says that payloads may be seen whole, and secrets.
	Payload bool
}

// Authorizer says who a request comes from; the error is an *Error.
type Authorizer func(r *http.Request) (Caller, error)

// The formats of a capture, by their names in the query.
const (
	formatJSON   = "ndjson"
	formatPcapng = "pcapng"
)

// writeTimeout bounds how long a reader may take nothing.
const writeTimeout = time.Minute

// ServeHTTP answers GET /tap with a capture, as long as it runs.
func (t *Taps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := t.serve(w, r); err != nil {
		t.countRefusal(err)
		refuse(w, err)
	}
}

// refuse answers in the API's shape.
func refuse(w http.ResponseWriter, e *Error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch e.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "apikey")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": e.Status, "message": e.Text}})
}

func (t *Taps) serve(w http.ResponseWriter, r *http.Request) *Error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return &Error{Status: http.StatusMethodNotAllowed, Reason: "bad_request", Text: "the method is GET"}
	}
	caller, err := t.config.Caller(r)
	if err != nil {
		return refusal(err)
	}
	request, format, err := t.parse(r.URL.RawQuery, caller)
	if err != nil {
		return refusal(err)
	}
	if e := t.enter(false); e != nil {
		return e
	}
	defer t.leave(false)
	t.stream(w, r, request, format, caller)
	return nil
}

// refusal is err, or if it is no *Error, one that tells nothing of it.
func refusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Status: http.StatusForbidden, Reason: "forbidden", Text: "who asks could not be found out"}
}

// stream runs a capture, and has the audit log say so.
func (t *Taps) stream(w http.ResponseWriter, r *http.Request, request *Request, format string, caller Caller) {
	begun := time.Now()
	target := []slog.Attr{
		slog.String("filter", request.words()), slog.String("format", format),
		slog.Bool("payload", request.Whole), slog.Bool("secrets", request.Secrets),
	}
	act := Act{Action: "tap_start", Key: caller.Key, Remote: r.RemoteAddr, Target: target, Outcome: "ok"}
	t.config.Audit(act)
	summary, err := t.send(r.Context(), w, request, format)
	act.Action = "tap_stop"
	act.Target = append(target,
		slog.String("reason", summary.Reason), slog.Int64("connections", summary.Connections), slog.Int64("frames", summary.Frames),
		slog.Int64("dropped", summary.Dropped), slog.Duration("duration", time.Since(begun)))
	if err != nil {
		act.Outcome = err.Error()
	}
	t.config.Audit(act)
}

// send runs a capture whose reader is w.
func (t *Taps) send(ctx context.Context, w http.ResponseWriter, request *Request, format string) (Summary, error) {
	t.started.Add(1)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // a proxy is to pass lines on as they come
	timed := &timedWriter{w, control}
	var out Writer
	var err error
	if format == formatPcapng {
		h.Set("Content-Type", "application/x-pcapng")
		h.Set("Content-Disposition", `attachment; filename="millpond.pcapng"`)
		out, err = newPcapng(timed, timed.flush, request)
	} else {
		h.Set("Content-Type", "application/x-ndjson")
		out, err = newLines(timed, timed.flush, request)
	}
	if err != nil {
		return Summary{Reason: "reader"}, err
	}
	return t.run(ctx, *request, out)
}

// timedWriter has each write done within writeTimeout.
type timedWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (t *timedWriter) Write(b []byte) (int, error) {
	_ = t.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return t.w.Write(b)
}

func (t *timedWriter) flush() error {
	_ = t.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return t.control.Flush()
}

// parse reads a query.
func (t *Taps) parse(query string, caller Caller) (*Request, string, error) {
	bad := func(format string, args ...any) (*Request, string, error) {
		return nil, "", &Error{Status: http.StatusBadRequest, Reason: "bad_request", Text: fmt.Sprintf(format, args...)}
	}
	forbidden := func(what string) (*Request, string, error) {
		return nil, "", &Error{
			Status: http.StatusForbidden, Reason: "forbidden",
			Text: fmt.Sprintf("the key %q is not good for the scope tap_payload, which %s needs", caller.Key, what),
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("the query: %v", err)
	}
	r := &Request{Redaction: Redaction{PayloadBytes: t.config.PayloadBytes, Whole: caller.Payload}}
	format := formatJSON
	for name, list := range values {
		if len(list) > 1 {
			return bad("%s: is given twice", name)
		}
		value := list[0]
		var err error
		switch name {
		case "id":
			r.ID = value
		case "user":
			r.User = value
		case "channel":
			r.Channel = value
		case "path":
			r.Path = value
		case "address":
			r.Address, err = ParseAddress(value)
		case "sample":
			r.Sample, err = atLeast(0, value)
		case "connections":
			r.MaxConnections, err = atLeast(1, value)
		case "count":
			r.Count, err = strconv.ParseInt(value, 10, 64)
			if err == nil && r.Count < 0 {
				err = errors.New("is negative")
			}
		case "duration":
			if r.Duration, err = time.ParseDuration(value); err == nil && r.Duration <= 0 {
				err = errors.New("is not positive")
			}
		case "payload_bytes":
			if r.PayloadBytes, err = atLeast(-1, value); err != nil {
				break
			}
			if !caller.Payload && (r.PayloadBytes < 0 || r.PayloadBytes > t.config.PayloadBytes) {
				return forbidden("payload_bytes=" + value)
			}
			r.Whole = r.PayloadBytes < 0
		case "secrets":
			if r.Secrets, err = strconv.ParseBool(value); err == nil && r.Secrets && !caller.Payload {
				return forbidden("secrets=" + value)
			}
		case "format":
			if format = value; value != formatJSON && value != formatPcapng {
				return bad("format: %.40q is neither %s nor %s", value, formatJSON, formatPcapng)
			}
		case "api_key": // the caller's
		default:
			return bad("%.40q is no parameter; there are id, user, channel, address, path, sample, connections, count, duration, payload_bytes, secrets, format", name)
		}
		if err != nil {
			return bad("%s: %.60q: %v", name, value, err)
		}
	}
	if err := r.Filter.Validate(); err != nil {
		return bad("%v", err)
	}
	return r, format, nil
}

func atLeast(least int, s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("is no number")
	}
	if n < least {
		return 0, fmt.Errorf("is less than %d", least)
	}
	return n, nil
}

// inspectParam is the parameter of an opening request by which the playground knows its own connection.
const inspectParam = "inspect"

// inspectToken is what its value looks like: 128 random bits or more, in base64url.
var inspectToken = regexp.MustCompile(`^[-_A-Za-z0-9]{22,64}$`)

// hasToken reports whether the request line of an opening request has the token.
func hasToken(head []byte, token string) bool {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	target := bytes.Fields(line)
	if len(target) < 2 {
		return false
	}
	_, query, _ := bytes.Cut(target[1], []byte("?"))
	for p := range bytes.SplitSeq(query, []byte("&")) {
		if name, value, _ := bytes.Cut(p, []byte("=")); string(name) == inspectParam && string(value) == token {
			return true
		}
	}
	return false
}

// fromAnotherOrigin reports whether the browser says that a page of another origin asks; of its own, some browsers say nothing.
func fromAnotherOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin"
	}
	origin := r.Header.Get("Origin")
	page, err := url.Parse(origin)
	return origin != "" && (err != nil || page.Host != r.Host)
}

// Inspector answers the playground, which asks for the frames of its own connection and has no key for others'. What it shows
// instead is a token that it has made up: the connections that open with it in their query, after the capture has begun,
// are its own, for nobody else knows it.
func (t *Taps) Inspector() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Query().Get(inspectParam)
		var e *Error
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			e = &Error{Status: http.StatusMethodNotAllowed, Reason: "bad_request", Text: "the method is GET"}
		case fromAnotherOrigin(r):
			e = &Error{Status: http.StatusForbidden, Reason: "forbidden", Text: "the request comes from a page of another origin"}
		case !inspectToken.MatchString(token):
			e = &Error{Status: http.StatusBadRequest, Reason: "bad_request", Text: inspectParam + ": is not 22 to 64 letters of base64url"}
		default:
			e = t.enter(true)
		}
		if e != nil {
			t.countRefusal(e)
			refuse(w, e)
			return
		}
		defer t.leave(true)
		request := &Request{Token: token, MaxConnections: 4, Redaction: Redaction{Whole: true}}
		t.stream(w, r, request, formatJSON, Caller{Key: "playground"})
	})
}
