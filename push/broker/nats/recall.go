package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millpond/millpond/push/hub"
)

// Memory lets publications go before their time for its bounds, and where too much was missed at once it does not know
// what it missed. The log may have what is asked for: then the channel is read from there. That is dearer than memory
// by far, and many may ask for it at once: so one channel is read at a time, a few messages at a time and half of the
// time, and one reading answers all that wait for a channel.

const (
	recallMessages = 8         // of one request, during which the server writes nothing to the stream; each may be in a block of its own
	recallChunk    = 256 << 10 // bytes of one request, and one message
	recallVain     = 20        // requests without an answer to which a server may be behind the others
)

// newestOnly is the first sequence that is wanted where the newest publication is enough.
const newestOnly = math.MaxUint64

var errChanged = errors.New("the log has changed while it was read")

// recalls are the channels that are to be read from the log.
type recalls struct {
	// Immutable after New.
	places  chan struct{} // one for each who waits
	reading semaphore     // of one

	// Guarded by mu.
	mu      sync.Mutex
	waiting map[recallOf]*recall // one of which the reading has begun is not there any more

	// Any goroutine (atomic).
	found, gone, refused, failed atomic.Int64
}

// recallOf says what is read. Who wants the newest alone may want what was before all that others want.
type recallOf struct {
	channel string
	newest  bool
}

// recall is one reading.
type recall struct {
	// Guarded by recalls.mu until it begins.
	from uint64 // the first sequence that is wanted

	done chan struct{} // closed when these are set
	top  hub.Position
	err  error

	// Guarded by mu, from then on.
	mu   sync.Mutex
	past rings
}

// recall answers q from the log. It reports false if that cannot be done, or not now.
func (b *Broker) recall(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, bool) {
	select {
	case b.recalls.places <- struct{}{}:
		defer func() { <-b.recalls.places }()
	default:
		b.recalls.refused.Add(1)
		return hub.History{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	r := b.joinRecall(channel, firstWanted(q))
	select {
	case <-r.done:
	case <-ctx.Done():
		b.recalls.failed.Add(1)
		return hub.History{}, false
	}
	if r.err != nil {
		b.recalls.failed.Add(1)
		return hub.History{}, false
	}
	h := hub.History{Top: r.top}
	r.mu.Lock()
	h.Publications, h.Floor, _ = r.past.query(channel, q, b.now())
	r.mu.Unlock()
	if q.Since != nil && !q.Reverse && !h.Reaches(q.Since.Offset) {
		b.recalls.gone.Add(1)
	} else {
		b.recalls.found.Add(1)
	}
	return h, true
}

// firstWanted is the first sequence of which q wants the publication.
func firstWanted(q hub.HistoryQuery) uint64 {
	switch {
	case q.Since != nil && !q.Reverse:
		return q.Since.Offset + 1
	case q.Since == nil && q.Reverse && q.Limit == 1:
		return newestOnly
	}
	return 1
}

// joinRecall returns the reading of a channel that has not begun yet, or one that waits from now on.
func (b *Broker) joinRecall(channel string, from uint64) *recall {
	c := &b.recalls
	c.mu.Lock()
	defer c.mu.Unlock()
	of := recallOf{channel, from == newestOnly}
	if r := c.waiting[of]; r != nil {
		r.from = min(r.from, from)
		return r
	}
	r := &recall{from: from, done: make(chan struct{})}
	c.waiting[of] = r
	if !b.spawn(func() { b.runRecall(of, r) }) {
		delete(c.waiting, of)
		r.err = errClosed
		close(r.done)
	}
	return r
}

func (b *Broker) runRecall(of recallOf, r *recall) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(b.ctx, b.config.PublishTimeout)
	defer cancel()
	r.err = b.recalls.reading.acquire(ctx)
	b.recalls.mu.Lock()
	delete(b.recalls.waiting, of) // where the channel stands is noted from here on: who comes later may have a later position
	b.recalls.mu.Unlock()
	if r.err != nil {
		return
	}
	defer b.recalls.reading.release()
	if r.past, r.top, r.err = b.groupOf(of.channel).recall(ctx, of.channel, r.from); r.err != nil {
		b.config.Logger.Warn("broker: a channel's past could not be read from the log", "channel", of.channel, "error", r.err)
	}
}

// recall reads what the log has of a channel from a sequence on, up to where this node has read.
func (g *group) recall(ctx context.Context, channel string, from uint64) (past rings, top hub.Position, err error) {
	g.mu.Lock()
	top = hub.Position{Offset: g.read, Epoch: g.epoch}
	fresh := g.isFreshLocked()
	g.mu.Unlock()
	if fresh {
		return past, top, errors.New("the log is being read anew")
	}
	l, err := g.lookup(channel)
	if err != nil {
		return past, top, err
	}
	defer l.close()
	newest, err := l.newest(ctx, top.Offset)
	if err != nil {
		return past, top, err
	}
	isNewest := from == newestOnly
	if isNewest {
		from = newest
	}
	past, enough, err := l.past(ctx, max(from, 1), newest, top)
	if err == nil && isNewest {
		list, _, _ := past.query(channel, hub.HistoryQuery{Limit: 1, Reverse: true}, g.broker.now())
		enough = enough && len(list) > 0
	}
	if err == nil && from > 1 && !enough { // it depends on what was before
		past, _, err = l.past(ctx, 1, newest, top)
	}
	return past, top, err
}

// past reads a channel's messages from one sequence up to another, which is that of the newest, and makes of them what
// memory would have. It reports whether that does not depend on what was before.
func (l *lookup) past(ctx context.Context, from, newest uint64, top hub.Position) (past rings, enough bool, err error) {
	entries, err := l.entries(ctx, from, newest, top.Offset)
	if err != nil {
		return past, false, err
	}
	// What has left the log while it was read is known by now: by age or for bytes from the log's beginning on, or for
	// later messages of the channel, of which there are no more than of all channels since.
	st, err := l.group.present(ctx)
	if err != nil {
		return past, false, err
	}
	since := st.last - min(st.last, top.Offset)
	if st.epoch != top.Epoch || st.last < top.Offset || since >= uint64(st.limit) {
		return past, false, errChanged
	}
	past.floor = max(st.floor, from-1)
	all := st.limit - int(since) // so many of the newest messages are all there
	cut := len(entries) >= all
	if cut {
		entries = entries[len(entries)-all:]
		past.floor = max(past.floor, entries[0].seq-1)
	}
	past.get(l.channel)
	enough = true
	for _, e := range entries {
		channel, env, ok := l.group.open(e)
		if !ok || channel != l.channel {
			continue
		}
		if env.rare.Version != 0 {
			if enough = from == 1; cut {
				return past, false, errors.New("a version that is not in the log any more may have been higher")
			}
		}
		l.group.broker.enter(&past, channel, &env, e)
	}
	return past, enough, nil
}

// lookup reads messages of a channel, from whichever server has the log. Owned by one goroutine.
type lookup struct {
	group   *group
	channel string
	subject string
	answers *gonats.Subscription
}

func (g *group) lookup(channel string) (*lookup, error) {
	conn := g.broker.config.Link.conn
	answers, err := conn.SubscribeSync(conn.NewInbox())
	return &lookup{group: g, channel: channel, subject: g.subject(kindHistory, escape(channel)), answers: answers}, err
}

func (l *lookup) close() { _ = l.answers.Unsubscribe() }

// entries returns the messages from one sequence up to another, as far as they are not beyond top.
func (l *lookup) entries(ctx context.Context, from, newest, top uint64) (list []entry, err error) {
	bytes, vain := 0, 0
	for from <= newest && from <= top {
		some, _, err := l.ask(ctx, directGet{Seq: from, Next: l.subject, Batch: recallMessages, MaxBytes: recallChunk})
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			if vain++; vain == recallVain {
				return nil, errors.New("messages are in the stream, and none comes")
			}
			continue
		}
		for _, e := range some {
			if e.seq > top && isClear(e.data) { // it took along what was before
				return nil, errChanged
			}
			if e.seq > top {
				return list, nil
			}
			list = append(list, e)
			if bytes += len(e.data) + len(e.subject) + 64; bytes > l.group.broker.config.RecallBytes {
				return nil, errors.New("there is more than nats-recall-bytes")
			}
		}
		from = some[len(some)-1].seq + 1
	}
	return list, nil
}

// newest returns the sequence of the channel's newest message, zero for none, as of a time when the stream had all up
// to top.
func (l *lookup) newest(ctx context.Context, top uint64) (uint64, error) {
	for range recallVain {
		// With the mark's subject there is something at least of which the server says where the stream ends.
		list, end, err := l.ask(ctx, directGet{MultiLast: []string{l.subject, l.group.subject(kindTransient, mark)}})
		if err != nil {
			return 0, err
		}
		if len(list) == 0 {
			if l.group.broker.config.Replicas == 1 { // and there is nobody to be behind
				return 0, nil
			}
			if _, err := l.group.present(ctx); err != nil {
				return 0, err
			}
		}
		if end < top { // it is one that is behind
			continue
		}
		for _, e := range list {
			if e.subject == l.subject {
				return e.seq, nil
			}
		}
		return 0, nil
	}
	return 0, errors.New("all servers that answer are behind")
}

// directGet asks a server for messages; see NATS's ADR-31.
type directGet struct {
	Seq       uint64   `json:"seq,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// lastSequenceHeader has the sequence of the message before in the same answer, 0 for none.
const lastSequenceHeader = "Nats-Last-Sequence"

// ask returns the messages that come, and where the server says that the stream ends, if it does. Then it rests for as
// long as that took, for the server writes nothing to the stream meanwhile.
func (l *lookup) ask(ctx context.Context, q directGet) (list []entry, end uint64, err error) {
	began := time.Now()
	b := l.group.broker
	body, err := json.Marshal(q)
	if err != nil {
		return nil, 0, err
	}
	if err := b.config.Link.Publish("$JS.API.DIRECT.GET."+b.streamName(l.group.n), l.answers.Subject, body); err != nil {
		return nil, 0, err
	}
	var last uint64
	for {
		m, err := l.answers.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, err
		}
		if before := m.Header.Get(lastSequenceHeader); before != "" && before != strconv.FormatUint(last, 10) {
			return nil, 0, errors.New("a part of the answer was lost on its way")
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			e, err := entryOf(m)
			if err != nil {
				return nil, 0, err
			}
			list, last = append(list, e), e.seq
			continue
		case "204":
			end, _ = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
		case "404":
		default:
			return nil, 0, fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
		}
		select {
		case <-time.After(time.Since(began)):
			return list, end, nil
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// entryOf is the message that a server's answer has.
func entryOf(m *gonats.Msg) (e entry, err error) {
	e = entry{subject: m.Header.Get(jetstream.SubjectHeader), data: m.Data}
	if e.seq, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return e, err
	}
	e.at, err = time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	return e, err
}
