package centrifuge

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"unique"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/roster"
)

// subscription is one of a client's.
type subscription[F comparable] struct {
	sub     *hub.Subscription
	special *specialSubscriber[F] // nil for one that is as all others
}

// subscriptionOf is what there is to know of sub: the client keeps no more of each.
func subscriptionOf[F comparable](sub *hub.Subscription) subscription[F] {
	special, _ := sub.Subscriber().(*specialSubscriber[F])
	return subscription[F]{sub, special}
}

// subscription returns the one at a place in c.subs.
func (c *Client[F]) subscription(i int) subscription[F] { return subscriptionOf[F](c.subs[i]) }

func (s subscription[F]) chanInfo() json.RawMessage {
	if s.special == nil {
		return nil
	}
	return s.special.chanInfo()
}

// chanInfo is what the subscription's token says of the client.
func (c *Client[F]) chanInfo(channel string) json.RawMessage {
	if i, found := c.find(channel); found {
		return c.subscription(i).chanInfo()
	}
	return nil
}

var (
	_ hub.Presenter = (*Client[*int])(nil)
	_ hub.Member    = (*Client[*int])(nil)
)

// Deliver sends publications; the hub calls it. All clients with the same codec share the frames.
func (c *Client[F]) Deliver(b *hub.Batch) {
	if b.IsReset() {
		c.reset(b.Subscription())
		return
	}
	e := c.encoding(false)
	c.sendBatch(b, "", hub.Frames(b, e.hub(), c.handler.pushes[e]))
}

// sendBatch sends frames. It is called under a lock of the hub. What cannot be told in JSON has none. From a backend, that ends the connection. From a
// client, who must not be able to throw others out, it is left out; a subscriber with a position, which may miss nothing without hearing of it, gets
// what is before, and has to subscribe again.
func (c *Client[F]) sendBatch(b *hub.Batch, policy string, frames []F) {
	var none F
	if i := slices.Index(frames, none); i >= 0 {
		c.handler.untold.Add(1)
		if slices.ContainsFunc(b.Publications(), untoldByBackend) {
			c.close(DisconnectInappropriateProtocol)
			return
		}
		if b.Positioned() {
			frames = frames[:i]
			b.Stop()
			c.reset(b.Subscription())
		} else {
			frames = slices.DeleteFunc(slices.Clone(frames), func(f F) bool { return f == none })
		}
	}
	if len(frames) > 0 {
		_ = c.conn.SendBatch(b.Channel(), policy, frames)
	}
}

// reset has the subscription ended, in the client's turn.
func (c *Client[F]) reset(sub *hub.Subscription) { c.handler.roster.Do(c, func() { c.lost(sub) }) }

// special is what distinguishes a subscriber of a channel from the others.
type special struct {
	filter  *wire.FilterNode
	policy  unique.Handle[string] // of the channel, where it is another than the server's
	expires uint32                // when the token does, in the handler's seconds; 0 is never
	issued  uint32                // when the token was, as in Client
	delta   bool
	hidden  bool // from the presence
	rights  hub.Rights
	invited bool   // the server or the backend renews it, or nobody does, but not the client
	last    []byte // the data of the latest publication that it has, from which a delta may be made
}

// slowPolicy is that of the channel, or empty.
func (s *special) slowPolicy() string {
	if s.policy == (unique.Handle[string]{}) {
		return ""
	}
	return s.policy.Value()
}

func (s *special) needed() bool {
	return s.filter != nil || s.rights != 0 || s.delta || s.hidden || s.policy != (unique.Handle[string]{}) || s.expires > 0
}

// specialSubscriber gets its publications in a way of its own.
type specialSubscriber[F comparable] struct {
	client *Client[F]
	info   atomic.Pointer[json.RawMessage] // what others in the channel may see; nil is nothing
	token  *roster.Holder[*Client[F]]      // nil if the subscription's token has no id
	// filter, delta, hidden, rights, invited and policy are immutable; expires, issued and token are owned by the client's turn; last by it until the
	// start, and by Deliver then.
	special
}

var (
	_ hub.Presenter = (*specialSubscriber[*int])(nil)
	_ hub.Member    = (*specialSubscriber[*int])(nil)
)

// User implements hub.Member.
func (s *specialSubscriber[F]) User() string { return s.client.User() }

// Presence implements hub.Presenter.
func (s *specialSubscriber[F]) Presence() *hub.ClientInfo {
	if s.hidden {
		return nil
	}
	return s.client.clientInfo(s.chanInfo())
}

func (s *specialSubscriber[F]) chanInfo() json.RawMessage {
	if info := s.info.Load(); info != nil {
		return *info
	}
	return nil
}

// setInfo changes what others may see from now on. Nil changes nothing.
func (s *specialSubscriber[F]) setInfo(info json.RawMessage) {
	if info != nil {
		s.info.Store(&info)
	}
}

// Deliver sends what the subscriber wants of b, in the form it wants it in.
func (s *specialSubscriber[F]) Deliver(b *hub.Batch) {
	c := s.client
	switch {
	case b.IsReset():
		c.reset(b.Subscription())
	case s.filter == nil && !s.delta:
		e := c.encoding(false)
		c.sendBatch(b, s.slowPolicy(), hub.Frames(b, e.hub(), c.handler.pushes[e]))
	default:
		frames := make([]F, 0, len(b.Publications()))
		for _, p := range b.Publications() {
			if s.filter != nil && p.Kind == hub.KindMessage && !matches(s.filter, p.Tags) {
				continue
			}
			frames = append(frames, s.frame(b.Channel(), p))
		}
		if len(frames) > 0 {
			c.sendBatch(b, s.slowPolicy(), frames)
		}
	}
}

// frame returns p as the subscriber wants it: as the difference to what it had last, if p was published so, that is the same thing, and it is shorter.
func (s *specialSubscriber[F]) frame(channel string, p *hub.Publication) F {
	h := s.client.handler
	e := s.client.encoding(s.delta)
	if s.delta && p.Kind == hub.KindMessage {
		base, ok := p.Base()
		if ok && sameSlice(base, s.last) {
			e = e.delta()
		}
		s.last = p.Data
	}
	f := hub.Encoded(channel, p, e.hub(), h.pushes[e])
	var none F
	if f == none && p.Kind == hub.KindMessage {
		s.last = nil // for it has not got it
	}
	return f
}

// sameSlice reports whether a and b are the same memory.
func sameSlice(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }
