package push

import (
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/session"
)

// This file joins the access log with the engine.

// accessLog has lines for a share of the connections: when one is opened, and when it is closed. What is known only at the opening is
// kept beside the sessions, so that those without lines cost nothing.
type accessLog struct {
	// Immutable after newAccessLog.
	log   *logs.Log
	share float64 // from 0 to 1

	// Guarded by mu.
	mu   sync.Mutex
	open map[uint64]opened // by the session's id
}

// opened is what the opening request said.
type opened struct {
	at       time.Time
	address  netip.Addr // as trusted proxies tell it
	path     string
	protocol string
}

// accepted is the session's data until OnOpen: what the endpoint's Accept returned, and what it was asked.
type accepted struct {
	data any
	opened
}

func newAccessLog(log *logs.Log, share float64) *accessLog {
	if log == nil {
		return nil
	}
	return &accessLog{log: log, share: share, open: map[uint64]opened{}}
}

// wrap has e's sessions in the log. protocol is how it names what they speak if there is no subprotocol.
func (a *accessLog) wrap(e session.Endpoint, protocol string) session.Endpoint {
	if a == nil {
		return e
	}
	accept := e.Accept
	e.Accept = func(r *session.Request) (_ any, err error) {
		out := accepted{opened: opened{address: r.ClientAddr, path: r.Path, protocol: r.Subprotocol}}
		if out.protocol == "" {
			out.protocol = protocol
		}
		if accept != nil {
			out.data, err = accept(r)
		}
		return out, err
	}
	e.Handler = accessHandler{e.Handler, a}
	return e
}

// has reports whether a session is among those with lines. Its lines are both there, or none.
func (a *accessLog) has(id uint64) bool {
	// The finalizer of SplitMix64: ids follow one another, and what comes of them does not.
	id ^= id >> 30
	id *= 0xbf58476d1ce4e5b9
	id ^= id >> 27
	id *= 0x94d049bb133111eb
	id ^= id >> 31
	return float64(id>>11) < a.share*(1<<53)
}

func (a *accessLog) opened(id uint64, o opened) {
	o.at = time.Now()
	a.mu.Lock()
	a.open[id] = o
	a.mu.Unlock()
	a.log.Line("access", append([]slog.Attr{slog.String("event", "opened")}, o.attrs(id)...)...)
}

// about returns what the opening request of a connection said, if it has lines.
func (a *accessLog) about(id uint64) (at time.Time, address string, ok bool) {
	if a == nil {
		return at, "", false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok := a.open[id]
	if !ok || !o.address.IsValid() {
		return at, "", false
	}
	return o.at, o.address.String(), true
}

func (o *opened) attrs(id uint64) []slog.Attr {
	address := ""
	if o.address.IsValid() {
		address = o.address.String()
	}
	return []slog.Attr{
		slog.String("connection", strconv.FormatUint(id, 36)), slog.String("address", address),
		slog.String("path", o.path), slog.String("protocol", o.protocol),
	}
}

// closed writes the second line. client and user are those of the protocol, empty for a session that has not said who it is.
func (a *accessLog) closed(id uint64, client, user string, why session.Status) {
	a.mu.Lock()
	o, ok := a.open[id]
	delete(a.open, id)
	a.mu.Unlock()
	if !ok {
		return
	}
	attrs := append([]slog.Attr{slog.String("event", "closed")}, o.attrs(id)...)
	a.log.Line("access", append(attrs,
		slog.String("client", client), slog.String("user", user), slog.Float64("duration_seconds", time.Since(o.at).Seconds()),
		slog.String("reason", why.Reason.String()), slog.Int("code", int(why.Code)), slog.String("text", why.Text))...)
}

// accessHandler is a Handler of which the sessions have lines.
type accessHandler struct {
	session.Handler
	log *accessLog
}

var _ session.WakeHandler = accessHandler{}

// OnOpen implements session.Handler.
func (h accessHandler) OnOpen(s *session.Session) {
	before := s.Data().(accepted)
	s.SetData(before.data)
	if h.log.has(s.ID()) {
		h.log.opened(s.ID(), before.opened)
	}
	h.Handler.OnOpen(s)
}

// OnWake implements session.WakeHandler.
func (h accessHandler) OnWake(s *session.Session) {
	if w, ok := h.Handler.(session.WakeHandler); ok {
		w.OnWake(s)
	}
}

// OnClose implements session.Handler.
func (h accessHandler) OnClose(s *session.Session, why session.Status) {
	if h.log.has(s.ID()) {
		client, user := whoIs(s) // it has no user afterwards
		h.log.closed(s.ID(), client, user, why)
	}
	h.Handler.OnClose(s, why)
}

// whoIs returns the protocol's name for the session, and its user; empty before it has connected.
func whoIs(s *session.Session) (client, user string) {
	switch c := s.Data().(type) {
	case *plain.Client[*session.Frame]:
		return (*plainConn)(s).ID(), c.User()
	case *centrifuge.Client[*session.Frame]:
		if c.Connected() {
			return c.ID(), c.User()
		}
	}
	return "", ""
}
