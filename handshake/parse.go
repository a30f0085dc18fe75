package handshake

import (
	"bytes"
	"encoding/base64"
)

// header is a request header that is HTTP to the letter. Its slices are parts of
// the header's bytes.
type header struct {
	target
	host      []byte // of the target if it has one, else the Host field
	origin    []byte
	key       []byte
	protocols int // lines of Sec-WebSocket-Protocol

	extensions [maxExtensionFields][]byte // values of Sec-WebSocket-Extensions
	extended   int                        // how many there are

	upgrade, connection list
	seen                uint8 // the fields met that may come only once

	// digest is what ws.Upgrader gets to read: the request line and the fields that it
	// judges. It judges every line by itself, takes Upgrade for one word and does not
	// know that a tab is space, so the lists come as one line, or not at all when they
	// don't name what they must; RFC 9110 §5.3 lets a recipient join the lines of a
	// list. The other fields would only cost it time (BenchmarkUpgrade/browser: 450 ns
	// of 2000).
	digest []byte
}

// The fields that may come only once, as bits of header.seen.
const (
	hostSeen = 1 << iota
	originSeen
	keySeen
	versionSeen
	lengthSeen
)

// parse reads head, which must end with its blank line. It checks what ws.Upgrader
// does not, and leaves the rest to it in h.digest.
func (h *header) parse(head []byte) *Fault {
	line, rest, ok := cutLine(head)
	if !ok || !h.parseRequestLine(line) {
		return ErrBadRequestLine
	}
	h.digest = append(h.digest, head[:len(head)-len(rest)]...)
	for string(rest) != "\r\n" {
		b := rest
		var name, value []byte
		if name, value, rest, ok = cutField(b); !ok {
			return ErrBadHeader
		}
		judged, f := h.field(name, value)
		if f != nil {
			return f
		}
		if judged {
			h.digest = append(h.digest, b[:len(b)-len(rest)]...)
		}
	}
	if h.upgrade.ok() {
		h.digest = append(h.digest, "Upgrade: websocket\r\n"...)
	}
	if h.connection.ok() {
		h.digest = append(h.digest, "Connection: Upgrade\r\n"...)
	}
	h.digest = append(h.digest, "\r\n"...)
	// RFC 9112 §3.2.2: "When an origin server receives a request with an
	// absolute-form of request-target, the origin server MUST ignore the received
	// Host header field (if any) and instead use the host information of the
	// request-target."
	if h.authority != nil {
		h.host = h.authority
	}
	return nil
}

// parseRequestLine checks the line's form: a token, the target and the version
// with one space between. Which method and which version is not decided here.
func (h *header) parseRequestLine(line []byte) (ok bool) {
	method, rest, _ := bytes.Cut(line, []byte{' '})
	uri, version, _ := bytes.Cut(rest, []byte{' '})
	if !isToken(method) || !isVersion(version) {
		return false
	}
	h.target, ok = parseTarget(uri)
	return ok
}

// isVersion reports whether b is an HTTP-version of RFC 9112 §2.3: one digit, a
// dot, one digit.
func isVersion(b []byte) bool {
	return len(b) == len("HTTP/1.1") && string(b[:5]) == "HTTP/" &&
		b[5] >= '0' && b[5] <= '9' && b[6] == '.' && b[7] >= '0' && b[7] <= '9'
}

// field takes in one field and reports whether its line is for ws.Upgrader to judge.
func (h *header) field(name, value []byte) (judged bool, f *Fault) {
	switch len(name) {
	case len("Host"):
		if equalFold(name, "Host") {
			return true, h.hostField(value)
		}
	case len("Origin"):
		if equalFold(name, "Origin") {
			h.origin = value
			return false, h.once(originSeen)
		}
	case len("Upgrade"):
		if equalFold(name, "Upgrade") {
			h.upgrade.add(value, "websocket", isProtocol)
		}
	case len("Connection"):
		if equalFold(name, "Connection") {
			h.connection.add(value, "Upgrade", isToken)
		}
	case len("Content-Length"):
		if equalFold(name, "Content-Length") {
			return false, h.lengthField(value)
		}
	case len("Transfer-Encoding"): // and Sec-WebSocket-Key
		if equalFold(name, "Transfer-Encoding") {
			return false, ErrBody
		}
		if equalFold(name, "Sec-WebSocket-Key") {
			h.key = value
			return true, h.once(keySeen)
		}
	case len("Sec-WebSocket-Version"):
		if equalFold(name, "Sec-WebSocket-Version") {
			return true, h.once(versionSeen)
		}
	case len("Sec-WebSocket-Protocol"):
		if equalFold(name, "Sec-WebSocket-Protocol") {
			return true, h.protocolField(value)
		}
	case len("Sec-WebSocket-Extensions"):
		if equalFold(name, "Sec-WebSocket-Extensions") {
			return false, h.extensionsField(value)
		}
	}
	return false, nil
}

// once records a field that may come only once. Of two, one program would believe
// the first and another the second.
func (h *header) once(field uint8) *Fault {
	if h.seen&field != 0 {
		return ErrDuplicateHeader
	}
	h.seen |= field
	return nil
}

func (h *header) hostField(value []byte) *Fault {
	// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to
	// any HTTP/1.1 request message that lacks a Host header field and to any request
	// message that contains more than one Host header field line or a Host header
	// field with an invalid field value."
	if f := h.once(hostSeen); f != nil {
		return f
	}
	if !isAuthority(value) {
		return ErrBadHost
	}
	h.host = value
	return nil
}

func (h *header) lengthField(value []byte) *Fault {
	// The octets of a body would be taken for frames.
	if !isZero(value) {
		return ErrBody
	}
	return h.once(lengthSeen)
}

func (h *header) protocolField(value []byte) *Fault {
	// RFC 6455 §4.1: the elements "MUST be non-empty strings with characters in the
	// range U+0021 to U+007E not including separator characters ... The ABNF for the
	// value of this header field is 1#token".
	if !isTokenList(value) {
		return ErrBadSubprotocol
	}
	h.protocols++
	return nil
}

func (h *header) extensionsField(value []byte) *Fault {
	// RFC 6455 §9.1: "If a value is received by either the client or the server
	// during negotiation that does not conform to the ABNF below, the recipient of
	// such malformed data MUST immediately _Fail the WebSocket Connection_."
	if !isExtensionList(value) {
		return ErrBadExtensions
	}
	if h.extended < maxExtensionFields {
		h.extensions[h.extended] = value
		h.extended++
	}
	return nil
}

// isZero reports whether b is a number that is zero.
func isZero(b []byte) bool {
	for _, c := range b {
		if c != '0' {
			return false
		}
	}
	return len(b) > 0
}

// isKey reports whether b is the base64 of 16 octets. RFC 6455 §4.2.1: "a
// base64-encoded (see Section 4 of [RFC4648]) value that, when decoded, is 16 bytes
// in length." The four bits that the encoding has to spare may be anything.
func isKey(b []byte) bool {
	const encoded, decoded = 24, 16
	if len(b) != encoded {
		return false
	}
	var buf [encoded / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(buf[:], b)
	return err == nil && n == decoded
}
