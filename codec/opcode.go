package codec

// Opcode says what a frame carries. RFC 6455 §5.2.
type Opcode byte

// The opcodes of RFC 6455 §11.8. All others are reserved and refused.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// IsControl reports whether op is a control opcode, a reserved one included. RFC 6455 §5.5: they are those whose
// most significant bit is 1.
func (op Opcode) IsControl() bool { return op&0x8 != 0 }

// String returns the RFC's word for op, or "reserved".
func (op Opcode) String() string {
	switch op {
	case OpContinuation:
		return "continuation"
	case OpText:
		return "text"
	case OpBinary:
		return "binary"
	case OpClose:
		return "close"
	case OpPing:
		return "ping"
	case OpPong:
		return "pong"
	}
	return "reserved"
}

// defined reports whether RFC 6455 gives op a meaning.
func (op Opcode) defined() bool {
	return op <= OpBinary || (op >= OpClose && op <= OpPong)
}
