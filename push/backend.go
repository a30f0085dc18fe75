package push

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/prometheus/procfs"

	"github.com/millpond/millpond/push/api"
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

// node is what the server tells of itself.
func (s *Server) node() api.Node {
	name, _ := os.Hostname()
	engine, up, st := s.engine.Stats(), time.Since(s.started), s.hub.Stats()
	return api.Node{
		UID: s.uid, Name: name, Version: s.config.Version, Uptime: int64(up.Seconds()),
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
