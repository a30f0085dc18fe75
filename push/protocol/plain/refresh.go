package plain

import (
	"context"
	"encoding/json"
	"time"
)

// Refresh gives a user's logins, or that of the connection with that id, a new end: expires, or none if that is zero. Info is what others may see of
// the client from then on; nil changes nothing. The client is told nothing: it has not asked.
func (h *Handler[F]) Refresh(ctx context.Context, user, id string, expires time.Time, info json.RawMessage) error {
	return h.roster.Each(ctx, h.clients(user, id), func(c *Client[F]) error {
		if c.closed {
			return nil
		}
		changed := *c.identity.Load() // it has one: it has a user
		if changed.Expires = expires; info != nil {
			changed.Info = info
		}
		return c.become(&changed)
	})
}
