package session

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/millpond/millpond/codec"
)

// This file has the hooks by which taps see what a session does. Each is called only when the session's bit is set,
// but for tapOpening.

// outlet is one tap at one session.
type outlet struct {
	tap *Tap
	id  uint64

	// Owned by the session's reader.
	in    tapStream
	begun bool // the tap was told where in begins
	ahead int  // bytes that OnData gets once more, because the session was paused

	// Guarded by the connection's lock.
	out tapStream
}

// tapStream is one direction of a session, as a tap sees it.
type tapStream struct {
	splitter
	lost       bool // something did not fit, and nothing does until a frame begins
	lostFrames int64
	lostBytes  int64
}

func (s *Session) tapped() bool { return s.flags.Load()&tapped != 0 }

// receiveTapped is receive for a session that somebody looks on at; open says that its frames are handled.
func (s *Session) receiveTapped(b []byte, handled bool) (rest []byte) {
	p := s.srv.taps.probe(s.id)
	if p == nil {
		return s.receiveIf(handled, b)
	}
	outlets, now := p.all(), time.Now()
	own := bytes.Clone(b) // before masks are undone in place
	for _, o := range outlets {
		if !o.begun {
			o.begun = true
			begin := &tapBegin{unfinished: s.decoder.Unfinished(), bits: s.endpoint.codec.TakeoverBits}
			begin.window = begin.unfinished.Window
			o.in.resume(&begin.unfinished)
			o.tap.push(tapRecord{id: s.id, at: now, fromClient: true, begin: begin}, always)
		}
		seen := min(o.ahead, len(own))
		o.ahead -= seen
		o.tell(&o.in, true, now, own[seen:])
	}
	rest = s.receiveIf(handled, b)
	for _, o := range outlets {
		o.ahead += len(rest)
	}
	return rest
}

func (s *Session) receiveIf(handled bool, b []byte) []byte {
	if !handled {
		return nil
	}
	return s.receive(b)
}

// OnSent implements poller.Reporter.
func (w *wire) OnSent(b []byte) {
	p := w.srv.taps.probe(w.id)
	if p == nil {
		return
	}
	now := time.Now()
	for _, o := range p.all() {
		o.tell(&o.out, false, now, b)
	}
}

// tell hands b, which is not changed any more, to the tap, or counts it as lost.
func (o *outlet) tell(st *tapStream, fromClient bool, now time.Time, b []byte) {
	if skip := st.foreign(len(b), fromClient); skip > 0 {
		b = b[skip:]
	}
	if len(b) == 0 {
		return
	}
	first, frames := st.pass(b)
	record := tapRecord{id: o.id, at: now, fromClient: fromClient, data: b}
	switch {
	case !st.lost:
	case first < 0:
		st.lostBytes += int64(len(b))
		return
	default:
		record.gap = &TapGap{FromClient: fromClient, Frames: st.lostFrames, Bytes: st.lostBytes + int64(first)}
		record.data = b[first:]
	}
	if o.tap.push(record, record.cost()) {
		st.lost, st.lostFrames, st.lostBytes = false, 0, 0
		return
	}
	st.lost = true
	st.lostFrames += int64(frames)
	st.lostBytes += int64(len(b))
}

// tapOpening shows an opening handshake to those that watch, before its answer is sent.
func (s *Session) tapOpening(head, resp []byte, client netip.Addr) {
	watchers := s.srv.taps.watchers.Load()
	if watchers == nil {
		return
	}
	opening := describe(s, head, resp, client)
	for _, t := range *watchers {
		if t.config.OnOpening(t, s, opening) {
			own := *opening
			own.Request, own.Response = bytes.Clone(head), bytes.Clone(resp)
			t.attach(s, &own, own.Response)
		}
	}
}

// tapFault tells of a violation of the protocol.
func (s *Session) tapFault(f *codec.Fault) {
	if p := s.srv.taps.probe(s.id); p != nil {
		for _, o := range p.all() {
			o.tap.push(tapRecord{id: s.id, at: time.Now(), fromClient: true, fault: f}, always)
		}
	}
}

// tapEnd tells of the end of the session, after everything else.
func (s *Session) tapEnd() {
	all := &s.srv.taps
	all.mu.Lock()
	defer all.mu.Unlock()
	p := all.probe(s.id)
	if p == nil {
		return
	}
	all.probes.Delete(s.id)
	for _, o := range p.all() {
		o.tap.attached.Add(-1)
		o.tap.push(tapRecord{id: s.id, at: time.Now(), end: &tapEnd{
			status:   *s.status.Load(),
			received: TapGap{FromClient: true, Frames: o.in.lostFrames, Bytes: o.in.lostBytes},
			sent:     TapGap{Frames: o.out.lostFrames, Bytes: o.out.lostBytes},
		}}, always)
	}
}
