package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// answers are bodies, and what they are: "" is a result.
var answers = []struct {
	event Event
	body  string
	want  string
}{
	{EventConnect, `{"result":{"user":"42"}}`, ""},
	{EventConnect, ` {"result":{"user":""},"error":null,"disconnect":null} `, ""},
	{EventConnect, `{"result":{"user":"1","expire_at":4102444800,"info":{"a":1},"data":[1],"channels":["a"],"subs":{"b":{"data":1,"override":{"presence":{"value":true}}},"c":null},"meta":{"m":1},"caps":[],"future":1}}`, ""},
	{EventConnect, `{"result":{"user":"1","b64info":"eyJhIjoxfQ==","b64data":"/wA="}}`, ""},
	{EventConnect, `{}`, "result.user is missing"},
	{EventConnect, `{"result":{}}`, "result.user is missing"},
	{EventConnect, `{"result":{"user":42}}`, "result.user has the wrong type: number"},
	{EventConnect, `{"result":{"user":"1","expire_at":"soon"}}`, "result.expire_at has the wrong type: string"},
	{EventConnect, `{"result":{"user":"1","expire_at":1.5}}`, "result.expire_at has the wrong type: number"},
	{EventConnect, `{"result":{"user":"1","expire_at":-1}}`, "result.expire_at is negative"},
	{EventConnect, `{"result":{"user":"1","channels":"a"}}`, "result.channels has the wrong type: string"},
	{EventConnect, `{"result":{"user":"1","subs":[]}}`, "result.subs has the wrong type: array"},
	{EventConnect, `{"result":{"user":"1","subs":{"a":{"expire_at":-1}}}}`, "result.subs"},
	{EventConnect, `{"result":{"user":"1","meta":"x"}}`, "result.meta is no object"},
	{EventConnect, `{"result":{"user":"1","meta":null,"info":null,"data":null}}`, ""},
	{EventConnect, `{"result":{"user":"1","b64info":"!"}}`, "cannot be read"},
	{EventConnect, `{"result":{"user":"1","b64info":"/wA="}}`, "b64info is not JSON"},
	{EventConnect, `{"result":{"user":"1","subs":{"a":{"b64info":"/wA="}}}}`, "b64info is not JSON"},
	{EventConnect, `{"result":{"user":"1"},"error":{"code":400}}`, "more than one"},
	{EventConnect, `{"error":{"code":400},"disconnect":{"code":4000}}`, "more than one"},
	{EventConnect, `{"error":{"code":400,"message":"no","temporary":true}}`, "refusal 400 no true"},
	{EventRPC, `{"error":{"code":103,"message":"no"}}`, "refusal 103 no false"},
	{EventRPC, `{"error":{"code":0,"message":"no"}}`, "error.code: 0"},
	{EventRPC, `{"error":{"code":399,"message":"no"}}`, "error.code: 399"},
	{EventRPC, `{"error":{"code":2000,"message":"no"}}`, "error.code: 2000"},
	{EventRPC, `{"error":{"code":-1,"message":"no"}}`, "error.code has the wrong type"},
	{EventRPC, `{"error":{"code":400,"message":"` + strings.Repeat("x", 1025) + `"}}`, "error.message"},
	{EventRPC, `{"disconnect":{"code":4501,"reason":"no"}}`, "disconnect 4501 no"},
	{EventRPC, `{"disconnect":{"code":3000,"reason":"no"}}`, "disconnect.code: 3000"},
	{EventRPC, `{"disconnect":{"code":5000,"reason":"no"}}`, "disconnect.code: 5000"},
	{EventRPC, `{"disconnect":{"code":70000,"reason":"no"}}`, "disconnect.code has the wrong type"},
	{EventRPC, `{"disconnect":{"code":4501,"reason":"` + strings.Repeat("x", 124) + `"}}`, "disconnect.reason"},
	{EventSubscribe, `{"result":{"allow":["sub","pub","prs","hst"]}}`, ""},
	{EventSubscribe, `{"result":{"allow":["all"]}}`, "result.allow"},
	{EventRPC, `{"result":{"data":{"a":1}}}`, ""},
	{EventRPC, `{}`, ""},
	{EventRPC, `[]`, "no JSON object"},
	{EventRPC, `null`, "no JSON object"},
	{EventRPC, ``, "no JSON object"},
	{EventRPC, `{"result":{}} {}`, "it is not JSON, at byte"},
	{EventRPC, `{"result":`, "it is not JSON, at byte"},
	{EventRPC, "{\"result\":{\"data\":\"\xff\"}}", "UTF-8"},
	{EventRPC, `{"result":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, "it is not JSON"},
	{EventPublish, `{"result":{"data":1,"skip_history":true,"tags":{"a":"b"},"version":3,"delta":true,"idempotency_key":"k"}}`, ""},
	{EventPublish, `{"result":{"tags":{"a":1}}}`, "result.tags"},
	{EventPublish, `{"result":{"version":-1}}`, "result.version has the wrong type"},
	{EventSubscribe, `{"result":{"allow":["pub"],"override":{"join_leave":{"value":"yes"}}}}`, "has the wrong type: string"},
	{EventRefresh, `{"result":{"expired":true}}`, ""},
	{EventRefresh, `{}`, ""},
	{EventRefresh, `{"error":{"code":400}}`, "a result alone"},
	{EventSubRefresh, `{"disconnect":{"code":4000}}`, "a result alone"},
}

func TestDecode(t *testing.T) {
	for _, tt := range answers {
		name := tt.body[:min(len(tt.body), 80)]
		a, err := decode(tt.event, []byte(tt.body))
		var refusal *Refusal
		var disconnect *Disconnect
		got := ""
		switch {
		case errors.As(err, &refusal):
			got = fmt.Sprintf("refusal %d %s %t", refusal.Code, refusal.Message, refusal.Temporary)
		case errors.As(err, &disconnect):
			got = fmt.Sprintf("disconnect %d %s", disconnect.Code, disconnect.Reason)
		case err != nil:
			if !errors.Is(err, errUnreadable) {
				t.Errorf("%s: %v", name, err)
			}
			got = err.Error()
		case a == nil:
			t.Errorf("%s: neither an answer nor an error", name)
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	a, err := decode(EventConnect, []byte(`{"result":{"user":"1","info":{"no":1},"b64info":"eyJhIjoxfQ==","b64data":"/wA=","subs":{"c":null}}}`))
	if err != nil || string(a.Info) != `{"a":1}` || string(a.Data) != "\xff\x00" || a.B64Info != nil || a.Subs["c"] == nil {
		t.Errorf("%+v: %v", a, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, tt := range answers {
		f.Add(string(tt.event), []byte(tt.body))
	}
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		a, err := decode(Event(event), body)
		var refusal *Refusal
		var disconnect *Disconnect
		switch {
		case (a == nil) == (err == nil):
			t.Fatalf("an answer or an error: %v, %v", a, err)
		case errors.As(err, &refusal):
			if refusal.check() != nil {
				t.Errorf("%+v", refusal)
			}
		case errors.As(err, &disconnect):
			if disconnect.check() != nil {
				t.Errorf("%+v", disconnect)
			}
		case err == nil:
			for _, v := range []json.RawMessage{a.Info, a.Meta} {
				if len(v) > 0 && !json.Valid(v) {
					t.Errorf("%q is not JSON", v)
				}
			}
			if a.ExpireAt < 0 || event == string(EventConnect) && a.User == nil {
				t.Errorf("%+v", a)
			}
			for channel, s := range a.Subs {
				if s == nil || s.ExpireAt < 0 || len(s.Info) > 0 && !json.Valid(s.Info) {
					t.Errorf("%q: %+v", channel, s)
				}
			}
		}
	})
}
