package centrifuge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// refusedDelay is for how long a client whose connect command was refused may take to go, in seconds.
const refusedDelay = 5

// connect carries out the first command.
func (c *Client[F]) connect(t *turn[F], id uint32, m *wire.ConnectRequest) {
	c.emulate(m.Headers)
	request := ConnectRequest{Client: c.ID(), Token: m.Token, Data: m.Data, Name: m.Name, Version: m.Version, Channels: slices.Sorted(maps.Keys(m.Subs))}
	var result *wire.ConnectResult
	var err error
	if ask := c.handler.config.Backend.Connect; ask != nil && m.Token == "" {
		err = wait(t, ask, request, func(t *turn[F], identity Identity) (err error) {
			c.standing.set(invited, true)
			result, err = c.login(t, m, identity)
			return err
		})
	} else {
		result, err = c.authenticate(t, m, request)
	}
	if errors.Is(err, errWaiting) {
		c.state = connecting
		t.question.finish = func(t *turn[F], err error) { c.welcome(t, id, result, err) }
		return
	}
	c.welcome(t, id, result, err)
}

// welcome replies to the connect command.
func (c *Client[F]) welcome(t *turn[F], id uint32, result *wire.ConnectResult, err error) {
	if err == nil {
		c.handler.connected.Add(1)
		c.state = connected
		c.standing.set(welcomed, true)
		if c.handler.config.OnConnect != nil {
			c.handler.config.OnConnect(c.ID(), c.User())
		}
		t.reply(&wire.Reply{Id: id, Connect: result})
		t.then(beginning{})
		return
	}
	c.abandon()
	refusal, disconnect := c.refusal(err)
	if disconnect != nil {
		c.disconnect(disconnect)
		return
	}
	c.state = refused
	c.handler.deadlines.Set(c, c.handler.now()+refusedDelay)
	t.reply(&wire.Reply{Id: id, Error: refusal})
}

// abandon gives up what a connect command that failed has begun.
func (c *Client[F]) abandon() {
	for _, s := range c.subs {
		s.Unsubscribe()
	}
	c.subs = nil
	c.handler.tokens.Remove(c.token())
	c.handler.roster.Remove(c) // now that nobody asks for its user any more
}

// authenticate finds out who the client is.
func (c *Client[F]) authenticate(t *turn[F], m *wire.ConnectRequest, request ConnectRequest) (*wire.ConnectResult, error) {
	ctx, cancel := c.handler.context()
	defer cancel()
	identity, err := c.handler.config.Authenticator.Connect(ctx, request)
	if err != nil {
		return nil, err
	}
	return c.login(t, m, identity)
}

// login subscribes the client to what the server wants it to be subscribed to.
func (c *Client[F]) login(t *turn[F], m *wire.ConnectRequest, identity Identity) (*wire.ConnectResult, error) {
	h := c.handler
	c.setAbout(&identity)
	c.standing.set(everything, identity.Everything)
	var err error
	result := &wire.ConnectResult{Client: c.ID(), Version: h.config.Version, Data: identity.Data}
	if result.Expires, result.Ttl, err = c.expire(identity.Expires); err != nil {
		return nil, err
	}
	if c.params&paramFramePing == 0 && h.config.PingInterval > 0 {
		result.Ping, result.Pong = roster.Seconds(h.config.PingInterval), true
	}
	if !h.roster.Add(c, identity.User, int(h.maxPerUser.Load())) {
		return nil, DisconnectConnectionLimit
	}
	if c.revoked(identity.Token) { // since it was checked; from here on those who revoke find the client
		return nil, DisconnectInvalidToken
	}
	subs := c.serverSide(identity.Subs)
	if len(subs) > int(h.maxChannels.Load()) {
		return nil, DisconnectChannelLimit
	}
	for i := range subs {
		s := &subs[i]
		sub, err := c.subscribeServerSide(t, s, m.Subs[s.Channel])
		if err != nil {
			return nil, err
		}
		if result.Subs == nil {
			result.Subs = make(map[string]*wire.SubscribeResult, len(subs))
		}
		result.Subs[s.Channel] = sub
	}
	return result, nil
}

// serverSide lists the subscriptions, one to each channel, that the client gets without asking.
func (c *Client[F]) serverSide(subs []ServerSubscription) []ServerSubscription {
	if c.handler.config.PersonalChannels && hub.MayHavePersonalChannel(c.User()) {
		personal := hub.PersonalChannel(c.handler.config.PersonalNamespace, c.User())
		subs = append(slices.Clip(subs), ServerSubscription{Channel: personal})
	} else {
		subs = slices.Clone(subs)
	}
	slices.SortStableFunc(subs, func(a, b ServerSubscription) int { return strings.Compare(a.Channel, b.Channel) })
	return slices.CompactFunc(subs, func(a, b ServerSubscription) bool { return a.Channel == b.Channel })
}

// expire notes until when a token holds, and returns what the client is told.
func (c *Client[F]) expire(at time.Time) (expires bool, ttl uint32, err error) {
	c.expires = 0
	defer c.schedule()
	if at.IsZero() {
		return false, 0, nil
	}
	left := time.Until(at)
	if left <= 0 {
		return false, 0, fmt.Errorf("%w: the connection", hub.ErrExpired)
	}
	ttl = roster.Seconds(left)
	c.expires = c.handler.now() + ttl
	switch {
	case c.handler.config.Backend.Refresh != nil:
		c.expires = c.handler.now() + inquiry.RenewIn(ttl)
		return false, 0, nil
	case c.standing&invited != 0:
		return false, 0, nil // it has nothing to renew it with
	}
	return true, ttl, nil
}

// expiredDelay is for how long the connection outlives its end, in seconds: for the client to bring another token.
func (c *Client[F]) expiredDelay() uint32 {
	if c.standing&invited != 0 || c.handler.config.Backend.Refresh != nil {
		return 0
	}
	return roster.Seconds(c.handler.config.ExpiredDelay)
}

func (c *Client[F]) heartbeat() Heartbeat {
	switch {
	case c.params&paramFramePing != 0:
		return HeartbeatWebSocket
	case c.codec() == wire.Protobuf:
		return HeartbeatProtobuf
	}
	return HeartbeatJSON
}

// refresh takes another token for the connection.
func (c *Client[F]) refresh(m *wire.RefreshRequest) (*wire.RefreshResult, error) {
	if m.Token == "" {
		return nil, DisconnectBadRequest
	}
	ctx, cancel := c.handler.context()
	defer cancel()
	identity, err := c.handler.config.Authenticator.Connect(ctx, ConnectRequest{Client: c.ID(), Token: m.Token})
	switch {
	case isCode(err, hub.ErrTokenExpired):
		return nil, DisconnectExpired
	case err != nil:
		return nil, err
	case identity.User != c.User():
		return nil, DisconnectInvalidToken
	}
	result := &wire.RefreshResult{Client: c.ID(), Version: c.handler.config.Version}
	if result.Expires, result.Ttl, err = c.expire(identity.Expires); err != nil {
		return nil, DisconnectExpired
	}
	c.setAbout(&identity)
	if c.revoked(identity.Token) {
		return nil, DisconnectInvalidToken
	}
	c.recheckCaps()
	return result, nil
}
