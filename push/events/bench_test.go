package events_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/hub"
)

// quick is a backend that takes everything.
func quick(b *testing.B) string {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(s.Close)
	return s.URL
}

func benched(b *testing.B, kinds hub.Events, disk bool) (*hub.Hub, *events.Events) {
	b.Helper()
	var observer hub.Observer
	var e *events.Events
	if kinds != 0 {
		c := config(b, quick(b))
		c.QueueBytes, c.Debounce, c.Logger = 1<<30, time.Second, slog.New(slog.DiscardHandler)
		if disk {
			c.Dir = b.TempDir()
		}
		e = start(b, c)
		observer = e
	}
	h, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: nobody{}, Observer: observer, Channels: hub.Options{Events: kinds},
	})
	if err != nil {
		b.Fatal(err)
	}
	return h, e
}

// BenchmarkSubscribe shows what events cost a subscription: time for one to a new channel and its end, and memory while it lasts.
func BenchmarkSubscribe(b *testing.B) {
	for _, bb := range []struct {
		name  string
		kinds hub.Events
	}{{"off", 0}, {"occupied and vacated", hub.EventOccupied | hub.EventVacated}, {"all", all &^ hub.EventCacheMiss}} {
		b.Run(bb.name, func(b *testing.B) {
			h, _ := benched(b, bb.kinds, true)
			subscriptions := make([]*hub.Subscription, b.N)
			names, users := make([]string, b.N), make([]string, b.N)
			for i := range names {
				names[i], users[i] = fmt.Sprintf("channel-%d", i), fmt.Sprintf("user-%d", i)
			}
			before := heap()
			b.ResetTimer()
			for i := range subscriptions {
				s, err := h.Subscribe(context.Background(), names[i], member(users[i]))
				if err != nil {
					b.Fatal(err)
				}
				subscriptions[i] = s
			}
			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/float64(b.N), "B/subscription")
			for _, s := range subscriptions {
				s.Unsubscribe()
			}
			runtime.KeepAlive(names)
			runtime.KeepAlive(users)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkEvents shows how many events get from the hub over the disk to a backend that takes them.
func BenchmarkEvents(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(map[bool]string{false: "memory", true: "disk"}[disk], func(b *testing.B) {
			_, e := benched(b, all&^hub.EventCacheMiss, disk)
			b.ReportAllocs()
			for i := range b.N {
				e.Connected("0123456789abcdef", "user")
				for i%10_000 == 9_999 && e.Stats().Pending > 1<<20 { // no more than fits
					runtime.Gosched()
				}
			}
			for e.Stats().Sent < uint64(b.N) {
				runtime.Gosched()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			st := e.Stats()
			b.ReportMetric(float64(st.Syncs)/b.Elapsed().Seconds(), "syncs/s")
			if lost := st.GivenUp + st.NotWritten; lost > 0 {
				b.Errorf("%d are lost", lost)
			}
		})
	}
}
