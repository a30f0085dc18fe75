package memory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/millpond/millpond/push/hub"
)

// later lets time pass for b.
func (b *Broker) later(d time.Duration) { b.start = b.start.Add(-d) }

func newBroker(t *testing.T, c Config, subscribed ...string) (*Broker, *recorder) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	b, r := New(c), newRecorder(subscribed...)
	b.Attach(r)
	return b, r
}

func publishWith(t *testing.T, b *Broker, channel, data string, o hub.PublishOptions) hub.Position {
	t.Helper()
	p, err := b.Publish(t.Context(), channel, []byte(data), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func history(t *testing.T, b *Broker, channel string, q hub.HistoryQuery) (offsets []uint64, top hub.Position) {
	t.Helper()
	h, err := b.History(t.Context(), channel, q)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Publications {
		offsets = append(offsets, p.Offset)
	}
	return offsets, h.Top
}

// naive is a history without any thought for speed.
type naive struct {
	entries []naiveEntry
	top     uint64
	kept    bool
}

type naiveEntry struct {
	offset uint64
	end    uint32
}

func (n *naive) expire(now uint32) {
	for len(n.entries) > 0 && n.entries[0].end <= now {
		n.entries = n.entries[1:]
	}
}

func (n *naive) query(q hub.HistoryQuery) (out []uint64) {
	all := slices.Clone(n.entries)
	if q.Reverse {
		slices.Reverse(all)
	}
	for _, e := range all {
		if q.Limit >= 0 && len(out) == q.Limit {
			break
		}
		if q.Since == nil || (!q.Reverse && e.offset > q.Since.Offset) || (q.Reverse && e.offset < q.Since.Offset) {
			out = append(out, e.offset)
		}
	}
	return out
}

// TestHistoryTwin compares the broker with a naive one in a long random life of several channels.
func TestHistoryTwin(t *testing.T) {
	synctest.Test(t, testHistoryTwin) // so that time passes by later alone
}

func testHistoryTwin(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		b, _ := newBroker(t, Config{}, "a", "b", "c")
		twins := map[string]*naive{"a": {}, "b": {}, "c": {}}
		epochs := map[string]string{}
		for range 3000 {
			channel := string('a' + rune(random.IntN(3)))
			twin := twins[channel]
			switch random.IntN(10) {
			case 0:
				b.later(time.Duration(random.IntN(5000)) * time.Millisecond)
			case 1:
				b.Expire()
			case 2:
				if random.IntN(20) == 0 {
					if err := b.RemoveHistory(t.Context(), channel); err != nil {
						t.Fatal(err)
					}
					twin.entries = nil
				}
			case 3, 4, 5, 6:
				r := hub.Retention{Size: 1 + random.IntN(12), TTL: time.Duration(1+random.IntN(20)) * time.Second}
				if random.IntN(10) == 0 {
					r = hub.Retention{} // counted, not kept
				}
				now := b.now()
				p := publishWith(t, b, channel, "x", hub.PublishOptions{Retention: r})
				if !r.Enabled() && twin.kept {
					if p != (hub.Position{}) {
						t.Fatalf("what is not kept is at %v", p)
					}
					continue
				}
				twin.top++
				if r.Enabled() {
					twin.kept = true
					twin.expire(now)
					twin.entries = append(twin.entries, naiveEntry{twin.top, now + seconds(r.TTL)})
					twin.entries = twin.entries[max(0, len(twin.entries)-r.Size):]
				}
				if p.Offset != twin.top {
					t.Fatalf("offset %d, want %d", p.Offset, twin.top)
				}
			default:
				q := hub.HistoryQuery{Limit: random.IntN(8) - 1, Reverse: random.IntN(2) == 0}
				if random.IntN(2) == 0 {
					q.Since = &hub.Position{Offset: uint64(max(0, int(twin.top)+random.IntN(20)-15))}
				}
				got, top := history(t, b, channel, q)
				twin.kept = true
				twin.expire(b.now())
				if want := twin.query(q); !slices.Equal(got, want) || top.Offset != twin.top {
					t.Fatalf("seed %d: %+v since %+v: got %v of %d, want %v of %d", seed, q, q.Since, got, top.Offset, want, twin.top)
				}
				if old := epochs[channel]; old != "" && old != top.Epoch {
					t.Fatalf("the epoch changed from %s to %s", old, top.Epoch)
				}
				epochs[channel] = top.Epoch
			}
		}
		b.later(100 * 24 * time.Hour)
		b.Expire()
		if st := b.Stats(); st.Publications != 0 || st.Bytes != 0 {
			t.Fatalf("after its time: %+v", st)
		}
	}
}

// The position of a channel with history outlives its subscribers, up to its time, and is then forgotten; with
// subscribers it stays.
func TestPositionOutlivesSubscribers(t *testing.T) {
	b, r := newBroker(t, Config{PositionTTL: time.Hour}, "a", "b")
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 10, TTL: time.Minute}}
	first := publishWith(t, b, "a", "x", keep)
	publishWith(t, b, "b", "x", keep)
	r.setSubscribed("a", false)
	b.Unsubscribe("a", hub.Retention{})
	b.later(30 * time.Minute)
	b.Expire()
	if offsets, top := history(t, b, "a", hub.HistoryQuery{Limit: -1}); len(offsets) != 0 || top != first {
		t.Errorf("half an hour later: %v of %v, want none of %v", offsets, top, first)
	}
	for range 4 {
		b.later(30 * time.Minute)
		b.Expire()
	}
	if n := b.Stats().Streams; n != 1 {
		t.Errorf("%d streams, want that with subscribers", n)
	}
	if _, top := history(t, b, "a", hub.HistoryQuery{}); top.Offset != 0 || top.Epoch == first.Epoch {
		t.Errorf("after its time it is still at %v", top)
	}
}

// Whoever asks for the position of a channel that was never published to gets that from which its publications will count.
func TestPositionBeforeTheFirst(t *testing.T) {
	b, _ := newBroker(t, Config{})
	_, top := history(t, b, "a", hub.HistoryQuery{})
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 1, TTL: time.Minute}}
	if p := publishWith(t, b, "a", "x", keep); top.Offset != 0 || p != (hub.Position{Offset: 1, Epoch: top.Epoch}) {
		t.Errorf("%v, then %v", top, p)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	const most = 3
	b, r := newBroker(t, Config{MaxIdempotencyKeys: most * stripes}, "a", "b")
	key := hub.PublishOptions{IdempotencyKey: "k"}
	first := publishWith(t, b, "a", "x", key)
	if again := publishWith(t, b, "a", "x", key); again != first {
		t.Errorf("the second is at %v, the first at %v", again, first)
	}
	publishWith(t, b, "b", "w", hub.PublishOptions{})
	if other := publishWith(t, b, "b", "x", key); other.Offset != 2 { // the epoch may be the same
		t.Error("a key holds for another channel")
	}
	if other := publishWith(t, b, "a", "x", hub.PublishOptions{IdempotencyKey: "l"}); other.Offset != 2 {
		t.Errorf("another key: %v", other)
	}
	if got := r.offsets["a"]; !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("delivered: %v", got)
	}
	b.later(keyTTL*time.Second + time.Second)
	if late := publishWith(t, b, "a", "x", key); late.Offset != 3 {
		t.Errorf("after five minutes: %v", late)
	}
	for i := range 3 * most {
		publishWith(t, b, "a", "x", hub.PublishOptions{IdempotencyKey: fmt.Sprint(i)})
	}
	if n := b.Stats().Keys; n > most+1 {
		t.Errorf("%d keys are known, want %d at most", n, most)
	}
	b.later(keyTTL*time.Second + time.Second)
	b.Expire()
	if n := b.Stats().Keys; n != 0 {
		t.Errorf("%d keys are known after five minutes", n)
	}
}

func TestVersions(t *testing.T) {
	b, r := newBroker(t, Config{}, "a")
	for _, c := range []struct {
		version uint64
		epoch   string
		want    uint64 // offset
	}{{5, "", 1}, {5, "", 1}, {4, "", 1}, {6, "", 2}, {1, "x", 3}, {1, "x", 3}, {2, "x", 4}, {0, "", 5}, {2, "x", 5}} {
		if p := publishWith(t, b, "a", "x", hub.PublishOptions{Version: c.version, VersionEpoch: c.epoch}); p.Offset != c.want {
			t.Errorf("version %d of %q: offset %d, want %d", c.version, c.epoch, p.Offset, c.want)
		}
	}
	if n := len(r.offsets["a"]); n != 5 {
		t.Errorf("%d were delivered, want 5", n)
	}
}

// What is kept in all is bounded: histories go before their time, and positions, and nothing of others is lost with them.
func TestBounds(t *testing.T) {
	const limit = 4 << 20
	b, _ := newBroker(t, Config{MaxHistoryBytes: limit, MaxStreams: 64 * stripes})
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 100, TTL: time.Hour}}
	data := strings.Repeat("x", 1000)
	for i := range 20_000 {
		publishWith(t, b, fmt.Sprint("channel:", i%10_000), data, keep)
	}
	st := b.Stats()
	if st.Bytes > limit || st.Streams > 65*stripes || st.Evicted != int64(20_000-st.Publications) {
		t.Errorf("%+v, want at most %d bytes in %d streams, and the others counted", st, limit, 64*stripes)
	}
	there := 0
	for i := 9900; i < 10_000; i++ {
		offsets, _ := history(t, b, fmt.Sprint("channel:", i), hub.HistoryQuery{Limit: -1})
		there += min(len(offsets), 1)
	}
	if there < 50 { // any may go, for those that expire at the same time are in no order
		t.Errorf("%d of the latest 100 are there", there)
	}
	for name, c := range map[string]Config{"history-bytes": {MaxHistoryBytes: -1}, "history-channels": {MaxStreams: -1}, "history-position-ttl": {PositionTTL: -1}} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One long history may have all the room there is; of more, the oldest publications go, not the whole.
func TestBoundOfOneLongHistory(t *testing.T) {
	const limit = 1 << 20
	b, _ := newBroker(t, Config{MaxHistoryBytes: limit})
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 10_000, TTL: time.Hour}}
	data := strings.Repeat("x", 10_000)
	publishWith(t, b, "other", data, keep)
	for range 350 { // three times the room and a third
		publishWith(t, b, "long", data, keep)
	}
	offsets, top := history(t, b, "long", hub.HistoryQuery{Limit: -1})
	if n := len(offsets); n < 90 || n > 110 || offsets[n-1] != 350 || offsets[0] != uint64(351-n) || top.Offset != 350 {
		t.Errorf("%d are left, up to %v of %+v", n, offsets[max(n-1, 0):], top)
	}
	if st := b.Stats(); st.Bytes > limit || int64(st.Bytes) != b.bytes.Load() {
		t.Errorf("%+v, %d counted", st, b.bytes.Load())
	}
}

// What clients are said to be counts as well.
func TestBoundCountsInfo(t *testing.T) {
	b, _ := newBroker(t, Config{})
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 1, TTL: time.Hour}, Info: &hub.ClientInfo{ConnInfo: make([]byte, 4000), ChanInfo: make([]byte, 4000)}}
	publishWith(t, b, "a", "x", keep)
	if n := b.Stats().Bytes; n < 8000 {
		t.Errorf("%d bytes", n)
	}
}

// Positions of channels with subscribers do not count: nobody who is there loses his place.
func TestSubscribedStreamsStay(t *testing.T) {
	b, sink := newBroker(t, Config{MaxStreams: stripes})
	for i := range 2000 {
		sink.setSubscribed(fmt.Sprint("mine", i), true)
	}
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 1, TTL: time.Hour}}
	for i := range 2000 {
		publishWith(t, b, fmt.Sprint("mine", i), "x", keep)
		publishWith(t, b, fmt.Sprint("nobody's", i), "x", keep)
	}
	for i := range 2000 {
		if _, top := history(t, b, fmt.Sprint("mine", i), hub.HistoryQuery{}); top.Offset != 1 {
			t.Fatalf("mine%d is at %+v", i, top)
		}
	}
	if st := b.Stats(); st.Streams > 3500 {
		t.Errorf("%d streams", st.Streams)
	}
}

func TestStreamSize(t *testing.T) {
	if n := unsafe.Sizeof(stream{}); n > 64 {
		t.Errorf("a stream takes %d bytes, want at most 64, a size class of the allocator", n)
	}
}

// What passes by a history has no offset, not even where nothing was kept yet.
func TestFirstThatSkipsTheHistory(t *testing.T) {
	b, r := newBroker(t, Config{}, "a")
	keep := hub.PublishOptions{Retention: hub.Retention{Size: 5, TTL: time.Minute}}
	if got := publishWith(t, b, "a", "1", hub.PublishOptions{SkipHistory: true}); got != (hub.Position{}) {
		t.Errorf("position %v", got)
	}
	publishWith(t, b, "a", "2", keep)
	publishWith(t, b, "a", "3", hub.PublishOptions{SkipHistory: true})
	publishWith(t, b, "a", "4", keep)
	if got := r.offsets["a"]; !slices.Equal(got, []uint64{0, 1, 0, 2}) {
		t.Errorf("offsets %v", got)
	}
}
