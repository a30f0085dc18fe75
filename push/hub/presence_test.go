package hub_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

func TestPresence(t *testing.T) {
	h := newHub(t, hub.Config{
		Executor: refusing{}, MaxPresence: 5, ShardSubscribers: 2,
		Channels: hub.Options{Presence: true}, Namespaces: []hub.Namespace{{Name: "none"}},
	})
	here := func() string {
		t.Helper()
		list, err := h.Presence("c")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, info := range list {
			names = append(names, info.Client)
		}
		slices.Sort(names)
		stats, err := h.PresenceStats("c")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(strings.Join(names, ","), stats)
	}
	if got := here(); got != "{0 0}" {
		t.Errorf("nobody: %s", got)
	}
	var subs []*hub.Subscription
	for i, user := range []string{"ann", "ann", "bob", "", ""} {
		subs = append(subs, follow(t, h, &diary{info: &hub.ClientInfo{User: user, Client: fmt.Sprint(i)}}, false))
	}
	invisible := subscribe(t, h, "c", new(count)) // no Presenter
	unnamed := follow(t, h, new(diary), false)    // none that others may see
	if got := here(); got != "0,1,2,3,4{5 3}" {
		t.Errorf("five: %s", got)
	}
	sixth := follow(t, h, &diary{info: &hub.ClientInfo{Client: "5"}}, false)
	if _, err := h.Presence("c"); !errors.Is(err, hub.ErrLimitExceeded) {
		t.Errorf("six: %v", err)
	}
	if stats, err := h.PresenceStats("c"); err != nil || stats != (hub.PresenceStats{Clients: 6, Users: 3}) {
		t.Errorf("six: %v %v", stats, err)
	}
	for _, s := range []*hub.Subscription{sixth, subs[0], subs[3], invisible, unnamed} {
		s.Unsubscribe()
	}
	if got := here(); got != "1,2,4{3 3}" {
		t.Errorf("three: %s", got)
	}
	for _, channel := range []string{"none:c", "nowhere:c", ""} {
		want := map[string]error{"none:c": hub.ErrNotAvailable, "nowhere:c": hub.ErrUnknownChannel, "": hub.ErrBadRequest}[channel]
		_, err := h.Presence(channel)
		_, statsErr := h.PresenceStats(channel)
		if !errors.Is(err, want) || !errors.Is(statsErr, want) {
			t.Errorf("%q: %v, %v", channel, err, statsErr)
		}
	}
	for _, i := range []int{1, 2, 4} {
		subs[i].Unsubscribe()
	}
	checkEmpty(t, h)
}

func TestRecoverLatest(t *testing.T) {
	h := newHub(t, hub.Config{
		Executor: refusing{}, MaxRecovered: 1,
		Channels: hub.Options{HistorySize: 3, HistoryTTL: time.Minute, ForceRecovery: true, RecoverLatest: true},
	})
	recovered := func(since hub.Position) string {
		t.Helper()
		r, err := h.Recover(t.Context(), "c", since)
		if err != nil {
			t.Fatal(err)
		}
		data := []string{}
		for _, p := range r.Publications {
			data = append(data, string(p.Data))
		}
		return fmt.Sprint(r.Recovered, data, r.From.Offset)
	}
	if got := recovered(hub.Position{}); got != "false [] 0" {
		t.Errorf("nothing was published: %s", got)
	}
	for i := range 5 {
		send(t, h, "c", fmt.Sprint(i+1), hub.PublishOptions{})
	}
	top, err := h.Position(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		since hub.Position
		want  string
	}{
		{hub.Position{}, "true [5] 5"},
		{hub.Position{Offset: 4, Epoch: top.Epoch}, "true [5] 5"},
		{top, "true [] 5"},
		{hub.Position{Offset: 5, Epoch: "_"}, "true [5] 5"},
		{hub.Position{Offset: 99, Epoch: top.Epoch}, "true [5] 5"},
	} {
		if got := recovered(tt.since); got != tt.want {
			t.Errorf("since %v: %s, want %s", tt.since, got, tt.want)
		}
	}
	if err := h.RemoveHistory(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if got := recovered(hub.Position{}); got != "false [] 5" {
		t.Errorf("the latest is gone: %s", got)
	}
	if got := recovered(top); got != "true [] 5" {
		t.Errorf("the latest is gone, but known: %s", got)
	}
}

func TestHistoryAndRecoverySince(t *testing.T) {
	h := newHub(t, hub.Config{
		Executor: refusing{}, MaxRecovered: 2, Broker: memory.New(memory.Config{}),
		Channels: hub.Options{HistorySize: 4, HistoryTTL: time.Minute, ForceRecovery: true}, Namespaces: []hub.Namespace{{Name: "none"}},
	})
	for i := range 6 {
		send(t, h, "c", fmt.Sprint(i+1), hub.PublishOptions{})
	}
	top, _ := h.Position(t.Context(), "c")
	const largest = 1<<64 - 1
	for _, tt := range []struct {
		offset uint64
		epoch  string
		want   string
	}{
		{6, top.Epoch, "true []"},
		{5, top.Epoch, "true [6]"},
		{4, top.Epoch, "true [5 6]"},
		{3, top.Epoch, "false []"}, // more than MaxRecovered
		{0, top.Epoch, "false []"},
		{7, top.Epoch, "false []"},
		{largest, top.Epoch, "false []"},
		{4, "", "true [5 6]"},
		{4, "_", "false []"},
		{6, "_", "false []"},
	} {
		r, err := h.Recover(t.Context(), "c", hub.Position{Offset: tt.offset, Epoch: tt.epoch})
		data := []string{}
		for _, p := range r.Publications {
			data = append(data, string(p.Data))
		}
		if got := fmt.Sprint(r.Recovered, data); err != nil || got != tt.want || r.From != top {
			t.Errorf("since %d of %q: %s at %v, %v", tt.offset, tt.epoch, got, r.From, err)
		}
	}
	past, err := h.History(t.Context(), "c", hub.HistoryQuery{Since: &hub.Position{Offset: largest}, Limit: -1})
	if err != nil || len(past.Publications) != 0 {
		t.Errorf("since the largest offset: %d, %v", len(past.Publications), err)
	}
	if _, err := h.History(t.Context(), "c", hub.HistoryQuery{Since: &hub.Position{Epoch: "_"}}); !errors.Is(err, hub.ErrUnrecoverable) {
		t.Errorf("another epoch: %v", err)
	}
	if _, err := h.History(t.Context(), "c", hub.HistoryQuery{Since: &hub.Position{}, Reverse: true}); !errors.Is(err, hub.ErrBadRequest) {
		t.Errorf("before the first: %v", err)
	}
	if _, err := h.History(t.Context(), "none:c", hub.HistoryQuery{}); !errors.Is(err, hub.ErrNotAvailable) {
		t.Errorf("no history: %v", err)
	}
	if r, err := h.Recover(t.Context(), "none:c", hub.Position{}); err != nil || r.Recovered || r.From != (hub.Position{}) {
		t.Errorf("no history: %+v, %v", r, err)
	}
}
