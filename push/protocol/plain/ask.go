package plain

import (
	"fmt"

	"github.com/millpond/millpond/push/hub"
)

// runPresence tells who is subscribed to a channel.
func (c *Client[F]) runPresence(command command) error {
	channel, o, who, err := c.ask(command)
	switch {
	case err != nil:
		return err
	case !o.Presence:
		return fmt.Errorf("%w: channel %q has no presence", hub.ErrNotAvailable, clip(channel))
	case !o.MayAskPresence(channel, c.actor(who, channel)):
		return fmt.Errorf("%w: you may not ask who is in channel %q", hub.ErrPermissionDenied, clip(channel))
	}
	if err := c.checkRoom(); err != nil {
		return err
	}
	answer := func(list []*hub.ClientInfo) error {
		c.send(appendPresence(nil, command.ID, channel, list))
		return nil
	}
	if ask := c.handler.config.Backend.Presence; ask != nil {
		return wait(c, inquired{finish: func(err error) { c.finish(command.ID, err) }}, ask, channel, answer)
	}
	list, err := c.handler.config.Hub.Presence(channel)
	if err != nil {
		return err
	}
	return answer(list)
}

// runHistory answers with a channel's past.
func (c *Client[F]) runHistory(command command) error {
	channel, o, who, err := c.ask(command)
	if err != nil {
		return err
	}
	if !o.MayAskHistory(channel, c.actor(who, channel)) && o.HasHistory() {
		return fmt.Errorf("%w: you may not ask for the history of channel %q", hub.ErrPermissionDenied, clip(channel))
	}
	if err := c.checkRoom(); err != nil {
		return err
	}
	var payload historyPayload
	if err := command.payload(&payload); err != nil {
		return err
	}
	q := hub.HistoryQuery{Limit: payload.Limit, Reverse: payload.Reverse}
	if most := c.handler.config.MaxHistory; q.Limit <= 0 || q.Limit > most {
		q.Limit = most
	}
	if payload.Since != nil {
		q.Since = payload.Since.hub()
	}
	ctx, cancel := c.handler.context()
	defer cancel()
	past, err := c.handler.config.Hub.History(ctx, channel, q)
	if err != nil {
		return err
	}
	c.send(appendHistory(nil, command.ID, channel, past))
	return nil
}

// ask reads what questions have in common: the channel, its options, and who asks.
func (c *Client[F]) ask(command command) (channel string, o *hub.Options, who *login[F], err error) {
	var payload channelPayload
	if err := command.payload(&payload); err != nil {
		return "", nil, nil, err
	}
	if payload.Channel == nil {
		return "", nil, nil, badRequest(`%s needs "payload.channel"`, command.Type)
	}
	if who, err = c.who("ask"); err != nil {
		return "", nil, nil, err
	}
	o, err = c.handler.config.Hub.Options(*payload.Channel)
	return *payload.Channel, o, who, err
}
