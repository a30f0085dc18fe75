package bench

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/bench/verify"
)

// subscriber is a client that checks all it gets. Its connections come one after another, each a visit; it remembers,
// as the SDKs do, how far it came in each channel. With a connection and two subscriptions it takes some 490 bytes,
// netpoll's included, and no goroutine. Which channels it has, and what they are called, is computed.
type subscriber struct {
	// Immutable after newSubscriber.
	crowd  *crowd
	number int32

	// Owned by whoever has taken its turn: the loop of its visit, and between visits who begins the next.
	attempts uint8 // visits that failed since the last one that did not
	idled    bool  // in its last visit it stopped reading

	// Any goroutine (atomic).
	visit  atomic.Pointer[visit] // nil while it has none
	absent atomic.Bool           // a visitor's: it may begin
}

// subscription is one channel over all visits.
type subscription struct {
	track verify.Track
	past  *past // nil before it has ended once
}

// past is by the clock: since when a subscription is on again, and from when to when it was before. What was due before
// it is on was missed, for a good reason if it was not on then.
type past struct{ since, from, to int64 }

// subs are its subscriptions.
func (s *subscriber) subs() []subscription {
	each := s.crowd.config.Each
	first := (int(s.number) - s.crowd.part.First) * each
	return s.crowd.subs[first : first+each]
}

// channel is the name of subscription i's.
func (s *subscriber) channel(i int) string {
	return channelName(s.crowd.config.Prefix, s.crowd.config.assigned(int(s.number), i))
}

// visit is one connection of a subscriber.
type visit struct {
	speaker

	// Immutable after it was made.
	subscriber *subscriber

	// Owned by the loop goroutine.
	awaited uint16 // answers to subscribe commands

	// Any goroutine (atomic).
	state atomic.Int32  // visitState
	marks atomic.Uint32 // of those below
	since atomic.Uint32 // when the state began, in milliseconds since the program did
}

// What a visit is marked with for good.
const (
	visitWired  uint32 = 1 << iota // conn was given to the poller
	visitSlowed                    // it has stopped reading once
)

func (v *visit) mark(m uint32) { v.marks.Or(m) }

func (v *visit) is(m uint32) bool { return v.marks.Load()&m != 0 }

// visitState is what a visit is at.
type visitState = int32

const (
	visitOpening visitState = iota // it connects and subscribes
	visitStays
	visitMoves // it unsubscribes and subscribes again
	visitAsks  // it wants to know who is there
	visitSlow  // it does not read
	visitEnds  // it was cut off, or waits for the answer to its close frame
	visitOver
)

var _ listener = (*visit)(nil)

// Ids of commands; the index in subs is added.
const (
	subscribeID   = 1000
	unsubscribeID = 2000
	presenceID    = 3000
	maxSubs       = 1000
)

// begin opens a connection.
func (s *subscriber) begin() {
	v := &visit{subscriber: s}
	v.number, v.due = s.number, time.Since(began)
	v.enter(visitOpening)
	s.visit.Store(v)
	d := s.crowd.part.dialect
	if err := v.dial(d, v, s.crowd.part.fleet.source(int(s.number))); err != nil {
		v.onClosed(err)
		return
	}
	v.mark(visitWired)
}

// enter changes the state.
func (v *visit) enter(s visitState) {
	v.since.Store(uint32(time.Since(began).Milliseconds()))
	v.state.Store(s)
}

// leaves changes the state if it is from, and reports whether it was.
func (v *visit) leaves(from, to visitState) bool {
	if !v.state.CompareAndSwap(from, to) {
		return false
	}
	v.since.Store(uint32(time.Since(began).Milliseconds()))
	return true
}

// OnData implements poller.Events.
func (v *visit) OnData(b []byte) (rest []byte) { return v.data(v, b) }

// OnClose implements poller.Events.
func (v *visit) OnClose(cause error) { v.closed(v, cause) }

// onReady implements listener.
func (v *visit) onReady() {
	s, subs := v.subscriber, v.subscriber.subs()
	if s.crowd.config.Bare { // the yardstick sends all it has to everybody
		for i := range subs {
			subs[i].track.Place("", 0, s.crowd.starts...)
			subs[i].track.On = true
		}
	} else {
		v.awaited = uint16(len(subs))
		for i := range subs {
			if err := v.subscribe(i); err != nil {
				v.conn.Close(err)
				return
			}
		}
	}
	if v.awaited == 0 {
		v.settled()
	}
}

// subscribe sends the command for subs[i].
func (v *visit) subscribe(i int) error {
	sub := &v.subscriber.subs()[i]
	var since *position
	if sub.track.Placed() {
		epoch, offset := sub.track.Position()
		if epoch != "" {
			since = &position{epoch, offset}
		}
	}
	b, err := v.dialect.subscribing(subscribeID+uint32(i), v.subscriber.channel(i), since)
	if err == nil {
		v.mustSend(b)
	}
	return err
}

// settled notes that all is subscribed.
func (v *visit) settled() {
	v.subscriber.attempts = 0
	v.leaves(visitOpening, visitStays)
	v.subscriber.crowd.arrived(v)
}

// onMessage implements listener.
func (v *visit) onMessage(payload []byte) error {
	d := &v.subscriber.crowd.desks[v.conn.Loop()]
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.recall(payload); known != nil {
		for i := range known.pubs {
			v.take(d, &known.pubs[i], false)
		}
		return nil
	}
	return d.read(v.dialect, payload, func(h *heard) error { return v.heard(d, h) })
}

// heard takes what is not known yet.
func (v *visit) heard(d *desk, h *heard) error {
	s := v.subscriber
	i := int(h.id % subscribeID)
	known := h.id >= subscribeID && i < s.crowd.config.Each
	switch {
	case h.kind == heardPublication:
		v.take(d, d.parsed(h.channel, h.pubs[0]), false)
	case h.id >= presenceID && known && (h.kind == heardAnswer || h.kind == heardError):
		return v.told(s.subs()[i].track.On, h)
	case h.kind == heardError:
		return fmt.Errorf("subscribe: error %d %.80s", h.code, h.text)
	case h.kind == heardEnd:
		return v.ended(d, h)
	case h.kind == heardAnswer && known && h.id < unsubscribeID:
		return v.subscribed(d, i, h)
	case h.kind == heardAnswer && known:
		s.subs()[i].turnOff()
		return v.subscribe(i)
	case h.kind == heardAnswer && h.id > 0:
		return errSurplus
	}
	return nil
}

var errNoPositions = errors.New("subscribe: the channel has no recovery")

// subscribed takes the answer to a subscribe command.
func (v *visit) subscribed(d *desk, i int, h *heard) error {
	s, sub := v.subscriber, &v.subscriber.subs()[i]
	if sub.track.On {
		return errSurplus
	}
	if h.at.epoch == "" && s.crowd.config.Positions {
		return errNoPositions
	}
	if !s.crowd.config.Personal || i > 0 { // what others have, too
		h.at.epoch = s.crowd.intern(h.at.epoch)
	}
	if sub.track.On = true; sub.past != nil {
		sub.past.since = monotonic()
	}
	switch {
	case !sub.track.Placed():
		sub.track.Place(h.at.epoch, h.at.offset, s.crowd.known()...)
	case h.asked && h.resumed:
		sub.track.Recover(&d.counts, true, h.at.epoch, h.at.offset)
		for _, p := range h.pubs {
			v.take(d, d.parsed(v.subscriber.channel(i), p), true)
		}
	default:
		sub.track.Recover(&d.counts, false, h.at.epoch, h.at.offset)
	}
	if v.leaves(visitMoves, visitStays); v.awaited > 0 {
		if v.awaited--; v.awaited == 0 {
			v.settled()
		}
	}
	return nil
}

// resubscribable are the codes of ends from which on a client subscribes again.
const resubscribable = 2500

// ended takes the server's end of a subscription.
func (v *visit) ended(d *desk, h *heard) error {
	i := v.subscriber.find(channelNumber(d.prefix, h.channel))
	if i < 0 || !v.subscriber.subs()[i].track.On {
		d.counts.Foreign++
		return nil
	}
	if h.code < resubscribable {
		return fmt.Errorf("unsubscribed with %d %.80s", h.code, h.text)
	}
	v.subscriber.subs()[i].turnOff()
	v.subscriber.crowd.note(fmt.Sprintf("the server's end of a subscription with %d", h.code))
	return v.subscribe(i)
}

// turnOff notes that nothing is to come any more.
func (s *subscription) turnOff() {
	if !s.track.On {
		return
	}
	if s.track.On = false; s.past == nil {
		s.past = &past{}
	}
	s.past.from, s.past.to = s.past.since, monotonic()
}

// find returns which of its subscriptions is that of channel k, -1 if none is.
func (s *subscriber) find(k int) int {
	for i := range s.crowd.config.Each {
		if s.crowd.config.assigned(int(s.number), i) == k {
			return i
		}
	}
	return -1
}

// take looks at one publication.
func (v *visit) take(d *desk, p *parsed, missed bool) {
	c := v.subscriber.crowd
	i := v.subscriber.find(p.channel)
	if i < 0 {
		d.counts.Foreign++
		return
	}
	sub := &v.subscriber.subs()[i]
	switch {
	case !sub.track.On:
		d.counts.Foreign++
		return
	case p.changed:
		d.counts.Changed++
		return
	}
	sent, was := p.stamp.Sent(), sub.past
	if missed = missed || was != nil && sent < was.since; missed {
		d.counts.Recovered++
		if was != nil && sent > was.from && sent < was.to-int64(c.config.Overdue) && !v.subscriber.idled {
			c.late.Add(1) // it should have come then
		}
	} else {
		d.counts.Delivered++
	}
	if !sub.track.Take(&d.counts, c.channel(p.channel, p.sum), p.stamp, p.offset) {
		return
	}
	if !missed && !v.is(visitSlowed) { // what waited while it did not read is not the server's
		c.delivered(v.conn.Loop(), p.channel, p.stamp)
	}
	c.got()
}

// onClosed implements listener.
func (v *visit) onClosed(cause error) {
	s := v.subscriber
	for subs, i := s.subs(), 0; i < len(subs) && !s.crowd.stopping.Load(); i++ {
		subs[i].turnOff()
	}
	s.idled = v.is(visitSlowed)
	was := v.state.Swap(visitOver)
	if was == visitAsks {
		s.crowd.answered(v)
	}
	s.visit.Store(nil)
	s.crowd.parted(v, was, cause)
}

// The ends that a subscriber makes.
var (
	errCutReset = errors.New("a reset (RST)")
	errCutFIN   = errors.New("the end of the stream (FIN)")
	errCutClose = errors.New("a closing handshake") // as the server answers it
	errLeft     = errors.New("its leaving")
)
