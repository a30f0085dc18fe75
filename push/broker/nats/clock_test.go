package nats

import (
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// The clock of the server that stored a message may have been set, or is another than this node's: what seems to come from the future is kept no longer than its
// time, and what seems to be too old is known to be gone. The messages are delivered in any case, in the log's order.
func TestClockThatJumps(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1})
	const ttl = 10 * time.Minute
	n.Subscribe(t, "c", hub.Retention{Size: 10, TTL: ttl})
	first := n.Publish(t, "c", "0", hub.PublishOptions{Retention: hub.Retention{Size: 10, TTL: ttl}})
	brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("c")) == 1 })
	g := of(n).groupOf("c")
	o := hub.PublishOptions{Retention: hub.Retention{Size: 10, TTL: ttl}}
	for i, c := range []struct {
		jump  time.Duration
		there []string // in the history, afterwards
		since bool     // whether it is complete since the first one
	}{
		{0, []string{"0", "a"}, true},
		{time.Hour, []string{"0", "a", "b"}, true}, // forward, and with the next one back
		{-5 * time.Minute, []string{"0", "a", "b", "c"}, true},
		{-time.Hour, nil, false},
		{0, []string{"e"}, false},
	} {
		text := string(rune('a' + i))
		e := envelopeOf([]byte(text), o)
		body, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		seq := first.Offset + uint64(i) + 1
		if err := g.apply(t.Context(), entry{subject: g.subject(kindHistory, escape("c")), data: body, seq: seq, at: time.Now().Add(c.jump)}); err != nil {
			t.Fatal(err)
		}
		if got := n.Sink.Data("c"); got[len(got)-1] != text {
			t.Errorf("%v: %q did not come: %q", c.jump, text, got)
		}
		g.mu.Lock()
		list, floor, _ := g.rings.query("c", hub.HistoryQuery{Limit: -1}, of(n).now())
		for _, p := range list {
			if left := time.Duration(p.Expires-of(n).now()) * time.Second; left > ttl+time.Second {
				t.Errorf("%v: %q is kept for %v", c.jump, p.Data, left)
			}
		}
		g.mu.Unlock()
		if got := brokertest.Texts(list); len(got) != len(c.there) || len(got) > 0 && got[len(got)-1] != c.there[len(c.there)-1] || (floor <= first.Offset) != c.since {
			t.Errorf("%v: %q after %d are there, want %q", c.jump, got, floor, c.there)
		}
	}
}
