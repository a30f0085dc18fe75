package nats

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/hub"
)

// past is a channel "c" with the publications "0" to "9" behind a position, which a node is asked for. The node's
// memory may have let go, or never have had, any of them.
type past struct {
	t      *testing.T
	node   *brokertest.Node // that is asked
	other  *brokertest.Node // that publishes
	sink   *gated           // of node
	start  func()           // makes another node
	config Config
	before hub.Position // the one that is asked for
	keep   hub.Retention
}

// publish publishes the numbers of a range.
func (p *past) publish(channel string, from, to int) (last hub.Position) {
	for i := from; i < to; i++ {
		last = p.other.Publish(p.t, channel, fmt.Sprint(i), hub.PublishOptions{Retention: p.keep})
	}
	return last
}

// store puts something into the log, at the channel's subject.
func (p *past) store(e envelope) uint64 {
	body, err := e.encode()
	if err != nil {
		p.t.Fatal(err)
	}
	g := &of(p.other).groups[0]
	ack, err := g.append(p.t.Context(), &gonats.Msg{Subject: g.subject(kindHistory, "c"), Data: body})
	if err != nil {
		p.t.Fatal(err)
	}
	return ack.Sequence
}

func (p *past) group() *group { return &of(p.node).groups[0] }

// await returns when the node has read all there is.
func (p *past) await() { p.node.History(p.t, "other", hub.HistoryQuery{}) }

// crowd makes the memory of the node too small for what it has.
func (p *past) crowd() {
	p.await()
	data := strings.Repeat("x", 1000)
	for range 2 * p.config.RingBytes / len(data) {
		p.other.Publish(p.t, "other", data, hub.PublishOptions{Retention: hub.Retention{Size: 1000, TTL: time.Hour}})
	}
	p.await()
}

// expire does what is done once in a minute, as if so much time had gone by.
func (p *past) expire(later time.Duration, most int) {
	p.await()
	g := p.group()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := of(p.node).now() + seconds(later)
	before := g.rings.bytes
	g.rings.expire(now, 0, most)
	of(p.node).ringBytes.Add(int64(g.rings.bytes - before))
}

// What a node answers to who comes back, to the API's history and to who wants the latest alone, depends on what the
// log has of the channel, and not on what has happened to the node's memory. The log is read only where memory does not
// know.
func TestRecall(t *testing.T) {
	all := numbers(0, 10)
	const size = 20
	for _, c := range []struct {
		name    string
		config  Config
		keep    hub.Retention
		happens func(p *past)
		want    []string // of who comes back; nil means that it is told that something is missing
		history []string // the API's, if not all of want
		recalls RecallStats
	}{
		{name: "it has them", happens: func(*past) {}, want: all},
		{name: "the node came later", happens: func(p *past) { p.start() }, want: all},
		{name: "the node left the group, and came back", happens: func(p *past) {
			of(p.node).Expire()
			brokertest.Eventually(p.t, "it is left", func() bool { of(p.node).Expire(); return of(p.node).Stats().Groups == 0 })
		}, config: Config{IdleTimeout: time.Nanosecond}, want: all},
		{
			name: "let go for --history-bytes", config: Config{RingBytes: 50_000},
			happens: (*past).crowd, want: all, recalls: RecallStats{Found: 3},
		},
		{
			name: "some of them let go", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.crowd()
				p.publish("c", 10, 13)
			},
			want: numbers(0, 13), recalls: RecallStats{Found: 2}, // memory has the latest
		},
		{
			name: "let go, and many since", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.crowd()
				p.publish("c", 10, 10+size+1)
			},
			history: numbers(11, 10+size+1), // as many as are kept, so that nothing is asked for
		},
		{
			name: "the channel was too many for --history-channels", keep: hub.Retention{Size: size, TTL: time.Hour},
			happens: func(p *past) {
				p.publish("brief", 0, 1) // the last one of another, so that its going says nothing of this one
				g := p.group()
				p.await()
				g.mu.Lock()
				before := g.rings.bytes
				g.rings.clear(g.rings.get("c"), g.read) // as if it were over
				g.rings.clear(g.rings.get("brief"), g.read)
				of(p.node).ringBytes.Add(int64(g.rings.bytes - before))
				g.mu.Unlock()
				p.expire(0, 0)
			},
			want: all, recalls: RecallStats{Found: 3},
		},
		{
			name: "too much was missed to see what", config: Config{CatchUpBytes: 500, ChannelMessages: 40},
			happens: func(p *past) {
				p.node.Subscribe(p.t, "busy", p.keep)
				p.sink.shut()
				var publishing sync.WaitGroup
				for range 8 {
					publishing.Go(func() { p.publish("busy", 0, 600) }) // more than the client of NATS fetches ahead
				}
				publishing.Wait()
				p.sink.let()
				brokertest.Eventually(p.t, "it gives up", func() bool { p.await(); return of(p.node).Stats().Resets > 0 })
			},
			want: all, recalls: RecallStats{Found: 3},
		},
		{
			name: "more was missed than the history holds", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.publish("c", 10, size+1)
				p.crowd()
			},
			history: numbers(1, size+1), recalls: RecallStats{Gone: 1, Found: 2},
		},
		{
			name: "more was missed than the log keeps", config: Config{RingBytes: 20_000, ChannelMessages: 30},
			happens: func(p *past) {
				p.keep.Size = 1000 // as many as there are
				p.publish("c", 10, 50)
				p.crowd()
			},
			history: numbers(21, 50), recalls: RecallStats{Gone: 1, Found: 2},
		},
		{
			name: "their time is over", config: Config{RingBytes: 50_000}, keep: hub.Retention{Size: size, TTL: time.Second},
			happens: func(p *past) {
				p.crowd()
				time.Sleep(1100 * time.Millisecond) // it is about time
			},
			recalls: RecallStats{Gone: 1, Found: 2},
		},
		{
			name: "the history was removed", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.crowd()
				if err := p.other.Broker.RemoveHistory(p.t.Context(), "c"); err != nil {
					p.t.Fatal(err)
				}
				p.crowd()
			},
		},
		{
			name: "the log let its beginning go", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.crowd()
				s, err := of(p.other).js.Stream(p.t.Context(), of(p.other).streamName(0))
				if err == nil {
					err = s.Purge(p.t.Context())
				}
				if err != nil {
					p.t.Fatal(err)
				}
			},
			recalls: RecallStats{Gone: 1, Found: 2},
		},
		{
			name: "versions", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				for _, v := range []uint64{7, 6, 9, 8} { // two are none, because of those before; nodes that publish at the same time put them into the log
					seq := p.store(envelopeOf(fmt.Append(nil, "version ", v), hub.PublishOptions{Retention: p.keep, Version: v}))
					if v == 7 {
						p.before.Offset = seq
					}
				}
				p.crowd()
			},
			want: []string{"version 9"}, history: append(append([]string{"seen"}, numbers(0, 10)...), "version 7", "version 9"), recalls: RecallStats{Found: 3},
		},
		{
			name: "the latest one was worth something for a second", config: Config{RingBytes: 50_000},
			happens: func(p *past) {
				p.other.Publish(p.t, "c", "brief", hub.PublishOptions{Retention: p.keep, TTL: time.Second})
				p.crowd()
				time.Sleep(1100 * time.Millisecond) // it is about time
			},
			want: all, recalls: RecallStats{Found: 3},
		},
		{
			name: "more than --nats-recall-bytes", config: Config{RingBytes: 50_000, RecallBytes: 500},
			happens: (*past).crowd, history: []string{}, recalls: RecallStats{Failed: 2, Found: 1}, // the latest alone is not too much
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startEmbedded(t, t.TempDir())
			c.config.Groups, c.config.MaxHistorySize = 1, 1000
			if c.config.ChannelMessages == 0 {
				c.config.ChannelMessages = 1001
			}
			p := &past{t: t, keep: c.keep}
			p.start = func() {
				p.node = newNode(t, s, c.config)
				p.sink = gate(p.node)
			}
			if !p.keep.Enabled() {
				p.keep = hub.Retention{Size: size, TTL: time.Hour}
			}
			big := c.config
			big.RingBytes, big.IdleTimeout, big.MaxHistorySize = 0, 0, min(1000, c.config.ChannelMessages-1)
			c.config.MaxHistorySize = big.MaxHistorySize
			p.config = c.config
			p.other = newNode(t, s, big)
			p.start()
			p.other.Publish(t, "c", "seen", hub.PublishOptions{Retention: p.keep})
			p.node.History(t, "c", hub.HistoryQuery{Limit: -1})
			p.before = p.publish("other", 0, 1)
			p.publish("c", 0, 10)
			c.happens(p)
			p.await()

			before := of(p.node).Stats().Recalls
			back := p.node.History(t, "c", hub.HistoryQuery{Since: &p.before, Limit: -1, Following: true})
			if got := brokertest.Texts(back.Publications); back.Reaches(p.before.Offset) != (c.want != nil) || c.want != nil && !slices.Equal(got, c.want) {
				t.Errorf("since %d: %q from %d up to %d, want %q", p.before.Offset, got, back.Floor, back.Top.Offset, c.want)
			}
			history := c.history
			if history == nil && c.want != nil {
				history = append([]string{"seen"}, c.want...)
			}
			if got := brokertest.Texts(p.node.History(t, "c", hub.HistoryQuery{Limit: -1}).Publications); !slices.Equal(got, history) {
				t.Errorf("the history is %q, want %q", got, history)
			}
			last := history[max(len(history)-1, 0):]
			if c.recalls.Failed > 0 {
				last = []string{"9"}
			}
			if got := brokertest.Texts(p.node.History(t, "c", hub.HistoryQuery{Limit: 1, Reverse: true, Following: true}).Publications); !slices.Equal(got, last) {
				t.Errorf("the latest is %q, want %q", got, last)
			}
			now := of(p.node).Stats().Recalls
			if got := (RecallStats{now.Found - before.Found, now.Gone - before.Gone, now.Refused - before.Refused, now.Failed - before.Failed}); got != c.recalls {
				t.Errorf("%+v, want %+v", got, c.recalls)
			}
		})
	}
}

// What leaves the log while it is read is not taken for something that was never there.
func TestRecallOfWhatGoes(t *testing.T) {
	for _, c := range []struct {
		meanwhile int
		want      []string // of ten; nil if it cannot be said
		reaches   bool
	}{{10, numbers(0, 10), true}, {25, numbers(5, 10), false}, {40, nil, false}} {
		n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1, MaxHistorySize: 20, ChannelMessages: 30})
		o := hub.PublishOptions{Retention: hub.Retention{Size: 20, TTL: time.Hour}}
		n.History(t, "c", hub.HistoryQuery{}) // there is an anchor
		before := n.Publish(t, "c", "before", o)
		top := before
		for i := range 10 {
			top = n.Publish(t, "c", fmt.Sprint(i), o)
		}
		last := top
		for range c.meanwhile {
			last = n.Publish(t, "c", "later", o)
		}
		l, err := of(n).groups[0].lookup("c")
		if err != nil {
			t.Fatal(err)
		}
		past, _, err := l.past(t.Context(), before.Offset+1, last.Offset, top)
		list, floor, _ := past.query("c", hub.HistoryQuery{Since: &before, Limit: -1}, of(n).now())
		if got := brokertest.Texts(list); !slices.Equal(got, c.want) || floor <= before.Offset != c.reaches && err == nil || (err == nil) != (c.want != nil) {
			t.Errorf("%d meanwhile: %q from %d, since %d: %v", c.meanwhile, got, floor, before.Offset, err)
		}
		l.close()
	}
}

// What is removed while it is read is not taken for something that was never there.
func TestRecallOfWhatIsRemoved(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1})
	n.History(t, "c", hub.HistoryQuery{}) // there is an anchor
	before := n.Publish(t, "c", "before", keep(hub.PublishOptions{}))
	n.Publish(t, "c", "0", keep(hub.PublishOptions{}))
	top := n.Publish(t, "c", "1", keep(hub.PublishOptions{}))
	if err := n.Broker.RemoveHistory(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	l, err := of(n).groups[0].lookup("c")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	newest, err := l.newest(t.Context(), top.Offset)
	if err != nil {
		t.Fatal(err)
	}
	for _, newest := range []uint64{top.Offset, newest} {
		if past, _, err := l.past(t.Context(), before.Offset+1, newest, top); err == nil {
			t.Errorf("since %d: all from %d on", before.Offset, past.floor)
		}
	}
}

// Who wants the newest publication gets it, whoever else waits for the channel.
func TestRecallOfTheNewest(t *testing.T) {
	n := newNode(t, startEmbedded(t, t.TempDir()), Config{Groups: 1})
	b := of(n)
	newest := n.Publish(t, "c", "newest", keep(hub.PublishOptions{}))
	n.History(t, "c", hub.HistoryQuery{})
	if err := b.recalls.reading.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	readings := []*recall{b.joinRecall("c", newest.Offset+1), b.joinRecall("c", newestOnly), b.joinRecall("c", newest.Offset+1)}
	b.recalls.reading.release()
	for i, want := range [][]string{nil, {"newest"}, nil} {
		<-readings[i].done
		list, floor, _ := readings[i].past.query("c", hub.HistoryQuery{Limit: 1, Reverse: true}, b.now())
		if got := brokertest.Texts(list); readings[i].err != nil || !slices.Equal(got, want) || want == nil && floor != newest.Offset {
			t.Errorf("%q from %d: %v", got, floor, readings[i].err)
		}
	}
	if readings[0] != readings[2] {
		t.Error("they do not share one")
	}
}

// The API's history has what the log has, also if it is asked for since before all of that.
func TestRecallSinceBeforeTheLog(t *testing.T) {
	s := startEmbedded(t, t.TempDir())
	config := Config{Groups: 1, MaxHistorySize: 1000, ChannelMessages: 1001}
	p := &past{t: t, keep: hub.Retention{Size: 20, TTL: time.Hour}, other: newNode(t, s, config)}
	p.publish("gone", 0, 3)
	stream, err := of(p.other).js.Stream(t.Context(), of(p.other).streamName(0))
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	p.publish("c", 0, 10)
	config.RingBytes = 50_000
	p.config, p.node = config, newNode(t, s, config)
	p.crowd()
	if h := p.node.History(t, "c", hub.HistoryQuery{Since: &hub.Position{}, Limit: -1}); !slices.Equal(brokertest.Texts(h.Publications), numbers(0, 10)) {
		t.Errorf("%q", brokertest.Texts(h.Publications))
	}
	before := of(p.node).Stats().Recalls
	if h := p.node.History(t, "c", hub.HistoryQuery{Since: &hub.Position{}, Limit: -1, Following: true}); h.Reaches(0) || of(p.node).Stats().Recalls != before {
		t.Errorf("%+v", h)
	}
}

// An answer of which something was lost on its way is none.
func TestRecallOfHalfAnAnswer(t *testing.T) {
	link := openLink(t, LinkConfig{URLs: []string{"nats://" + external(t, &server.Options{})}})
	g := &group{broker: &Broker{config: Config{Link: link}}}
	const whole = "1 2 3 end"
	for answer, ok := range map[string]bool{whole: true, "2 3 end": false, "1 3 end": false, "1 2 end": false} {
		sub, err := link.conn.Subscribe("$JS.API.DIRECT.GET.*", func(m *gonats.Msg) {
			for i, part := range strings.Fields(whole) {
				h := gonats.Header{"Nats-Subject": {"s"}, "Nats-Time-Stamp": {"2026-11-22T00:00:00Z"}, "Nats-Sequence": {part}, "Nats-Last-Sequence": {fmt.Sprint(i)}}
				if part == "end" {
					h = gonats.Header{"Status": {"204"}, "Description": {"EOB"}, "Nats-Last-Sequence": {fmt.Sprint(i)}}
				}
				if slices.Contains(strings.Fields(answer), part) {
					_ = m.RespondMsg(&gonats.Msg{Header: h})
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := g.lookup("c")
		if err != nil {
			t.Fatal(err)
		}
		if list, _, err := l.ask(t.Context(), directGet{Seq: 1}); (err == nil) != ok || ok && len(list) != 3 {
			t.Errorf("%s: %d, %v", answer, len(list), err)
		}
		l.close()
		_ = sub.Unsubscribe()
	}
}

// However many ask at once for what memory has let go: so many wait for the log, one channel is read at a time and once
// for all that wait for it, and the others are answered from memory.
func TestRecallFlood(t *testing.T) {
	const channels, each, places = 40, 5, 8
	s := startEmbedded(t, t.TempDir())
	n := newNode(t, s, Config{Groups: 2, MaxHistorySize: 10, RingBytes: 20_000, Recalls: places})
	since := map[string]*hub.Position{}
	for i := range 12 {
		for c := range channels {
			channel := fmt.Sprint("c", c)
			if p := n.Publish(t, channel, fmt.Sprint(i), keep(hub.PublishOptions{})); i == 1 {
				since[channel] = &p
			}
		}
	}
	var asking sync.WaitGroup
	var most int
	stop := make(chan struct{})
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				most = max(most, len(of(n).recalls.places))
				time.Sleep(time.Millisecond)
			}
		}
	})
	var clients sync.WaitGroup
	for channel, p := range since {
		for range each {
			clients.Go(func() {
				h, err := n.Broker.History(t.Context(), channel, hub.HistoryQuery{Since: p, Limit: -1})
				if err != nil {
					t.Errorf("%s: %v", channel, err)
				}
				if h.Reaches(p.Offset) && !slices.Equal(brokertest.Texts(h.Publications), numbers(2, 12)) {
					t.Errorf("%s since %d: %q", channel, p.Offset, brokertest.Texts(h.Publications))
				}
			})
		}
	}
	clients.Wait()
	close(stop)
	asking.Wait()
	st := of(n).Stats().Recalls
	if st.Found == 0 || st.Refused == 0 || st.Gone > 0 || most > places {
		t.Errorf("%+v, %d at a time", st, most)
	}
	for channel, p := range since { // one after the other all of them are found
		if h := n.History(t, channel, hub.HistoryQuery{Since: p, Limit: -1}); !h.Reaches(p.Offset) {
			t.Errorf("%s since %d: %+v, %+v", channel, p.Offset, h, of(n).Stats().Recalls)
		}
	}
}
