package hub_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

var kept = hub.Options{HistorySize: 10, HistoryTTL: time.Minute}

func newHubWith(t *testing.T, c hub.Config) *hub.Hub {
	t.Helper()
	c.Broker, c.Executor = memory.New(memory.Config{}), inline{}
	h, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// inline is an executor without workers: the publisher delivers.
type inline struct{}

func (inline) Submit(hub.Task) bool { return false }

func TestNamespaceFaults(t *testing.T) {
	for want, c := range map[string]struct {
		base hub.Options
		list []hub.Namespace
	}{
		"channels: history_size":               {base: hub.Options{HistorySize: -1, HistoryTTL: 1}},
		"a history needs both":                 {base: hub.Options{HistorySize: 1}},
		`"x y"`:                                {list: []hub.Namespace{{Name: "x y"}}},
		`"aa": it is there twice`:              {list: []hub.Namespace{{Name: "aa"}, {Name: "aa"}}},
		`"aa": force_recovery`:                 {list: []hub.Namespace{{Name: "aa", Options: hub.Options{ForceRecovery: true}}}},
		`"aa": channel_regex`:                  {list: []hub.Namespace{{Name: "aa", Options: hub.Options{ChannelRegex: "("}}}},
		`"aa": allow_history_for_client`:       {list: []hub.Namespace{{Name: "aa", Options: hub.Options{AllowHistoryForClient: true}}}},
		"history_ttl: -1ns is negative":        {base: hub.Options{HistorySize: 1, HistoryTTL: -1}},
		"history_size: 65537 is not between 0": {base: hub.Options{HistorySize: 65537, HistoryTTL: 1}},
	} {
		if err := hub.ValidateNamespaces(c.base, c.list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNamespaceOfAChannel(t *testing.T) {
	orders := kept
	orders.ChannelRegex = "[0-9]+"
	with := newHubWith(t, hub.Config{Namespaces: []hub.Namespace{{Name: "orders", Options: orders}}})
	without := newHubWith(t, hub.Config{Channels: kept, AnyNamespace: true})
	for _, c := range []struct {
		h       *hub.Hub
		channel string
		err     error
		history bool
	}{
		{with, "orders:42", nil, true},
		{with, "orders:x", hub.ErrBadRequest, false},
		{with, "orders:", hub.ErrBadRequest, false},
		{with, "order:42", hub.ErrUnknownChannel, false},
		{with, ":42", hub.ErrUnknownChannel, false},
		{with, "orders", nil, false},
		{with, "", hub.ErrBadRequest, false},
		{without, "orders:x", nil, true},
		{without, "x", nil, true},
		{with, strings.Repeat("x", 256), hub.ErrBadRequest, false},
		{with, "\xff", hub.ErrBadRequest, false},
	} {
		o, err := c.h.Options(c.channel)
		if !errors.Is(err, c.err) || err == nil && o.HasHistory() != c.history {
			t.Errorf("%q: %+v, %v", c.channel, o, err)
		}
		if _, err := c.h.Publish(t.Context(), c.channel, []byte("1"), hub.PublishOptions{}); !errors.Is(err, c.err) {
			t.Errorf("publish to %q: %v", c.channel, err)
		}
	}
}

func publishN(t *testing.T, h *hub.Hub, channel string, n int) (last hub.Position) {
	t.Helper()
	for range n {
		var err error
		if last, err = h.Publish(t.Context(), channel, []byte("1"), hub.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func TestHistory(t *testing.T) {
	h := newHubWith(t, hub.Config{Namespaces: []hub.Namespace{{Name: "aa", Options: kept}}})
	top := publishN(t, h, "aa:x", 15)
	for _, c := range []struct {
		q    hub.HistoryQuery
		want []uint64
		err  error
	}{
		{hub.HistoryQuery{}, nil, nil},
		{hub.HistoryQuery{Limit: -1}, []uint64{6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, nil},
		{hub.HistoryQuery{Limit: 2, Reverse: true}, []uint64{15, 14}, nil},
		{hub.HistoryQuery{Limit: -1, Since: &hub.Position{Offset: 13, Epoch: top.Epoch}}, []uint64{14, 15}, nil},
		{hub.HistoryQuery{Limit: -1, Since: &hub.Position{Offset: 13}}, []uint64{14, 15}, nil},
		{hub.HistoryQuery{Limit: -1, Since: &hub.Position{Offset: 13, Epoch: "other"}}, nil, hub.ErrUnrecoverable},
		{hub.HistoryQuery{Limit: -1, Since: &hub.Position{}, Reverse: true}, nil, hub.ErrBadRequest},
	} {
		past, err := h.History(t.Context(), "aa:x", c.q)
		var got []uint64
		for _, p := range past.Publications {
			got = append(got, p.Offset)
		}
		if !errors.Is(err, c.err) || !slices.Equal(got, c.want) || err == nil && past.Top != top {
			t.Errorf("%+v: %v of %v, %v", c.q, got, past.Top, err)
		}
	}
	if _, err := h.History(t.Context(), "x", hub.HistoryQuery{}); !errors.Is(err, hub.ErrNotAvailable) {
		t.Errorf("without history: %v", err)
	}
	if err := h.RemoveHistory(t.Context(), "aa:x"); err != nil {
		t.Error(err)
	}
	if past, err := h.History(t.Context(), "aa:x", hub.HistoryQuery{Limit: -1}); err != nil || len(past.Publications) > 0 || past.Top != top {
		t.Errorf("after its removal: %+v, %v", past, err)
	}
	if err := h.RemoveHistory(t.Context(), "x"); !errors.Is(err, hub.ErrNotAvailable) {
		t.Errorf("without history: %v", err)
	}
}

// Whoever comes back has what it missed, or learns that it cannot have it.
func TestRecover(t *testing.T) {
	h := newHubWith(t, hub.Config{Channels: kept, MaxRecovered: 8})
	empty, err := h.Position(t.Context(), "a")
	if err != nil || empty.Offset != 0 || empty.Epoch == "" {
		t.Fatalf("before the first: %v, %v", empty, err)
	}
	top := publishN(t, h, "a", 12)
	for _, c := range []struct {
		since     hub.Position
		recovered bool
		n         int
	}{
		{hub.Position{Offset: 12, Epoch: top.Epoch}, true, 0},
		{hub.Position{Offset: 10, Epoch: top.Epoch}, true, 2},
		{hub.Position{Offset: 10}, true, 2},
		{hub.Position{Offset: 4, Epoch: top.Epoch}, true, 8},
		{hub.Position{Offset: 3, Epoch: top.Epoch}, false, 0}, // more than MaxRecovered
		{hub.Position{Offset: 1, Epoch: top.Epoch}, false, 0}, // no longer there
		{hub.Position{Offset: 13, Epoch: top.Epoch}, false, 0},
		{hub.Position{Offset: 12, Epoch: "other"}, false, 0},
		{hub.Position{Epoch: "_"}, false, 0},
	} {
		r, err := h.Recover(t.Context(), "a", c.since)
		if err != nil || r.Recovered != c.recovered || len(r.Publications) != c.n || r.From != top {
			t.Errorf("since %v: %t with %d at %v, %v", c.since, r.Recovered, len(r.Publications), r.From, err)
		}
	}
	without := newHubWith(t, hub.Config{})
	if r, err := without.Recover(t.Context(), "a", top); err != nil || r.Recovered || r.From != (hub.Position{}) {
		t.Errorf("without history: %+v, %v", r, err)
	}
}

// follower is a subscriber that comes and goes, and keeps count of what it has seen.
type follower struct {
	t    *testing.T
	mu   sync.Mutex
	last uint64
	gaps int
}

func (f *follower) see(p *hub.Publication) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Offset != f.last+1 {
		f.gaps++
	}
	f.last = p.Offset
}

func (f *follower) Deliver(b *hub.Batch) {
	for _, p := range b.Publications() {
		f.see(p)
	}
}

// TestNothingIsLostOverReconnects has followers leave and come back while publishers publish without a pause: each sees every
// publication once and in order, history and live together.
func TestNothingIsLostOverReconnects(t *testing.T) {
	const publishers, each, followers = 4, 3000, 8
	h := newHubWith(t, hub.Config{Channels: hub.Options{HistorySize: 1 << 16, HistoryTTL: time.Minute}, MaxRecovered: 1 << 16})
	start, err := h.Position(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	var publishing, following sync.WaitGroup
	done := make(chan struct{})
	for i := range publishers {
		publishing.Go(func() {
			for n := range each {
				if _, err := h.Publish(t.Context(), "a", fmt.Append(nil, i, n), hub.PublishOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range followers {
		following.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			f := &follower{t: t}
			for last := false; ; {
				select {
				case <-done:
					last = true
				default:
				}
				f.connect(h, start.Epoch, time.Duration(random.IntN(2000))*time.Microsecond)
				if last {
					break
				}
			}
			if f.gaps > 0 || f.last != publishers*each {
				t.Errorf("follower %d: %d gaps, %d seen", i, f.gaps, f.last)
			}
		})
	}
	publishing.Wait()
	close(done)
	following.Wait()
}

// connect recovers, follows for a while, and leaves.
func (f *follower) connect(h *hub.Hub, epoch string, d time.Duration) {
	s, err := h.Subscribe(f.t.Context(), "a", f)
	if err != nil {
		f.t.Error(err)
		return
	}
	defer s.Unsubscribe()
	r, err := h.Recover(f.t.Context(), "a", hub.Position{Offset: f.last, Epoch: epoch})
	if err != nil || !r.Recovered {
		f.t.Errorf("not recovered from %d: %v", f.last, err)
		return
	}
	for _, p := range r.Publications {
		f.see(p)
	}
	if err := s.StartAfter(r.From.Offset); errors.Is(err, hub.ErrUnrecoverable) {
		return // too much came meanwhile: it comes back once more
	} else if err != nil {
		f.t.Error(err)
	}
	time.Sleep(d)
}

// Options that are replaced hold for what is asked and published from then on, in channels that there are, too; a fault changes nothing.
func TestReconfigure(t *testing.T) {
	small := hub.Options{MaxPublicationBytes: 1}
	h := newHubWith(t, hub.Config{Namespaces: []hub.Namespace{{Name: "aa", Options: small}, {Name: "gone"}}})
	l := new(ledger)
	sub := subscribe(t, h, "aa:x", l)
	defer sub.Unsubscribe()
	publishTo := func(channel, data string, want error) {
		t.Helper()
		if _, err := h.Publish(t.Context(), channel, []byte(data), hub.PublishOptions{}); !errors.Is(err, want) {
			t.Errorf("%s to %s: %v", data, channel, err)
		}
	}
	publishTo("aa:x", "1", nil)
	publishTo("aa:x", "12", hub.ErrLimitExceeded)
	publishTo("new:x", "1", hub.ErrUnknownChannel)
	if err := h.Reconfigure(hub.Options{}, []hub.Namespace{{Name: "aa"}, {Name: "aa"}}, true); err == nil {
		t.Error("a namespace that is there twice")
	}
	publishTo("aa:x", "12", hub.ErrLimitExceeded)
	publishTo("new:x", "1", hub.ErrUnknownChannel)
	if err := h.Reconfigure(kept, []hub.Namespace{{Name: "aa"}, {Name: "new"}}, false); err != nil {
		t.Fatal(err)
	}
	publishTo("aa:x", "12", nil)
	publishTo("new:x", "1", nil)
	publishTo("gone:x", "1", hub.ErrUnknownChannel)
	if o, err := h.Options("x"); err != nil || !o.HasHistory() {
		t.Errorf("%+v, %v", o, err)
	}
	if err := h.Reconfigure(hub.Options{}, nil, true); err != nil {
		t.Fatal(err)
	}
	publishTo("gone:x", "1", nil)
	l.waitFor(t, 2)
}

func TestSwitchesHistory(t *testing.T) {
	longer := kept
	longer.HistorySize++
	list := func(names map[string]hub.Options) (list []hub.Namespace) {
		for name, o := range names {
			list = append(list, hub.Namespace{Name: name, Options: o})
		}
		return list
	}
	type options map[string]hub.Options
	for _, tt := range []struct {
		name         string
		from, to     options // "" is of names without a namespace
		anyFrom, any bool
		want         []string
	}{
		{"nothing", options{"aa": kept, "bb": {}}, options{"aa": kept, "bb": {}}, false, false, nil},
		{"more of it", options{"aa": kept}, options{"aa": longer}, false, false, nil},
		{"on and off", options{"aa": kept, "bb": {}}, options{"aa": {}, "bb": kept}, false, false, []string{"aa", "bb"}},
		{"without a namespace", options{}, options{"": kept}, false, false, []string{""}},
		{"a new one", options{}, options{"aa": kept}, false, false, nil},
		{"a new one, of which there were channels", options{}, options{"aa": kept}, true, false, []string{"aa"}},
		{"one that goes", options{"aa": kept, "bb": {}}, options{}, false, false, []string{"aa"}},
	} {
		base := func(o options) hub.Options { b := o[""]; delete(o, ""); return b }
		h := newHubWith(t, hub.Config{Channels: base(tt.from), Namespaces: list(tt.from), AnyNamespace: tt.anyFrom})
		if got := h.SwitchesHistory(base(tt.to), list(tt.to), tt.any); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Options change while clients come, go and publish.
func TestReconfigureAmongOthers(t *testing.T) {
	h := newHub(t, hub.Config{Executor: newWorkers(t, 2), Namespaces: []hub.Namespace{{Name: "aa", Options: kept}}})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 200 {
				sub := subscribe(t, h, "aa:x", new(ledger))
				sub.Start()
				publish(t, h, "aa:x")
				sub.Unsubscribe()
			}
		})
	}
	for i := range 200 {
		o := kept
		o.AllowFossilDelta, o.Events = i%2 == 0, hub.Events(i%8)
		if err := h.Reconfigure(o, []hub.Namespace{{Name: "aa", Options: o}}, false); err != nil {
			t.Fatal(err)
		}
	}
	running.Wait()
	checkEmpty(t, h)
}
