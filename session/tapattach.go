package session

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
)

// taps are what a server knows of those that look on.
type taps struct {
	mu     sync.Mutex // of attaching and detaching
	probes sync.Map   // session id → *probe

	// Any goroutine (atomic).
	watchers atomic.Pointer[[]*Tap] // those with OnOpening; nil while there are none
}

// probe is where a session's taps get at it. It is there only while it has any.
type probe struct {
	// Any goroutine (atomic). Replaced under taps.mu; what is new comes under the connection's lock.
	outlets atomic.Pointer[[]*outlet]
}

// watch adds t to the watchers, or takes it out.
func (a *taps) watch(t *Tap, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*Tap
	if old := a.watchers.Load(); old != nil {
		for _, other := range *old {
			if other != t {
				list = append(list, other)
			}
		}
	}
	if on {
		list = append(list, t)
	}
	if len(list) == 0 {
		a.watchers.Store(nil)
		return
	}
	a.watchers.Store(&list)
}

// Attach begins to look on at an open session. It reports false when that has ended, t was attached before, or too much
// waits for the reader.
func (t *Tap) Attach(s *Session) bool {
	if s.state.Load() != open {
		return false
	}
	return t.attach(s, synthesised(s), nil)
}

// attach is Attach with the opening; resp is an answer that has not been sent yet.
func (t *Tap) attach(s *Session, opening *TapOpening, resp []byte) bool {
	all := &s.srv.taps
	all.mu.Lock()
	defer all.mu.Unlock()
	p := all.probe(s.id)
	if p == nil {
		p = new(probe)
	}
	if p.outlet(t) != nil {
		return false
	}
	o := &outlet{tap: t, id: s.id}
	compression, begin := s.endpoint.compression, &tapBegin{}
	if compression != nil && compression.takeover {
		compression.mu.Lock() // so that the window is that of what waits
		defer compression.mu.Unlock()
		begin.window, begin.bits = bytes.Clone(compression.window), compression.out.WindowBits
		setDefault(&begin.bits, codec.MaxWindowBits)
	}
	all.probes.Store(s.id, p)
	s.flags.Or(tapped)
	ok := s.conn.ReportSent(func(first []byte, sent, waiting int) {
		begin.blind = waiting
		switch {
		case resp != nil:
			o.out.left, o.out.answer = int64(len(resp)), true
		case bytes.HasPrefix(first, []byte("HTTP/")): // the answer to the opening request is still leaving
			o.out.left, o.out.answer = int64(len(first)-sent), true
			begin.blind -= len(first) - sent
		default:
			begin.partial = bytes.Clone(lastFrame(first[:sent]))
			o.out.pass(begin.partial)
		}
		if !t.push(tapRecord{id: s.id, at: time.Now(), opening: opening, begin: begin}, 0) {
			t.missed.Store(true)
			return // full; or closed, and nobody would detach
		}
		t.attached.Add(1)
		p.with(o)
	})
	if p.empty() {
		s.flags.And(^tapped)
		if ok {
			s.conn.StopReporting()
		}
		all.probes.Delete(s.id)
		return false
	}
	return p.outlet(t) != nil
}

func (a *taps) probe(id uint64) *probe {
	if p, ok := a.probes.Load(id); ok {
		return p.(*probe)
	}
	return nil
}

func (p *probe) all() []*outlet {
	if list := p.outlets.Load(); list != nil {
		return *list
	}
	return nil
}

func (p *probe) empty() bool { return len(p.all()) == 0 }

func (p *probe) outlet(t *Tap) *outlet {
	for _, o := range p.all() {
		if o.tap == t {
			return o
		}
	}
	return nil
}

func (p *probe) with(o *outlet) {
	list := append([]*outlet{o}, p.all()...)
	p.outlets.Store(&list)
}

func (p *probe) without(t *Tap) {
	var list []*outlet
	for _, o := range p.all() {
		if o.tap != t {
			list = append(list, o)
		}
	}
	p.outlets.Store(&list)
}

// Detach ends looking on at a session, of which no End comes then. What happens at the same moment may still come.
func (t *Tap) Detach(id uint64) {
	all := &t.srv.taps
	all.mu.Lock()
	defer all.mu.Unlock()
	t.detachLocked(id)
}

// detachLocked is Detach while taps.mu is held.
func (t *Tap) detachLocked(id uint64) {
	p := t.srv.taps.probe(id)
	if p == nil || p.outlet(t) == nil {
		return
	}
	t.attached.Add(-1)
	p.without(t)
	if p.empty() {
		t.srv.taps.probes.Delete(id)
		if s := t.srv.table.Get(id); s != nil {
			s.flags.And(^tapped)
			s.conn.StopReporting()
		}
	}
}

// Missed reports whether, since it was asked last, a session was not attached because too much waits for the reader.
func (t *Tap) Missed() bool { return t.missed.Swap(false) }

// Attached returns the number of sessions that t looks on at.
func (t *Tap) Attached() int { return int(t.attached.Load()) }
