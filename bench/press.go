package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/bench/verify"
)

// press publishes: so many publishers, each with its channels, which it does one after the other.
type press struct {
	// Immutable after newPress.
	api     *api
	bare    *barePublisher // instead of the API
	size    int
	strict  bool // the server must number publications one by one
	retry   time.Duration
	streams [][]*stream // by publisher
	tops    []top       // by channel
	run     string      // for keys of publications that are sent again

	// Any goroutine (atomic).
	gaps    *atomic.Bool
	retried atomic.Int64
}

// stream is a publisher in a channel.
type stream struct {
	channel int
	title   string // the channel's name
	name    []byte // the same as JSON
	stamp   verify.Stamp
}

// top is where a channel has come to.
type top struct {
	mu          sync.Mutex
	first, last uint64 // offsets that the server said
	published   int64  // publications that it has accepted
	sequences   []uint64
}

// newPress is for so many publishers in the channels. With fewer channels than publishers some have several; each
// returns how many that is in publishersOf.
func newPress(a *api, prefix string, channels, publishers, size int) *press {
	p := &press{api: a, gaps: new(atomic.Bool), size: size, tops: make([]top, channels), run: strconv.FormatUint(rand.Uint64(), 36), streams: make([][]*stream, publishers)}
	per := publishersOf(channels, publishers)
	for k := range channels {
		p.tops[k].sequences = make([]uint64, per)
	}
	add := func(publisher, channel, number int) {
		name := channelName(prefix, channel)
		quoted, _ := json.Marshal(name) // a string
		p.streams[publisher] = append(p.streams[publisher], &stream{
			channel: channel, title: name, name: quoted, stamp: verify.Stamp{Publisher: uint16(number), Channel: verify.Sum(name)},
		})
	}
	if channels >= publishers {
		for k := range channels {
			add(k%publishers, k, 0)
		}
		return p
	}
	for n := range publishers {
		add(n, n%channels, n/channels)
	}
	return p
}

// publishersOf is how many publishers a channel has at most.
func publishersOf(channels, publishers int) int { return max((publishers+channels-1)/channels, 1) }

// errNumbered is a server whose offsets are not what they must be.
var errNumbered = errors.New("the server does not number publications one by one")

// publish publishes the stream's next message, which was due at a time of the clock.
func (p *press) publish(ctx context.Context, s *stream, due int64) error {
	s.stamp.Sequence++
	s.stamp.Time = due
	key := ""
	begin := time.Now()
	for {
		offset, err := p.send(ctx, s, key)
		if err == nil {
			return p.accepted(s.channel, s.stamp, offset)
		}
		if p.retry == 0 || ctx.Err() != nil || time.Since(begin) > p.retry {
			return err
		}
		p.retried.Add(1)
		key = fmt.Sprintf("%s-%d-%d-%d", p.run, s.channel, s.stamp.Publisher, s.stamp.Sequence)
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (p *press) send(ctx context.Context, s *stream, key string) (uint64, error) {
	s.stamp.Lag = lag(s.stamp.Time)
	data := s.stamp.Append(nil, p.size)
	if p.bare != nil {
		return s.stamp.Sequence, p.bare.publish(s.title, s.stamp.Sequence, data)
	}
	return p.api.publish(ctx, s.name, data, key)
}

// lag is how long ago something was due, in milliseconds.
func lag(due int64) uint32 { return uint32(max(0, monotonic()-due) / int64(time.Millisecond)) }

// accepted notes what the server said of a publication in a channel.
func (p *press) accepted(channel int, s verify.Stamp, offset uint64) error {
	t := &p.tops[channel]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published++
	t.sequences[s.Publisher] = s.Sequence
	if t.published == 1 || offset < t.first { // of several publishers, the first answer need not be of the first publication
		t.first = offset
	}
	alone := len(t.sequences) == 1
	if alone && offset > 0 && offset <= t.last && p.retry == 0 {
		return fmt.Errorf("%w: after %d comes %d", errNumbered, t.last, offset)
	}
	if alone && offset > 0 && offset != s.Sequence+t.first-1 {
		p.gaps.Store(true)
	}
	if alone && p.strict && offset != s.Sequence {
		return fmt.Errorf("%w: publication %d of a channel has offset %d", errNumbered, s.Sequence, offset)
	}
	t.last = max(t.last, offset)
	if p.retry > 0 { // a new process may have begun again
		t.last = offset
	}
	return nil
}

// steadily is a rate that does not change.
func steadily(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// note notes that a message was published in a channel by other means, as its publisher's next. There are no fewer
// channels than publishers.
func (p *press) note(channel int, offset uint64) error {
	s := p.streams[channel%len(p.streams)][channel/len(p.streams)]
	s.stamp.Sequence++
	return p.accepted(channel, s.stamp, offset)
}

// gapped reports whether offsets rise, but not by one. Nothing may be published meanwhile.
func (p *press) gapped() bool {
	for k := range p.tops {
		t := &p.tops[k]
		t.mu.Lock()
		if len(t.sequences) > 1 && t.last > 0 && !p.strict && t.last-t.first+1 != uint64(t.published) {
			p.gaps.Store(true) // of a channel with one publisher that is seen at once
		}
		t.mu.Unlock()
	}
	return p.gaps.Load()
}

// herald publishes in many channels at once, by broadcasts, as one more publisher of each.
type herald struct {
	press *press
	names []string // of the first so many channels
	stamp verify.Stamp
}

// herald returns one for the first n channels. It is called once, and before anything is published.
func (p *press) herald(prefix string, n int) *herald {
	h := &herald{press: p, stamp: verify.Stamp{Channel: verify.Everywhere, Publisher: uint16(len(p.tops[0].sequences))}}
	for k := range n {
		h.names = append(h.names, channelName(prefix, k))
	}
	for k := range p.tops { // all have as many publishers
		p.tops[k].sequences = append(p.tops[k].sequences, 0)
	}
	return h
}

// publish publishes the next message in all channels, which was due at a time of the clock.
func (h *herald) publish(ctx context.Context, due int64) error {
	h.stamp.Sequence++
	h.stamp.Time = due
	h.stamp.Lag = lag(due)
	offsets, err := h.press.api.broadcast(ctx, h.names, h.stamp.Append(nil, h.press.size))
	for k, offset := range offsets {
		err = errors.Join(err, h.press.accepted(k, h.stamp, offset))
	}
	return err
}

// split returns two that publish for p, in the channels before k and in those from it on. p must not publish meanwhile.
func (p *press) split(k int) (first, second *press) {
	part := func(belongs func(channel int) bool) *press {
		out := &press{api: p.api, gaps: p.gaps, size: p.size, strict: p.strict, retry: p.retry, tops: p.tops, run: p.run}
		for _, streams := range p.streams {
			var own []*stream
			for _, s := range streams {
				if belongs(s.channel) {
					own = append(own, s)
				}
			}
			if own != nil {
				out.streams = append(out.streams, own)
			}
		}
		return out
	}
	return part(func(c int) bool { return c < k }), part(func(c int) bool { return c >= k })
}

// pace publishes for as long as d, at a rate in all that may change as time passes. Publishers take turns.
func (p *press) pace(ctx context.Context, d time.Duration, rate func(time.Duration) float64) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var publishers sync.WaitGroup
	begin := monotonic()
	for n, streams := range p.streams {
		publishers.Go(func() {
			one := turns{begin: begin, d: d, rate: rate, first: n, of: len(p.streams)}
			err := one.take(ctx, func(i int, due int64) error { return p.publish(ctx, streams[i%len(streams)], due) })
			if err != nil {
				cancel(err)
			}
		})
	}
	publishers.Wait()
	return ended(outer, ctx)
}

// turns are those of one of several that do something at a rate in all, which may change as time passes.
type turns struct {
	begin     int64 // by the clock
	d         time.Duration
	rate      func(time.Duration) float64
	first, of int // the first turn, of so many
}

// take calls do for each turn when it is due, one after the other: what was due earlier than it could be done is done
// late, and told when it was due. It returns when all are done, at the first error, or without one when ctx ends.
func (t turns) take(ctx context.Context, do func(i int, due int64) error) error {
	step := func(at time.Duration) time.Duration { return time.Duration(float64(time.Second) / t.rate(at)) }
	at := step(0) * time.Duration(t.first)
	for i := 0; at < t.d; i++ {
		due := t.begin + int64(at)
		if !slept(ctx, time.Duration(due-monotonic())) {
			break
		}
		if err := do(i, due); err != nil {
			return err
		}
		at += step(at) * time.Duration(t.of)
	}
	return nil
}

// ended is why ctx ended, but for outer's end: that is no error of the load.
func ended(outer, ctx context.Context) error {
	if outer.Err() != nil {
		return outer.Err()
	}
	return context.Cause(ctx)
}

// flood publishes so many messages in each channel, as fast as the server takes them.
func (p *press) flood(ctx context.Context, messages int) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var publishers sync.WaitGroup
	for _, streams := range p.streams {
		publishers.Go(func() {
			for range messages {
				for _, s := range streams {
					if err := p.publish(ctx, s, monotonic()); err != nil {
						cancel(err)
						return
					}
				}
			}
		})
	}
	publishers.Wait()
	return ended(outer, ctx)
}

// published is how much was published, by channel.
func (p *press) published() (out []int64) {
	for k := range p.tops {
		t := &p.tops[k]
		t.mu.Lock()
		out = append(out, t.published)
		t.mu.Unlock()
	}
	return out
}

// sum is how much was published.
func (p *press) sum() (n int64) {
	for _, k := range p.published() {
		n += k
	}
	return n
}

// settlement is where all is when nothing more is published.
func (p *press) settlement() (s settlement) {
	for k := range p.tops {
		t := &p.tops[k]
		t.mu.Lock()
		s.Offsets = append(s.Offsets, t.last)
		s.Sequences = append(s.Sequences, append([]uint64{}, t.sequences...))
		t.mu.Unlock()
	}
	return s
}
