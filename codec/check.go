package codec

// check returns the fault that the header bytes in b show, or nil. b may be any prefix of a header, and may go on
// after it. The checks stand in the order of the bytes, so that the fault found does not depend on how much of the
// header is there.
func (d *Decoder) check(o *Options, b []byte) *Fault {
	if len(b) == 0 {
		return nil
	}
	if rsv := b[0] & rsvBits; rsv != 0 && !(rsv == rsv1 && o.Deflate && startsMessage(b[0])) {
		// RFC 6455 §5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values. If
		// a nonzero value is received and none of the negotiated extensions defines the meaning of such a nonzero
		// value, the receiving endpoint MUST _Fail the WebSocket Connection_."
		// RFC 7692 §6.1: "This bit MUST be set to 0 for control frames" and for all but the first frame of a message.
		return FaultReservedBits.fault()
	}
	if f := checkOpcode(b[0]); f != nil {
		return f
	}
	op := Opcode(b[0] & opcodeBits)
	if f := checkSequence(op, d.fragmented()); f != nil {
		return f
	}
	if len(b) == 1 {
		return nil
	}
	if f := checkMask(b[1], o.Client); f != nil {
		return f
	}
	if f := checkControlLength(b[0], b[1]); f != nil {
		return f
	}
	if f := checkLengthForm(b); f != nil {
		return f
	}
	limit := o.maxPayload(b[0]&rsv1 != 0 || d.deflated()) - d.assembled()
	if least, _ := lengthBounds(b); !op.IsControl() && least > uint64(limit) {
		// RFC 6455 §10.4: "Implementations that have implementation- and/or platform-specific limitations regarding
		// the frame size or total message size after reassembly from multiple frames MUST protect themselves
		// against exceeding those limits."
		return FaultMessageTooBig.fault()
	}
	return nil
}

// startsMessage reports whether first, the first byte of a frame, begins a message of data.
func startsMessage(first byte) bool {
	op := Opcode(first & opcodeBits)
	return op == OpText || op == OpBinary
}

// checkSequence judges whether a frame with op may come now. RFC 6455 §5.4.
func checkSequence(op Opcode, fragmented bool) *Fault {
	switch {
	case op.IsControl():
		// RFC 6455 §5.4: "Control frames MAY be injected in the middle of a fragmented message."
		return nil
	case fragmented && op != OpContinuation:
		// RFC 6455 §5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another
		// message unless an extension has been negotiated that can interpret the interleaving."
		return FaultContinuationMissing.fault()
	case !fragmented && op == OpContinuation:
		// RFC 6455 §5.4: "A fragmented message consists of a single frame with the FIN bit clear and an opcode other
		// than 0, followed by zero or more frames with the FIN bit clear and the opcode set to 0, and terminated by
		// a single frame with the FIN bit set and an opcode of 0."
		return FaultContinuationUnexpected.fault()
	}
	return nil
}

// checkMask judges the mask bit in second, the second byte of a frame.
func checkMask(second byte, client bool) *Fault {
	masked := second&maskBit != 0
	switch {
	case !client && !masked:
		// RFC 6455 §5.1: "The server MUST close the connection upon receiving a frame that is not masked."
		return FaultMaskMissing.fault()
	case client && masked:
		// RFC 6455 §5.1: "A client MUST close a connection if it detects a masked frame."
		return FaultMaskUnexpected.fault()
	}
	return nil
}

// checkForm returns the fault that the header bytes in b show without any knowledge of the connection, or nil.
// b may be any prefix of a header, and may go on after it.
func checkForm(b []byte) *Fault {
	if len(b) == 0 {
		return nil
	}
	if f := checkOpcode(b[0]); f != nil {
		return f
	}
	if len(b) == 1 {
		return nil
	}
	if f := checkControlLength(b[0], b[1]); f != nil {
		return f
	}
	return checkLengthForm(b)
}

// checkOpcode judges the opcode and the FIN bit in first, the first byte of a frame.
func checkOpcode(first byte) *Fault {
	op := Opcode(first & opcodeBits)
	if !op.defined() {
		// RFC 6455 §5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
		// Connection_."
		return FaultReservedOpcode.fault()
	}
	if op.IsControl() && first&finBit == 0 {
		// RFC 6455 §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
		// fragmented."
		return FaultControlFragmented.fault()
	}
	return nil
}

// checkControlLength judges the payload length of a control frame by the first two bytes of the frame.
func checkControlLength(first, second byte) *Fault {
	if Opcode(first&opcodeBits).IsControl() && second&lengthBits > maxControlBytes {
		// RFC 6455 §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
		// fragmented."
		return FaultControlTooLong.fault()
	}
	return nil
}

// checkLengthForm judges how the payload length is encoded. b holds two bytes of the header or more.
func checkLengthForm(b []byte) *Fault {
	least, most := lengthBounds(b)
	size := b[1] & lengthBits
	if size == length64 && least>>63 != 0 {
		// RFC 6455 §5.2: "If 127, the following 8 bytes interpreted as a 64-bit unsigned integer (the most
		// significant bit MUST be 0) are the payload length."
		return FaultLengthMSB.fault()
	}
	if (size == length16 && most < length16) || (size == length64 && most <= 0xFFFF) {
		// RFC 6455 §5.2: "Note that in all cases, the minimal number of bytes MUST be used to encode the length".
		return FaultLengthNotMinimal.fault()
	}
	return nil
}
