package codec

import (
	"sync"

	"github.com/gobwas/ws"
)

// partial is what a connection holds while a frame or a message is unfinished, and while the last message lies in
// it. It is pooled: few connections have one at any moment.
type partial struct {
	// The data message that is being assembled.
	buf      *buffer // its payload so far, nil while that is empty
	checked  int32   // the first bytes of buf that are known to be whole code points, if it is text
	opcode   Opcode  // OpText or OpBinary; 0 while there is no message
	deflated bool    // it is compressed

	// With context takeover: the last bytes of the peer's compressed messages, as they were before compression.
	window *buffer // not of the pools: as large as it has to be

	// The frame that is arriving.
	inFrame bool   // its header is complete, and its payload is not handed out yet
	frame   Header // its header
	left    int64  // bytes of its payload that are still missing

	lent    bool      // a payload in buf or control is the caller's until the next call
	fault   FaultKind // 0, or the peer broke the protocol: nothing else counts any more
	headLen uint8     // bytes in head; 0 between header and next header
	ctrlLen uint8     // bytes in control
	head    [maxHeaderBytes]byte
	control [maxControlBytes]byte // a control frame that arrives in pieces, apart from the message around it
}

var partials = sync.Pool{New: func() any { return new(partial) }}

// begin makes h the frame that is arriving.
func (p *partial) begin(h Header) {
	p.inFrame, p.frame, p.left = true, h, h.Length
	switch {
	case h.Opcode.IsControl():
		p.ctrlLen = 0
	case h.Opcode != OpContinuation:
		// RFC 6455 §5.4: "all fragments of a message are of the same type, as set by the first fragment's opcode."
		p.opcode, p.checked, p.deflated = h.Opcode, 0, h.RSV&compressed != 0
	}
}

// payload takes b, the next bytes of the frame's payload, and unmasks them in place. With ok they complete a
// control frame or a message. b is not kept.
func (p *partial) payload(o *Options, b []byte) (m Message, ok bool, fault *Fault) {
	if p.frame.Masked {
		ws.Cipher(b, p.frame.Mask, int((p.frame.Length-p.left)&3))
	}
	p.left -= int64(len(b))
	p.inFrame = p.left > 0
	if p.frame.Opcode.IsControl() {
		m, ok = p.controlPayload(b)
		return m, ok, nil
	}
	return p.dataPayload(o, b)
}

// controlPayload collects b for a control frame. RFC 6455 §5.4: "An endpoint MUST be capable of handling control
// frames in the middle of a fragmented message."
func (p *partial) controlPayload(b []byte) (m Message, ok bool) {
	p.ctrlLen += uint8(copy(p.control[p.ctrlLen:], b))
	if p.inFrame {
		return Message{}, false
	}
	p.lent = true
	n := int(p.ctrlLen)
	return Message{Opcode: p.frame.Opcode, Payload: p.control[:n:n]}, true
}

// dataPayload collects b for the message. RFC 6455 §5.4: "Message fragments MUST be delivered to the recipient in the
// order sent by the sender."
func (p *partial) dataPayload(o *Options, b []byte) (m Message, ok bool, fault *Fault) {
	p.buf = extend(p.buf, b)
	var all []byte
	if p.buf != nil {
		all = p.buf.b
	}
	last := !p.inFrame && p.frame.Fin
	if p.opcode == OpText && !p.deflated {
		// RFC 6455 §8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is
		// not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_." Here that is
		// found as soon as the byte is there, and a code point may be cut anywhere but at the end of the message.
		n, valid := validPrefix(all[p.checked:])
		p.checked += int32(n)
		if !valid || (last && int(p.checked) < len(all)) {
			return Message{}, false, FaultInvalidUTF8.fault()
		}
	}
	if !last {
		return Message{}, false, nil
	}
	if p.deflated {
		if fault = p.inflate(o, p.opcode); fault != nil {
			return Message{}, false, fault
		}
		all = p.buf.b
	}
	m = Message{Opcode: p.opcode, Payload: all[:len(all):len(all)]}
	p.opcode, p.lent = 0, true
	return m, true, nil
}

// clear gives back all but the window, which lasts as long as the connection.
func (p *partial) clear() {
	giveBuffer(p.buf)
	*p = partial{window: p.window}
}
