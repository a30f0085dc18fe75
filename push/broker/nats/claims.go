package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
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
// a claim asks the node that made it.

// claimState says what became of an attempt.
type claimState byte

const (
	claimSent     claimState = iota // or nothing is known of it any more
	claimUnderWay                   // it is being sent, or not
	claimOwed                       // it was not sent; who asked has to do so now
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
	stop  func()               // ends the answering; nil before it has begun
	until map[string]time.Time // by token: when it is forgotten that it was not sent; zero while it is under way
	owed  []string             // those that were not sent, oldest first

	// Any goroutine (atomic).
	resent atomic.Int64
}

// attempt is one, with those before that it stands for.
type attempt struct {
	broker *Broker
	token  string
	taken  []string
}

// attempt begins one. It must end.
func (b *Broker) attempt() (*attempt, error) {
	c := &b.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		stop, err := b.config.Link.Subscribe(b.claimSubject(c.node), 1024, func(m Message) {
			_ = b.config.Link.Publish(m.Reply, "", []byte{byte(c.take(string(m.Data)))})
		})
		if err != nil {
			return nil, err
		}
		c.stop = stop
	}
	c.last++
	a := &attempt{broker: b, token: c.node + "." + strconv.FormatUint(c.last, 36)}
	c.until[a.token] = time.Time{}
	return a, nil
}

func (b *Broker) claimSubject(node string) string { return b.config.Link.Prefix() + ".claims." + node }

// end says whether what was claimed was sent, or is not to be.
func (a *attempt) end(sent bool) {
	c := &a.broker.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.until, a.token)
	if sent {
		c.resent.Add(int64(min(len(a.taken), 1)))
		return
	}
	for _, token := range append(a.taken, a.token) {
		c.until[token] = time.Now().Add(dedupWindow)
		c.owed = append(c.owed, token)
	}
	for len(c.owed) > c.most {
		c.forgetLocked(0)
	}
}

// forgetLocked forgets one that was not sent.
func (c *claims) forgetLocked(i int) {
	delete(c.until, c.owed[i])
	if c.owed = slices.Delete(c.owed, i, i+1); len(c.owed) == 0 {
		c.owed = nil
	}
}

// take returns what became of an attempt. If nothing was sent, that is now for who asks.
func (c *claims) take(token string) claimState {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[token]
	switch {
	case !ok:
		return claimSent
	case until.IsZero():
		return claimUnderWay
	}
	c.forgetLocked(slices.Index(c.owed, token))
	return claimOwed
}

// expire forgets what nobody can ask for any more.
func (c *claims) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.owed) > 0 && !c.until[c.owed[0]].After(now) {
		c.forgetLocked(0)
	}
}

// unsent is the number of those that were not sent.
func (c *claims) unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.owed)
}

func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}

// owns reports whether a has to send what another attempt claimed and did not send. It waits for one that is under way.
func (a *attempt) owns(ctx context.Context, token string) (bool, error) {
	for {
		state, err := a.broker.askClaim(ctx, token)
		if err != nil || state == claimSent {
			return false, err
		}
		if state == claimOwed {
			a.taken = append(a.taken, token)
			return true, nil
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return false, unavailable(ctx.Err())
		}
	}
}

// askClaim asks the node that has made a claim. Of one that is gone nobody knows: what it claimed is taken for sent, so
// that nothing is published twice.
func (b *Broker) askClaim(ctx context.Context, token string) (claimState, error) {
	node, _, ok := strings.Cut(token, ".")
	state := b.claims.take(token) // it may have been taken over from another node
	if !ok || state != claimSent || node == b.claims.node {
		return state, nil
	}
	m, err := b.config.Link.Request(ctx, b.claimSubject(node), []byte(token))
	switch {
	case errors.Is(err, gonats.ErrNoResponders):
		return claimSent, nil
	case err != nil:
		return 0, err
	case len(m.Data) != 1:
		return 0, unavailable(fmt.Errorf("%q is no answer of a node", m.Data))
	}
	return claimState(m.Data[0]), nil
}

// claimant returns the token of the claim at a place of the log; empty if it is not there any more.
func (g *group) claimant(ctx context.Context, seq uint64) (string, error) {
	s, err := g.broker.js.Stream(ctx, g.broker.streamName(g.n))
	if err != nil {
		return "", refusal(err)
	}
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", nil
	}
	if err != nil {
		return "", refusal(err)
	}
	e, err := decode(m.Data)
	if err != nil {
		return "", nil //nolint:nilerr // it is nobody's
	}
	return e.rare.Claim, nil
}

// newClaims returns those of a node that has just begun.
func newClaims(most int) claims {
	return claims{node: rand.Text()[:12], most: most, until: map[string]time.Time{}}
}
