package hub_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// sparse is a broker whose offsets have gaps, as those of a log that many channels share. What is not of the past is memory's.
type sparse struct {
	*memory.Broker
	past hub.History
}

func (s *sparse) History(_ context.Context, _ string, q hub.HistoryQuery) (hub.History, error) {
	h := s.past
	h.Publications = nil
	for _, p := range s.past.Publications {
		if q.Since == nil || p.Offset > q.Since.Offset {
			h.Publications = append(h.Publications, p)
		}
	}
	if q.Reverse {
		slices.Reverse(h.Publications)
	}
	if q.Limit >= 0 && len(h.Publications) > q.Limit {
		h.Publications = h.Publications[:q.Limit]
	}
	return h, nil
}

// Recovery is proved by the floor and the top, and not by counting offsets.
func TestRecoverWithGaps(t *testing.T) {
	past := hub.History{Top: hub.Position{Offset: 900, Epoch: "e"}, Floor: 100}
	for _, offset := range []uint64{170, 400, 880} {
		past.Publications = append(past.Publications, &hub.Publication{Offset: offset})
	}
	empty := hub.History{Top: past.Top, Floor: past.Floor}
	for _, c := range []struct {
		name   string
		past   hub.History
		latest bool
		since  hub.Position
		ok     bool
		want   []uint64
	}{
		{"below the floor", past, false, hub.Position{Offset: 99, Epoch: "e"}, false, nil},
		{"at the floor", past, false, hub.Position{Offset: 100, Epoch: "e"}, true, []uint64{170, 400, 880}},
		{"between two", past, false, hub.Position{Offset: 171, Epoch: "e"}, true, []uint64{400, 880}},
		{"at the latest", past, false, hub.Position{Offset: 880, Epoch: "e"}, true, nil},
		{"at the top", past, false, hub.Position{Offset: 900, Epoch: "e"}, true, nil},
		{"beyond", past, false, hub.Position{Offset: 901, Epoch: "e"}, false, nil},
		{"another epoch", past, false, hub.Position{Offset: 880, Epoch: "f"}, false, nil},
		{"a quiet channel", empty, false, hub.Position{Offset: 500, Epoch: "e"}, true, nil},
		{"a quiet channel, long ago", empty, false, hub.Position{Offset: 50, Epoch: "e"}, false, nil},
		{"latest: known", past, true, hub.Position{Offset: 885, Epoch: "e"}, true, nil},
		{"latest: not known", past, true, hub.Position{Offset: 400, Epoch: "e"}, true, []uint64{880}},
		{"latest: long ago", past, true, hub.Position{Offset: 3, Epoch: "e"}, true, []uint64{880}},
		{"latest: another epoch", past, true, hub.Position{Offset: 885, Epoch: "f"}, true, []uint64{880}},
		{"latest: nothing there, nothing missed", empty, true, hub.Position{Offset: 885, Epoch: "e"}, true, nil},
		{"latest: nothing there", empty, true, hub.Position{Offset: 3, Epoch: "e"}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := hub.New(hub.Config{
				Broker: &sparse{memory.New(memory.Config{}), c.past}, Executor: refusing{},
				Channels: hub.Options{HistorySize: 10, HistoryTTL: time.Minute, ForceRecovery: true, RecoverLatest: c.latest},
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := h.Recover(t.Context(), "c", c.since)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, p := range r.Publications {
				got = append(got, p.Offset)
			}
			if r.Recovered != c.ok || !slices.Equal(got, c.want) || r.From != c.past.Top {
				t.Errorf("recovered %v with %v from %v, want %v with %v", r.Recovered, got, r.From, c.ok, c.want)
			}
		})
	}
}
