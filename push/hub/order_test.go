package hub_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

// TestOrderUnderChurn publishes from eight goroutines while subscribers come
// and go. Each checks that offsets rise by one from its first to its last, and
// that nothing comes once Unsubscribe has returned.
func TestOrderUnderChurn(t *testing.T) {
	tests := []struct {
		name     string
		executor func(t *testing.T) hub.Executor
		complete bool // all publications arrive without further publishing
	}{
		{"four workers", func(t *testing.T) hub.Executor { return newWorkers(t, 4) }, true},
		{"one worker", func(t *testing.T) hub.Executor { return newWorkers(t, 1) }, true},
		{"refusing", func(*testing.T) hub.Executor { return refusing{} }, true},
		{"inert", func(*testing.T) hub.Executor { return inert{} }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t, hub.Config{Executor: test.executor(t), ShardSubscribers: 8, MaxWaiting: 16, MaxHeld: 8 * 500})
			churn(t, h, test.complete)
		})
	}
}

func churn(t *testing.T, h *hub.Hub, complete bool) {
	const publishers, each, stayers, visitors = 8, 500, 20, 6
	stay := make([]*ledger, stayers)
	subs := make([]*hub.Subscription, stayers)
	for i := range stay {
		stay[i] = &ledger{name: fmt.Sprint("stayer ", i)}
		subs[i] = subscribe(t, h, "c", stay[i])
	}
	done := make(chan struct{})
	var visiting, publishing sync.WaitGroup
	for range visitors {
		visiting.Go(func() { visit(t, h, done) })
	}
	for range publishers {
		publishing.Go(func() {
			for range each {
				publish(t, h, "c")
			}
		})
	}
	publishing.Wait()
	close(done)
	visiting.Wait()
	for _, l := range stay {
		if complete {
			l.waitFor(t, publishers*each)
		}
		l.check(t)
		if l.first != 1 {
			t.Errorf("%s: first offset %d, want 1", l.name, l.first)
		}
		// Without an executor, no more than a full queue may be left.
		if l.count < publishers*each-16-publishers {
			t.Errorf("%s: %d publications, want about %d", l.name, l.count, publishers*each)
		}
	}
	for _, s := range subs {
		s.Unsubscribe()
	}
	checkEmpty(t, h)
}

// visit subscribes and unsubscribes up to five ledgers at a time until done.
func visit(t *testing.T, h *hub.Hub, done <-chan struct{}) {
	for {
		var ledgers [5]*ledger
		var subs [5]*hub.Subscription
		for i := range ledgers {
			ledgers[i] = &ledger{name: "visitor"}
			subs[i] = subscribe(t, h, "c", ledgers[i])
		}
		for _, i := range rand.Perm(len(ledgers)) {
			subs[i].Unsubscribe()
			ledgers[i].close()
		}
		for _, l := range ledgers {
			l.check(t)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestSubscriberSeesWhatFollowsItsSubscribe(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor})
	early, late := &ledger{name: "early"}, &ledger{name: "late"}
	subscribe(t, h, "c", early)
	publish(t, h, "c")
	publish(t, h, "c") // both still wait in the queue
	subscribe(t, h, "c", late)
	publish(t, h, "c")
	executor.runAll()
	if early.first != 1 || early.count != 3 || early.batches != 1 {
		t.Errorf("early: %d publications from %d in %d batches, want 3 from 1 in 1", early.count, early.first, early.batches)
	}
	if late.first != 3 || late.count != 1 {
		t.Errorf("late: %d publications from %d, want 1 from 3", late.count, late.first)
	}
}

func TestUnsubscribedSeesNothingThatWaits(t *testing.T) {
	executor := new(manual)
	h := newHub(t, hub.Config{Executor: executor})
	l, other := new(ledger), new(ledger)
	sub := subscribe(t, h, "c", l)
	subscribe(t, h, "c", other)
	publish(t, h, "c")
	sub.Unsubscribe()
	sub.Unsubscribe()
	executor.runAll()
	if l.count != 0 || other.count != 1 {
		t.Errorf("unsubscribed got %d, the other %d; want 0 and 1", l.count, other.count)
	}
}

func TestHoldUntilStart(t *testing.T) {
	for _, test := range []struct {
		name        string
		after       uint64
		first, last uint64
	}{
		{"all", 0, 1, 5},
		{"merged with history", 2, 3, 5},
		{"all held are known", 3, 4, 5},
		{"more is known than held", 4, 5, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t, hub.Config{Executor: refusing{}})
			l := new(ledger)
			sub, err := h.Subscribe(t.Context(), "c", l)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				publish(t, h, "c")
			}
			if test.after > 3 {
				publish(t, h, "c")
			}
			if l.count != 0 {
				t.Fatalf("%d delivered before Start", l.count)
			}
			if err := sub.StartAfter(test.after); err != nil {
				t.Fatal(err)
			}
			for h.Stats().Publications < 5 {
				publish(t, h, "c")
			}
			l.check(t)
			if l.first != test.first || l.last != test.last {
				t.Errorf("got %d to %d, want %d to %d", l.first, l.last, test.first, test.last)
			}
			sub.Unsubscribe()
			checkEmpty(t, h)
		})
	}
}

func TestHeldPublicationsAreBounded(t *testing.T) {
	for _, test := range []struct {
		name   string
		config hub.Config
	}{
		{"publications", hub.Config{MaxHeld: 4}},
		{"bytes", hub.Config{MaxHeldBytes: 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Executor = refusing{}
			h := newHub(t, test.config)
			l := new(ledger)
			sub, err := h.Subscribe(t.Context(), "c", l)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				publish(t, h, "c")
			}
			if err := sub.StartAfter(0); !isError(err, hub.ErrUnrecoverable) {
				t.Errorf("Start: %v, want %v", err, hub.ErrUnrecoverable)
			}
			publish(t, h, "c")
			if l.count != 0 {
				t.Errorf("%d delivered with a gap", l.count)
			}
			// The newest two, of 1..6, of which 4 may be held at a time.
			sub.Start()
			publish(t, h, "c")
			if l.count != 3 || l.last != 7 {
				t.Errorf("%d delivered up to %d, want 5, 6 and 7", l.count, l.last)
			}
			sub.Unsubscribe()
			checkEmpty(t, h)
		})
	}
}
