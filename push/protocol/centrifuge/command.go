package centrifuge

import (
	"errors"
	"fmt"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// run carries out one command and adds its reply to the turn.
func (c *Client[F]) run(t *turn[F], m *wire.Command) {
	if c.state == unconnected {
		if m.Connect == nil || m.Id == 0 {
			c.disconnect(DisconnectBadRequest)
			return
		}
		c.connect(t, m.Id, m.Connect)
		return
	}
	if m.Id == 0 && m.Send == nil {
		if !c.conn.Answered() { // a pong that nobody asked for
			t.flush()
			c.disconnect(DisconnectBadRequest)
		}
		return
	}
	if m.Id == 0 { // it wants no reply, and there is nothing that could be sent; what else it asks for would have none
		t.flush()
		c.disconnect(DisconnectNotAvailable)
		return
	}
	reply := &wire.Reply{Id: m.Id}
	err := c.carryOut(t, m, reply)
	if errors.Is(err, errWaiting) {
		t.question.finish = func(t *turn[F], err error) { c.answer(t, reply, err) }
		return
	}
	c.answer(t, reply, err)
}

// answer replies to a command that was carried out, or was not because of err.
func (c *Client[F]) answer(t *turn[F], reply *wire.Reply, err error) {
	if err == nil {
		if c.state == connected {
			t.reply(reply)
		}
		return
	}
	refusal, disconnect := c.refusal(err)
	if disconnect != nil {
		t.flush()
		c.disconnect(disconnect)
		return
	}
	t.reply(&wire.Reply{Id: reply.Id, Error: refusal})
}

// carryOut does what the command asks for and fills its reply. Of several requests in one command the first counts, in this order.
func (c *Client[F]) carryOut(t *turn[F], m *wire.Command, reply *wire.Reply) (err error) {
	switch {
	case m.Connect != nil:
		err = DisconnectBadRequest // for the second time
	case m.Subscribe != nil:
		err = c.subscribe(t, m.Subscribe, reply)
	case m.Unsubscribe != nil:
		reply.Unsubscribe, err = c.unsubscribe(m.Unsubscribe)
	case m.Publish != nil:
		err = c.publish(t, m.Publish, reply)
	case m.Presence != nil:
		err = c.presence(t, m.Presence, reply)
	case m.PresenceStats != nil:
		err = c.presenceStats(t, m.PresenceStats, reply)
	case m.History != nil:
		reply.History, err = c.history(t, m.History)
	case m.Rpc != nil:
		err = c.rpc(t, m.Rpc, reply)
	case m.Send != nil:
		err = DisconnectNotAvailable
	case m.Refresh != nil:
		reply.Refresh, err = c.refresh(m.Refresh)
	case m.SubRefresh != nil:
		reply.SubRefresh, err = c.subRefresh(m.SubRefresh)
	default:
		err = DisconnectBadRequest
	}
	return err
}

// options returns those of the channel that a command names.
func (c *Client[F]) options(channel string) (*hub.Options, error) {
	if channel == "" {
		return nil, DisconnectBadRequest
	}
	return c.handler.config.Hub.Options(channel)
}

// unsubscribe leaves a channel. Leaving one that was not joined is no error: what the client wants is so.
func (c *Client[F]) unsubscribe(m *wire.UnsubscribeRequest) (*wire.UnsubscribeResult, error) {
	if m.Channel == "" {
		return nil, DisconnectBadRequest
	}
	c.drop(m.Channel)
	return &wire.UnsubscribeResult{}, nil
}

func (c *Client[F]) publish(t *turn[F], m *wire.PublishRequest, reply *wire.Reply) error {
	o, err := c.options(m.Channel)
	ask := c.handler.config.Backend.Publish
	actor := c.actor(m.Channel)
	asks := err == nil && ask != nil && o.AsksToPublish(actor)
	switch {
	case err != nil:
		return err
	case m.Type != 0:
		return hub.ErrPermissionDenied // channels of keys and values are not here
	case len(m.Data) == 0:
		return fmt.Errorf("%w: there is no data", hub.ErrBadRequest)
	case asks && !o.MayAskToPublish(m.Channel, actor), !asks && !o.MayPublish(m.Channel, actor):
		return hub.ErrPermissionDenied
	case o.JSONData && !isJSON(m.Data):
		return fmt.Errorf("%w: the data is not JSON", hub.ErrBadRequest)
	}
	info := c.clientInfo(c.chanInfo(m.Channel)) // as it is now: the client may have gone when the backend has answered
	publish := func(data []byte, options hub.PublishOptions) error {
		ctx, cancel := c.handler.context()
		defer cancel()
		options.Info = info
		_, err := c.handler.config.Hub.Publish(ctx, m.Channel, data, options)
		reply.Publish = &wire.PublishResult{}
		return err
	}
	if !asks {
		return publish(m.Data, hub.PublishOptions{})
	}
	err = wait(t, ask, inquiry.PublishQuestion{Webhook: o.PublishWebhook, Channel: m.Channel, Data: m.Data}, func(_ *turn[F], p inquiry.Publishing) error {
		if p.Data == nil {
			p.Data = m.Data
		}
		if o.JSONData && !isJSON(p.Data) {
			return hub.ErrInternal
		}
		return publish(p.Data, p.Options)
	})
	if errors.Is(err, errWaiting) {
		t.question.outlive = true
	}
	return err
}

func (c *Client[F]) presence(t *turn[F], m *wire.PresenceRequest, reply *wire.Reply) error {
	if err := errors.Join(c.checkPresence(m.Channel), t.checkRoom()); err != nil {
		return err
	}
	answer := func(_ *turn[F], list []*hub.ClientInfo) error {
		reply.Presence = &wire.PresenceResult{Presence: make(map[string]*wire.ClientInfo, len(list))}
		for _, info := range list {
			reply.Presence.Presence[info.Client] = wireInfo(info)
		}
		return nil
	}
	if ask := c.handler.config.Backend.Presence; ask != nil {
		return wait(t, ask, m.Channel, answer)
	}
	list, err := c.handler.config.Hub.Presence(m.Channel)
	if err != nil {
		return err
	}
	return answer(t, list)
}

func (c *Client[F]) presenceStats(t *turn[F], m *wire.PresenceStatsRequest, reply *wire.Reply) error {
	if err := c.checkPresence(m.Channel); err != nil {
		return err
	}
	answer := func(_ *turn[F], stats hub.PresenceStats) error {
		reply.PresenceStats = &wire.PresenceStatsResult{NumClients: uint32(stats.Clients), NumUsers: uint32(stats.Users)}
		return nil
	}
	if ask := c.handler.config.Backend.PresenceStats; ask != nil {
		return wait(t, ask, m.Channel, answer)
	}
	stats, err := c.handler.config.Hub.PresenceStats(m.Channel)
	if err != nil {
		return err
	}
	return answer(t, stats)
}

func (c *Client[F]) checkPresence(channel string) error {
	o, err := c.options(channel)
	switch {
	case err != nil:
		return err
	case !o.Presence:
		return hub.ErrNotAvailable
	case !o.MayAskPresence(channel, c.actor(channel)):
		return hub.ErrPermissionDenied
	}
	return nil
}

func (c *Client[F]) history(t *turn[F], m *wire.HistoryRequest) (*wire.HistoryResult, error) {
	o, err := c.options(m.Channel)
	switch {
	case err != nil:
		return nil, err
	case !o.HasHistory():
		return nil, hub.ErrNotAvailable
	case !o.MayAskHistory(m.Channel, c.actor(m.Channel)):
		return nil, hub.ErrPermissionDenied
	}
	if err := t.checkRoom(); err != nil {
		return nil, err
	}
	q := hub.HistoryQuery{Limit: int(m.Limit), Reverse: m.Reverse}
	if most := c.handler.config.MaxHistory; q.Limit < 0 || q.Limit > most {
		q.Limit = most
	}
	if m.Since != nil {
		q.Since = &hub.Position{Offset: m.Since.Offset, Epoch: m.Since.Epoch}
	}
	ctx, cancel := c.handler.context()
	defer cancel()
	past, err := c.handler.config.Hub.History(ctx, m.Channel, q)
	if err != nil {
		return nil, err
	}
	for _, p := range past.Publications {
		t.pending += len(p.Data)
	}
	return &wire.HistoryResult{Publications: wirePublications(past.Publications), Epoch: past.Top.Epoch, Offset: past.Top.Offset}, nil
}
