package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a queue's side of messages, and what they did.
type ledger struct {
	mu      sync.Mutex
	done    []int
	refused map[int]error
	did     map[string][]int // by channel
}

// note is a message, and the command that it says.
type note struct {
	ledger   *ledger
	number   int
	channels []string
	fail     func(attempt int) error // nil for none
	bury     func(attempt int) error // likewise
	lost     atomic.Bool

	attempts, burials int // by one goroutine at a time
}

var silent = slog.New(slog.DiscardHandler)

func newLedger() *ledger { return &ledger{refused: map[int]error{}, did: map[string][]int{}} }

func (n *note) Held() bool { return !n.lost.Load() }

func (n *note) Done() {
	n.ledger.mu.Lock()
	defer n.ledger.mu.Unlock()
	n.ledger.done = append(n.ledger.done, n.number)
}

func (n *note) Refuse(_ context.Context, why error) error {
	if n.burials++; n.bury != nil {
		if err := n.bury(n.burials); err != nil {
			return err
		}
	}
	n.ledger.mu.Lock()
	defer n.ledger.mu.Unlock()
	n.ledger.refused[n.number] = why
	return nil
}

func (n *note) Channels() []string { return n.channels }

func (n *note) Do(context.Context) error {
	if n.attempts++; n.fail != nil {
		if err := n.fail(n.attempts); err != nil {
			return err
		}
	}
	n.ledger.mu.Lock()
	defer n.ledger.mu.Unlock()
	for _, c := range n.channels {
		n.ledger.did[c] = append(n.ledger.did[c], n.number)
	}
	return nil
}

func newQueue(t *testing.T) *Queue[*note] {
	t.Helper()
	q := New(Config[*note]{Logger: silent, Decode: func(m *note) (Command, error) {
		if m.channels == nil {
			return nil, fmt.Errorf("%w: no channel", hub.ErrBadRequest)
		}
		return m, nil
	}})
	t.Cleanup(func() { q.Close(context.Background()) })
	return q
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (l *ledger) finished() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.done) + len(l.refused)
}

// Whatever is refused for now or for good, each channel gets its messages once and in their order.
func TestOrder(t *testing.T) {
	const messages = 2000
	l, q := newLedger(), newQueue(t)
	want := map[string][]int{}
	for i := range messages {
		n := &note{ledger: l, number: i, channels: []string{}}
		for range 1 + rand.IntN(3) {
			n.channels = append(n.channels, fmt.Sprint("c", rand.IntN(20))) // the same twice, too
		}
		switch rand.IntN(20) {
		case 0:
			n.fail = func(attempt int) error {
				if attempt < 3 {
					return fmt.Errorf("not yet: %w", hub.ErrUnavailable)
				}
				return nil
			}
		case 1:
			n.fail = func(int) error { return hub.ErrUnknownChannel }
		case 2:
			n.channels = nil
		}
		if n.channels != nil && (n.fail == nil || n.fail(1) != hub.ErrUnknownChannel) {
			for _, c := range n.channels {
				want[c] = append(want[c], i)
			}
		}
		q.Take(n)
	}
	eventually(t, "all are done", func() bool { return l.finished() == messages })
	for c, list := range want {
		if !slices.Equal(l.did[c], list) {
			t.Errorf("%s: %v, want %v", c, l.did[c], list)
		}
	}
	eventually(t, "nothing is kept of them", func() bool { return q.Stats().Waiting == 0 })
	if st := q.Stats(); st.Retried == 0 || st.Malformed == 0 {
		t.Errorf("%+v", st)
	}
}

// One that is refused for now holds up those behind it in its channels, and nobody else.
func TestRefusedForNow(t *testing.T) {
	l, q := newLedger(), newQueue(t)
	var open atomic.Bool
	q.Take(&note{ledger: l, number: 1, channels: []string{"a", "b"}, fail: func(int) error {
		if !open.Load() {
			return errors.New("something does not work")
		}
		return nil
	}})
	q.Take(&note{ledger: l, number: 2, channels: []string{"b"}})
	q.Take(&note{ledger: l, number: 3, channels: []string{"c"}})
	q.Take(&note{ledger: l, number: 4, channels: []string{"b", "c"}})
	eventually(t, "the other channel goes on", func() bool { return l.finished() == 1 })
	eventually(t, "it is tried again and again", func() bool { return q.Stats().Retried > 3 })
	if n := l.finished(); n != 1 || l.done[0] != 3 {
		t.Errorf("%v are done", l.done)
	}
	open.Store(true)
	eventually(t, "all are done", func() bool { return l.finished() == 4 })
	if !slices.Equal(l.did["b"], []int{1, 2, 4}) || !slices.Equal(l.did["c"], []int{3, 4}) {
		t.Errorf("%v", l.did)
	}
}

// What is refused for good goes to where such go, and what panics too; what is not ours any more is left alone.
func TestRefusedForGood(t *testing.T) {
	l, q := newLedger(), newQueue(t)
	lost := &note{ledger: l, number: 5, channels: []string{"a"}}
	lost.lost.Store(true)
	for _, n := range []*note{
		{number: 1, channels: []string{"a"}, fail: func(int) error { return hub.ErrLimitExceeded }, bury: func(attempt int) error {
			if attempt < 3 {
				return errors.New("no room for the dead")
			}
			return nil
		}},
		{number: 2},
		{number: 3, channels: []string{"a"}, fail: func(int) error { panic("it does") }},
		{number: 4, channels: []string{"a"}},
		lost,
		{number: 6, channels: []string{"a"}},
	} {
		n.ledger = l
		q.Take(n)
	}
	eventually(t, "all are done", func() bool { return l.finished() == 5 })
	for number, want := range map[int]error{1: hub.ErrLimitExceeded, 2: hub.ErrBadRequest, 3: hub.ErrBadRequest} {
		if err := l.refused[number]; !errors.Is(err, want) {
			t.Errorf("%d was refused with %v, want %v", number, err, want)
		}
	}
	if !slices.Equal(l.did["a"], []int{4, 6}) {
		t.Errorf("%v", l.did)
	}
}

// A queue that ends tries nothing again, and waits for what is under way.
func TestClose(t *testing.T) {
	l, q := newLedger(), newQueue(t)
	began, free := make(chan struct{}), make(chan struct{})
	q.Take(&note{ledger: l, number: 1, channels: []string{"a"}, fail: func(int) error { return hub.ErrUnavailable }})
	q.Take(&note{ledger: l, number: 2, channels: []string{"b"}, fail: func(int) error {
		close(began)
		<-free
		return nil
	}})
	q.Take(&note{ledger: l, number: 3, channels: []string{"b"}})
	<-began
	closed := make(chan struct{})
	go func() {
		q.Close(context.Background())
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("it does not wait")
	case <-q.ctx.Done():
	}
	close(free)
	<-closed
	if !slices.Equal(l.done, []int{2}) || len(l.refused) != 0 {
		t.Errorf("done: %v, refused: %v", l.done, l.refused)
	}
}
