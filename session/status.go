package session

import (
	"errors"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
)

// Reason is why a session ended: the one list that callback, log key "reason" and
// metric label share.
type Reason uint8

// The reasons.
const (
	// ReasonNone is no reason yet.
	ReasonNone Reason = iota
	// ReasonClientClose is a close frame from the client.
	ReasonClientClose
	// ReasonServerClose is a call of Session.Close.
	ReasonServerClose
	// ReasonShutdown is Server.Shutdown.
	ReasonShutdown
	// ReasonProtocolError is a fault of framing: close code 1002.
	ReasonProtocolError
	// ReasonInvalidData is text that is no UTF-8: close code 1007.
	ReasonInvalidData
	// ReasonMessageTooBig is a message over the limit: close code 1009.
	ReasonMessageTooBig
	// ReasonPongTimeout is a ping after which nothing was received.
	ReasonPongTimeout
	// ReasonSlowConsumer is an outbox that was full.
	ReasonSlowConsumer
	// ReasonOutboxAge is an outbox whose oldest message waited too long.
	ReasonOutboxAge
	// ReasonHandlerPanic is a handler that panicked: close code 1011.
	ReasonHandlerPanic
	// ReasonPeerGone is an end of the stream without a close frame.
	ReasonPeerGone
	// ReasonIOError is a reset, or another error of the socket.
	ReasonIOError
	// ReasonTLSHandshake is a TLS handshake that failed.
	ReasonTLSHandshake
	// ReasonTLSError is a TLS record that is not the client's, or a fatal alert.
	ReasonTLSError
	// ReasonTLSTruncated is an end of the TCP stream without TLS's close_notify.
	ReasonTLSTruncated
	// ReasonHandshakeRefused is an opening handshake that was answered with an error.
	ReasonHandshakeRefused
	// ReasonHandshakeTimeout is an opening handshake that took too long.
	ReasonHandshakeTimeout

	numReasons
)

var reasonNames = [numReasons]string{
	"none", "client_close", "server_close", "shutdown", "protocol_error", "invalid_data", "message_too_big", "pong_timeout",
	"slow_consumer", "outbox_age", "handler_panic", "peer_gone", "io_error",
	"tls_handshake", "tls_error", "tls_truncated", "handshake_refused", "handshake_timeout",
}

func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons lists all reasons, for metrics.
func Reasons() []Reason {
	all := make([]Reason, 0, numReasons)
	for r := ReasonNone + 1; r < numReasons; r++ {
		all = append(all, r)
	}
	return all
}

// ours reports whether the end was decided here, so that messages that still wait
// are of no interest.
func (r Reason) ours() bool {
	switch r {
	case ReasonServerClose, ReasonShutdown, ReasonPongTimeout, ReasonSlowConsumer, ReasonOutboxAge, ReasonHandlerPanic:
		return true
	}
	return false
}

// Status is how a session ended.
type Status struct {
	Reason Reason
	// Code and Text are those of the close frame that began the end: the client's for
	// ReasonClientClose (1005 if it had none), else ours; 1006 where there was none.
	Code CloseCode
	Text string
	// Err is the fault or the error of the socket, if there was one.
	Err error
}

// lostStatus is that of a connection which ended without a close frame.
func lostStatus(cause error) *Status {
	s := &Status{Reason: ReasonIOError, Code: codec.StatusAbnormal, Err: cause}
	var op *poller.OpError
	switch {
	case errors.Is(cause, poller.ErrTruncated):
		s.Reason = ReasonTLSTruncated
	case !errors.As(cause, &op):
	case op.Op == poller.OpTLSHandshake:
		s.Reason = ReasonTLSHandshake
	case op.Op == poller.OpTLS:
		s.Reason = ReasonTLSError
	}
	return s
}

func faultStatus(f *codec.Fault) *Status {
	s := &Status{Reason: ReasonProtocolError, Code: f.Code, Text: f.Reason, Err: f}
	switch f.Code {
	case codec.StatusInvalidPayload:
		s.Reason = ReasonInvalidData
	case codec.StatusMessageTooBig:
		s.Reason = ReasonMessageTooBig
	}
	return s
}

// Errors that callers branch on.
var (
	// ErrClosed is returned by sends on a session that is closed or closing.
	ErrClosed = errors.New("session: closed")
	// ErrSlowConsumer is returned by the send that found the outbox full, or its oldest message too old, and ended
	// the session for it.
	ErrSlowConsumer = errors.New("session: slow consumer")
	// ErrServerClosed is returned by Serve after Shutdown.
	ErrServerClosed = errors.New("session: server closed")
)

// The policies for a full outbox; see poller.Policy.
const (
	// PolicyDisconnect ends the session. It is the default: with recovery it loses nothing.
	PolicyDisconnect = poller.Reject
	// PolicyDropOldest drops waiting messages, oldest first.
	PolicyDropOldest = poller.DropOldest
	// PolicyDropNewest drops the new message.
	PolicyDropNewest = poller.DropNewest
	// PolicyLatest replaces the waiting message of the same key.
	PolicyLatest = poller.Latest
)
