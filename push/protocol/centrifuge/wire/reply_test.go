package wire

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

var info = &ClientInfo{User: "42", Client: "c1", ConnInfo: []byte(`{"name": "Ann"}`)}

// replies are one or more of each kind, with their JSON. In JSON they are read
// back as what they were, but for the data, which is compacted.
var replies = []struct {
	name string
	in   *Reply
	want string
}{
	{"ping", &Reply{}, `{}`},
	{
		"error", &Reply{Id: 3, Error: &Error{Code: 103, Message: "permission denied", Temporary: true}},
		`{"id":3,"error":{"code":103,"message":"permission denied","temporary":true}}`,
	},
	{
		"connect", &Reply{Id: 1, Connect: &ConnectResult{Client: "c1", Version: "1.0", Expires: true, Ttl: 60, Data: []byte("[]"), Ping: 25, Pong: true}},
		`{"id":1,"connect":{"client":"c1","version":"1.0","expires":true,"ttl":60,"data":[],"ping":25,"pong":true}}`,
	},
	{
		"connect with subscriptions", &Reply{Id: 1, Connect: &ConnectResult{
			Subs: map[string]*SubscribeResult{"b\n": {}, "a": {Recoverable: true, Epoch: "x", Offset: 7}},
			Time: -1, Flag: 1, Session: "s", Node: "n", Dict: &Dictionary{Id: "d", Data: []byte("1"), DataB64: "MQ=="},
		}},
		`{"id":1,"connect":{"subs":{"a":{"recoverable":true,"epoch":"x","offset":7},"b\u000a":{}},` +
			`"session":"s","node":"n","time":-1,"flag":1,"dict":{"id":"d","data":1,"data_b64":"MQ=="}}}`,
	},
	{"subscribe, nothing to say", &Reply{Id: 2, Subscribe: &SubscribeResult{}}, `{"id":2,"subscribe":{}}`},
	{
		"subscribe, recovered", &Reply{Id: 2, Subscribe: &SubscribeResult{
			Recoverable: true, Epoch: "x", Recovered: true, Offset: 4, Positioned: true, WasRecovering: true,
			Publications: []*Publication{{Data: []byte(" 1 "), Offset: 5}, {Data: []byte(`"a b"`), Offset: 6}},
		}},
		`{"id":2,"subscribe":{"recoverable":true,"epoch":"x","publications":[{"data":1,"offset":5},{"data":"a b","offset":6}],` +
			`"recovered":true,"offset":4,"positioned":true,"was_recovering":true}}`,
	},
	{
		"subscribe, map", &Reply{Id: 2, Subscribe: &SubscribeResult{
			Expires: true, Ttl: 5, Data: []byte("{}"), Delta: true, Id: -2, Type: 1, Phase: 2, Cursor: "c",
			State: []*Publication{{Key: "k", Removed: true, Score: -5, Version: 9}}, PublishDebounce: 10,
		}},
		`{"id":2,"subscribe":{"expires":true,"ttl":5,"data":{},"delta":true,"id":-2,"type":1,"phase":2,"cursor":"c",` +
			`"state":[{"key":"k","removed":true,"score":-5,"version":9}],"publish_debounce":10}}`,
	},
	{"unsubscribe", &Reply{Id: 3, Unsubscribe: &UnsubscribeResult{}}, `{"id":3,"unsubscribe":{}}`},
	{"publish", &Reply{Id: 3, Publish: &PublishResult{}}, `{"id":3,"publish":{}}`},
	{"presence of nobody", &Reply{Id: 3, Presence: &PresenceResult{}}, `{"id":3,"presence":{"presence":{}}}`},
	{
		"presence", &Reply{Id: 3, Presence: &PresenceResult{Presence: map[string]*ClientInfo{"c2": {}, "c1": info}}},
		`{"id":3,"presence":{"presence":{"c1":{"user":"42","client":"c1","conn_info":{"name":"Ann"}},"c2":{"user":"","client":""}}}}`,
	},
	{
		"presence stats of nobody", &Reply{Id: 3, PresenceStats: &PresenceStatsResult{}},
		`{"id":3,"presence_stats":{"num_clients":0,"num_users":0}}`,
	},
	{"history, empty", &Reply{Id: 3, History: &HistoryResult{}}, `{"id":3,"history":{"publications":[],"epoch":"","offset":0}}`},
	{
		"history", &Reply{Id: 3, History: &HistoryResult{Publications: []*Publication{{Offset: 1}, {}}, Epoch: "x", Offset: 1<<64 - 1}},
		`{"id":3,"history":{"publications":[{"offset":1},{}],"epoch":"x","offset":18446744073709551615}}`,
	},
	{"ping result", &Reply{Id: 4, Ping: &PingResult{}}, `{"id":4,"ping":{}}`},
	{"rpc", &Reply{Id: 1<<32 - 1, Rpc: &RPCResult{Data: []byte("[\r\n1 ,\t2]")}}, `{"id":4294967295,"rpc":{"data":[1,2]}}`},
	{"refresh", &Reply{Id: 5, Refresh: &RefreshResult{Client: "c1", Version: "1", Expires: true, Ttl: 9}}, `{"id":5,"refresh":{"client":"c1","version":"1","expires":true,"ttl":9}}`},
	{
		"sub_refresh", &Reply{Id: 6, SubRefresh: &SubRefreshResult{Expires: true, Ttl: 9, Items: []*Publication{{Key: "k"}}}},
		`{"id":6,"sub_refresh":{"expires":true,"ttl":9,"items":[{"key":"k"}]}}`,
	},
	{
		"push pub", &Reply{Push: &Push{Channel: "news", Pub: &Publication{Data: []byte(`{"a":1}`), Offset: 1}}},
		`{"push":{"channel":"news","pub":{"data":{"a":1},"offset":1}}}`,
	},
	{
		"push pub, everything", &Reply{Push: &Push{Id: 8, Pub: &Publication{
			Data: []byte(`"<&>é\u2028"`), Info: info, Tags: map[string]string{"b": `"\`, "a": ""}, Delta: true, Time: 1, Channel: "c", Epoch: "e",
			PrevData: []byte("1e3"),
		}}},
		`{"push":{"id":8,"pub":{"data":"<&>é\u2028","info":{"user":"42","client":"c1","conn_info":{"name":"Ann"}},` +
			`"tags":{"a":"","b":"\"\\"},"delta":true,"time":1,"channel":"c","epoch":"e","prev_data":1e3}}}`,
	},
	{
		"push join", &Reply{Push: &Push{Channel: "c", Join: &Join{Info: &ClientInfo{ChanInfo: []byte("[]")}}}},
		`{"push":{"channel":"c","join":{"info":{"user":"","client":"","chan_info":[]}}}}`,
	},
	{"push leave", &Reply{Push: &Push{Channel: "c", Leave: &Leave{}}}, `{"push":{"channel":"c","leave":{}}}`},
	{
		"push unsubscribe", &Reply{Push: &Push{Channel: "c", Unsubscribe: &Unsubscribe{Code: 2500, Reason: "insufficient state"}}},
		`{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`,
	},
	{"push message", &Reply{Push: &Push{Message: &Message{Data: []byte("0")}}}, `{"push":{"message":{"data":0}}}`},
	{
		"push subscribe", &Reply{Push: &Push{Channel: "c", Subscribe: &Subscribe{Recoverable: true, Epoch: "e", Offset: 2, Positioned: true, Data: []byte("0")}}},
		`{"push":{"channel":"c","subscribe":{"recoverable":true,"epoch":"e","offset":2,"positioned":true,"data":0}}}`,
	},
	{
		"push connect", &Reply{Push: &Push{Connect: &Connect{
			Client: "c1", Version: "1", Data: []byte("0"), Subs: map[string]*SubscribeResult{"a": {}}, Expires: true, Ttl: 1, Ping: 25, Pong: true, Time: 3,
		}}},
		`{"push":{"connect":{"client":"c1","version":"1","data":0,"subs":{"a":{}},"expires":true,"ttl":1,"ping":25,"pong":true,"time":3}}}`,
	},
	{
		"push disconnect", &Reply{Push: &Push{Disconnect: &Disconnect{Code: 3001, Reason: "shutdown", Reconnect: true}}},
		`{"push":{"disconnect":{"code":3001,"reason":"shutdown","reconnect":true}}}`,
	},
	{"push refresh", &Reply{Push: &Push{Refresh: &Refresh{Expires: true, Ttl: 1}}}, `{"push":{"refresh":{"expires":true,"ttl":1}}}`},
}

func TestAppendReplyJSON(t *testing.T) {
	for _, test := range replies {
		t.Run(test.name, func(t *testing.T) {
			got, err := JSON.AppendReply(nil, test.in)
			if err != nil || string(got) != test.want {
				t.Fatalf("got  %s, %v\nwant %s", got, err, test.want)
			}
			if got, _ := JSON.AppendReply([]byte("{}"), test.in); string(got) != "{}\n"+test.want {
				t.Errorf("as the second: %s", got)
			}
			again, err := JSON.AppendReply(nil, only(t, JSON.Replies, got))
			if err != nil || string(again) != test.want {
				t.Errorf("read and written again: %s, %v", again, err)
			}
		})
	}
}

// TestRepliesOneFrame has all of them in one frame.
func TestRepliesOneFrame(t *testing.T) {
	for _, c := range []Codec{JSON, Protobuf} {
		t.Run(c.name(), func(t *testing.T) {
			var frame []byte
			for _, test := range replies {
				var err error
				if frame, err = c.AppendReply(frame, test.in); err != nil {
					t.Fatal(err)
				}
			}
			got := all(t, c.Replies, frame)
			if len(got) != len(replies) {
				t.Fatalf("%d replies became %d", len(replies), len(got))
			}
			for i, test := range replies {
				// The data need not be equal in JSON; TestAppendReplyJSON compares it.
				if c == Protobuf && !proto.Equal(got[i], test.in) {
					t.Errorf("%s became %v", test.name, got[i])
				}
			}
		})
	}
}

func TestEmptyMessageIsAByte(t *testing.T) {
	got, err := Protobuf.AppendReply([]byte{1}, &Reply{})
	if err != nil || string(got) != "\x01\x00" {
		t.Errorf("ping: %q, %v", got, err)
	}
	if got, err = Protobuf.AppendCommand(nil, &Command{}); err != nil || string(got) != "\x00" {
		t.Errorf("pong: %q, %v", got, err)
	}
}

func TestDataThatIsNotJSON(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for _, data := range []string{"\x00\x01", " ", "{", "1 2", `{"a":1}}`, "\"\xff\"", "nul", "'a'", "\"\n\"", "01", deep} {
		for _, before := range []string{"", "{}"} {
			frame := make([]byte, len(before), 4096)
			copy(frame, before)
			got, err := JSON.AppendReply(frame, &Reply{Push: &Push{Pub: &Publication{Data: []byte(data)}, Message: &Message{Data: []byte("1")}}})
			if !errors.Is(err, ErrNotJSON) || string(got) != before {
				t.Errorf("%.20q after %q: %q, %v", data, before, got, err)
			}
		}
		r := &Reply{Push: &Push{Pub: &Publication{Data: []byte(data)}}}
		if frame, err := Protobuf.AppendReply(nil, r); err != nil || !proto.Equal(only(t, Protobuf.Replies, frame), r) {
			t.Errorf("%.20q under Protobuf: %v", data, err)
		}
	}
	if got, err := JSON.AppendCommand([]byte("{}"), &Command{Send: &SendRequest{Data: []byte("x")}}); !errors.Is(err, ErrNotJSON) || string(got) != "{}" {
		t.Errorf("of a command: %q, %v", got, err)
	}
}

// TestStringsThatAreNotUTF8 is about JSON: what is written is valid whatever it
// was made of.
func TestStringsThatAreNotUTF8(t *testing.T) {
	got, err := JSON.AppendReply(nil, &Reply{Push: &Push{Channel: "a\xffb\xed\xa0\x80", Pub: &Publication{Tags: map[string]string{"\xc3": "\x7f"}}}})
	if want := `{"push":{"channel":"a�b���","pub":{"tags":{"�":"` + "\x7f" + `"}}}}`; err != nil || string(got) != want {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}

func TestAllocations(t *testing.T) {
	frame, pong, zero := make([]byte, 0, 512), []byte("{}"), []byte{0}
	push := &Reply{Push: &Push{Channel: "news", Pub: &Publication{Data: []byte(`{"a":[1,2,"b"]}`), Offset: 9}}}
	for _, test := range []struct {
		name string
		run  func()
	}{
		{"JSON publication", func() { JSON.AppendReply(frame, push) }},
		{"Protobuf publication", func() { Protobuf.AppendReply(frame, push) }},
		{"JSON pong", func() { drain(JSON, pong) }},
		{"Protobuf pong", func() { drain(Protobuf, zero) }},
	} {
		if n := testing.AllocsPerRun(100, test.run); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func drain(c Codec, frame []byte) {
	for _, err := range c.Commands(frame) {
		if err != nil {
			panic(err)
		}
	}
}
