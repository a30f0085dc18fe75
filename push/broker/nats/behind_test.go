package nats

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// gated is a sink that takes nothing while it is closed.
type gated struct {
	*brokertest.Sink

	// Guarded by mu.
	mu   sync.Mutex
	open chan struct{}
}

func (g *gated) Admit(ctx context.Context, _ string) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gated) let() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

func (g *gated) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// gate puts one before a node's sink. It is open.
func gate(n *brokertest.Node) *gated {
	g := &gated{Sink: n.Sink, open: make(chan struct{})}
	g.let()
	of(n).Attach(g)
	return g
}

// A node that reads slower than is published loses no message in silence: whose messages left the log before they were read is told, and nobody else.
func TestBehind(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	a := newNode(t, s, Config{Groups: 1, MaxHistorySize: 10})
	b := newNode(t, s, Config{Groups: 1, MaxHistorySize: 10})
	sink := gate(b)
	for _, channel := range []string{"hot", "calm", "cleared"} {
		b.Subscribe(t, channel, kept10)
		a.Publish(t, channel, "before", keep(hub.PublishOptions{}))
		brokertest.Eventually(t, "it comes", func() bool { return len(b.Sink.Came(channel)) == 1 })
	}
	sink.shut()
	var publishing sync.WaitGroup
	for n := range 16 { // more than the client of NATS fetches ahead
		publishing.Go(func() {
			for i := range 1000 {
				a.Publish(t, "hot", fmt.Sprintf("%d.%d", n, i), keep(hub.PublishOptions{}))
			}
		})
	}
	publishing.Wait()
	a.Publish(t, "calm", "meanwhile", keep(hub.PublishOptions{}))
	a.Publish(t, "cleared", "meanwhile", keep(hub.PublishOptions{}))
	if err := a.Broker.RemoveHistory(t.Context(), "cleared"); err != nil {
		t.Fatal(err)
	}
	sink.let()
	last := a.Publish(t, "hot", "last", keep(hub.PublishOptions{}))
	for _, channel := range []string{"hot", "calm", "cleared"} {
		a.Publish(t, channel, "after", keep(hub.PublishOptions{}))
		brokertest.Eventually(t, channel+": what is published afterwards comes", func() bool {
			d := b.Sink.Data(channel)
			return d[len(d)-1] == "after"
		})
	}
	resets := func(channel string) int {
		return len(slices.DeleteFunc(b.Sink.Came(channel), func(p *hub.Publication) bool { return p.Kind != hub.KindReset }))
	}
	if n := len(b.Sink.Data("hot")); resets("hot") == 0 {
		t.Errorf("%d of 16,003 came, and nobody was told", n)
	}
	if got := b.Sink.Data("calm"); resets("calm") != 0 || !slices.Equal(got, []string{"before", "meanwhile", "after"}) {
		t.Errorf("%d resets of a channel that lost nothing, %q", resets("calm"), got)
	}
	if got := b.Sink.Data("cleared"); resets("cleared") != 1 {
		t.Errorf("%q came of a channel that lost something by a removal, and nobody was told", got)
	}
	if h := b.History(t, "hot", hub.HistoryQuery{Limit: -1}); !h.Reaches(last.Offset) || len(h.Publications) != 10 {
		t.Errorf("%d publications from %d on", len(h.Publications), h.Floor)
	}
}

// journal is what was acknowledged of channels.
type journal struct {
	mu    sync.Mutex
	acked map[string]map[uint64]string
}

func (j *journal) publish(t *testing.T, n *brokertest.Node, channel, text string) {
	p := n.Publish(t, channel, text, keep(hub.PublishOptions{}))
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acked[channel] == nil {
		j.acked[channel] = map[uint64]string{}
	}
	j.acked[channel][p.Offset] = text
}

// after returns the offsets of a channel beyond one, in order.
func (j *journal) after(channel string, offset uint64) (list []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for o := range j.acked[channel] {
		if o > offset {
			list = append(list, o)
		}
	}
	slices.Sort(list)
	return list
}

// Whatever the pace at which nodes read, come and go: what comes without a reset between is all there was, and so is what is said to be all since a position.
func TestAnyPace(t *testing.T) {
	const publishers, rounds, each, channels = 16, 4, 500, 5
	s := startEmbedded(t, t.TempDir())
	a := newNode(t, s, Config{Groups: 1, MaxHistorySize: 10})
	b := newNode(t, s, Config{Groups: 1, MaxHistorySize: 10})
	sink := gate(b)
	j := &journal{acked: map[string]map[uint64]string{}}
	for c := range channels {
		b.Subscribe(t, fmt.Sprint("c", c), kept10)
	}
	for round := range rounds {
		sink.shut()
		var publishing sync.WaitGroup
		for n := range publishers {
			publishing.Go(func() {
				for i := range each {
					channel := min(rand.IntN(channels*channels), rand.IntN(channels*channels)) / channels // some more than others
					j.publish(t, a, fmt.Sprint("c", channel), fmt.Sprintf("%d.%d.%d", round, n, i))
					if n == 0 && i == each/2 && round%2 == 0 {
						sink.let()
					}
					if n == 1 && i == each/2 {
						prove(t, j, newNode(t, s, Config{Groups: 1, MaxHistorySize: 10}), channels)
					}
				}
			})
		}
		publishing.Wait()
		if round%2 == 1 {
			sink.let()
		}
	}
	resets := 0
	for c := range channels {
		channel := fmt.Sprint("c", c)
		j.publish(t, a, channel, "last")
		brokertest.Eventually(t, "the last comes", func() bool {
			d := b.Sink.Data(channel)
			return d[len(d)-1] == "last"
		})
		want, at := j.after(channel, 0), 0
		for _, p := range b.Sink.Came(channel) {
			if p.Kind == hub.KindReset {
				resets++
				at = -1
				continue
			}
			if at < 0 {
				at = slices.Index(want, p.Offset)
			}
			if at < 0 || at == len(want) || want[at] != p.Offset || j.acked[channel][p.Offset] != string(p.Data) {
				t.Fatalf("%s: %d %q came at place %d of %d, and nobody was told", channel, p.Offset, p.Data, at, len(want))
			}
			at++
		}
	}
	if resets == 0 {
		t.Error("no node fell behind: this proves nothing")
	}
	prove(t, j, b, channels)
}

// prove asks a node for what came since each position of the last ones, and compares.
func prove(t *testing.T, j *journal, n *brokertest.Node, channels int) {
	for c := range channels {
		channel := fmt.Sprint("c", c)
		want := j.after(channel, 0)
		for _, since := range want[max(0, len(want)-20):] {
			h, err := n.Broker.History(t.Context(), channel, hub.HistoryQuery{Since: &hub.Position{Offset: since}, Limit: -1})
			if err != nil {
				t.Error(err)
				return
			}
			if !h.Reaches(since) {
				continue
			}
			var got []uint64
			for _, p := range h.Publications {
				got = append(got, p.Offset)
			}
			all := j.after(channel, since)
			if n, _ := slices.BinarySearch(all, h.Top.Offset+1); !isPart(all[:n], got) {
				t.Errorf("%s since %d, up to %d: %v, but %v were acknowledged", channel, since, h.Top.Offset, got, all[:n])
			}
		}
	}
}

// isPart reports whether got has all of want; it may have what was not acknowledged yet.
func isPart(want, got []uint64) bool {
	for _, o := range want {
		if _, ok := slices.BinarySearch(got, o); !ok {
			return false
		}
	}
	return true
}
