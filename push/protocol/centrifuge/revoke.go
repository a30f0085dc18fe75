package centrifuge

import (
	"context"
	"slices"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// This file has what becomes of clients whose tokens are revoked. Config.Revoked must know of a revocation before the
// methods here are called; they may be by any goroutine.

// RevokeToken ends the connections, and the subscriptions, that were made with the token of an id.
func (h *Handler[F]) RevokeToken(ctx context.Context, id string) error {
	return h.roster.Each(ctx, h.tokens.Of(id), func(c *Client[F]) error {
		if c.state != connected {
			return nil
		}
		if h.tokens.Is(c.token(), id) {
			c.disconnect(DisconnectInvalidToken)
			return nil
		}
		c.endSubs(func(s subscription[F]) bool { return s.special != nil && h.tokens.Is(s.special.token, id) })
		return nil
	})
}

// RecheckUser ends what a user has by tokens that are revoked now.
func (h *Handler[F]) RecheckUser(ctx context.Context, user string) error {
	return h.roster.Each(ctx, h.roster.Of(user), func(c *Client[F]) error {
		c.recheck()
		return nil
	})
}

// RecheckAll does it for all users: of each client that is woken from now on.
func (h *Handler[F]) RecheckAll() { h.recheck.Store(true) }

// revoked reports whether a token of the client's is.
func (c *Client[F]) revoked(t Token) bool {
	f := c.handler.config.Revoked
	return f != nil && !t.Issued.IsZero() && f(c.User(), t)
}

// recheckIfDue is recheck, once there was a RecheckAll: wakes are rare, so that nothing is kept of which client has
// looked.
func (c *Client[F]) recheckIfDue() {
	if c.handler.recheck.Load() {
		c.recheck()
	}
}

// recheck ends what the client has by tokens that were issued too early. Those with a revoked id are found by
// RevokeToken.
func (c *Client[F]) recheck() {
	if c.state != connected {
		return
	}
	if issued := c.issued.Load(); issued != 0 && c.revoked(Token{Issued: time.Unix(int64(issued), 0)}) {
		c.disconnect(DisconnectInvalidToken)
		return
	}
	c.endSubs(func(s subscription[F]) bool {
		issued := uint32(1) // of what is not noted, the client shows the token again
		if s.special != nil {
			issued = s.special.issued
		}
		return s.sub.Tag&tagGranted != 0 && c.revoked(Token{Issued: time.Unix(int64(issued), 0)})
	})
}

// recheckCaps ends what the client has by capabilities that it has no more.
func (c *Client[F]) recheckCaps() {
	c.endSubs(func(s subscription[F]) bool {
		channel := s.sub.Channel()
		o, err := c.options(channel)
		return s.sub.Tag&tagCapable != 0 && (err != nil || !o.MaySubscribe(channel, c.actor(channel)))
	})
}

// endSubs ends some of the subscriptions. An SDK subscribes again, which shows the token once more.
func (c *Client[F]) endSubs(which func(subscription[F]) bool) {
	for _, sub := range slices.Clone(c.subs) {
		if which(subscriptionOf[F](sub)) {
			c.expel(sub.Channel(), subscriptionExpired)
		}
	}
}

// hold notes by which token a subscription was made, for it to be found when that is revoked. It fails if that has
// happened meanwhile.
func (c *Client[F]) hold(s subscription[F], t Token) error {
	if s.special != nil {
		c.handler.tokens.Remove(s.special.token)
		s.special.token, s.special.issued = c.handler.tokens.Add(c, t.ID), issuedSeconds(t)
	}
	if c.revoked(t) {
		c.letGo(s)
		return hub.ErrPermissionDenied
	}
	return nil
}

// letGo undoes hold.
func (c *Client[F]) letGo(s subscription[F]) {
	if s.special != nil {
		c.handler.tokens.Remove(s.special.token)
	}
}
