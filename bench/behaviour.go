package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millpond/millpond/codec"
)

// Behaviour is what subscribers do beside listening. The zero value does nothing.
type Behaviour struct {
	// Stay is how long one stays as it is, on average; then it does one of what clients do: it is reset, ends the
	// stream, says goodbye, stops reading, moves, or asks who is there, each as often as its number says of their sum.
	Stay                                 time.Duration
	Reset, FIN, Close, Slow, Moves, Asks int
	// SlowFor is how long one stops reading.
	SlowFor time.Duration
	// Away is how long one is gone at most before it comes back. Zero means as the SDKs do: 500 ms and a random part
	// of as much, and of twice as much each time that it fails, up to 20 s.
	Away time.Duration
	// Restart says that the server may end connections in any way.
	Restart bool
}

// The SDKs' waiting.
const (
	backoffLeast = 500 * time.Millisecond
	backoffMost  = 20 * time.Second
)

// pause is how long a client waits before it connects again.
func (b *Behaviour) pause(attempts int) time.Duration {
	if b.Away > 0 {
		return rand.N(b.Away)
	}
	step := min(backoffLeast<<min(attempts, 16), backoffMost)
	return min(backoffLeast+rand.N(step), backoffMost)
}

// behave has subscribers do what they do, until ctx ends.
func (c *crowd) behave(ctx context.Context) {
	b := &c.config.Behaviour
	c.coming.Store(true)
	kinds := []struct {
		weight int
		do     func(*visit)
	}{
		{b.Reset, func(v *visit) { v.cut(func() { v.conn.Abort(errCutReset) }) }},
		{b.FIN, func(v *visit) { v.cut(func() { v.conn.Close(errCutFIN) }) }},
		{b.Close, func(v *visit) { v.cut(v.goodbye) }},
		{b.Slow, c.slow},
		{b.Moves, c.move},
		{b.Asks, c.ask},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	rate := 0.0
	if sum > 0 && b.Stay > 0 {
		rate = float64(len(c.members)) / b.Stay.Seconds()
	}
	c.often(ctx, rate, func() {
		v := c.pick()
		n := rand.IntN(sum)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				if v != nil {
					k.do(v)
				}
				break
			}
		}
	})
}

// cut ends a visit that stays.
func (v *visit) cut(end func()) {
	if v.leaves(visitStays, visitEnds) {
		end()
	}
}

// goodbye begins the closing handshake.
func (v *visit) goodbye() {
	v.mustSend(codec.AppendMaskedFrame(nil, codec.OpClose, true, codec.AppendClosePayload(nil, codec.StatusNormal, ""), [4]byte{}))
}

// slow has a visit stop reading for a time in which the server may lose patience.
func (c *crowd) slow(v *visit) {
	if !v.leaves(visitStays, visitSlow) {
		return
	}
	v.mark(visitSlowed)
	v.conn.PauseReading()
	c.later(c.config.Behaviour.SlowFor, func() {
		v.conn.ResumeReading()
		v.leaves(visitSlow, visitStays)
	})
}

// move has a visit leave a channel, and join it again when that is answered.
func (c *crowd) move(v *visit) {
	if !v.leaves(visitStays, visitMoves) {
		return
	}
	c.note(resubscribed)
	i := rand.IntN(c.config.Each)
	b, err := v.dialect.unsubscribing(unsubscribeID+uint32(i), v.subscriber.channel(i))
	if err != nil {
		v.conn.Close(err)
		return
	}
	v.mustSend(b)
}

const resubscribed = "unsubscribing on the same connection"

// ask has a visit ask who is in one of its channels.
func (c *crowd) ask(v *visit) {
	if !v.leaves(visitStays, visitAsks) {
		return
	}
	c.mu.Lock()
	c.asking[v] = time.Since(began)
	c.mu.Unlock()
	i := rand.IntN(c.config.Each)
	b, err := v.dialect.asking(presenceID+uint32(i), v.subscriber.channel(i))
	if err != nil {
		v.conn.Close(err)
		return
	}
	v.mustSend(b)
}

// answered returns when a visit asked who is there, and false if it did not.
func (c *crowd) answered(v *visit) (since time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, ok = c.asking[v]
	delete(c.asking, v)
	return since, ok
}

// errNotPresent is an answer in which who asked is missing.
var errNotPresent = errors.New("presence: who asks, and is subscribed, is not in the answer")

// told takes the answer to who is in a channel, of which it is a subscriber or not.
func (v *visit) told(subscribed bool, h *heard) error {
	c := v.subscriber.crowd
	since, ok := c.answered(v)
	if !ok {
		return errSurplus
	}
	v.leaves(visitAsks, visitStays)
	switch {
	case h.kind == heardError && absent(h.code):
		c.untold.Add(1)
		return nil
	case h.kind == heardError:
		return fmt.Errorf("presence: error %d %.80s", h.code, h.text)
	case subscribed && h.clients == 0:
		c.part.faults.add(errNotPresent)
	}
	c.asked.Add(1)
	c.part.latency(asking).record(v.conn.Loop(), since)
	return nil
}

// asking is the latency from when a client asked who is there until it knew.
const asking = "presence to clients"
