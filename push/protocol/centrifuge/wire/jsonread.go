package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var (
	errNotObject = errors.New("not an object")
	errNotArray  = errors.New("not an array")
	errNotString = errors.New("not a string")
	errNotBool   = errors.New("neither true nor false")
	errNotNumber = errors.New("not an integer in its range")
)

// readJSON reads the object at the beginning of a frame, and returns how many
// bytes it takes with the white space behind it.
func readJSON[M any, P message[M]](frame []byte, empty P) (P, int, error) {
	s := scanner{text: frame}
	m := empty
	if bytes.HasPrefix(frame, []byte("{}")) {
		s.at = len("{}")
	} else {
		m = new(M)
		if err := s.message(m.ProtoReflect(), schemaFor(empty), maxDepth); err != nil {
			return nil, 0, err
		}
	}
	s.peek()
	return m, s.at, nil
}

// message reads an object into m. Members that m has no field for are ignored,
// and so are those that are null, but for raw values, of which null is one; of two with the same name the last one counts.
func (s *scanner) message(m protoreflect.Message, schema *schema, depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	if s.peek() != '{' {
		return errNotObject
	}
	s.at++
	for isFirst := true; ; isFirst = false {
		if more, err := s.more('}', isFirst); err != nil || !more {
			return err
		}
		name, err := s.key()
		if err != nil {
			return err
		}
		f := schema.byName[string(name)]
		if f == nil || s.peek() == 'n' && !f.isRaw() { // only null begins with it
			if _, err := s.value(); err != nil {
				return err
			}
			continue
		}
		if err := s.field(m, f, depth); err != nil {
			return fmt.Errorf("%s: %w", f.desc.Name(), err)
		}
	}
}

// isRaw reports whether the field has a JSON value as it is.
func (f *field) isRaw() bool {
	return f.desc.Kind() == protoreflect.BytesKind && f.value == nil && !f.desc.IsList()
}

func (s *scanner) field(m protoreflect.Message, f *field, depth int) (err error) {
	var value protoreflect.Value
	switch {
	case f.value != nil:
		value = m.NewField(f.desc)
		err = s.mapping(value.Map(), f.value, depth)
	case f.desc.IsList():
		value = m.NewField(f.desc)
		err = s.list(value.List(), f, depth)
	case f.message != nil:
		value = m.NewField(f.desc)
		err = s.message(value.Message(), f.message, depth-1)
	default:
		value, err = s.single(f)
	}
	if err == nil {
		m.Set(f.desc, value)
	}
	return err
}

// mapping reads an object whose names are not fields. Its depth is one more than
// that of the object it is in, as that of a map's entry is under Protobuf.
func (s *scanner) mapping(m protoreflect.Map, f *field, depth int) error {
	if s.peek() != '{' {
		return errNotObject
	}
	s.at++
	for isFirst := true; ; isFirst = false {
		if more, err := s.more('}', isFirst); err != nil || !more {
			return err
		}
		name, err := s.key()
		if err != nil {
			return err
		}
		value, err := s.element(m.NewValue(), f, depth-1)
		if err != nil {
			return err
		}
		m.Set(protoreflect.ValueOfString(string(name)).MapKey(), value)
	}
}

func (s *scanner) list(l protoreflect.List, f *field, depth int) error {
	if s.peek() != '[' {
		return errNotArray
	}
	s.at++
	for isFirst := true; ; isFirst = false {
		if more, err := s.more(']', isFirst); err != nil || !more {
			return err
		}
		value, err := s.element(l.NewElement(), f, depth)
		if err != nil {
			return err
		}
		l.Append(value)
	}
}

// element reads a value of a map or list: a message into the given one, anything
// else into a new one. Unlike a member's it can't be null.
func (s *scanner) element(into protoreflect.Value, f *field, depth int) (protoreflect.Value, error) {
	if f.message != nil {
		return into, s.message(into.Message(), f.message, depth-1)
	}
	return s.single(f)
}

// single reads a string, number, bool or raw value.
func (s *scanner) single(f *field) (protoreflect.Value, error) {
	if f.desc.Kind() == protoreflect.StringKind {
		if s.peek() != '"' {
			return protoreflect.Value{}, errNotString
		}
		text, err := s.string()
		return protoreflect.ValueOfString(string(text)), err
	}
	raw, err := s.value()
	if err != nil {
		return protoreflect.Value{}, err
	}
	return scalar(raw, f.desc.Kind())
}

// scalar is single for what isn't a string; raw is valid JSON.
func scalar(raw []byte, kind protoreflect.Kind) (protoreflect.Value, error) {
	switch kind {
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Clone(raw)), nil
	case protoreflect.BoolKind:
		isTrue := string(raw) == "true"
		if !isTrue && string(raw) != "false" {
			return protoreflect.Value{}, errNotBool
		}
		return protoreflect.ValueOfBool(isTrue), nil
	}
	value, err := number(string(raw), kind)
	if err != nil {
		return value, errNotNumber
	}
	return value, nil
}

// number reads an integer, which is JSON already. It never goes through a float:
// an offset is exact up to 2⁶⁴−1.
func number(raw string, kind protoreflect.Kind) (protoreflect.Value, error) {
	switch kind {
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(raw, 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), err
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(raw, 10, 64)
		return protoreflect.ValueOfUint64(n), err
	case protoreflect.Int32Kind:
		n, err := strconv.ParseInt(raw, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		n, err := strconv.ParseInt(raw, 10, 64)
		return protoreflect.ValueOfInt64(n), err
	}
	panic("client.proto has a field of kind " + kind.String() + ", which this codec doesn't know")
}
