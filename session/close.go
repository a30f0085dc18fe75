package session

import (
	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
)

// Close begins the closing handshake with code and a reason of at most 123 bytes.
// Nothing can be sent after it, and messages that still wait for the handler are
// dropped. It does nothing when the session is ending already.
func (s *Session) Close(code CloseCode, reason string) {
	s.closeWith(&Status{Reason: ReasonServerClose, Code: code, Text: reason})
}

// closeFrames are what the engine says when it ends a session, unless the endpoint has other words.
var closeFrames = map[Reason]CloseFrame{
	ReasonShutdown:     {codec.StatusGoingAway, "server is shutting down"},
	ReasonSlowConsumer: {codec.StatusPolicyViolation, "slow consumer"},
	ReasonOutboxAge:    {codec.StatusPolicyViolation, "slow consumer"},
	ReasonPongTimeout:  {codec.StatusInternalError, "pong timeout"},
	ReasonHandlerPanic: {codec.StatusInternalError, "internal error"},
}

// maxReasonBytes is the room that a code leaves for the reason in a close frame (RFC 6455 §5.5.1).
const maxReasonBytes = maxControlBytes - 2

// ending is the status of a session that the engine ends; the endpoint is known.
func (s *Session) ending(why Reason) *Status {
	f := s.endpoint.closes[why]
	return &Status{Reason: why, Code: f.Code, Text: f.Text}
}

// goAway tells the client of an open session that the server shuts down, and reports whether it is one.
func (s *Session) goAway() bool {
	if s.state.Load() != open {
		return false
	}
	s.closeWith(s.ending(ReasonShutdown))
	return true
}

// closeWith sends a close frame and then waits for the client's, up to a deadline. RFC 6455 §7.1.2: "an endpoint MUST
// send a Close control frame", with code and reason.
func (s *Session) closeWith(why *Status) {
	if s.advance(open, closing) {
		s.end(why)
		s.sendClose(why.Code, why.Text, false)
		s.setCloseDeadline()
	}
}

// fail sends a close frame and, without waiting for the client's, the end of the stream. RFC 6455
// §7.1.7: an endpoint that fails the connection may omit the wait for the close frame of the other.
func (s *Session) fail(why *Status, dropWaiting bool) {
	switch {
	case s.advance(open, ending):
		s.end(why)
		s.sendClose(why.Code, why.Text, dropWaiting)
	case s.advance(closing, ending):
	default:
		return
	}
	s.conn.Finish()
	s.setCloseDeadline()
}

// sendClose sends the last frame of all. RFC 6455 §5.5.1: "The application MUST NOT
// send any more data frames after sending a Close frame."
func (s *Session) sendClose(code CloseCode, reason string, dropWaiting bool) {
	var buf [2 + maxControlBytes]byte
	if s.conn.SendLast(codec.AppendClose(buf[:0], code, reason), dropWaiting) == nil {
		s.srv.counter(s).messagesOut.Add(1)
	}
}

func (s *Session) setCloseDeadline() {
	s.srv.closings.add(s.id, s.srv.clock.Load()+s.srv.closeTicks)
}

// advance moves the session from one state to a later one, and reports whether it did.
func (s *Session) advance(from, to uint32) bool { return s.state.CompareAndSwap(from, to) }

// end notes why the session ends. The first reason counts.
func (s *Session) end(why *Status) {
	if s.status.CompareAndSwap(nil, why) {
		s.srv.closed[why.Reason].Add(1)
	}
}

// closeReceived handles the client's close frame; reader.
func (s *Session) closeReceived(payload []byte) {
	code, text, err := codec.ParseClose(payload)
	switch {
	case err != nil:
		s.fault(err)
	case s.advance(open, ending):
		s.end(&Status{Reason: ReasonClientClose, Code: code, Text: text})
		s.setCloseDeadline()
		s.post(kindClose, payload) // behind the messages before it
	case s.advance(closing, ending):
		// RFC 6455 §5.5.1: "After both sending and receiving a Close message, an endpoint considers the WebSocket
		// connection closed and MUST close the underlying TCP connection." §7.1.1: the server does so first.
		s.conn.Finish()
	}
}

// answerClose answers the client's close frame. RFC 6455 §5.5.1: "If an endpoint receives a Close frame and did not
// previously send a Close frame, the endpoint MUST send a Close frame in response. (When sending a
// Close frame in response, the endpoint typically echos the status code it received.)" And: "The server MUST close
// the underlying TCP connection immediately".
func (s *Session) answerClose(payload []byte) {
	code, _, _ := codec.ParseClose(payload)
	s.sendClose(code, "", false)
	s.conn.Finish()
}

// fault handles a violation of the protocol by the client; reader. Messages before it are
// still handled, and their answers leave before the close frame. RFC 6455 §7.1.7: it "SHOULD send a Close frame with an
// appropriate status code before proceeding to _Close the WebSocket Connection_".
func (s *Session) fault(err error) {
	f, ok := err.(*codec.Fault) //nolint:errorlint // the decoder returns nothing else
	if !ok {
		f = &codec.Fault{Code: codec.StatusInternalError, Reason: "internal error"}
	}
	s.srv.faults[f.Kind].Add(1)
	if s.tapped() {
		s.tapFault(f)
	}
	switch {
	case s.advance(open, ending):
		s.end(faultStatus(f))
		s.setCloseDeadline()
		s.post(kindFault, nil)
	case s.advance(closing, ending):
		s.conn.Finish()
	}
}

// answerFault sends the close frame that the fault asks for, and the end of the stream.
func (s *Session) answerFault() {
	why := s.status.Load()
	s.sendClose(why.Code, why.Text, false)
	s.conn.Finish()
}

// evict ends a session whose outbox was full, or stuck. What waits is given up, so that the
// close frame has a chance; the deadline frees the kernel's memory.
func (s *Session) evict(why Reason) {
	s.fail(s.ending(why), true)
}

// panicked ends a session in whose code something panicked.
func (s *Session) panicked(v any, stack []byte) {
	s.srv.panics.Add(1)
	s.srv.config.Logger.Error("session: handler panicked", "session", s.id, "panic", v, "stack", string(stack))
	if s.state.Load() == handshaking {
		s.refuse(handshake.ErrInternal)
		return
	}
	s.fail(s.ending(ReasonHandlerPanic), false)
}

// refuse answers the opening handshake with an error and ends the connection.
func (s *Session) refuse(f *handshake.Fault) { s.refused(f.AppendResponse(nil), f) }

// refused sends resp, the answer to an opening handshake that err says is refused. RFC 6455 §7.2.2: to abort, "the
// server MUST simply _Close the WebSocket Connection_".
func (s *Session) refused(resp []byte, err error) {
	if !s.advance(handshaking, ending) {
		return
	}
	reason := ReasonHandshakeRefused
	if err == handshake.ErrHeaderTimeout { //nolint:errorlint // a fixed value
		reason = ReasonHandshakeTimeout
	}
	s.end(&Status{Reason: reason, Code: codec.StatusAbnormal, Err: err})
	s.srv.countRefusal(err)
	_ = s.conn.SendLast(resp, false)
	s.conn.Finish()
	s.setCloseDeadline()
}
