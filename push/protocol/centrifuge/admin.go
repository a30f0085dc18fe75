package centrifuge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/roster"
)

// This file has what a backend does to clients. The methods may be called by any goroutine.

// Target says which clients are meant: those of a user, or one of them.
type Target struct {
	User   string
	Client string // the connection's id; empty is all
}

// clients returns those that are here.
func (h *Handler[F]) clients(t Target) []*Client[F] {
	return slices.DeleteFunc(h.roster.Of(t.User), func(c *Client[F]) bool { return t.Client != "" && c.ID() != t.Client })
}

// Count returns how many of them there are.
func (h *Handler[F]) Count(t Target) int { return len(h.clients(t)) }

// each carries out a task in the turn of each client that is connected, and returns when all of them did, or when ctx ends. Of several errors it
// returns the first.
func (h *Handler[F]) each(ctx context.Context, t Target, task func(c *Client[F]) error) error {
	return h.roster.Each(ctx, h.clients(t), func(c *Client[F]) error {
		if c.state != connected {
			return nil
		}
		return task(c)
	})
}

// Disconnect ends the connections, except those with the ids in keep.
func (h *Handler[F]) Disconnect(ctx context.Context, t Target, keep []string, d *Disconnect) error {
	return h.each(ctx, t, func(c *Client[F]) error {
		if !slices.Contains(keep, c.ID()) {
			c.disconnect(d)
		}
		return nil
	})
}

// Unsubscribe ends the subscriptions to a channel, or to all if it is empty.
func (h *Handler[F]) Unsubscribe(ctx context.Context, t Target, channel string) error {
	return h.each(ctx, t, func(c *Client[F]) error {
		if channel != "" {
			c.expel(channel, unsubscribedByServer)
			return nil
		}
		for _, s := range slices.Clone(c.subs) {
			c.expel(s.Channel(), unsubscribedByServer)
		}
		return nil
	})
}

// SubscribeOptions say how a backend subscribes clients.
type SubscribeOptions struct {
	Info    json.RawMessage // what others in the channel may see
	Data    []byte          // for the client
	Expires time.Time       // zero is never
	Since   *hub.Position   // what was published since is delivered, if it is all there
	// Override is what is different for this subscription in the channel's options. Nil changes nothing.
	Override *hub.Override
}

// Subscribe subscribes clients to a channel. Those that are subscribed already stay as they are.
func (h *Handler[F]) Subscribe(ctx context.Context, t Target, channel string, o SubscribeOptions) error {
	if _, err := h.config.Hub.Options(channel); err != nil {
		return err
	}
	if !o.Expires.IsZero() && time.Until(o.Expires) <= 0 {
		return fmt.Errorf("%w: the subscription", hub.ErrExpired)
	}
	return h.each(ctx, t, func(c *Client[F]) error { return c.subscribeByBackend(channel, o) })
}

func (c *Client[F]) subscribeByBackend(channel string, o SubscribeOptions) error {
	options, err := c.options(channel)
	if err != nil {
		return err
	}
	if _, found := c.find(channel); found {
		return nil
	}
	if len(c.subs) >= int(c.handler.maxChannels.Load()) {
		return hub.ErrLimitExceeded
	}
	j := &joining{channel: channel, request: &wire.SubscribeRequest{Channel: channel}, options: o.Override.Apply(options), tag: tagServerSide}
	j.info = o.Info
	if !o.Expires.IsZero() {
		j.special.expires = c.handler.now() + roster.Seconds(time.Until(o.Expires))
	}
	if o.Since != nil {
		j.request.Recover, j.request.Offset, j.request.Epoch = true, o.Since.Offset, o.Since.Epoch
	}
	t := c.newTurn()
	defer t.release()
	result, err := c.join(t, j)
	if err != nil {
		return err
	}
	// In one message: it may be long, and is on its way to a client that has not asked for it.
	var b []byte
	add := func(p *wire.Push) {
		if err == nil {
			b, err = c.appendPush(b, p)
		}
	}
	add(&wire.Push{Channel: channel, Subscribe: &wire.Subscribe{
		Recoverable: result.Recoverable, Positioned: result.Positioned, Epoch: result.Epoch, Offset: result.Offset, Data: o.Data,
	}})
	for _, p := range result.Publications {
		add(&wire.Push{Channel: channel, Pub: p})
	}
	if err != nil {
		c.disconnect(DisconnectInappropriateProtocol)
		return nil
	}
	c.send(b)
	t.flush()
	return nil
}
