package plain

import (
	"context"
	"slices"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// This file has what a backend does to clients. The methods may be called by any goroutine.

// clients returns a user's clients, or the one of them with that id.
func (h *Handler[F]) clients(user, id string) []*Client[F] {
	return slices.DeleteFunc(h.roster.Of(user), func(c *Client[F]) bool { return id != "" && c.ID() != id })
}

// Count returns how many of them there are.
func (h *Handler[F]) Count(user, id string) int { return len(h.clients(user, id)) }

// Disconnect closes a user's connections, or the one with that id, except those with the ids in keep.
func (h *Handler[F]) Disconnect(ctx context.Context, user, id string, keep []string, code uint16, reason string) error {
	return h.roster.Each(ctx, h.clients(user, id), func(c *Client[F]) error {
		if !c.closed && !slices.Contains(keep, c.ID()) {
			c.close(code, reason)
		}
		return nil
	})
}

// Unsubscribe ends a user's subscriptions to a channel, or to all if it is empty.
func (h *Handler[F]) Unsubscribe(ctx context.Context, user, id, channel string) error {
	return h.roster.Each(ctx, h.clients(user, id), func(c *Client[F]) error {
		if channel != "" {
			c.expel(channel, endedByServer)
			return nil
		}
		for _, s := range slices.Clone(c.subs) {
			c.expel(s.Channel(), endedByServer)
		}
		return nil
	})
}

// Subscribe subscribes a user's clients to a channel. Those that are subscribed already stay as they are.
func (h *Handler[F]) Subscribe(ctx context.Context, user, id, channel string, since *hub.Position) error {
	return h.roster.Each(ctx, h.clients(user, id), func(c *Client[F]) error {
		if c.closed || c.isSubscribed(channel) {
			return nil
		}
		if limit := c.handler.maxChannels(); len(c.subs) >= limit {
			return tooManyChannels(limit)
		}
		j, err := c.joinOne(ctx, channel, since, false, inquiry.Grant{})
		if err != nil {
			return err
		}
		i, _ := c.find(channel)
		c.subs = slices.Insert(c.subs, i, j.sub)
		c.send(appendSubscribed(nil, channel, j))
		c.sendMissed(j)
		c.startAll([]joined{j})
		return nil
	})
}
