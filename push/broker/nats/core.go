package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millpond/millpond/push/hub"
)

// Channels without history go over partitions: subjects that are subscribed to from the first local subscriber of any of their channels on.

const (
	handlers     = 8    // goroutines that hand over; each has a part of the partitions
	handlerQueue = 8192 // messages that wait for one; more are dropped, and counted
)

// partition is one of the subjects.
type partition struct {
	mu    sync.Mutex
	users int
	idle  time.Time // since when there are none
	sub   *gonats.Subscription
}

func (b *Broker) partitionOf(channel string) (*partition, int) {
	n := int(hash(channel) % uint64(len(b.partitions)))
	return &b.partitions[n], n
}

// joinPartition returns when the server sends what is published.
func (b *Broker) joinPartition(ctx context.Context, channel string) error {
	p, n := b.partitionOf(channel)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sub == nil {
		var err error
		if p.sub, err = b.config.Link.conn.ChanSubscribe(subjectOf(b.config.Link.Prefix(), kindPartition, n, ""), b.handler(n)); err != nil {
			return unavailable(err)
		}
		p.idle = time.Now()
		if b.config.Link.Connected() { // else it is told of with the new connection, and until then nothing comes in any case
			ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
			defer cancel()
			if err := b.config.Link.Flush(ctx); err != nil && b.config.Link.Connected() {
				return err
			}
		}
	}
	p.users++
	return nil
}

func (b *Broker) leavePartition(channel string) {
	p, _ := b.partitionOf(channel)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users == 0 {
		p.idle = time.Now()
	}
}

// rest leaves the partition if nobody has used it since a time. It returns how many messages were dropped for it.
func (p *partition) rest(since time.Time) (dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sub == nil || p.users > 0 || p.idle.After(since) {
		return 0
	}
	dropped, _ = p.sub.Dropped()
	_ = p.sub.Unsubscribe()
	p.sub = nil
	return dropped
}

// dropped returns the number of messages that came faster than they were handed over, and whether the partition is read.
func (p *partition) dropped() (n int, active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sub == nil {
		return 0, false
	}
	n, _ = p.sub.Dropped()
	return n, true
}

// handler returns where the messages of a partition go, beginning to hand them over with the first.
func (b *Broker) handler(n int) chan *gonats.Msg {
	b.handing.Do(func() {
		for i := range b.handlers {
			b.handlers[i] = make(chan *gonats.Msg, handlerQueue)
			b.spawn(func() { b.handOver(b.handlers[i]) })
		}
	})
	return b.handlers[n%handlers]
}

func (b *Broker) handOver(messages <-chan *gonats.Msg) {
	for {
		select {
		case <-b.ctx.Done():
			return
		case m := <-messages:
			b.handOverOne(m)
		}
	}
}

func (b *Broker) handOverOne(m *gonats.Msg) {
	e, err := decode(m.Data)
	if err != nil || e.channel == "" || e.kind >= kindClear {
		b.foreign(m.Subject, err)
		return
	}
	if !b.sink.Subscribed(e.channel) || b.sink.Admit(b.ctx, e.channel) != nil {
		return
	}
	p := e.publication(0)
	b.follow(e.channel, &e, p)
	b.sink.Deliver(e.channel, p)
	b.sink.Flush(e.channel)
}

// publishCore sends to whoever is there. What must be made only once is claimed in the log first.
func (b *Broker) publishCore(ctx context.Context, g *group, channel string, e envelope, o hub.PublishOptions) error {
	e.channel, e.retention = channel, hub.Retention{}
	body, err := e.encode()
	if err != nil {
		return err
	}
	if o.Version == 0 && o.IdempotencyKey == "" {
		return b.send(channel, body)
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	a, err := b.attempt()
	if err != nil {
		return err
	}
	first, err := g.claim(ctx, channel, o, a)
	if err == nil && first {
		err = b.send(channel, body)
	}
	a.end(err == nil)
	return err
}

func (b *Broker) send(channel string, body []byte) error {
	_, n := b.partitionOf(channel)
	if err := b.config.Link.conn.Publish(subjectOf(b.config.Link.Prefix(), kindPartition, n, ""), body); err != nil {
		return refusal(err)
	}
	return nil
}

// claim reports whether nobody has published this before, by its version or by its key.
func (g *group) claim(ctx context.Context, channel string, o hub.PublishOptions, a *attempt) (first bool, err error) {
	if o.Version != 0 {
		if first, err = g.claimVersion(ctx, channel, o, a); err != nil || !first {
			return false, err
		}
	}
	if o.IdempotencyKey != "" {
		return g.claimKey(ctx, channel, o.IdempotencyKey, a)
	}
	return true, nil
}

// claimKey reports whether nobody has published with this key before.
func (g *group) claimKey(ctx context.Context, channel, key string, a *attempt) (bool, error) {
	e := envelope{kind: kindClaim, channel: channel, rare: rare{Claim: a.token}}
	body, err := e.encode()
	if err != nil {
		return false, err
	}
	ack, err := g.append(ctx, &gonats.Msg{Subject: g.subject(kindTransient, slotOf(channel)), Data: body}, jetstream.WithMsgID(messageID(channel, key)))
	if err != nil || !ack.Duplicate {
		return err == nil, err
	}
	token, at, err := g.claimant(ctx, ack.Sequence)
	if err != nil {
		return false, err
	}
	return a.owns(ctx, token, at)
}

// claimVersion reports whether no version that is not lower was published before, and notes this one.
func (g *group) claimVersion(ctx context.Context, channel string, o hub.PublishOptions, a *attempt) (bool, error) {
	const tries = 10
	subject := g.subject(kindVersion, escape(channel))
	e := envelope{kind: kindClaim, rare: rare{Version: o.Version, VersionEpoch: o.VersionEpoch, Claim: a.token}}
	body, err := e.encode()
	if err != nil {
		return false, err
	}
	for range tries {
		last, seq, at, err := g.lastVersion(ctx, subject)
		if err != nil {
			return false, err
		}
		if last.Version != 0 && last.VersionEpoch == o.VersionEpoch && o.Version <= last.Version {
			if o.Version < last.Version {
				return false, nil
			}
			return a.owns(ctx, last.Claim, at)
		}
		if _, err = g.append(ctx, &gonats.Msg{Subject: subject, Data: body}, jetstream.WithExpectLastSequencePerSubject(seq)); err == nil {
			return true, nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.Code != 400 {
			return false, err
		}
	} // else somebody was faster
	return false, fmt.Errorf("%w: others publish versions of %q at the same time", hub.ErrTooManyRequests, channel)
}

// leading is the stream as its leader has it. A direct get is answered by any of the servers, of which one may be behind:
// a claim that it has not is not one that nobody made.
func (g *group) leading(ctx context.Context) (jetstream.Stream, error) {
	s, err := g.broker.js.Stream(ctx, g.broker.streamName(g.n))
	if err == nil {
		s.CachedInfo().Config.AllowDirect = false // of this call's own
	}
	return s, err
}

func (g *group) lastVersion(ctx context.Context, subject string) (last rare, seq uint64, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	s, err := g.leading(ctx)
	if err != nil {
		return rare{}, 0, at, refusal(err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return rare{}, 0, at, nil
	}
	if err != nil {
		return rare{}, 0, at, refusal(err)
	}
	e, err := decode(m.Data)
	if err != nil {
		e = envelope{} // it is nobody's, and goes
	}
	return e.rare, m.Sequence, m.Time, nil
}

// slotOf is the last token of the subject for what passes by a channel's history.
func slotOf(channel string) string { return strconv.FormatUint(hash(channel)>>32%slots, 10) }
