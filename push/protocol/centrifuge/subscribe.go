package centrifuge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// flagStrictRecovery in a subscribe request asks for an error where recovery is impossible.
const flagStrictRecovery = 1 << 1

// deltaFossil is the one type of deltas.
const deltaFossil = "fossil"

// The bits of a subscription's Tag.
const (
	tagServerSide uint8 = 1 << iota
	tagPositioned
	tagAnnounced // others were told that the client came
	tagGranted   // it was made with a token
	tagCapable   // it was made by the connection's capabilities alone
)

// joining is a subscription that is being made.
type joining struct {
	channel string
	request *wire.SubscribeRequest
	options *hub.Options
	info    json.RawMessage // what others in the channel may see
	special special         // what is not the same for all subscribers
	data    []byte          // for the client, in the answer
	token   Token           // that it was made with
	tag     uint8
	from    uint64 // the offset after which publications are wanted
	placed  bool   // from counts
	asks    bool   // the backend has to allow it
	crowded bool   // so much waits for the client that nothing is recovered, as it is told
}

// subscribe carries out a client's command.
func (c *Client[F]) subscribe(t *turn[F], m *wire.SubscribeRequest, reply *wire.Reply) (err error) {
	j := joining{channel: m.Channel, request: m}
	if err := c.checkSubscribe(&j); err != nil {
		return err
	}
	if m.Recover {
		if err := t.checkRoom(); err != nil {
			return err
		}
	}
	if j.asks {
		return c.askToSubscribe(t, j, reply)
	}
	reply.Subscribe, err = c.join(t, &j)
	return err
}

// askToSubscribe does it if the backend allows it.
func (c *Client[F]) askToSubscribe(t *turn[F], j joining, reply *wire.Reply) error {
	q := inquiry.SubscribeQuestion{Webhook: j.options.SubscribeWebhook, Channel: j.channel, Data: j.request.Data}
	return wait(t, c.handler.config.Backend.Subscribe, q, func(t *turn[F], grant inquiry.Grant) (err error) {
		if err := c.checkFree(j.channel); err != nil { // the server may have subscribed it meanwhile
			return err
		}
		if err := c.allow(&j, Grant{Grant: grant}); err != nil {
			return err
		}
		reply.Subscribe, err = c.join(t, &j)
		return err
	})
}

// checkFree reports that the client is subscribed already, or to too much.
func (c *Client[F]) checkFree(channel string) error {
	if _, found := c.find(channel); found {
		return hub.ErrSubscribed
	}
	if len(c.subs) >= int(c.handler.maxChannels.Load()) {
		return hub.ErrLimitExceeded
	}
	return nil
}

// subscribeServerSide does it for a channel that the server has chosen.
func (c *Client[F]) subscribeServerSide(t *turn[F], s *ServerSubscription, since *wire.SubscribeRequest) (*wire.SubscribeResult, error) {
	if since == nil {
		since = &wire.SubscribeRequest{}
	}
	o, err := c.options(s.Channel)
	if err != nil {
		return nil, err
	}
	if _, found := c.find(s.Channel); found {
		return nil, hub.ErrSubscribed
	}
	j := &joining{
		channel: s.Channel, options: s.Override.Apply(o), data: s.Data, tag: tagServerSide, crowded: t.checkRoom() != nil,
		request: &wire.SubscribeRequest{Channel: s.Channel, Recover: since.Recover, Epoch: since.Epoch, Offset: since.Offset},
	}
	j.request.Recover = j.request.Recover || s.RecoverLatest && j.options.RecoverLatest
	j.info = s.Info
	if err := c.limit(j, s.Expires); err != nil {
		return nil, err
	}
	return c.join(t, j)
}

// checkSubscribe reports why the client may not subscribe, and takes down what its token gives. The order of the checks decides which
// code a request gets that is wrong in several ways.
func (c *Client[F]) checkSubscribe(j *joining) (err error) {
	m := j.request
	if m.Channel == "" || m.Delta != "" && m.Delta != deltaFossil {
		return DisconnectBadRequest
	}
	if err := c.handler.config.Hub.CheckChannel(m.Channel); err != nil {
		return err
	}
	if err := c.checkFree(m.Channel); err != nil {
		return err
	}
	if j.options, err = c.options(m.Channel); err != nil {
		return err
	}
	if m.Type != 0 {
		return hub.ErrPermissionDenied // channels of keys and values are not here
	}
	if err := c.authorize(j); err != nil {
		return err
	}
	if m.Tf != nil {
		if !j.options.AllowTagsFilter {
			return fmt.Errorf("%w: this namespace has no tags filter", hub.ErrBadRequest)
		}
		if err := checkFilter(m.Tf); err != nil {
			return err
		}
		j.special.filter = m.Tf
	}
	j.special.delta = m.Delta == deltaFossil && j.options.AllowFossilDelta
	return nil
}

// authorize checks the subscription's token, or whether one is needed.
func (c *Client[F]) authorize(j *joining) error {
	m := j.request
	if m.Token == "" {
		if j.asks = c.handler.config.Backend.Subscribe != nil && j.options.MayAskToSubscribe(m.Channel); j.asks {
			return nil
		}
		actor := c.actor(m.Channel)
		if !j.options.MaySubscribe(m.Channel, actor) {
			return hub.ErrPermissionDenied
		}
		if j.options.NeedsRightToSubscribe(m.Channel, actor) {
			j.tag |= tagCapable
		}
		return nil
	}
	grant, err := c.grant(m.Channel, m.Token)
	if err != nil {
		return err
	}
	return c.allow(j, grant)
}

// allow notes what a token or the backend gives.
func (c *Client[F]) allow(j *joining, grant Grant) error {
	j.info, j.data, j.options = grant.Info, grant.Data, grant.Override.Apply(j.options)
	j.special.rights = grant.Rights
	if j.token = grant.Token; !j.token.Issued.IsZero() {
		j.tag |= tagGranted
	}
	return c.limit(j, grant.Expires)
}

// limit notes when a subscription ends; zero is never.
func (c *Client[F]) limit(j *joining, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	left := time.Until(at)
	if left <= 0 {
		return fmt.Errorf("%w: the subscription", hub.ErrExpired)
	}
	j.special.expires = c.handler.now() + roster.Seconds(left)
	if c.subRefreshWebhook(j.channel) != "" {
		j.special.expires = c.handler.now() + inquiry.RenewIn(roster.Seconds(left))
		j.special.invited = true
	} else if j.asks {
		j.special.invited = true
	}
	return nil
}

func (c *Client[F]) grant(channel, token string) (Grant, error) {
	ctx, cancel := c.handler.context()
	defer cancel()
	g, err := c.handler.config.Authenticator.Subscribe(ctx, SubscribeRequest{Client: c.ID(), User: c.User(), Channel: channel, Token: token})
	switch {
	case err == nil:
		c.badTokens = 0
	case isCode(err, hub.ErrPermissionDenied):
		if c.badTokens++; int(c.badTokens) >= c.handler.config.MaxBadTokens { // each costs a verification
			return Grant{}, DisconnectTooManyErrors
		}
	}
	return g, err
}

// join subscribes. What is published from now on waits until the reply is on its way.
func (c *Client[F]) join(t *turn[F], j *joining) (*wire.SubscribeResult, error) {
	ctx, cancel := c.handler.context()
	defer cancel()
	entry := subscription[F]{}
	var subscriber hub.Subscriber = c
	if policy := j.options.PolicyBeside(c.handler.config.SlowPolicy); policy != "" {
		j.special.policy = unique.Make(policy) // half the size
	}
	j.special.hidden = !j.options.Presence && c.hasPresence(j.channel)
	if j.special.needed() || j.info != nil || j.token.ID != "" {
		entry.special = &specialSubscriber[F]{client: c, special: j.special}
		entry.special.setInfo(j.info)
		subscriber = entry.special
	}
	var err error
	if entry.sub, err = c.handler.config.Hub.Subscribe(ctx, j.channel, subscriber); err != nil {
		return nil, err
	}
	j.channel = entry.sub.Channel() // of which there is one for all
	result, err := c.place(ctx, j)
	for _, p := range result.GetPublications() {
		t.pending += len(p.Data)
	}
	if err == nil {
		err = c.hold(entry, j.token)
	}
	if err != nil {
		entry.sub.Unsubscribe()
		return nil, err
	}
	entry.sub.Tag = j.tag
	if c.wantsEvents(j) {
		entry.sub.ReceiveEvents()
	}
	if entry.special != nil {
		entry.special.last = j.special.last
	}
	i, _ := c.find(j.channel)
	c.subs = slices.Insert(c.subs, i, entry.sub)
	c.schedule()
	t.then(beginning{sub: entry.sub, from: j.from, placed: j.placed, announced: j.options.JoinLeave})
	return result, nil
}

// hasPresence reports whether the channel's subscribers can be seen, unless something else is said of one of them.
func (c *Client[F]) hasPresence(channel string) bool {
	o, err := c.handler.config.Hub.Options(channel)
	return err == nil && o.Presence
}

// rights are what the client may do in the channel beside what its options say.
func (c *Client[F]) rights(j *joining) hub.Rights { return j.special.rights | c.caps().Of(j.channel) }

// wantsEvents reports whether the client is to hear who comes and goes.
func (c *Client[F]) wantsEvents(j *joining) bool {
	if !j.options.JoinLeave {
		return false
	}
	actor := hub.Actor{User: c.User(), Subscribed: true, Everything: c.standing&everything != 0, Granted: c.rights(j)}
	return j.options.ForcePushJoinLeave || j.request.JoinLeave && j.options.MayAskPresence(j.channel, actor)
}

// place finds out where in the channel's stream the client is to begin, and what it missed.
func (c *Client[F]) place(ctx context.Context, j *joining) (*wire.SubscribeResult, error) {
	o, m := j.options, j.request
	result := &wire.SubscribeResult{Delta: j.special.delta, Data: j.data}
	// What ends a subscription of the server's is not the client's to renew.
	if left := int64(j.special.expires) - int64(c.handler.now()); j.special.expires > 0 && j.tag&tagServerSide == 0 && !j.special.invited {
		result.Expires, result.Ttl = true, uint32(max(left, 1))
	}
	mayAsk := o.HasHistory() && c.rights(j)&hub.RightHistory != 0
	result.Recoverable = o.ForceRecovery || (o.AllowRecovery || mayAsk) && m.Recoverable
	result.Positioned = result.Recoverable || o.ForcePositioning || (o.AllowPositioning || mayAsk) && m.Positioned
	if !result.Positioned {
		return result, nil
	}
	j.tag |= tagPositioned
	recovery := hub.Recovery{}
	var err error
	if result.WasRecovering = result.Recoverable && m.Recover; result.WasRecovering && !j.crowded {
		recovery, err = c.handler.config.Hub.Recover(ctx, j.channel, hub.Position{Offset: m.Offset, Epoch: m.Epoch})
		recovery.Recovered = recovery.Recovered && c.canTell(j, recovery.Publications)
		if err == nil && !recovery.Recovered && m.Flag&flagStrictRecovery != 0 {
			err = hub.ErrUnrecoverable
		}
	} else {
		recovery.From, err = c.handler.config.Hub.Position(ctx, j.channel)
	}
	if err != nil {
		return nil, err
	}
	j.from, j.placed = recovery.From.Offset, true
	result.Recovered, result.Epoch, result.Offset = recovery.Recovered, recovery.From.Epoch, recovery.From.Offset
	if recovery.Recovered {
		c.addRecovered(result, j, recovery.Publications)
	}
	return result, nil
}

// addRecovered puts what the client missed into the result. Its offset is then the one from which the client comes, for SDKs count on with the
// publications; where these are not all, the one at which it stands.
func (c *Client[F]) addRecovered(result *wire.SubscribeResult, j *joining, publications []*hub.Publication) {
	whole := true
	for _, p := range publications {
		if j.special.filter != nil && !matches(j.special.filter, p.Tags) {
			whole = false
			continue
		}
		result.Publications = append(result.Publications, c.wirePublication(p, j.special.delta))
		j.special.last = p.Data
	}
	if whole && !j.options.RecoverLatest {
		result.Offset = j.request.Offset
	}
}

// start lets publications through once the reply is sent, and tells the others.
func (c *Client[F]) start(b beginning) {
	channel := b.sub.Channel()
	i, found := c.find(channel)
	if c.state == ended || !found || c.subs[i] != b.sub {
		return // a later command has ended it
	}
	if !b.placed {
		b.sub.Start()
	} else if err := b.sub.StartAfter(b.from); err != nil {
		c.disconnect(DisconnectInsufficientState)
		return
	}
	if b.announced {
		c.announce(channel, hub.KindJoin, c.subscription(i))
		b.sub.Tag |= tagAnnounced
	}
}

func (c *Client[F]) announce(channel string, kind hub.Kind, s subscription[F]) {
	ctx, cancel := c.handler.context()
	defer cancel()
	if err := c.handler.config.Hub.Announce(ctx, channel, kind, c.clientInfo(s.chanInfo())); err != nil {
		c.handler.internal(err)
	}
}

// leave ends a subscription that is no longer in c.subs, and tells the others.
func (c *Client[F]) leave(s subscription[F]) {
	s.sub.Unsubscribe()
	c.letGo(s)
	if s.sub.Tag&tagAnnounced != 0 {
		c.announce(s.sub.Channel(), hub.KindLeave, s)
	}
}

// drop leaves a channel. It reports false if the client is not subscribed.
func (c *Client[F]) drop(channel string) bool {
	i, found := c.find(channel)
	if !found {
		return false
	}
	s := c.subscription(i)
	if c.subs = slices.Delete(c.subs, i, i+1); len(c.subs) == 0 {
		c.subs = nil
	}
	c.leave(s)
	return true
}

// expel ends a subscription and tells the client why.
func (c *Client[F]) expel(channel string, why unsubscription) {
	if c.drop(channel) {
		c.push(&wire.Push{Channel: channel, Unsubscribe: &wire.Unsubscribe{Code: why.code, Reason: why.reason}})
	}
}

// lost ends a subscription whose position means nothing any more: an SDK subscribes again, or connects again where the server has subscribed it.
// One that the client has made since begins in the new stream.
func (c *Client[F]) lost(sub *hub.Subscription) {
	channel := sub.Channel()
	i, found := c.find(channel)
	switch {
	case c.state == ended || !found || c.subs[i] != sub || sub.Tag&tagPositioned == 0:
	case sub.Tag&tagServerSide != 0:
		c.disconnect(DisconnectInsufficientState)
	default:
		c.expel(channel, insufficientState)
	}
}

// subRefresh takes another token for a subscription.
func (c *Client[F]) subRefresh(m *wire.SubRefreshRequest) (*wire.SubRefreshResult, error) {
	if m.Channel == "" {
		return nil, DisconnectBadRequest
	}
	i, found := c.find(m.Channel)
	switch {
	case !found || m.Type != 0:
		return nil, hub.ErrPermissionDenied
	case m.Token == "":
		return nil, hub.ErrBadRequest
	}
	s := c.subscription(i)
	if s.special != nil && s.special.invited {
		return nil, DisconnectBadRequest // it is not the client's to renew
	}
	grant, err := c.grant(m.Channel, m.Token)
	switch {
	case isCode(err, hub.ErrTokenExpired):
		c.expel(m.Channel, subscriptionExpired) // an SDK then asks for a token that has not
		return &wire.SubRefreshResult{}, nil
	case isCode(err, hub.ErrPermissionDenied):
		return nil, DisconnectInvalidToken
	case err != nil:
		return nil, err
	case !grant.Expires.IsZero() && time.Until(grant.Expires) <= 0:
		return nil, hub.ErrExpired
	}
	if err := c.hold(s, grant.Token); err != nil {
		return nil, DisconnectInvalidToken
	}
	result := &wire.SubRefreshResult{}
	if s.special == nil || s.special.expires == 0 { // it has no end, and gets none
		return result, nil
	}
	s.special.expires = 0
	defer c.schedule()
	if !grant.Expires.IsZero() {
		result.Expires, result.Ttl = true, roster.Seconds(time.Until(grant.Expires))
		s.special.expires = c.handler.now() + result.Ttl
	}
	return result, nil
}

func isCode(err error, want *hub.Error) bool { return errors.Is(err, want) }
