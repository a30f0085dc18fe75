package nats

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"
)

// QueueConfig says which stream a Queue reads. All nodes should have the same.
type QueueConfig struct {
	// Link is the connection. It must be set, and outlive the Queue.
	Link *Link
	// Stream is the stream's name. Others make it; until it is there, the Queue waits.
	Stream string
	// Consumer is the name of the durable consumer, which all nodes share. Empty means the Link's prefix.
	Consumer string
	// Subject, if not empty, is a pattern: other messages of the stream are none of the queue's.
	Subject string
	// Start says where to begin when the consumer is not there, the stream has messages, and keeps those that are done,
	// so that nobody knows which those are: "all", "new", the sequence of the first message, or its time (RFC 3339).
	// Empty means that nothing is read until somebody says so.
	Start string
	// DeadLetter is the subject to which messages go that are refused for good, in another stream. Empty means that they are gone.
	DeadLetter string

	// MaxMessages and MaxBytes bound what has come and is not done yet. Zero means 1024, and 64 MiB. There must be room for the largest message
	// that the servers take.
	MaxMessages int
	MaxBytes    int
	// AckWait is for how long the server waits for a sign of a node that has a message, before another gets it. Zero means 15 s.
	AckWait time.Duration

	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c QueueConfig) Validate() error {
	var errs []error
	for name, text := range map[string]string{"queue-stream": c.Stream, "queue-consumer": c.Consumer} {
		if strings.ContainsFunc(text, func(r rune) bool { return !isWord(r) }) {
			errs = append(errs, fmt.Errorf("%s: %q has more than letters, digits, - and _ in it", name, text))
		}
	}
	for name, text := range map[string]string{"queue-subject": c.Subject, "queue-dead-letter": c.DeadLetter} {
		if strings.ContainsAny(text, " \t\r\n") || slices.Contains(strings.Split(text, "."), "") && text != "" {
			errs = append(errs, fmt.Errorf("%s: %q is no subject", name, text))
		}
	}
	if strings.ContainsAny(c.DeadLetter, "*>") {
		errs = append(errs, fmt.Errorf("queue-dead-letter: %q is a pattern, and no subject", c.DeadLetter))
	}
	if err := c.startAt(&jetstream.ConsumerConfig{}); err != nil {
		errs = append(errs, err)
	}
	for name, n := range map[string]int64{"queue-max-messages": int64(c.MaxMessages), "queue-max-bytes": int64(c.MaxBytes)} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, n))
		}
	}
	if c.AckWait != 0 && c.AckWait < time.Second {
		errs = append(errs, fmt.Errorf("queue-ack-wait: %v is less than a second", c.AckWait))
	}
	return errors.Join(errs...)
}

// startAt notes in a consumer's configuration what Start says.
func (c QueueConfig) startAt(to *jetstream.ConsumerConfig) error {
	switch c.Start {
	case "", "all":
		to.DeliverPolicy = jetstream.DeliverAllPolicy
		return nil
	case "new":
		to.DeliverPolicy = jetstream.DeliverNewPolicy
		return nil
	}
	if seq, err := strconv.ParseUint(c.Start, 10, 64); err == nil && seq > 0 {
		to.DeliverPolicy, to.OptStartSeq = jetstream.DeliverByStartSequencePolicy, seq
		return nil
	}
	at, err := time.Parse(time.RFC3339, c.Start)
	if err != nil {
		return fmt.Errorf("queue-start: %q is not all, new, a sequence or a time like 2006-01-02T15:04:05Z", c.Start)
	}
	to.DeliverPolicy, to.OptStartTime = jetstream.DeliverByStartTimePolicy, &at
	return nil
}

func (c QueueConfig) withDefaults() QueueConfig {
	c.Consumer = cmp.Or(c.Consumer, c.Link.Prefix())
	c.MaxMessages, c.MaxBytes, c.AckWait = cmp.Or(c.MaxMessages, 1024), cmp.Or(c.MaxBytes, 64<<20), cmp.Or(c.AckWait, 15*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

const (
	// fetchWait is for how long one request for messages waits, pinned for how long the server keeps to a node that does not ask for any.
	fetchWait = 2 * time.Second
	pinned    = 3 * fetchWait
	// queueGroup is that of the nodes, of which one at a time gets messages.
	queueGroup = "millpond"
	// messageOverhead is what a message takes beside what the server's bound is for: its subjects, and what the node knows of it.
	messageOverhead = 2048
)

// Queue takes messages out of a stream of somebody's, in their order, for as long as it takes to do what they say.
//
// The server sends them to one node at a time (a pinned client of the consumer's), to another when that one does not ask for any more. What it had
// and had not done comes to the next one when AckWait is over. Before that, newer messages may come: they are held until all older ones are
// here, or done. So no message overtakes another, whatever happens to the nodes.
type Queue struct {
	// Immutable after OpenQueue.
	config  QueueConfig
	js      jetstream.JetStream
	ctx     context.Context // ends with Stop
	cancel  func()
	running sync.WaitGroup
	lines   rate.Sometimes // of the log, about refusals

	// Owned by the goroutine of Run.
	last uint64    // the number of the latest delivery
	anew bool      // all that is in the stream came while this node was waiting for it
	held []*Queued // what waits for older ones; nil and not gated for nothing

	// Guarded by mu.
	mu     sync.Mutex
	out    map[uint64]*Queued // what has come and is not done, by its sequence
	bytes  int
	moved  chan struct{} // closed when out gets smaller
	gated  bool          // older messages may be with others
	stream string        // what the stream is known by: one that is made anew is another
	stood  uint64        // the first message that the consumer had not done when it was last seen; zero if it never was

	// Any goroutine (atomic).
	reading                                                         atomic.Bool
	received, redelivered, done, refused, deadLetters, interruption atomic.Int64
	remade                                                          atomic.Int64
	lag                                                             atomic.Int64
}

// Queued is a message that has come. Its methods may be called by any goroutine.
type Queued struct {
	// Immutable.
	queue *Queue
	seq   uint64
	size  int
	key   string

	// Guarded by queue.mu.
	msg   jetstream.Msg // of the latest delivery
	until time.Time     // for so long no other node gets it
}

// OpenQueue prepares to read; see Run.
func OpenQueue(c QueueConfig) (*Queue, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	js, err := jetstream.New(c.Link.conn)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	q := &Queue{config: c, js: js, out: map[uint64]*Queued{}, moved: make(chan struct{}), gated: true, lines: rate.Sometimes{First: 10, Interval: 5 * time.Second}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q, nil
}

// Run calls take with one message after another, until Stop. take must not block.
func (q *Queue) Run(take func(*Queued)) {
	q.running.Go(q.keep)
	q.running.Go(func() {
		const shortest, longest = 100 * time.Millisecond, 5 * time.Second
		for wait := shortest; q.ctx.Err() == nil; wait = min(2*wait, longest) {
			read, err := q.session(take)
			q.reading.Store(false)
			if q.ctx.Err() != nil {
				return
			}
			if read {
				wait = shortest
			}
			q.interruption.Add(1)
			q.config.Logger.Warn("queue: the stream cannot be read now", "stream", q.config.Stream, "error", err)
			select {
			case <-q.ctx.Done():
			case <-time.After(wait/2 + rand.N(wait)):
			}
		}
	})
}

// session reads until something comes between, and reports whether anything could be read.
func (q *Queue) session(take func(*Queued)) (read bool, err error) {
	consumer, err := q.open()
	if err != nil {
		return false, err
	}
	q.gate()
	for {
		messages, bytes, err := q.room(consumer, take)
		if err != nil {
			return read, err
		}
		ctx, cancel := context.WithTimeout(q.ctx, fetchWait)
		batch, err := consumer.Fetch(
			messages, jetstream.FetchMaxBytes(bytes), jetstream.FetchContext(ctx), jetstream.FetchPriorityGroup(queueGroup), jetstream.FetchHeartbeat(fetchWait/4),
		)
		if err == nil {
			q.reading.Store(true)
			read = true
			if err = q.takeAll(consumer, batch.Messages(), take); err == nil {
				err = batch.Error()
			}
		}
		cancel()
		// Another node has been chosen; or nothing came.
		if err != nil && !errors.Is(err, jetstream.ErrPinIDMismatch) && !errors.Is(err, context.DeadlineExceeded) {
			return read, err
		}
	}
}

// open looks at the stream, and makes the consumer, or changes it, if need be.
func (q *Queue) open() (jetstream.Consumer, error) {
	c := q.config
	ctx, cancel := context.WithTimeout(q.ctx, 5*time.Second)
	defer cancel()
	if most := int(c.Link.conn.MaxPayload()) + messageOverhead; c.MaxBytes < most {
		return nil, fmt.Errorf("queue-max-bytes: %d is less than the %d that the largest message may have here", c.MaxBytes, most)
	}
	stream, err := q.js.Stream(ctx, c.Stream)
	if err != nil {
		q.anew = q.anew || errors.Is(err, jetstream.ErrStreamNotFound)
		return nil, err
	}
	name := c.Stream + "." + strconv.FormatInt(stream.CachedInfo().Created.UnixNano(), 36)
	q.know(name)
	if c.DeadLetter != "" {
		switch name, err := q.js.StreamNameBySubject(ctx, c.DeadLetter); {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, fmt.Errorf("queue-dead-letter: no stream takes %s, so that what is refused would be lost", c.DeadLetter)
		case err != nil:
			return nil, err
		case name == c.Stream:
			return nil, fmt.Errorf("queue-dead-letter: %s is in the stream %s itself; what is refused needs another", c.DeadLetter, name)
		}
	}
	want := jetstream.ConsumerConfig{
		Durable: c.Consumer, Description: "millpond: publications from a queue", FilterSubject: c.Subject,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.AckWait, MaxAckPending: c.MaxMessages, MaxDeliver: -1,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{queueGroup}, PinnedTTL: pinned,
	}
	consumer, err := stream.Consumer(ctx, c.Consumer)
	if err == nil {
		is := consumer.CachedInfo().Config
		q.note(name, consumer)
		if is.FilterSubject == want.FilterSubject && is.AckWait == want.AckWait && is.MaxAckPending == want.MaxAckPending &&
			is.MaxDeliver == want.MaxDeliver && is.PriorityPolicy == want.PriorityPolicy && is.PinnedTTL == want.PinnedTTL {
			return consumer, nil
		}
		want.DeliverPolicy, want.OptStartSeq, want.OptStartTime = is.DeliverPolicy, is.OptStartSeq, is.OptStartTime // they stay
	} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	} else if err := q.begin(ctx, stream, &want); err != nil {
		return nil, err
	}
	if consumer, err = stream.CreateOrUpdateConsumer(ctx, want); err != nil {
		return nil, err
	}
	if consumer.CachedInfo().Config.PriorityPolicy != want.PriorityPolicy {
		return nil, errors.New("the server knows no pinned consumers; NATS 2.11 or newer is needed")
	}
	q.note(name, consumer)
	return consumer, nil
}

// begin says where a consumer that is not there is to begin. Of a stream that keeps what is done nobody knows what that
// is if the consumer was removed, and of keys only those of the last minutes.
func (q *Queue) begin(ctx context.Context, stream jetstream.Stream, want *jetstream.ConsumerConfig) error {
	c := q.config
	q.mu.Lock()
	stood := q.stood
	q.mu.Unlock()
	if stood > 0 {
		q.remade.Add(1)
		c.Logger.Warn("queue: the consumer was removed; it is made again where it stood", "stream", c.Stream, "consumer", c.Consumer, "sequence", stood)
	}
	kept := stream.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy
	switch {
	case !kept || q.anew && stood == 0:
		return nil
	case stood > 0:
		want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, stood
		return nil
	case c.Start != "":
		c.Logger.Info("queue: the consumer is made", "stream", c.Stream, "consumer", c.Consumer, "start", c.Start)
		return c.startAt(want)
	}
	_, err := stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(cmp.Or(c.Subject, ">"))) // or the next one
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf(
		"queue-start: the stream keeps what is done, has messages and no consumer %s: if that was removed they may have been published; say where to begin: all, new, a sequence or a time",
		c.Consumer,
	)
}

// note remembers where a consumer of a stream stands, if it is the present one.
func (q *Queue) note(stream string, consumer jetstream.Consumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stream == stream {
		q.stood = consumer.CachedInfo().AckFloor.Stream + 1
	}
}

// know notes which stream it is. What came of another one is none of this one's.
func (q *Queue) know(stream string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stream != stream && q.stream != "" {
		if q.stood, q.anew = 0, true; len(q.out) > 0 {
			q.abandonLocked()
		}
	}
	q.stream = stream
}

// room waits until there is some, and returns how many messages may come, and bytes.
func (q *Queue) room(consumer jetstream.Consumer, take func(*Queued)) (messages, bytes int, err error) {
	least := int(q.config.Link.conn.MaxPayload()) + messageOverhead
	look := time.NewTicker(settleWait)
	defer look.Stop()
	for {
		q.mu.Lock()
		messages, bytes = q.config.MaxMessages-len(q.out), q.config.MaxBytes-q.bytes
		moved := q.moved
		q.mu.Unlock()
		if messages > 0 && bytes >= least {
			return messages, bytes, nil
		}
		select {
		case <-moved:
		case <-look.C:
			if err := q.settle(consumer, take); err != nil {
				return 0, 0, err
			}
		case <-q.ctx.Done():
			return 0, 0, q.ctx.Err()
		}
	}
}

// settleWait is the time between two looks at whether all older messages are here.
const settleWait = 100 * time.Millisecond

// takeAll takes what comes of one request.
func (q *Queue) takeAll(consumer jetstream.Consumer, messages <-chan jetstream.Msg, take func(*Queued)) error {
	look := time.NewTicker(settleWait)
	defer look.Stop()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return q.ctx.Err()
			}
			if err := q.take(m, take); err != nil {
				return err
			}
		case <-look.C:
			if err := q.settle(consumer, take); err != nil {
				return err
			}
		}
	}
}

// take notes one delivery, and passes the message on or holds it.
func (q *Queue) take(m jetstream.Msg, take func(*Queued)) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	if meta.NumDelivered == 1 {
		q.received.Add(1)
	} else {
		q.redelivered.Add(1)
	}
	seq := meta.Sequence.Stream
	q.mu.Lock()
	if meta.Sequence.Consumer != q.last+1 { // what is between went to another node, or got lost
		q.gated = true
	}
	q.last = meta.Sequence.Consumer
	until := time.Now().Add(q.config.AckWait * 3 / 4)
	if known := q.out[seq]; known != nil {
		known.msg, known.until = m, until
		q.mu.Unlock()
		return nil
	}
	n := &Queued{queue: q, seq: seq, size: len(m.Data()) + len(m.Subject()) + messageOverhead, key: q.keyLocked(m, seq), msg: m, until: until}
	q.out[seq] = n
	q.bytes += n.size
	gated := q.gated
	q.mu.Unlock()
	if gated {
		q.held = append(q.held, n)
	} else {
		take(n)
	}
	return nil
}

// gate holds what comes until it is known that all older messages are here.
func (q *Queue) gate() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gated = true
}

// settle passes on what was held, in its order, if nobody has anything that is older: as many messages are out as are here.
func (q *Queue) settle(consumer jetstream.Consumer, take func(*Queued)) error {
	if len(q.held) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.ctx, 5*time.Second)
	defer cancel()
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	q.mu.Lock()
	if info.NumAckPending > len(q.out) {
		q.mu.Unlock()
		return nil
	}
	q.gated = false
	list := q.held
	q.held = nil
	q.mu.Unlock()
	slices.SortFunc(list, func(a, b *Queued) int { return cmp.Compare(a.seq, b.seq) })
	for _, n := range list {
		take(n)
	}
	return nil
}

// maxKey bounds a key: longer ones of publishers are told apart by their hashes.
const maxKey = 255

// keyLocked returns what a message is known by: the id that its publisher gave it, or its place in the stream.
func (q *Queue) keyLocked(m jetstream.Msg, seq uint64) string {
	id := m.Headers().Get(jetstream.MsgIDHeader)
	switch {
	case id == "":
		return q.stream + "." + strconv.FormatUint(seq, 36)
	case len(id) > maxKey:
		sum := sha256.Sum256([]byte(id))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return id
}

// keep tells the server that this node still has what it has, and asks how much waits.
func (q *Queue) keep() {
	every := time.NewTicker(q.config.AckWait / 4)
	defer every.Stop()
	for {
		select {
		case <-q.ctx.Done():
			return
		case <-every.C:
		}
		q.extend()
		ctx, cancel := context.WithTimeout(q.ctx, 5*time.Second)
		q.mu.Lock()
		stream := q.stream
		q.mu.Unlock()
		if consumer, err := q.js.Consumer(ctx, q.config.Stream, q.config.Consumer); err == nil {
			info := consumer.CachedInfo()
			q.lag.Store(int64(info.NumPending) + int64(info.NumAckPending))
			q.note(stream, consumer)
		}
		cancel()
	}
}

// extend tells the server of what came a while ago. What the server was not told of in time, another node may have.
func (q *Queue) extend() {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.out {
		if now.After(n.until) {
			q.abandonLocked()
			return
		}
		if n.until.Sub(now) < q.config.AckWait/2 && n.msg.InProgress() == nil {
			n.until = now.Add(q.config.AckWait * 3 / 4)
		}
	}
}

// abandonLocked forgets all that is out: it comes again, here or elsewhere, in its order. One message alone would come behind later ones.
func (q *Queue) abandonLocked() {
	q.config.Logger.Warn("queue: messages were not done in time, and nobody could be told; they come again", "stream", q.config.Stream, "messages", len(q.out))
	clear(q.out)
	q.bytes, q.gated = 0, true
	q.movedLocked()
}

func (q *Queue) movedLocked() {
	close(q.moved)
	q.moved = make(chan struct{})
}

// Held reports whether the message is this node's still: else whoever has it must do nothing.
func (n *Queued) Held() bool {
	q := n.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return n.heldLocked()
}

func (n *Queued) heldLocked() bool {
	q := n.queue
	if q.out[n.seq] != n {
		return false
	}
	if time.Now().After(n.until) {
		q.abandonLocked()
		return false
	}
	return true
}

// Key is what the message is known by, the same whenever it comes.
func (n *Queued) Key() string { return n.key }

// ChannelHeader names the channel of a message that is data alone.
const ChannelHeader = "Millpond-Channel"

// Channel is that of a message that is data alone, empty for another.
func (n *Queued) Channel() string { return n.message().Headers().Get(ChannelHeader) }

// Data is what the message says. It may be kept.
func (n *Queued) Data() []byte { return n.message().Data() }

func (n *Queued) message() jetstream.Msg {
	n.queue.mu.Lock()
	defer n.queue.mu.Unlock()
	return n.msg
}

// Done takes the message out of the queue: what it says is done.
func (n *Queued) Done() {
	if n.end(jetstream.Msg.Ack) {
		n.queue.done.Add(1)
	}
}

// end tells the server of the end, if the message is held; one that the server does not hear of comes again.
func (n *Queued) end(tell func(jetstream.Msg) error) bool {
	q := n.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if !n.heldLocked() {
		return false
	}
	delete(q.out, n.seq)
	q.bytes -= n.size
	q.movedLocked()
	return tell(n.msg) == nil
}

// Refuse takes the message out of the queue for good, after it was put where such go. An error says that this could not be done.
func (n *Queued) Refuse(ctx context.Context, why error) error {
	q := n.queue
	if q.config.DeadLetter != "" {
		if err := n.bury(ctx, why); err != nil {
			return fmt.Errorf("queue-dead-letter: %w", err)
		}
		q.deadLetters.Add(1)
	}
	if n.end(func(m jetstream.Msg) error { return m.TermWithReason("millpond: refused") }) {
		q.refused.Add(1)
		q.lines.Do(func() {
			q.config.Logger.Warn("queue: a message was refused", "stream", q.config.Stream, "sequence", n.seq, "dead_letter", q.config.DeadLetter, "error", why)
		})
	}
	return nil
}

// Headers of what is refused.
const (
	headerError    = "Millpond-Error"
	headerStream   = "Millpond-Stream"
	headerSubject  = "Millpond-Subject"
	headerSequence = "Millpond-Sequence"
)

// bury publishes the message to where refused ones go, with what was wrong. A second time is known by its id.
func (n *Queued) bury(ctx context.Context, why error) error {
	m, q := n.message(), n.queue
	h := maps.Clone(m.Headers())
	if h == nil {
		h = gonats.Header{}
	}
	maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") }) // those are for the server
	text := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, why.Error())
	h.Set(headerError, text[:min(len(text), 1024)])
	h.Set(headerStream, q.config.Stream)
	h.Set(headerSubject, m.Subject())
	h.Set(headerSequence, strconv.FormatUint(n.seq, 10))
	q.mu.Lock()
	id := "refused." + q.stream + "." + strconv.FormatUint(n.seq, 36)
	q.mu.Unlock()
	dead := &gonats.Msg{Subject: q.config.DeadLetter, Header: h, Data: m.Data()}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := q.js.PublishMsg(ctx, dead, jetstream.WithMsgID(id))
	if errors.Is(err, gonats.ErrMaxPayload) { // with what was added
		dead.Data = nil
		_, err = q.js.PublishMsg(ctx, dead, jetstream.WithMsgID(id))
	}
	return err
}

// Stop ends the reading. It returns when take is not called any more.
func (q *Queue) Stop() {
	q.cancel()
	q.running.Wait()
}

// Close ends the reading, and gives back what is not done, so that another node gets it at once.
func (q *Queue) Close(ctx context.Context) {
	q.Stop()
	q.mu.Lock()
	had := q.last > 0
	for _, seq := range slices.Sorted(maps.Keys(q.out)) {
		_ = q.out[seq].msg.Nak() // else it comes when AckWait is over
	}
	clear(q.out)
	q.bytes = 0
	q.mu.Unlock()
	if had && q.config.Link.Connected() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if stream, err := q.js.Stream(ctx, q.config.Stream); err == nil {
			_ = stream.UnpinConsumer(ctx, q.config.Consumer, queueGroup)
		}
	}
}

// QueueStats are the figures of a Queue.
type QueueStats struct {
	Reading       bool  // the stream can be read
	Received      int64 // messages that came for the first time
	Redelivered   int64 // that came again
	Done          int64
	Refused       int64 // for good
	DeadLetters   int64 // of them, those that are kept elsewhere
	Interruptions int64 // times that the stream could not be read
	Pending       int   // messages that are here and not done
	PendingBytes  int
	Lag           int64 // messages in the stream that no node has done
	Remade        int64 // times that the consumer was removed while this node knew where it stood, and was made again
}

// Stats returns them.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return QueueStats{
		Reading: q.reading.Load(), Received: q.received.Load(), Redelivered: q.redelivered.Load(), Done: q.done.Load(), Refused: q.refused.Load(),
		DeadLetters: q.deadLetters.Load(), Interruptions: q.interruption.Load(), Pending: len(q.out), PendingBytes: q.bytes, Lag: q.lag.Load(),
		Remade: q.remade.Load(),
	}
}
