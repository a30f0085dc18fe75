package hub_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// A publication is handed over when the last shard has it, not before; those to nobody are not timed.
func TestFanoutIsTimed(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor, ShardSubscribers: 1})
	publish(t, h, "nobody's")
	for range 2 {
		subscribe(t, h, "c", new(count))
	}
	publish(t, h, "c")
	executor.tasks[0].Run()
	if n := h.Stats().Fanout.Count; n != 0 {
		t.Errorf("%d are timed when one of two shards is done", n)
	}
	executor.runAll()
	if f := h.Stats().Fanout; f.Count != 1 || f.Sum <= 0 {
		t.Errorf("%d are timed, %v", f.Count, f.Sum)
	}
}

// In a channel of one shard, the first and each 16th is timed, and what leaves with the last subscriber is not.
func TestFanoutIsSampled(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor})
	s := subscribe(t, h, "c", new(count))
	for range 33 {
		publish(t, h, "c")
		executor.runAll()
	}
	if n := h.Stats().Fanout.Count; n != 3 {
		t.Errorf("%d are timed, want 3", n)
	}
	for range 16 {
		publish(t, h, "c")
	}
	s.Unsubscribe()
	executor.runAll()
	if n := h.Stats().Fanout.Count; n != 3 {
		t.Errorf("%d are timed, want 3", n)
	}
}

func TestPublishIsTimed(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}})
	for n := 0; h.Stats().Published.Count == 0; n++ {
		if n == 10_000 {
			t.Fatal("none of 10,000 was timed")
		}
		publish(t, h, "c")
	}
}

// amnesiac is a broker that cannot be asked for the past.
type amnesiac struct{ *memory.Broker }

func (amnesiac) History(context.Context, string, hub.HistoryQuery) (hub.History, error) {
	return hub.History{}, errors.New("the disk is gone")
}

func TestRecoveriesAreCounted(t *testing.T) {
	b := memory.New(memory.Config{})
	h, err := hub.New(hub.Config{
		Broker: b, Executor: refusing{}, MaxRecovered: 2, Channels: hub.Options{HistorySize: 4, HistoryTTL: time.Hour},
		Namespaces: []hub.Namespace{{Name: "latest", Options: hub.Options{HistorySize: 1, HistoryTTL: time.Hour, AllowRecovery: true, RecoverLatest: true}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var top hub.Position
	for range 6 {
		top = publish(t, h, "c")
	}
	latest := publish(t, h, "latest:c")
	for _, c := range []struct {
		channel   string
		since     hub.Position
		want      hub.RecoveryOutcome
		recovered uint64
	}{
		{"c", top, hub.RecoveryDone, 0},
		{"c", hub.Position{Offset: 4, Epoch: top.Epoch}, hub.RecoveryDone, 2},
		{"c", hub.Position{Offset: 3, Epoch: top.Epoch}, hub.RecoveryTooMany, 0},
		{"c", hub.Position{Offset: 7, Epoch: top.Epoch}, hub.RecoveryMissing, 0},
		{"c", hub.Position{Offset: 6, Epoch: "another"}, hub.RecoveryOtherEpoch, 0},
		{"latest:c", latest, hub.RecoveryDone, 0},
		{"latest:c", hub.Position{}, hub.RecoveryDone, 1},
		{"latest:none", hub.Position{}, hub.RecoveryMissing, 0},
	} {
		before := h.Stats()
		if _, err := h.Recover(t.Context(), c.channel, c.since); err != nil {
			t.Fatal(err)
		}
		after := h.Stats()
		for o := range after.Recoveries {
			want := before.Recoveries[o]
			if hub.RecoveryOutcome(o) == c.want {
				want++
			}
			if after.Recoveries[o] != want {
				t.Errorf("%+v: %v is %d, want %d", c, hub.RecoveryOutcome(o), after.Recoveries[o], want)
			}
		}
		if n := after.Recovered - before.Recovered; n != c.recovered {
			t.Errorf("%+v: %d publications", c, n)
		}
	}
}

func TestARecoveryThatFailsIsCounted(t *testing.T) {
	for _, latest := range []bool{false, true} {
		h, err := hub.New(hub.Config{
			Broker: amnesiac{memory.New(memory.Config{})}, Executor: refusing{},
			Channels: hub.Options{HistorySize: 4, HistoryTTL: time.Hour, AllowRecovery: true, RecoverLatest: latest},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := h.Recover(t.Context(), "c", hub.Position{}); err == nil || r.Recovered {
			t.Errorf("%+v, %v", r, err)
		}
		if n := h.Stats().Recoveries[hub.RecoveryFailed]; n != 1 {
			t.Errorf("%d failed", n)
		}
	}
}
