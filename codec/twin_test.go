package codec

import "encoding/binary"

// reference is the naive twin of Decoder: it has the whole stream, decodes frame by frame in the order of the RFC's
// text, copies everything and looks at text one byte at a time. It shares no code with Decoder but the names.
func reference(o Options, wire []byte) (out outcome) {
	limit := uint64(65536)
	if o.MaxMessageBytes != 0 {
		limit = uint64(o.MaxMessageBytes)
	}
	var message, window []byte
	var messageOp byte
	open, deflated := false, false
	for len(wire) > 0 {
		room := limit
		if deflated || wire[0]&0x40 != 0 {
			room += limit/64 + 64
		}
		size, length, fault := referenceHeader(o, wire, open, room-uint64(len(message)))
		if fault != 0 {
			out.fault = fault
			return out
		}
		if size == 0 {
			return out // more bytes are needed
		}
		var key [4]byte
		if !o.Client {
			copy(key[:], wire[size-4:size])
		}
		wire0 := wire[0]
		final, op := wire0 >= 0x80, wire0&0xF
		payload := append([]byte{}, wire[size:min(uint64(len(wire)), uint64(size)+length)]...)
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		complete := uint64(len(payload)) == length
		wire = wire[size+len(payload):]
		if op >= 8 {
			if complete {
				out.messages = append(out.messages, Message{Opcode(op), payload})
				if op == 8 {
					out.fault = referenceClose(payload)
					return out
				}
			}
			continue
		}
		if op != 0 {
			messageOp, deflated = op, wire0&0x40 != 0
		}
		message = append(message, payload...)
		open = true
		done := complete && final
		if done && deflated {
			deflated = false
			var err error
			if message, _, err = inflatePuff(message, window, int(limit)); err != nil {
				out.fault = map[error]FaultKind{errPuff: FaultDeflateCorrupt, errPuffTooBig: FaultDeflateTooBig}[err]
				return out
			}
			if o.TakeoverBits > 0 {
				window = append(window, message...)
				window = window[max(0, len(window)-1<<o.TakeoverBits):]
			}
		}
		if messageOp == 1 && !deflated && !referenceUTF8(message, done) {
			out.fault = FaultInvalidUTF8
			return out
		}
		if done {
			out.messages = append(out.messages, Message{Opcode(messageOp), message})
			message, open = nil, false
		}
	}
	return out
}

// referenceHeader returns the size of the header and the length of the payload, 0 for a header that isn't whole. A
// length of which bytes are missing is wrong if it is wrong with zeros and with ones in their place.
func referenceHeader(o Options, b []byte, open bool, room uint64) (size int, length uint64, fault FaultKind) {
	final, rsv, op := b[0] >= 0x80, b[0]>>4&7, b[0]&0xF
	control := op >= 8
	switch {
	case rsv != 0 && (rsv != 4 || !o.Deflate || (op != 1 && op != 2)):
		return 0, 0, FaultReservedBits
	case op != 0 && op != 1 && op != 2 && op != 8 && op != 9 && op != 10:
		return 0, 0, FaultReservedOpcode
	case control && !final:
		return 0, 0, FaultControlFragmented
	case !control && op == 0 && !open:
		return 0, 0, FaultContinuationUnexpected
	case !control && op != 0 && open:
		return 0, 0, FaultContinuationMissing
	case len(b) < 2:
		return 0, 0, 0
	case b[1] < 0x80 && !o.Client:
		return 0, 0, FaultMaskMissing
	case b[1] >= 0x80 && o.Client:
		return 0, 0, FaultMaskUnexpected
	case control && b[1]&0x7F > 125:
		return 0, 0, FaultControlTooLong
	}
	size = 2
	switch b[1] & 0x7F {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	withZeros := append(append([]byte{}, b[:min(size, len(b))]...), make([]byte, size)...)[:size]
	withOnes := append(append([]byte{}, b[:min(size, len(b))]...), 255, 255, 255, 255, 255, 255, 255, 255)[:size]
	length, fault = referenceLength(withZeros, control, room)
	if _, other := referenceLength(withOnes, control, room); other == fault && fault != 0 {
		return 0, 0, fault
	}
	if !o.Client {
		size += 4
	}
	if len(b) < size {
		return 0, 0, 0
	}
	return size, length, fault
}

// referenceLength reads a length that is there whole.
func referenceLength(b []byte, control bool, room uint64) (length uint64, fault FaultKind) {
	switch b[1] & 0x7F {
	case 126:
		length = uint64(binary.BigEndian.Uint16(b[2:4]))
		if length < 126 {
			return 0, FaultLengthNotMinimal
		}
	case 127:
		length = binary.BigEndian.Uint64(b[2:10])
		if length >= 1<<63 {
			return 0, FaultLengthMSB
		}
		if length < 65536 {
			return 0, FaultLengthNotMinimal
		}
	default:
		length = uint64(b[1] & 0x7F)
	}
	if !control && length > room {
		return 0, FaultMessageTooBig
	}
	return length, 0
}

// referenceClose judges the payload of a close frame.
func referenceClose(payload []byte) FaultKind {
	if len(payload) == 0 {
		return 0
	}
	if len(payload) == 1 {
		return FaultClosePayloadShort
	}
	code := int(payload[0])<<8 | int(payload[1])
	known := false
	for _, c := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014} {
		known = known || c == code
	}
	if !known && (code < 3000 || code > 4999) {
		return FaultCloseCodeInvalid
	}
	if !referenceUTF8(payload[2:], true) {
		return FaultCloseReasonInvalid
	}
	return 0
}

// referenceUTF8 reports whether b is UTF-8, or, unless whole, the start of some. The rows are Table 3-7 of the
// Unicode Standard, "Well-Formed UTF-8 Byte Sequences".
func referenceUTF8(b []byte, whole bool) bool {
	type span struct{ low, high byte }
	rest := span{0x80, 0xBF}
	table := [][]span{
		{{0x00, 0x7F}},
		{{0xC2, 0xDF}, rest},
		{{0xE0, 0xE0}, {0xA0, 0xBF}, rest},
		{{0xE1, 0xEC}, rest, rest},
		{{0xED, 0xED}, {0x80, 0x9F}, rest},
		{{0xEE, 0xEF}, rest, rest},
		{{0xF0, 0xF0}, {0x90, 0xBF}, rest, rest},
		{{0xF1, 0xF3}, rest, rest, rest},
		{{0xF4, 0xF4}, {0x80, 0x8F}, rest, rest},
	}
	var expected []span
next:
	for _, c := range b {
		if len(expected) == 0 {
			for _, row := range table {
				if row[0].low <= c && c <= row[0].high {
					expected = row[1:]
					continue next
				}
			}
			return false
		}
		if c < expected[0].low || c > expected[0].high {
			return false
		}
		expected = expected[1:]
	}
	return !whole || len(expected) == 0
}
