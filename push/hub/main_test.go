package hub_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// workers is an executor of n goroutines with no queue of its own: it refuses
// while all are busy, as the server's pool does.
type workers struct{ tasks chan hub.Task }

func newWorkers(t testing.TB, n int) *workers {
	w := &workers{tasks: make(chan hub.Task)}
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			for task := range w.tasks {
				task.Run()
			}
		})
	}
	t.Cleanup(func() {
		close(w.tasks)
		group.Wait()
	})
	return w
}

func (w *workers) Submit(t hub.Task) bool {
	select {
	case w.tasks <- t:
		return true
	default:
		return false
	}
}

// inert takes tasks and never runs them.
type inert struct{}

func (inert) Submit(hub.Task) bool { return true }

// refusing takes no task.
type refusing struct{}

func (refusing) Submit(hub.Task) bool { return false }

// manual keeps tasks until the test runs them.
type manual struct {
	mu    sync.Mutex
	tasks []hub.Task
}

func (m *manual) Submit(t hub.Task) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks = append(m.tasks, t)
	return true
}

func (m *manual) runAll() {
	for {
		m.mu.Lock()
		tasks := m.tasks
		m.tasks = nil
		m.mu.Unlock()
		if len(tasks) == 0 {
			return
		}
		for _, t := range tasks {
			t.Run()
		}
	}
}

// ledger is a subscriber that checks the order and remembers the ends.
type ledger struct {
	name string

	mu          sync.Mutex
	first, last uint64
	count       int
	batches     int
	closed      bool // set by the test once Unsubscribe has returned
	fault       error
	changed     chan struct{} // closed when something came; nil if nobody waits
}

func (l *ledger) Deliver(b *hub.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed && l.fault == nil {
		l.fault = fmt.Errorf("%s: delivery after Unsubscribe returned", l.name)
	}
	for _, p := range b.Publications() {
		if l.count == 0 {
			l.first = p.Offset
		} else if p.Offset != l.last+1 && l.fault == nil {
			l.fault = fmt.Errorf("%s: offset %d after %d", l.name, p.Offset, l.last)
		}
		l.last = p.Offset
		l.count++
	}
	l.batches++
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// waitFor returns once n publications have come.
func (l *ledger) waitFor(t *testing.T, n int) {
	t.Helper()
	for {
		l.mu.Lock()
		if l.count >= n {
			l.mu.Unlock()
			return
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%s: %d publications came, want %d", l.name, l.count, n)
		}
	}
}

func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		t.Error(l.fault)
	}
}

func newHub(t testing.TB, config hub.Config) *hub.Hub {
	t.Helper()
	if config.Broker == nil {
		config.Broker = memory.New(memory.Config{})
	}
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func subscribe(t testing.TB, h *hub.Hub, channel string, s hub.Subscriber) *hub.Subscription {
	t.Helper()
	sub, err := h.Subscribe(context.Background(), channel, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.StartAfter(0); err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t testing.TB, h *hub.Hub, channel string) hub.Position {
	t.Helper()
	position, err := h.Publish(context.Background(), channel, []byte("1"), hub.PublishOptions{})
	if err != nil {
		t.Error(err)
	}
	return position
}

func checkEmpty(t *testing.T, h *hub.Hub) {
	t.Helper()
	if err := h.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
	if s := h.Stats(); s.Channels != 0 || s.Subscriptions != 0 || s.Waiting != 0 {
		t.Errorf("not empty: %+v", s)
	}
}

// count is the cheapest subscriber.
type count struct{ n atomic.Int64 }

func (c *count) Deliver(b *hub.Batch) { c.n.Add(int64(len(b.Publications()))) }
