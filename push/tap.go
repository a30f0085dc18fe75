package push

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/push/tap"
	"github.com/millpond/millpond/session"
)

// This file joins captures of frames with the engine, the protocols, the API's keys and the audit log.

// TapLimits is another package's type under the name by which users of the product know it.
type TapLimits = tap.Limits

func (s *Server) newTaps() (*tap.Taps, error) {
	return tap.New(tap.Config{
		Engine: func() *session.Server { return s.engine }, Connections: connections{s}, Caller: s.tapCaller,
		Audit: s.auditTap, Limits: s.config.Tap,
	})
}

// tapCaller is a tap.Authorizer.
func (s *Server) tapCaller(r *http.Request) (tap.Caller, error) {
	keys := s.api
	if s.openAPI != nil && fromThisHost(r) {
		keys = s.openAPI
		if fromPage(r) {
			return tap.Caller{}, &tap.Error{Status: http.StatusForbidden, Reason: "forbidden", Text: "without a key pages cannot look at frames"}
		}
	}
	name, scopes, status, err := keys.Caller(r)
	switch {
	case status == http.StatusUnauthorized:
		return tap.Caller{}, &tap.Error{Status: status, Reason: "unauthorized", Text: err.Error()}
	case err != nil:
		return tap.Caller{}, &tap.Error{Status: status, Reason: "forbidden", Text: err.Error()}
	case scopes&api.ScopeTap == 0:
		return tap.Caller{}, &tap.Error{
			Status: http.StatusForbidden, Reason: "forbidden", Text: fmt.Sprintf("the key %q is not good for the scope tap", name),
		}
	}
	return tap.Caller{Key: name, Payload: scopes&api.ScopeTapPayload != 0}, nil
}

// fromPage reports whether a page of another origin may have sent r.
func fromPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "none" || r.Header.Get("Origin") != ""
}

// auditTap writes a line of the audit log, or without one of the server's: who looked at clients' frames is always told.
func (s *Server) auditTap(a tap.Act) {
	if s.audit == nil {
		s.config.Logger.Info(a.Action, "key", a.Key, "remote", a.Remote, "outcome", a.Outcome, slog.GroupAttrs("target", a.Target...))
		return
	}
	s.audit.Audit(logs.Act{Action: a.Action, Key: a.Key, Remote: a.Remote, Target: a.Target, Outcome: a.Outcome})
}

// connections is the tap.Connections of a server.
type connections struct{ *Server }

var _ tap.Connections = connections{}

// ByID implements tap.Connections: by the session's number, as clients of the plain protocol have it, or by the id of a client of
// Centrifuge's.
func (c connections) ByID(id string, find func(*session.Session) bool) {
	if number, err := strconv.ParseUint(id, 36, 64); err == nil {
		if s := c.engine.Session(number); s != nil {
			find(s)
			return
		}
	}
	c.All(func(s *session.Session) bool {
		data, _ := s.Settled()
		client, ok := data.(*centrifuge.Client[*session.Frame])
		return !ok || !client.Is(id) || find(s)
	})
}

// ByUser implements tap.Connections.
func (c connections) ByUser(user string, find func(*session.Session) bool) {
	for _, client := range c.centrifuge.ClientsOf(user) {
		if !find(sessionOf(client)) {
			return
		}
	}
	for _, client := range c.plain.ClientsOf(user) {
		if !find(sessionOf(client)) {
			return
		}
	}
}

// ByChannel implements tap.Connections.
func (c connections) ByChannel(channel string, find func(*session.Session) bool) {
	c.hub.EachSubscriber(channel, func(s hub.Subscriber) bool {
		session := sessionOf(s)
		return session == nil || find(session)
	})
}

// sessionOf returns that of a protocol's client, or of a subscriber that is one's, or nil.
func sessionOf(client any) *session.Session {
	switch c := client.(type) {
	case interface {
		Conn() centrifuge.Conn[*session.Frame]
	}:
		return (*session.Session)(c.Conn().(*centrifugeConn))
	case interface {
		Conn() plain.Conn[*session.Frame]
	}:
		return (*session.Session)(c.Conn().(*plainConn))
	}
	return nil
}

// All implements tap.Connections.
func (c connections) All(find func(*session.Session) bool) { c.engine.RangeUntil(find) }

// Who implements tap.Connections.
func (c connections) Who(s *session.Session) (who tap.Who) {
	data, _ := s.Settled()
	if client, ok := data.(interface{ Who() (user, id string) }); ok {
		who.User, who.Client = client.Who()
	}
	return who
}

func collectTaps(st tap.Stats, gauge func(*prometheus.Desc, int, ...string), counter func(*prometheus.Desc, int64, ...string)) {
	gauge(descTaps, st.Captures, "api")
	gauge(descTaps, st.Inspectors, "playground")
	gauge(descTapConns, st.Connections)
	counter(descTapStarted, st.Started)
	counter(descTapFrames, st.Frames)
	counter(descTapBytes, st.Bytes)
	counter(descTapDropped, st.Dropped)
	for reason, n := range st.Refused {
		counter(descTapRefused, n, reason)
	}
}

// TapLine is another package's type under the name by which users of the product know it.
type TapLine = tap.Line
