package codec

import "testing"

// TestValidPrefix compares validPrefix with the table of the Unicode Standard: all sequences of two bytes, all that
// begin with three interesting ones and go on with any byte, and the texts of the table of cases cut anywhere.
func TestValidPrefix(t *testing.T) {
	edges := []byte{
		0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC,
		0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF,
	}
	for a := range 256 {
		checkValidPrefix(t, []byte{byte(a)})
		for b := range 256 {
			checkValidPrefix(t, []byte{byte(a), byte(b)})
		}
	}
	for _, a := range edges {
		for _, b := range edges {
			for _, c := range edges {
				for d := range 256 {
					checkValidPrefix(t, []byte{a, b, c, byte(d)})
				}
				checkValidPrefix(t, []byte{a, b, c})
			}
		}
	}
	for _, u := range utf8Texts {
		for i := range len(u.text) + 1 {
			checkValidPrefix(t, []byte(u.text[:i]))
		}
	}
}

// checkValidPrefix compares one answer.
func checkValidPrefix(t *testing.T, b []byte) {
	t.Helper()
	n, ok := validPrefix(b)
	if ok != referenceUTF8(b, false) {
		t.Fatalf("validPrefix(% x): %v", b, ok)
	}
	if ok && (!referenceUTF8(b[:n], true) || len(b)-n > 3) {
		t.Fatalf("validPrefix(% x): %d bytes are not whole code points", b, n)
	}
	if ok && n < len(b) && referenceUTF8(b[n:], true) {
		t.Fatalf("validPrefix(% x): stopped at %d", b, n)
	}
}
