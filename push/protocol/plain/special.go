package plain

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// special is a client in a channel where something is not as for all others.
type special[F any] struct {
	*Client[F]

	// The ends'.
	roster.Due

	// Immutable after join.
	sub    *hub.Subscription
	policy string // what happens when the outbox is full; empty is the server's
	rights hub.Rights
	hidden bool // from the presence

	// Any goroutine (atomic).
	info atomic.Pointer[json.RawMessage] // what others in the channel may see; nil is nothing
}

// Deliver sends publications by the policy.
func (s *special[F]) Deliver(b *hub.Batch) { s.deliver(b, s.policy) }

// Presence implements hub.Presenter.
func (s *special[F]) Presence() *hub.ClientInfo {
	if s.hidden {
		return nil
	}
	return s.seen()
}

// seen is the client as others in the channel see it.
func (s *special[F]) seen() *hub.ClientInfo {
	info := s.Client.Presence()
	if own := s.info.Load(); own != nil {
		info.ChanInfo = *own
	}
	return info
}

// setInfo changes what others may see from now on. Nil changes nothing.
func (s *special[F]) setInfo(info json.RawMessage) {
	if info != nil {
		s.info.Store(&info)
	}
}

// specialOf is what distinguishes a subscription from others; nil is nothing.
func specialOf[F any](sub *hub.Subscription) *special[F] {
	s, _ := sub.Subscriber().(*special[F])
	return s
}

// seen is the client as others in a channel see it.
func (c *Client[F]) seen(channel string) *hub.ClientInfo {
	if i, found := c.find(channel); found {
		return seenIn(c, c.subs[i])
	}
	return c.Presence()
}

func seenIn[F any](c *Client[F], sub *hub.Subscription) *hub.ClientInfo {
	if s := specialOf[F](sub); s != nil {
		return s.seen()
	}
	return c.Presence()
}

// maySubscribe reports whether the client may subscribe to a channel with options o.
func (c *Client[F]) maySubscribe(who *login[F], channel string, o *hub.Options) bool {
	return slices.Contains(who.channels, channel) || o.MaySubscribe(channel, c.actor(who, channel))
}

// actor is the client as the permissions of a channel see it.
func (c *Client[F]) actor(who *login[F], channel string) hub.Actor {
	i, subscribed := c.find(channel)
	a := who.actor(subscribed)
	a.Granted = c.caps().Of(channel)
	if subscribed {
		if s := specialOf[F](c.subs[i]); s != nil {
			a.Granted |= s.rights
		}
	}
	return a
}

// has reports whether a subscription is the client's still.
func (c *Client[F]) has(sub *hub.Subscription) bool {
	i, found := c.find(sub.Channel())
	return found && c.subs[i] == sub
}

// endAt schedules the end of the subscription, or the question whether it goes on; zero is never.
func (s *special[F]) endAt(expires time.Time) {
	if expires.IsZero() {
		return
	}
	left := roster.Seconds(time.Until(expires))
	if s.refreshWebhook() != "" {
		left = inquiry.RenewIn(left)
	}
	s.handler.ends.Set(s, s.handler.now()+left)
}

// refreshWebhook is who is asked whether the subscription goes on; empty is nobody.
func (s *special[F]) refreshWebhook() string {
	if s.handler.config.Backend.SubRefresh == nil {
		return ""
	}
	o, err := s.handler.config.Hub.Options(s.sub.Channel())
	if err != nil {
		return ""
	}
	return o.SubRefreshWebhook
}

// ended ends the subscription, unless the backend has a say.
func (s *special[F]) ended() {
	switch webhook := s.refreshWebhook(); {
	case s.closed || !s.has(s.sub):
	case webhook != "":
		s.renewSubscription(s, webhook)
	default:
		s.expel(s.sub.Channel(), expired)
	}
}
