package centrifuge

import (
	"slices"

	"github.com/millpond/millpond/push/protocol/roster"
)

// schedule sets the deadline to what comes first: the end of the connection's token or of a subscription's.
func (c *Client[F]) schedule() {
	first := uint32(0)
	if c.expires != 0 {
		first = c.expires + c.expiredDelay()
	}
	for i := range c.subs {
		if s := c.subscription(i); s.special != nil && s.special.expires != 0 {
			if due := s.special.expires + c.subscriptionDelay(s); first == 0 || due < first {
				first = due
			}
		}
	}
	if first == 0 {
		c.handler.deadlines.Remove(c)
		return
	}
	c.handler.deadlines.Set(c, first)
}

// subscriptionDelay is for how long a subscription outlives its end, in seconds.
func (c *Client[F]) subscriptionDelay(s subscription[F]) uint32 {
	if s.special.invited {
		return 0
	}
	return roster.Seconds(c.handler.config.ExpiredDelay)
}

// onDeadline ends what has expired.
func (c *Client[F]) onDeadline(now uint32) {
	switch c.state {
	case unconnected, refused:
		c.disconnect(DisconnectStale)
		return
	case ended, connecting: // the backend's answer decides
		return
	}
	if c.expires != 0 && c.expires+c.expiredDelay() <= now {
		if c.handler.config.Backend.Refresh == nil {
			c.disconnect(DisconnectExpired)
			return
		}
		c.renew()
	}
	for _, sub := range slices.Clone(c.subs) {
		s := subscriptionOf[F](sub)
		if s.special == nil || s.special.expires == 0 || s.special.expires+c.subscriptionDelay(s) > now {
			continue
		}
		if webhook := c.subRefreshWebhook(s.sub.Channel()); webhook != "" {
			c.renewSubscription(s, webhook)
		} else if c.expireSubscription(s); c.state == ended {
			return
		}
	}
	if c.state == connected {
		c.schedule()
	}
}

// expireSubscription ends a subscription whose time is over.
func (c *Client[F]) expireSubscription(s subscription[F]) {
	if s.sub.Tag&tagServerSide != 0 {
		c.disconnect(DisconnectSubscriptionExpired)
		return
	}
	c.expel(s.sub.Channel(), subscriptionExpired)
}

// subRefreshWebhook is who is asked whether subscriptions to a channel go on; empty is nobody.
func (c *Client[F]) subRefreshWebhook(channel string) string {
	if c.handler.config.Backend.SubRefresh == nil {
		return ""
	}
	o, err := c.handler.config.Hub.Options(channel)
	if err != nil {
		return ""
	}
	return o.SubRefreshWebhook
}
