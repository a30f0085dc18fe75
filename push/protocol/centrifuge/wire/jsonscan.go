package wire

import (
	"encoding/json"
	"errors"
)

var (
	errSyntax = errors.New("not JSON")
	errCut    = errors.New("the JSON ends early")
)

// scanner cuts JSON text, RFC 8259, into its tokens. It looks at every byte once,
// and at those of raw values twice.
type scanner struct {
	text []byte
	at   int // how much of text is read
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// trimSpace returns b without the white space at its beginning.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

// peek returns the first byte of the next token, or 0 at the end of the text.
func (s *scanner) peek() byte {
	for s.at < len(s.text) && isSpace(s.text[s.at]) {
		s.at++
	}
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// more reads up to the next element of an object or array, or past its end,
// which is a '}' or ']'. It reports whether there is an element.
func (s *scanner) more(end byte, isFirst bool) (bool, error) {
	switch next := s.peek(); {
	case next == 0:
		return false, errCut
	case next == end:
		s.at++
		return false, nil
	case isFirst:
		return true, nil
	case next == ',':
		s.at++
		if s.peek() == end {
			return false, errSyntax // RFC 8259 has no trailing commas
		}
		return true, nil
	}
	return false, errSyntax
}

// key reads the name of a member and the colon. The name is good until the text
// changes.
func (s *scanner) key() ([]byte, error) {
	if s.peek() != '"' {
		return nil, errSyntax
	}
	name, err := s.string()
	if err != nil {
		return nil, err
	}
	if s.peek() != ':' {
		return nil, errSyntax
	}
	s.at++
	return name, nil
}

// string reads a string, at whose quote it stands. The result points into the
// text if nothing in it is escaped.
func (s *scanner) string() ([]byte, error) {
	start, isPlain := s.at, true
	for i := start + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			if isPlain {
				return s.text[start+1 : i], nil
			}
			return unquote(s.text[start:s.at])
		case c == '\\':
			isPlain = false
			i++
		case c < ' ':
			return nil, errSyntax
		}
	}
	return nil, errCut
}

func unquote(quoted []byte) ([]byte, error) {
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, errSyntax
	}
	return []byte(text), nil
}

// value reads any value and returns it as it stands in the text.
func (s *scanner) value() ([]byte, error) {
	if s.peek() == 0 {
		return nil, errCut
	}
	value := s.text[s.at : s.at+extent(s.text[s.at:])]
	if !json.Valid(value) {
		return nil, errSyntax
	}
	s.at += len(value)
	return value, nil
}

// extent returns how long the JSON value at the beginning of b is. If there is
// none, then what it measures is not JSON either.
func extent(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			i = closingQuote(b, i)
		case c == '{' || c == '[':
			depth++
			continue
		case c == '}' || c == ']':
			if depth == 0 {
				return i // of what holds this number, true, false or null
			}
			depth--
		case depth > 0 || c != ',' && !isSpace(c):
			continue
		default:
			return i
		}
		if depth == 0 {
			return min(i+1, len(b))
		}
	}
	return len(b)
}

// closingQuote returns where the string that begins at b[i] ends, or len(b) or
// one more if it doesn't.
func closingQuote(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}
