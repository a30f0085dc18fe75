package codec

import "unicode/utf8"

// validPrefix reports whether b can be the start of valid UTF-8, and how many of its bytes are whole code points:
// all of b but a last code point of which bytes are still missing. Surrogates, overlong forms and values above
// U+10FFFF are refused at the first byte that shows them, for RFC 6455 §8.1 is best served early.
//
// It runs at the speed of utf8.Valid, and a caller that goes on from n looks at no more than three bytes twice.
func validPrefix(b []byte) (n int, ok bool) {
	n = len(b)
	for i := len(b) - 1; i >= 0 && i >= len(b)-(utf8.UTFMax-1); i-- {
		if !utf8.RuneStart(b[i]) {
			continue
		}
		if !utf8.FullRune(b[i:]) {
			n = i
		}
		break
	}
	return n, utf8.Valid(b[:n])
}
