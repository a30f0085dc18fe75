package bench

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
)

// listener is what has a speaker: it embeds that, and hands what comes to it: OnData to data, OnClose to closed. A
// speaker that knew who listens would be 16 bytes longer. Its methods are called one at a time, by the goroutines that
// poller.Events says.
type listener interface {
	poller.Events
	// onReady tells that the connection is open, and the protocol's greeting was answered if it wants that.
	onReady()
	// onMessage gets every message after that but the pings, of which payload is valid during the call. An error ends the
	// connection.
	onMessage(payload []byte) error
	// onClosed tells, once and last, why the connection ended: what was given to conn.Close, what the server said, or
	// what went wrong.
	onClosed(cause error)
}

// speaker is one connection of the load: with what poller and netpoll have for it some 330 bytes. Whoever has it embeds
// it.
type speaker struct {
	conn poller.Conn

	// Immutable after dial.
	dialect *dialect
	due     time.Duration // when it was, or should have been, begun, since the program was; a client's until it is ready
	number  int32         // of all connections of the run
	dialed  bool          // conn was given to the poller

	// Owned by the loop goroutine.
	opened  bool
	ready   bool
	counted bool // in the fleet's open
	decoder codec.Decoder
	opening opening
}

// errHungUp is a server that says nothing.
var errHungUp = errors.New("closed by the server without a close frame")

// closedByServer is its close frame.
type closedByServer struct {
	code   codec.CloseCode
	reason string
}

// Error implements error.
func (c *closedByServer) Error() string {
	if c.reason == "" {
		return fmt.Sprintf("close frame with %d", c.code)
	}
	return fmt.Sprintf("close frame with %d %.60s", c.code, c.reason)
}

// dial begins to open a connection; with an error nothing is called.
func (s *speaker) dial(d *dialect, l listener, source netip.AddrPort) error {
	s.dialect = d
	d.wired.Add(1)
	err := d.poller.Dial(&s.conn, d.target, l, poller.DialOptions{Source: source, TLS: d.tls, ReceiveBuffer: d.receiveBuffer})
	s.dialed = err == nil
	if err != nil {
		d.wired.Add(-1)
	}
	return err
}

// send sends frames, which nobody may change any more. It reports whether the load's own queue has taken them: it does
// not if more waits there than it may hold, because the server does not read. What is closed takes all, and sends
// nothing.
func (s *speaker) send(frame []byte) bool {
	_, err := s.conn.Send(frame, poller.Out{})
	return !errors.Is(err, poller.ErrQueueFull)
}

// errJammed is the load's own fault, or that of a server that sends and does not read.
var errJammed = errors.New("the load's own queue is full: it could not send")

// mustSend is send of what a connection cannot go on without.
func (s *speaker) mustSend(frame []byte) {
	if !s.send(frame) {
		s.conn.Close(errJammed)
	}
}

// OnConnected implements poller.Events.
func (s *speaker) OnConnected() {
	b, err := s.dialect.opener(int(s.number))
	if err != nil {
		s.conn.Close(err)
		return
	}
	s.send(b)
}

// OnDrained implements poller.Events.
func (s *speaker) OnDrained() {}

// OnEOF implements poller.Events.
func (s *speaker) OnEOF() { s.conn.Close(errHungUp) }

// closed ends it.
func (s *speaker) closed(l listener, cause error) {
	s.decoder.Release()
	d := s.dialect // a visitor's next visit may begin as soon as this one is closed
	l.onClosed(cause)
	d.wired.Add(-1)
}

// data reads what came.
func (s *speaker) data(l listener, b []byte) (rest []byte) {
	if s.ready {
		s.dialect.reads.Add(1)
	}
	if !s.opened {
		after, err := s.open(l, b)
		if err != nil {
			s.conn.Close(err)
		}
		if !s.opened {
			return nil
		}
		b = after
	}
	for {
		m, n, ok, err := s.decoder.Next(&s.dialect.options, b)
		if err == nil && !ok {
			return nil
		}
		if err == nil {
			b = b[n:]
			err = s.message(l, m)
		}
		if err != nil {
			s.conn.Close(err)
			return nil
		}
	}
}

// open reads the answer to the opening request, says what is said first, and returns what follows the answer.
func (s *speaker) open(l listener, b []byte) (after []byte, err error) {
	head, after, err := s.opening.take(b)
	if err != nil || head == nil {
		return nil, err
	}
	if err := accepted(head, s.dialect.accept); err != nil {
		return nil, err
	}
	hello, err := s.dialect.greeting(int(s.number))
	if err != nil {
		return nil, err
	}
	s.opened = true
	if hello != nil {
		s.send(hello)
	}
	if !s.dialect.greeted {
		s.ready = true
		l.onReady()
	}
	return after, nil
}

func (s *speaker) message(l listener, m codec.Message) error {
	switch m.Opcode {
	case codec.OpPing:
		s.send(codec.AppendMaskedFrame(nil, codec.OpPong, true, m.Payload, [4]byte{}))
		return nil
	case codec.OpPong:
		return nil
	case codec.OpClose:
		code, reason, _ := codec.ParseClose(m.Payload)
		s.send(codec.AppendMaskedFrame(nil, codec.OpClose, true, m.Payload, [4]byte{})) // RFC 6455 §5.5.1
		return &closedByServer{code, reason}
	}
	if b, ok := s.dialect.reply(m.Payload); ok {
		s.send(b)
		return nil
	}
	if s.ready {
		return l.onMessage(m.Payload)
	}
	ok, err := s.dialect.welcome(m.Payload)
	if err != nil || !ok {
		return err
	}
	s.ready = true
	l.onReady()
	return nil
}

// refusal is an answer to the opening request that is not 101.
type refusal struct {
	status     int
	retryAfter bool
}

// Error implements error.
func (r *refusal) Error() string {
	text := http.StatusText(r.status)
	if r.retryAfter {
		text += ", with Retry-After"
	}
	return "refused with " + strconv.Itoa(r.status) + " " + text
}

// asRefusal returns the refusal that err is, or nil.
func asRefusal(err error) *refusal {
	var r *refusal
	errors.As(err, &r)
	return r
}
