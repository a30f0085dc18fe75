package nats

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/broker/nats/embedded"
	"github.com/millpond/millpond/push/hub"
)

var kept10 = hub.Retention{Size: 10, TTL: time.Hour}

func keep(o hub.PublishOptions) hub.PublishOptions {
	o.Retention = kept10
	return o
}

// What was acknowledged is there after a restart; whether positions mean the same depends on whether the data can be relied on.
func TestRestart(t *testing.T) {
	for _, renew := range []string{"", "the host went down"} {
		t.Run(renew, func(t *testing.T) {
			dir := t.TempDir()
			s := startEmbedded(t, dir)
			link := openLink(t, LinkConfig{Server: s})
			n := nodeOn(t, link, Config{})
			var last hub.Position
			for i := range 30 {
				last = n.Publish(t, "c", fmt.Sprint(i), keep(hub.PublishOptions{IdempotencyKey: fmt.Sprint(i)}))
			}
			of(n).Close()
			_ = link.Close(t.Context())
			shutdown(t, s)

			renewed := false
			s = startEmbedded(t, dir)
			n = newNode(t, s, Config{Renew: renew, Renewed: func() error { renewed = true; return nil }})
			h := n.History(t, "c", hub.HistoryQuery{Limit: -1})
			if got := brokertest.Texts(h.Publications); len(got) != 10 || got[9] != "29" {
				t.Errorf("%q", got)
			}
			if same := h.Top.Epoch == last.Epoch; same != (renew == "") || renewed != (renew != "") {
				t.Errorf("the epoch is the same: %v; told that it is renewed: %v", same, renewed)
			}
			if again := n.Publish(t, "c", "x", keep(hub.PublishOptions{IdempotencyKey: "29"})); again.Offset != last.Offset {
				t.Errorf("the key is forgotten: %+v, not %+v", again, last)
			}
		})
	}
}

// While a log that may have lost its end has no new epoch, though it can be read and written, nobody is told where it
// stands: neither subscribers nor publishers get positions of an epoch that is over.
func TestNotRenewedYet(t *testing.T) {
	users := func(deny ...string) []*server.User {
		return []*server.User{
			{Username: "admin", Password: "p"},
			{Username: "node", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: deny}}},
		}
	}
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), Users: users("$JS.API.STREAM.UPDATE.>")}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	link := func(user string) *Link {
		return openLink(t, LinkConfig{URLs: []string{"nats://" + s.Addr().String()}, User: user, Password: "p"})
	}
	a := nodeOn(t, link("admin"), Config{Groups: 2})
	before := a.Publish(t, "c", "0", keep(hub.PublishOptions{}))
	of(a).Close()

	var renewed atomic.Bool
	n := nodeOn(t, link("node"), Config{
		Groups: 2, StartTimeout: time.Millisecond, PublishTimeout: 300 * time.Millisecond,
		Renew: "the host went down", Renewed: func() error { renewed.Store(true); return nil },
	})
	_, publish := n.Broker.Publish(t.Context(), "c", []byte("1"), keep(hub.PublishOptions{}))
	_, history := n.Broker.History(t.Context(), "c", hub.HistoryQuery{Since: &before, Limit: -1})
	for what, err := range map[string]error{"subscribe": n.Broker.Subscribe(t.Context(), "c", kept10), "publish": publish, "history": history} {
		if !errors.Is(err, hub.ErrUnavailable) || !errors.Is(err, errNotRenewed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if renewed.Load() {
		t.Error("it is taken for renewed")
	}
	allowed := options.Clone()
	allowed.Users = users()
	if err := s.ReloadOptions(allowed); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "it is renewed", renewed.Load)
	brokertest.Eventually(t, "it can be subscribed to", func() bool { return n.Broker.Subscribe(t.Context(), "c", kept10) == nil })
	after := n.Publish(t, "c", "2", keep(hub.PublishOptions{}))
	h := n.History(t, "c", hub.HistoryQuery{Limit: -1})
	if after.Epoch == before.Epoch || h.Top.Epoch != after.Epoch || !slices.Equal(brokertest.Texts(h.Publications), []string{"0", "2"}) {
		t.Errorf("%+v after %+v, and %+v", after, before, h)
	}
}

func TestStreamsOfAnotherConfig(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	n := newNode(t, s, Config{Groups: 4, MaxHistorySize: 2})
	o := hub.PublishOptions{Retention: hub.Retention{Size: 2, TTL: time.Hour}}
	first := n.Publish(t, "c", "0", o)
	for i := range 5 {
		n.Publish(t, "c", fmt.Sprint(i), o)
	}
	for want, c := range map[string]Config{"for \"4\" groups, not for 8": {Groups: 8}, "nats-partitions": {Groups: 4, Partitions: 7}} {
		c.Link, c.Logger = openLink(t, LinkConfig{Server: s}), silent
		if _, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// A deeper history: what went for the smaller one is known to be gone.
	deeper := newNode(t, s, Config{Groups: 4, MaxHistorySize: 50})
	if h := deeper.History(t, "c", hub.HistoryQuery{Limit: -1, Since: &first}); h.Reaches(first.Offset) || len(h.Publications) == 0 {
		t.Errorf("%+v is reached: %+v", first, h)
	}
	if h := deeper.History(t, "quiet", hub.HistoryQuery{Limit: -1}); h.Floor == 0 {
		if of(deeper).groupOf("quiet") == of(deeper).groupOf("c") {
			t.Errorf("nothing is known to be gone: %+v", h)
		}
	}
}

// What a node that starts later, with rings of its own, says of the past is no more than what is there.
func TestReplay(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	a := newNode(t, s, Config{MaxHistorySize: 10})
	first := a.Publish(t, "c", "0", keep(hub.PublishOptions{}))
	quiet := a.History(t, "quiet", hub.HistoryQuery{}).Top
	var at []hub.Position
	for i := 1; i <= 25; i++ {
		at = append(at, a.Publish(t, "c", fmt.Sprint(i), keep(hub.PublishOptions{Version: uint64(i)})))
	}
	b := newNode(t, s, Config{MaxHistorySize: 10})
	h := b.History(t, "c", hub.HistoryQuery{Limit: -1})
	if got := brokertest.Texts(h.Publications); len(got) != 10 || got[0] != "16" || h.Reaches(first.Offset) || h.Reaches(at[13].Offset) || !h.Reaches(at[14].Offset) {
		t.Errorf("%q from %d, want 10 from %d", got, h.Floor, at[14].Offset)
	}
	if h := b.History(t, "quiet", hub.HistoryQuery{Since: &quiet, Following: true}); !h.Reaches(quiet.Offset) {
		t.Errorf("a quiet channel at %+v: %+v", quiet, h)
	}
	if p := b.Publish(t, "c", "old", keep(hub.PublishOptions{Version: 3})); p.Offset < at[24].Offset {
		t.Errorf("%+v", p)
	}
	if got := brokertest.Texts(b.History(t, "c", hub.HistoryQuery{Limit: 1, Reverse: true}).Publications); !slices.Equal(got, []string{"25"}) {
		t.Errorf("an old version was made: %q", got)
	}
}

// A stream that is deleted and made anew has another epoch, and who relied on the old one is told before anything else.
func TestStreamThatIsDeleted(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	link := openLink(t, LinkConfig{Server: s})
	n := nodeOn(t, link, Config{Groups: 1})
	n.Subscribe(t, "c", kept10)
	n.Subscribe(t, "none", hub.Retention{})
	before := n.Publish(t, "c", "1", keep(hub.PublishOptions{}))
	brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("c")) == 1 })
	if err := of(n).js.DeleteStream(t.Context(), of(n).streamName(0)); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the subscribers are told", func() bool { return len(n.Sink.Came("c")) == 2 })
	if p := n.Sink.Came("c")[1]; p.Kind != hub.KindReset {
		t.Errorf("what came is %+v", p)
	}
	var after hub.History
	brokertest.Eventually(t, "it is read again", func() bool {
		var err error
		after, err = n.Broker.History(t.Context(), "c", hub.HistoryQuery{Limit: -1})
		return err == nil
	})
	if after.Top.Epoch == before.Epoch || len(after.Publications) != 0 {
		t.Errorf("%+v after %+v", after, before)
	}
	if p := n.Publish(t, "c", "2", keep(hub.PublishOptions{})); p.Epoch != after.Top.Epoch {
		t.Errorf("%+v is not of %+v", p, after.Top)
	}
	brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("c")) == 3 })
}

// proxy is a way to a server that can be cut, or stopped without a word.
type proxy struct {
	listener net.Listener
	server   string

	// Guarded by mu.
	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.server)
			p.mu.Lock()
			if err != nil || p.down {
				_ = in.Close()
				if err == nil {
					_ = out.Close()
				}
				p.mu.Unlock()
				continue
			}
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			running.Go(func() { _, _ = io.Copy(in, out); _ = in.Close(); _ = out.Close() })
			running.Go(func() { _, _ = io.Copy(out, in); _ = in.Close(); _ = out.Close() })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut(true)
		running.Wait()
	})
	return p
}

// cut closes all connections, and with down lets none in.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// A node that was cut off gets what it missed, in order, and once; what it cannot get, its subscribers are told of.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		name   string
		missed int
		reset  bool
	}{{"few", 5, false}, {"as many as are kept", 10, false}, {"more", 30, true}} {
		t.Run(c.name, func(t *testing.T) {
			address := external(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
			a := nodeOn(t, openLink(t, LinkConfig{URLs: []string{"nats://" + address}}), Config{MaxHistorySize: 10})
			p := newProxy(t, address)
			link := openLink(t, LinkConfig{URLs: []string{"nats://" + p.listener.Addr().String()}, ReconnectWait: 5 * time.Millisecond})
			b := nodeOn(t, link, Config{MaxHistorySize: 10, PublishTimeout: 2 * time.Second})
			for _, channel := range []string{"c", "other"} {
				b.Subscribe(t, channel, kept10)
				a.Publish(t, channel, "before", keep(hub.PublishOptions{}))
				brokertest.Eventually(t, "it comes", func() bool { return len(b.Sink.Came(channel)) == 1 })
			}
			p.cut(true)
			brokertest.Eventually(t, "it is cut off", func() bool { return !link.Connected() })
			if _, err := b.Broker.Publish(t.Context(), "c", nil, keep(hub.PublishOptions{})); !errors.Is(err, hub.ErrUnavailable) {
				t.Errorf("publishing while it is cut off: %v", err)
			}
			if _, err := b.Broker.History(t.Context(), "c", hub.HistoryQuery{Limit: -1}); !errors.Is(err, hub.ErrUnavailable) {
				t.Errorf("the history while it is cut off: %v", err)
			}
			if h, err := b.Broker.History(t.Context(), "c", hub.HistoryQuery{Limit: -1, Following: true}); err != nil || len(h.Publications) != 1 {
				t.Errorf("recovery while it is cut off: %+v, %v", h, err)
			}
			want := []string{"before"}
			for i := range c.missed {
				a.Publish(t, "c", fmt.Sprint(i), keep(hub.PublishOptions{}))
				want = append(want, fmt.Sprint(i))
			}
			last := a.Publish(t, "other", "last", keep(hub.PublishOptions{}))
			p.cut(false)
			brokertest.Eventually(t, "what it missed comes", func() bool {
				h, err := b.Broker.History(t.Context(), "other", hub.HistoryQuery{Since: &last, Following: true})
				return err == nil && h.Top.Offset >= last.Offset && len(b.Sink.Came("other")) == 2 && (c.reset || len(b.Sink.Came("c")) == len(want))
			})
			published := false
			brokertest.Eventually(t, "what comes afterwards", func() bool {
				if !published || c.reset { // what is published before the node has read the log anew is for those who subscribe then
					a.Publish(t, "c", "after", keep(hub.PublishOptions{}))
					published = true
				}
				d := b.Sink.Data("c")
				return d[len(d)-1] == "after"
			})
			var kinds []hub.Kind
			for _, p := range b.Sink.Came("c") {
				kinds = append(kinds, p.Kind)
			}
			if got := slices.Index(kinds, hub.KindReset); c.reset != (got == 1) {
				t.Errorf("a reset at %d of %v", got, kinds)
			}
			if got := b.Sink.Data("c"); !c.reset && !slices.Equal(got, append(want, "after")) {
				t.Errorf("%q, want %q", got, want)
			}
			if slices.ContainsFunc(b.Sink.Came("other"), func(p *hub.Publication) bool { return p.Kind == hub.KindReset }) {
				t.Error("another channel was told to begin anew")
			}
		})
	}
}

// A node that is ahead of the log says so, and does not number anew in silence.
func TestLogThatLostItsEnd(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	n := newNode(t, s, Config{Groups: 1})
	n.Subscribe(t, "c", kept10)
	before := n.Publish(t, "c", "1", keep(hub.PublishOptions{}))
	lost := n.Publish(t, "c", "2", keep(hub.PublishOptions{}))
	brokertest.Eventually(t, "they come", func() bool { return len(n.Sink.Came("c")) == 2 })
	g := of(n).groupOf("c")
	g.mu.Lock()
	g.read += 5 // as if five more had been read, which are not in the log any more
	g.mu.Unlock()
	g.again()
	brokertest.Eventually(t, "the subscribers are told", func() bool { return len(n.Sink.Came("c")) == 3 })
	var h hub.History
	brokertest.Eventually(t, "it is read again", func() bool {
		var err error
		h, err = n.Broker.History(t.Context(), "c", hub.HistoryQuery{Limit: -1})
		return err == nil
	})
	if h.Top.Epoch == before.Epoch || len(h.Publications) != 2 || h.Top.Offset != lost.Offset || of(n).Stats().Renewals != 1 {
		t.Errorf("%+v after %+v", h, lost)
	}
	if len(n.Sink.Came("c")) != 3 {
		t.Errorf("old publications were handed over again: %q", n.Sink.Data("c"))
	}
}

// The same number with another content is another log.
func TestLogThatIsAnother(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	n := newNode(t, s, Config{Groups: 1})
	n.Subscribe(t, "c", kept10)
	before := n.Publish(t, "c", "1", keep(hub.PublishOptions{}))
	brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("c")) == 1 })
	g := of(n).groupOf("c")
	g.mu.Lock()
	g.readAt = g.readAt.Add(-time.Second)
	g.mu.Unlock()
	g.again()
	brokertest.Eventually(t, "the subscribers are told", func() bool { return len(n.Sink.Came("c")) == 2 })
	brokertest.Eventually(t, "it has another epoch", func() bool {
		h, err := n.Broker.History(t.Context(), "c", hub.HistoryQuery{})
		return err == nil && h.Top.Epoch != before.Epoch
	})
}

// Groups and partitions without subscribers are left, and joined again.
func TestIdle(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{IdleTimeout: time.Nanosecond})
	for range 3 {
		n.Subscribe(t, "c", kept10)
		n.Subscribe(t, "none", hub.Retention{})
		p := n.Publish(t, "c", "x", keep(hub.PublishOptions{}))
		before := len(n.Sink.Came("none"))
		n.Publish(t, "none", "x", hub.PublishOptions{})
		brokertest.Eventually(t, "it comes", func() bool { return len(n.Sink.Came("none")) == before+1 })
		of(n).Expire()
		if st := of(n).Stats(); st.Groups != 1 || st.Partitions != 1 {
			t.Errorf("with subscribers: %+v", st)
		}
		n.Unsubscribe("c", kept10)
		n.Unsubscribe("none", hub.Retention{})
		of(n).Expire()
		if st := of(n).Stats(); st.Groups != 0 || st.Partitions != 0 || st.RingBytes != 0 {
			t.Errorf("without: %+v", st)
		}
		if h := n.History(t, "c", hub.HistoryQuery{Limit: 1, Reverse: true}); h.Publications[0].Offset != p.Offset {
			t.Errorf("%+v", h)
		}
	}
}

// The rings are bounded, and what leaves them is known to be gone.
func TestRingBytes(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 2, RingBytes: 100_000})
	data := strings.Repeat("x", 1000)
	first := map[string]hub.Position{}
	for i := range 300 {
		channel := fmt.Sprint("c", i%30)
		if i < 30 {
			n.Subscribe(t, channel, kept10)
		}
		p := n.Publish(t, channel, data, keep(hub.PublishOptions{}))
		if _, ok := first[channel]; !ok {
			first[channel] = p
		}
	}
	n.History(t, "c0", hub.HistoryQuery{}) // which has read all
	h, more, err := of(n).groupOf("c0").remembered("c0", hub.HistoryQuery{Limit: -1})
	p := first["c0"]
	if err != nil || !more || h.Reaches(p.Offset-1) || len(h.Publications) > 9 {
		t.Errorf("%d from %d, though the first at %d is gone", len(h.Publications), h.Floor, p.Offset)
	}
	if st := of(n).Stats(); st.RingBytes > 110_000 || st.Evicted == 0 {
		t.Errorf("%+v", st)
	}
}

// Versions are forgotten with the channels, also of those of which nothing is kept in the history.
func TestVersionsAreForgotten(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1, RingChannels: 10})
	n.Subscribe(t, "c", kept10)
	const channels = 100
	for i := range channels {
		n.Publish(t, fmt.Sprint(i), "x", keep(hub.PublishOptions{Version: 1, SkipHistory: i%2 == 0}))
	}
	g := &of(n).groups[0]
	brokertest.Eventually(t, "all were read", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.rings.versions) == channels })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rings.expire(1<<30, 1<<30, 10)
	if len(g.rings.versions) > 0 || g.rings.table.Len() > 0 {
		t.Errorf("%d versions of %d channels are left", len(g.rings.versions), g.rings.table.Len())
	}
}

// What others put into the streams is passed by.
func TestForeignMessages(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1, Partitions: 1})
	n.Subscribe(t, "c", kept10)
	n.Subscribe(t, "none", hub.Retention{})
	b := of(n)
	for _, subject := range []string{"millpond.h.0.c", "millpond.h.0.%zz", "millpond.t.0.1", "millpond.v.0.c", "millpond.p.0"} {
		for _, body := range []string{"", "x", "\x01\x02\x00\xff\xff\xff\xff\x0f", "\x01\x08\x00\x05nojs", "\x01\x04\x00\xff"} {
			if err := b.config.Link.Publish(subject, "", []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.Publish(t, "c", "x", keep(hub.PublishOptions{}))
	n.Publish(t, "none", "x", hub.PublishOptions{})
	brokertest.Eventually(t, "ours come", func() bool { return len(n.Sink.Came("c")) == 1 && len(n.Sink.Came("none")) == 1 })
	if b.Stats().Foreign == 0 {
		t.Error("they are not counted")
	}
}

func TestEnvelope(t *testing.T) {
	for _, e := range []envelope{
		{},
		{kind: kindClear, channel: "c", data: []byte{}},
		{channel: strings.Repeat("x", 300), retention: hub.Retention{Size: 1 << 20, TTL: 1000 * time.Hour}, delta: true, rare: rare{Tags: map[string]string{"a": ""}, Version: 1 << 60}, data: []byte("data")},
	} {
		b, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", e) && len(e.data) > 0 {
			t.Errorf("%+v, %v, want %+v", got, err, e)
		}
		for i := range b {
			if _, err := decode(b[:i]); err == nil && i < len(b)-len(e.data) {
				t.Errorf("%d of %d bytes are taken for an envelope", i, len(b))
			}
		}
	}
}

// Three servers in one process: a node on each, and one of them ends in the middle.
func TestThreeNodes(t *testing.T) {
	at := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	servers, nodes := make([]*embedded.Server, 3), make([]*brokertest.Node, 3)
	var starting sync.WaitGroup
	for i := range servers {
		starting.Go(func() {
			var err error
			servers[i], err = embedded.Start(embedded.Config{
				Dir: t.TempDir(), Node: fmt.Sprint("n", i), StoreBytes: 128 << 20, ClusterName: "c", ClusterListen: at[i], ClusterRoutes: at, Logger: silent,
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, s := range servers {
		t.Cleanup(func() { shutdown(t, s) })
		nodes[i] = newNode(t, s, Config{Groups: 2, Replicas: 3, StartTimeout: time.Minute})
		brokertest.Eventually(t, "subscribed", func() bool { return nodes[i].Broker.Subscribe(t.Context(), "c", kept10) == nil })
		nodes[i].Subscribe(t, "c", kept10)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]bool{}
	publish := func(n int, from, to int) {
		for i := from; i < to; i++ {
			text := fmt.Sprintf("%d.%d", n, i)
			_, err := nodes[n].Broker.Publish(t.Context(), "c", []byte(text), keep(hub.PublishOptions{}))
			if err == nil {
				mu.Lock()
				acked[text] = true
				mu.Unlock()
			}
		}
	}
	for n := range nodes {
		group.Go(func() { publish(n, 0, 200) })
	}
	group.Wait()
	if len(acked) != 600 {
		t.Fatalf("%d of 600 were acknowledged", len(acked))
	}
	all := func(n int) func() bool {
		return func() bool {
			came := map[string]bool{}
			for _, text := range nodes[n].Sink.Data("c") {
				came[text] = true
			}
			mu.Lock()
			defer mu.Unlock()
			for text := range acked {
				if !came[text] {
					return false
				}
			}
			return true
		}
	}
	for n := range nodes {
		brokertest.Eventually(t, "all come", all(n))
		if !slices.Equal(nodes[n].Sink.Data("c"), nodes[0].Sink.Data("c")) {
			t.Errorf("node %d has another order than node 0", n)
		}
	}
	for n := range nodes { // whichever servers answer
		recallAll(t, nodes[n])
	}
	of(nodes[2]).Close()
	_ = of(nodes[2]).config.Link.Close(t.Context())
	shutdown(t, servers[2])
	brokertest.Eventually(t, "publications are acknowledged without the third", func() bool {
		_, err := nodes[0].Broker.Publish(t.Context(), "c", []byte("again"), keep(hub.PublishOptions{}))
		return err == nil
	})
	// Fewer than the log keeps of a channel: a node may have to find another way to it first.
	group.Go(func() { publish(0, 200, 240) })
	group.Go(func() { publish(1, 200, 240) })
	group.Wait()
	for n := range 2 {
		brokertest.Eventually(t, "all come", all(n))
		if texts := nodes[n].Sink.Data("c"); slices.ContainsFunc(nodes[n].Sink.Came("c"), func(p *hub.Publication) bool { return p.Kind == hub.KindReset }) {
			t.Errorf("node %d was told to begin anew: %d", n, len(texts))
		}
	}
}

// recallAll makes a node forget what is kept of the channel "c", and compares what it says of it before and after.
func recallAll(t *testing.T, n *brokertest.Node) {
	t.Helper()
	before := n.History(t, "c", hub.HistoryQuery{Limit: -1})
	g := of(n).groupOf("c")
	g.mu.Lock()
	bytes := g.rings.bytes
	g.rings.bound(0)
	of(n).ringBytes.Add(int64(g.rings.bytes - bytes))
	g.mu.Unlock()
	found := of(n).Stats().Recalls.Found
	var after hub.History
	brokertest.Eventually(t, "the log is read", func() bool {
		after = n.History(t, "c", hub.HistoryQuery{Since: &hub.Position{Offset: before.Floor}, Limit: -1, Following: true})
		return of(n).Stats().Recalls.Found > found
	})
	if !slices.Equal(brokertest.Texts(after.Publications), brokertest.Texts(before.Publications)) || !after.Reaches(before.Floor) || len(after.Publications) != kept10.Size {
		t.Errorf("%q since %d became %q since %d", brokertest.Texts(before.Publications), before.Floor, brokertest.Texts(after.Publications), after.Floor)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
