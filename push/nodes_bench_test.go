package push

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/hub"
)

// seen is a subscriber that others may see.
type seen struct{ info *hub.ClientInfo }

func (s *seen) Deliver(*hub.Batch) {}

func (s *seen) Presence() *hub.ClientInfo { return s.info }

// What a question to all of three nodes costs, all of them and NATS in this process, with so many clients on each.
func BenchmarkAskingAllNodes(b *testing.B) {
	for _, n := range []int{1, 100, 3000} {
		_, nodes := startNodes(b, nil)
		for i, s := range nodes {
			for j := range n {
				info := &hub.ClientInfo{User: fmt.Sprint("user-", j), Client: fmt.Sprintf("00000000-0000-4000-8000-%04d%08d", i, j), ConnInfo: []byte(`{"name":"somebody"}`)}
				sub, err := s.hub.Subscribe(b.Context(), "a", &seen{info})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(sub.Unsubscribe)
			}
		}
		whole := audience{nodes[0].nodes}
		for name, ask := range map[string]func() error{
			"presence":       func() error { _, err := whole.Presence(b.Context(), "a"); return err },
			"presence_stats": func() error { _, err := whole.PresenceStats(b.Context(), "a"); return err },
			"channels":       func() error { _, err := whole.Channels(b.Context(), api.ChannelsQuery{Max: 10}); return err },
		} {
			b.Run(fmt.Sprintf("%s/clients=%d", name, 3*n), func(b *testing.B) {
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					if err := ask(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// cpu returns the time that this process has computed, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
