package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

func isError(err, target error) bool { return errors.Is(err, target) }

func TestFanOutAcrossShards(t *testing.T) {
	const subscribers, publications = 3500, 20
	h := newHub(t, hub.Config{Executor: newWorkers(t, 4)})
	ledgers := make([]*ledger, subscribers)
	subs := make([]*hub.Subscription, subscribers)
	for i := range ledgers {
		ledgers[i] = &ledger{name: fmt.Sprint(i)}
		subs[i] = subscribe(t, h, "c", ledgers[i])
	}
	for range publications {
		publish(t, h, "c")
	}
	for _, l := range ledgers {
		l.waitFor(t, publications)
		l.check(t)
		if l.count != publications {
			t.Errorf("%s: %d publications", l.name, l.count)
		}
	}
	if s := h.Stats(); s.Channels != 1 || s.Subscriptions != subscribers || s.Publications != publications {
		t.Errorf("stats %+v", s)
	}
	for n, i := range rand.Perm(subscribers) {
		subs[i].Unsubscribe()
		if n%700 == 0 && n > 0 {
			if err := h.ConsistencyCheck(); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkEmpty(t, h)
	// The last may be counted a moment after they came.
	for deadline := time.Now().Add(10 * time.Second); h.Stats().Deliveries != subscribers*publications; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries, want %d", h.Stats().Deliveries, subscribers*publications)
		}
	}
}

// TestPlacesAreReused lets half of 4 shards leave and come again: the freed
// places are taken before a shard is added.
func TestPlacesAreReused(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor, ShardSubscribers: 10})
	var c count
	var subs []*hub.Subscription
	for range 40 {
		subs = append(subs, subscribe(t, h, "c", &c))
	}
	for range 5 {
		rand.Shuffle(len(subs), func(i, j int) { subs[i], subs[j] = subs[j], subs[i] })
		for _, s := range subs[20:] {
			s.Unsubscribe()
		}
		for i := range subs[20:] {
			subs[20+i] = subscribe(t, h, "c", &c)
		}
	}
	publish(t, h, "c")
	if n := len(executor.tasks); n != 4 {
		t.Errorf("%d tasks for 40 subscribers in shards of 10, want 4", n)
	}
	if err := h.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
	executor.runAll()
	if n := c.n.Load(); n != 40 {
		t.Errorf("%d deliveries, want 40", n)
	}
}

func TestPublicationIsEncodedOnce(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}, ShardSubscribers: 10})
	var mu sync.Mutex
	built := 0
	var seen []*string
	build := func(channel string, p *hub.Publication) *string {
		mu.Lock()
		defer mu.Unlock()
		built++
		s := fmt.Sprintf("%s@%d", channel, p.Offset)
		return &s
	}
	for range 35 {
		subscribe(t, h, "c", deliverFunc(func(b *hub.Batch) {
			seen = append(seen, hub.Frames(b, hub.EncodingPlain, build)...)
		}))
	}
	publish(t, h, "c")
	publish(t, h, "c")
	if built != 2 || len(seen) != 70 {
		t.Fatalf("built %d, delivered %d; want 2 and 70", built, len(seen))
	}
	for i, s := range seen {
		if s != seen[i/35*35] {
			t.Fatalf("delivery %d has a frame of its own", i)
		}
	}
	if *seen[0] != "c@1" || *seen[69] != "c@2" {
		t.Errorf("frames %q and %q", *seen[0], *seen[69])
	}
}

// TestFramesOfATail gives a subscriber the end of a batch whose beginning was
// before its time.
func TestFramesOfATail(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor})
	build := func(_ string, p *hub.Publication) string { return fmt.Sprint(p.Offset) }
	var got [2][]string
	for i := range got {
		subscribe(t, h, "c", deliverFunc(func(b *hub.Batch) {
			got[i] = append(got[i], hub.Frames(b, hub.EncodingPlain, build)...)
		}))
		publish(t, h, "c")
		publish(t, h, "c")
	}
	executor.runAll()
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(got[0], want) {
		t.Errorf("early got %v, want %v", got[0], want)
	}
	if want := []string{"3", "4"}; !slices.Equal(got[1], want) {
		t.Errorf("late got %v, want %v", got[1], want)
	}
}

func TestEncodedByManyAtOnceIsOne(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}, ShardSubscribers: 1})
	encode := deliverFunc(func(b *hub.Batch) {
		var group sync.WaitGroup
		got := make([]*int, 8)
		for i := range got {
			group.Go(func() {
				got[i] = hub.Encoded("c", b.Publications()[0], hub.EncodingPlain, func(string, *hub.Publication) *int { return new(int) })
			})
		}
		group.Wait()
		for _, g := range got {
			if g != got[0] {
				t.Error("two encodings are in use")
			}
		}
	})
	subscribe(t, h, "c", encode)
	subscribe(t, h, "c", encode) // another shard
	for range 100 {
		publish(t, h, "c")
	}
}

// What is encoded for many, and what a delta is made from, goes with the delivery, so that a history keeps the data alone; whoever has
// not got it by then, having left or not begun, is no reason to keep it.
func TestEncodedIsNotKept(t *testing.T) {
	for name, options := range map[string]hub.PublishOptions{"whole": {}, "delta": {Delta: true}, "event": {Kind: hub.KindJoin}} {
		t.Run(name, func(t *testing.T) {
			m := new(manual)
			h := newHub(t, hub.Config{Executor: m, ShardSubscribers: 1, Channels: hub.Options{AllowFossilDelta: true}})
			built := 0
			build := func(string, *hub.Publication) *int { built++; return new(int) }
			var last *hub.Publication
			deliver := deliverFunc(func(b *hub.Batch) {
				for _, p := range b.Publications() {
					hub.Encoded("c", p, hub.EncodingPlain, build)
					last = p
				}
			})
			var subs []*hub.Subscription
			for i := range 4 {
				sub, err := h.Subscribe(t.Context(), "c", deliver)
				if err != nil {
					t.Fatal(err)
				}
				sub.ReceiveEvents()
				if i < 3 {
					sub.Start()
				}
				subs = append(subs, sub)
			}
			publish := func() {
				if options.Kind == hub.KindMessage {
					send(t, h, "c", "1", options)
				} else {
					announce(t, h, options.Kind, fmt.Sprint(built))
				}
			}
			publish()
			m.runAll()
			publish()
			subs[0].Unsubscribe() // with what waits for it
			m.runAll()
			if built != 2 {
				t.Errorf("built %d times for 2", built)
			}
			before := built
			for range 2 {
				hub.Encoded("c", last, hub.EncodingPlain, build)
			}
			if _, ok := last.Base(); built != before+2 || ok {
				t.Errorf("a frame or a base is kept: %d, %t", built-before, ok)
			}
			publish() // to a shard that is empty as well
			m.runAll()
			before = built
			for range 2 {
				hub.Encoded("c", last, hub.EncodingPlain, build)
			}
			if built != before+2 {
				t.Error("a frame is kept because a shard is empty")
			}
			for _, s := range subs {
				s.Unsubscribe()
			}
			checkEmpty(t, h)
		})
	}
}

func TestPanicEndsOneTurnOnly(t *testing.T) {
	var blamed []hub.Subscriber
	h := newHub(t, hub.Config{
		Executor: refusing{},
		OnPanic: func(s hub.Subscriber, v any) {
			if v != "boom" {
				t.Errorf("value %v", v)
			}
			blamed = append(blamed, s)
		},
	})
	var c count
	bad := new(bomb)
	for i := range 100 {
		if i == 40 {
			subscribe(t, h, "c", bad)
		}
		subscribe(t, h, "c", &c)
	}
	publish(t, h, "c")
	publish(t, h, "c")
	if n := c.n.Load(); n != 200 {
		t.Errorf("the others got %d, want 200", n)
	}
	if len(blamed) != 2 || blamed[0] != hub.Subscriber(bad) || h.Stats().Panics != 2 {
		t.Errorf("blamed %v, stats %+v", blamed, h.Stats())
	}
	if err := h.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
}

type bomb struct{ _ int }

func (*bomb) Deliver(*hub.Batch) { panic("boom") }

// deliverFunc makes a subscriber of a function.
type deliverFunc func(*hub.Batch)

func (f deliverFunc) Deliver(b *hub.Batch) { f(b) }

// framed is a subscriber on the path that protocols take.
type framed struct{ bytes int }

func (f *framed) Deliver(b *hub.Batch) {
	for _, frame := range hub.Frames(b, hub.EncodingPlain, buildFrame) {
		f.bytes += len(*frame)
	}
}

func buildFrame(channel string, p *hub.Publication) *[]byte {
	b := append([]byte(channel), p.Data...)
	return &b
}

func TestDeliveryAllocatesNothing(t *testing.T) {
	allocations := func(subscribers int) float64 {
		h := newHub(t, hub.Config{Executor: refusing{}})
		for range subscribers {
			subscribe(t, h, "c", new(framed))
		}
		data := []byte(`{"n":1}`)
		return testing.AllocsPerRun(200, func() {
			if _, err := h.Publish(context.Background(), "c", data, hub.PublishOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	// The Publication, its frame's slice and the bytes in it; what several shards deliver also has a place for its
	// encodings. Under the race
	// detector sync.Pool forgets one object in four.
	budget, perShard := 3.0, 0.0
	if raceEnabled {
		budget, perShard = 6, 3
	}
	if one := allocations(1); one > budget {
		t.Errorf("one publication to one subscriber: %v allocations, budget %v", one, budget)
	}
	if many := allocations(3000); many > budget+1+3*perShard {
		t.Errorf("one publication to 3,000 subscribers: %v allocations, budget %v", many, budget+1+3*perShard)
	}
}

// TestMemoryPerSubscription holds the hub's part of the budget of 1 KiB per
// connection with a personal and a shared channel.
func TestMemoryPerSubscription(t *testing.T) {
	const n = 50_000
	b := memory.New(memory.Config{})
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: b, AnyNamespace: true})
	var c count
	subs := make([]*hub.Subscription, 0, 2*n)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("personal:%08d", i)
	}
	before := heap()
	for range n {
		subs = append(subs, subscribe(t, h, "shared", &c))
	}
	afterShared := heap()
	for _, name := range names {
		subs = append(subs, subscribe(t, h, name, &c))
	}
	afterPersonal := heap()
	for _, name := range names {
		publish(t, h, name)
	}
	afterPublish := heap()
	shared := (afterShared - before) / n
	personal := (afterPersonal - afterShared) / n
	published := (afterPublish - afterPersonal) / n
	t.Logf("bytes: a subscription on a shared channel %d, a personal channel %d, after its first message %d more", shared, personal, published)
	if shared > 72 || personal > 340 || published > 140 {
		t.Errorf("over budget: shared 72, personal 340, first message 140")
	}
	for _, s := range subs {
		s.Unsubscribe()
	}
	checkEmpty(t, h)
	if left := b.Stats().Streams; left != 0 {
		t.Errorf("the broker remembers %d channels", left)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFanOut asks what one delivery costs the hub, without a socket.
func BenchmarkFanOut(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1000, 15_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := newHub(b, hub.Config{Executor: refusing{}})
			for range subscribers {
				subscribe(b, h, "c", new(framed))
			}
			data := []byte(`{"n":1}`)
			b.ReportAllocs()
			for b.Loop() {
				h.Publish(context.Background(), "c", data, hub.PublishOptions{})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers), "ns/delivery")
		})
	}
}
