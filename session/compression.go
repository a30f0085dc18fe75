package session

import (
	"sync"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// Compression is how an endpoint uses permessage-deflate (RFC 7692) with clients that offer it. The zero value works.
//
// A message is inflated on the event loop, to Endpoint.MaxMessageBytes at most. A Frame is deflated once, by the first
// session that wants it so, and what comes out is shared by all.
type Compression struct {
	// Level is from 1, the fastest, to 6. Zero means 1. A compressor takes 600 KiB; there is about one per core.
	Level int
	// MinBytes is the length below which a message goes as it is. Zero means 256.
	MinBytes int
	// ContextTakeover lets messages refer to those before them, in either direction: small messages that resemble
	// each other become much smaller. It costs each session two windows, of 32 KiB unless WindowBits says less,
	// from its first compressed message on. Without it nothing is kept.
	ContextTakeover bool
	// WindowBits bounds these windows, as the exponent of 2: 8 to 15. Zero means 15.
	WindowBits int
}

// Validate reports what makes no sense, by the name of its flag.
func (c *Compression) Validate() error {
	d := c.deflate()
	return d.Validate()
}

func (c *Compression) deflate() codec.Deflate {
	return codec.Deflate{Level: c.Level, MinBytes: c.MinBytes, WindowBits: c.WindowBits}
}

func (c *Compression) handshake() *handshake.Deflate {
	if c == nil {
		return nil
	}
	return &handshake.Deflate{ContextTakeover: c.ContextTakeover, WindowBits: c.WindowBits}
}

// compression is how messages leave compressed. Where nothing is kept between them, one value serves all sessions of
// the endpoint that agreed on the same.
type compression struct {
	// Immutable.
	out      codec.Deflate
	takeover bool // what leaves may refer to what left before

	// Guarded by mu, with takeover.
	mu     sync.Mutex
	window []byte // what the client has surely inflated last
}

// agreements are the endpoint as it is for sessions with compression, by whether the client keeps its context and by
// the server's window. So a session needs nothing but its endpoint.
type agreements [2][codec.MaxWindowBits + 1]*endpoint

func newAgreements(c *Compression, plain endpoint) *agreements {
	if c == nil {
		return nil
	}
	all := new(agreements)
	for client := range all {
		for bits := codec.MinWindowBits; bits <= codec.MaxWindowBits; bits++ {
			e := plain
			e.codec.Deflate = true
			if client == 1 {
				e.codec.TakeoverBits = c.WindowBits
				setDefault(&e.codec.TakeoverBits, codec.MaxWindowBits)
			}
			e.compression = &compression{out: c.deflate()}
			e.compression.out.WindowBits = bits
			all[client][bits] = &e
		}
	}
	return all
}

// agreed returns e as it is for a session that has agreed on a.
func (e *endpoint) agreed(a handshake.Agreement) *endpoint {
	if !a.Deflate {
		return e
	}
	client := 0
	if a.ClientTakeover {
		client = 1
	}
	e = e.deflate[client][a.ServerBits]
	if a.ServerTakeover {
		own := *e
		own.compression = &compression{out: e.compression.out, takeover: true}
		return &own
	}
	return e
}

// lock keeps what is compressed in the order in which it leaves, if that matters.
func (c *compression) lock() {
	if c.takeover {
		c.mu.Lock()
	}
}

func (c *compression) unlock() {
	if c.takeover {
		c.mu.Unlock()
	}
}

// leftLocked notes that a compressed message has left, or waits. If a policy may still drop it, nobody knows what the
// client will have inflated: later messages must not refer to anything up to here.
func (c *compression) leftLocked(payload []byte, o poller.Out) {
	switch {
	case !c.takeover:
	case o.Policy != PolicyDisconnect && !o.Pinned:
		c.window = c.window[:0]
	default:
		c.window = c.out.Slide(c.window, payload)
	}
}

// deflated reports whether wire, a frame, is compressed. RFC 7692 §6: by RSV1.
func deflated(wire []byte) bool { return wire[0]&0x40 != 0 }

// sendFrames is Session.SendAll for a session with compression.
func (s *Session) sendFrames(c *compression, frames []*Frame, o poller.Out) (dropped int, err error) {
	var bufs [sendBatch][]byte
	compressed, saved := 0, 0
	c.lock()
	for i, f := range frames {
		bufs[i] = f.Deflated(&c.out)
		if deflated(bufs[i]) {
			c.leftLocked(f.Payload(), o)
			compressed++
			saved += len(f.Bytes()) - len(bufs[i])
		}
	}
	if len(frames) == 1 {
		dropped, err = s.conn.Send(bufs[0], o)
	} else {
		dropped, err = s.conn.SendAll(bufs[:len(frames)], o)
	}
	c.unlock()
	s.countDeflated(compressed, saved)
	return dropped, err
}

// deflateBuffers hold compressed payloads while they are sent. Those of large messages are not kept.
var deflateBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const maxDeflateBuffer = 64 << 10

// sendDeflated is Session.SendMessage for a session with compression. Without ok the message is not worth it, and
// nothing was done.
func (s *Session) sendDeflated(c *compression, op Opcode, payload []byte, o poller.Out) (ok bool, dropped int, err error) {
	if !c.out.Worth(len(payload)) {
		return false, 0, nil
	}
	buf := deflateBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxDeflateBuffer {
			deflateBuffers.Put(buf)
		}
	}()
	c.lock()
	defer c.unlock()
	*buf = c.out.AppendPayload((*buf)[:0], payload, c.window)
	if len(*buf) >= len(payload) {
		return false, 0, nil
	}
	c.leftLocked(payload, o)
	var head [maxHeaderBytes]byte
	dropped, err = s.conn.SendCopy(codec.AppendDeflatedHeader(head[:0], op, len(*buf)), *buf, o)
	s.countDeflated(1, len(payload)-len(*buf))
	return true, dropped, err
}

func (s *Session) countDeflated(messages, saved int) {
	if messages > 0 {
		c := s.srv.counter(s)
		c.deflatedOut.Add(int64(messages))
		c.deflateSaved.Add(int64(saved))
	}
}
