package plain

import (
	"fmt"
	"slices"

	"github.com/millpond/millpond/push/hub"
)

const commandTypes = `"login", "subscribe", "unsubscribe", "publish", "ping"`

// run carries out a command and sends its answer, unless it returns an error.
func (c *Client[F]) run(command command) error {
	switch command.Type {
	case "login":
		return c.runLogin(command)
	case "subscribe":
		list, err := command.channels(c.handler.config.MaxChannels)
		if err != nil {
			return err
		}
		return c.subscribe(command.ID, list)
	case "unsubscribe":
		return c.runUnsubscribe(command)
	case "publish":
		return c.runPublish(command)
	case "ping":
		c.send(appendPong(nil, command.ID))
		return nil
	}
	return fault{fmt.Errorf(`%w: there is no type %q; it is one of %s`, hub.ErrMethodNotFound, clip(command.Type), commandTypes)}
}

// clip shortens a client's text that is quoted back to it.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func (c *Client[F]) runLogin(command command) error {
	var payload loginPayload
	if err := command.payload(&payload); err != nil {
		return err
	}
	if payload.Token == "" && payload.Username == "" {
		return badRequest(`login needs "payload.token", or "payload.username" and "payload.password"`)
	}
	if err := c.authenticate(Credentials(payload)); err != nil {
		return fault{err} // so that passwords can't be tried without end
	}
	c.send(appendLogin(nil, command.ID, c.user))
	return nil
}

func (c *Client[F]) authenticate(credentials Credentials) error {
	if c.handler.config.Authenticator == nil {
		return fmt.Errorf("%w: this server has no login", hub.ErrNotAvailable)
	}
	if c.loggedIn {
		return fmt.Errorf("%w: already logged in", hub.ErrBadRequest)
	}
	ctx, cancel := c.handler.context()
	defer cancel()
	identity, err := c.handler.config.Authenticator.Authenticate(ctx, credentials)
	if err != nil {
		return err
	}
	c.loggedIn = true
	c.user = identity.User
	c.permissions = identity.Permissions
	return nil
}

// channels are the channels of one command; plural says whether they were
// given as a list, because the answer has the same form.
type channels struct {
	list   []string
	plural bool
}

// channels returns the channels that the payload names, at least one and at
// most limit.
func (c *command) channels(limit int) (channels, error) {
	var payload channelsPayload
	if err := c.payload(&payload); err != nil {
		return channels{}, err
	}
	switch {
	case payload.Channel != nil && payload.Channels == nil:
		return channels{list: []string{*payload.Channel}}, nil
	case payload.Channel != nil || len(payload.Channels) == 0:
		return channels{}, badRequest(`%s needs either "payload.channel" or "payload.channels"`, c.Type)
	case len(payload.Channels) > limit:
		return channels{}, tooManyChannels(limit)
	}
	return channels{list: payload.Channels, plural: true}, nil
}

func tooManyChannels(limit int) error {
	return fmt.Errorf("%w: at most %d channels are allowed on a connection", hub.ErrLimitExceeded, limit)
}

// subscribe joins all channels or none, and answers.
func (c *Client[F]) subscribe(id rawID, channels channels) error {
	if err := c.checkSubscribe(channels.list); err != nil {
		return err
	}
	joined, err := c.join(channels.list)
	if err != nil {
		return err
	}
	for _, s := range joined {
		i, _ := c.find(s.Channel())
		c.subs = slices.Insert(c.subs, i, s)
	}
	// Messages are held until Start, so the answer comes first.
	c.send(appendReply(nil, id, channels))
	for _, s := range joined {
		s.Start()
	}
	return nil
}

// checkSubscribe reports why the client may not join all of list.
func (c *Client[F]) checkSubscribe(list []string) error {
	if limit := c.handler.config.MaxChannels; len(c.subs)+len(list) > limit {
		return tooManyChannels(limit)
	}
	for _, name := range list {
		if err := c.handler.config.Hub.CheckChannel(name); err != nil {
			return err
		}
		if c.permissions == nil && !c.loggedIn {
			return fmt.Errorf("%w: log in before you subscribe", hub.ErrUnauthorized)
		}
		if c.permissions == nil || !c.permissions.MaySubscribe(name) {
			return fmt.Errorf("%w: you may not subscribe to channel %q", hub.ErrPermissionDenied, name)
		}
		if _, found := c.find(name); found {
			return fmt.Errorf("%w: to channel %q", hub.ErrSubscribed, name)
		}
	}
	return checkDistinct(list)
}

func checkDistinct(list []string) error {
	if len(list) == 1 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(list))
	for i, name := range sorted[1:] {
		if name == sorted[i] {
			return fmt.Errorf("%w: channel %q is named twice", hub.ErrSubscribed, name)
		}
	}
	return nil
}

// join subscribes to all of list, or to none and returns the error.
func (c *Client[F]) join(list []string) ([]*hub.Subscription, error) {
	ctx, cancel := c.handler.context()
	defer cancel()
	joined := make([]*hub.Subscription, 0, len(list))
	for _, name := range list {
		s, err := c.handler.config.Hub.Subscribe(ctx, name, c)
		if err != nil {
			for _, s := range joined {
				s.Unsubscribe()
			}
			return nil, err
		}
		joined = append(joined, s)
	}
	return joined, nil
}

// drop leaves a channel. It does nothing if the client isn't subscribed.
func (c *Client[F]) drop(channel string) {
	i, found := c.find(channel)
	if !found {
		return
	}
	s := c.subs[i]
	c.subs = slices.Delete(c.subs, i, i+1)
	if len(c.subs) == 0 {
		c.subs = nil
	}
	s.Unsubscribe()
}

// runUnsubscribe leaves channels. Leaving one that was not joined is no error:
// what the client wants is so.
func (c *Client[F]) runUnsubscribe(command command) error {
	channels, err := command.channels(c.handler.config.MaxChannels)
	if err != nil {
		return err
	}
	for _, name := range channels.list {
		if err := c.handler.config.Hub.CheckChannel(name); err != nil {
			return err
		}
	}
	for _, name := range channels.list {
		c.drop(name)
	}
	c.send(appendReply(nil, command.ID, channels))
	return nil
}

func (c *Client[F]) runPublish(command command) error {
	var payload publishPayload
	if err := command.payload(&payload); err != nil {
		return err
	}
	switch {
	case payload.Channel == nil:
		return badRequest(`publish needs "payload.channel"`)
	case payload.Data == nil:
		return badRequest(`publish needs "payload.data"`)
	case c.permissions == nil && !c.loggedIn:
		return fmt.Errorf("%w: log in before you publish", hub.ErrUnauthorized)
	}
	channel := *payload.Channel
	if err := c.handler.config.Hub.CheckChannel(channel); err != nil {
		return err
	}
	if c.permissions == nil || !c.permissions.MayPublish(channel) {
		return fmt.Errorf("%w: you may not publish to channel %q", hub.ErrPermissionDenied, channel)
	}
	ctx, cancel := c.handler.context()
	defer cancel()
	position, err := c.handler.config.Hub.Publish(ctx, channel, payload.Data, hub.PublishOptions{})
	if err != nil {
		return err
	}
	c.send(appendPublished(nil, command.ID, channel, position.Offset))
	return nil
}
