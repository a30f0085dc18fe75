package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

func TestChannelNames(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}, MaxChannelBytes: 12, AnyNamespace: true})
	for _, test := range []struct {
		name    string
		channel string
		want    string // part of the error; empty for a good name
	}{
		{"plain", "news", ""},
		{"namespace", "orders:42", ""},
		{"any unicode", "näwß ☃", ""},
		{"longest", strings.Repeat("x", 12), ""},
		{"empty", "", "is empty"},
		{"too long", strings.Repeat("x", 13), "has 13 bytes, at most 12"},
		{"invalid UTF-8", "a\xff", "not valid UTF-8"},
		{"surrogate", "a\xed\xa0\x80", "not valid UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := h.CheckChannel(test.channel)
			_, publish := h.Publish(t.Context(), test.channel, nil, hub.PublishOptions{})
			sub, subscribe := h.Subscribe(t.Context(), test.channel, new(count))
			if sub != nil {
				defer sub.Unsubscribe()
			}
			for _, err := range []error{check, publish, subscribe} {
				if test.want == "" && err != nil {
					t.Errorf("error %v", err)
				}
				if test.want == "" {
					continue
				}
				code, message := hub.Describe(err)
				if code != 107 || !strings.Contains(message, test.want) {
					t.Errorf("code %d, message %q, want 107 and %q", code, message, test.want)
				}
			}
		})
	}
}

func TestDescribeHidesInternalErrors(t *testing.T) {
	for _, test := range []struct {
		err     error
		code    uint32
		message string
	}{
		{hub.ErrSubscribed, 105, "already subscribed"},
		{fmt.Errorf("%w: to \"x\"", hub.ErrSubscribed), 105, "already subscribed: to \"x\""},
		{errors.New("dial tcp 10.0.0.1: refused"), 100, "internal server error"},
	} {
		if code, message := hub.Describe(test.err); code != test.code || message != test.message {
			t.Errorf("%v: %d %q", test.err, code, message)
		}
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := hub.New(hub.Config{MaxWaiting: -1, ShardSubscribers: 1 << 40})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Broker", "Executor", "MaxWaiting", "ShardSubscribers"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

// scripted is a broker that checks the alternation of Subscribe and
// Unsubscribe and can be made to wait or fail.
type scripted struct {
	noHistory
	mu        sync.Mutex
	active    map[string]bool
	faults    []string
	calls     int
	subscribe func(call int) error
}

// noHistory is a broker that keeps nothing.
type noHistory struct{}

func (noHistory) History(context.Context, string, hub.HistoryQuery) (hub.History, error) {
	return hub.History{}, nil
}

func (noHistory) RemoveHistory(context.Context, string) error { return nil }

func (b *scripted) Attach(hub.Sink) { b.active = map[string]bool{} }

func (b *scripted) Publish(context.Context, string, []byte, hub.PublishOptions) (hub.Position, error) {
	return hub.Position{}, errors.New("secret detail")
}

func (b *scripted) Subscribe(_ context.Context, channel string, _ hub.Retention) error {
	b.mu.Lock()
	b.calls++
	call := b.calls
	if b.active[channel] {
		b.faults = append(b.faults, "Subscribe twice: "+channel)
	}
	b.mu.Unlock()
	if b.subscribe != nil {
		if err := b.subscribe(call); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active[channel] = true
	return nil
}

func (b *scripted) Unsubscribe(channel string, _ hub.Retention) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.active[channel] {
		b.faults = append(b.faults, "Unsubscribe without Subscribe: "+channel)
	}
	delete(b.active, channel)
}

func TestBrokerSeesFirstAndLastSubscriber(t *testing.T) {
	broker := new(scripted)
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: broker})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 500 {
				sub := subscribe(t, h, fmt.Sprint(rand.IntN(3)), new(count))
				sub.Unsubscribe()
			}
		})
	}
	group.Wait()
	if len(broker.faults) > 0 || len(broker.active) > 0 {
		t.Errorf("faults %v, still active %v", broker.faults, broker.active)
	}
	checkEmpty(t, h)
}

func TestSubscribersWaitForTheBroker(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan error)
	broker := &scripted{subscribe: func(call int) error {
		if call > 1 {
			return nil
		}
		close(asked)
		return <-answer
	}}
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: broker})
	first := make(chan error)
	go func() {
		_, err := h.Subscribe(t.Context(), "c", new(count))
		first <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Subscribe(ctx, "c", new(count)); !isError(err, hub.ErrTooManyRequests) {
		t.Errorf("waiting with an ended context: %v", err)
	}
	second := make(chan error)
	go func() {
		_, err := h.Subscribe(t.Context(), "c", new(count))
		second <- err
	}()
	answer <- errors.New("no route")
	if err := <-first; err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("second, which asked again: %v", err)
	}
	if s := h.Stats(); s.Channels != 1 || s.Subscriptions != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestDeliverWhileTheChannelCloses: brokers forget a channel on Unsubscribe and
// must not be told by a late Deliver to remember it again.
func TestDeliverWhileTheChannelCloses(t *testing.T) {
	broker := new(echoing)
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: broker})
	var c count
	subscribe(t, h, "c", &c).Unsubscribe()
	if want := []bool{false, false}; !slices.Equal(broker.subscribed, want) {
		t.Errorf("Deliver within Subscribe and Unsubscribe reported %v, want %v", broker.subscribed, want)
	}
	if c.n.Load() != 0 {
		t.Errorf("%d delivered", c.n.Load())
	}
	checkEmpty(t, h)
}

// echoing is a broker that delivers from within Subscribe and Unsubscribe.
type echoing struct {
	scripted
	sink       hub.Sink
	subscribed []bool
}

func (b *echoing) Attach(sink hub.Sink) { b.sink = sink }

func (b *echoing) Subscribe(context.Context, string, hub.Retention) error {
	b.deliver()
	return nil
}

func (b *echoing) Unsubscribe(string, hub.Retention) { b.deliver() }

func (b *echoing) deliver() {
	b.subscribed = append(b.subscribed, b.sink.Deliver("c", &hub.Publication{Offset: 1}))
}

func TestPublishErrorOfTheBroker(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}, Broker: new(scripted)})
	_, err := h.Publish(t.Context(), "c", nil, hub.PublishOptions{})
	if code, message := hub.Describe(err); code != 100 || strings.Contains(message, "secret") {
		t.Errorf("code %d, message %q", code, message)
	}
}
