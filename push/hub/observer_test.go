package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// witness is an observer that checks that edges take turns and that nobody goes who did not come.
type witness struct {
	mu     sync.Mutex
	users  map[string]map[string]int // by channel
	edges  map[string]int
	misses []string
	fault  error
}

// Subscribed implements hub.Observer.
func (w *witness) Subscribed(channel, user string, first bool, wanted hub.Events) {
	w.note(channel, user, first, 1, wanted)
}

// Unsubscribed implements hub.Observer.
func (w *witness) Unsubscribed(channel, user string, last bool, wanted hub.Events) {
	w.note(channel, user, last, -1, wanted)
}

// Missed implements hub.Observer.
func (w *witness) Missed(channel string) { w.misses = append(w.misses, channel) }

func (w *witness) note(channel, user string, edge bool, by int, wanted hub.Events) {
	w.mu.Lock()
	defer w.mu.Unlock()
	users := w.users[channel]
	if users == nil {
		users = map[string]int{}
		w.users[channel] = users
	}
	count := func() (n int) {
		for _, c := range users {
			n += c
		}
		return n
	}
	before := count()
	users[user] += by
	after := count()
	switch {
	case wanted == 0:
		w.fault = errors.New("told what nobody wants")
	case users[user] < 0:
		w.fault = fmt.Errorf("%s went from %s without having come", user, channel)
	case edge != (before == 0 || after == 0):
		w.fault = fmt.Errorf("%s: edge %t, but %d subscribers before and %d after", channel, edge, before, after)
	}
	if edge {
		w.edges[channel] += by
		if n := w.edges[channel]; n != 0 && n != 1 {
			w.fault = fmt.Errorf("%s: %d edges up more than down", channel, n)
		}
	}
}

// user is a subscriber that is somebody's.
type user string

// Deliver implements hub.Subscriber.
func (user) Deliver(*hub.Batch) {}

// User implements hub.Member.
func (u user) User() string { return string(u) }

func observed(t testing.TB, o hub.Observer, events hub.Events) *hub.Hub {
	t.Helper()
	h, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: inert{}, Observer: o, ShardSubscribers: 4,
		Namespaces: []hub.Namespace{{Name: "told", Options: hub.Options{Events: events}}, {Name: "quiet"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestObserver(t *testing.T) {
	w := &witness{users: map[string]map[string]int{}, edges: map[string]int{}}
	h := observed(t, w, hub.EventOccupied|hub.EventVacated|hub.EventJoined|hub.EventLeft)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 500 {
				for _, space := range []string{"told", "quiet"} {
					s, err := h.Subscribe(context.Background(), fmt.Sprintf("%s:%d", space, rand.N(3)), user(fmt.Sprint(rand.N(3))))
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Unsubscribe()
					if rand.N(2) == 0 {
						s.Unsubscribe()
						s.Unsubscribe()
					}
				}
			}
		})
	}
	group.Wait()
	if w.fault != nil {
		t.Error(w.fault)
	}
	if len(w.users) != 3 {
		t.Errorf("told of %d channels, want 3", len(w.users))
	}
	for channel, n := range w.edges {
		if n != 0 {
			t.Errorf("%s is occupied by what was told, and empty", channel)
		}
	}
	if err := h.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
}

// Channels' events alone cost nothing where the channel has subscribers already.
func TestObserverHearsEdgesAlone(t *testing.T) {
	w := &witness{users: map[string]map[string]int{}, edges: map[string]int{}}
	h := observed(t, w, hub.EventOccupied)
	a, _ := h.Subscribe(t.Context(), "told:c", user("a"))
	b, _ := h.Subscribe(t.Context(), "told:c", user("b"))
	a.Unsubscribe()
	if got := w.users["told:c"]; w.fault != nil || got["a"] != 1 || len(got) != 1 {
		t.Errorf("told of %v, fault %v", got, w.fault)
	}
	b.Unsubscribe()
}

// BenchmarkObserved shows what a subscription costs with and without an observer.
func BenchmarkObserved(b *testing.B) {
	for _, bb := range []struct {
		name     string
		observer hub.Observer
		channel  string
	}{{"off", nil, "told:c"}, {"other namespace", silent{}, "quiet:c"}, {"on", silent{}, "told:c"}} {
		b.Run(bb.name, func(b *testing.B) {
			h := observed(b, bb.observer, hub.EventOccupied|hub.EventVacated|hub.EventJoined|hub.EventLeft)
			b.ReportAllocs()
			for b.Loop() {
				s, err := h.Subscribe(context.Background(), bb.channel, user("u"))
				if err != nil {
					b.Fatal(err)
				}
				s.Unsubscribe()
			}
		})
	}
}

type silent struct{}

func (silent) Subscribed(string, string, bool, hub.Events)   {}
func (silent) Unsubscribed(string, string, bool, hub.Events) {}
func (silent) Missed(string)                                 {}

// Who was told to have come goes, though nobody wants to know any more of those who come.
func TestEventsAfterReconfigure(t *testing.T) {
	w := &witness{users: map[string]map[string]int{}, edges: map[string]int{}}
	h := observed(t, w, hub.EventOccupied|hub.EventVacated|hub.EventJoined|hub.EventLeft)
	sub := subscribe(t, h, "told:c", user("ann"))
	if err := h.Reconfigure(hub.Options{}, []hub.Namespace{{Name: "told"}}, false); err != nil {
		t.Fatal(err)
	}
	sub.Unsubscribe()
	if n, came := w.users["told:c"]["ann"]; w.fault != nil || w.edges["told:c"] != 0 || n != 0 || !came {
		t.Errorf("%v, edges %v, users %v", w.fault, w.edges, w.users)
	}
}
