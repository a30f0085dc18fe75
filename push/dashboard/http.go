package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxBody  = 8 << 10
	maxValue = 512 // bytes of Query.Value

	// bodyTime bounds how long a caller may take to send a body, and to take an answer.
	bodyTime = 10 * time.Second
)

// Routes adds what the page asks for to mux, below prefix, which ends in a slash.
func (d *Dashboard) Routes(mux *http.ServeMux, prefix string) {
	for name, f := range map[string]func(r *http.Request, caller Caller, body []byte) (any, error){
		"session": d.begin, "find": d.find, "disconnect": d.disconnect,
	} {
		mux.HandleFunc(prefix+name, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, f) })
	}
	mux.HandleFunc(prefix+"live", func(w http.ResponseWriter, r *http.Request) { d.config.Engine().Upgrade(w, r) })
}

// serve answers one request of the page.
func (d *Dashboard) serve(w http.ResponseWriter, r *http.Request, f func(r *http.Request, caller Caller, body []byte) (any, error)) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	result, err := func() (any, error) {
		if r.Method != http.MethodPost {
			header.Set("Allow", http.MethodPost)
			return nil, &Error{http.StatusMethodNotAllowed, "the method is POST"}
		}
		caller, err := d.config.Caller(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			return nil, &Error{http.StatusBadRequest, "the body: " + err.Error()}
		}
		return f(r, caller, body)
	}()
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		var e *Error
		if errors.As(err, &e) {
			status = e.Status
		}
		if status == http.StatusUnauthorized {
			header.Set("WWW-Authenticate", "apikey")
		}
		result = map[string]any{"error": map[string]any{"code": status, "message": err.Error()}}
	}
	_ = control.SetWriteDeadline(time.Now().Add(bodyTime))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // the page may be gone
}

func parse(body []byte, v any) error {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return &Error{http.StatusBadRequest, "the body: " + err.Error()}
	}
	return nil
}

// beginning is what a page is told when it logs in.
type beginning struct {
	Ticket     string    `json:"ticket"`
	Key        string    `json:"key"` // its name
	Disconnect bool      `json:"may_disconnect"`
	Publish    bool      `json:"may_publish"`
	Bounds     []float64 `json:"bounds"` // of Durations, in seconds
}

func (d *Dashboard) begin(_ *http.Request, caller Caller, _ []byte) (any, error) {
	return &beginning{d.tickets.give(time.Now()), caller.Key, caller.Disconnect, caller.Publish, d.config.Bounds}, nil
}

func (d *Dashboard) find(r *http.Request, _ Caller, body []byte) (any, error) {
	q := Query{Max: d.config.MaxResults}
	if err := parse(body, &q); err != nil {
		return nil, err
	}
	valued := q.By != "slow" && q.By != "any"
	switch {
	case !slices.Contains(Ways, q.By):
		return nil, &Error{http.StatusBadRequest, "by: is none of " + strings.Join(Ways, ", ")}
	case valued && q.Value == "":
		return nil, &Error{http.StatusBadRequest, "value: is empty"}
	case len(q.Value) > maxValue:
		return nil, &Error{http.StatusBadRequest, "value: is too long"}
	}
	select {
	case d.finding <- struct{}{}:
		defer func() { <-d.finding }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return d.config.Find(r.Context(), q)
}

func (d *Dashboard) disconnect(r *http.Request, caller Caller, body []byte) (any, error) {
	var q Disconnect
	if err := parse(body, &q); err != nil {
		return nil, err
	}
	if q.ID == "" || len(q.ID) > maxValue || len(q.Node) > maxValue {
		return nil, &Error{http.StatusBadRequest, "id: is missing, or too long"}
	}
	if !caller.Disconnect {
		return nil, &Error{http.StatusForbidden, "the key is not good for the scope manage"}
	}
	// What was begun is done, also if the page goes meanwhile.
	ended, err := d.config.Disconnect(context.WithoutCancel(r.Context()), caller, r.RemoteAddr, q)
	if err != nil {
		return nil, err
	}
	return map[string]bool{"disconnected": ended}, nil
}
