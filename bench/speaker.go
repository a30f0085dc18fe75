package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file speaks the Centrifuge protocol as its clients do, as far as all scenarios need it: the opening handshake, the
// connect command, and the answers to pings.

// dialect is what the speakers of a run share.
type dialect struct {
	// Immutable after newDialect.
	poller        *poller.Poller
	target        netip.AddrPort
	tls           *tls.Config // nil without
	request       []byte
	accept        []byte
	codec         wire.Codec
	options       codec.Options
	receiveBuffer int    // SO_RCVBUF; 0 leaves it to the kernel
	ping          []byte // as it comes
	pong          []byte // as it goes, masked
	hello         []byte // the connect command, masked; nil for a server that wants none

	// Any goroutine (atomic).
	reads atomic.Int64 // by those who are ready
}

// maxReplyBytes is what one answer may have: the recovery of a long absence.
const maxReplyBytes = 16 << 20

// newDialect is for JSON or Protobuf.
func (t Target) newDialect(ctx context.Context, p *poller.Poller, protobuf bool) (*dialect, error) {
	addr, host, path, err := t.resolve(ctx)
	if err != nil {
		return nil, err
	}
	d := &dialect{
		poller: p, target: addr, accept: acceptKey(), options: codec.Options{MaxMessageBytes: maxReplyBytes, Client: true},
		request: appendRequest(nil, host, path, ""), ping: []byte("{}"),
	}
	if protobuf {
		d.request = appendRequest(nil, host, path, "centrifuge-protobuf")
		d.codec, d.ping = wire.Protobuf, []byte{0}
	}
	d.pong = d.mask(d.ping) // both are the empty message
	if d.hello, err = d.frame(&wire.Command{Id: helloID, Connect: &wire.ConnectRequest{Name: "bench"}}); err != nil {
		return nil, err
	}
	d.tls, err = t.dialTLS()
	return d, err
}

// helloID is the connect command's. Listeners use higher ones.
const helloID = 1

// frame makes one message of the commands.
func (d *dialect) frame(commands ...*wire.Command) (payload []byte, err error) {
	for _, c := range commands {
		if payload, err = d.codec.AppendCommand(payload, c); err != nil {
			return nil, err
		}
	}
	return d.mask(payload), nil
}

func (d *dialect) mask(payload []byte) []byte {
	op := codec.OpText
	if d.codec == wire.Protobuf {
		op = codec.OpBinary
	}
	return codec.AppendMaskedFrame(nil, op, true, payload, [4]byte{0x6d, 0x70, 0x62, 0x21})
}

// listener is what has a speaker. Its methods are called one at a time, by the goroutines that poller.Events says.
type listener interface {
	// onReady tells that the connect command was answered.
	onReady()
	// onMessage gets every message after that but the pings, of which payload is valid during the call. An error ends the
	// connection.
	onMessage(payload []byte) error
	// onClosed tells, once and last, why the connection ended: what was given to conn.Close, what the server said, or
	// what went wrong.
	onClosed(cause error)
}

// speaker is one connection.
type speaker struct {
	conn poller.Conn

	// Immutable after dial.
	dialect  *dialect
	listener listener

	// Owned by the loop goroutine.
	decoder codec.Decoder
	opening opening
	opened  bool
	ready   bool
}

var _ poller.Events = (*speaker)(nil)

// errHungUp is a server that says nothing.
var errHungUp = errors.New("closed by the server without a close frame")

// closedByServer is its close frame.
type closedByServer struct {
	code   codec.CloseCode
	reason string
}

// Error implements error.
func (c *closedByServer) Error() string {
	return fmt.Sprintf("close frame with %d %s", c.code, c.reason)
}

// dial begins to open a connection; with an error nothing is called.
func (s *speaker) dial(d *dialect, l listener, source netip.AddrPort) error {
	s.dialect, s.listener = d, l
	return d.poller.Dial(&s.conn, d.target, s, poller.DialOptions{Source: source, TLS: d.tls, ReceiveBuffer: d.receiveBuffer})
}

// command sends commands in one message.
func (s *speaker) command(commands ...*wire.Command) error {
	b, err := s.dialect.frame(commands...)
	if err == nil {
		s.send(b)
	}
	return err
}

func (s *speaker) send(frame []byte) { _, _ = s.conn.Send(frame, poller.Out{}) }

// OnConnected implements poller.Events.
func (s *speaker) OnConnected() { s.send(s.dialect.request) }

// OnDrained implements poller.Events.
func (s *speaker) OnDrained() {}

// OnEOF implements poller.Events.
func (s *speaker) OnEOF() { s.conn.Close(errHungUp) }

// OnClose implements poller.Events.
func (s *speaker) OnClose(cause error) {
	s.decoder.Release()
	s.listener.onClosed(cause)
}

// OnData implements poller.Events.
func (s *speaker) OnData(b []byte) (rest []byte) {
	if s.ready {
		s.dialect.reads.Add(1)
	}
	if !s.opened {
		head, after, err := s.opening.take(b)
		if err == nil && head == nil {
			return nil
		}
		if err == nil {
			err = accepted(head, s.dialect.accept)
		}
		if err != nil {
			s.conn.Close(err)
			return nil
		}
		s.opened, b = true, after
		if s.dialect.hello == nil {
			s.ready = true
			s.listener.onReady()
		} else {
			s.send(s.dialect.hello)
		}
	}
	for {
		m, n, ok, err := s.decoder.Next(&s.dialect.options, b)
		if err == nil && !ok {
			return nil
		}
		if err == nil {
			b = b[n:]
			err = s.message(m)
		}
		if err != nil {
			s.conn.Close(err)
			return nil
		}
	}
}

func (s *speaker) message(m codec.Message) error {
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
	if bytes.Equal(m.Payload, s.dialect.ping) {
		s.send(s.dialect.pong)
		return nil
	}
	if s.ready {
		return s.listener.onMessage(m.Payload)
	}
	for r, err := range s.dialect.codec.Replies(m.Payload) {
		switch {
		case err != nil:
			return err
		case r.Error != nil:
			return fmt.Errorf("connect: error %d %s", r.Error.Code, r.Error.Message)
		case r.Id != helloID || r.Connect == nil:
			return errSurplus
		}
	}
	s.ready = true
	s.listener.onReady()
	return nil
}
