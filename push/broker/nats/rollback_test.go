package nats

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// A server of others that is set back to an older copy of its data, or loses it all, is another log: it gets another epoch, and nobody recovers from
// positions of what is gone, also if by now there is something else at the same numbers.
func TestLogSetBack(t *testing.T) {
	for _, c := range []struct {
		name      string
		kept      int // publications of 10 that the copy has
		meanwhile int // that are published before the node is there again
	}{{"shorter", 5, 2}, {"longer", 5, 20}, {"empty", 0, 0}, {"empty, and longer", 0, 30}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, backup := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "copy")
			if err := os.Mkdir(backup, 0o700); err != nil {
				t.Fatal(err)
			}
			address := freeAddress(t)
			_, port, _ := net.SplitHostPort(address)
			number, _ := strconv.Atoi(port)
			var s *server.Server
			start := func() {
				var err error
				if s, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: number, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true}); err != nil {
					t.Fatal(err)
				}
				s.Start()
				if !s.ReadyForConnections(time.Minute) {
					t.Fatal("the server is not ready")
				}
			}
			stop := func() { s.Shutdown(); s.WaitForShutdown() }
			start()
			p := newProxy(t, address)
			defer func() { stop() }()
			fill := func(from, to int) {
				t.Helper()
				a := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + address}}), Config{Groups: 1})
				defer of(a).Close()
				for i := from; i < to; i++ {
					a.Publish(t, "c", fmt.Sprint(i), keep(hub.PublishOptions{}))
				}
			}
			fill(0, c.kept)
			if c.kept > 0 {
				stop()
				if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				start()
			}
			fill(c.kept, 10)
			n := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + p.listener.Addr().String()}, ReconnectWait: 5 * time.Millisecond}), Config{Groups: 1})
			n.Subscribe(t, "c", kept10)
			before := n.History(t, "c", hub.HistoryQuery{Limit: -1}).Top
			p.cut(true)
			stop()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			start()
			fill(100, 100+c.meanwhile)
			p.cut(false)
			brokertest.Eventually(t, "the subscribers are told", func() bool { return len(n.Sink.Came("c")) > 0 })
			if first := n.Sink.Came("c")[0]; first.Kind != hub.KindReset {
				t.Errorf("%q came before", first.Data)
			}
			var h hub.History
			brokertest.Eventually(t, "it is read again", func() bool {
				var err error
				h, err = n.Broker.History(t.Context(), "c", hub.HistoryQuery{Limit: -1, Since: &before, Following: true})
				return err == nil
			})
			if h.Top.Epoch == before.Epoch {
				t.Errorf("%+v is of the same life as %+v", h.Top, before)
			}
			if later := n.Publish(t, "c", "after", keep(hub.PublishOptions{})); later.Epoch != h.Top.Epoch {
				t.Errorf("%+v is not of %+v", later, h.Top)
			}
		})
	}
}
