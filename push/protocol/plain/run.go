package plain

import (
	"encoding/json"
	"fmt"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

const commandTypes = `"login", "subscribe", "unsubscribe", "publish", "presence", "history", "ping"`

// run carries out a command and sends its answer, unless it returns an error.
func (c *Client[F]) run(command command) error {
	switch command.Type {
	case "login":
		return c.runLogin(command)
	case "subscribe":
		list, err := command.channels(c.handler.maxChannels())
		if err != nil {
			return err
		}
		return c.subscribe(command.ID, list)
	case "presence":
		return c.runPresence(command)
	case "history":
		return c.runHistory(command)
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
	switch {
	case payload.Token != "" || payload.Username != "":
		if err := c.authenticate(Credentials{Token: payload.Token, Username: payload.Username, Password: payload.Password}); err != nil {
			return fault{err} // so that passwords can't be tried without end
		}
		c.send(appendLogin(nil, command.ID, c.login.Load().user(), nil))
		return nil
	case c.handler.config.Backend.Connect != nil:
		c.know(inquiry.Emulated(c.handler.config.EmulatedHeaders, payload.Headers), nil)
		finish := func(err error) {
			if err != nil {
				err = fault{err}
			}
			c.finish(command.ID, err)
		}
		return c.invite(ConnectRequest{Data: payload.Data}, finish, func(i *Identity) {
			c.send(appendLogin(nil, command.ID, i.User, i.Data))
		})
	}
	return badRequest(`login needs "payload.token", or "payload.username" and "payload.password"`)
}

// who returns the client's identity, or the error for one that has none. what is what it wants to do.
func (c *Client[F]) who(what string) (*login[F], error) {
	if i := c.login.Load(); i != nil {
		return i, nil
	}
	return nil, fmt.Errorf("%w: log in before you %s", hub.ErrUnauthorized, what)
}

func (c *Client[F]) isSubscribed(channel string) bool {
	_, found := c.find(channel)
	return found
}

// runUnsubscribe leaves channels. Leaving one that was not joined is no error:
// what the client wants is so.
func (c *Client[F]) runUnsubscribe(command command) error {
	channels, err := command.channels(c.handler.maxChannels())
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
	c.send(appendReply(nil, command.ID, channels, nil))
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
	}
	who, err := c.who("publish")
	if err != nil {
		return err
	}
	channel := *payload.Channel
	o, err := c.handler.config.Hub.Options(channel)
	if err != nil {
		return err
	}
	actor := c.actor(who, channel)
	ask := c.handler.config.Backend.Publish
	asks := ask != nil && o.AsksToPublish(actor)
	switch {
	case asks && !o.MayAskToPublish(channel, actor), !asks && !o.MayPublish(channel, actor):
		return fmt.Errorf("%w: you may not publish to channel %q", hub.ErrPermissionDenied, channel)
	case !asks:
		return c.publish(command.ID, channel, payload.Data, hub.PublishOptions{Info: c.seen(channel)})
	}
	info := c.seen(channel) // as it is now: the client may have gone when the backend has answered
	waits := inquired{finish: func(err error) { c.finish(command.ID, err) }, outlive: true}
	q := inquiry.PublishQuestion{Webhook: o.PublishWebhook, Channel: channel, Data: payload.Data}
	return wait(c, waits, ask, q, func(p inquiry.Publishing) error {
		if p.Data == nil {
			p.Data = payload.Data
		}
		if o.JSONData && !json.Valid(p.Data) {
			return hub.ErrInternal
		}
		p.Options.Info = info
		return c.publish(command.ID, channel, p.Data, p.Options)
	})
}

// publish publishes, for subscribers by other protocols too, and answers.
func (c *Client[F]) publish(id rawID, channel string, data []byte, options hub.PublishOptions) error {
	ctx, cancel := c.handler.context()
	defer cancel()
	position, err := c.handler.config.Hub.Publish(ctx, channel, data, options)
	if err != nil {
		return err
	}
	if !c.closed { // while the backend was asked
		c.send(appendPublished(nil, id, channel, position.Offset))
	}
	return nil
}
