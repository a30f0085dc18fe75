package session

import (
	"time"

	"github.com/millpond/millpond/codec"
)

// TapEvent is something that a Tap saw. Exactly one of the pointers is set.
type TapEvent struct {
	Time    time.Time
	Session uint64 // Session.ID

	Opening *TapOpening // first
	Frame   *TapFrame
	Gap     *TapGap
	Fault   *TapFault
	End     *Status // last, unless the session was detached
}

// TapHeader is another package's type under the name by which users of the engine know it.
type TapHeader = codec.Header

// TapFrame is one frame, after the whole of it, or as much as there will be.
type TapFrame struct {
	FromClient bool
	Header     TapHeader
	// Wire is the header as it was on the wire.
	Wire []byte
	// Payload is as it was on the wire: masked, if Header says so, and compressed, if its message is. It is shorter than
	// Header.Length if Cut.
	Payload []byte
	// Cut says that not all of Payload is there: it has more than TapConfig.FrameBytes, or the rest never came.
	Cut bool
	// Deflated says that the payload is compressed, or a part of what is.
	Deflated bool
	// First is, with the first of several frames of a compressed message, the first byte of what that is, if the frame tells it.
	First []byte
	// Joined says that the frame is made up: it is what the frames of an unfinished message had brought when the tap came.
	Joined bool
	// Message is, with the last frame of a compressed message, what that was. Nil with all others.
	Message *TapMessage
}

// Data returns the payload without its mask.
func (f *TapFrame) Data() []byte {
	data := append([]byte(nil), f.Payload...)
	if f.Header.Masked {
		codec.Mask(data, f.Header.Mask)
	}
	return data
}

// TapMessage is a message that was compressed.
type TapMessage struct {
	Opcode   Opcode
	Inflated []byte
	// Err says why Inflated is not the message, or only its beginning; empty if it is.
	Err string
}

// TapGap is what was left out of one direction, because the tap's reader did not come.
type TapGap struct {
	FromClient bool
	Frames     int64 // that began in it
	Bytes      int64
}

// TapFault is a violation of the protocol by the client.
type TapFault struct {
	Kind   string
	Code   CloseCode
	Reason string
}
