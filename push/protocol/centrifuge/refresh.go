package centrifuge

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// Refresh gives the connections a new lifetime, and tells them: until expires, for ever if that is zero, or with
// expired none at all. Info is what others may see of them from then on; nil changes nothing.
func (h *Handler[F]) Refresh(ctx context.Context, t Target, expired bool, expires time.Time, info json.RawMessage) error {
	if !expired && !expires.IsZero() && time.Until(expires) <= 0 {
		return fmt.Errorf("%w: the connection", hub.ErrExpired)
	}
	return h.each(ctx, t, func(c *Client[F]) error {
		if !expired {
			limited, ttl, err := c.expire(expires)
			if err == nil {
				if info != nil {
					c.about.Store(newAbout(info, c.Meta(), c.headers(), c.token(), c.caps()))
				}
				c.push(&wire.Push{Refresh: &wire.Refresh{Expires: limited, Ttl: ttl}})
				return nil
			}
		} // or it was a moment ago
		c.disconnect(DisconnectExpired)
		return nil
	})
}
