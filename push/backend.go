package push

import (
	"context"
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
	return c.server.centrifuge.Subscribe(ctx, centrifuge.Target(t), s.Channel, centrifuge.SubscribeOptions{
		Info: s.Info, Data: s.Data, Expires: s.Expires, Since: s.Since, Override: s.Override,
	})
}

// Unsubscribe implements api.Clients.
func (c clients) Unsubscribe(ctx context.Context, t api.Target, channel string) error {
	return c.server.centrifuge.Unsubscribe(ctx, centrifuge.Target(t), channel)
}

// Disconnect implements api.Clients.
func (c clients) Disconnect(ctx context.Context, t api.Target, d api.Disconnect) error {
	why := centrifuge.DisconnectForceNoReconnect
	if d.Code != 0 {
		why = &centrifuge.Disconnect{Code: d.Code, Reason: d.Reason}
	}
	return c.server.centrifuge.Disconnect(ctx, centrifuge.Target(t), d.Keep, why)
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
