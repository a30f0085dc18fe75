package fossil

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// What Apply's errors wrap.
var (
	// ErrMalformed: these bytes are no delta, or none of this source.
	ErrMalformed = errors.New("fossil: malformed delta")

	// ErrTooLarge: the target would have more bytes than the caller allows.
	ErrTooLarge = errors.New("fossil: target too large")

	// ErrChecksum: the result is not the target that the delta was made of, most
	// likely because the source is another.
	ErrChecksum = errors.New("fossil: wrong checksum")
)

// Apply returns the target that delta makes of source. The caller owns it.
//
// The delta may come from anyone. One that promises a target of more than
// maxBytes is refused before anything is allocated, and a target that differs
// from what was promised in length or checksum is not returned. The errors wrap
// ErrMalformed, ErrTooLarge or ErrChecksum.
//
// It is stricter than the format's reference: a number has at least one digit
// and at most 32 bits, and nothing may follow the checksum.
func Apply(source, delta []byte, maxBytes int) ([]byte, error) {
	r := reader{delta: delta}
	length, sign, err := r.number()
	if err != nil {
		return nil, err
	}
	if sign != '\n' {
		return nil, r.malformed("no newline after the length")
	}
	if int64(length) > int64(maxBytes) {
		return nil, fmt.Errorf("%w: %d bytes of at most %d", ErrTooLarge, length, maxBytes)
	}
	target, sum, err := r.segments(make([]byte, 0, length), source)
	if err != nil {
		return nil, err
	}
	if len(target) != int(length) {
		return nil, r.malformed("the target is shorter than its length")
	}
	if sum != checksum(target) {
		return nil, ErrChecksum
	}
	return target, nil
}

// reader reads a delta from its byte at on.
type reader struct {
	delta []byte
	at    int
}

// segments carries out all segments: it appends the target to target, within
// its capacity, and returns it with the checksum that follows.
func (r *reader) segments(target, source []byte) ([]byte, uint32, error) {
	for {
		n, sign, err := r.number()
		if err != nil {
			return nil, 0, err
		}
		if sign == ';' {
			if r.at < len(r.delta) {
				return nil, 0, r.malformed("bytes after the checksum")
			}
			return target, n, nil
		}
		if uint64(n) > uint64(cap(target)-len(target)) {
			return nil, 0, r.malformed("the target is longer than its length")
		}
		part, err := r.segment(n, sign, source)
		if err != nil {
			return nil, 0, err
		}
		target = append(target, part...)
	}
}

// segment returns the n bytes of a copy or literal, of which number and sign
// are read. They belong to source or to the delta.
func (r *reader) segment(n uint32, sign byte, source []byte) ([]byte, error) {
	switch sign {
	case '@':
		offset, sign, err := r.number()
		if err != nil {
			return nil, err
		}
		if sign != ',' {
			return nil, r.malformed("no comma after a copy's offset")
		}
		end := uint64(offset) + uint64(n)
		if end > uint64(len(source)) {
			return nil, r.malformed("copy beyond the source's end")
		}
		return source[offset:end], nil
	case ':':
		if uint64(n) > uint64(len(r.delta)-r.at) {
			return nil, r.malformed("literal beyond the delta's end")
		}
		r.at += int(n)
		return r.delta[r.at-int(n) : r.at], nil
	default:
		return nil, r.malformed("neither copy nor literal nor checksum")
	}
}

// number reads a number and the sign behind it.
func (r *reader) number() (n uint32, sign byte, err error) {
	value := uint64(0)
	for begin := r.at; r.at < len(r.delta); r.at++ {
		d, ok := digit(r.delta[r.at])
		if !ok && r.at == begin {
			return 0, 0, r.malformed("no number")
		}
		if !ok {
			r.at++
			return uint32(value), r.delta[r.at-1], nil
		}
		value = value<<6 | uint64(d)
		if value > math.MaxUint32 {
			return 0, 0, r.malformed("number beyond 32 bits")
		}
	}
	return 0, 0, r.malformed("unexpected end")
}

// digit returns the value of a digit of Fossil's base 64.
func digit(c byte) (value byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'Z':
		return c - 'A' + 10, true
	case c == '_':
		return 36, true
	case 'a' <= c && c <= 'z':
		return c - 'a' + 37, true
	case c == '~':
		return 63, true
	}
	return 0, false
}

func (r *reader) malformed(what string) error {
	return fmt.Errorf("%w: %s, at byte %d", ErrMalformed, what, r.at)
}

// checksum returns the sum of b's big-endian words, the last padded with zeros.
func checksum(b []byte) uint32 {
	sum := uint32(0)
	for ; len(b) >= 4; b = b[4:] {
		sum += binary.BigEndian.Uint32(b)
	}
	for i, c := range b {
		sum += uint32(c) << (24 - 8*i)
	}
	return sum
}
