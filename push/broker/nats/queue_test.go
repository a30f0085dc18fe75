package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millpond/millpond/push/broker/brokertest"
)

// backend is whoever puts messages into a queue.
type backend struct {
	t       *testing.T
	address string
	js      jetstream.JetStream
}

// startQueue starts a server of NATS with the streams "work", and "dead" for what is refused.
func startQueue(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, address: external(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})}
	var err error
	if b.js, err = jetstream.New(openLink(t, LinkConfig{URLs: []string{"nats://" + b.address}}).conn); err != nil {
		t.Fatal(err)
	}
	b.stream("work", jetstream.WorkQueuePolicy)
	b.stream("dead", jetstream.LimitsPolicy)
	return b
}

func (b *backend) stream(name string, retention jetstream.RetentionPolicy) {
	b.t.Helper()
	if _, err := b.js.CreateStream(b.t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Retention: retention}); err != nil {
		b.t.Fatal(err)
	}
}

// put puts the numbers of a range into the queue.
func (b *backend) put(from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		b.send(&gonats.Msg{Subject: "work.x", Data: fmt.Append(nil, i)})
	}
}

func (b *backend) send(m *gonats.Msg) {
	b.t.Helper()
	if _, err := b.js.PublishMsg(b.t.Context(), m); err != nil {
		b.t.Fatal(err)
	}
}

// left is the number of messages in a stream.
func (b *backend) left(stream string) int {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// worker is a node that reads the queue.
type worker struct {
	queue *Queue
	link  *Link

	// Guarded by mu.
	mu   sync.Mutex
	came []*Queued
	held bool // what comes is not done
}

func (b *backend) read(c QueueConfig) *worker {
	b.t.Helper()
	r := &worker{link: openLink(b.t, LinkConfig{URLs: []string{"nats://" + b.address}, ReconnectWait: 5 * time.Millisecond})}
	c.Link, c.Stream, c.Logger, c.AckWait = r.link, "work", silent, max(c.AckWait, 3*time.Second)
	var err error
	if r.queue, err = OpenQueue(c); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { r.queue.Close(b.t.Context()) })
	return r
}

func (r *worker) run() { r.queue.Run(r.take) }

func (r *worker) take(m *Queued) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.Held() {
		return
	}
	r.came = append(r.came, m)
	if !r.held {
		m.Done()
	}
}

// hold says whether what comes is left undone.
func (r *worker) hold(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held = yes; !yes {
		for _, m := range r.came {
			m.Done()
		}
	}
}

func (r *worker) all() []*Queued {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.came)
}

func (r *worker) data() (list []string) {
	for _, m := range r.all() {
		list = append(list, string(m.Data()))
	}
	return list
}

func numbers(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func awaitNumbers(t *testing.T, r *worker, what string, from, to int) {
	t.Helper()
	brokertest.Eventually(t, what, func() bool { return len(r.data()) >= to-from })
	if got := r.data(); !slices.Equal(got, numbers(from, to)) {
		t.Fatalf("%s: %q, want %d to %d", what, got, from, to-1)
	}
}

// Of several nodes one gets the messages, in their order. What one does not do any more, for whatever reason, another gets, and nothing newer before.
func TestQueueOfSeveral(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *worker){
		"orderly": func(t *testing.T, r *worker) { r.queue.Close(t.Context()) },
		"killed":  func(t *testing.T, r *worker) { _ = r.link.Close(t.Context()) },
		"deaf":    func(_ *testing.T, r *worker) { r.queue.cancel() }, // it asks for no more, and gives no sign
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startQueue(t)
			c := QueueConfig{AckWait: pinned + 4*time.Second} // so that newer ones come to the other before those that the first had
			first, second := b.read(c), b.read(c)
			b.put(0, 50)
			first.run()
			awaitNumbers(t, first, "the first", 0, 50)
			first.hold(true)
			b.put(50, 60)
			awaitNumbers(t, first, "those that it does not do", 0, 60)
			second.run()
			end(t, first)
			b.put(60, 100)
			awaitNumbers(t, second, "the other", 50, 100)
			brokertest.Eventually(t, "the queue is empty", func() bool { return b.left("work") == 0 })
			if st := second.queue.Stats(); st.Done != 50 || name != "orderly" && st.Redelivered < 10 || st.Pending != 0 || st.PendingBytes != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// However often the server chooses another node: nothing comes before what is older is done.
func TestQueueChanges(t *testing.T) {
	const messages, changes = 400, 20
	b := startQueue(t)
	first, second := b.read(QueueConfig{}), b.read(QueueConfig{})
	for _, r := range []*worker{first, second} { // they note what comes in one place
		r.queue.Run(first.take)
	}
	stream, err := b.js.Stream(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	for i := range changes {
		b.put(i*messages/changes, (i+1)*messages/changes)
		brokertest.Eventually(t, "some come", func() bool { return len(first.data()) > i*messages/changes })
		if err := stream.UnpinConsumer(t.Context(), "millpond", queueGroup); err != nil {
			t.Fatal(err)
		}
	}
	awaitNumbers(t, first, "all of them", 0, messages)
	if a, b := first.queue.Stats().Done, second.queue.Stats().Done; a == 0 || b == 0 || a+b != messages {
		t.Errorf("one node has done %d, the other %d", a, b)
	}
}

// A node that could not tell the server that it still has something does nothing with it, and gets it again in its order.
func TestQueueNotHeld(t *testing.T) {
	b := startQueue(t)
	r := b.read(QueueConfig{})
	r.hold(true)
	r.run()
	b.put(0, 5)
	awaitNumbers(t, r, "the messages", 0, 5)
	r.queue.mu.Lock()
	for _, m := range r.queue.out {
		m.until = time.Now()
	}
	r.queue.mu.Unlock()
	first := r.all()[0]
	if first.Held() {
		t.Error("it is held")
	}
	first.Done() // does nothing
	b.put(5, 10)
	brokertest.Eventually(t, "they come again", func() bool { return len(r.data()) >= 15 })
	if got := r.data()[5:]; !slices.Equal(got, numbers(0, 10)) {
		t.Errorf("%q", got)
	}
	if n := b.left("work"); n != 10 {
		t.Errorf("%d are left of 10 that are not done", n)
	}
}

// What a node has is bounded in messages and in bytes, and for as long as it takes it stays the node's.
func TestQueueBounds(t *testing.T) {
	const most = 1<<20 + messageOverhead
	for _, c := range []struct {
		name   string
		config QueueConfig
		size   int
		want   int
	}{
		{"messages", QueueConfig{MaxMessages: 7}, 10, 7},
		{"bytes", QueueConfig{MaxBytes: 2 * most}, 300 << 10, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := startQueue(t)
			r := b.read(c.config)
			defer r.queue.Close(t.Context())
			r.hold(true)
			r.run()
			for i := range 20 {
				b.send(&gonats.Msg{Subject: "work.x", Data: fmt.Appendf(nil, "%0*d", c.size, i)})
			}
			brokertest.Eventually(t, "as many as there is room for", func() bool { return len(r.data()) >= c.want })
			brokertest.Eventually(t, "it is told that they are held", func() bool { return r.queue.Stats().Lag == 20 })
			time.Sleep(r.queue.config.AckWait + 500*time.Millisecond) // it is about time
			for _, m := range r.all() {
				if !m.Held() {
					t.Error("one is not held any more")
				}
			}
			if st := r.queue.Stats(); st.Pending > c.want+2 || c.config.MaxMessages > 0 && st.Pending > c.config.MaxMessages || c.config.MaxBytes > 0 && st.PendingBytes > c.config.MaxBytes || st.Redelivered > 0 {
				t.Errorf("%+v", st)
			}
			r.hold(false)
			brokertest.Eventually(t, "the rest comes", func() bool { return len(r.data()) == 20 })
			brokertest.Eventually(t, "the queue is empty", func() bool { return b.left("work") == 0 })
		})
	}
}

// What is refused for good is kept elsewhere, with what was wrong.
func TestQueueDeadLetter(t *testing.T) {
	b := startQueue(t)
	r := b.read(QueueConfig{DeadLetter: "dead.millpond"})
	r.hold(true)
	r.run()
	b.send(&gonats.Msg{Subject: "work.x", Data: []byte("bad"), Header: gonats.Header{"X": {"y"}, "Nats-Msg-Id": {"id"}, "Nats-Expected-Stream": {"work"}, "Millpond-Channel": {"c"}}})
	brokertest.Eventually(t, "it comes", func() bool { return len(r.all()) == 1 })
	m := r.all()[0]
	if m.Key() != "id" || m.Channel() != "c" {
		t.Errorf("key %q, channel %q", m.Key(), m.Channel())
	}
	for range 2 { // as after a crash between the two steps
		if err := m.Refuse(t.Context(), errors.New("it is\nbad")); err != nil {
			t.Fatal(err)
		}
	}
	brokertest.Eventually(t, "the queue is empty", func() bool { return b.left("work") == 0 })
	dead, err := b.js.Stream(t.Context(), "dead")
	if err != nil {
		t.Fatal(err)
	}
	last, err := dead.GetLastMsgForSubject(t.Context(), "dead.millpond")
	if err != nil {
		t.Fatal(err)
	}
	if b.left("dead") != 1 || string(last.Data) != "bad" || last.Header.Get("Millpond-Error") != "it is bad" || last.Header.Get("Millpond-Subject") != "work.x" ||
		last.Header.Get("Millpond-Stream") != "work" || last.Header.Get("Millpond-Sequence") != "1" || last.Header.Get("X") != "y" || last.Header.Get("Millpond-Channel") != "c" {
		t.Errorf("%d, the last %q %v", b.left("dead"), last.Data, last.Header)
	}
	if st := r.queue.Stats(); st.Refused != 1 || st.DeadLetters == 0 || st.Done != 0 {
		t.Errorf("%+v", st)
	}
}

// Settings with which messages would be lost, or never come, are told, and the queue is not read until they are mended.
func TestQueueMisfit(t *testing.T) {
	b := startQueue(t)
	for _, c := range []struct {
		config QueueConfig
		want   string
	}{
		{QueueConfig{DeadLetter: "nowhere"}, "no stream takes nowhere"},
		{QueueConfig{DeadLetter: "work.dead"}, "in the stream work itself"},
		{QueueConfig{MaxBytes: 1 << 20}, "queue-max-bytes"},
	} {
		var log strings.Builder
		var mu sync.Mutex
		r := b.read(c.config)
		r.queue.config.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); log.Write(p) }), nil))
		r.run()
		brokertest.Eventually(t, c.want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(log.String(), c.want)
		})
		if r.queue.Stats().Reading || r.queue.Stats().Interruptions == 0 {
			t.Errorf("%s: %+v", c.want, r.queue.Stats())
		}
		r.queue.Close(t.Context())
	}
	late := b.read(QueueConfig{DeadLetter: "later.x"})
	late.run()
	b.put(0, 3)
	b.stream("later", jetstream.LimitsPolicy)
	awaitNumbers(t, late, "once it is mended", 0, 3)
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// A stream that is made anew has other messages, though they have the numbers of old ones.
func TestQueueMadeAnew(t *testing.T) {
	b := startQueue(t)
	r := b.read(QueueConfig{})
	r.hold(true)
	r.run()
	b.put(0, 3)
	awaitNumbers(t, r, "the old ones", 0, 3)
	if err := b.js.DeleteStream(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	b.stream("work", jetstream.WorkQueuePolicy)
	b.put(3, 6)
	brokertest.Eventually(t, "the new ones", func() bool { return len(r.data()) >= 6 })
	if got := r.data(); !slices.Equal(got, numbers(0, 6)) || r.all()[0].Key() == r.all()[3].Key() {
		t.Errorf("%q, with the keys %s and %s", got, r.all()[0].Key(), r.all()[3].Key())
	}
}

func TestQueueConfig(t *testing.T) {
	for _, c := range []struct {
		config QueueConfig
		want   string
	}{
		{QueueConfig{Stream: "a b"}, "queue-stream"},
		{QueueConfig{Stream: "a", Consumer: "a.b"}, "queue-consumer"},
		{QueueConfig{Stream: "a", Subject: "a..b"}, "queue-subject"},
		{QueueConfig{Stream: "a", DeadLetter: "a.*"}, "queue-dead-letter"},
		{QueueConfig{Stream: "a", MaxMessages: -1}, "queue-max-messages"},
		{QueueConfig{Stream: "a", Start: "yesterday"}, "queue-start"},
		{QueueConfig{Stream: "a", Start: "0"}, "queue-start"},
		{QueueConfig{Stream: "a", MaxBytes: -1}, "queue-max-bytes"},
		{QueueConfig{Stream: "a", AckWait: time.Millisecond}, "queue-ack-wait"},
		{QueueConfig{Stream: "a", Subject: "a.>", DeadLetter: "b.c"}, ""},
	} {
		err := c.config.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.config, err, c.want)
		}
	}
}

// The consumer is removed while a node reads: it is made again where it stood. Nothing comes twice, and nothing is left
// out.
func TestQueueConsumerRemoved(t *testing.T) {
	for name, retention := range map[string]jetstream.RetentionPolicy{"limits": jetstream.LimitsPolicy, "interest": jetstream.InterestPolicy, "work": jetstream.WorkQueuePolicy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startQueue(t)
			if err := b.js.DeleteStream(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
			b.stream("work", retention)
			r := b.read(QueueConfig{})
			r.run()
			brokertest.Eventually(t, "it reads", func() bool { return r.queue.Stats().Reading })
			b.put(0, 20)
			awaitNumbers(t, r, "the first ones", 0, 20)
			brokertest.Eventually(t, "it is known where it stands", func() bool {
				r.queue.mu.Lock()
				defer r.queue.mu.Unlock()
				return r.queue.stood == 21
			})
			if err := b.js.DeleteConsumer(t.Context(), "work", "millpond"); err != nil {
				t.Fatal(err)
			}
			if name == "interest" { // which keeps nothing that nobody wants
				brokertest.Eventually(t, "it is made again", func() bool { return r.queue.Stats().Remade == 1 && r.queue.Stats().Reading })
			}
			b.put(20, 30)
			awaitNumbers(t, r, "those after it", 0, 30)
			if st := r.queue.Stats(); st.Remade != 1 || st.Redelivered != 0 {
				t.Errorf("%+v", st)
			}
			// Where it stood says nothing of a stream that is made anew.
			if err := b.js.DeleteStream(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
			b.stream("work", retention)
			brokertest.Eventually(t, "there is a consumer", func() bool {
				_, err := b.js.Consumer(t.Context(), "work", "millpond")
				return err == nil
			})
			b.put(30, 33)
			awaitNumbers(t, r, "those of the new stream", 0, 33)
		})
	}
}

// Where to begin in a stream that keeps what is done, if nobody knows what that is, must be said. If all of it must be
// new, or is not done, it need not.
func TestQueueStart(t *testing.T) {
	b := startQueue(t)
	if err := b.js.DeleteStream(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	b.stream("work", jetstream.LimitsPolicy)
	b.put(0, 5)
	s, err := b.js.Stream(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	fourth, err := s.GetMsg(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	var mu sync.Mutex
	untold := b.read(QueueConfig{Consumer: "none"})
	untold.queue.config.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); log.Write(p) }), nil))
	untold.run()
	brokertest.Eventually(t, "it is told", func() bool { mu.Lock(); defer mu.Unlock(); return strings.Contains(log.String(), "queue-start: ") })
	readers := map[string]*worker{}
	for _, start := range []string{"all", "new", "3", fourth.Time.Format(time.RFC3339Nano)} {
		r := b.read(QueueConfig{Consumer: fmt.Sprint("c", len(readers)), Start: start})
		r.run()
		readers[start] = r
		brokertest.Eventually(t, "it reads", func() bool { return r.queue.Stats().Reading })
	}
	none := b.read(QueueConfig{Consumer: "filtered", Subject: "work.other"}) // of which there is nothing
	none.run()
	brokertest.Eventually(t, "it reads", func() bool { return none.queue.Stats().Reading })
	b.put(5, 8)
	for start, from := range map[string]int{"all": 0, "new": 5, "3": 2, fourth.Time.Format(time.RFC3339Nano): 3} {
		awaitNumbers(t, readers[start], "from "+start, from, 8)
	}
	if st := untold.queue.Stats(); st.Reading || st.Received > 0 {
		t.Errorf("without being told: %+v", st)
	}
	// The setting of a consumer that is there means nothing, and may be changed.
	changed := b.read(QueueConfig{Consumer: "c2", Start: "all", MaxMessages: 7})
	readers["3"].queue.Close(t.Context())
	changed.run()
	b.put(8, 10)
	awaitNumbers(t, changed, "the rest", 8, 10)
	// All of a stream that is made while a node waits for it is new.
	if err := b.js.DeleteStream(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	late := b.read(QueueConfig{Consumer: "late"})
	late.run()
	brokertest.Eventually(t, "it waits", func() bool { return late.queue.Stats().Interruptions > 0 })
	b.stream("work", jetstream.LimitsPolicy)
	b.put(0, 5)
	awaitNumbers(t, late, "all of the new one", 0, 5)
}
