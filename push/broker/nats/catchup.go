package nats

// How a node comes from where it stood to a stream's end, and finds out on the way of which channels messages are missing: these alone begin
// anew. All of it runs in the goroutine that reads the group (group.session).

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// entry is a message of the log.
type entry struct {
	subject string
	data    []byte
	seq     uint64
	at      time.Time
	quiet   bool // it is kept, and not handed over
}

// catchUp is the way from where a node stood to the stream's end, and then on.
type catchUp struct {
	from uint64 // the first sequence that is wanted
	end  uint64 // the stream's end as the way began
	seen uint64 // everything up to it came, or will not come any more
	done bool   // it has been at the end
	// survey is not nil while it is to be found out of which channels messages are missing.
	survey *survey
}

// survey finds out of which subjects messages left the stream before they were read: a subject of which one has gone for others has as many
// as a subject may have after it. So all is known when everything was counted from before the first message that is missing to where the stream ended
// after the last one was missed.
type survey struct {
	from   uint64 // before the first one that is missing
	to     uint64 // where it ends
	limit  int    // of messages of a subject
	gap    uint64 // behind the last ones that are missing
	again  bool   // they were missed since to was asked for
	late   bool   // to was asked for after the reading had begun, so that a message may have been the last one before
	counts map[string]tally

	// holding says that what comes waits until the end, with its bytes: subscribers have to be told first.
	holding bool
	held    []entry
	bytes   int
}

// tally is what a survey knows of a subject.
type tally struct {
	n       int
	cleared bool // a removal was among them, which took messages along
}

func newSurvey(from uint64, st state, holding bool) *survey {
	return &survey{from: from, to: st.last, limit: st.limit, counts: map[string]tally{}, holding: holding}
}

func (s *survey) count(e entry) {
	t := s.counts[e.subject]
	t.n++
	t.cleared = t.cleared || isClear(e.data)
	s.counts[e.subject] = t
}

// complete reports whether all was counted with a message, which was the last one when the server sent it or not.
func (s *survey) complete(seq uint64, last bool) bool {
	return !s.again && (seq >= s.to || last && !s.late)
}

// suspects are the channels of which messages may be missing.
func (s *survey) suspects(prefix string) map[string]bool {
	list := map[string]bool{}
	for subject, t := range s.counts {
		if channel, ok := channelOf(subject, prefix); ok && (t.n >= s.limit || t.cleared) {
			list[channel] = true
		}
	}
	return list
}

// begin compares a stream with what was read of it, and says where to go on. What is not the stream that it was begins anew.
func (g *group) begin(ctx context.Context, st state) (catchUp, error) {
	g.mu.Lock()
	epoch, read, fresh, lost := g.epoch, g.read, g.isFreshLocked(), g.lost
	g.mu.Unlock()
	if !fresh && st.epoch == epoch && (lost || st.last < read) {
		var err error
		if st, err = g.broker.renew(ctx, g.n, epoch); err != nil {
			return catchUp{}, fmt.Errorf("%w: %w", errLost, err)
		}
	}
	var why string
	switch {
	case fresh:
		g.mu.Lock()
		g.beginAnewLocked(st)
		g.mu.Unlock()
		return anew(st), nil
	case st.epoch != epoch:
		why = "the stream began anew"
	case st.evicted(read):
		why = "more was published meanwhile than is kept"
	default: // what was read last comes once more, to see that it is the same
		return catchUp{from: max(read, 1), end: st.last, seen: read}, nil
	}
	return anew(st), g.reset(ctx, st, why)
}

// anew is the way from a stream's beginning.
func anew(st state) catchUp {
	return catchUp{from: st.first, end: st.last, seen: st.first - 1, survey: newSurvey(st.first-1, st, false)}
}

// isFreshLocked reports whether the stream is read from its beginning, and not at its end yet.
func (g *group) isFreshLocked() bool {
	select {
	case <-g.ready:
		return false
	default:
		return true
	}
}

func (g *group) beginAnewLocked(st state) {
	g.epoch, g.lost = st.epoch, false
	g.forgetLocked(st.floor)
	g.read, g.old = st.first-1, st.last
}

// reset forgets what was read and tells all subscribers that rely on it, at a bounded rate, before anything else comes to them.
func (g *group) reset(ctx context.Context, st state, why string) error {
	g.mu.Lock()
	g.beginAnewLocked(st)
	if !g.isFreshLocked() { // until it is at the end, nobody is told where it stands
		g.ready = make(chan struct{})
	}
	g.mu.Unlock()
	g.broker.config.Logger.Warn("broker: subscribers of a part of the channels must begin anew", "stream", g.broker.streamName(g.n), "because", why)
	var channels []string
	g.broker.sink.Channels(func(name string, _ int) bool {
		if g.broker.groupOf(name) == g {
			channels = append(channels, name)
		}
		return true
	})
	for _, name := range channels {
		if err := g.broker.resets.Wait(ctx); err != nil {
			return err
		}
		g.resetOne(name)
	}
	return nil
}

func (g *group) resetOne(channel string) {
	g.broker.resetCount.Add(1)
	g.broker.sink.Deliver(channel, &hub.Publication{Kind: hub.KindReset})
	g.broker.sink.Flush(channel)
}

// take looks at one message, which is the last one for now or not.
func (g *group) take(ctx context.Context, c *catchUp, e entry, last bool) error {
	if e.seq > c.seen+1 {
		if c.survey == nil {
			c.survey = &survey{from: c.seen, counts: map[string]tally{}, holding: true}
		}
		c.survey.gap, c.survey.again = e.seq, true
	}
	c.seen = max(c.seen, e.seq)
	s := c.survey
	if s == nil {
		if err := g.apply(ctx, e); err != nil || c.done || !last && e.seq < c.end {
			return err
		}
		return g.atEnd(ctx, c)
	}
	if s.again && e.seq >= s.to {
		if err := g.extend(ctx, s); err != nil {
			return err
		}
	}
	s.count(e)
	if !s.holding {
		if err := g.apply(ctx, e); err != nil {
			return err
		}
	} else if s.held = append(s.held, e); s.bytes+len(e.data) > g.broker.config.CatchUpBytes {
		return g.giveUp(ctx, c)
	}
	s.bytes += len(e.data) + len(e.subject) + 64
	if s.complete(e.seq, last) {
		return g.atEnd(ctx, c)
	}
	return nil
}

// extend asks where the stream ends now. What else may have happened to it is found out by another session.
func (g *group) extend(ctx context.Context, s *survey) error {
	st, err := g.present(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.holding && st.evicted(s.from) || st.epoch != g.epoch {
		return errors.New("the stream is not what it was")
	}
	if !s.holding {
		g.old = max(g.old, st.last)
	}
	s.to, s.limit, s.again, s.late = st.last, st.limit, false, true
	return ctx.Err()
}

// giveUp is called when of which channels messages are missing cannot be found out. It is as if it were all.
func (g *group) giveUp(ctx context.Context, c *catchUp) error {
	s := c.survey
	c.survey = nil
	st, err := g.present(ctx)
	if err != nil {
		return err
	}
	solid := st.floor
	st.floor, st.last, st.first = max(st.floor, c.seen), c.seen, s.from+1
	if err := g.reset(ctx, st, "more was missed than nats-catch-up-bytes"); err != nil {
		return err
	}
	g.mu.Lock()
	g.rings.solid = solid // most of it is in the log
	g.mu.Unlock()
	for _, e := range s.held {
		if err := g.apply(ctx, e); err != nil {
			return err
		}
	}
	return g.atEnd(ctx, c)
}

// atEnd is called when nothing of what was in the stream when its end was asked for is on the way any more.
func (g *group) atEnd(ctx context.Context, c *catchUp) error {
	s := c.survey
	c.survey = nil
	prefix := g.broker.config.Link.Prefix()
	if s != nil && s.holding {
		if err := g.letGo(ctx, s, s.suspects(prefix)); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ctx.Err(); err != nil { // rest came between
		return err
	}
	if s != nil && !s.holding {
		for channel := range s.suspects(prefix) {
			g.raiseLocked(channel, c.seen)
		}
	}
	if !c.done && g.read < c.end { // the last ones are gone
		g.moveLocked(c.end, time.Time{})
		c.seen = max(c.seen, c.end)
	}
	c.done, g.wrong = true, nil
	if g.isFreshLocked() {
		close(g.ready)
	}
	return nil
}

// letGo applies what was held. Of suspects, nothing before the last gap is handed over, and there their subscribers are told: also those who have
// subscribed meanwhile.
func (g *group) letGo(ctx context.Context, s *survey, suspects map[string]bool) error {
	g.mu.Lock()
	before := g.rings.bytes
	for channel := range suspects {
		g.rings.clear(g.rings.get(channel), s.gap-1)
	}
	g.broker.ringBytes.Add(int64(g.rings.bytes - before))
	g.mu.Unlock()
	prefix := g.broker.config.Link.Prefix()
	for _, e := range s.held {
		if e.seq == s.gap {
			for channel := range suspects {
				if err := g.broker.resets.Wait(ctx); err != nil {
					return err
				}
				g.resetOne(channel)
			}
		}
		if channel, ok := channelOf(e.subject, prefix); ok && e.seq < s.gap && suspects[channel] {
			e.quiet = true
		}
		if err := g.apply(ctx, e); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for channel := range suspects { // behind what is missing there are more than a ring keeps, so that it has no gap
		if r := g.rings.get(channel); len(r.log) > 0 {
			r.floor = r.log[0].Offset - 1
		}
	}
	return nil
}

// raiseLocked notes that messages before the first one of a channel that is kept may be missing.
func (g *group) raiseLocked(channel string, last uint64) {
	r := g.rings.get(channel)
	if len(r.log) > 0 {
		last = r.log[0].Offset - 1
	}
	r.floor = max(r.floor, last)
}
