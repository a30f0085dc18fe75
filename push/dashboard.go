package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/cluster"
	"github.com/millpond/millpond/push/dashboard"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/push/tap"
	"github.com/millpond/millpond/session"
)

// This file joins the dashboard with the engine, the hub, the protocols, the other nodes, the API's keys and the audit log.

// DashboardLimits is another package's type under the name by which users of the product know it.
type DashboardLimits = dashboard.Limits

// dashboardPath is where the page is, and what it asks for.
const dashboardPath = "/dashboard/"

// watched is what the dashboard knows of a server beside its figures.
type watched struct {
	busiest dashboard.Busiest

	// Owned by the goroutine that collects figures.
	outboxes    session.OutboxStats
	outboxesDue time.Time
}

// maxShare is the part of its time that the dashboard spends on figures for which it has to look at all connections.
const maxShare = 50

func (s *Server) newDashboard() (*dashboard.Dashboard, error) {
	if s.config.NoDashboard {
		return nil, nil
	}
	return dashboard.New(dashboard.Config{
		Engine: func() *session.Server { return s.engine }, Caller: s.dashboardCaller, Watched: s.beWatched, Figures: s.figures,
		Find: s.find, Disconnect: s.disconnectOne, Bounds: histogramBounds(), Path: dashboardPath + "live", Private: !s.config.shared(),
		Compression: s.config.compression(), Limits: s.config.Dashboard,
	})
}

func histogramBounds() (seconds []float64) {
	for _, d := range histogram.Bounds {
		seconds = append(seconds, d.Seconds())
	}
	return seconds
}

// dashboardCaller says who uses the page.
func (s *Server) dashboardCaller(r *http.Request) (dashboard.Caller, error) {
	keys := s.api
	if s.openAPI != nil && fromThisHost(r) {
		keys = s.openAPI
	}
	name, scopes, status, err := keys.Caller(r)
	switch {
	case err != nil:
		return dashboard.Caller{}, &dashboard.Error{Status: status, Text: err.Error()}
	case scopes&api.ScopeDashboard == 0:
		return dashboard.Caller{}, &dashboard.Error{Status: http.StatusForbidden, Text: fmt.Sprintf("the key %q is not good for the scope dashboard", name)}
	}
	return dashboard.Caller{Key: name, Disconnect: scopes&api.ScopeManage != 0, Publish: scopes&api.ScopePublish != 0}, nil
}

// beWatched measures channels while somebody watches.
func (s *Server) beWatched(on bool) {
	if !on {
		s.hub.SetMeter(nil)
		s.watched.busiest.Reset()
		return
	}
	s.hub.SetMeter(&s.watched.busiest)
}

// maxBusiest bounds the channels that the page shows.
const maxBusiest = 20

// figures are those of now.
func (s *Server) figures() *dashboard.Figures {
	engine, channels, c, now := s.engine.Stats(), s.hub.Stats(), s.centrifuge.Stats(), time.Now()
	f := &dashboard.Figures{
		Time: now.UnixMilli(), Node: s.nodeName(), UID: s.uid, Version: s.config.Version, Uptime: now.Sub(s.started).Seconds(), Draining: s.draining.Load(),
		Connections: engine.Connections, MostConnections: s.live.Load().Engine.MaxConnections, Handshaking: engine.Handshaking,
		Users: c.Users + s.plain.Users(), Channels: channels.Channels, Subscriptions: channels.Subscriptions,
		Accepted: engine.Accepted, Opened: engine.Opened, Refused: engine.RefusedFull + engine.RefusedCrowd + engine.RefusedAddress,
		MessagesIn: engine.MessagesIn, MessagesOut: engine.MessagesOut, BytesIn: engine.BytesIn, BytesOut: engine.BytesOut,
		Publications: channels.Publications, Deliveries: channels.Deliveries, Waiting: channels.Waiting,
		LoopLag: engine.LoopLag.Seconds(), Fanout: durations(channels.Fanout), Handlers: durations(engine.Handled),
		Goroutines: runtime.NumGoroutine(), Closed: map[string]int64{}, Dropped: engine.Dropped,
		Busiest: s.watched.busiest.Tick(maxBusiest), Nodes: s.dashboardNodes(),
	}
	f.CPU, f.Resident = usage()
	if n := engine.Connections; n > 0 {
		f.PerConnection = max(f.Resident-s.baseline, 0) / n
	}
	for reason, n := range engine.Closed {
		if n > 0 {
			f.Closed[reason.String()] = n
		}
	}
	for i := range f.Busiest {
		f.Busiest[i].Subscribers = s.hub.Subscribers(f.Busiest[i].Name)
	}
	if w := &s.watched; !now.Before(w.outboxesDue) {
		w.outboxes = s.engine.Outboxes()
		w.outboxesDue = now.Add(maxShare * time.Since(now))
	}
	boxes := s.watched.outboxes
	f.OutboxSessions, f.OutboxBytes, f.OutboxAge = boxes.Sessions, boxes.Bytes, boxes.Oldest.Seconds()
	return f
}

func durations(s histogram.Snapshot) dashboard.Durations {
	return dashboard.Durations{Counts: s.Counts[:], Count: s.Count, Sum: s.Sum.Seconds()}
}

func (s *Server) dashboardNodes() (list []dashboard.Node) {
	nodes := []api.Node{s.node()}
	if s.nodes != nil {
		nodes = s.nodes.all()
	}
	for _, n := range nodes {
		list = append(list, dashboard.Node{
			UID: n.UID, Name: n.Name, Version: n.Version, Connections: n.NumClients, Users: n.NumUsers, Channels: n.NumChannels,
			Subscriptions: n.NumSubs, Uptime: n.Uptime, CPU: n.Process.CPU, Resident: n.Process.RSS,
		})
	}
	return list
}

// find finds connections, on all nodes.
func (s *Server) find(ctx context.Context, q dashboard.Query) (*dashboard.Found, error) {
	found, err := s.findHere(ctx, q)
	if err != nil || s.nodes == nil {
		return found, err
	}
	err = gather(s.nodes, askFind, findQuestion{q, q.Max}, func(f dashboard.Found) error {
		found.Connections = append(found.Connections, f.Connections...)
		found.More = found.More || f.More
		found.Errors = append(found.Errors, f.Errors...)
		return nil
	})
	if err != nil { // those of the others are worth showing
		found.Errors = append(found.Errors, err.Error())
	}
	if q.By == "slow" {
		slices.SortStableFunc(found.Connections, func(a, b dashboard.Connection) int { return cmp.Compare(b.OutboxBytes, a.OutboxBytes) })
	}
	return found, nil
}

// findQuestion is askFind.
type findQuestion struct {
	Query dashboard.Query `json:"query"`
	Max   int             `json:"max"`
}

// maxAsked bounds what another node may want of this one at once.
const maxAsked = 10_000

// tellFound answers askFind.
func (n *nodes) tellFound(ctx context.Context, q findQuestion, out *cluster.Answer) error {
	q.Query.Max = min(max(q.Max, 0), maxAsked)
	found, err := n.server.findHere(ctx, q.Query)
	if err != nil {
		return err
	}
	return out.Add(found)
}

// turnTimeout bounds how long clients may take to say what they are subscribed to: in their turn, which others may hold.
const turnTimeout = 2 * time.Second

// findHere finds connections of this node.
func (s *Server) findHere(ctx context.Context, q dashboard.Query) (*dashboard.Found, error) {
	sessions, err := s.choose(q)
	if err != nil {
		return nil, err
	}
	found := &dashboard.Found{More: len(sessions) > q.Max}
	sessions = sessions[:min(len(sessions), q.Max)]
	found.Connections = make([]dashboard.Connection, len(sessions))
	about := map[any]*dashboard.Connection{}
	for i, c := range sessions {
		found.Connections[i] = s.describe(c)
		if client, ok := c.Settled(); ok && client != nil {
			about[client] = &found.Connections[i]
		}
	}
	if !s.addSubscriptions(ctx, about) {
		found.Errors = append(found.Errors, "some connections are too busy to say what they are subscribed to")
	}
	return found, nil
}

// choose returns the sessions that q wants, one more than q.Max if there are.
func (s *Server) choose(q dashboard.Query) (chosen []*session.Session, err error) {
	looked := 0
	take := func(c *session.Session) bool {
		if looked++; looked%1024 == 0 {
			runtime.Gosched() // so that no loop waits for the rest
		}
		chosen = append(chosen, c)
		return len(chosen) <= q.Max
	}
	all := connections{s}
	switch q.By {
	case "id":
		all.ByID(q.Value, take)
	case "user":
		all.ByUser(q.Value, take)
	case "channel":
		all.ByChannel(q.Value, take)
	case "address":
		network, err := tap.ParseAddress(q.Value)
		if err != nil {
			return nil, &dashboard.Error{Status: http.StatusBadRequest, Text: "value: is no address and no network"}
		}
		all.All(func(c *session.Session) bool {
			return !network.Contains(c.RemoteAddr().Addr().Unmap().WithZone("")) || take(c)
		})
	case "slow":
		chosen = s.slowest(q.Max + 1)
	default:
		all.All(take)
	}
	return chosen, nil
}

// slowest returns at most n sessions for which something waits, those with the most first.
func (s *Server) slowest(n int) (chosen []*session.Session) {
	type slow struct {
		session *session.Session
		bytes   int
	}
	var list []slow
	trim := func() {
		slices.SortFunc(list, func(a, b slow) int { return cmp.Compare(b.bytes, a.bytes) })
		list = list[:min(len(list), n)]
	}
	s.engine.Range(func(c *session.Session) {
		if bytes, messages, _ := c.Outbox(); messages > 0 {
			list = append(list, slow{c, bytes})
		}
		if len(list) >= 8*n {
			trim()
		}
	})
	trim()
	for _, one := range list {
		chosen = append(chosen, one.session)
	}
	return chosen
}

// describe says what there is to know of a connection without asking its client.
func (s *Server) describe(c *session.Session) dashboard.Connection {
	_, secured := c.TLS()
	bytes, messages, age := c.Outbox()
	out := dashboard.Connection{
		ID: strconv.FormatUint(c.ID(), 36), Node: s.uid, NodeName: s.nodeName(), Path: c.Path(), TLS: secured,
		Age: time.Since(c.Accepted()).Seconds(), OutboxBytes: bytes, OutboxMessages: messages, OutboxAge: age.Seconds(),
	}
	if at, address, ok := s.access.about(c.ID()); ok { // what the opening request said
		out.Age, out.Address = time.Since(at).Seconds(), address
	} else if remote := c.RemoteAddr(); remote.IsValid() {
		out.Address = remote.String()
	}
	client, _ := c.Settled()
	switch client := client.(type) {
	case *centrifuge.Client[*session.Frame]:
		out.User, out.Client = client.Who()
		if out.Protocol = "Centrifuge JSON"; client.Protobuf() {
			out.Protocol = "Centrifuge Protobuf"
		}
	case *plain.Client[*session.Frame]:
		out.User, out.Client = client.Who()
		out.Protocol = "plain"
	}
	return out
}

// maxNamed bounds the channels that are named of one connection.
const maxNamed = 200

// addSubscriptions asks clients what they are subscribed to, and reports whether all have told.
func (s *Server) addSubscriptions(ctx context.Context, about map[any]*dashboard.Connection) bool {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	var mu sync.Mutex
	over := false
	note := func(client any, channels []string, headers *inquiry.Headers) {
		mu.Lock()
		defer mu.Unlock()
		if over { // its turn came too late
			return
		}
		c := about[client]
		c.Subscriptions, c.Channels = len(channels), channels[:min(len(channels), maxNamed)]
		if headers != nil {
			for _, h := range headers.Connection {
				if h.Name == "User-Agent" {
					c.UserAgent = h.Value
				}
			}
		}
	}
	var ours []*centrifuge.Client[*session.Frame]
	var plains []*plain.Client[*session.Frame]
	for client := range about {
		switch client := client.(type) {
		case *centrifuge.Client[*session.Frame]:
			ours = append(ours, client)
		case *plain.Client[*session.Frame]:
			plains = append(plains, client)
		}
	}
	err := errors.Join(
		s.centrifuge.Subscriptions(ctx, ours, func(c *centrifuge.Client[*session.Frame], channels []string, h *inquiry.Headers) {
			note(c, channels, h)
		}),
		s.plain.Subscriptions(ctx, plains, func(c *plain.Client[*session.Frame], channels []string, h *inquiry.Headers) { note(c, channels, h) }))
	mu.Lock()
	defer mu.Unlock()
	over = true
	return err == nil
}

// disconnectOne ends a connection, on whichever node it is, and has the audit log say so.
func (s *Server) disconnectOne(ctx context.Context, caller dashboard.Caller, remote string, d dashboard.Disconnect) (ended bool, err error) {
	switch {
	case d.Node == "" || d.Node == s.uid:
		ended = s.disconnectHere(d)
	case s.nodes == nil:
		err = &dashboard.Error{Status: http.StatusNotFound, Text: "node: there is none with this id"}
	default:
		err = gather(s.nodes, askDisconnectOne, d, func(there bool) error {
			ended = ended || there
			return nil
		})
	}
	act := logs.Act{
		Action: "dashboard_disconnect", Key: caller.Key, Remote: remote, Outcome: logs.OK,
		Target: []slog.Attr{slog.String("connection", d.ID), slog.String("node", d.Node), slog.Bool("found", ended), slog.Bool("reconnect", d.Reconnect)},
	}
	if err != nil {
		act.Outcome = err.Error()
	}
	s.config.Logger.Info("disconnected by the dashboard", "key", act.Key, "remote", remote, "outcome", act.Outcome, slog.GroupAttrs("target", act.Target...))
	s.audit.Audit(act)
	return ended, err
}

// disconnectHere ends a connection of this node.
func (s *Server) disconnectHere(d dashboard.Disconnect) bool {
	number, err := strconv.ParseUint(d.ID, 36, 64)
	if err != nil {
		return false
	}
	c := s.engine.Session(number)
	if c == nil {
		return false
	}
	why := centrifuge.DisconnectForceNoReconnect
	if d.Reconnect {
		why = centrifuge.DisconnectForceReconnect
	}
	c.Close(session.CloseCode(why.Code), why.Reason)
	return true
}

// tellDisconnected answers askDisconnectOne: all nodes are asked, and the one that is meant answers.
func (n *nodes) tellDisconnected(_ context.Context, d dashboard.Disconnect, out *cluster.Answer) error {
	return out.Add(d.Node == n.server.uid && n.server.disconnectHere(d))
}

var _ hub.Meter = (*dashboard.Busiest)(nil)
