package handshake

import "bytes"

// list is what is known of a comma-separated field, over all its lines: RFC 9110
// §5.3 gives them one meaning, that of the values joined by commas.
type list struct {
	lines     int
	named     bool // some element is the one looked for
	malformed bool // some element has not the field's form
}

// ok reports whether the field is well-formed and names the element.
func (l *list) ok() bool { return l.named && !l.malformed }

// add reads the value of one more line. want is the element looked for, in any
// case; valid tells the form of an element. Empty elements of a list are to be
// ignored (RFC 9110 §5.6.1.2).
func (l *list) add(value []byte, want string, valid func([]byte) bool) {
	l.lines++
	for len(value) > 0 {
		var element []byte
		element, value = cutElement(value)
		switch {
		case equalFold(element, want):
			l.named = true
		case len(element) > 0 && !valid(element):
			l.malformed = true
		}
	}
}

// isProtocol reports whether b is an element of an Upgrade field: a protocol's
// name, or name and version with a slash between (RFC 9110 §7.8).
func isProtocol(b []byte) bool {
	name, version, both := bytes.Cut(b, []byte{'/'})
	return isToken(name) && (!both || isToken(version))
}

// cutElement cuts the first element off a comma-separated list.
func cutElement(b []byte) (element, rest []byte) {
	comma := bytes.IndexByte(b, ',')
	if comma < 0 {
		return trimSpace(b), nil
	}
	return trimSpace(b[:comma]), b[comma+1:]
}

// isTokenList reports whether b is 1#token: tokens and commas, one token at least.
func isTokenList(b []byte) bool {
	found := false
	for len(b) > 0 {
		var element []byte
		element, b = cutElement(b)
		if len(element) == 0 {
			continue
		}
		if !isToken(element) {
			return false
		}
		found = true
	}
	return found
}
