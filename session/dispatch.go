package session

import (
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// post has a record handled in the order of events: at once by an inline handler,
// else by a worker. It is called by the reader, and by OnClose when there is none any more. It reports that the inbox is
// full and reading paused.
func (s *Session) post(kind byte, payload []byte) (full bool) {
	if s.endpoint.inline {
		s.dispatch(kind, payload)
		return false
	}
	schedule, waiting := s.inbox.Push(kind, payload)
	if schedule {
		s.srv.pool.Go((*turn)(s))
	}
	if waiting <= s.srv.config.InboxBytes {
		return false
	}
	s.pauseReading(inboxFull)
	if s.inbox.Waiting() <= s.srv.config.InboxBytes {
		s.resumeReading(inboxFull) // a worker took everything before we paused
		return false
	}
	return true
}

// turn is a Session as the pool sees it: a task that handles what waits in the inbox.
type turn Session

// Run implements pool.Task.
func (t *turn) Run() {
	s := (*Session)(t)
	if batch := s.inbox.Take(); batch != nil {
		timed := rand.Uint32()%handlerSample == 0
		for kind, payload, ok := batch.Next(); ok; kind, payload, ok = batch.Next() {
			if s.guarded(kind, payload, timed); s.held {
				s.inbox.Hold(batch)
				break
			}
		}
		batch.Release()
	}
	if s.inbox.Waiting() <= s.srv.config.InboxBytes {
		s.resumeReading(inboxFull)
	}
	if s.inbox.Done() {
		s.srv.pool.Go(t) // behind the others
	}
}

// handlerSample is of how many turns one is timed.
const handlerSample = 16

// guarded keeps a panic from losing the records behind it: OnClose must still come.
func (s *Session) guarded(kind byte, payload []byte, timed bool) {
	if timed {
		begin := time.Now()
		defer func() { s.srv.handled.Observe(time.Since(begin)) }()
	}
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v, debug.Stack())
		}
	}()
	s.dispatch(kind, payload)
}

// dispatch does what a record asks for; one call at a time for a session.
func (s *Session) dispatch(kind byte, payload []byte) {
	switch kind {
	case kindText, kindBinary:
		if !s.deaf() {
			s.endpoint.handler.OnMessage(s, Opcode(kind), payload)
		}
	case kindPing:
		if !s.deaf() {
			s.endpoint.ping.OnPing(s, payload)
		}
	case kindOpen:
		s.endpoint.handler.OnOpen(s)
		s.flags.Or(settled)
	case kindClose:
		s.answerClose(payload)
	case kindFault:
		s.answerFault()
	case kindEOF, kindLastEOF:
		s.flags.Or(inputDone)
		if !s.conn.NotifyDrained() {
			s.conn.Close(nil)
		}
	case kindWake:
		if w, ok := s.endpoint.handler.(WakeHandler); ok && !s.over {
			w.OnWake(s)
		}
	case kindClosed:
		s.over = true
		s.endpoint.handler.OnClose(s, *s.status.Load())
	}
}

// deaf reports whether the session was ended here, so that no message is handled any more.
func (s *Session) deaf() bool {
	why := s.status.Load()
	return why != nil && why.Reason.ours()
}
