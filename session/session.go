package session

import (
	"crypto/tls"
	"errors"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/pool"
)

// Session is one connection, from accept to close: one allocation, its poller.Conn
// within. See the package's doc for its states and goroutines.
type Session struct {
	conn poller.Conn

	// Immutable after newSession.
	srv *Server
	id  uint64 // its place in the Table

	// Immutable after the upgrade; before, owned by the reader.
	endpoint *endpoint
	data     any // before: *opening, or nil

	// Owned by the reader: the goroutine in OnData.
	decoder codec.Decoder

	inbox pool.Inbox

	// Guarded by mu.
	mu     sync.Mutex
	paused pause

	// Owned by dispatch.
	over bool // OnClose came
	held bool // Hold was called, and Resume was not

	// Any goroutine (atomic). The first fits beside paused.
	flags    atomic.Uint32          // see below
	status   atomic.Pointer[Status] // set once, when the end begins
	lastSeen atomic.Uint32          // tick at which something was last received
	state    atomic.Uint32
}

// The bits of Session.flags.
const (
	inputDone   uint32 = 1 << iota // the peer's stream has ended and all of it was handled
	wakeDrained                    // Wake when the outbox is empty
	tapped                         // a Tap looks on
	settled                        // OnOpen has returned: data stays as it is

	heartbeatShift         = 8       // a byte: its place in Endpoint.Pings, plus one; zero before BeginHeartbeat
	unansweredShift        = 16      // above: how many heartbeats were sent and not answered, 65535 at most
	oneUnanswered   uint32 = 1 << 16 // in that place
)

// The states. A session only moves forward.
const (
	handshaking uint32 = iota
	upgrading          // the 101 is on its way
	open
	closing // our close frame is sent, theirs is awaited
	ending  // the last bytes are on their way; input is discarded
	gone    // the descriptor is closed
)

// pause says why reading is paused.
type pause uint8

const (
	inboxFull pause = 1 << iota
	outboxFull
)

// ID returns the number that names the session for as long as the server lives; Server.Session finds
// it by that.
func (s *Session) ID() uint64 { return s.id }

// Data returns what Endpoint.Accept attached, or what SetData did last. Before OnOpen has
// returned, only the handler may call it.
func (s *Session) Data() any { return s.data }

// SetData attaches v to the session. It may be called only by Handler.OnOpen.
func (s *Session) SetData(v any) { s.data = v }

// Settled returns the data once OnOpen has returned, for goroutines that are not the handler's; before that, false.
func (s *Session) Settled() (data any, ok bool) {
	if s.flags.Load()&settled == 0 {
		return nil, false
	}
	return s.data, true
}

// Path returns that of the session's endpoint.
func (s *Session) Path() string { return s.endpoint.path }

// RemoteAddr asks the kernel for the address at the other end of the socket: the
// client's or a proxy's. It is the zero AddrPort once the session is closed.
func (s *Session) RemoteAddr() netip.AddrPort { return s.conn.RemoteAddr() }

// TLS returns what the TLS handshake agreed on, with the client's certificates and the name it asked for. It is false
// for a session without TLS.
func (s *Session) TLS() (tls.ConnectionState, bool) { return s.conn.TLS() }

// Policy returns that of the session's endpoint.
func (s *Session) Policy() Policy { return s.endpoint.policy }

// Wake has OnWake called, in its place among the handler's other calls, if the handler is a WakeHandler and does not run
// inline: for what another goroutine wants done with the session's state. It reports false when the session is
// closed, so that nothing will come; true does not say that it will.
func (s *Session) Wake() bool {
	if state := s.state.Load(); state < open || state == gone || s.endpoint.inline {
		return false
	}
	if schedule, _ := s.inbox.Push(kindWake, nil); schedule {
		s.srv.pool.Go((*turn)(s))
	}
	return true
}

// Hold keeps what the peer sends from the handler, which waits for something, until Resume: it stays in the inbox, and
// when that is full in the kernel, so that nothing is lost and no worker waits. OnWake and OnClose still come. It may
// be called by OnOpen, OnMessage and OnWake of a handler that does not run inline.
func (s *Session) Hold() { s.held = true }

// Resume ends a Hold. It may be called by OnWake; elsewhere, or after the end, it does nothing that could be seen.
func (s *Session) Resume() {
	if s.over {
		return
	}
	s.held = false
	s.inbox.Resume()
}

// Keys of the control messages of which only the newest may wait.
const (
	keyPing = math.MaxUint64 - iota
	keyPong
)

// Delivery says how a message is to be treated if it has to wait. The zero value
// ends the session when the outbox is full.
type Delivery struct {
	Policy Policy
	// Key names what the message is about, for PolicyLatest. Zero is no key.
	Key uint64
}

// Send sends f, which is shared, not copied, by the endpoint's policy. The error is
// ErrClosed, ErrSlowConsumer, or that of the socket; nil does not say that the client got it.
func (s *Session) Send(f *Frame) error { return s.SendWith(f, Delivery{Policy: s.endpoint.policy}) }

// SendWith is Send with a policy.
func (s *Session) SendWith(f *Frame, d Delivery) error {
	o := poller.Out{Policy: d.Policy, Key: d.Key}
	if c := s.endpoint.compression; c != nil {
		dropped, err := s.sendFrames(c, []*Frame{f}, o)
		return s.sent(1, dropped, d, err)
	}
	dropped, err := s.conn.Send(f.Bytes(), o)
	return s.sent(1, dropped, d, err)
}

// sendBatch is how many frames SendAll gathers on the stack.
const sendBatch = 64

// SendAll sends the frames in order, as Send does each, in as few system calls as it can.
func (s *Session) SendAll(frames []*Frame) error {
	return s.SendAllWith(frames, Delivery{Policy: s.endpoint.policy})
}

// SendAllWith is SendAll with a policy, and a key that all frames have.
func (s *Session) SendAllWith(frames []*Frame, d Delivery) error {
	return s.sendAll(frames, d, poller.Out{Policy: d.Policy, Key: d.Key})
}

func (s *Session) sendAll(frames []*Frame, d Delivery, o poller.Out) error {
	for len(frames) > 0 {
		n := min(len(frames), sendBatch)
		var dropped int
		var err error
		if c := s.endpoint.compression; c != nil {
			dropped, err = s.sendFrames(c, frames[:n], o)
		} else {
			dropped, err = s.sendPlain(frames[:n], o)
		}
		if err = s.sent(n, dropped, d, err); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

func (s *Session) sendPlain(frames []*Frame, o poller.Out) (dropped int, err error) {
	var bufs [sendBatch][]byte
	for i, f := range frames {
		bufs[i] = f.Bytes()
	}
	return s.conn.SendAll(bufs[:len(frames)], o)
}

// SendAnswers sends answers to the client's own messages: they always find room, and take none from what is sent otherwise. The caller bounds
// what waits, by Waiting.
func (s *Session) SendAnswers(frames ...*Frame) error {
	return s.sendAll(frames, Delivery{}, poller.Out{Pinned: true, Apart: true})
}

// Waiting returns how many bytes wait for the client.
func (s *Session) Waiting() int {
	n, _, _ := s.conn.Waiting()
	return n
}

// Outbox tells how many bytes and messages wait for the client, and for how long the oldest has.
func (s *Session) Outbox() (bytes, messages int, age time.Duration) { return s.conn.Waiting() }

// WakeWhenDrained has OnWake called when nothing waits for the client any more. It reports false if nothing does.
func (s *Session) WakeWhenDrained() bool {
	s.flags.Or(wakeDrained)
	if s.conn.NotifyDrained() {
		return true
	}
	s.flags.And(^wakeDrained)
	return false
}

// SendMessage sends a message of its own. payload is borrowed: it may change as
// soon as SendMessage returns. Text must be valid UTF-8.
func (s *Session) SendMessage(op Opcode, payload []byte) error {
	d := Delivery{Policy: s.endpoint.policy}
	// An answer of a paced endpoint always finds room: when much waits, no more is read
	// than what one read has brought.
	o := poller.Out{Policy: d.Policy, Pinned: s.endpoint.paced}
	if c := s.endpoint.compression; c != nil {
		if ok, dropped, err := s.sendDeflated(c, op, payload, o); ok {
			return s.sent(1, dropped, d, err)
		}
	}
	var head [maxHeaderBytes]byte
	dropped, err := s.conn.SendCopy(codec.AppendHeader(head[:0], op, true, len(payload)), payload, o)
	return s.sent(1, dropped, d, err)
}

// sent counts, and ends the session whose outbox was full.
func (s *Session) sent(n, dropped int, d Delivery, err error) error {
	c := s.srv.counter(s)
	if dropped > 0 {
		s.srv.dropped[d.Policy].Add(int64(dropped))
	}
	if err == nil {
		c.messagesOut.Add(int64(n))
		return nil
	}
	return s.sendError(err)
}

// sendError turns an error of the connection into ours, and ends the session whose outbox was full.
func (s *Session) sendError(err error) error {
	switch {
	case errors.Is(err, poller.ErrQueueFull):
		s.evict(ReasonSlowConsumer)
		return ErrSlowConsumer
	case errors.Is(err, poller.ErrQueueStale):
		s.evict(ReasonOutboxAge)
		return ErrSlowConsumer
	case errors.Is(err, poller.ErrClosed):
		return ErrClosed
	}
	return err
}

// Ping sends a ping with a payload of at most 125 bytes. While one waits in the outbox, only
// the newest does.
func (s *Session) Ping(payload []byte) error { return s.control(codec.OpPing, keyPing, payload) }

// Pong sends a pong with a payload of at most 125 bytes. RFC 6455 §5.5.3: "If an
// endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to
// previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most
// recently processed Ping frame." So while one waits, only the newest does.
func (s *Session) Pong(payload []byte) error { return s.control(codec.OpPong, keyPong, payload) }

// control sends a control frame, which no policy drops.
func (s *Session) control(op Opcode, key uint64, payload []byte) error {
	var head [maxHeaderBytes]byte
	payload = payload[:min(len(payload), maxControlBytes)]
	_, err := s.conn.SendCopy(codec.AppendHeader(head[:0], op, true, len(payload)), payload, poller.Out{Pinned: true, Key: key})
	return s.sent(1, 0, Delivery{}, err)
}

// maxHeaderBytes is the longest header of a frame that a server sends.
const maxHeaderBytes = 10

// maxControlBytes is the longest payload of a control frame (RFC 6455 §5.5).
const maxControlBytes = 125

// pauseReading and resumeReading keep the reasons apart: reading goes on when the
// last is gone.
func (s *Session) pauseReading(why pause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == 0 {
		s.conn.PauseReading()
		s.srv.pauses.Add(1)
	}
	s.paused |= why
}

func (s *Session) resumeReading(why pause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused&why == 0 {
		return
	}
	if s.paused &^= why; s.paused == 0 {
		s.lastSeen.Store(s.srv.clock.Load()) // it was we who did not listen
		s.conn.ResumeReading()
	}
}

func (s *Session) readingPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused != 0
}
