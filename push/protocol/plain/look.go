package plain

import (
	"context"

	"github.com/millpond/millpond/push/protocol/inquiry"
)

// This file is for those who look on. The methods may be called by any goroutine.

// ClientsOf returns a user's clients.
func (h *Handler[F]) ClientsOf(user string) []*Client[F] { return h.roster.Of(user) }

// Users returns how many different users there are.
func (h *Handler[F]) Users() int { return h.roster.Users() }

// Who returns the client's user, "" while it has none, and its id.
func (c *Client[F]) Who() (user, id string) { return c.handler.roster.UserOf(c), c.conn.ID() }

// Conn returns the connection that NewClient was given.
func (c *Client[F]) Conn() Conn[F] { return c.conn }

// Subscriptions calls f for each of the clients that is here, with the channels that it is subscribed to and the headers that are kept of it, which
// may be nil. It returns when all calls have been made, or when ctx ends. f runs in the clients' turns, several at a time.
func (h *Handler[F]) Subscriptions(ctx context.Context, clients []*Client[F], f func(c *Client[F], channels []string, headers *inquiry.Headers)) error {
	return h.roster.Each(ctx, clients, func(c *Client[F]) error {
		channels := make([]string, len(c.subs))
		for i, s := range c.subs {
			channels[i] = s.Channel()
		}
		var headers *inquiry.Headers
		if c.about != nil {
			headers = c.about.headers
		}
		f(c, channels, headers)
		return nil
	})
}
