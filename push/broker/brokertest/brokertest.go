// Package brokertest has what every broker promises, as tests: each broker's own tests run it.
package brokertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Sink is one that notes what it is handed, in order.
type Sink struct {
	// Guarded by mu.
	mu         sync.Mutex
	subscribed map[string]bool
	came       map[string][]*hub.Publication
}

var _ hub.Sink = (*Sink)(nil)

// NewSink returns one without subscribers.
func NewSink() *Sink {
	return &Sink{subscribed: map[string]bool{}, came: map[string][]*hub.Publication{}}
}

// Deliver implements hub.Sink.
func (s *Sink) Deliver(channel string, p *hub.Publication) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscribed[channel] {
		s.came[channel] = append(s.came[channel], p)
	}
	return s.subscribed[channel]
}

// Subscribed implements hub.Sink.
func (s *Sink) Subscribed(channel string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribed[channel]
}

// Channels implements hub.Sink.
func (s *Sink) Channels(f func(string, int) bool) {
	s.mu.Lock()
	names := []string{}
	for name, yes := range s.subscribed {
		if yes {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	for _, name := range names {
		if !f(name, 1) {
			return
		}
	}
}

// Admit implements hub.Sink.
func (s *Sink) Admit(context.Context, string) error { return nil }

// Flush implements hub.Sink.
func (s *Sink) Flush(string) {}

// Came returns what was handed over of a channel until now.
func (s *Sink) Came(channel string) []*hub.Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came[channel])
}

// Data returns the data of the messages among what came.
func (s *Sink) Data(channel string) (list []string) {
	for _, p := range s.Came(channel) {
		if p.Kind == hub.KindMessage {
			list = append(list, string(p.Data))
		}
	}
	return list
}

// Node is a broker with its sink.
type Node struct {
	Broker hub.Broker
	Sink   *Sink
}

// Subscribe makes the node the channel's subscriber.
func (n *Node) Subscribe(t testing.TB, channel string, r hub.Retention) {
	t.Helper()
	if err := n.Broker.Subscribe(t.Context(), channel, r); err != nil {
		t.Fatal(err)
	}
	n.Sink.mu.Lock()
	defer n.Sink.mu.Unlock()
	n.Sink.subscribed[channel] = true
}

// Unsubscribe undoes it.
func (n *Node) Unsubscribe(channel string, r hub.Retention) {
	n.Sink.mu.Lock()
	n.Sink.subscribed[channel] = false
	n.Sink.mu.Unlock()
	n.Broker.Unsubscribe(channel, r)
}

// Publish publishes, and fails the test if that fails.
func (n *Node) Publish(t testing.TB, channel, data string, o hub.PublishOptions) hub.Position {
	t.Helper()
	p, err := n.Broker.Publish(t.Context(), channel, []byte(data), o)
	if err != nil {
		t.Fatalf("publish %s to %s: %v", data, channel, err)
	}
	return p
}

// History asks for it, and fails the test if that fails.
func (n *Node) History(t testing.TB, channel string, q hub.HistoryQuery) hub.History {
	t.Helper()
	h, err := n.Broker.History(t.Context(), channel, q)
	if err != nil {
		t.Fatalf("history of %s: %v", channel, err)
	}
	return h
}

// Texts returns the data of publications.
func Texts(list []*hub.Publication) (texts []string) {
	for _, p := range list {
		texts = append(texts, string(p.Data))
	}
	return texts
}

// Eventually waits for what must come true at some time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// retention is what most tests keep.
var retention = hub.Retention{Size: 10, TTL: time.Hour}

// Run runs all tests, each with brokers that start makes: they are all the nodes of one installation, one at least, without any channel.
func Run(t *testing.T, start func(t *testing.T) []*Node) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, a, b *Node)
	}{
		{"order", order},
		{"history", history},
		{"positions", positions},
		{"skip history", skipHistory},
		{"remove history", removeHistory},
		{"size", size},
		{"idempotency", idempotency},
		{"versions", versions},
		{"time to live", timeToLive},
		{"events", events},
		{"nothing kept", nothingKept},
		{"rare", rareFields},
		{"names", channelNames},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := start(t)
			c.test(t, nodes[0], nodes[len(nodes)-1])
		})
	}
}

// order: every node sees the same order, rising offsets, and each publication once.
func order(t *testing.T, a, b *Node) {
	const publishers, each = 4, 100
	a.Subscribe(t, "c", retention)
	if b != a {
		b.Subscribe(t, "c", retention)
	}
	var group sync.WaitGroup
	for i := range publishers {
		group.Go(func() {
			for k := range each {
				n := a
				if (i+k)%2 == 0 {
					n = b
				}
				if _, err := n.Broker.Publish(t.Context(), "c", fmt.Appendf(nil, "%d.%d", i, k), hub.PublishOptions{Retention: retention}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	Eventually(t, "all have come", func() bool {
		return len(a.Sink.Came("c")) >= publishers*each && len(b.Sink.Came("c")) >= publishers*each
	})
	if !slices.Equal(a.Sink.Data("c"), b.Sink.Data("c")) {
		t.Error("the two nodes see different orders")
	}
	last, next := uint64(0), map[int]int{}
	for _, p := range a.Sink.Came("c") {
		var i, k int
		_, _ = fmt.Sscanf(string(p.Data), "%d.%d", &i, &k)
		if p.Offset <= last || k != next[i] {
			t.Fatalf("%s at %d after %d, want number %d of its publisher", p.Data, p.Offset, last, next[i])
		}
		last, next[i] = p.Offset, k+1
	}
	if n := len(a.Sink.Came("c")); n != publishers*each {
		t.Errorf("%d came, want %d", n, publishers*each)
	}
}

// history: what was acknowledged is in it, on every node, in any part that is asked for.
func history(t *testing.T, a, b *Node) {
	var at []hub.Position
	for i := range 5 {
		at = append(at, a.Publish(t, "c", strconv.Itoa(i), hub.PublishOptions{Retention: retention}))
		if got := Texts(b.History(t, "c", hub.HistoryQuery{Limit: 1, Reverse: true}).Publications); !slices.Equal(got, []string{strconv.Itoa(i)}) {
			t.Fatalf("on the other node the latest is %q after %d was acknowledged", got, i)
		}
		a.Publish(t, "other", "x", hub.PublishOptions{Retention: retention})
	}
	for _, c := range []struct {
		q    hub.HistoryQuery
		want []string
	}{
		{hub.HistoryQuery{Limit: -1}, []string{"0", "1", "2", "3", "4"}},
		{hub.HistoryQuery{Limit: 2}, []string{"0", "1"}},
		{hub.HistoryQuery{Limit: 0}, nil},
		{hub.HistoryQuery{Limit: 2, Reverse: true}, []string{"4", "3"}},
		{hub.HistoryQuery{Limit: -1, Since: &at[2]}, []string{"3", "4"}},
		{hub.HistoryQuery{Limit: 1, Since: &at[2]}, []string{"3"}},
		{hub.HistoryQuery{Limit: -1, Since: &at[2], Reverse: true}, []string{"1", "0"}},
		{hub.HistoryQuery{Limit: -1, Since: &at[4]}, nil},
	} {
		h := b.History(t, "c", c.q)
		if got := Texts(h.Publications); !slices.Equal(got, c.want) || h.Top.Offset < at[4].Offset || h.Top.Epoch != at[4].Epoch || !h.Reaches(at[0].Offset) {
			t.Errorf("%+v: %q, %+v from %d, want %q up to %+v", c.q, got, h.Top, h.Floor, c.want, at[4])
		}
	}
}

// positions: who was at the position of a moment can be told everything since, on any node, though nothing came.
func positions(t *testing.T, a, b *Node) {
	before := a.History(t, "quiet", hub.HistoryQuery{}).Top
	for range 20 {
		a.Publish(t, "busy", "x", hub.PublishOptions{Retention: retention})
	}
	h := b.History(t, "quiet", hub.HistoryQuery{Since: &before, Limit: -1, Following: true})
	if len(h.Publications) != 0 || !h.Reaches(before.Offset) || h.Top.Epoch != before.Epoch && a != b {
		t.Errorf("%+v after %+v", h, before)
	}
	p := a.Publish(t, "quiet", "x", hub.PublishOptions{Retention: retention})
	if h = b.History(t, "quiet", hub.HistoryQuery{Since: &p, Limit: -1, Following: true}); len(h.Publications) != 0 || !h.Reaches(p.Offset) {
		t.Errorf("who has %+v is told %+v", p, h)
	}
	if h = b.History(t, "quiet", hub.HistoryQuery{Since: &before, Limit: -1, Following: true}); len(h.Publications) != 1 || !h.Reaches(before.Offset) {
		t.Errorf("who has %+v is told %+v", before, h)
	}
	beyond := hub.Position{Offset: p.Offset + 1000, Epoch: p.Epoch}
	if h = b.History(t, "quiet", hub.HistoryQuery{Since: &beyond, Limit: -1, Following: true}); h.Reaches(beyond.Offset) {
		t.Errorf("who has %+v, which there never was, is told %+v", beyond, h)
	}
}

func skipHistory(t *testing.T, a, b *Node) {
	b.Subscribe(t, "c", retention)
	a.Publish(t, "c", "1", hub.PublishOptions{Retention: retention})
	if p := a.Publish(t, "c", "2", hub.PublishOptions{Retention: retention, SkipHistory: true}); p != (hub.Position{}) {
		t.Errorf("what passes by is at %+v", p)
	}
	a.Publish(t, "c", "3", hub.PublishOptions{Retention: retention})
	Eventually(t, "all come", func() bool { return len(b.Sink.Came("c")) == 3 })
	if got := b.Sink.Data("c"); !slices.Equal(got, []string{"1", "2", "3"}) || b.Sink.Came("c")[1].Offset != 0 {
		t.Errorf("%q", got)
	}
	if got := Texts(b.History(t, "c", hub.HistoryQuery{Limit: -1}).Publications); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("the history has %q", got)
	}
}

func removeHistory(t *testing.T, a, b *Node) {
	first := a.Publish(t, "c", "1", hub.PublishOptions{Retention: retention})
	a.Publish(t, "d", "1", hub.PublishOptions{Retention: retention})
	b.History(t, "c", hub.HistoryQuery{Limit: -1})
	second := a.Publish(t, "c", "2", hub.PublishOptions{Retention: retention})
	if err := a.Broker.RemoveHistory(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} {
		h := n.History(t, "c", hub.HistoryQuery{Limit: -1, Since: &first})
		if len(h.Publications) != 0 || h.Reaches(first.Offset) || h.Top.Offset < second.Offset || h.Top.Epoch != first.Epoch {
			t.Errorf("%+v, want nothing, and that it is known", h)
		}
		if got := Texts(n.History(t, "d", hub.HistoryQuery{Limit: -1}).Publications); len(got) != 1 {
			t.Errorf("another channel has %q", got)
		}
	}
	third := a.Publish(t, "c", "3", hub.PublishOptions{Retention: retention})
	if h := b.History(t, "c", hub.HistoryQuery{Limit: -1}); !slices.Equal(Texts(h.Publications), []string{"3"}) || third.Offset <= second.Offset {
		t.Errorf("%q at %+v", Texts(h.Publications), third)
	}
}

// size: of more than is kept the oldest go, and that is known.
func size(t *testing.T, a, b *Node) {
	first := a.Publish(t, "c", "0", hub.PublishOptions{Retention: retention})
	var second hub.Position
	for i := 1; i <= 11; i++ {
		p := a.Publish(t, "c", strconv.Itoa(i), hub.PublishOptions{Retention: retention})
		if i == 1 {
			second = p
		}
	}
	h := b.History(t, "c", hub.HistoryQuery{Limit: -1})
	if len(h.Publications) != 10 || h.Reaches(first.Offset) || !h.Reaches(second.Offset) {
		t.Errorf("%q from %d, want 10 from %d", Texts(h.Publications), h.Floor, second.Offset)
	}
}

func idempotency(t *testing.T, a, b *Node) {
	for _, c := range []struct {
		channel string
		r       hub.Retention
	}{{"c", retention}, {"none", hub.Retention{}}} {
		b.Subscribe(t, c.channel, c.r)
		o := hub.PublishOptions{Retention: c.r, IdempotencyKey: "k\r\n"}
		first := a.Publish(t, c.channel, "1", o)
		if again := b.Publish(t, c.channel, "2", o); again != first {
			t.Errorf("%s: the second is at %+v, the first at %+v", c.channel, again, first)
		}
		a.Publish(t, c.channel+"2", "3", o)
		o.IdempotencyKey = "l"
		a.Publish(t, c.channel, "4", o)
		Eventually(t, "all come", func() bool { return len(b.Sink.Came(c.channel)) >= 2 })
		if got := b.Sink.Data(c.channel); !slices.Equal(got, []string{"1", "4"}) {
			t.Errorf("%s: %q", c.channel, got)
		}
	}
}

func versions(t *testing.T, a, b *Node) {
	for _, c := range []struct {
		channel string
		r       hub.Retention
	}{{"c", retention}, {"none", hub.Retention{}}} {
		b.Subscribe(t, c.channel, c.r)
		for i, v := range []struct {
			number uint64
			epoch  string
		}{{5, ""}, {5, ""}, {4, ""}, {6, ""}, {1, "x"}, {1, "x"}, {2, "x"}, {0, ""}, {2, "x"}} {
			n := a
			if i%2 == 1 {
				n = b
			}
			n.Publish(t, c.channel, fmt.Sprint(v.epoch, v.number), hub.PublishOptions{Retention: c.r, Version: v.number, VersionEpoch: v.epoch})
		}
		want := []string{"5", "6", "x1", "x2", "0"}
		Eventually(t, "all come", func() bool { return len(b.Sink.Came(c.channel)) >= len(want) })
		got := b.Sink.Data(c.channel)
		if !c.r.Enabled() { // without a history, what several nodes publish is in no order
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.channel, got, want)
		}
	}
}

// timeToLive: what is over is in no answer, and nobody misses it.
func timeToLive(t *testing.T, a, b *Node) {
	first := a.Publish(t, "c", "1", hub.PublishOptions{Retention: retention})
	a.Publish(t, "c", "2", hub.PublishOptions{Retention: retention, TTL: time.Nanosecond})
	a.Publish(t, "c", "3", hub.PublishOptions{Retention: retention, TTL: time.Hour})
	Eventually(t, "it is over", func() bool {
		return slices.Equal(Texts(b.History(t, "c", hub.HistoryQuery{Limit: -1}).Publications), []string{"1", "3"})
	})
	if h := b.History(t, "c", hub.HistoryQuery{Limit: -1, Since: &first}); !h.Reaches(first.Offset) || len(h.Publications) != 1 {
		t.Errorf("%+v", h)
	}
}

// events come in their place among the messages, and leave nothing behind.
func events(t *testing.T, a, b *Node) {
	for _, c := range []struct {
		channel string
		r       hub.Retention
	}{{"c", retention}, {"none", hub.Retention{}}} {
		b.Subscribe(t, c.channel, c.r)
		a.Publish(t, c.channel, "1", hub.PublishOptions{Retention: c.r})
		a.Publish(t, c.channel, "", hub.PublishOptions{Retention: c.r, Kind: hub.KindJoin, Info: &hub.ClientInfo{Client: "x", ConnInfo: []byte("{}")}})
		a.Publish(t, c.channel, "2", hub.PublishOptions{Retention: c.r})
		a.Publish(t, c.channel, "", hub.PublishOptions{Retention: c.r, Kind: hub.KindLeave, Info: &hub.ClientInfo{Client: "x"}})
		Eventually(t, "all come", func() bool { return len(b.Sink.Came(c.channel)) == 4 })
		var kinds []hub.Kind
		for _, p := range b.Sink.Came(c.channel) {
			kinds = append(kinds, p.Kind)
		}
		if !slices.Equal(kinds, []hub.Kind{hub.KindMessage, hub.KindJoin, hub.KindMessage, hub.KindLeave}) {
			t.Errorf("%v", kinds)
		}
		if i := b.Sink.Came(c.channel)[1].Info; i == nil || i.Client != "x" || string(i.ConnInfo) != "{}" {
			t.Errorf("%+v", i)
		}
	}
	if n := len(b.History(t, "c", hub.HistoryQuery{Limit: -1}).Publications); n != 2 {
		t.Errorf("%d in the history", n)
	}
}

// nothingKept: a channel without history brings what is published to those who are there.
func nothingKept(t *testing.T, a, b *Node) {
	b.Subscribe(t, "c", hub.Retention{})
	a.Publish(t, "other", "x", hub.PublishOptions{})
	for i := range 100 {
		a.Publish(t, "c", strconv.Itoa(i), hub.PublishOptions{})
	}
	Eventually(t, "all come", func() bool { return len(b.Sink.Came("c")) == 100 })
	for i, text := range b.Sink.Data("c") {
		if text != strconv.Itoa(i) {
			t.Fatalf("number %d is %s", i, text)
		}
	}
	b.Unsubscribe("c", hub.Retention{})
	b.Subscribe(t, "c", hub.Retention{})
	a.Publish(t, "c", "again", hub.PublishOptions{})
	Eventually(t, "it comes", func() bool { return len(b.Sink.Came("c")) == 101 })
}

// rareFields: all that a publication has arrives, on the other node too.
func rareFields(t *testing.T, a, b *Node) {
	for _, c := range []struct {
		channel string
		r       hub.Retention
	}{{"c", retention}, {"none", hub.Retention{}}} {
		b.Subscribe(t, c.channel, c.r)
		a.Publish(t, c.channel, "\x00\xff", hub.PublishOptions{
			Retention: c.r, Tags: map[string]string{"a": "b"}, Delta: true, ExcludeClient: "e",
			Info: &hub.ClientInfo{User: "u", Client: "c", ConnInfo: []byte("1"), ChanInfo: []byte{0xff}},
		})
		Eventually(t, "it comes", func() bool { return len(b.Sink.Came(c.channel)) == 1 })
		p := b.Sink.Came(c.channel)[0]
		if string(p.Data) != "\x00\xff" || p.Tags["a"] != "b" || !p.Delta || !p.Bounded() || p.Info == nil || p.Info.User != "u" || p.Info.ChanInfo[0] != 0xff {
			t.Errorf("%+v, %+v", p, p.Info)
		}
	}
}

// channelNames: any name that a channel may have is as good as another.
func channelNames(t *testing.T, a, b *Node) {
	for _, name := range []string{"a.b", "*", ">", "a b", "%41", "$p:#1,2", "ö€", "\x7f\t"} {
		for _, r := range []hub.Retention{retention, {}} {
			channel := name + strconv.Itoa(r.Size)
			b.Subscribe(t, channel, r)
			a.Publish(t, channel, name, hub.PublishOptions{Retention: r})
			Eventually(t, name+" comes", func() bool { return slices.Equal(b.Sink.Data(channel), []string{name}) })
		}
	}
}
