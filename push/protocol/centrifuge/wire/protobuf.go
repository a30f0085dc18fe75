package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var (
	errLength = errors.New("the length is not a varint")
	errUTF8   = errors.New("a string is not valid UTF-8")
)

// appendDelimited adds the message after its length. Proto3 asks for valid UTF-8
// in strings, which is not looked at: they came from readers that did.
func appendDelimited[M any, P message[M]](before []byte, m P) ([]byte, error) {
	size := m.SizeVT()
	b := binary.AppendUvarint(slices.Grow(before, binary.MaxVarintLen32+size), uint64(size))
	end := len(b) + size
	if _, err := m.MarshalToSizedBufferVT(b[len(b):end]); err != nil {
		return before, fmt.Errorf("marshal %T: %w", m, err) // never: its size was right
	}
	return b[:end], nil
}

// readDelimited reads the message at the beginning of a frame, and returns how
// many bytes it takes.
func readDelimited[M any, P message[M]](frame []byte, empty P) (P, int, error) {
	size, n := binary.Uvarint(frame)
	if n <= 0 {
		return nil, 0, errLength
	}
	if size == 0 {
		return empty, n, nil
	}
	if size > uint64(len(frame)-n) {
		return nil, 0, fmt.Errorf("a message of %d bytes, of which %d are there", size, len(frame)-n)
	}
	frame = frame[:n+int(size)]
	if err := check(schemaFor(empty), frame[n:], maxDepth); err != nil {
		return nil, 0, err
	}
	m := P(new(M))
	if err := m.UnmarshalVT(frame[n:]); err != nil {
		return nil, 0, err
	}
	return m, len(frame), nil
}

// check looks for what the generated code would let pass: strings that are not
// UTF-8, which proto3 says a parser should reject, and messages nested deeper
// than the given depth.
func check(s *schema, b []byte, depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return protowire.ParseError(n)
		}
		if kind == protowire.BytesType && int(number) < len(s.byNumber) && s.byNumber[number] != nil {
			value, _ := protowire.ConsumeBytes(b)
			if err := s.byNumber[number].check(value, depth); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

func (f *field) check(value []byte, depth int) error {
	switch {
	case f.message != nil:
		return check(f.message, value, depth-1)
	case f.desc.Kind() == protoreflect.StringKind && !utf8.Valid(value):
		return fmt.Errorf("%s: %w", f.desc.Name(), errUTF8)
	}
	return nil
}
