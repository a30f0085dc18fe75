package push

import (
	"hash/maphash"
	"strconv"
	"strings"

	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/session"
)

// This file joins the plain protocol with the engine.

func (s *Server) newPlain() (*plain.Handler[*session.Frame], error) {
	c := plain.Config{
		Hub: s.hub, MaxChannels: s.config.MaxChannels, MaxHistory: s.config.MaxRecovered, MaxAnswerBytes: s.config.MaxAnswerBytes,
		SlowPolicy: slowPolicyName(s.config.SlowPolicy), Revoked: s.revokedPlain, OnInternalError: s.onInternalError,
		OnConnect: s.onConnect(), Backend: s.backend.plain(), EmulatedHeaders: s.backend.emulated,
	}
	if s.config.Dev {
		c.Anonymous, c.Authenticator = &plain.Identity{Everything: true}, plain.AcceptAny{}
	} else {
		c.Authenticator = plainTokens{s.verifier}
		if s.config.AllowAnonymous {
			c.Anonymous = &plain.Identity{}
		}
	}
	if s.nodes != nil {
		c.Backend.Presence, c.IDPrefix = s.nodes.askPresence, s.uid[:8]+"-"
	}
	if c.Backend.Connect != nil {
		c.Anonymous = nil // it says who a client without a token is
	}
	return plain.NewHandler(c, func(text []byte) *session.Frame { return session.NewFrame(session.OpText, text) })
}

func (s *Server) plainEndpoint() session.Endpoint {
	return session.Endpoint{
		Path: plainPath, Handler: plainHandler{s.plain, s}, Accept: s.acceptPlain,
		AllowedOrigins: s.config.AllowedOrigins, SlowPolicy: s.config.SlowPolicy,
		Compression: s.config.compression(),
	}
}

// acceptPlain reads what the query of the opening request asks for.
func (s *Server) acceptPlain(r *session.Request) (any, error) {
	query := r.Query()
	p := plain.Params{Token: query.Get("token"), Headers: s.backend.keep(r)}
	if channels := query.Get("channels"); channels != "" {
		p.Channels = strings.Split(channels, ",")
	}
	if since := query.Get("since"); since != "" {
		p.Since = strings.Split(since, ",")
	}
	return p, nil
}

// plainConn is a session as the protocol sees it. A pointer to one is a pointer to
// the session: it costs nothing.
type plainConn session.Session

var _ plain.Conn[*session.Frame] = (*plainConn)(nil)

// Send implements plain.Conn.
func (c *plainConn) Send(fs ...*session.Frame) error { return (*session.Session)(c).SendAnswers(fs...) }

// Waiting implements plain.Conn.
func (c *plainConn) Waiting() int { return (*session.Session)(c).Waiting() }

// WakeWhenDrained implements plain.Conn.
func (c *plainConn) WakeWhenDrained() bool { return (*session.Session)(c).WakeWhenDrained() }

// SendBatch implements plain.Conn.
func (c *plainConn) SendBatch(channel, policy string, fs []*session.Frame) error {
	return sendBatch((*session.Session)(c), channel, policy, fs)
}

// Hold implements plain.Conn.
func (c *plainConn) Hold() { (*session.Session)(c).Hold() }

// Resume implements plain.Conn.
func (c *plainConn) Resume() { (*session.Session)(c).Resume() }

// Wake implements plain.Conn.
func (c *plainConn) Wake() bool { return (*session.Session)(c).Wake() }

// ID implements plain.Conn.
func (c *plainConn) ID() string { return strconv.FormatUint((*session.Session)(c).ID(), 36) }

// sendBatch sends frames of one channel together, by a policy of hub.Slow…, or if that is empty by the endpoint's.
func sendBatch(s *session.Session, channel, policy string, fs []*session.Frame) error {
	d := session.Delivery{Policy: s.Policy()}
	if policy != "" {
		d.Policy = SlowPolicies[policy]
	}
	if d.Policy == session.PolicyLatest {
		d.Key = channelKey(channel)
	}
	return s.SendAllWith(fs, d)
}

var keySeed = maphash.MakeSeed()

// channelKey names a channel in an outbox, for session.PolicyLatest. That two of the channels of one connection share
// a key is less likely than 1 in 10^15, and can't be brought about, for the seed is secret.
func channelKey(channel string) uint64 { return maphash.String(keySeed, channel) | 1 }

// Close implements plain.Conn.
func (c *plainConn) Close(code uint16, reason string) {
	(*session.Session)(c).Close(session.CloseCode(code), reason)
}

// plainHandler is the protocol as the engine sees it.
type plainHandler struct {
	protocol *plain.Handler[*session.Frame]
	server   *Server
}

var (
	_ session.Handler     = plainHandler{}
	_ session.WakeHandler = plainHandler{}
)

// OnOpen implements session.Handler.
func (h plainHandler) OnOpen(s *session.Session) {
	params, _ := s.Data().(plain.Params)
	client := h.protocol.NewClient((*plainConn)(s), params)
	s.SetData(client)
	client.OnOpen()
}

// OnMessage implements session.Handler.
func (plainHandler) OnMessage(s *session.Session, op session.Opcode, payload []byte) {
	s.Data().(*plain.Client[*session.Frame]).OnMessage(op == session.OpText, payload)
}

// OnWake implements session.WakeHandler.
func (plainHandler) OnWake(s *session.Session) {
	s.Data().(*plain.Client[*session.Frame]).OnWake()
}

// OnClose implements session.Handler.
func (h plainHandler) OnClose(s *session.Session, why session.Status) {
	c := s.Data().(*plain.Client[*session.Frame])
	user := c.User() // it has none afterwards
	c.OnClose()
	if c.Connected() {
		h.server.disconnected(c.ID, user, why)
	}
}
