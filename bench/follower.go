package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// follower is a client of Loss. Its connections come one after another, each a visit; it remembers, as the SDKs do, how far it
// came in each channel.
type follower struct {
	// Immutable after newFollower.
	loss   *loss
	number int

	// Owned by the visit, while there is one, else by live.
	channels []*followed
	counts   LossCounts

	// Owned by live.
	slowed bool // it has stopped reading in this visit
}

// followed is a subscription over all visits.
type followed struct {
	channel    *numberedChannel
	placed     bool // it was subscribed once, and these count:
	epoch      string
	last       uint64              // the highest number that came
	missing    map[uint64]struct{} // lower ones that did not
	subscribed bool
}

func (l *loss) newFollower(number int) *follower {
	f := &follower{loss: l, number: number}
	for i := range l.config.Subscriptions {
		c := l.channels[(number+i*7)%len(l.channels)]
		for f.find(c.name) != nil { // 7 may divide the number of channels
			c = l.channels[rand.IntN(len(l.channels))]
		}
		f.channels = append(f.channels, &followed{channel: c, missing: map[uint64]struct{}{}})
	}
	return f
}

func (f *follower) find(name string) *followed {
	for _, c := range f.channels {
		if c.channel.name == name {
			return c
		}
	}
	return nil
}

// settle counts what never came. It is called when all is over.
func (f *follower) settle() {
	for _, c := range f.channels {
		f.counts.Lost += int64(len(c.missing))
		if published := c.channel.published.Load(); c.placed && published > c.last {
			f.counts.Lost += int64(published - c.last)
		}
	}
}

// take looks at one publication.
func (f *follower) take(c *followed, p *wire.Publication) {
	f.loss.checked.Add(1)
	digits, ok := bytes.CutPrefix(p.Data, []byte(`{"n":`))
	end := bytes.IndexByte(digits, ',')
	if !ok || end < 0 {
		f.counts.Changed++
		return
	}
	n, err := strconv.ParseUint(string(digits[:end]), 10, 64)
	if err != nil || !bytes.Equal(p.Data, c.channel.data(n, f.loss.config.MessageBytes)) {
		f.counts.Changed++
		return
	}
	if p.Offset != n {
		f.counts.Mismatches++
	}
	if n <= c.last {
		if _, late := c.missing[n]; late {
			delete(c.missing, n)
			f.counts.Reordered++
		} else {
			f.counts.Doubled++
		}
		return
	}
	for i := c.last + 1; i < n; i++ {
		c.missing[i] = struct{}{}
	}
	c.last = n
}

// request is the subscribe command for f.channels[i].
func (f *follower) request(i int) *wire.Command {
	c := f.channels[i]
	s := &wire.SubscribeRequest{Channel: c.channel.name}
	if c.placed {
		s.Recover, s.Epoch, s.Offset = true, c.epoch, c.last
	}
	return &wire.Command{Id: subscribeID + uint32(i), Subscribe: s}
}

// Ids of commands; the index in channels is added.
const (
	subscribeID   = 1000
	unsubscribeID = 2000
)

// place looks at the answer to a subscribe command.
func (f *follower) place(c *followed, r *wire.SubscribeResult) {
	c.subscribed = true
	if !c.placed {
		c.placed, c.epoch, c.last = true, r.Epoch, r.Offset
		return
	}
	if !r.Recovered {
		f.counts.Unrecovered++
		f.counts.Skipped += int64(r.Offset) - int64(c.last)
		c.epoch, c.last = r.Epoch, max(r.Offset, c.last)
		return
	}
	f.counts.Recoveries++
	f.counts.Recovered += int64(len(r.Publications))
	if r.Epoch != c.epoch {
		f.counts.Mismatches++
	}
	for _, p := range r.Publications {
		f.take(c, p)
	}
}

// visit is one connection of a follower.
type visit struct {
	speaker

	// Immutable after live has made it.
	follower *follower

	// Owned by the loop goroutine.
	awaited int // answers to subscribe commands
	cause   error

	// Any goroutine (atomic).
	between atomic.Bool // a channel is being left and joined again

	subscribed chan struct{} // closed when all channels are
	gone       chan struct{} // closed when the connection is; cause is then set
}

var _ listener = (*visit)(nil)

// onReady implements listener.
func (v *visit) onReady() {
	f := v.follower
	var commands []*wire.Command
	for i := range f.channels {
		commands = append(commands, f.request(i))
	}
	v.awaited = len(commands)
	if err := v.command(commands...); err != nil {
		v.conn.Close(err)
	}
}

// onMessage implements listener.
func (v *visit) onMessage(payload []byte) error {
	for r, err := range v.dialect.codec.Replies(payload) {
		if err == nil {
			err = v.reply(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) reply(r *wire.Reply) error {
	f := v.follower
	index := int(r.Id) % subscribeID
	switch {
	case r.Error != nil:
		return fmt.Errorf("error %d %s", r.Error.Code, r.Error.Message)
	case r.Push != nil && r.Push.Pub != nil:
		c := f.find(r.Push.Channel)
		if c == nil || !c.subscribed {
			return errSurplus
		}
		f.counts.Delivered++
		f.take(c, r.Push.Pub)
		return nil
	case r.Subscribe != nil && index < len(f.channels):
		f.place(f.channels[index], r.Subscribe)
		v.between.Store(false)
		if v.awaited--; v.awaited == 0 {
			close(v.subscribed)
		}
		return nil
	case r.Unsubscribe != nil && index < len(f.channels):
		f.channels[index].subscribed = false
		return v.command(f.request(index))
	}
	return errSurplus
}

// onClosed implements listener.
func (v *visit) onClosed(cause error) {
	v.cause = cause
	for _, c := range v.follower.channels {
		c.subscribed = false
	}
	close(v.gone)
}

// The ends that a follower makes.
var (
	errCutReset = errors.New("a reset (RST)")
	errCutFIN   = errors.New("the end of the stream (FIN)")
	errCutClose = errors.New("a closing handshake")
	errOver     = errors.New("the end of the run")
)

const resubscribed = "unsubscribing on the same connection"

// visitTimeout is how long connecting and subscribing may take, lastVisits how often it may fail when all is published.
const (
	visitTimeout = 20 * time.Second
	lastVisits   = 20
)

// live connects again and again until the end, and a last time then. It notes in first when it is first subscribed.
func (f *follower) live(ctx context.Context, first chan<- struct{}) {
	for last := 0; last < lastVisits; {
		over := closed(f.loss.draining)
		if over {
			last++
		}
		f.slowed = false
		v := &visit{follower: f, subscribed: make(chan struct{}), gone: make(chan struct{})}
		if err := v.dial(f.loss.dialect, v, source(f.loss.dialect.target, 0)); err != nil {
			f.loss.fail(err)
			return
		}
		select {
		case <-v.subscribed:
			if first != nil {
				first <- struct{}{}
				first = nil
			}
		case <-v.gone:
		case <-ctx.Done():
			v.conn.Close(errOver)
		case <-time.After(visitTimeout):
			v.conn.Close(fmt.Errorf("not subscribed after %v", visitTimeout))
		}
		if over {
			pause(500*time.Millisecond, v.gone, ctx.Done()) // for what should not come
			v.conn.Close(errOver)
		} else if ctx.Err() == nil && !closed(v.gone) {
			f.stay(ctx, v)
		}
		<-v.gone
		if f.parted(v.cause) || ctx.Err() != nil {
			return
		}
		pause(rand.N(max(f.loss.config.Away, 1)), f.loss.draining, ctx.Done())
	}
}

// parted notes why a connection ended, and reports whether it was the last.
func (f *follower) parted(cause error) (last bool) {
	var byServer *closedByServer
	switch {
	case errors.Is(cause, errOver):
		return true
	case errors.Is(cause, errCutReset), errors.Is(cause, errCutFIN), errors.Is(cause, errCutClose):
		f.loss.note(cause.Error())
	case errors.As(cause, &byServer) && byServer.code >= 3000 && byServer.code < 3500:
		f.loss.note("the server's " + cause.Error())
	case errors.As(cause, &byServer) && byServer.code == codec.StatusNormal:
		f.loss.note(errCutClose.Error())
	case f.slowed:
		f.loss.note("being cut off while it did not read")
	case cause == nil:
		f.loss.fail(errHungUp)
	default:
		f.loss.fail(cause)
	}
	return false
}

// stay stays a while and then does one of the things that clients do.
func (f *follower) stay(ctx context.Context, v *visit) {
	for {
		pause(between(f.loss.config.Stay), v.gone, f.loss.draining, ctx.Done())
		if closed(f.loss.draining) || ctx.Err() != nil {
			v.conn.Close(errCutFIN)
		}
		if closed(v.gone) || closed(f.loss.draining) || ctx.Err() != nil {
			return
		}
		switch rand.IntN(5) {
		case 0:
			v.conn.Abort(errCutReset)
			return
		case 1:
			v.conn.Close(errCutFIN)
			return
		case 2:
			v.send(codec.AppendMaskedFrame(nil, codec.OpClose, true, codec.AppendClosePayload(nil, codec.StatusNormal, ""), [4]byte{}))
			pause(visitTimeout, v.gone)
			v.conn.Close(errors.New("the closing handshake is not answered"))
			return
		case 3:
			f.slow(ctx, v)
		default:
			if v.between.Swap(true) { // else it might subscribe twice to the same
				continue
			}
			i := rand.IntN(len(f.channels))
			_ = v.command(&wire.Command{Id: unsubscribeID + uint32(i), Unsubscribe: &wire.UnsubscribeRequest{Channel: f.channels[i].channel.name}})
			f.loss.note(resubscribed)
		}
	}
}

// slow stops reading for a time in which the server should lose patience.
func (f *follower) slow(ctx context.Context, v *visit) {
	f.slowed = true
	v.conn.PauseReading()
	pause(f.loss.config.Slow, v.gone, ctx.Done())
	v.conn.ResumeReading()
}

// closed reports whether c is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause waits for d, or less if one of the channels is closed: three of them at most.
func pause(d time.Duration, until ...<-chan struct{}) {
	var c [3]<-chan struct{}
	copy(c[:], until)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c[0]:
	case <-c[1]:
	case <-c[2]:
	}
}
