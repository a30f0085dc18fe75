package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// diary is a subscriber that writes down what it gets: messages by their data, events by their clients.
type diary struct {
	info *hub.ClientInfo

	mu      sync.Mutex
	lines   []string
	bases   []string
	batches []string // the kinds in each
	changed chan struct{}
}

func (d *diary) Presence() *hub.ClientInfo { return d.info }

func (d *diary) Deliver(b *hub.Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kinds := ""
	for _, p := range b.Publications() {
		line := map[hub.Kind]string{hub.KindMessage: "", hub.KindJoin: "+", hub.KindLeave: "-", hub.KindReset: "reset"}[p.Kind]
		kinds += map[hub.Kind]string{hub.KindMessage: "m", hub.KindJoin: "e", hub.KindLeave: "e", hub.KindReset: "r"}[p.Kind]
		if p.Info != nil {
			line += p.Info.Client
		}
		d.lines = append(d.lines, line+string(p.Data))
		base, ok := p.Base()
		d.bases = append(d.bases, fmt.Sprintf("%s,%t", base, ok))
	}
	if b.IsReset() != (kinds == "r") {
		kinds += "?"
	}
	d.batches = append(d.batches, kinds)
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, " ")
}

// waitFor returns when what came ends with a line.
func (d *diary) waitFor(t *testing.T, last string) {
	t.Helper()
	for {
		d.mu.Lock()
		if n := len(d.lines); n > 0 && d.lines[n-1] == last {
			d.mu.Unlock()
			return
		}
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed := d.changed
		d.mu.Unlock()
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%s did not come: %s", last, d.text())
		}
	}
}

func send(t testing.TB, h *hub.Hub, channel, data string, o hub.PublishOptions) {
	t.Helper()
	if _, err := h.Publish(context.Background(), channel, []byte(data), o); err != nil {
		t.Error(err)
	}
}

func announce(t testing.TB, h *hub.Hub, kind hub.Kind, client string) {
	t.Helper()
	if err := h.Announce(context.Background(), "c", kind, &hub.ClientInfo{Client: client}); err != nil {
		t.Error(err)
	}
}

// follow subscribes, for events or not, and starts.
func follow(t testing.TB, h *hub.Hub, d *diary, events bool) *hub.Subscription {
	t.Helper()
	sub, err := h.Subscribe(context.Background(), "c", d)
	if err != nil {
		t.Fatal(err)
	}
	if events {
		sub.ReceiveEvents()
	}
	sub.Start()
	return sub
}

// Messages and events keep their order, whatever runs they come in; who does not ask for events gets the messages alone.
func TestEventsAmongMessages(t *testing.T) {
	for _, executor := range []hub.Executor{refusing{}, new(manual)} {
		h := newHub(t, hub.Config{Executor: executor, ShardSubscribers: 2})
		var with, without []*diary
		var subs []*hub.Subscription
		for range 3 {
			a, b := new(diary), new(diary)
			with, without = append(with, a), append(without, b)
			subs = append(subs, follow(t, h, a, true), follow(t, h, b, false))
		}
		announce(t, h, hub.KindJoin, "a")
		send(t, h, "c", "1", hub.PublishOptions{})
		send(t, h, "c", "2", hub.PublishOptions{})
		announce(t, h, hub.KindJoin, "b")
		announce(t, h, hub.KindLeave, "a")
		send(t, h, "c", "3", hub.PublishOptions{})
		announce(t, h, hub.KindLeave, "b")
		if m, ok := executor.(*manual); ok {
			m.runAll()
			if got := fmt.Sprint(with[0].batches, without[0].batches); got != "[e mm ee m e] [mm m]" {
				t.Errorf("batches: %s", got)
			}
		}
		for _, d := range with {
			if got := d.text(); got != "+a 1 2 +b -a 3 -b" {
				t.Errorf("with events: %s", got)
			}
		}
		for _, d := range without {
			if got := d.text(); got != "1 2 3" {
				t.Errorf("without events: %s", got)
			}
		}
		for _, s := range subs {
			s.Unsubscribe()
		}
		checkEmpty(t, h)
	}
}

// A subscriber that comes in between gets what comes after it, be it in the same queue.
func TestEventsForALatecomer(t *testing.T) {
	m := new(manual)
	h := newHub(t, hub.Config{Executor: m})
	early := follow(t, h, new(diary), true)
	announce(t, h, hub.KindJoin, "a")
	send(t, h, "c", "1", hub.PublishOptions{})
	announce(t, h, hub.KindJoin, "b")
	send(t, h, "c", "2", hub.PublishOptions{})
	late, later := new(diary), new(diary)
	sub := follow(t, h, late, true)
	other := follow(t, h, later, false)
	announce(t, h, hub.KindLeave, "b")
	send(t, h, "c", "3", hub.PublishOptions{})
	send(t, h, "c", "4", hub.PublishOptions{})
	m.runAll()
	if got := late.text() + "; " + later.text(); got != "-b 3 4; 3 4" {
		t.Error(got)
	}
	early.Unsubscribe()
	sub.Unsubscribe()
	other.Unsubscribe()
	checkEmpty(t, h)
}

// What arrives before the start is held, events too, and keeps its order.
func TestEventsAreHeld(t *testing.T) {
	h := newHub(t, hub.Config{Executor: refusing{}})
	d := new(diary)
	sub, err := h.Subscribe(t.Context(), "c", d)
	if err != nil {
		t.Fatal(err)
	}
	announce(t, h, hub.KindJoin, "early") // nobody asked for it
	sub.ReceiveEvents()
	announce(t, h, hub.KindJoin, "a")
	for i := range 3 {
		send(t, h, "c", fmt.Sprint(i+1), hub.PublishOptions{})
	}
	announce(t, h, hub.KindLeave, "a")
	if got := d.text(); got != "" {
		t.Errorf("before the start: %s", got)
	}
	if err := sub.StartAfter(2); err != nil {
		t.Fatal(err)
	}
	if got := d.text(); got != "+a 3 -a" {
		t.Error(got)
	}
	sub.Unsubscribe()
	checkEmpty(t, h)
}

// With many workers and publishers, subscribers of several shards see the same order of messages and events.
func TestEventsKeepTheirOrderUnderLoad(t *testing.T) {
	h := newHub(t, hub.Config{Executor: newWorkers(t, 4), ShardSubscribers: 1, MaxWaiting: 2000}) // so long that none is taken out
	a, b := new(diary), new(diary)
	subs := []*hub.Subscription{follow(t, h, a, true), follow(t, h, b, true)}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 100 {
				name := fmt.Sprintf("%d/%d", i, n)
				announce(t, h, hub.KindJoin, name)
				send(t, h, "c", name, hub.PublishOptions{})
				announce(t, h, hub.KindLeave, name)
			}
		})
	}
	group.Wait()
	send(t, h, "c", "end", hub.PublishOptions{})
	a.waitFor(t, "end")
	b.waitFor(t, "end")
	if a.text() != b.text() || len(a.lines) != 1201 {
		t.Errorf("%d and %d lines, which are not the same", len(a.lines), len(b.lines))
	}
	for i := range 4 {
		at := slices.Index(a.lines, fmt.Sprintf("+%d/50", i))
		rest := a.lines[at:]
		if m, l := slices.Index(rest, fmt.Sprintf("%d/50", i)), slices.Index(rest, fmt.Sprintf("-%d/50", i)); m < 0 || l < m {
			t.Error("a client left before it came")
		}
	}
	for _, s := range subs {
		s.Unsubscribe()
	}
	checkEmpty(t, h)
}

// forgetful is a broker that forgets a channel when it is told to.
type forgetful struct{ *memory.Broker }

func (f *forgetful) forget(sink hub.Sink, channel string) {
	f.Broker = memory.New(memory.Config{})
	f.Attach(sink)
	sink.Deliver(channel, &hub.Publication{Kind: hub.KindReset})
}

// A stream that is forgotten under its subscribers is a reset, in its place, for those who asked for events and for those who did not. Behind it, nothing
// comes to those who have a position, which the next one would move, until they subscribe again.
func TestResetOfAForgottenStream(t *testing.T) {
	broker := &forgetful{Broker: memory.New(memory.Config{})}
	m := new(manual)
	h := newHub(t, hub.Config{
		Executor: m, Broker: broker,
		Channels: hub.Options{HistorySize: 10, HistoryTTL: time.Minute, ForceRecovery: true},
	})
	var diaries []*diary
	var subs []*hub.Subscription
	for i := range 4 {
		d := new(diary)
		diaries = append(diaries, d)
		sub, err := h.Subscribe(t.Context(), "c", d)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			sub.ReceiveEvents()
		}
		position, err := h.Position(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			sub.Start()
		} else if err := sub.StartAfter(position.Offset); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	send(t, h, "c", "1", hub.PublishOptions{})
	send(t, h, "c", "2", hub.PublishOptions{})
	before, _ := h.Position(t.Context(), "c")
	broker.forget(h, "c")
	m.runAll()
	for _, d := range diaries {
		if got := d.text(); got != "1 2 reset" {
			t.Fatalf("before: %s", got)
		}
	}
	// A subscription that follows an offset of the stream before does not miss the one behind it.
	following := new(diary)
	sub, err := h.Subscribe(t.Context(), "c", following)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.StartAfter(100); err != nil {
		t.Fatal(err)
	}
	send(t, h, "c", "3", hub.PublishOptions{})
	after, _ := h.Position(t.Context(), "c")
	if after.Epoch == before.Epoch || after.Offset != 1 {
		t.Errorf("after %v comes %v", before, after)
	}
	m.runAll()
	for i, d := range diaries {
		if got, want := d.text(), [...]string{"1 2 reset", "1 2 reset", "1 2 reset", "1 2 reset 3"}[i]; got != want {
			t.Errorf("after: %s, want %s", got, want)
		}
	}
	m.runAll()
	if got := following.text(); got != "" {
		t.Errorf("offset 1 is not beyond 100: %s", got)
	}
	broker.forget(h, "c")
	send(t, h, "c", "4", hub.PublishOptions{})
	m.runAll()
	if got := following.text(); got != "reset" {
		t.Errorf("following: %s", got)
	}
	sub.Unsubscribe()
	for _, s := range subs {
		s.Unsubscribe()
	}
	if err := h.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
}

// A message is never a difference to one that the channel's subscribers have newer ones than, because deltas were off in between.
func TestBasesAfterReconfigure(t *testing.T) {
	delta, on := hub.PublishOptions{Delta: true}, hub.Options{AllowFossilDelta: true}
	h := newHub(t, hub.Config{Executor: refusing{}, Channels: on})
	d := new(diary)
	sub := follow(t, h, d, false)
	defer sub.Unsubscribe()
	send(t, h, "c", "1", delta)
	for i, o := range []hub.Options{{}, on} {
		if err := h.Reconfigure(o, nil, false); err != nil {
			t.Fatal(err)
		}
		send(t, h, "c", fmt.Sprint(2*i+2), delta)
		send(t, h, "c", fmt.Sprint(2*i+3), delta)
	}
	if got, want := fmt.Sprint(d.bases), "[,false ,false ,false ,false 4,true]"; got != want {
		t.Errorf("bases: %s, want %s", got, want)
	}
}

// A message that is published for deltas knows the one before it.
func TestBases(t *testing.T) {
	delta := hub.PublishOptions{Delta: true}
	h := newHub(t, hub.Config{
		Executor: refusing{}, ShardSubscribers: 1,
		Channels:   hub.Options{AllowFossilDelta: true},
		Namespaces: []hub.Namespace{{Name: "none"}, {Name: "always", Options: hub.Options{AllowFossilDelta: true, DeltaPublish: true}}},
	})
	a, b := new(diary), new(diary)
	send(t, h, "c", "unheard", delta)
	first := follow(t, h, a, true)
	second := follow(t, h, b, false)
	send(t, h, "c", "1", delta)
	send(t, h, "c", "2", delta)
	send(t, h, "c", "3", hub.PublishOptions{})
	announce(t, h, hub.KindJoin, "x") // is nothing to make a difference to
	send(t, h, "c", "4", delta)
	if got := fmt.Sprint(b.bases); got != "[,false 1,true ,false 3,true]" {
		t.Errorf("bases: %s", got)
	}
	if got := fmt.Sprint(a.bases); got != "[,false 1,true ,false ,false 3,true]" {
		t.Errorf("bases with an event: %s", got)
	}
	first.Unsubscribe()
	send(t, h, "c", "5", delta)
	second.Unsubscribe() // with the last one the channel forgets
	send(t, h, "c", "6", delta)
	d := new(diary)
	third := follow(t, h, d, false)
	send(t, h, "c", "7", delta)
	if got := fmt.Sprint(d.bases); got != "[,false]" {
		t.Errorf("bases of a new life: %s", got)
	}
	third.Unsubscribe()
	for channel, want := range map[string]string{"none:c": "[,false ,false]", "always:c": "[,false 1,true]"} {
		d := new(diary)
		sub := subscribe(t, h, channel, d)
		send(t, h, channel, "1", hub.PublishOptions{Delta: channel == "none:c"})
		send(t, h, channel, "2", hub.PublishOptions{Delta: channel == "none:c"})
		if got := fmt.Sprint(d.bases); got != want {
			t.Errorf("%s: %s", channel, got)
		}
		sub.Unsubscribe()
	}
	checkEmpty(t, h)
}
