package wire

import (
	"encoding/binary"
	"errors"
	"iter"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// all returns the messages of a good frame.
func all[M any](t testing.TB, read func([]byte) iter.Seq2[M, error], frame []byte) (messages []M) {
	t.Helper()
	for m, err := range read(frame) {
		if err != nil {
			t.Fatalf("%.200q: %v", frame, err)
		}
		messages = append(messages, m)
	}
	return messages
}

func only[M any](t testing.TB, read func([]byte) iter.Seq2[M, error], frame []byte) M {
	t.Helper()
	messages := all(t, read, frame)
	if len(messages) != 1 {
		t.Fatalf("%.200q has %d messages", frame, len(messages))
	}
	return messages[0]
}

// readUntilError returns how many commands the frame has before its error, which
// must be the last thing that comes.
func readUntilError(t *testing.T, c Codec, frame []byte) (n int, err error) {
	t.Helper()
	for m, e := range c.Commands(frame) {
		switch {
		case err != nil:
			t.Fatalf("%.200q goes on after %v", frame, err)
		case e == nil && m != nil:
			n++
		case e != nil && m == nil && errors.Is(e, ErrMalformed):
			err = e
		default:
			t.Fatalf("%.200q: %v, %v", frame, m, e)
		}
	}
	return n, err
}

var jsonFrames = []struct {
	name, frame string
	want        []*Command
}{
	{"pong", `{}`, []*Command{{}}},
	{"pong with space", "{ \n}", []*Command{{}}},
	{
		"connect and subscribe", `{"id":1,"connect":{"token":"t","name":"js"}}` + "\n" + `{"id":2,"subscribe":{"channel":"news","flag":1}}`,
		[]*Command{{Id: 1, Connect: &ConnectRequest{Token: "t", Name: "js"}}, {Id: 2, Subscribe: &SubscribeRequest{Channel: "news", Flag: 1}}},
	},
	{"line feed at the end", "{\"id\":1}\n", []*Command{{Id: 1}}},
	{"space everywhere", "\r\n\t { \"id\" : 1 , \"send\" : { \"data\" : [ 1 ] } } \n\n {} ", []*Command{{Id: 1, Send: &SendRequest{Data: []byte("[ 1 ]")}}, {}}},
	{"nothing in between", `{"id":1}{}{"id":2}`, []*Command{{Id: 1}, {}, {Id: 2}}},
	{"unknown members", `{"x":[{"y":"}"}],"id":1,"ID":2,"publish":{"Channel":"no","z":null}}`, []*Command{{Id: 1, Publish: &PublishRequest{}}}},
	{"null is absent, but as raw JSON", `{"id":null,"connect":null,"publish":{"channel":null,"data":null,"removed":null}}`, []*Command{{Publish: &PublishRequest{Data: []byte("null")}}}},
	{"last one counts", `{"id":1,"id":2,"rpc":{"data":1,"method":"a"},"rpc":{"method":"b"}}`, []*Command{{Id: 2, Rpc: &RPCRequest{Method: "b"}}}},
	{
		"strings", `{"publish":{"channel":"\u00e4\"\\\/\n\ud83d\ude00é😀\ud800","\u0064ata":"\ud800 <é>"}}`,
		[]*Command{{Publish: &PublishRequest{Channel: "ä\"\\/\n😀é😀\ufffd", Data: []byte(`"\ud800 <é>"`)}}},
	},
	{
		"numbers", `{"id":4294967295,"subscribe":{"offset":18446744073709551615,"flag":-9223372036854775808,"type":-2147483648,"limit":2147483647,"phase":-0}}`,
		[]*Command{{Id: 1<<32 - 1, Subscribe: &SubscribeRequest{Offset: 1<<64 - 1, Flag: -1 << 63, Type: -1 << 31, Limit: 1<<31 - 1}}},
	},
	{
		"maps", `{"connect":{"subs":{"a":{"recover":true,"offset":9007199254740993},"":{}},"headers":{"x-a":"1"},"data":{"a":{}}}}`,
		[]*Command{{Connect: &ConnectRequest{
			Subs: map[string]*SubscribeRequest{"a": {Recover: true, Offset: 9007199254740993}, "": {}}, Headers: map[string]string{"x-a": "1"}, Data: []byte(`{"a":{}}`),
		}}},
	},
	{
		"lists", `{"sub_refresh":{"track":[{"signature":"s","items":[{"key":"k","version":2},{}]}],"untrack":["a","b"]},"ping":{"x":1}}`,
		[]*Command{{
			SubRefresh: &SubRefreshRequest{
				Track: []*TrackBatch{{Signature: "s", Items: []*KeyedItem{{Key: "k", Version: 2}, {}}}}, Untrack: []string{"a", "b"},
			}, Ping: &PingRequest{},
		}},
	},
	{
		"the others", `{"unsubscribe":{"channel":"c"},"presence":{"channel":"c"},"presence_stats":{"channel":"c"},"refresh":{"token":"t"},` +
			`"history":{"channel":"c","limit":-1,"since":{"offset":1,"epoch":"e"},"reverse":true}}`,
		[]*Command{{
			Unsubscribe: &UnsubscribeRequest{Channel: "c"}, Presence: &PresenceRequest{Channel: "c"}, PresenceStats: &PresenceStatsRequest{Channel: "c"},
			Refresh: &RefreshRequest{Token: "t"}, History: &HistoryRequest{Channel: "c", Limit: -1, Since: &StreamPosition{Offset: 1, Epoch: "e"}, Reverse: true},
		}},
	},
	{
		"deepest filter", `{"subscribe":{"tf":` + jsonFilters(maxDepth-2) + `}}`,
		[]*Command{{Subscribe: &SubscribeRequest{Tf: filters(maxDepth - 2)}}},
	},
}

// filters returns a filter of filters, depth of them within each other.
func filters(depth int) *FilterNode {
	n := &FilterNode{}
	for range depth - 1 {
		n = &FilterNode{Nodes: []*FilterNode{n}}
	}
	return n
}

func jsonFilters(depth int) string {
	return strings.Repeat(`{"nodes":[`, depth-1) + "{}" + strings.Repeat("]}", depth-1)
}

func TestCommandsJSON(t *testing.T) {
	for _, test := range jsonFrames {
		t.Run(test.name, func(t *testing.T) {
			got := all(t, JSON.Commands, []byte(test.frame))
			if len(got) != len(test.want) {
				t.Fatalf("%d commands, want %d", len(got), len(test.want))
			}
			for i := range got {
				if !proto.Equal(got[i], test.want[i]) {
					t.Errorf("command %d: got %v, want %v", i, got[i], test.want[i])
				}
			}
		})
	}
}

// TestCommandsThroughProtobuf takes the same commands through the other codec.
func TestCommandsThroughProtobuf(t *testing.T) {
	for _, test := range jsonFrames {
		t.Run(test.name, func(t *testing.T) {
			got := all(t, Protobuf.Commands, transcode(t, []byte(test.frame)))
			for i := range test.want {
				if !proto.Equal(got[i], test.want[i]) {
					t.Errorf("command %d: got %v, want %v", i, got[i], test.want[i])
				}
			}
		})
	}
}

func TestCommandsStop(t *testing.T) {
	for range JSON.Commands([]byte("{}{}nonsense")) {
		break // what is behind is not looked at, and nothing panics
	}
}

func TestMalformedJSON(t *testing.T) {
	for _, test := range []struct {
		frame string
		good  int    // commands before the error
		want  string // in its text
	}{
		{"", 0, "no message"},
		{" \n", 0, "no message"},
		{"null", 0, "not an object"},
		{"[]", 0, "not an object"},
		{"[{}]", 0, "not an object"},
		{"1", 0, "not an object"},
		{`"a"`, 0, "not an object"},
		{"{}x", 1, "not an object"},
		{"{},{}", 1, "not an object"},
		{"{}\n{\"id\":1}null", 2, "not an object"},
		{"{}\x00", 1, "not an object"},
		{"{", 0, "ends early"},
		{`{"id"`, 0, ""},
		{`{"id":`, 0, "id: the JSON ends early"},
		{`{"id":1`, 0, "ends early"},
		{`{"id":1,}`, 0, "not JSON"},
		{`{,"id":1}`, 0, "not JSON"},
		{`{"id":1 "x":2}`, 0, "not JSON"},
		{`{"id" 1}`, 0, "not JSON"},
		{`{id:1}`, 0, "not JSON"},
		{`{"id":1]`, 0, "not JSON"},
		{`{"x":nul}`, 0, "not JSON"},
		{`{"id":nul}`, 0, "not JSON"},
		{`{"x":tru}`, 0, "not JSON"},
		{`{"x":{"y":}}`, 0, "not JSON"},
		{`{"x":[}`, 0, "not JSON"},
		{`{"x":"\q"}`, 0, "not JSON"},
		{"{\"x\":\"\n\"}", 0, "not JSON"},
		{`{"x\q":1}`, 0, "not JSON"},
		{`{"id":"1"}`, 0, "id: not an integer"},
		{`{"id":-1}`, 0, "id: not an integer"},
		{`{"id":1.0}`, 0, "id: not an integer"},
		{`{"id":1e2}`, 0, "id: not an integer"},
		{`{"id":4294967296}`, 0, "id: not an integer"},
		{`{"id":01}`, 0, "not JSON"},
		{`{"id":+1}`, 0, "not JSON"},
		{`{"id":0x1}`, 0, "not JSON"},
		{`{"id":true}`, 0, "id: not an integer"},
		{`{"id":{}}`, 0, "id: not an integer"},
		{`{"subscribe":{"offset":18446744073709551616}}`, 0, "subscribe: offset: not an integer"},
		{`{"subscribe":{"flag":9223372036854775808}}`, 0, "subscribe: flag: not an integer"},
		{`{"subscribe":{"type":2147483648}}`, 0, "subscribe: type: not an integer"},
		{`{"subscribe":{"recover":1}}`, 0, "subscribe: recover: neither"},
		{`{"subscribe":{"channel":1}}`, 0, "subscribe: channel: not a string"},
		{`{"subscribe":{"channel":["a"]}}`, 0, "subscribe: channel: not a string"},
		{`{"subscribe":[]}`, 0, "subscribe: not an object"},
		{`{"subscribe":"a"}`, 0, "subscribe: not an object"},
		{"{\"subscribe\":{\"channel\":\"a\nb\"}}", 0, "subscribe: channel: not JSON"},
		{`{"subscribe":{"channel":"a`, 0, "subscribe: channel: the JSON ends"},
		{`{"subscribe":{"channel":"a\`, 0, "subscribe: channel: the JSON ends"},
		{`{"subscribe":{"channel":"\u12"}}`, 0, "subscribe: channel: not JSON"},
		{`{"publish":{"data":}}`, 0, "publish: data: not JSON"},
		{`{"publish":{"data":{]}}}`, 0, "publish: data: not JSON"},
		{`{"publish":{"data":1 2}}`, 0, "publish: not JSON"},
		{`{"publish":{"data":1"a"}}`, 0, "publish: data: not JSON"},
		{`{"connect":{"headers":[]}}`, 0, "connect: headers: not an object"},
		{`{"connect":{"headers":{"a":1}}}`, 0, "connect: headers: not a string"},
		{`{"connect":{"headers":{"a":null}}}`, 0, "connect: headers: not a string"},
		{`{"connect":{"headers":{"a":"b",}}}`, 0, "connect: headers: not JSON"},
		{`{"connect":{"subs":{"a":null}}}`, 0, "connect: subs: not an object"},
		{`{"sub_refresh":{"untrack":{}}}`, 0, "sub_refresh: untrack: not an array"},
		{`{"sub_refresh":{"untrack":["a",]}}`, 0, "sub_refresh: untrack: not JSON"},
		{`{"sub_refresh":{"untrack":["a" "b"]}}`, 0, "sub_refresh: untrack: not JSON"},
		{`{"sub_refresh":{"untrack":[null]}}`, 0, "sub_refresh: untrack: not a string"},
		{`{"sub_refresh":{"track":[`, 0, "sub_refresh: track: the JSON ends early"},
		{`{"subscribe":{"tf":` + jsonFilters(maxDepth-1) + `}}`, 0, "more than 32 messages"},
		{`{"subscribe":{"tf":` + strings.Repeat(`{"nodes":[`, 6000), 0, "more than 32 messages"},
		{`{"publish":{"data":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}}`, 0, "publish: data: not JSON"},
		{`{"x":` + strings.Repeat("[", 60_000), 0, "not JSON"},
	} {
		n, err := readUntilError(t, JSON, []byte(test.frame))
		if err == nil || n != test.good || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80q: %d commands, then %v; want %d, then %q", test.frame, n, err, test.good, test.want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%.80q: an error of %d bytes", test.frame, len(err.Error()))
		}
	}
}

func TestMalformedProtobuf(t *testing.T) {
	delimited := func(message []byte) string {
		return string(append(binary.AppendUvarint(nil, uint64(len(message))), message...))
	}
	field := func(number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	deep := field(1, "op")
	for range 16_000 {
		deep = append(protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.BytesType), uint64(len(deep))), deep...)
		if len(deep) > 60_000 {
			break
		}
	}
	for _, test := range []struct {
		name, frame string
		good        int
		want        string
	}{
		{"empty", "", 0, "no message"},
		{"length cut", "\x80", 0, "length"},
		{"length of eleven bytes", strings.Repeat("\x80", 10) + "\x01", 0, "length"},
		{"length over 64 bits", strings.Repeat("\xff", 9) + "\x7f", 0, "length"},
		{"length beyond the frame", "\x02\x08", 0, "a message of 2 bytes, of which 1 are there"},
		{"huge length", strings.Repeat("\xff", 9) + "\x01\x08\x01", 0, "of which 2 are there"},
		{"second is cut", "\x02\x08\x01\x05\x08", 1, "of which 1 are there"},
		{"tag cut", "\x01\x80", 0, ""},
		{"field 0", "\x02\x00\x01", 0, ""},
		{"value cut", delimited([]byte{0x08, 0x80}), 0, ""},
		{"length of a field beyond its message", delimited([]byte{0x22, 0x05, 0x0a}) + "\x00\x00\x00\x00", 0, ""},
		{"id of a wrong type", delimited(field(1, "a")), 0, "wrong wireType"},
		{"request of a wrong type", delimited([]byte{0x20, 0x01}), 0, "wrong wireType"},
		{"group", delimited([]byte{0x23}), 0, ""},
		{"end of no group", delimited([]byte{0x24}), 0, ""},
		{"string not UTF-8", delimited(field(5, string(field(1, "a\xff")))), 0, "channel: a string is not valid UTF-8"},
		{"string of a list not UTF-8", delimited(field(15, string(field(5, "\xff")))), 0, "untrack: a string is not valid UTF-8"},
		{"key of a map not UTF-8", delimited(field(4, string(field(6, string(field(1, "\xff")))))), 0, "key: a string is not valid UTF-8"},
		{"value of a map not UTF-8", delimited(field(4, string(field(6, string(field(2, "\xff")))))), 0, "value: a string is not valid UTF-8"},
		{"sub of a map not UTF-8", delimited(field(4, string(field(3, string(field(2, string(field(1, "\xff")))))))), 0, "channel: a string"},
		{"too deep", string(mustAppend(t, &Command{Subscribe: &SubscribeRequest{Tf: filters(maxDepth - 1)}})), 0, "more than 32 messages"},
		{"much too deep", delimited(field(5, string(field(13, string(deep))))), 0, "more than 32 messages"},
	} {
		n, err := readUntilError(t, Protobuf, []byte(test.frame))
		if err == nil || n != test.good || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %d commands, then %v; want %d, then %q", test.name, n, err, test.good, test.want)
		}
	}
}

func mustAppend(t *testing.T, m *Command) []byte {
	t.Helper()
	frame, err := Protobuf.AppendCommand(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestProtobufBytesAreAnything and unknown fields are no fault.
func TestProtobufBytesAreAnything(t *testing.T) {
	frame := mustAppend(t, &Command{Id: 7, Publish: &PublishRequest{Data: []byte("\xff\x00")}})
	unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "\xff")
	message := append(frame[1:], unknown...)
	m := only(t, Protobuf.Commands, append([]byte{byte(len(message))}, message...))
	if m.Id != 7 || string(m.Publish.Data) != "\xff\x00" {
		t.Errorf("got %v", m)
	}
}
