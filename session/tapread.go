package session

import "github.com/millpond/millpond/codec"

// wires are what a tap's reader knows of a session: the frames under way.
type wires struct {
	client, server wireReader
}

// wireReader makes frames of what one direction brings.
type wireReader struct {
	fromClient bool
	limit      int // of bytes that are kept of a payload, and of a message

	head  []byte    // of a header in pieces
	frame *TapFrame // that is arriving, or nil
	left  int64     // bytes of its payload that are still missing

	// The message under way, if it is compressed.
	compressed bool
	opcode     Opcode
	message    []byte
	why        string // it cannot be inflated

	bits   int    // of the window; zero without context takeover
	window []byte // what the next compressed message may refer to
	blind  string // why the window is not known, or ""
	ahead  int    // bytes of frames that refer to a window before this one
}

// The reasons why a message cannot be inflated.
const (
	whyLong    = "the message is longer than what is kept of it"
	whyGap     = "a part of the message is missing"
	whyContext = "the message refers to others that were left out"
	whyWaiting = "the message was on its way when the capture began, and may refer to others before"
)

// read appends the events of a record.
func (t *Tap) read(events []TapEvent, r *tapRecord) []TapEvent {
	if r.opening != nil {
		t.wires[r.id] = &wires{
			client: wireReader{fromClient: true, limit: t.config.FrameBytes},
			server: wireReader{limit: t.config.FrameBytes},
		}
		events = append(events, TapEvent{Time: r.at, Session: r.id, Opening: r.opening})
	}
	both := t.wires[r.id]
	if both == nil {
		return events // nobody is interested any more
	}
	w := &both.server
	if r.fromClient {
		w = &both.client
	}
	add := func(e TapEvent) {
		e.Time, e.Session = r.at, r.id
		events = append(events, e)
	}
	switch {
	case r.begin != nil:
		w.begin(r.begin, add)
	case r.fault != nil:
		w.cut(add)
		add(TapEvent{Fault: &TapFault{Kind: r.fault.Kind.String(), Code: r.fault.Code, Reason: r.fault.Reason}})
	case r.end != nil:
		both.client.interrupt(&r.end.received, add)
		both.server.interrupt(&r.end.sent, add)
		add(TapEvent{End: &r.end.status})
		delete(t.wires, r.id)
	default:
		w.interrupt(r.gap, add)
		w.feed(r.data, add)
	}
	return events
}

// Forget frees what the reader knows of a session that was detached. It is called by the reader.
func (t *Tap) Forget(id uint64) { delete(t.wires, id) }

// begin brings the reader to where the direction is.
func (w *wireReader) begin(b *tapBegin, add func(TapEvent)) {
	w.window, w.bits = b.window, b.bits
	if w.bits > 0 {
		w.ahead = b.blind
	}
	if u := &b.unfinished; u.Opcode != 0 {
		w.joined(u, add)
	}
	b.partial = append(b.partial, b.unfinished.Head...)
	if u := &b.unfinished; u.InFrame {
		b.partial = append(u.Frame.AppendWire(b.partial), u.Payload...)
		if u.Frame.Masked {
			codec.Mask(b.partial[len(b.partial)-len(u.Payload):], u.Frame.Mask)
		}
	}
	ahead := w.ahead // does not count what has left
	w.feed(b.partial, add)
	w.ahead = ahead
}

// joined makes one frame of what an unfinished message has brought.
func (w *wireReader) joined(u *codec.Unfinished, add func(TapEvent)) {
	h := TapHeader{Opcode: u.Opcode, Masked: true, Length: int64(len(u.Before))} // with a key of zeros
	if u.Deflated {
		h.RSV = 4
	}
	f := &TapFrame{FromClient: w.fromClient, Header: h, Wire: h.AppendWire(nil), Payload: u.Before, Joined: true}
	if len(f.Payload) > w.limit {
		f.Payload, f.Cut = f.Payload[:w.limit], true
	}
	w.complete(f, add)
}

// feed takes the next bytes.
func (w *wireReader) feed(b []byte, add func(TapEvent)) {
	for len(b) > 0 {
		var n int
		if w.frame == nil {
			n = w.header(b)
		} else {
			n = int(min(w.left, int64(len(b))))
			keep := min(n, w.limit-len(w.frame.Payload))
			w.frame.Payload = append(w.frame.Payload, b[:keep]...)
			w.frame.Cut = w.frame.Cut || keep < n
			w.left -= int64(n)
		}
		b = b[n:]
		w.ahead = max(w.ahead-n, 0)
		if f := w.frame; f != nil && w.left == 0 {
			w.frame = nil
			w.complete(f, add)
		}
	}
}

// header takes what belongs to a header off b, and begins the frame when that is whole.
func (w *wireReader) header(b []byte) (n int) {
	have := len(w.head)
	switch {
	case have > 0:
	case w.ahead > 0:
		w.blind = whyWaiting
	case w.blind == whyWaiting:
		w.blind = ""
	}
	const most = 14
	head := append(w.head, b[:min(len(b), most-have)]...)
	size := codec.HeaderBytes(head)
	if size == 0 {
		w.head = head
		return len(head) - have
	}
	h := codec.ReadHeader(head[:size])
	w.frame, w.left, w.head = &TapFrame{FromClient: w.fromClient, Header: h, Wire: head[:size:size]}, h.Length, nil
	return size - have
}

// complete tells of a frame that has arrived.
func (w *wireReader) complete(f *TapFrame, add func(TapEvent)) {
	if !f.Header.Opcode.IsControl() {
		w.gather(f)
	}
	add(TapEvent{Frame: f})
}

// gather collects a compressed message, and inflates it with its last frame.
func (w *wireReader) gather(f *TapFrame) {
	if f.Header.Opcode != codec.OpContinuation {
		w.compressed, w.opcode, w.message, w.why = f.Header.Compressed(), f.Header.Opcode, nil, w.blind
	}
	if f.Deflated = w.compressed; !f.Deflated {
		return
	}
	switch {
	case len(w.message)+len(f.Payload) > w.limit || f.Cut && len(f.Payload) == w.limit:
		w.why = whyLong
	case f.Cut:
		w.why = whyGap
	default:
		w.message = append(w.message, f.Data()...)
	}
	switch {
	case f.Header.Fin:
		f.Message = w.inflate()
		w.compressed, w.message = false, nil
	case f.Header.Opcode != codec.OpContinuation && w.why == "":
		if first, ok := codec.InflateFirst(w.message, w.window); ok {
			f.First = []byte{first}
		}
	}
}

func (w *wireReader) inflate() *TapMessage {
	m := &TapMessage{Opcode: w.opcode, Err: w.why}
	if m.Err == "" {
		var err error
		if m.Inflated, err = codec.Inflate(w.message, w.window, w.limit); err != nil {
			m.Err = err.Error()
		}
	}
	switch {
	case w.bits == 0:
	case m.Err == "":
		w.window = codec.SlideWindow(w.window, m.Inflated, w.bits)
	case m.Err != whyWaiting: // what waited is in the window already
		w.window, w.blind = nil, whyContext
	}
	return m
}

// cut tells of the frame of which the rest will not come.
func (w *wireReader) cut(add func(TapEvent)) {
	f := w.frame
	w.frame, w.head = nil, nil
	if f != nil {
		f.Cut = true
		w.complete(f, add)
	}
}

// interrupt tells of what is missing, if anything is.
func (w *wireReader) interrupt(g *TapGap, add func(TapEvent)) {
	if g == nil {
		return
	}
	w.cut(add)
	if g.Bytes == 0 {
		return
	}
	w.compressed = false
	if w.bits > 0 {
		w.window, w.blind, w.ahead = nil, whyContext, 0
	}
	add(TapEvent{Gap: g})
}
