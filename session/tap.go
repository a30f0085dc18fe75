package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 wants it
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
)

// TapConfig says how a Tap looks on. The zero value works.
type TapConfig struct {
	// BufferBytes bounds what waits for the reader; what does not fit is left out, and counted. Zero means 1 MiB.
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
}

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

// Attach begins to look on at an open session. It reports false when that has ended, or t was attached before.
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
		if !t.push(tapRecord{id: s.id, at: time.Now(), opening: opening, begin: begin}, true) {
			return // closed: nobody will detach
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

// Attached returns the number of sessions that t looks on at.
func (t *Tap) Attached() int { return int(t.attached.Load()) }

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

// push adds a record if there is room, or must is set. It reports false if there was none, or t is closed.
func (t *Tap) push(r tapRecord, must bool) bool {
	t.mu.Lock()
	cost := recordCost + len(r.data)
	ok := !t.closed && (must || t.bytes+cost <= t.config.BufferBytes)
	if ok {
		t.records = append(t.records, r)
		t.bytes += cost
	}
	t.mu.Unlock()
	if ok {
		t.signal()
	}
	return ok
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

// The hooks. Each is called only when the session's bit is set.

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
			o.tap.push(tapRecord{id: s.id, at: now, fromClient: true, begin: begin}, true)
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
	if o.tap.push(record, false) {
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
			o.tap.push(tapRecord{id: s.id, at: time.Now(), fromClient: true, fault: f}, true)
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
		}}, true)
	}
}

// splitter finds where frames begin in a stream that it sees in pieces.
type splitter struct {
	left    int64 // bytes of the payload, or of the answer to the opening request, that are still missing
	headLen int
	head    [14]byte
	answer  bool
}

// foreign returns how many of n bytes are no frames: what is left of the answer to the opening request.
func (p *splitter) foreign(n int, fromClient bool) int {
	if fromClient || !p.answer {
		return 0
	}
	skip := int(min(p.left, int64(n)))
	if p.left -= int64(skip); p.left == 0 {
		p.answer = false
	}
	return skip
}

// pass goes on by b. It returns where in b the first frame begins, or -1, and how many do.
func (p *splitter) pass(b []byte) (first, frames int) {
	first = -1
	for at := 0; at < len(b); {
		if p.left > 0 {
			n := int(min(p.left, int64(len(b)-at)))
			p.left -= int64(n)
			at += n
			continue
		}
		if p.headLen == 0 {
			if first < 0 {
				first = at
			}
			frames++
		}
		have := p.headLen
		p.headLen += copy(p.head[have:], b[at:])
		n := codec.HeaderBytes(p.head[:p.headLen])
		if n == 0 {
			return first, frames
		}
		p.left, p.headLen = codec.ReadHeader(p.head[:n]).Length, 0
		at += n - have
	}
	return first, frames
}

// resume has p go on where a decoder is.
func (p *splitter) resume(u *codec.Unfinished) {
	p.headLen = copy(p.head[:], u.Head)
	if u.InFrame {
		p.left = u.Frame.Length - int64(len(u.Payload))
	}
}

// lastFrame returns the frame at the end of b that is not whole there, or nothing. b begins with a frame.
func lastFrame(b []byte) []byte {
	for {
		n := codec.HeaderBytes(b)
		if n == 0 {
			return b
		}
		whole := int64(n) + codec.ReadHeader(b[:n]).Length
		if whole > int64(len(b)) {
			return b
		}
		b = b[whole:]
	}
}

// describe tells what is known of a session's opening.
func describe(s *Session, head, resp []byte, client netip.Addr) *TapOpening {
	_, secured := s.conn.TLS()
	o := &TapOpening{
		session: s, Request: head, Response: resp, Path: s.endpoint.path, TLS: secured,
		Remote: s.conn.RemoteAddr(), Local: s.conn.LocalAddr(), Client: client,
		ClientTakeover: s.endpoint.codec.TakeoverBits > 0,
	}
	if c := s.endpoint.compression; c != nil {
		o.Deflate, o.ServerTakeover = true, c.takeover
	}
	return o
}

// synthesised makes up the opening handshake of a session of which only the outcome is known.
func synthesised(s *Session) *TapOpening {
	o := describe(s, nil, nil, netip.Addr{})
	o.Synthesised, o.Client = true, o.Remote.Addr()
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // which never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	host := "localhost"
	if o.Local.IsValid() {
		host = o.Local.String()
	}
	extensions := ""
	if o.Deflate {
		extensions = "Sec-WebSocket-Extensions: permessage-deflate"
		if !o.ServerTakeover {
			extensions += "; server_no_context_takeover"
		}
		if !o.ClientTakeover {
			extensions += "; client_no_context_takeover"
		}
		extensions += "\r\n"
	}
	o.Request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", o.Path, host, key, extensions)
	o.Response = fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s\r\n", AcceptKey(key), extensions)
	return o
}

// AcceptKey returns the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key. RFC 6455 §4.2.2: "constructed by
// concatenating key ... with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", taking the SHA-1 hash of this
// concatenated value to obtain a 20-byte value and base64-encoding".
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}
