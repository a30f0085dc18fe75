package plain

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Refresh gives a user's logins, or that of the connection with that id, a new end: expires, or none if that is zero.
// Info is what others may see of the client from then on; nil changes nothing. The client is told nothing: it has not
// asked.
func (h *Handler[F]) Refresh(ctx context.Context, user, id string, expires time.Time, info json.RawMessage) error {
	return h.roster.Each(ctx, h.clients(user, id), func(c *Client[F]) error {
		if c.closed {
			return nil
		}
		if !expires.IsZero() && time.Until(expires) <= 0 {
			return fmt.Errorf("%w: the login", hub.ErrExpired)
		}
		before := c.login.Load() // it has one: it has a user
		l := before.renewed(info)
		h.deadlines.Remove(before)
		c.login.Store(l)
		l.endAt(expires)
		return nil
	})
}
