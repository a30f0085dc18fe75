package codec

// FaultKind names one way in which a peer can break the protocol. It is stable, small and dense: use it as an
// index into [NumFaultKinds] counters, and its String as a log value or a metric label.
type FaultKind uint8

// The kinds of fault, in the order in which a frame can show them.
const (
	// FaultOther is the kind of a Fault that was made outside of this package.
	FaultOther FaultKind = iota
	// FaultReservedBits is a frame with a reserved bit set that no extension gave a meaning. 1002.
	FaultReservedBits
	// FaultReservedOpcode is a frame with an opcode that has no meaning. 1002.
	FaultReservedOpcode
	// FaultControlFragmented is a control frame without FIN. 1002.
	FaultControlFragmented
	// FaultContinuationUnexpected is a continuation frame while no message is unfinished. 1002.
	FaultContinuationUnexpected
	// FaultContinuationMissing is a text or binary frame inside of a fragmented message. 1002.
	FaultContinuationMissing
	// FaultMaskMissing is an unmasked frame from a client. 1002.
	FaultMaskMissing
	// FaultMaskUnexpected is a masked frame from a server. 1002.
	FaultMaskUnexpected
	// FaultControlTooLong is a control frame with more than 125 bytes of payload. 1002.
	FaultControlTooLong
	// FaultLengthMSB is a 64-bit length with its most significant bit set. 1002.
	FaultLengthMSB
	// FaultLengthNotMinimal is a length that has a shorter encoding. 1002.
	FaultLengthNotMinimal
	// FaultMessageTooBig is a message whose declared length exceeds Options.MaxMessageBytes. 1009.
	FaultMessageTooBig
	// FaultInvalidUTF8 is a text message that is no UTF-8. 1007.
	FaultInvalidUTF8
	// FaultDeflateCorrupt is a compressed message that can't be inflated. 1007.
	FaultDeflateCorrupt
	// FaultDeflateTooBig is a compressed message that inflates to more than Options.MaxMessageBytes. 1009.
	FaultDeflateTooBig
	// FaultClosePayloadShort is a close frame with one byte of payload, which is half a close code. 1002.
	FaultClosePayloadShort
	// FaultCloseCodeInvalid is a close frame with a code that must not be sent. 1002.
	FaultCloseCodeInvalid
	// FaultCloseReasonInvalid is a close frame whose reason is no UTF-8. 1007.
	FaultCloseReasonInvalid

	numFaultKinds
)

// NumFaultKinds is the number of kinds, FaultOther included: every FaultKind of this package is below it.
const NumFaultKinds = int(numFaultKinds)

// String returns the stable name of k in lower case with underscores, for example "mask_missing".
func (k FaultKind) String() string {
	if k >= numFaultKinds {
		return "other"
	}
	return faults[k].label
}

// Fault is a violation of the protocol by the peer, and the close frame that answers it. RFC 6455 §7.1.7: the
// connection is failed, and nothing more of it is processed.
//
// The faults of this package are fixed values that are never changed, so returning one allocates nothing and two
// faults of a kind are the same pointer.
type Fault struct {
	// Kind is the label of the fault in logs and metrics.
	Kind FaultKind
	// Code is the close code to send.
	Code CloseCode
	// Reason is the short fixed text to send with Code. It says what was wrong and never quotes the peer.
	Reason string
}

// Error returns the kind and the reason.
func (f *Fault) Error() string { return f.Kind.String() + ": " + f.Reason }

// faultRow is a fault with the label of its kind.
type faultRow struct {
	label string
	fault Fault
}

// faults is the table of all faults by kind. It is written once, here.
var faults = [numFaultKinds]faultRow{
	FaultOther:                  row(FaultOther, "other", StatusInternalError, "internal error"),
	FaultReservedBits:           row(FaultReservedBits, "reserved_bits", StatusProtocolError, "reserved bits set"),
	FaultReservedOpcode:         row(FaultReservedOpcode, "reserved_opcode", StatusProtocolError, "reserved opcode"),
	FaultControlFragmented:      row(FaultControlFragmented, "control_fragmented", StatusProtocolError, "fragmented control frame"),
	FaultContinuationUnexpected: row(FaultContinuationUnexpected, "continuation_unexpected", StatusProtocolError, "continuation of nothing"),
	FaultContinuationMissing:    row(FaultContinuationMissing, "continuation_missing", StatusProtocolError, "expected a continuation frame"),
	FaultMaskMissing:            row(FaultMaskMissing, "mask_missing", StatusProtocolError, "frame is not masked"),
	FaultMaskUnexpected:         row(FaultMaskUnexpected, "mask_unexpected", StatusProtocolError, "frame is masked"),
	FaultControlTooLong:         row(FaultControlTooLong, "control_too_long", StatusProtocolError, "control frame longer than 125 bytes"),
	FaultLengthMSB:              row(FaultLengthMSB, "length_msb", StatusProtocolError, "payload length exceeds 63 bits"),
	FaultLengthNotMinimal:       row(FaultLengthNotMinimal, "length_not_minimal", StatusProtocolError, "payload length is not minimally encoded"),
	FaultMessageTooBig:          row(FaultMessageTooBig, "message_too_big", StatusMessageTooBig, "message too big"),
	FaultInvalidUTF8:            row(FaultInvalidUTF8, "invalid_utf8", StatusInvalidPayload, "text is not UTF-8"),
	FaultDeflateCorrupt:         row(FaultDeflateCorrupt, "deflate_corrupt", StatusInvalidPayload, "compressed message is corrupt"),
	FaultDeflateTooBig:          row(FaultDeflateTooBig, "deflate_too_big", StatusMessageTooBig, "message too big"),
	FaultClosePayloadShort:      row(FaultClosePayloadShort, "close_payload_short", StatusProtocolError, "close frame with one byte"),
	FaultCloseCodeInvalid:       row(FaultCloseCodeInvalid, "close_code_invalid", StatusProtocolError, "invalid close code"),
	FaultCloseReasonInvalid:     row(FaultCloseReasonInvalid, "close_reason_invalid", StatusInvalidPayload, "close reason is not UTF-8"),
}

// row fills one row of the table.
func row(k FaultKind, label string, code CloseCode, reason string) faultRow {
	return faultRow{label: label, fault: Fault{Kind: k, Code: code, Reason: reason}}
}

// fault returns the fixed fault of kind k.
func (k FaultKind) fault() *Fault { return &faults[k].fault }
