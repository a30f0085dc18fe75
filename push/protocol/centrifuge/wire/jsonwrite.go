package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// jsonWriter appends objects to a frame. Its methods take a member's name and
// value, and write nothing if that is zero or nil: so says the protocol, but for
// the members that jsonreply.go writes by hand.
type jsonWriter struct {
	b   []byte
	err error // the first
}

func newJSONWriter(b []byte) jsonWriter {
	if len(b) > 0 {
		b = append(b, '\n')
	}
	return jsonWriter{b: b}
}

// finish returns the frame, or with an error the frame as it was.
func (w *jsonWriter) finish(before []byte) ([]byte, error) {
	if w.err != nil {
		return before, w.err
	}
	return w.b, nil
}

// open begins an object: a member's, or with no name an element's or that of the
// key before.
func (w *jsonWriter) open(name string) {
	if name == "" {
		w.comma()
	} else {
		w.name(name)
	}
	w.b = append(w.b, '{')
}

func (w *jsonWriter) close() { w.b = append(w.b, '}') }

// comma separates an element from the one before. No JSON value ends with one of
// the bytes after which there is none, so that needs no memory.
func (w *jsonWriter) comma() {
	if last := w.b[len(w.b)-1]; last != '{' && last != '[' && last != ':' {
		w.b = append(w.b, ',')
	}
}

// name begins a member. It is written without escapes, as a field's name needs none.
func (w *jsonWriter) name(name string) {
	w.comma()
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// key begins a member of any name.
func (w *jsonWriter) key(name string) {
	w.comma()
	w.b = AppendString(w.b, name)
	w.b = append(w.b, ':')
}

func (w *jsonWriter) string(name, value string) {
	if value != "" {
		w.name(name)
		w.b = AppendString(w.b, value)
	}
}

func (w *jsonWriter) uint(name string, value uint64) {
	if value != 0 {
		w.name(name)
		w.b = strconv.AppendUint(w.b, value, 10)
	}
}

func (w *jsonWriter) int(name string, value int64) {
	if value != 0 {
		w.name(name)
		w.b = strconv.AppendInt(w.b, value, 10)
	}
}

func (w *jsonWriter) bool(name string, value bool) {
	if value {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

// raw embeds a JSON value. It is compacted: clients split a frame at its line
// feeds before they parse, and line feeds within an object would tear it.
func (w *jsonWriter) raw(name string, value []byte) {
	if len(value) == 0 {
		return
	}
	w.name(name)
	if !utf8.Valid(value) {
		w.fail(name, "not valid UTF-8")
		return
	}
	// The buffer's memory is that of b, so that a value that is compact already, or
	// fits into b as it is, costs no copy of its own: BenchmarkEncode.
	compacted := bytes.NewBuffer(w.b)
	if err := json.Compact(compacted, value); err != nil {
		w.fail(name, err.Error())
		return
	}
	w.b = compacted.Bytes()
}

func (w *jsonWriter) fail(name, why string) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %s: %s", ErrNotJSON, name, why)
	}
}

func (w *jsonWriter) strings(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.name(name)
	w.b = append(w.b, '[')
	for _, value := range values {
		w.comma()
		w.b = AppendString(w.b, value)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) stringMap(name string, values map[string]string) {
	if len(values) == 0 {
		return
	}
	w.open(name)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.key(key)
		w.b = AppendString(w.b, values[key])
	}
	w.close()
}

// empty writes a message without fields.
func (w *jsonWriter) empty(name string, isSet bool) {
	if isSet {
		w.open(name)
		w.close()
	}
}

// AppendString adds s as a JSON string, RFC 8259 §7. Bytes that are not UTF-8
// become U+FFFD.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for s != "" {
		n := 0
		for n < len(s) && ' ' <= s[n] && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
			n++
		}
		b = append(b, s[:n]...) // most strings are done here
		if s = s[n:]; s == "" {
			break
		}
		switch c := s[0]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			s = s[1:]
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			s = s[1:]
		default:
			r, n := utf8.DecodeRuneInString(s)
			b = utf8.AppendRune(b, r)
			s = s[n:]
		}
	}
	return append(b, '"')
}
