package plain

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
)

var publications = []struct {
	name, channel string
	p             *hub.Publication
	want          string
}{
	{
		"object is compacted", "a", &hub.Publication{Offset: 18446744073709551615, Data: []byte("{ \"x\" :\n[1, 2] }")},
		`{"type":"message","channel":"a","offset":18446744073709551615,"data":{"x":[1,2]}}`,
	},
	{
		"scalar", "q\"\\\n", &hub.Publication{Offset: 1, Data: []byte(` "<&>" `)},
		`{"type":"message","channel":"q\"\\\u000a","offset":1,"data":"<&>"}`,
	},
	{
		"not JSON", "a", &hub.Publication{Offset: 1, Data: []byte{0, 1, 2}},
		`{"type":"message","channel":"a","offset":1,"b64data":"AAEC"}`,
	},
	{
		"JSON but not UTF-8", "a", &hub.Publication{Offset: 1, Data: []byte("\"\xff\"")},
		`{"type":"message","channel":"a","offset":1,"b64data":"Iv8i"}`,
	},
	{
		"nothing", "a", &hub.Publication{Offset: 1},
		`{"type":"message","channel":"a","offset":1,"b64data":""}`,
	},
	{
		"two values", "a", &hub.Publication{Offset: 1, Data: []byte("1 2")},
		`{"type":"message","channel":"a","offset":1,"b64data":"MSAy"}`,
	},
	{
		"tags", "a", &hub.Publication{Offset: 1, Data: []byte("1"), Tags: map[string]string{"b": "\x01", "a": "x"}},
		`{"type":"message","channel":"a","offset":1,"data":1,"tags":{"a":"x","b":"\u0001"}}`,
	},
}

func TestAppendMessage(t *testing.T) {
	for _, test := range publications {
		t.Run(test.name, func(t *testing.T) {
			if got := string(appendMessage(nil, test.channel, test.p)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := string(appendMessage([]byte("before"), test.channel, test.p)); got != "before"+test.want {
				t.Errorf("appended: %s", got)
			}
		})
	}
}

func TestDeepDataIsNotEmbedded(t *testing.T) {
	const depth = 100_000
	data := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
	got := appendMessage(nil, "a", &hub.Publication{Offset: 1, Data: data})
	if !json.Valid(got) || !bytes.Contains(got, []byte(`"b64data"`)) {
		t.Errorf("%d bytes, valid %t", len(got), json.Valid(got))
	}
}

// FuzzAppendString compares with the naive way.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "news", `a"b\c`, "\x00\x1f\x7f", "ä☃😀\u2028", "\xff\xed\xa0\x80", "<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := appendString(nil, s)
		if !utf8.Valid(got) || !json.Valid(got) {
			t.Fatalf("%q became %q", s, got)
		}
		var back, want string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		naive, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(naive, &want); err != nil {
			t.Fatal(err)
		}
		if back != want {
			t.Fatalf("%q reads back as %q, want %q", s, back, want)
		}
	})
}

// FuzzMessages throws two messages at a client. Whatever they are, there is no
// panic, each is answered exactly once or closes, all that is sent is an object
// of a known type, and nothing is left in the hub.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"type":"ping"}`), []byte(`{"type":"ping","id":"\ud800"}`), true)
	for _, c := range conversations {
		var last []byte
		for line := range strings.SplitSeq(c.lines, "\n") {
			if message, isUp := strings.CutPrefix(line, "> "); isUp {
				f.Add(last, []byte(message), true)
				last = []byte(message)
			}
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte, isText bool) {
		if !utf8.Valid(first) || !utf8.Valid(second) {
			return // the engine lets no such text through
		}
		h := newHandler(t, Config{Anonymous: everything, Authenticator: passwords{}})
		c, w := open(h, Params{})
		c.OnMessage(true, first)
		c.OnMessage(isText, second)
		answers := 0
		for _, s := range w.sent {
			var down struct {
				Type string          `json:"type"`
				ID   json.RawMessage `json:"id"`
			}
			if err := json.Unmarshal([]byte(s), &down); err != nil || !utf8.ValidString(s) {
				t.Fatalf("sent %q: %v", s, err)
			}
			switch down.Type {
			case "reply", "error", "pong":
				answers++
			case "message":
			default:
				t.Fatalf("sent type %q", down.Type)
			}
			if len(down.ID) > maxIDBytes {
				t.Fatalf("id of %d bytes", len(down.ID))
			}
		}
		if want := 2; w.closed == "" && answers != want || w.closed != "" && answers != 1 {
			t.Fatalf("%d answers, closed %q: %q", answers, w.closed, w.sent)
		}
		c.OnClose()
		if err := h.config.Hub.ConsistencyCheck(); err != nil {
			t.Fatal(err)
		}
		if s := h.config.Hub.Stats(); s.Channels != 0 {
			t.Fatalf("%d channels are left", s.Channels)
		}
	})
}
