package handshake

import (
	"bytes"
	"testing"
)

// naiveValueEnd is valueEnd's twin.
func naiveValueEnd(b []byte) int {
	for i, c := range b {
		if octets[c]&valueOctet == 0 {
			return i
		}
	}
	return len(b)
}

// Each octet at each place of each length, with and without another end after it.
func TestValueEnd(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				for _, filler := range []byte{'a', '\t', 0xff, ' ', '~', 0x80} {
					b := bytes.Repeat([]byte{filler}, n)
					b[at] = byte(c)
					if got, want := valueEnd(b), naiveValueEnd(b); got != want {
						t.Fatalf("valueEnd(%q) = %d, want %d", b, got, want)
					}
					b[n-1] = '\r'
					if got, want := valueEnd(b), naiveValueEnd(b); got != want {
						t.Fatalf("valueEnd(%q) = %d, want %d", b, got, want)
					}
				}
			}
		}
	}
}

func TestValueOctets(t *testing.T) {
	for c := range 256 {
		// RFC 9110 §5.5: VCHAR, obs-text, SP and HTAB.
		want := c >= 0x21 && c <= 0x7e || c >= 0x80 || c == ' ' || c == '\t'
		if got := octets[c]&valueOctet != 0; got != want {
			t.Errorf("%#x: %t", c, got)
		}
	}
}
