package hub_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/millpond/millpond/push/hub"
)

func TestPublishersDeliverWhenNobodyElseDoes(t *testing.T) {
	const publishers, each, maxWaiting = 8, 400, 10
	for _, test := range []struct {
		name     string
		executor hub.Executor
	}{
		{"inert", inert{}},
		{"refusing", refusing{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t, hub.Config{Executor: test.executor, MaxWaiting: maxWaiting, ShardSubscribers: 5})
			var ledgers []*ledger
			for range 12 { // three shards
				l := new(ledger)
				ledgers = append(ledgers, l)
				subscribe(t, h, "c", l)
			}
			var group sync.WaitGroup
			for range publishers {
				group.Go(func() {
					for range each {
						publish(t, h, "c")
						if n := h.Stats().Waiting; n > 3*(maxWaiting+publishers) {
							t.Errorf("%d wait", n)
						}
					}
				})
			}
			group.Wait()
			for _, l := range ledgers {
				l.check(t)
				if l.count < publishers*each-maxWaiting-publishers {
					t.Errorf("%d delivered of %d", l.count, publishers*each)
				}
			}
		})
	}
}

// TestEveryWorkerPublishes is the case in which waiting for a free worker would
// be waiting for oneself.
func TestEveryWorkerPublishes(t *testing.T) {
	for _, n := range []int{1, 4} {
		executor := newWorkers(t, n)
		h := newHub(t, hub.Config{Executor: executor, MaxWaiting: 2, ShardSubscribers: 3})
		var ledgers []*ledger
		for range 9 {
			l := new(ledger)
			ledgers = append(ledgers, l)
			subscribe(t, h, "c", l)
		}
		var group sync.WaitGroup
		for range n {
			group.Add(1)
			executor.tasks <- taskFunc(func() {
				defer group.Done()
				for range 1000 {
					publish(t, h, "c")
				}
			})
		}
		group.Wait()
		for _, l := range ledgers {
			l.waitFor(t, n*1000)
			l.check(t)
		}
	}
}

type taskFunc func()

func (f taskFunc) Run() { f() }

// gate is a subscriber whose first Deliver waits until the test opens it.
type gate struct {
	ledger
	entered, open chan struct{}
	once          sync.Once
}

func newGate() *gate {
	return &gate{entered: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) Deliver(b *hub.Batch) {
	g.once.Do(func() {
		close(g.entered)
		<-g.open
	})
	g.ledger.Deliver(b)
}

// fill makes a delivery stand at the gate and the queue behind it full.
func fill(t *testing.T, h *hub.Hub, g *gate, maxWaiting int) {
	publish(t, h, "c")
	<-g.entered
	for range maxWaiting {
		publish(t, h, "c")
	}
	if n := h.Stats().Waiting; n != maxWaiting {
		t.Fatalf("%d wait, want %d", n, maxWaiting)
	}
}

func TestFullQueueEndsWithTheContext(t *testing.T) {
	for _, test := range []struct {
		name   string
		config hub.Config
	}{
		{"publications", hub.Config{MaxWaiting: 3}},
		{"bytes", hub.Config{MaxWaitingBytes: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.config.Executor = newSpawning(t)
				h := newHub(t, test.config)
				g := newGate()
				subscribe(t, h, "c", g)
				fill(t, h, g, 3)
				ctx, cancel := context.WithCancel(t.Context())
				result := make(chan error)
				go func() {
					_, err := h.Publish(ctx, "c", nil, hub.PublishOptions{})
					result <- err
				}()
				synctest.Wait() // the publisher waits for room
				cancel()
				if err := <-result; !isError(err, hub.ErrTooManyRequests) || !isError(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
				if n := h.Stats().Publications; n != 4 {
					t.Errorf("%d published, want 4", n)
				}
				close(g.open)
				g.waitFor(t, 4)
				g.check(t)
			})
		})
	}
}

func TestFullQueueWaitsForTheRunningDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Config{Executor: newSpawning(t), MaxWaiting: 3})
		g := newGate()
		subscribe(t, h, "c", g)
		fill(t, h, g, 3)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() { publish(t, h, "c") })
		}
		synctest.Wait() // all twenty wait for room
		if n := h.Stats().Publications; n != 4 {
			t.Errorf("%d published, want 4", n)
		}
		close(g.open)
		group.Wait()
		g.waitFor(t, 24)
		g.check(t)
	})
}

// TestOneLargePublicationPasses: the bound on bytes is on what waits already.
func TestOneLargePublicationPasses(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}, MaxWaitingBytes: 10})
	var c count
	subscribe(t, h, "c", &c)
	if _, err := h.Publish(t.Context(), "c", make([]byte, 1000), hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	if c.n.Load() != 1 {
		t.Error("not delivered")
	}
}

// spawning starts a goroutine for each task. It stands for an executor that
// always has room.
type spawning struct{ tasks sync.WaitGroup }

func newSpawning(t *testing.T) *spawning {
	s := new(spawning)
	t.Cleanup(s.tasks.Wait)
	return s
}

func (s *spawning) Submit(t hub.Task) bool {
	s.tasks.Go(t.Run)
	return true
}

// TestRefusedShardOfALostChannel leaves no gauge behind when the subscriber
// goes between Deliver and Flush.
func TestRefusedShardOfALostChannel(t *testing.T) {
	broker := &stalledBroker{}
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: broker})
	var c count
	sub := subscribe(t, h, "c", &c)
	broker.afterDeliver = sub.Unsubscribe
	publish(t, h, "c")
	if c.n.Load() != 0 {
		t.Error("delivered after Unsubscribe")
	}
	checkEmpty(t, h)
	if n := h.Stats().Publications; n != 1 {
		t.Errorf("%d publications", n)
	}
}

// stalledBroker lets a test act between hand-over and return of Publish.
type stalledBroker struct {
	noHistory
	sink         hub.Sink
	afterDeliver func()
}

func (b *stalledBroker) Attach(sink hub.Sink)                                   { b.sink = sink }
func (b *stalledBroker) Subscribe(context.Context, string, hub.Retention) error { return nil }
func (b *stalledBroker) Unsubscribe(string, hub.Retention)                      {}
func (b *stalledBroker) Publish(_ context.Context, channel string, data []byte, _ hub.PublishOptions) (hub.Position, error) {
	b.sink.Deliver(channel, &hub.Publication{Data: data, Offset: 1})
	b.afterDeliver()
	return hub.Position{Offset: 1}, nil
}
