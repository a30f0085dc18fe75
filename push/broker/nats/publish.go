package nats

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millpond/millpond/push/hub"
)

// burstWait is for how long publications of a group wait for others while the log has not answered those before: a replicated log costs by the
// write, not by the message.
const burstWait = 2 * time.Millisecond

// burst is what a group's log is about to be sent.
type burst struct {
	mu      sync.Mutex
	waiting []*sending
	busy    bool // somebody sends
}

// sending is a message on its way to the log.
type sending struct {
	ctx  context.Context
	msg  *gonats.Msg
	opts []jetstream.PublishOpt
	sent chan struct{} // closed when one of these is set
	ack  jetstream.PubAckFuture
	err  error
}

// append puts a message at the log's end and returns its place there, or that of the first one with the same id.
func (g *group) append(ctx context.Context, msg *gonats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if trouble := g.broker.config.Trouble; trouble != nil {
		if err := trouble(); err != nil {
			return nil, unavailable(err)
		}
	}
	if !g.isPrepared() {
		return nil, unavailable(errNotRenewed)
	}
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	ack, err := g.appendUntil(ctx, msg, opts)
	if err != nil {
		return nil, refusal(err)
	}
	return ack, nil
}

func (g *group) appendUntil(ctx context.Context, msg *gonats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	select {
	case g.broker.pending <- struct{}{}:
		defer func() { <-g.broker.pending }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many publications wait for the log", hub.ErrTooManyRequests)
	}
	// Retries of single messages would come behind later ones.
	s := &sending{ctx: ctx, msg: msg, opts: append(opts, jetstream.WithRetryAttempts(0)), sent: make(chan struct{})}
	if g.broker.config.Replicas == 1 {
		s.send(g.broker.js)
	} else {
		g.join(s)
	}
	select {
	case <-s.sent:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	select {
	case ack := <-s.ack.Ok():
		return ack, nil
	case err := <-s.ack.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *sending) send(js jetstream.JetStream) {
	if s.err = s.ctx.Err(); s.err == nil {
		s.ack, s.err = js.PublishMsgAsync(s.msg, s.opts...)
	}
	close(s.sent)
}

// join sends s at once if the log has answered what was sent before, else with others.
func (g *group) join(s *sending) {
	b := &g.burst
	b.mu.Lock()
	b.waiting = append(b.waiting, s)
	begin := !b.busy
	b.busy = true
	b.mu.Unlock()
	if begin && !g.broker.spawn(g.sendAll) {
		g.sendAll() // nothing of it is sent
	}
}

// sendAll sends burst after burst until nothing waits.
func (g *group) sendAll() {
	b := &g.burst
	for {
		b.mu.Lock()
		list := b.waiting
		if b.waiting = nil; len(list) == 0 {
			b.busy = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		for _, s := range list {
			s.send(g.broker.js)
		}
		time.Sleep(burstWait)
	}
}

// refusal says of an error of the log what the publisher should do.
func refusal(err error) error {
	var known *hub.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, gonats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: the broker takes no publication of this size", hub.ErrLimitExceeded)
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return fmt.Errorf("%w: too many publications wait for the log", hub.ErrTooManyRequests)
	}
	return unavailable(err)
}

// messageID is what the log knows an idempotency key by.
func messageID(channel, key string) string {
	sum := sha256.Sum256([]byte(channel + "\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// Publish puts a publication at the end of its group's log and returns when the log has it; see [hub.Broker]. In a channel that keeps nothing
// it is sent to whoever is there.
func (b *Broker) Publish(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error) {
	position, err := b.publish(ctx, channel, data, options)
	switch {
	case err == nil:
		b.published.Add(1)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		b.unknown.Add(1)
	default:
		b.refused.Add(1)
	}
	return position, err
}

func (b *Broker) publish(ctx context.Context, channel string, data []byte, o hub.PublishOptions) (hub.Position, error) {
	if err := ctx.Err(); err != nil { // of several, those before took all the time there was
		return hub.Position{}, unavailable(err)
	}
	e := envelopeOf(data, o)
	g := b.groupOf(channel)
	if !o.Retention.Enabled() {
		return hub.Position{}, b.publishCore(ctx, g, channel, e, o)
	}
	if o.Kind != hub.KindMessage {
		return hub.Position{}, g.pass(channel, e)
	}
	var opts []jetstream.PublishOpt
	if o.IdempotencyKey != "" {
		opts = append(opts, jetstream.WithMsgID(messageID(channel, o.IdempotencyKey)))
	}
	if o.Version != 0 {
		if position, old, err := g.outdated(ctx, channel, o); err != nil || old {
			return position, err
		}
	}
	kind, rest := kindHistory, escape(channel)
	if o.SkipHistory {
		kind, rest, e.channel, e.retention = kindTransient, slotOf(channel), channel, hub.Retention{}
	}
	body, err := e.encode()
	if err != nil {
		return hub.Position{}, err
	}
	ack, err := g.append(ctx, &gonats.Msg{Subject: g.subject(kind, rest), Data: body}, opts...)
	if err != nil || kind == kindTransient {
		return hub.Position{}, err
	}
	return hub.Position{Offset: ack.Sequence, Epoch: g.knownEpoch()}, nil
}

// outdated reports whether this node knows of a version that is not lower, and then where it stands. What comes between is found out when the
// log is read, by all nodes alike.
func (g *group) outdated(ctx context.Context, channel string, o hub.PublishOptions) (hub.Position, bool, error) {
	if err := g.use(ctx); err != nil {
		return hub.Position{}, false, err
	}
	defer g.release()
	end, err := g.end(ctx)
	if err == nil {
		err = g.await(ctx, end)
	}
	if err != nil {
		return hub.Position{}, false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return hub.Position{Offset: g.read, Epoch: g.epoch}, !g.rings.wouldBeNewer(channel, o.Version, o.VersionEpoch), nil
}

// pass sends an event that has its place among the channel's messages, and awaits no answer.
func (g *group) pass(channel string, e envelope) error {
	e.channel, e.retention = channel, hub.Retention{}
	body, err := e.encode()
	if err != nil {
		return err
	}
	return g.broker.config.Link.Publish(g.subject(kindTransient, slotOf(channel)), "", body)
}

func (g *group) subject(kind, rest string) string {
	return subjectOf(g.broker.config.Link.Prefix(), kind, g.n, rest)
}

// knownEpoch is that of the stream, as far as this node knows.
func (g *group) knownEpoch() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.epoch
}

// RemoveHistory forgets the channel's publications, on all nodes in their places, and then in the log; see [hub.Broker].
func (b *Broker) RemoveHistory(ctx context.Context, channel string) error {
	g := b.groupOf(channel)
	e := envelope{kind: kindClear}
	body, err := e.encode()
	if err != nil {
		return err
	}
	subject := g.subject(kindHistory, escape(channel))
	ack, err := g.append(ctx, &gonats.Msg{Subject: subject, Data: body})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, b.streamName(g.n))
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(ack.Sequence))
	}
	return unavailable(err)
}
