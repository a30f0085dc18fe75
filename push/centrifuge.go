package push

import (
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/session"
)

// This file joins the Centrifuge protocol with the engine.

// centrifugeProtobuf is the subprotocol by which SDKs ask for Protobuf; without one they get JSON.
const (
	centrifugeProtobuf = "centrifuge-protobuf"
	centrifugeJSON     = "centrifuge-json"
)

func (s *Server) newCentrifuge() (*centrifuge.Handler[*session.Frame], error) {
	c := s.config
	config := centrifuge.Config{
		Hub: s.hub, Authenticator: s.clientTokens(), Revoked: s.revokedCentrifuge, MaxBadTokens: c.MaxBadTokens, Version: c.Version,
		PingInterval: s.pingInterval(), ConnectTimeout: c.ConnectTimeout, MaxChannels: c.MaxChannels,
		MaxConnectionsPerUser: c.MaxConnectionsPerUser, MaxHistory: c.MaxRecovered, MaxAnswerBytes: c.MaxAnswerBytes, SlowPolicy: slowPolicyName(c.SlowPolicy),
		PersonalChannels: c.PersonalChannels, PersonalNamespace: c.PersonalNamespace, OnInternalError: s.onInternalError,
		OnConnect: s.onConnect(),
		Backend:   s.backend.centrifuge(), EmulatedHeaders: s.backend.emulated,
	}
	if s.nodes != nil {
		config.Backend.Presence, config.Backend.PresenceStats = s.nodes.askPresence, s.nodes.askPresenceStats
	}
	return centrifuge.NewHandler(config, func(isText bool, payload []byte) *session.Frame {
		if isText {
			return session.NewFrame(session.OpText, payload)
		}
		return session.NewFrame(session.OpBinary, payload)
	})
}

// pingInterval is what clients are told: that of the engine.
func (s *Server) pingInterval() time.Duration {
	if s.config.Engine.PingInterval == 0 {
		return session.DefaultPingInterval
	}
	return s.config.Engine.PingInterval
}

func slowPolicyName(p session.Policy) string {
	for name, policy := range SlowPolicies {
		if policy == p {
			return name
		}
	}
	return ""
}

func (s *Server) centrifugeEndpoint() session.Endpoint {
	return session.Endpoint{
		Path: centrifugePath, Handler: centrifugeHandler{s.centrifuge, s}, Accept: s.acceptCentrifuge,
		AllowedOrigins: s.config.AllowedOrigins, SlowPolicy: s.config.SlowPolicy,
		Subprotocols: []string{centrifugeProtobuf, centrifugeJSON},
		Compression:  s.config.compression(),
		Pings: []*session.Frame{ // by centrifuge.Heartbeat
			session.NewFrame(session.OpText, centrifuge.PingJSON),
			session.NewFrame(session.OpBinary, centrifuge.PingProtobuf),
			session.PingFrame,
		},
		Closes: map[session.Reason]session.CloseFrame{
			session.ReasonShutdown:     closeFrame(centrifuge.DisconnectShutdown),
			session.ReasonSlowConsumer: closeFrame(centrifuge.DisconnectSlow),
			session.ReasonOutboxAge:    closeFrame(centrifuge.DisconnectSlow),
			session.ReasonPongTimeout:  closeFrame(centrifuge.DisconnectNoPong),
			session.ReasonHandlerPanic: closeFrame(centrifuge.DisconnectInternalError),
		},
	}
}

func closeFrame(d *centrifuge.Disconnect) session.CloseFrame {
	return session.CloseFrame{Code: session.CloseCode(d.Code), Text: d.Reason}
}

// acceptCentrifuge reads what the opening request asks for.
func (s *Server) acceptCentrifuge(r *session.Request) (any, error) {
	query := r.Query()
	params := centrifuge.Params{
		Protobuf: chosenSubprotocol(r) == centrifugeProtobuf ||
			query.Get("format") == "protobuf" || query.Get("cf_protocol") == "protobuf",
		FramePing: query.Get("cf_ws_frame_ping_pong") == "true",
	}
	if headers := s.backend.keep(r); len(headers) > 0 {
		return paramsWithHeaders{params, headers}, nil
	}
	return params, nil
}

// paramsWithHeaders are those of an opening request of which headers are kept.
type paramsWithHeaders struct {
	centrifuge.Params
	headers []inquiry.Header
}

// chosenSubprotocol is the one that the handshake agrees on: of those that the client offers the first that is ours.
func chosenSubprotocol(r *session.Request) string {
	for _, s := range r.Subprotocols {
		if s == centrifugeProtobuf || s == centrifugeJSON {
			return s
		}
	}
	return ""
}

// centrifugeConn is a session as the protocol sees it. A pointer to one is a pointer to the session: it costs nothing.
type centrifugeConn session.Session

var _ centrifuge.Conn[*session.Frame] = (*centrifugeConn)(nil)

// Send implements centrifuge.Conn.
func (c *centrifugeConn) Send(f *session.Frame) error { return (*session.Session)(c).SendAnswers(f) }

// Waiting implements centrifuge.Conn.
func (c *centrifugeConn) Waiting() int { return (*session.Session)(c).Waiting() }

// WakeWhenDrained implements centrifuge.Conn.
func (c *centrifugeConn) WakeWhenDrained() bool { return (*session.Session)(c).WakeWhenDrained() }

// SendBatch implements centrifuge.Conn.
func (c *centrifugeConn) SendBatch(channel, policy string, fs []*session.Frame) error {
	return sendBatch((*session.Session)(c), channel, policy, fs)
}

// Close implements centrifuge.Conn.
func (c *centrifugeConn) Close(code uint16, reason string) {
	(*session.Session)(c).Close(session.CloseCode(code), reason)
}

// Hold implements centrifuge.Conn.
func (c *centrifugeConn) Hold() { (*session.Session)(c).Hold() }

// Resume implements centrifuge.Conn.
func (c *centrifugeConn) Resume() { (*session.Session)(c).Resume() }

// BeginHeartbeat implements centrifuge.Conn.
func (c *centrifugeConn) BeginHeartbeat(h centrifuge.Heartbeat) {
	(*session.Session)(c).BeginHeartbeat(int(h))
}

// Answered implements centrifuge.Conn.
func (c *centrifugeConn) Answered() bool { return (*session.Session)(c).Answered() }

// Wake implements centrifuge.Conn.
func (c *centrifugeConn) Wake() bool { return (*session.Session)(c).Wake() }

// centrifugeHandler is the protocol as the engine sees it.
type centrifugeHandler struct {
	protocol *centrifuge.Handler[*session.Frame]
	server   *Server
}

var (
	_ session.Handler     = centrifugeHandler{}
	_ session.WakeHandler = centrifugeHandler{}
)

func centrifugeClient(s *session.Session) *centrifuge.Client[*session.Frame] {
	return s.Data().(*centrifuge.Client[*session.Frame])
}

// OnOpen implements session.Handler.
func (h centrifugeHandler) OnOpen(s *session.Session) {
	params, _ := s.Data().(centrifuge.Params)
	more, _ := s.Data().(paramsWithHeaders)
	if more.headers != nil {
		params = more.Params
	}
	client := h.protocol.NewClient((*centrifugeConn)(s), params)
	client.KeepHeaders(more.headers)
	s.SetData(client)
	client.OnOpen()
}

// OnMessage implements session.Handler.
func (centrifugeHandler) OnMessage(s *session.Session, op session.Opcode, payload []byte) {
	centrifugeClient(s).OnMessage(op == session.OpText, payload)
}

// OnWake implements session.WakeHandler.
func (centrifugeHandler) OnWake(s *session.Session) { centrifugeClient(s).OnWake() }

// OnClose implements session.Handler.
func (h centrifugeHandler) OnClose(s *session.Session, why session.Status) {
	c := centrifugeClient(s)
	user := c.User() // it has none afterwards
	c.OnClose()
	if c.Connected() {
		h.server.disconnected(c.ID, user, why)
	}
}
