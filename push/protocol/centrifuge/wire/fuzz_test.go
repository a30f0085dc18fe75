package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// FuzzCommands reads a frame under both codecs: no panic, an error at the end at
// most, nothing that points into the frame, strings that are valid, and of a JSON
// frame what encoding/json takes for one.
func FuzzCommands(f *testing.F) {
	for _, test := range jsonFrames {
		f.Add([]byte(test.frame))
		f.Add(transcode(f, []byte(test.frame)))
	}
	f.Add([]byte(`{"subscribe":{"tf":` + jsonFilters(maxDepth) + `}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		fuzzCommands(t, Protobuf, frame)
		if !utf8.Valid(frame) {
			return // the engine lets no such text through
		}
		fuzzCommands(t, JSON, frame)
		err := firstError(JSON, frame)
		if isGood := isStream(frame); err == nil && !isGood || err != nil && isGood && isSyntax(err) {
			t.Fatalf("%q: %v", frame, err)
		}
	})
}

func fuzzCommands(t *testing.T, c Codec, frame []byte) {
	mine := bytes.Clone(frame)
	var got, before []*Command
	for m, err := range c.Commands(mine) {
		if err != nil {
			if !errors.Is(err, ErrMalformed) || m != nil {
				t.Fatalf("%v, %v", m, err)
			}
			continue
		}
		got, before = append(got, m), append(before, proto.CloneOf(m))
	}
	for i := range mine {
		mine[i] ^= 0xff
	}
	var again []byte
	for i, m := range got {
		if !proto.Equal(m, before[i]) {
			t.Fatalf("%v changed with the frame: it was %v", m, before[i])
		}
		if _, err := proto.Marshal(m); err != nil {
			t.Fatal(err) // a string is not UTF-8
		}
		var err error
		if again, err = c.AppendCommand(again, m); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) > 0 && len(all(t, c.Commands, again)) != len(got) {
		t.Fatalf("%q was written as %q", frame, again)
	}
}

func firstError(c Codec, frame []byte) error {
	for _, err := range c.Commands(frame) {
		if err != nil {
			return err
		}
	}
	return nil
}

// isStream reports whether the frame is JSON objects, one or more.
func isStream(frame []byte) bool {
	d := json.NewDecoder(bytes.NewReader(frame))
	isEmpty := true
	for d.More() {
		var object map[string]json.RawMessage
		if err := d.Decode(&object); err != nil || object == nil {
			return false
		}
		isEmpty = false
	}
	_, err := d.Token() // a bracket is no more, but not the end either
	return !isEmpty && err != nil && err.Error() == "EOF"
}

// isSyntax reports whether the error is about the JSON, not about what is in its fields.
func isSyntax(err error) bool {
	isTop := err.Error() == malformed(errNotObject).Error()
	return isTop || errors.Is(err, errSyntax) || errors.Is(err, errCut) || errors.Is(err, errEmpty)
}

// FuzzJSONReply writes a reply of hostile strings and data: what comes out is one
// line of valid JSON in UTF-8 that reads back as what encoding/json makes of the
// same, or nothing at all.
func FuzzJSONReply(f *testing.F) {
	f.Add("news", []byte(`{"a":1}`), "k", uint64(1))
	f.Add("a\"b\\c\x00\x1f\x7f", []byte("[ 1,\n2 ]"), "ä☃😀\u2028", uint64(1<<64-1))
	f.Add("\xff\xed\xa0\x80", []byte("\"\xff\""), "<&>", uint64(0))
	f.Add("", []byte("{"), "", uint64(0))
	f.Fuzz(func(t *testing.T, channel string, data []byte, tag string, offset uint64) {
		r := &Reply{Push: &Push{Channel: channel, Pub: &Publication{Data: data, Offset: offset, Tags: map[string]string{tag: channel}}}}
		got, err := JSON.AppendReply([]byte("{}"), r)
		if err != nil {
			if string(got) != "{}" || !errors.Is(err, ErrNotJSON) || json.Valid(data) && utf8.Valid(data) {
				t.Fatalf("%q, %v", got, err)
			}
			return
		}
		got = got[len("{}\n"):]
		if !utf8.Valid(got) || bytes.ContainsAny(got, "\r\n") || len(data) > 0 && (!json.Valid(data) || !utf8.Valid(data)) {
			t.Fatalf("wrote %q", got)
		}
		var tags map[string]string
		back := only(t, JSON.Replies, got).GetPush()
		naive, err := json.Marshal(map[string]string{tag: channel})
		if err != nil || json.Unmarshal(naive, &tags) != nil {
			t.Fatal(err)
		}
		for key, value := range tags {
			if back.Pub.Tags[key] != value || back.Channel != value || back.Pub.Offset != offset {
				t.Fatalf("%q reads back as %v", got, back)
			}
		}
	})
}
