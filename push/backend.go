package push

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/procfs"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge"
)

// This file joins the API with the protocols' clients.

// clients is the api.Clients of a server.
type clients struct{ server *Server }

var _ api.Clients = clients{}

// Subscribe implements api.Clients.
func (c clients) Subscribe(ctx context.Context, t api.Target, s api.Subscription) error {
	return errors.Join(
		c.server.centrifuge.Subscribe(ctx, centrifuge.Target(t), s.Channel, centrifuge.SubscribeOptions{
			Info: s.Info, Data: s.Data, Expires: s.Expires, Since: s.Since, Override: s.Override,
		}),
		c.server.plain.Subscribe(ctx, t.User, t.Client, s.Channel, s.Since))
}

// Unsubscribe implements api.Clients.
func (c clients) Unsubscribe(ctx context.Context, t api.Target, channel string) error {
	return errors.Join(
		c.server.centrifuge.Unsubscribe(ctx, centrifuge.Target(t), channel),
		c.server.plain.Unsubscribe(ctx, t.User, t.Client, channel))
}

// Disconnect implements api.Clients.
func (c clients) Disconnect(ctx context.Context, t api.Target, d api.Disconnect) error {
	why := centrifuge.DisconnectForceNoReconnect
	if d.Code != 0 {
		why = &centrifuge.Disconnect{Code: d.Code, Reason: d.Reason}
	}
	return errors.Join(
		c.server.centrifuge.Disconnect(ctx, centrifuge.Target(t), d.Keep, why),
		c.server.plain.Disconnect(ctx, t.User, t.Client, d.Keep, why.Code, why.Reason))
}

// Refresh implements api.Clients.
func (c clients) Refresh(ctx context.Context, t api.Target, r api.Refresh) error {
	err := c.server.centrifuge.Refresh(ctx, centrifuge.Target(t), r.Expired, r.Expires, r.Info)
	if r.Expired {
		why := centrifuge.DisconnectExpired
		return errors.Join(err, c.server.plain.Disconnect(ctx, t.User, t.Client, nil, why.Code, why.Reason))
	}
	return errors.Join(err, c.server.plain.Refresh(ctx, t.User, t.Client, r.Expires, r.Info))
}

// personalChannel returns the channel that is a user's own.
func (s *Server) personalChannel(user string) (string, error) {
	if !hub.MayHavePersonalChannel(user) {
		return "", fmt.Errorf("is %.40q, and such a user has no personal channel", user)
	}
	return hub.PersonalChannel(s.config.PersonalNamespace, user), nil
}

// apiConfig is that of both handlers of the API.
func (s *Server) apiConfig() api.Config {
	c := api.Config{
		Hub: s.hub, Audience: api.Local{Hub: s.hub}, Clients: clients{s}, Info: func() []api.Node { return []api.Node{s.node()} }, Revoker: revoker{s}, Limits: s.config.API, TransportErrors: s.config.APIErrorMode == "transport",
		Logger: s.config.Logger, OnInternalError: s.onInternalError, Tracer: s.tracer, Audit: s.audit, AuditPublishes: s.config.AuditPublishes,
	}
	if s.nats != nil {
		c.Together = broadcastTogether
	}
	if s.nodes != nil {
		c.Audience, c.Clients, c.Info = audience{s.nodes}, everyClient{s.nodes}, s.nodes.all
	}
	if s.config.PersonalChannels {
		c.PersonalChannel = s.personalChannel
	}
	return c
}

// broadcastTogether is how many publications of one broadcast wait for NATS at the same time: a log acknowledges many as fast as one.
const broadcastTogether = 64

// nodeName is what the node is called.
func (s *Server) nodeName() string {
	if name := s.config.Cluster.Name; name != "" {
		return name
	}
	name, _ := os.Hostname()
	return name
}

// node is what the server tells of itself.
func (s *Server) node() api.Node {
	engine, up, st := s.engine.Stats(), time.Since(s.started), s.hub.Stats()
	return api.Node{
		UID: s.uid, Name: s.nodeName(), Version: s.config.Version, Uptime: int64(up.Seconds()),
		NumClients: engine.Connections - engine.Handshaking, NumUsers: s.centrifuge.Stats().Users,
		NumSubs: st.Subscriptions, NumChannels: st.Channels, Process: process(up),
	}
}

// process is what the kernel says of this one; zeros where /proc cannot be read.
func process(up time.Duration) api.Process {
	self, err := procfs.Self()
	if err != nil {
		return api.Process{}
	}
	st, err := self.Stat()
	if err != nil {
		return api.Process{}
	}
	return api.Process{CPU: 100 * st.CPUTime() / max(up.Seconds(), 1), RSS: int64(st.ResidentMemory())}
}
