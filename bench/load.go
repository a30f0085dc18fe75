package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Faults that a server can show.
var (
	errContent = errors.New("a message came back changed, twice or out of order")
	errSurplus = errors.New("a message came that nobody sent")
)

// Names of what load counts.
const (
	roundTrip    = "round trip" // latency: from when a message, or a batch of them, left or should have left until it was back
	countSent    = "sent"
	countBack    = "messages" // that came back unchanged
	countLate    = "late"     // that were sent late, though a connection was free
	countUnsent  = "unsent"   // that were due, but all connections waited for answers
	countLost    = "lost"     // that never came back
	countRefused = "refused"  // connections, if they may be
	countJammed  = "jammed"   // that the load's own queue did not take
)

// loadConfig is the job's.
type loadConfig struct {
	Depth     int  `json:"depth"`     // messages that each sends before it waits for all of them
	Greet     bool `json:"greet"`     // each sends a batch when it is ready
	Refusable bool `json:"refusable"` // a 503 with Retry-After is no failure
}

// load is connections that send messages and check that they come back: each byte, in order, once. It carries out
//
//	open     connects all, once
//	begun    waits until all are on their way
//	again    each sends as soon as its answers are there
//	rest     none sends any more; waits until all answers are there
//	pace     sends at a rate
//	reset    forgets latencies of what was due before
//	stall    the first so many send and do not read
//	release  they read
//	trim     gives back the memory that connecting took, as the server does when it is quiet
//	leave    disconnects all
type load struct {
	// Immutable after newLoad.
	*part
	config  loadConfig
	batches [variants]batch
	flood   batch
	trips   *latency
	sent    *atomic.Int64
	back    *atomic.Int64
	late    *atomic.Int64
	refused *atomic.Int64
	unsent  *atomic.Int64
	lost    *atomic.Int64
	jammed  *atomic.Int64

	// Owned by whoever carries out orders, of which those below come one after the other.
	clients []*client
	next    int           // of clients, whose turn it is to send
	begun   chan struct{} // closed when all are on their way

	// Any goroutine (atomic).
	again   atomic.Bool
	flooded atomic.Int64 // messages that clients that stall, or did, have not got back
}

// batch is what a client sends in one go.
type batch struct {
	frames   []byte   // masked
	payloads [][]byte // what must come back, in this order
}

// variants is after how many batches their contents repeat: a message that a server sends twice,
// late or in the wrong place is then not the one that is expected.
const variants = 8

func newBatch(variant, size, depth int) batch {
	var b batch
	for i := range depth {
		p := bytes.Repeat([]byte("millpond"), size/8+1)[:size]
		copy(p, fmt.Sprintf("%c%d.", 'a'+variant, i))
		b.payloads = append(b.payloads, p)
		b.frames = append(b.frames, maskedFrame(true, p)...)
	}
	return b
}

// client is one connection of a load.
type client struct {
	speaker

	// Immutable after it is made.
	load *load

	// Owned by whoever has claimed it, until what it sends is on its way; then by the loop goroutine. So is due, when it
	// is ready: when the batch left, or should have, since the program began.
	batch *batch // nil for a raw message
	turn  int32  // batches that were sent

	// Any goroutine (atomic).
	waiting atomic.Int32 // messages of the batch that have not come back, or:
}

// What a client's waiting is when it does not wait.
const (
	idle    = 0  // it may be claimed
	claimed = -1 // it is not ready yet, or about to send
	gone    = -2
)

// claim takes a client that is idle.
func (c *client) claim() bool { return c.waiting.CompareAndSwap(idle, claimed) }

var (
	_ listener = (*client)(nil)
	_ job      = (*load)(nil)
)

func newLoad(p *part) (job, error) {
	l := &load{
		part: p, trips: p.latency(roundTrip), sent: p.counter(countSent), back: p.counter(countBack), late: p.counter(countLate),
		refused: p.counter(countRefused), unsent: p.counter(countUnsent), lost: p.counter(countLost),
		jammed: p.counter(countJammed),
		begun:  make(chan struct{}), clients: make([]*client, 0, p.Connections),
	}
	if err := json.Unmarshal(p.Config, &l.config); err != nil {
		return nil, err
	}
	p.fleet.opening = p.latency(connecting)
	if p.dialect.raw == nil {
		for i := range l.batches {
			l.batches[i] = newBatch(i, p.Options.Size, max(l.config.Depth, 1))
		}
		p.dialect.options.MaxMessageBytes = max(p.Options.Size, stallFrame)
	}
	return l, nil
}

// order implements job.
func (l *load) order(ctx context.Context, name string, args json.RawMessage) (any, error) {
	switch name {
	case "open":
		return nil, l.openAll(ctx, args)
	case "begun":
		select {
		case <-l.begun:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "again":
		l.again.Store(true)
		for _, c := range l.clients {
			if c.claim() {
				c.send(time.Since(began))
			}
		}
		return nil, nil
	case "rest":
		l.again.Store(false)
		return nil, l.rest(ctx)
	case "pace":
		return nil, l.pace(ctx, args)
	case "reset":
		l.trips.from.Store(int64(time.Since(began)))
		return nil, nil
	case "stall": // and not read
		return nil, l.stall(args)
	case "release":
		return nil, l.release(ctx, args)
	case "trim":
		trim()
		return nil, nil
	case "leave":
		l.fleet.close()
		l.clients, l.next = l.clients[:0], 0
		return nil, nil
	}
	return nil, fmt.Errorf("there is no order %q", name)
}

// trim gives back the memory that is not in use.
func trim() {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what the first one has found dead
}

// close implements job.
func (l *load) close() { l.fleet.close() }

// openArgs are the order open's.
type openArgs struct {
	AtOnce bool `json:"at_once"` // all are on their way before any must be ready
}

func (l *load) openAll(ctx context.Context, args json.RawMessage) error {
	var o openArgs
	if err := json.Unmarshal(args, &o); err != nil {
		return err
	}
	window := maxDialing
	if o.AtOnce {
		window = l.Connections
	}
	begun := sync.OnceFunc(func() { close(l.begun) })
	defer begun()
	return l.fleet.grow(ctx, l.Connections, l.Options.connectRate()*l.Share, window, l.newClient, begun)
}

func (l *load) newClient(number int) (*speaker, listener) {
	c := &client{load: l, turn: int32(number)}
	c.waiting.Store(claimed)
	l.clients = append(l.clients, c)
	return &c.speaker, c
}

// OnData implements poller.Events.
func (c *client) OnData(b []byte) (rest []byte) { return c.data(c, b) }

// OnClose implements poller.Events.
func (c *client) OnClose(cause error) { c.closed(c, cause) }

// onReady implements listener.
func (c *client) onReady() {
	c.load.fleet.opened(&c.speaker)
	if !c.load.config.Greet {
		c.waiting.Store(idle)
		c.load.fleet.settle(&c.speaker)
		return
	}
	c.send(time.Since(began))
}

// onClosed implements listener.
func (c *client) onClosed(cause error) {
	if r := asRefusal(cause); r != nil && c.load.config.Refusable && r.status == 503 && r.retryAfter {
		c.load.refused.Add(1)
		cause = nil
	}
	if n := c.waiting.Swap(gone); n > 0 {
		if c.batch == &c.load.flood {
			c.load.flooded.Add(-int64(n))
		} else {
			c.load.lost.Add(int64(n))
		}
	}
	c.load.fleet.left(&c.speaker, cause)
}

// send sends the next batch, which was due. The client is claimed.
func (c *client) send(due time.Duration) {
	c.turn++
	raw := c.dialect.raw
	if raw == nil {
		c.sendBatch(&c.load.batches[c.turn%variants], due)
		return
	}
	token, err := c.dialect.tokens.of(int(c.number))
	if err != nil {
		c.conn.Close(err)
		return
	}
	payload := raw.message.append(nil, fill{n: int(c.number), i: c.message(), token: token, size: raw.size})
	if c.due = due; c.waiting.CompareAndSwap(claimed, 1) {
		c.load.sent.Add(1)
		c.entrust(maskedFrame(raw.text, payload), 1)
	}
}

// entrust sends frames of n messages that count as sent, or counts them as the load's own if its queue does not take
// them: the server is not to blame for what never left.
func (c *client) entrust(frames []byte, n int) {
	if c.speaker.send(frames) || !c.waiting.CompareAndSwap(int32(n), idle) {
		return
	}
	c.load.sent.Add(-int64(n))
	c.load.jammed.Add(int64(n))
}

// message is the number of the last batch, from 0.
func (c *client) message() int { return int(c.turn-c.number) - 1 }

func (c *client) sendBatch(b *batch, due time.Duration) {
	c.batch, c.due = b, due
	n := len(b.payloads)
	if !c.waiting.CompareAndSwap(claimed, int32(n)) {
		return // it is gone
	}
	if b == &c.load.flood {
		c.load.flooded.Add(int64(n))
		c.mustSend(b.frames)
		return
	}
	c.load.sent.Add(int64(n))
	c.entrust(b.frames, n)
}

// onMessage implements listener.
func (c *client) onMessage(payload []byte) error {
	n := int(c.waiting.Load())
	switch raw := c.dialect.raw; {
	case raw != nil && (n <= 0 || !raw.counts(payload, int(c.number), c.message())):
		return nil // the server may say more than the scenario asks for
	case raw != nil:
	case n <= 0:
		return errSurplus
	case !bytes.Equal(payload, c.batch.payloads[len(c.batch.payloads)-n]):
		return errContent
	}
	flood := c.batch != nil && c.batch == &c.load.flood
	if flood {
		c.load.flooded.Add(-1)
	} else {
		c.load.back.Add(1)
	}
	if n > 1 {
		c.waiting.Store(int32(n - 1))
		return nil
	}
	c.waiting.Store(claimed)
	if !flood {
		c.load.trips.record(c.conn.Loop(), c.due)
	}
	c.load.fleet.settle(&c.speaker)
	if !flood && c.load.again.Load() {
		c.send(time.Since(began))
		return nil
	}
	c.waiting.Store(idle)
	if c.load.again.Load() && c.claim() { // the order came while it could not be claimed
		c.send(time.Since(began))
	}
	return nil
}

// outstanding is how many messages have not come back that still can.
func (l *load) outstanding() int64 { return l.sent.Load() - l.back.Load() - l.lost.Load() }

// rest waits until all that was sent is back. What is missing then is lost.
func (l *load) rest(ctx context.Context) error {
	err := await(ctx, l.Options.timeout(), func() bool { return l.outstanding() <= 0 })
	if n := l.outstanding(); err == nil && n > 0 {
		l.lost.Add(n)
		l.faults.addN(fmt.Errorf("a message was not back within %v", l.Options.timeout()), uint64(n))
	}
	return err
}

// await waits until done, at most as long as timeout; that is no error. It looks every few milliseconds.
func await(ctx context.Context, timeout time.Duration, done func() bool) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(timeout)
	defer end.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		}
	}
	return nil
}

// paceArgs are the order pace's.
type paceArgs struct {
	Rate float64       `json:"rate"` // messages a second, of all parts
	For  time.Duration `json:"for"`
	Skip int           `json:"skip"` // of all parts: the first so many clients do not send
}

const (
	paceStep  = 500 * time.Microsecond // the least time between two looks at the clock
	lateAfter = 5 * time.Millisecond
)

// pace sends the messages that are due for as long as it is told, in turn by all clients whose answers are there. A
// message that was due while all waited keeps its time, and may be sent for as long again: what a slow server delays is
// not hidden. In the end it waits for all answers.
func (l *load) pace(ctx context.Context, args json.RawMessage) error {
	var a paceArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return err
	}
	clients := l.clients[min(l.share(a.Skip), len(l.clients)):]
	rate := a.Rate * l.Share
	if len(clients) == 0 || rate <= 0 {
		return nil
	}
	begin := time.Since(began)
	blocked := begin // when all clients waited last
	due := func(n int) time.Duration { return begin + time.Duration(float64(n)/rate*float64(time.Second)) }
	end, n := begin+a.For, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due(n) < end {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		now := time.Since(began)
		if now > end+min(a.For, l.Options.timeout()) {
			break
		}
		for ; due(n) <= now && due(n) < end; n++ {
			c := l.free(clients)
			if c == nil {
				blocked = now
				break
			}
			if at := due(n); at > blocked && now-at > lateAfter {
				l.late.Add(1)
			}
			c.send(due(n))
		}
		timer.Reset(max(due(n)-now, paceStep))
	}
	for ; due(n) < end; n++ {
		l.unsent.Add(1)
		l.trips.record(0, due(n)) // it takes that long at least
	}
	return l.rest(ctx)
}

// free takes the next client whose answers are there, nil if there is none.
func (l *load) free(clients []*client) *client {
	for range clients {
		c := clients[l.next%len(clients)]
		l.next++
		if c.claim() {
			return c
		}
	}
	return nil
}

// share is this part's of n clients of all parts.
func (l *load) share(n int) int { return int(float64(n)*l.Share + 0.5) }

// Clients that stall: what each sends and does not read is more than the server and both kernels hold for it.
const (
	stallBytes = 1 << 20
	stallFrame = 16 << 10
)

// stall makes the first so many clients of all parts send and not read.
func (l *load) stall(args json.RawMessage) error {
	var n int
	if err := json.Unmarshal(args, &n); err != nil {
		return err
	}
	if l.flood.frames == nil {
		l.flood = newBatch(0, stallFrame, stallBytes/stallFrame)
	}
	for _, c := range l.clients[:min(l.share(n), len(l.clients))] {
		if c.claim() {
			c.conn.PauseReading()
			c.sendBatch(&l.flood, time.Since(began))
		}
	}
	return nil
}

// release lets them read, and waits until each has everything.
func (l *load) release(ctx context.Context, args json.RawMessage) error {
	var n int
	if err := json.Unmarshal(args, &n); err != nil {
		return err
	}
	for _, c := range l.clients[:min(l.share(n), len(l.clients))] {
		c.conn.ResumeReading()
	}
	err := await(ctx, l.Options.timeout(), func() bool { return l.flooded.Load() == 0 })
	if n := l.flooded.Load(); err == nil && n > 0 {
		err = fmt.Errorf("clients that had stalled did not get %d messages of %d B that they had sent within %v", n, stallFrame, l.Options.timeout())
	}
	return err
}
