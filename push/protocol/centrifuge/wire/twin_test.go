package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// alwaysWritten are the members that are there even if they are zero.
var alwaysWritten = map[protoreflect.FullName]bool{
	"millpond.centrifuge.ClientInfo.user":                 true,
	"millpond.centrifuge.ClientInfo.client":               true,
	"millpond.centrifuge.PresenceResult.presence":         true,
	"millpond.centrifuge.PresenceStatsResult.num_clients": true,
	"millpond.centrifuge.PresenceStatsResult.num_users":   true,
	"millpond.centrifuge.HistoryResult.publications":      true,
	"millpond.centrifuge.HistoryResult.epoch":             true,
	"millpond.centrifuge.HistoryResult.offset":            true,
}

// naiveJSON writes any message, from the descriptor and the rules alone.
func naiveJSON(m protoreflect.Message) string {
	byNumber := map[int]string{}
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if m.Has(f) || alwaysWritten[f.FullName()] {
			byNumber[int(f.Number())] = fmt.Sprintf("%q:%s", f.Name(), naiveField(f, m.Get(f)))
		}
	}
	return "{" + strings.Join(sorted(byNumber), ",") + "}"
}

func naiveField(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.IsMap():
		byKey := map[string]string{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			byKey[k.String()] = naiveString(k.String()) + ":" + naiveValue(f.MapValue(), v)
			return true
		})
		return "{" + strings.Join(sorted(byKey), ",") + "}"
	case f.IsList():
		var list []string
		for i := range v.List().Len() {
			list = append(list, naiveValue(f, v.List().Get(i)))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	return naiveValue(f, v)
}

func naiveValue(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return naiveJSON(v.Message())
	case protoreflect.StringKind:
		return naiveString(v.String())
	case protoreflect.BytesKind:
		var b bytes.Buffer
		if err := json.Compact(&b, v.Bytes()); err != nil {
			panic(err)
		}
		return b.String()
	}
	return fmt.Sprint(v.Interface())
}

func naiveString(s string) string {
	out := ""
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out += `\` + string(r)
		case r < ' ':
			out += fmt.Sprintf(`\u%04x`, r)
		default:
			out += string(r)
		}
	}
	return `"` + out + `"`
}

func sorted[K int | string](m map[K]string) (values []string) {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
	for _, k := range keys {
		values = append(values, m[k])
	}
	return values
}

// filler makes random messages. Each field is set with an even chance.
type filler struct {
	*rand.Rand
	strings []string
	data    []string
}

var (
	goodStrings = []string{"", "a", "news:1", `"\/`, "\x00\x1f\n", "ä☃😀\u2028", "<&>", "\x7f"}
	badStrings  = append([]string{"\xff", "a\xed\xa0\x80b", "\xc3"}, goodStrings...)
	compactData = []string{"0", "-1e-7", `""`, "{}", "[]", "true", `{"a":[1,{"b":"c d"}],"é":"\n"}`, "18446744073709551616"}
	spacedData  = append([]string{" null ", "{ \"a\" :\r\n[ 1 ,2 ] }", "\t\"a b\""}, compactData...)
)

func (r *filler) fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if r.IntN(2) == 0 || depth == 0 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(3) {
				value := m.NewField(f).Map().NewValue()
				key := protoreflect.ValueOfString(r.strings[r.IntN(len(r.strings))]).MapKey()
				m.Mutable(f).Map().Set(key, r.value(f.MapValue(), value, depth))
			}
		case f.IsList():
			for range r.IntN(3) {
				l := m.Mutable(f).List()
				l.Append(r.value(f, l.NewElement(), depth))
			}
		default:
			m.Set(f, r.value(f, m.NewField(f), depth))
		}
	}
}

func (r *filler) value(f protoreflect.FieldDescriptor, zero protoreflect.Value, depth int) protoreflect.Value {
	switch n := r.Uint64() >> r.IntN(64); f.Kind() {
	case protoreflect.MessageKind:
		r.fill(zero.Message(), depth-1)
		return zero
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.strings[r.IntN(len(r.strings))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.data[r.IntN(len(r.data))]))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 == 0)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(n)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	default:
		return protoreflect.ValueOfInt64(int64(n))
	}
}

const rounds = 2000

func TestJSONIsThatOfTheNaiveWriter(t *testing.T) {
	r := filler{rand.New(rand.NewPCG(1, 2)), badStrings, spacedData}
	for range rounds {
		reply, command := &Reply{}, &Command{}
		r.fill(reply.ProtoReflect(), 5)
		r.fill(command.ProtoReflect(), 5)
		got, err := JSON.AppendReply(nil, reply)
		if want := naiveJSON(reply.ProtoReflect()); err != nil || string(got) != want {
			t.Fatalf("got  %s, %v\nwant %s", got, err, want)
		}
		got, err = JSON.AppendCommand(nil, command)
		if want := naiveJSON(command.ProtoReflect()); err != nil || string(got) != want {
			t.Fatalf("got  %s, %v\nwant %s", got, err, want)
		}
		if !json.Valid(got) || bytes.ContainsAny(got, "\r\n") {
			t.Fatalf("wrote %q", got)
		}
	}
}

// TestRoundTrip reads what was written, two messages to a frame.
func TestRoundTrip(t *testing.T) {
	r := filler{rand.New(rand.NewPCG(3, 4)), goodStrings, compactData}
	for range rounds {
		for _, c := range []Codec{JSON, Protobuf} {
			in, command := []*Reply{{}, {}}, &Command{}
			var frame []byte
			for _, m := range in {
				r.fill(m.ProtoReflect(), 5)
				var err error
				if frame, err = c.AppendReply(frame, m); err != nil {
					t.Fatal(err)
				}
			}
			out := all(t, c.Replies, frame)
			if len(out) != 2 || !proto.Equal(in[0], out[0]) || !proto.Equal(in[1], out[1]) {
				t.Fatalf("%s: %v became %v", c.name(), in, out)
			}
			r.fill(command.ProtoReflect(), 5)
			frame, err := c.AppendCommand(nil, command)
			if err != nil {
				t.Fatal(err)
			}
			if out := only(t, c.Commands, frame); !proto.Equal(command, out) {
				t.Fatalf("%s: %v became %v", c.name(), command, out)
			}
		}
	}
}
