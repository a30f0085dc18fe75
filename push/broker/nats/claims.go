package nats

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What is to be published once in a channel without history is claimed in the log before it is sent. Between the two
// something may come: then the claim is in the log, and who tries again would hear that it was published. So each
// attempt has a token, which its claim has in it, and the node knows of which attempts nothing was sent. Whoever finds
// a claim asks the node that made it, and with that is its heir: what the heir does with it, its own node is asked.

// claimState says what became of an attempt.
type claimState byte

const (
	claimSent     claimState = iota // or nothing is known of it any more
	claimUnderWay                   // it is being sent, or not
	claimOwed                       // it was not sent; who asked has to do so now
	claimPassed                     // it was not sent; another attempt, which follows, has to do so
)

// claimPoll is the time between two questions for an attempt that is under way.
const claimPoll = 20 * time.Millisecond

// claims are the attempts of a node that are under way, or of which nothing was sent.
type claims struct {
	// Immutable after New.
	node string // what begins the tokens of this one
	most int    // of those of which nothing was sent

	// Guarded by mu.
	mu    sync.Mutex
	last  uint64
	stop  func()            // ends the answering; nil before it has begun
	known map[string]*claim // by token
	owed  []string          // those that were not sent, oldest first

	// Any goroutine (atomic).
	resent atomic.Int64
}

// claim is what is known of an attempt.
type claim struct {
	until time.Time // when it is forgotten that nothing was sent; zero while it is under way
	heir  string    // the attempt that has to send it; empty for none
}

// attempt is one of this node's.
type attempt struct {
	broker *Broker
	token  string
	isHeir bool // of one that was not sent
}

// attempt begins one. It must end.
func (b *Broker) attempt() (*attempt, error) {
	c := &b.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		stop, err := b.config.Link.Subscribe(b.claimSubject(c.node), 1024, func(m Message) {
			token, by, _ := strings.Cut(string(m.Data), " ")
			state, heir := c.take(token, by)
			_ = b.config.Link.Publish(m.Reply, "", append([]byte{byte(state)}, heir...))
		})
		if err != nil {
			return nil, err
		}
		c.stop = stop
	}
	c.last++
	a := &attempt{broker: b, token: c.node + "." + strconv.FormatUint(c.last, 36)}
	c.known[a.token] = &claim{}
	return a, nil
}

func (b *Broker) claimSubject(node string) string { return b.config.Link.Prefix() + ".claims." + node }

// end says whether what was claimed was sent, or is not to be.
func (a *attempt) end(sent bool) {
	c := &a.broker.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if sent {
		delete(c.known, a.token)
		if a.isHeir {
			c.resent.Add(1)
		}
		return
	}
	c.known[a.token].until = time.Now().Add(dedupWindow)
	if c.owed = append(c.owed, a.token); len(c.owed) > c.most {
		c.forgetLocked()
	}
}

// forgetLocked forgets the oldest one that was not sent.
func (c *claims) forgetLocked() {
	delete(c.known, c.owed[0])
	if c.owed = c.owed[1:]; len(c.owed) == 0 {
		c.owed = nil
	}
}

// take returns what became of an attempt. If nothing was sent, that is for the first one that asks, however often it
// does: its answer may get lost. The others are told which one that is.
func (c *claims) take(token, by string) (state claimState, heir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[token]
	switch {
	case k == nil:
		return claimSent, ""
	case k.until.IsZero():
		return claimUnderWay, ""
	}
	if k.heir = cmp.Or(k.heir, by); k.heir == by {
		return claimOwed, ""
	}
	return claimPassed, k.heir
}

// expire forgets what nobody can ask for any more.
func (c *claims) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.owed) > 0 && !c.known[c.owed[0]].until.After(now) {
		c.forgetLocked()
	}
}

// unsent is the number of those that were not sent, and that nobody is to send.
func (c *claims) unsent() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, token := range c.owed {
		if c.known[token].heir == "" {
			n++
		}
	}
	return n
}

func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}

// owns reports whether a has to send what another attempt claimed at a time, and did not send. It waits for one that is
// under way. Of a node that is gone nobody knows: what it claimed is taken for sent, so that nothing is published twice.
// One that claimed just now may have lost its connection, and be back soon.
func (a *attempt) owns(ctx context.Context, token string, at time.Time) (bool, error) {
	gone := time.Since(at).Abs() > a.broker.config.Link.config.absence()
	for token != a.token {
		state, heir, err := a.broker.askClaim(ctx, token, a.token)
		switch {
		case errors.Is(err, gonats.ErrNoResponders) && !gone:
			return false, fmt.Errorf("the node that has claimed it cannot be asked whether it was sent: %w", err)
		case errors.Is(err, gonats.ErrNoResponders), err == nil && state == claimSent:
			return false, nil
		case err != nil:
			return false, err
		case state == claimOwed:
			a.isHeir = true
			return true, nil
		case state == claimPassed:
			token, gone = heir, false
			continue
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return false, unavailable(ctx.Err())
		}
	}
	return true, nil
}

// askClaim asks the node that has made a claim. The error is ErrNoResponders if it is not there.
func (b *Broker) askClaim(ctx context.Context, token, by string) (state claimState, heir string, err error) {
	node, _, ok := strings.Cut(token, ".")
	if !ok {
		return claimSent, "", nil // it is one of a node that knows no tokens
	}
	if node == b.claims.node {
		state, heir = b.claims.take(token, by)
		return state, heir, nil
	}
	m, err := b.config.Link.Request(ctx, b.claimSubject(node), []byte(token+" "+by))
	if err != nil {
		return 0, "", err
	}
	if len(m.Data) == 0 || claimState(m.Data[0]) > claimPassed {
		return 0, "", unavailable(fmt.Errorf("%q is no answer of a node", m.Data))
	}
	return claimState(m.Data[0]), string(m.Data[1:]), nil
}

// claimant returns the token of the claim at a place of the log, and when it was made; empty if it is not there any more.
func (g *group) claimant(ctx context.Context, seq uint64) (token string, at time.Time, err error) {
	s, err := g.leading(ctx)
	if err != nil {
		return "", at, refusal(err)
	}
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", at, nil
	}
	if err != nil {
		return "", at, refusal(err)
	}
	e, err := decode(m.Data)
	if err != nil {
		return "", at, nil //nolint:nilerr // it is nobody's
	}
	return e.rare.Claim, m.Time, nil
}

// newClaims returns those of a node that has just begun.
func newClaims(most int) claims {
	return claims{node: rand.Text()[:12], most: most, known: map[string]*claim{}}
}
