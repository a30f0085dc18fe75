package hub_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// audience follows what belongs to its trace.
type audience struct {
	published, failed, delivered int
}

func (f *audience) Follow(_ context.Context, trace any, _ string) (published func(error), delivered func(), carrier string) {
	if trace != f {
		return nil, nil, ""
	}
	return func(err error) {
		f.published++
		if err != nil {
			f.failed++
		}
	}, func() { f.delivered++ }, ""
}

// Whoever follows a publication learns when the last shard is done with it, also if there is none or it goes before; of others nothing.
func TestPublicationsAreFollowed(t *testing.T) {
	executor, f := new(manual), new(audience)
	h, err := hub.New(hub.Config{Broker: memory.New(memory.Config{}), Executor: executor, ShardSubscribers: 1, Tracer: f})
	if err != nil {
		t.Fatal(err)
	}
	send := func(o hub.PublishOptions, want audience) {
		t.Helper()
		_, err := h.Publish(t.Context(), "c", []byte("1"), o)
		if err != nil && want.failed == f.failed {
			t.Fatal(err)
		}
		if *f != want {
			t.Errorf("%+v, want %+v", *f, want)
		}
	}
	send(hub.PublishOptions{Trace: f}, audience{1, 0, 1}) // nobody has it
	subscribe(t, h, "c", new(count))
	second := subscribe(t, h, "c", new(count))
	send(hub.PublishOptions{}, audience{1, 0, 1})
	send(hub.PublishOptions{Trace: f, IdempotencyKey: "k"}, audience{2, 0, 1})
	executor.tasks[0].Run()
	if f.delivered != 1 {
		t.Error("told with one of two shards")
	}
	executor.runAll()
	if f.delivered != 2 {
		t.Error("not told")
	}
	send(hub.PublishOptions{Trace: f, IdempotencyKey: "k"}, audience{3, 0, 2}) // it is not made
	send(hub.PublishOptions{Trace: f}, audience{4, 0, 2})
	second.Unsubscribe()
	executor.runAll()
	if f.delivered != 3 {
		t.Errorf("told %d times when one has gone", f.delivered)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Publish(ctx, "c", nil, hub.PublishOptions{Trace: f}); !errors.Is(err, context.Canceled) || *f != (audience{5, 1, 3}) {
		t.Errorf("%v, %+v", err, *f)
	}
}
