package nats

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// What waits in a node that hands over slowly is bounded in bytes; the rest stays with the server, and comes when there is room. One that is
// larger than the bound comes too.
func TestFetchBytes(t *testing.T) {
	const bound, size, count = 1 << 20, 100 << 10, 200
	s := startEmbedded(t, t.TempDir())
	a := newNode(t, s, Config{Groups: 1, MaxHistorySize: 1000})
	link := openLink(t, LinkConfig{Server: s})
	b := nodeOn(t, link, Config{Groups: 1, MaxHistorySize: 1000, FetchBytes: bound})
	sink := gate(b)
	b.Subscribe(t, "c", kept10)
	sink.shut()
	var want []string
	publish := func(size int) {
		text := fmt.Sprint(len(want), strings.Repeat("x", size))
		a.Publish(t, "c", text, keep(hub.PublishOptions{}))
		want = append(want, text)
	}
	before := link.Stats().Bytes[0]
	for range count {
		publish(size)
	}
	for range 3 {
		publish(3 * bound)
		publish(10)
	}
	if got := link.Stats().Bytes[0] - before; got > 2*bound {
		t.Errorf("%d bytes have come, of which one publication could be handed over", got)
	}
	sink.let()
	brokertest.Eventually(t, "all come", func() bool { return len(b.Sink.Data("c")) == len(want) })
	if !slices.Equal(b.Sink.Data("c"), want) {
		t.Error("what came is not what was published, or in another order")
	}
	if st := of(b).Stats(); st.Interruptions != 0 {
		t.Errorf("%+v", st)
	}
}
