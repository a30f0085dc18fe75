package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

// heard is something that a subscriber was told: a message, or with a client that it came or went.
type heard struct {
	kind   hub.Kind
	client string
	number string // each has another
}

// listener remembers what it hears. All its calls are the test's.
type listener []heard

// Deliver implements hub.Subscriber.
func (l *listener) Deliver(b *hub.Batch) {
	for _, p := range b.Publications() {
		if p.Kind == hub.KindMessage {
			*l = append(*l, heard{number: string(p.Data)})
		} else {
			*l = append(*l, heard{p.Kind, p.Info.Client, p.Info.User})
		}
	}
}

// ear has a subscriber of each of two hubs.
type ear struct {
	got, want listener
	subs      [2]*hub.Subscription
	here      map[string]bool // who was there when it came
}

func newEar(t *testing.T, events bool, here map[string]bool, hubs ...*hub.Hub) *ear {
	e := &ear{here: map[string]bool{}}
	for client, is := range here {
		e.here[client] = is
	}
	for i, l := range []*listener{&e.got, &e.want} {
		sub, err := hubs[i].Subscribe(context.Background(), "c", l)
		if err != nil {
			t.Fatal(err)
		}
		if events {
			sub.ReceiveEvents()
		}
		sub.Start()
		e.subs[i] = sub
	}
	return e
}

func (e *ear) close() {
	e.subs[0].Unsubscribe()
	e.subs[1].Unsubscribe()
}

// What subscribers of a hub with short queues hear is what those of one with long queues hear, the naive twin, but for some joins, each
// together with the leave that undoes it; and who came between those two may miss the leave.
func TestShortQueuesAgainstLongOnes(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := new(manual)
		config := hub.Config{Executor: m, MaxWaiting: 1 + random.IntN(12), ShardSubscribers: 1 + random.IntN(3)}
		short := newHub(t, config)
		config.MaxWaiting = 1 << 20
		long := newHub(t, config)
		here := map[string]bool{}
		var ears, all []*ear
		for i := range 3000 {
			switch r := random.IntN(100); {
			case r < 3 && len(ears) < 6:
				e := newEar(t, random.IntN(4) > 0, here, short, long)
				ears, all = append(ears, e), append(all, e)
			case r < 5 && len(ears) > 1:
				m.runAll()
				at := random.IntN(len(ears))
				ears[at].close()
				ears = slices.Delete(ears, at, at+1)
			case r < 8:
				m.runAll()
			case r < 20:
				send(t, short, "c", fmt.Sprint(i), hub.PublishOptions{})
				send(t, long, "c", fmt.Sprint(i), hub.PublishOptions{})
			default:
				info, kind := &hub.ClientInfo{Client: fmt.Sprint("c", random.IntN(20)), User: fmt.Sprint(i)}, hub.KindJoin
				if here[info.Client] {
					kind = hub.KindLeave
				}
				here[info.Client] = !here[info.Client]
				for _, h := range []*hub.Hub{short, long} {
					if err := h.Announce(context.Background(), "c", kind, info); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := short.ConsistencyCheck(); err != nil {
				t.Fatal(err)
			}
		}
		m.runAll()
		for n, e := range all {
			if err := e.check(); err != nil {
				t.Fatalf("seed %d, subscriber %d: %v", seed, n, err)
			}
		}
		for _, e := range ears {
			e.close()
		}
		checkEmpty(t, short)
		checkEmpty(t, long)
	}
}

func (e *ear) check() error {
	got, out := e.got, map[string]bool{} // clients whose latest join was left out
	for _, h := range e.want {
		told := len(got) > 0 && got[0] == h
		if told {
			got = got[1:]
		}
		switch {
		case h.kind == hub.KindJoin:
			out[h.client] = !told
		case h.kind == hub.KindLeave && e.here[h.client]: // from before
		case h.kind == hub.KindLeave && told == out[h.client]:
			return fmt.Errorf("%v told: %t, the join before told: %t", h, told, !out[h.client])
		case h.kind == hub.KindLeave:
			out[h.client] = false
		case !told:
			return fmt.Errorf("%v is missing", h)
		}
		if h.kind != hub.KindMessage {
			delete(e.here, h.client)
		}
	}
	for client, is := range out {
		if is {
			return fmt.Errorf("the last join of %s is missing", client)
		}
	}
	if len(got) > 0 {
		return fmt.Errorf("%v is out of place", got[0])
	}
	return nil
}
