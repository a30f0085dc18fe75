package session

import (
	"runtime/debug"
	"sync"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// wire is a Session as its connection sees it: the poller.Events that users of the
// package need not see.
type wire Session

// OnConnected implements poller.Events; it is for connections made by Dial.
func (w *wire) OnConnected() {}

// OnData implements poller.Events.
func (w *wire) OnData(b []byte) (rest []byte) {
	s := (*Session)(w)
	defer s.recover()
	s.lastSeen.Store(s.srv.clock.Load())
	state := s.state.Load()
	if state == handshaking {
		if b = s.handshake(b); len(b) == 0 {
			return nil
		}
		state = open
	}
	handled := state == open || state == closing // else we have answered our last, and what comes is discarded
	if s.tapped() {
		return s.receiveTapped(b, handled)
	}
	return s.receiveIf(handled, b)
}

// maxUnpaced is how many bytes of messages a paced endpoint answers until it looks at what waits in the outbox.
const maxUnpaced = 64 << 10

// receive handles the frames in b, until there is too much to handle or to send: each of them may inflate to a
// thousand times its size.
func (s *Session) receive(b []byte) (rest []byte) {
	corked, full := false, false
	messages, unpaced := 0, 0
	for state := s.state.Load(); !full && (state == open || state == closing); state = s.state.Load() {
		m, n, ok, err := s.decoder.Next(&s.endpoint.codec, b)
		if err != nil {
			s.fault(err)
			break
		}
		b = b[n:]
		if !ok {
			break
		}
		if len(b) > 0 && !corked {
			corked = true // several messages: their answers leave together
			s.conn.Cork()
		}
		messages++
		full = s.frame(m)
		if unpaced += len(m.Payload); unpaced > maxUnpaced && s.endpoint.paced {
			unpaced, full = 0, s.pauseOnBacklog()
		}
	}
	if messages > 0 {
		s.srv.counter(s).messagesIn.Add(int64(messages))
	}
	if s.endpoint.paced && !full {
		s.pauseOnBacklog()
	}
	if !full {
		return nil
	}
	_, _, _, _ = s.decoder.Next(&s.endpoint.codec, nil) // gives back the last message's memory
	return b
}

// frame handles one message or control frame, and reports that reading is paused, because too much waits for the handler.
func (s *Session) frame(m codec.Message) (full bool) {
	switch {
	case m.Opcode == codec.OpClose:
		s.closeReceived(m.Payload)
	case s.state.Load() != open:
		// RFC 6455 §5.5.1: "there is no guarantee that the endpoint that has already sent a Close frame will
		// continue to process data."
	case m.Opcode == codec.OpPong: // any byte counts as life
		s.srv.counter(s).pongs.Add(1)
	case m.Opcode == codec.OpPing && s.endpoint.ping == nil:
		// RFC 6455 §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it
		// already received a Close frame." §5.5.3: with identical application data.
		_ = s.Pong(m.Payload)
	default:
		return s.post(byte(m.Opcode), m.Payload)
	}
	return false
}

// pauseOnBacklog stops reading from a client that does not read, and reports that it did.
func (s *Session) pauseOnBacklog() (paused bool) {
	if waiting, _, _ := s.conn.Waiting(); waiting <= s.srv.config.OutboxBytes/2 {
		return false
	}
	s.pauseReading(outboxFull)
	if !s.conn.NotifyDrained() {
		s.resumeReading(outboxFull)
		return false
	}
	return true
}

// OnDrained implements poller.Events.
func (w *wire) OnDrained() {
	s := (*Session)(w)
	s.resumeReading(outboxFull)
	flags := s.flags.And(^wakeDrained)
	if flags&wakeDrained != 0 {
		s.Wake()
	}
	if flags&inputDone != 0 {
		s.conn.Close(nil)
	}
}

// OnEOF implements poller.Events. The peer may still read: what it sent before is
// answered first.
func (w *wire) OnEOF() {
	s := (*Session)(w)
	defer s.recover()
	state := s.state.Load()
	if s.advance(open, ending) {
		s.end(&Status{Reason: ReasonPeerGone, Code: codec.StatusAbnormal})
		s.srv.closings.add(s.id, s.srv.clock.Load()+s.srv.closeTicks)
	}
	if state <= upgrading || s.endpoint == nil { // nothing is under way
		s.end(&Status{Reason: ReasonPeerGone, Code: codec.StatusAbnormal})
		s.conn.Close(nil)
		return
	}
	if s.deaf() { // what waits for a handler that holds the session waits in vain
		s.post(kindLastEOF, nil)
		return
	}
	s.post(kindEOF, nil)
}

// OnClose implements poller.Events: the descriptor is closed and nobody reads any more.
func (w *wire) OnClose(cause error) {
	s := (*Session)(w)
	defer s.recover()
	s.end(lostStatus(cause))
	s.state.Store(gone)
	s.decoder.Release()
	if s.tapped() {
		s.tapEnd()
	}
	s.srv.forget(s)
	if s.endpoint != nil {
		s.post(kindClosed, nil)
	}
}

// handshake collects the opening handshake and answers it. It returns what follows the header
// once the session is open, and nothing before.
func (s *Session) handshake(b []byte) (rest []byte) {
	if o, _ := s.data.(*opening); o != nil && o.proxied {
		var done bool
		if b, done = s.proxyHeader(o, b); !done {
			return nil
		}
	}
	head, rest, err := s.collect(b)
	switch {
	case err != nil:
		s.refuse(err)
	case head == nil:
		return nil
	case !handshake.IsUpgrade(head):
		s.handToHTTP(head, rest)
	case s.upgrade(head):
		s.post(kindOpen, nil)
		return rest
	}
	return nil
}

// collect returns the header once it is complete, and what follows it in b.
func (s *Session) collect(b []byte) (head, rest []byte, fault *handshake.Fault) {
	limit := s.srv.config.MaxHeaderBytes
	if o, _ := s.data.(*opening); o == nil || len(o.header) == 0 {
		if end := handshake.HeaderEnd(b, 0); end >= 0 && end <= limit {
			return b[:end], b[end:], nil
		}
	}
	o := s.beginning()
	have := len(o.header)
	o.header = append(o.header, b[:min(len(b), limit-have)]...)
	end := handshake.HeaderEnd(o.header, have)
	if end < 0 {
		if len(o.header) >= limit {
			return nil, nil, handshake.TooLarge(o.header)
		}
		return nil, nil, nil
	}
	return o.header[:end], b[end-have:], nil
}

// responses hold the answers to opening handshakes while they are written.
var responses = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// upgrade answers the opening handshake in head and reports whether the session is open.
func (s *Session) upgrade(head []byte) bool {
	if s.srv.stopping.Load() {
		s.refuse(handshake.ErrShuttingDown)
		return false
	}
	o, _ := s.data.(*opening)
	inside := o != nil && o.inside
	if inside {
		s.srv.admitted.Add(1) // whoever looks after a full server gets in
	} else if !s.srv.admit() {
		s.refuse(overloaded())
		return false
	}
	admitted := true
	leave := func() { // before the answer: who has read it may come again at once
		if admitted && s.endpoint == nil {
			admitted = false
			s.srv.admitted.Add(-1)
		}
	}
	defer leave() // also when Accept panicked
	buf := responses.Get().(*[]byte)
	defer responses.Put(buf)
	resp, result, err := s.srv.upgrader.Upgrade((*buf)[:0], head, s.clientAddr())
	*buf = resp[:0]
	if err != nil {
		leave()
		s.refused(resp, err)
		return false
	}
	e := result.Route.Value.(*endpoint)
	if e.private && !inside {
		leave()
		s.refuse(handshake.ErrPath)
		return false
	}
	if !inside && !s.srv.addresses.take(s.id, result.ClientAddr) {
		s.srv.addressFull.Add(1)
		leave()
		s.refuse(overloaded())
		return false
	}
	if !s.advance(handshaking, upgrading) {
		s.srv.addresses.give(s.id)
		return false // timed out in this moment, and answered
	}
	s.endpoint, s.data = e.agreed(result.Deflate), result.Data
	if result.Deflate.Deflate {
		s.srv.deflating.Add(1)
	}
	s.srv.opened.Add(1)
	s.tapOpening(head, resp, result.ClientAddr)
	_, _ = s.conn.SendCopy(resp, nil, poller.Out{Pinned: true})
	s.advance(upgrading, open)
	if s.srv.stopping.Load() { // Shutdown may have passed by
		s.goAway()
	}
	return true
}

// recover keeps a panic, ours or an inline handler's, from taking the loop and all
// its sessions along.
func (s *Session) recover() {
	if v := recover(); v != nil {
		s.panicked(v, debug.Stack())
	}
}
