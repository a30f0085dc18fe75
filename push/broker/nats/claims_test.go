package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"

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
	for _, o := range []hub.PublishOptions{{IdempotencyKey: "k"}, {Version: 1}, {Version: 2, IdempotencyKey: "both"}} {
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
	first, second, third := begin(), begin(), begin()
	claims := func(what, token, by string, want claimState) {
		t.Helper()
		if got, heir := b.claims.take(token, by); got != want || (heir == "") != (want != claimPassed) {
			t.Errorf("%s: %d %q, want %d", what, got, heir, want)
		}
	}
	claims("under way", first.token, second.token, claimUnderWay)
	time.AfterFunc(3*claimPoll, func() { first.end(false) })
	if owns, err := second.owns(t.Context(), first.token, time.Now()); !owns || err != nil {
		t.Errorf("of one that ended unsent: %t, %v", owns, err)
	}
	claims("asked again", first.token, second.token, claimOwed)
	claims("asked by another", first.token, third.token, claimPassed)
	if b.Stats().Unsent != 0 {
		t.Errorf("%+v", b.Stats())
	}
	second.end(false)
	if owns, err := third.owns(t.Context(), first.token, time.Now()); !owns || err != nil || b.Stats().Unsent != 0 {
		t.Errorf("of one whose heir ended unsent: %t, %v, %+v", owns, err, b.Stats())
	}
	third.end(false)
	if b.Stats().Unsent != 1 {
		t.Errorf("%+v", b.Stats())
	}
	claims("the oldest of too many", first.token, "x.1", claimSent)
	claims("the second", second.token, "x.1", claimPassed)
	b.claims.expire(time.Now().Add(dedupWindow + time.Second))
	claims("after its time", third.token, "x.1", claimSent)
	if len(b.claims.known) != 0 || len(b.claims.owed) != 0 {
		t.Errorf("%d are known", len(b.claims.known))
	}
	last := begin()
	for ago, sent := range map[time.Duration]bool{0: false, time.Hour: true, -time.Hour: true} {
		if owns, err := last.owns(t.Context(), "gone.1", time.Now().Add(-ago)); owns || (err == nil) != sent || err != nil && !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("of a node that is not there, %v ago: %t, %v", ago, owns, err)
		}
	}
	last.end(true)
}

// leave claims a publication, and does not send it.
func leave(t *testing.T, n *brokertest.Node, channel string, o hub.PublishOptions) *attempt {
	t.Helper()
	a, err := of(n).attempt()
	if err != nil {
		t.Fatal(err)
	}
	if first, err := of(n).groupOf(channel).claim(t.Context(), channel, o, a); err != nil || !first {
		t.Fatalf("%t, %v", first, err)
	}
	a.end(false)
	return a
}

// What was claimed and not sent goes from one attempt to the next, on whichever nodes these are: also if the answer to
// one that asked was lost, or that one could not send it either.
func TestClaimThatIsPassedOn(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	a, b, c := newNode(t, s, Config{}), newNode(t, s, Config{}), newNode(t, s, Config{})
	c.Subscribe(t, "c", hub.Retention{})
	for i, o := range []hub.PublishOptions{{IdempotencyKey: "k"}, {Version: 7}, {IdempotencyKey: "both", Version: 8}} {
		first := leave(t, a, "c", o)
		second, err := of(b).attempt()
		if err != nil {
			t.Fatal(err)
		}
		if state, _ := of(a).claims.take(first.token, second.token); state != claimOwed {
			t.Fatal(state)
		}
		second.end(false)
		for _, n := range []*brokertest.Node{c, a, b} {
			n.Publish(t, "c", fmt.Sprint(i), o)
		}
		brokertest.Eventually(t, "it comes", func() bool { return slices.Contains(c.Sink.Data("c"), fmt.Sprint(i)) })
	}
	b.Publish(t, "c", "end", hub.PublishOptions{})
	brokertest.Eventually(t, "the end comes", func() bool { return slices.Contains(c.Sink.Data("c"), "end") })
	if got := c.Sink.Data("c"); len(got) != 4 {
		t.Errorf("%q", got)
	}
}

// While the node that claimed is cut off, nobody is told that it was published.
func TestClaimantThatIsAway(t *testing.T) {
	address := external(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	p := newProxy(t, address)
	other := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + address}}), Config{})
	n := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + p.listener.Addr().String()}, ReconnectWait: 5 * time.Millisecond}), Config{})
	other.Subscribe(t, "c", hub.Retention{})
	for i, o := range []hub.PublishOptions{{IdempotencyKey: "k"}, {Version: 7}} {
		leave(t, n, "c", o)
		p.cut(true)
		brokertest.Eventually(t, "it is gone", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // the question may be on its way to who is gone
			defer cancel()
			_, err := of(other).config.Link.Request(ctx, of(n).claimSubject(of(n).claims.node), []byte("none.1 x.1"))
			return errors.Is(err, gonats.ErrNoResponders)
		})
		if _, err := other.Broker.Publish(t.Context(), "c", fmt.Append(nil, i), o); !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		p.cut(false)
		brokertest.Eventually(t, "it is published again", func() bool {
			_, err := other.Broker.Publish(t.Context(), "c", fmt.Append(nil, i), o)
			return err == nil
		})
		brokertest.Eventually(t, "it comes", func() bool { return slices.Contains(other.Sink.Data("c"), fmt.Sprint(i)) })
	}
}

// What has been claimed is asked of the stream's leader: any server may answer a direct get, one that is behind, too.
func TestClaimsAreReadFromTheLeader(t *testing.T) {
	address := external(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	conn, err := gonats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	gets, err := conn.SubscribeSync("$JS.API.DIRECT.GET.>")
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	n := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + address}}), Config{})
	for _, o := range []hub.PublishOptions{{IdempotencyKey: "k"}, {Version: 7}} {
		for range 3 {
			n.Publish(t, "c", "x", o)
		}
	}
	if m, err := gets.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("a direct get: %s %s", m.Subject, m.Data)
	}
}
