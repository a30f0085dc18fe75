package session

import (
	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/pool"
)

// Handler gets what happens in the sessions of an endpoint. The calls for one
// session come one after another; see the package's doc for the goroutines. A panic
// closes that session with 1011, is logged with its stack and counted.
type Handler interface {
	// OnOpen is called first, when the 101 has been sent.
	OnOpen(s *Session)
	// OnMessage gets a whole message: OpText (valid UTF-8) or OpBinary. payload may be
	// changed, and is valid until OnMessage returns.
	OnMessage(s *Session, op Opcode, payload []byte)
	// OnClose is called last, when the socket is closed.
	OnClose(s *Session, why Status)
}

// PingHandler is a Handler that answers pings itself, with Session.Pong. Without it
// the engine answers each with its payload.
type PingHandler interface {
	// OnPing gets the payload of a ping, at most 125 bytes, valid until it returns.
	OnPing(s *Session, payload []byte)
}

// WakeHandler is a Handler that Session.Wake calls.
type WakeHandler interface {
	// OnWake comes once for each Wake, in its place among the other calls for the session, but not after OnClose.
	OnWake(s *Session)
}

// Funcs is a Handler made of functions; those that are nil do nothing.
type Funcs struct {
	Open    func(s *Session)
	Message func(s *Session, op Opcode, payload []byte)
	Close   func(s *Session, why Status)
}

var _ Handler = Funcs{}

// OnOpen implements Handler.
func (f Funcs) OnOpen(s *Session) {
	if f.Open != nil {
		f.Open(s)
	}
}

// OnMessage implements Handler.
func (f Funcs) OnMessage(s *Session, op Opcode, payload []byte) {
	if f.Message != nil {
		f.Message(s, op, payload)
	}
}

// OnClose implements Handler.
func (f Funcs) OnClose(s *Session, why Status) {
	if f.Close != nil {
		f.Close(s, why)
	}
}

// FuncsWithPing is Funcs that also answers pings itself; a nil Ping answers each with its payload.
type FuncsWithPing struct {
	Funcs
	Ping func(s *Session, payload []byte)
}

var _ PingHandler = FuncsWithPing{}

// OnPing implements PingHandler.
func (f FuncsWithPing) OnPing(s *Session, payload []byte) {
	if f.Ping == nil {
		_ = s.Pong(payload)
		return
	}
	f.Ping(s, payload)
}

// The kinds of records in an inbox: what dispatch does in the order of events. The
// opcodes of frames stand for themselves.
const (
	kindText   = byte(codec.OpText)
	kindBinary = byte(codec.OpBinary)
	kindClose  = byte(codec.OpClose) // the peer's close frame, checked
	kindPing   = byte(codec.OpPing)
	kindOpen   = 0x10
	kindFault  = 0x11 // the payload of the close frame that answers a fault
	kindEOF    = 0x12 // the peer has shut down sending

	kindLastEOF = pool.Urgent | kindEOF // likewise, and nothing before it is handled any more
	kindClosed  = pool.Urgent | 0x13    // the socket is closed
	kindWake    = pool.Urgent | 0x14    // Session.Wake
)
