package memory

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

// recorder is a sink that notes what it is handed, in order.
type recorder struct {
	mu         sync.Mutex
	subscribed map[string]bool
	offsets    map[string][]uint64
}

func newRecorder(channels ...string) *recorder {
	r := &recorder{subscribed: map[string]bool{}, offsets: map[string][]uint64{}}
	for _, c := range channels {
		r.subscribed[c] = true
	}
	return r
}

func (r *recorder) Deliver(channel string, p *hub.Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.subscribed[channel] {
		return false
	}
	r.offsets[channel] = append(r.offsets[channel], p.Offset)
	return true
}

func (r *recorder) Admit(context.Context, string) error { return nil }
func (r *recorder) Flush(string)                        {}
func (r *recorder) Channels(func(string, int) bool)     {}

func (r *recorder) Subscribed(channel string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribed[channel]
}

func (r *recorder) setSubscribed(channel string, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribed[channel] = yes
}

func publish(t *testing.T, b *Broker, channel string) hub.Position {
	t.Helper()
	p, err := b.Publish(t.Context(), channel, []byte("1"), hub.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOffsetsRiseByOneWithinAnEpoch(t *testing.T) {
	b := New(Config{})
	b.Attach(newRecorder("a", "b"))
	epochs := map[string]string{}
	for i := 1; i <= 100; i++ {
		for _, channel := range []string{"a", "b"} {
			p := publish(t, b, channel)
			if p.Offset != uint64(i) {
				t.Fatalf("%s: offset %d, want %d", channel, p.Offset, i)
			}
			if i > 1 && p.Epoch != epochs[channel] {
				t.Fatalf("%s: epoch changed from %s to %s", channel, epochs[channel], p.Epoch)
			}
			epochs[channel] = p.Epoch
		}
	}
	if epochs["a"] == epochs["b"] {
		t.Errorf("both channels have epoch %s", epochs["a"])
	}
	if !regexp.MustCompile(`^[a-zA-F]{8}$`).MatchString(epochs["a"]) {
		t.Errorf("epoch %q is not 8 letters", epochs["a"])
	}
}

func TestLastUnsubscribeEndsTheStream(t *testing.T) {
	b := New(Config{})
	r := newRecorder("a")
	b.Attach(r)
	publish(t, b, "a")
	before := publish(t, b, "a")
	r.setSubscribed("a", false)
	b.Unsubscribe("a", hub.Retention{})
	if n := b.Stats().Streams; n != 0 {
		t.Fatalf("%d streams after the last unsubscribe", n)
	}
	r.setSubscribed("a", true)
	after := publish(t, b, "a")
	if after.Offset != 1 || after.Epoch == before.Epoch {
		t.Errorf("after %v came %v, want offset 1 in a new epoch", before, after)
	}
}

func TestChannelsWithoutSubscribersLeaveNothing(t *testing.T) {
	b := New(Config{})
	b.Attach(newRecorder())
	for i := range 10_000 {
		if p := publish(t, b, fmt.Sprint("once:", i)); p.Offset != 1 {
			t.Fatalf("offset %d, want 1", p.Offset)
		}
	}
	if n := b.Stats().Streams; n != 0 {
		t.Errorf("%d streams remembered", n)
	}
}

func TestHandOverOrderIsOffsetOrder(t *testing.T) {
	const publishers, each = 8, 2000
	b := New(Config{})
	r := newRecorder("a")
	b.Attach(r)
	var group sync.WaitGroup
	for range publishers {
		group.Go(func() {
			for range each {
				publish(t, b, "a")
			}
		})
	}
	group.Wait()
	if n := len(r.offsets["a"]); n != publishers*each {
		t.Fatalf("%d handed over, want %d", n, publishers*each)
	}
	for i, offset := range r.offsets["a"] {
		if offset != uint64(i+1) {
			t.Fatalf("number %d has offset %d", i+1, offset)
		}
	}
}

func TestPublishAfterContextEndedDoesNothing(t *testing.T) {
	b := New(Config{})
	r := newRecorder("a")
	b.Attach(r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Publish(ctx, "a", nil, hub.PublishOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(r.offsets) != 0 || b.Stats().Streams != 0 {
		t.Errorf("published nevertheless: %v", r.offsets)
	}
}

func TestOneAllocationPerPublication(t *testing.T) {
	b := New(Config{})
	b.Attach(sinkFunc(func(*hub.Publication) bool { return true }))
	publish(t, b, "a")
	data := []byte("1")
	if n := testing.AllocsPerRun(1000, func() {
		b.Publish(context.Background(), "a", data, hub.PublishOptions{})
	}); n > 1 {
		t.Errorf("%v allocations, want the Publication alone", n)
	}
}

type sinkFunc func(*hub.Publication) bool

func (f sinkFunc) Deliver(channel string, p *hub.Publication) bool { return f(p) }
func (f sinkFunc) Admit(context.Context, string) error             { return nil }
func (f sinkFunc) Flush(string)                                    {}
func (f sinkFunc) Channels(func(string, int) bool)                 {}
func (f sinkFunc) Subscribed(string) bool                          { return true }
