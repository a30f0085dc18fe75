package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millpond/millpond/bench/verify"
)

// This file is what a crowd is told to do by the process that measures, one order at a time; what happens to its
// subscribers meanwhile is in crowd.go.

// order implements job.
func (c *crowd) order(ctx context.Context, name string, args json.RawMessage) (any, error) {
	switch name {
	case "subscribe":
		return nil, c.subscribe(ctx)
	case "publishing":
		c.published.Store(true)
		easeGarbage()
	case "reset":
		for _, l := range c.latencies {
			l.from.Store(int64(time.Since(began)))
		}
	case "gaps":
		c.gaps.Store(true)
	case "trim":
		trim()
	case "await":
		return arguments(args, func(a awaited) (any, error) { return nil, c.await(ctx, a) })
	case "behave":
		c.behave(ctx)
	case "visit":
		c.receive(ctx)
	case "disperse":
		return nil, c.disperse(ctx)
	case "returned":
		return arguments(args, func(since int64) (any, error) { return nil, c.returned(ctx, sinceBegan(since), false) })
	case "gather":
		return nil, c.gather(ctx)
	case "settle":
		return arguments(args, func(a settlement) (any, error) { return c.judge(a), nil })
	default:
		return nil, fmt.Errorf("a crowd has no order %q", name)
	}
	return nil, nil
}

// arguments reads an order's.
func arguments[T any](raw json.RawMessage, do func(T) (any, error)) (any, error) {
	var a T
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	return do(a)
}

// close implements job.
func (c *crowd) close() {
	c.mu.Lock()
	c.stopping.Store(true)
	c.mu.Unlock()
	c.begins.Wait()
	for i := range c.members {
		if v := c.members[i].visit.Load(); v != nil && v.is(visitWired) {
			v.conn.Close(nil)
		}
	}
	awaitNone(c.part.dialect.wired.Load)
}

// subscribe has all connect and subscribe, and returns when each has or failed.
func (c *crowd) subscribe(ctx context.Context) error {
	rate := c.part.Options.connectRate() * c.part.Share
	begin := time.Now()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for begun, settled := 0, 0; settled < len(c.members); {
		for begun < len(c.members) && begun-settled < maxDialing && ctx.Err() == nil && (rate == 0 || float64(begun) < rate*time.Since(begin).Seconds()) {
			c.members[begun].begin()
			begun++
		}
		select {
		case <-c.settles:
			settled++
		case <-ticker.C:
			c.sweep()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if n := int64(len(c.members)) - c.present.Load(); n > 0 {
		return fmt.Errorf("%d of %d connections are not subscribed", n, len(c.members))
	}
	return nil
}

// errSlowStart and errNoGoodbye are servers that do not answer.
var (
	errSlowStart = errors.New("not subscribed in time")
	errNoGoodbye = errors.New("the closing handshake is not answered")
	// errUnanswered is one that does not say who is there.
	errUnanswered = errors.New("presence: not answered in time")
)

// sweep ends visits that wait too long for an answer.
func (c *crowd) sweep() {
	late := time.Since(began) - c.part.Options.timeout()
	if late < 0 {
		return
	}
	for i := range c.members {
		v := c.members[i].visit.Load()
		if v == nil || !v.is(visitWired) || v.since.Load() > uint32(late.Milliseconds()) {
			continue
		}
		switch v.state.Load() {
		case visitOpening, visitMoves:
			v.conn.Close(errSlowStart)
		case visitAsks:
			v.conn.Close(errUnanswered)
		case visitEnds:
			v.state.Store(visitStays) // so that its end is not taken for the answer
			v.conn.Close(errNoGoodbye)
		}
	}
}

// awaited says what was published.
type awaited struct {
	Published []int64       `json:"published"` // by channel, since the beginning
	Failing   bool          `json:"failing"`   // it is an error if something does not come
	Patience  time.Duration `json:"patience"`  // how long nothing may come. Zero means the crowd's
}

// due is how many publications are to come here in all, of those that stay, of so many in each channel.
func (c *crowd) due(published []int64) (sum int64) {
	for n := range c.members {
		for i := range c.config.Each {
			sum += published[c.config.assigned(c.part.First+n, i)]
		}
	}
	return sum
}

// await returns when what was published has come, or nothing comes any more.
func (c *crowd) await(ctx context.Context, a awaited) error {
	sum := c.due(a.Published)
	c.expected.Store(sum)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	last, since := int64(-1), time.Now()
	for {
		now := c.received.Load()
		if now >= sum {
			return nil
		}
		if now != last {
			last, since = now, time.Now()
		}
		failed := a.Failing && len(c.part.faults.all()) > 0
		if still := time.Since(since) > cmp.Or(a.Patience, c.config.Patience); failed || still {
			if !a.Failing {
				return nil
			}
			return fmt.Errorf("%d publications did not come", sum-now)
		}
		select {
		case <-c.reached:
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settlement is where publishers and channels have come to.
type settlement struct {
	Offsets   []uint64   `json:"offsets"`   // by channel; 0 where that is not known
	Sequences [][]uint64 `json:"sequences"` // by channel and publisher
}

// verdict is what a crowd has found.
type verdict struct {
	Counts verify.Counts    `json:"counts"`
	Causes map[string]int64 `json:"causes"` // why connections and subscriptions had to be made again
	Late   int64            `json:"late"`   // publications that came later than patience has it
}

// err says what the server must not have done, or nil.
func (v *verdict) err() error {
	err := v.Counts.Err()
	if v.Late == 0 {
		return err
	}
	late := fmt.Errorf("publications: %d too late", v.Late)
	if err == nil {
		return late
	}
	return fmt.Errorf("%w, %d too late", err, v.Late)
}

// judge ends the connections and counts what never came.
func (c *crowd) judge(a settlement) verdict {
	c.close()
	v := verdict{Causes: c.causes, Late: c.late.Load()}
	for i := range c.desks { // with the locks under which tracks were written
		d := &c.desks[i]
		d.mu.Lock()
		v.Counts.Add(&d.counts)
		d.mu.Unlock()
	}
	for n := range c.members {
		subs := c.members[n].subs()
		for i := range subs {
			k := c.config.assigned(c.part.First+n, i)
			offset := a.Offsets[k]
			if c.gaps.Load() {
				subs[i].track.Forgive()
				offset = 0
			}
			if c.config.Visitors { // it left when it wanted to
				subs[i].track.Settle(&v.Counts, 0)
				continue
			}
			subs[i].track.Settle(&v.Counts, offset, a.Sequences[k]...)
		}
	}
	if c.gaps.Load() { // what a track had no room to remember was counted before that was known
		v.Counts.Offsets.Lost = 0
	}
	return v
}

// gather has all come back once more, and returns when each has all its subscriptions, or cannot.
func (c *crowd) gather(ctx context.Context) error {
	c.coming.Store(true)
	return c.returned(ctx, time.Since(began), true)
}

// returned waits until all have begun a visit since then, and have all their subscriptions. With cut it ends the
// visits of before.
func (c *crowd) returned(ctx context.Context, since time.Duration, cut bool) error {
	back := func(s *subscriber) bool {
		v := s.visit.Load()
		if v != nil && v.due <= since {
			if cut { // if it stays; one that does not read, or moves, will
				v.cut(func() { v.conn.Close(errCutFIN) })
			}
			return false
		}
		return v != nil && v.state.Load() == visitStays
	}
	missing := len(c.members)
	err := await(ctx, c.part.Options.timeout()+2*backoffMost, func() bool {
		missing = 0
		for i := range c.members {
			if !back(&c.members[i]) {
				missing++
			}
		}
		c.sweep()
		return missing == 0
	})
	if err == nil && missing > 0 {
		err = fmt.Errorf("%d of %d clients could not come back", missing, len(c.members))
	}
	return err
}

// receive has visitors come, so many in a second, until ctx ends: each stays a while.
func (c *crowd) receive(ctx context.Context) {
	rate := c.config.VisitRate * c.part.Share
	next := 0
	c.often(ctx, rate, func() {
		if s := c.free(&next); s != nil {
			s.begin()
		} else {
			c.turnedAway.Add(1)
		}
	})
}

// often does something at a rate until ctx ends, and looks meanwhile for visits that wait too long for an answer.
func (c *crowd) often(ctx context.Context, rate float64, do func()) {
	begin, swept := time.Now(), time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for done := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if time.Since(swept) > time.Second {
			c.sweep()
			swept = time.Now()
		}
		for due := int(time.Since(begin).Seconds() * rate); done < due; done++ {
			do()
		}
		next := time.Duration(float64(done+1) / max(rate, 1) * float64(time.Second))
		timer.Reset(min(max(next-time.Since(begin), time.Millisecond), time.Second))
	}
}

// between is a random time, of which mean is what its name says, and never more than four times that.
func between(mean time.Duration) time.Duration {
	return time.Duration(min(rand.ExpFloat64(), 4) * float64(mean))
}

// free returns a visitor that is not there, from the next one on, or nil.
func (c *crowd) free(next *int) *subscriber {
	for range c.members {
		s := &c.members[*next%len(c.members)]
		if *next++; s.absent.Swap(false) {
			return s
		}
	}
	return nil
}

// disperse has all visitors leave, and returns when they have.
func (c *crowd) disperse(ctx context.Context) error {
	for i := range c.members {
		if v := c.members[i].visit.Load(); v != nil && v.is(visitWired) {
			v.conn.Close(errLeft)
		}
	}
	return await(ctx, c.part.Options.timeout(), func() bool { return c.present.Load() == 0 })
}

// pick returns a member that stays, or nil.
func (c *crowd) pick() *visit {
	v := c.members[rand.IntN(len(c.members))].visit.Load()
	if v == nil || v.state.Load() != visitStays {
		return nil
	}
	return v
}
