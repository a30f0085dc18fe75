package codec

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// CloseCode is the status code of a close frame. RFC 6455 §7.4.
type CloseCode uint16

// The close codes of RFC 6455 §7.4.1 and of IANA's WebSocket Close Code Number registry. 3000 to 3999 belong to
// libraries and frameworks, 4000 to 4999 to applications.
const (
	StatusNormal          CloseCode = 1000
	StatusGoingAway       CloseCode = 1001
	StatusProtocolError   CloseCode = 1002
	StatusUnsupportedData CloseCode = 1003

	// StatusNoStatus stands for a close frame without a code. It is never sent.
	StatusNoStatus CloseCode = 1005
	// StatusAbnormal stands for a connection that ended without a close frame. It is never sent.
	StatusAbnormal CloseCode = 1006

	StatusInvalidPayload     CloseCode = 1007
	StatusPolicyViolation    CloseCode = 1008
	StatusMessageTooBig      CloseCode = 1009
	StatusMandatoryExtension CloseCode = 1010
	StatusInternalError      CloseCode = 1011
	StatusServiceRestart     CloseCode = 1012
	StatusTryAgainLater      CloseCode = 1013
	StatusBadGateway         CloseCode = 1014

	// StatusTLSHandshake stands for a failed TLS handshake. It is never sent.
	StatusTLSHandshake CloseCode = 1015
)

// maxReasonBytes is the room that a code leaves for the reason in a control frame.
const maxReasonBytes = maxControlBytes - 2

// ValidOnWire reports whether c may stand in a close frame: 1000 to 1003, 1007 to 1014, 3000 to 4999.
//
// RFC 6455 §7.4.1 on 1005, 1006 and 1015: "a reserved value and MUST NOT be set as a status code in a Close control
// frame by an endpoint". §7.4.2: 0 to 999 are not used, and 1000 to 2999 are for the protocol to define; 1004 and
// those above 1015 have no meaning yet.
func (c CloseCode) ValidOnWire() bool {
	switch {
	case c >= 1000 && c <= 1003, c >= 1007 && c <= 1014, c >= 3000 && c <= 4999:
		return true
	}
	return false
}

// ParseClose reads the payload of a close frame. An empty payload is StatusNoStatus. The reason is a copy. The
// error is always a *Fault: one byte is half a code (1002), a code that may not be on the wire is 1002, a reason
// that is no UTF-8 is 1007. Any goroutine. RFC 6455 §5.5.1 and §7.1.5.
func ParseClose(payload []byte) (code CloseCode, reason string, err error) {
	switch len(payload) {
	case 0:
		return StatusNoStatus, "", nil
	case 1:
		// RFC 6455 §5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer
		// (in network byte order) representing a status code".
		return 0, "", FaultClosePayloadShort.fault()
	}
	code = CloseCode(binary.BigEndian.Uint16(payload))
	if !code.ValidOnWire() {
		return 0, "", FaultCloseCodeInvalid.fault()
	}
	if !utf8.Valid(payload[2:]) {
		// RFC 6455 §8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is
		// not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
		return 0, "", FaultCloseReasonInvalid.fault()
	}
	return code, string(payload[2:]), nil
}

// AppendClose appends an unmasked close frame to dst and returns the longer slice. The rules for code and reason
// are those of AppendClosePayload. Any goroutine.
func AppendClose(dst []byte, code CloseCode, reason string) []byte {
	at := len(dst)
	dst = append(dst, finBit|byte(OpClose), 0)
	dst = AppendClosePayload(dst, code, reason)
	dst[at+1] = byte(len(dst) - at - 2)
	return dst
}

// AppendClosePayload appends the payload of a close frame to dst, at most 125 bytes, and returns the longer slice.
//
// Code 0 and StatusNoStatus give an empty payload, and reason is not sent. A code that may not be on the wire
// becomes StatusInternalError, for it is an error of the caller's that the peer must not suffer for. The reason is
// cut to 123 bytes at the start of a code point, and what is no UTF-8 in it becomes U+FFFD, because the peer would
// have to fail the connection over it. Any goroutine. RFC 6455 §5.5.1.
func AppendClosePayload(dst []byte, code CloseCode, reason string) []byte {
	if code == 0 || code == StatusNoStatus {
		return dst
	}
	if !code.ValidOnWire() {
		code = StatusInternalError
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	reason = cutReason(reason)
	if !utf8.ValidString(reason) {
		reason = cutReason(strings.ToValidUTF8(reason, "\uFFFD"))
	}
	return append(dst, reason...)
}

// cutReason returns the longest prefix of s that fits a close frame and does not end inside of a code point.
func cutReason(s string) string {
	if len(s) <= maxReasonBytes {
		return s
	}
	n := maxReasonBytes
	for n > maxReasonBytes-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
