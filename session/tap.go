package session

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
)

// TapConfig says how a Tap looks on. The zero value works.
type TapConfig struct {
	// BufferBytes bounds what waits for the reader: frames that do not fit are left out, and counted; while it is full no
	// session is attached. Zero means 1 MiB.
	BufferBytes int
	// FrameBytes bounds what is kept of one frame's payload, and of one message to inflate it. Zero means 256 KiB.
	FrameBytes int
	// OnOpening, if set, is shown each opening handshake that is about to be answered with 101, and says whether the tap
	// is to attach to that session. It runs on the event loop and must not block; what o refers to is valid during the
	// call only.
	OnOpening func(t *Tap, s *Session, o *TapOpening) bool
}

const (
	defaultTapBuffer = 1 << 20
	defaultTapFrame  = 256 << 10
)

// Tap looks on at sessions: it gets what they receive and send, as it is on the wire, without delaying or changing
// them. What its reader does not take in time is left out. A server without taps does nothing for them, and a
// session that is not attached to one tests a bit.
//
// Attach and Detach may be called by any goroutine; Next by one at a time.
type Tap struct {
	// Immutable after NewTap.
	srv    *Server
	config TapConfig
	ready  chan struct{} // has an element when records came

	// Owned by the reader.
	wires map[uint64]*wires

	// Guarded by mu.
	mu      sync.Mutex
	records []tapRecord
	bytes   int
	closed  bool

	// Any goroutine (atomic).
	attached atomic.Int64
	missed   atomic.Bool // a session was not attached for want of room
}

// recordCost is what a record takes beside its bytes.
const recordCost = 128

// tapRecord is something that happened. Exactly one of the fields below at is of interest, data beside gap.
type tapRecord struct {
	id         uint64
	at         time.Time
	fromClient bool
	data       []byte
	gap        *TapGap     // before data
	begin      *tapBegin   // of one direction
	opening    *TapOpening // of the session
	fault      *codec.Fault
	end        *tapEnd
}

// tapBegin is where a direction is when a tap begins to see it.
type tapBegin struct {
	unfinished codec.Unfinished // of the client's
	partial    []byte           // of the server's: the beginning of the frame that is leaving
	blind      int              // bytes of messages that are compressed with reference to something unknown
	window     []byte
	bits       int // of the window, zero without context takeover
}

type tapEnd struct {
	status   Status
	received TapGap
	sent     TapGap
}

// NewTap makes a tap, which must be ended by Close.
func (srv *Server) NewTap(c TapConfig) *Tap {
	setDefault(&c.BufferBytes, defaultTapBuffer)
	setDefault(&c.FrameBytes, defaultTapFrame)
	t := &Tap{srv: srv, config: c, ready: make(chan struct{}, 1), wires: map[uint64]*wires{}}
	if c.OnOpening != nil {
		srv.taps.watch(t, true)
	}
	return t
}

// Close ends the tap; a Next that waits returns.
func (t *Tap) Close() {
	if t.config.OnOpening != nil {
		t.srv.taps.watch(t, false)
	}
	t.mu.Lock()
	t.closed, t.records, t.bytes = true, nil, 0
	t.mu.Unlock()
	all := &t.srv.taps
	all.mu.Lock()
	all.probes.Range(func(id, _ any) bool {
		t.detachLocked(id.(uint64))
		return true
	})
	all.mu.Unlock()
	t.signal()
}

// ErrTapClosed is returned by Next after Close.
var ErrTapClosed = errors.New("session: tap closed")

// always is the room that a record needs which is never left out: of each session that is attached there are few.
const always = math.MinInt

// push adds a record if there is so much room. It reports false if there was not, or t is closed.
func (t *Tap) push(r tapRecord, room int) bool {
	t.mu.Lock()
	ok := !t.closed && t.bytes+room <= t.config.BufferBytes
	if ok {
		t.records = append(t.records, r)
		t.bytes += r.cost()
	}
	t.mu.Unlock()
	if ok {
		t.signal()
	}
	return ok
}

// cost is what a record takes while it waits.
func (r *tapRecord) cost() int {
	n := recordCost + len(r.data)
	if o := r.opening; o != nil {
		n += len(o.Request) + len(o.Response)
	}
	if b := r.begin; b != nil {
		n += len(b.partial) + len(b.window) + len(b.unfinished.Before) + len(b.unfinished.Payload)
	}
	return n
}

func (t *Tap) signal() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// take returns what came, or nil.
func (t *Tap) take() (records []tapRecord, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrTapClosed
	}
	records, t.records, t.bytes = t.records, nil, 0
	return records, nil
}

// Next waits for what happens and returns it, in order for each session. The error is ErrTapClosed, or that of ctx.
func (t *Tap) Next(ctx context.Context) (events []TapEvent, err error) {
	for {
		records, err := t.take()
		if err != nil {
			return nil, err
		}
		for i := range records {
			events = t.read(events, &records[i])
			records[i] = tapRecord{}
		}
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.ready:
		}
	}
}
