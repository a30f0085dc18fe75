package handshake

import (
	"encoding/binary"
	"math/bits"
)

// The classes of octets in HTTP's grammar, as bits of octets.
const (
	tokenOctet  = 1 << iota // RFC 9110 §5.6.2: tchar
	valueOctet              // RFC 9110 §5.5: VCHAR, obs-text, SP, HTAB
	targetOctet             // RFC 3986: what a request-target may hold, and what browsers put there
	hostOctet               // RFC 3986 §3.2.2: a reg-name without percent-encoding
)

// octets maps every octet to its classes. It never changes.
var octets = classifyOctets()

func classifyOctets() (t [256]uint8) {
	for c := range t {
		alphanumeric := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if alphanumeric {
			t[c] |= tokenOctet | hostOctet
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueOctet
		}
		// A fragment is never sent (RFC 9110 §7.1). Marks such as | and { are not
		// URI characters, but the URL standard leaves them raw in a query.
		if c > ' ' && c < 0x7f && c != '#' {
			t[c] |= targetOctet
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenOctet
	}
	for _, c := range []byte("-._~!$&'()*+,;=") {
		t[c] |= hostOctet
	}
	return t
}

// allOctets reports whether every octet of b is in class.
func allOctets(b []byte, class uint8) bool {
	for _, c := range b {
		if octets[c]&class == 0 {
			return false
		}
	}
	return true
}

// valueEnd returns the length of the field value, with the space around it, that b
// begins with. It takes eight octets at a time, up to where one of them is a control
// character (BenchmarkUpgrade/browser: 250 ns less).
func valueEnd(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		del := x ^ 0x7f*ones
		// The high bit of an octet survives where the octet is less than a space, or
		// where it was DEL.
		hits := ((x-' '*ones)&^x | (del-ones)&^del) & highs
		if hits == 0 {
			n += 8
			continue
		}
		// A borrow may leave false hits, but above a true one only.
		if n += bits.TrailingZeros64(hits) / 8; b[n] != '\t' {
			return n
		}
		n++
	}
	for n < len(b) && octets[b[n]]&valueOctet != 0 {
		n++
	}
	return n
}

// isToken reports whether b is a token of RFC 9110 §5.6.2.
func isToken(b []byte) bool { return len(b) > 0 && allOctets(b, tokenOctet) }

// equalFold reports whether b is s, but for the case of ASCII letters.
func equalFold(b []byte, s string) bool {
	if string(b) == s {
		return true
	}
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if toLower(c) != toLower(s[i]) {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// trimSpace cuts optional whitespace (RFC 9110 §5.6.3) off both ends of b.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
