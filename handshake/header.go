package handshake

import "bytes"

// HeaderEnd returns the index just past the blank line that ends the header in b,
// or -1 when b does not hold it yet. from is the length that b had when it was
// last searched, 0 at first, so that a header that comes byte by byte costs linear
// work in all; HeaderEnd looks back as far as a line end can be split.
//
// A line ends with LF, with or without a CR before it, because that is how HTTP
// servers find the end. That Upgrade refuses a bare LF is another matter: the
// client gets its answer at once and not after a timeout.
func HeaderEnd(b []byte, from int) int {
	// The longest end is LF CR LF, two octets of which may have been there before.
	for i := max(from-2, 0); i < len(b); {
		lf := bytes.IndexByte(b[i:], '\n')
		if lf < 0 {
			return -1
		}
		i += lf + 1
		switch rest := b[i:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
	return -1
}

// IsUpgrade reports whether head, a request header through its blank line, tries
// to open a WebSocket: it names websocket in an Upgrade field, or has a
// Sec-WebSocket-Key or Sec-WebSocket-Version field. Anything else is a plain HTTP
// request. The attempt may be malformed, that is for Upgrade to answer.
//
// It looks at each octet once and does not allocate.
func IsUpgrade(head []byte) bool {
	_, rest, _ := bytes.Cut(head, []byte{'\n'}) // the request line
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\r'}), []byte{':'})
		name = trimSpace(name)
		switch len(name) {
		case len("upgrade"):
			if equalFold(name, "Upgrade") && namesWebSocket(value) {
				return true
			}
		case len("sec-websocket-key"):
			if equalFold(name, "Sec-WebSocket-Key") {
				return true
			}
		case len("sec-websocket-version"):
			if equalFold(name, "Sec-WebSocket-Version") {
				return true
			}
		}
	}
	return false
}

func namesWebSocket(value []byte) bool {
	var l list
	l.add(value, "websocket", isProtocol)
	return l.named
}

// cutLine cuts the first line off b. line comes without its CRLF; ok is false when
// b holds no LF or a CR does not stand before it.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	lf := bytes.IndexByte(b, '\n')
	if lf < 1 || b[lf-1] != '\r' {
		return nil, b, false
	}
	return b[:lf-1], b[lf+1:], true
}

// cutField cuts the first field line off b. value comes without the space around it;
// ok is false when b does not begin with a field line of RFC 9112 §5 and its CRLF.
func cutField(b []byte) (name, value, rest []byte, ok bool) {
	colon := 0
	for colon < len(b) && octets[b[colon]]&tokenOctet != 0 {
		colon++
	}
	// RFC 9112 §5.1: "A server MUST reject, with a response status code of 400 (Bad
	// Request), any received request message that contains whitespace between a
	// header field name and colon." A space is no token character, and neither is
	// the one that begins an obs-fold: §5.2: "A server that receives an obs-fold in
	// a request message ... MUST either reject the message by sending a 400 (Bad
	// Request) ... or replace each received obs-fold".
	if colon == 0 || colon == len(b) || b[colon] != ':' {
		return nil, nil, b, false
	}
	name, rest = b[:colon], b[colon+1:]
	end := valueEnd(rest)
	if len(rest)-end < 2 || rest[end] != '\r' || rest[end+1] != '\n' {
		return nil, nil, b, false
	}
	return name, trimSpace(rest[:end]), rest[end+2:], true
}
