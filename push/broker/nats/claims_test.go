package nats

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// The connection breaks between the claim of a key, or version, and the sending: who publishes again, on the same node
// or on another, is not told that it was published before it was. Nothing is published twice.
func TestClaimedAndNotSent(t *testing.T) {
	const each = 64
	address := external(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	p := newProxy(t, address)
	direct := func() *brokertest.Node {
		return nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + address}}), Config{})
	}
	follower, other := direct(), direct()
	n := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + p.listener.Addr().String()}, ReconnectWait: 5 * time.Millisecond}), Config{PublishTimeout: 300 * time.Millisecond})
	version := func(i int) (string, hub.PublishOptions) {
		if i%4 == 0 {
			return fmt.Sprint("c", i), hub.PublishOptions{Version: 7}
		}
		return "c", hub.PublishOptions{IdempotencyKey: fmt.Sprint("k", i)}
	}
	follower.Subscribe(t, "c", hub.Retention{})
	follower.Subscribe(t, "end", hub.Retention{})
	var mu sync.Mutex
	var again []int
	next := 0
	for deadline := time.Now().Add(time.Minute); of(n).Stats().Resent < 3 || of(other).Stats().Resent < 3; next += each {
		if time.Now().After(deadline) {
			t.Fatalf("no claim was left behind: %+v", of(n).Stats())
		}
		again = nil
		var publishing sync.WaitGroup
		for i := next; i < next+each; i++ {
			channel, o := version(i)
			if channel != "c" {
				follower.Subscribe(t, channel, hub.Retention{})
			}
			publishing.Go(func() {
				if _, err := n.Broker.Publish(t.Context(), channel, fmt.Append(nil, i), o); err != nil {
					mu.Lock()
					defer mu.Unlock()
					again = append(again, i)
				}
			})
		}
		p.cut(false)
		publishing.Wait()
		for k, i := range again {
			channel, o := version(i)
			brokertest.Eventually(t, "it is published again", func() bool {
				_, err := []*brokertest.Node{n, other}[k%2].Broker.Publish(t.Context(), channel, fmt.Append(nil, i), o)
				return err == nil
			})
			brokertest.Eventually(t, "it comes", func() bool { return slices.Contains(follower.Sink.Data(channel), fmt.Sprint(i)) })
		}
	}
	for i := range next {
		channel, o := version(i)
		n.Publish(t, channel, fmt.Sprint(i), o) // does nothing
		came := slices.DeleteFunc(follower.Sink.Data(channel), func(s string) bool { return s != fmt.Sprint(i) })
		if len(came) > 1 {
			t.Errorf("%d came %d times", i, len(came))
		}
	}
}

// The sending itself fails, for the data is too large: with less it is made.
func TestClaimedAndTooLarge(t *testing.T) {
	n := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + external(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), MaxPayload: 4096})}}), Config{})
	n.Subscribe(t, "c", hub.Retention{})
	for _, o := range []hub.PublishOptions{{IdempotencyKey: "k"}, {Version: 1}} {
		before := len(n.Sink.Came("c"))
		if _, err := n.Broker.Publish(t.Context(), "c", []byte(strings.Repeat("x", 5000)), o); err == nil || !strings.Contains(err.Error(), "size") {
			t.Errorf("%v", err)
		}
		n.Publish(t, "c", "small", o)
		brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("c")) == before+1 })
	}
}

// Attempts that are under way are waited for; of those that were not sent so many are known, for as long as the log
// knows their keys.
func TestClaims(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{MaxPending: 2})
	b := of(n)
	begin := func() *attempt {
		a, err := b.attempt()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first, second := begin(), begin()
	if got := b.claims.take(first.token); got != claimUnderWay {
		t.Errorf("under way: %d", got)
	}
	time.AfterFunc(3*claimPoll, func() { first.end(false) })
	if owns, err := second.owns(t.Context(), first.token); !owns || err != nil {
		t.Errorf("of one that ended unsent: %t, %v", owns, err)
	}
	if got := b.claims.take(first.token); got != claimSent {
		t.Errorf("taken twice: %d", got)
	}
	second.end(false) // and with it the first
	if b.Stats().Unsent != 2 {
		t.Errorf("%+v", b.Stats())
	}
	third := begin()
	third.end(false)
	for what, c := range map[string]struct{ got, want claimState }{
		"the oldest of too many": {b.claims.take(first.token), claimSent},
		"the second":             {b.claims.take(second.token), claimOwed},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", what, c.got, c.want)
		}
	}
	b.claims.expire(time.Now().Add(dedupWindow + time.Second))
	if got := b.claims.take(third.token); got != claimSent || len(b.claims.until) != 0 || len(b.claims.owed) != 0 {
		t.Errorf("after its time: %d, %d are known", got, len(b.claims.until))
	}
}
