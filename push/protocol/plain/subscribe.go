package plain

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/pace"
)

// channels are the channels of one command; plural says whether they were
// given as a list, because the answer has the same form.
type channels struct {
	list   []string
	since  []*hub.Position // where the client stands in the channel at the same place; nil where it does not say
	plural bool
	events bool                     // it wants to hear who comes and goes
	data   []byte                   // for the backend
	grants map[string]inquiry.Grant // that the backend has given, by channel
}

// channels returns the channels that the payload names, at least one and at
// most limit.
func (c *command) channels(limit int) (channels, error) {
	var payload channelsPayload
	if err := c.payload(&payload); err != nil {
		return channels{}, err
	}
	out := channels{events: payload.JoinLeave, data: payload.Data}
	switch {
	case payload.Channel != nil && payload.Channels == nil:
		out.list = []string{*payload.Channel}
	case payload.Channel != nil || len(payload.Channels) == 0:
		return channels{}, badRequest(`%s needs either "payload.channel" or "payload.channels"`, c.Type)
	case len(payload.Channels) > limit:
		return channels{}, tooManyChannels(limit)
	default:
		out.list, out.plural = payload.Channels, true
	}
	return out, out.readSince(payload.Since)
}

// readSince reads where the client stands: an object for the one channel, or an object of such by channel.
func (l *channels) readSince(raw []byte) error {
	l.since = make([]*hub.Position, len(l.list))
	if raw == nil {
		return nil
	}
	if !l.plural {
		p := new(position)
		if err := unmarshal("payload.since.", raw, p); err != nil {
			return err
		}
		l.since[0] = p.hub()
		return nil
	}
	var all map[string]*position
	if err := unmarshal("payload.since.", raw, &all); err != nil {
		return err
	}
	for i, name := range l.list {
		if p := all[name]; p != nil {
			l.since[i] = p.hub()
		}
	}
	return nil
}

// channels returns those of the opening request.
func (p *Params) channels() (channels, error) {
	out := channels{list: p.Channels, plural: true, since: make([]*hub.Position, len(p.Channels))}
	for i, text := range p.Since {
		if i >= len(out.since) || text == "" {
			continue
		}
		offset, epoch, ok := strings.Cut(text, ".")
		n, err := strconv.ParseUint(offset, 10, 64)
		if !ok || err != nil {
			return channels{}, fmt.Errorf(`%w: since: %q is not OFFSET.EPOCH`, hub.ErrBadRequest, clip(text))
		}
		out.since[i] = &hub.Position{Offset: n, Epoch: epoch}
	}
	return out, nil
}

func tooManyChannels(limit int) error {
	return fmt.Errorf("%w: at most %d channels are allowed on a connection", hub.ErrLimitExceeded, limit)
}

// joined is a subscription that is being made.
type joined struct {
	sub      *hub.Subscription
	options  *hub.Options
	recovery hub.Recovery
	asked    bool // the client said where it stands
}

// subscribe joins all channels or none, once the backend has allowed those that it decides on.
func (c *Client[F]) subscribe(id rawID, list channels) error {
	if err := c.checkSubscribe(list); err != nil {
		return err
	}
	for _, name := range list.list {
		if webhook := c.subscribeWebhook(name); webhook != "" && !list.granted(name) {
			return c.askToSubscribe(id, list, name, webhook)
		}
	}
	return c.subscribeAll(id, list)
}

// askToSubscribe asks the backend about one of the channels, and begins again: the server may have subscribed the client
// to one of them meanwhile.
func (c *Client[F]) askToSubscribe(id rawID, list channels, name, webhook string) error {
	q := inquiry.SubscribeQuestion{Webhook: webhook, Channel: name, Data: list.data}
	waits := inquired{finish: func(err error) { c.finish(id, err) }}
	return wait(c, waits, c.handler.config.Backend.Subscribe, q, func(g inquiry.Grant) error {
		if !g.Expires.IsZero() && time.Until(g.Expires) <= 0 {
			return fmt.Errorf("%w: the subscription to channel %q", hub.ErrExpired, clip(name))
		}
		if list.grants == nil {
			list.grants = map[string]inquiry.Grant{}
		}
		list.grants[name] = g
		return c.subscribe(id, list)
	})
}

func (l *channels) granted(name string) bool {
	_, ok := l.grants[name]
	return ok
}

// subscribeWebhook is who decides whether the client may subscribe to a channel; empty is its options.
func (c *Client[F]) subscribeWebhook(channel string) string {
	o, err := c.handler.config.Hub.Options(channel)
	if err != nil || c.handler.config.Backend.Subscribe == nil || !o.MayAskToSubscribe(channel) {
		return ""
	}
	if who := c.login.Load(); who == nil || slices.Contains(who.channels, channel) {
		return ""
	}
	return o.SubscribeWebhook
}

// subscribeAll joins all channels or none, answers, sends what was missed, and lets messages through.
func (c *Client[F]) subscribeAll(id rawID, list channels) error {
	made, err := c.join(list)
	if err != nil {
		return err
	}
	for _, j := range made {
		if c.needsCaps(j) {
			j.sub.Tag |= tagCapable
		}
		i, _ := c.find(j.sub.Channel())
		c.subs = slices.Insert(c.subs, i, j.sub)
	}
	// Messages are held until the start, so the answer comes first.
	c.send(appendReply(nil, id, list, made))
	for _, j := range made {
		c.sendMissed(j)
	}
	c.startAll(made)
	return nil
}

// needsCaps reports whether the connection's capabilities alone let the client subscribe.
func (c *Client[F]) needsCaps(j joined) bool {
	who, channel := c.login.Load(), j.sub.Channel()
	return c.caps() != nil && c.subscribeWebhook(channel) == "" && !slices.Contains(who.channels, channel) &&
		j.options.NeedsRightToSubscribe(channel, c.actor(who, channel))
}

// startAll lets messages through, once the answer has left.
func (c *Client[F]) startAll(made []joined) {
	pace.WhenSent(c.handler.roster, c, c.conn, func() {
		for _, j := range made {
			c.start(j)
		}
	})
}

// checkSubscribe reports why the client may not join all of list.
func (c *Client[F]) checkSubscribe(list channels) error {
	if limit := c.handler.maxChannels(); len(c.subs)+len(list.list) > limit {
		return tooManyChannels(limit)
	}
	for _, name := range list.list {
		o, err := c.handler.config.Hub.Options(name)
		if err != nil {
			return err
		}
		who, err := c.who("subscribe")
		if err != nil {
			return err
		}
		if c.subscribeWebhook(name) == "" && !c.maySubscribe(who, name, o) {
			return fmt.Errorf("%w: you may not subscribe to channel %q", hub.ErrPermissionDenied, name)
		}
		if c.isSubscribed(name) {
			return fmt.Errorf("%w: to channel %q", hub.ErrSubscribed, name)
		}
	}
	return checkDistinct(list.list)
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
func (c *Client[F]) join(list channels) ([]joined, error) {
	ctx, cancel := c.handler.context()
	defer cancel()
	made := make([]joined, 0, len(list.list))
	for i, name := range list.list {
		j, err := c.joinOne(ctx, name, list.since[i], list.events, list.grants[name])
		if err != nil {
			for _, j := range made {
				c.leave(j.sub)
			}
			return nil, err
		}
		made = append(made, j)
	}
	return made, nil
}

// joinOne subscribes to one channel and finds out where its stream stands, if it has one.
func (c *Client[F]) joinOne(ctx context.Context, name string, since *hub.Position, events bool, g inquiry.Grant) (j joined, err error) {
	h := c.handler.config.Hub
	if j.options, err = h.Options(name); err != nil {
		return j, err
	}
	shown := j.options.Presence
	j.options = g.Override.Apply(j.options)
	policy, hidden := j.options.PolicyBeside(c.handler.config.SlowPolicy), shown && !j.options.Presence
	var subscriber hub.Subscriber = c
	var one *special[F]
	if policy != "" || hidden || g.Rights != 0 || g.Info != nil || !g.Expires.IsZero() {
		one = &special[F]{Client: c, policy: policy, rights: g.Rights, hidden: hidden}
		one.setInfo(g.Info)
		subscriber = one
	}
	if since != nil {
		if err := c.checkRoom(); err != nil {
			return j, err
		}
	}
	if j.sub, err = h.Subscribe(ctx, name, subscriber); err != nil {
		return j, err
	}
	actor := c.login.Load().actor(true)
	actor.Granted = g.Rights | c.caps().Of(name)
	if events && j.options.JoinLeave && j.options.MayAskPresence(name, actor) || j.options.ForcePushJoinLeave {
		j.sub.ReceiveEvents()
	}
	if j.asked = since != nil && (j.options.ForceRecovery || j.options.AllowRecovery || j.options.HasHistory() && actor.Granted&hub.RightHistory != 0); j.asked {
		j.recovery, err = h.Recover(ctx, j.sub.Channel(), *since)
	} else {
		j.recovery.From, err = h.Position(ctx, j.sub.Channel())
	}
	if err != nil {
		j.sub.Unsubscribe()
		return j, err
	}
	if one != nil {
		one.sub = j.sub
		one.endAt(g.Expires)
	}
	return j, nil
}

// sendMissed sends what the client missed.
func (c *Client[F]) sendMissed(j joined) {
	if missed := j.recovery.Publications; len(missed) > 0 {
		frames := make([]F, 0, len(missed))
		for _, p := range missed {
			frames = append(frames, c.handler.message(j.sub.Channel(), p))
		}
		_ = c.conn.Send(frames...)
		c.answers.Long(c.conn.Waiting())
	}
}

// start lets messages through, unless a later command has ended the subscription.
func (c *Client[F]) start(j joined) {
	if i, found := c.find(j.sub.Channel()); c.closed || !found || c.subs[i] != j.sub {
		return
	}
	if j.recovery.From.Epoch == "" {
		j.sub.Start()
	} else {
		j.sub.Tag |= tagPositioned
		if err := j.sub.StartAfter(j.recovery.From.Offset); err != nil {
			c.expel(j.sub.Channel(), insufficientState)
			return
		}
	}
	if j.options.JoinLeave {
		j.sub.Tag |= tagAnnounced
		c.announce(j.sub, hub.KindJoin)
	}
}

func (c *Client[F]) announce(s *hub.Subscription, kind hub.Kind) {
	ctx, cancel := c.handler.context()
	defer cancel()
	if err := c.handler.config.Hub.Announce(ctx, s.Channel(), kind, seenIn(c, s)); err != nil && c.handler.config.OnInternalError != nil {
		c.handler.config.OnInternalError(err)
	}
}

// leave ends a subscription that is no longer in c.subs, and tells the others.
func (c *Client[F]) leave(s *hub.Subscription) {
	s.Unsubscribe()
	if one := specialOf[F](s); one != nil {
		c.handler.ends.Remove(one)
	}
	if s.Tag&tagAnnounced != 0 {
		c.announce(s, hub.KindLeave)
	}
}

// drop leaves a channel. It reports false if the client isn't subscribed.
func (c *Client[F]) drop(channel string) bool {
	i, found := c.find(channel)
	if !found {
		return false
	}
	s := c.subs[i]
	c.subs = slices.Delete(c.subs, i, i+1)
	if len(c.subs) == 0 {
		c.subs = nil
	}
	c.leave(s)
	return true
}

// ending is why the server ends a subscription.
type ending struct {
	code   uint32
	reason string
}

var (
	endedByServer     = ending{2000, "server unsubscribe"}
	expired           = ending{2501, "subscription expired"}
	insufficientState = ending{2500, "insufficient state: subscribe again"}
)

// expel ends a subscription and tells the client why.
func (c *Client[F]) expel(channel string, why ending) {
	if c.drop(channel) {
		c.send(appendUnsubscribed(nil, channel, why))
	}
}

// lost ends a subscription whose position means nothing any more. One that the client has made since begins in the new stream.
func (c *Client[F]) lost(sub *hub.Subscription) {
	if i, found := c.find(sub.Channel()); found && !c.closed && c.subs[i] == sub && sub.Tag&tagPositioned != 0 {
		c.expel(sub.Channel(), insufficientState)
	}
}
