package centrifuge

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

var epochs = regexp.MustCompile(`"epoch":"[^"]*"`)

func maskEpoch(s string) string { return epochs.ReplaceAllString(s, `"epoch":"<epoch>"`) }

var on, off = &hub.Switch{Value: true}, &hub.Switch{}

// quiet is a namespace in which nothing is on, past is one with a history.
var (
	quiet = hub.Namespace{Name: "quiet", Options: hub.Options{AllowSubscribeForClient: true}}
	past  = hub.Namespace{Name: "past", Options: hub.Options{HistorySize: 10, HistoryTTL: time.Minute, AllowSubscribeForClient: true}}
)

// What an identity says takes effect: in the answer, in each subscription, in what others see, and for the backend.
func TestIdentityTakesEffect(t *testing.T) {
	a := tokens{identities: map[string]Identity{
		"ann": {
			User: "ann", Info: json.RawMessage(`{"n":"Ann"}`), Data: []byte(`{"hello":1}`), Meta: json.RawMessage(`{"plan":"gold"}`),
			Subs: []ServerSubscription{
				{Channel: "room", Info: json.RawMessage(`{"seat":1}`), Data: []byte(`"first"`)},
				{Channel: "room", Data: []byte(`"second"`)},
				{Channel: "quiet:q", Override: &hub.Override{ForceRecovery: on, ForcePositioning: on}},
				{Channel: "past:p", Override: &hub.Override{ForceRecovery: on}},
			},
		},
		"other": {User: "ann", Info: json.RawMessage(`{"n":"Anna"}`)},
		"same":  {User: "ann"},
	}}
	h := newHandler(t, Config{Authenticator: a, Hub: newHub(t, hub.Config{Channels: open, Namespaces: []hub.Namespace{quiet, past}})})
	p := newPeer(t, h, Params{})
	p.say(`{"id":1,"connect":{"token":"ann"}}`)
	var reply struct {
		Connect struct {
			Data json.RawMessage
			Subs map[string]struct{ Recoverable, Positioned bool }
		}
	}
	first := p.take(t)[0]
	if err := json.Unmarshal([]byte(first), &reply); err != nil {
		t.Fatal(err)
	}
	if string(reply.Connect.Data) != `{"hello":1}` || !strings.Contains(first, `"data":"first"`) || len(reply.Connect.Subs) != 3 {
		t.Errorf("connect: %s", first)
	}
	if s := reply.Connect.Subs["quiet:q"]; s.Recoverable || s.Positioned {
		t.Error("a channel without a history is recoverable")
	}
	if s := reply.Connect.Subs["past:p"]; !s.Recoverable || !s.Positioned {
		t.Error("an override does not make a channel recoverable")
	}
	if strings.Contains(first, "gold") {
		t.Error("a client sees the meta")
	}
	seen := func() string {
		list, err := h.config.Hub.Presence("room")
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return string(list[0].ConnInfo) + string(list[0].ChanInfo)
	}
	for _, want := range []struct{ token, info string }{{"", `{"n":"Ann"}`}, {"other", `{"n":"Anna"}`}, {"same", `{"n":"Anna"}`}} {
		if want.token != "" {
			p.say(`{"id":2,"refresh":{"token":"` + want.token + `"}}`)
			p.take(t)
		}
		if got := seen(); got != want.info+`{"seat":1}` {
			t.Errorf("after %q others see %s", want.token, got)
		}
		if string(p.Meta()) != `{"plan":"gold"}` {
			t.Errorf("after %q the meta is %s", want.token, p.Meta())
		}
	}
	p.OnClose()
	checkEmpty(t, h)
}

// Each option of a channel can be another for one subscription.
func TestOverrides(t *testing.T) {
	a := tokens{identities: map[string]Identity{"ann": {User: "ann"}, "bob": {User: "bob"}}, grants: map[string]Grant{
		"data":     {Grant: inquiry.Grant{Data: []byte(`{"k":1}`)}},
		"hidden":   {Grant: inquiry.Grant{Override: &hub.Override{Presence: off}}},
		"silent":   {Grant: inquiry.Grant{Override: &hub.Override{JoinLeave: off}}},
		"pushed":   {Grant: inquiry.Grant{Override: &hub.Override{JoinLeave: on, ForcePushJoinLeave: on}}},
		"position": {Grant: inquiry.Grant{Override: &hub.Override{ForcePositioning: on}}},
		"recover":  {Grant: inquiry.Grant{Override: &hub.Override{ForceRecovery: on}}},
		"lossy":    {Grant: inquiry.Grant{Override: &hub.Override{ForceRecovery: off}}},
	}}
	lossy := hub.Namespace{Name: "lossy", Options: hub.Options{HistorySize: 10, HistoryTTL: time.Minute, SlowPolicy: hub.SlowDropOldest}}
	h := newHandler(t, Config{Authenticator: a, Hub: newHub(t, hub.Config{Channels: open, Namespaces: []hub.Namespace{quiet, past, lossy}})})
	const epoch = `"epoch":"<epoch>"`
	for _, tt := range []struct{ token, channel, want string }{
		{"data", "quiet:a", `{"id":2,"subscribe":{"data":{"k":1}}}`},
		{"position", "past:a", `{"id":2,"subscribe":{` + epoch + `,"positioned":true}}`},
		{"recover", "past:a", `{"id":2,"subscribe":{"recoverable":true,` + epoch + `,"positioned":true}}`},
		{"recover", "quiet:a", `{"id":2,"subscribe":{}}`},
		{"lossy", "a", `{"id":2,"subscribe":{}}`},
		{"recover", "lossy:a", `{"id":2,"subscribe":{"recoverable":true,` + epoch + `,"positioned":true}}`},
	} {
		p := newPeer(t, h, Params{}).connect("ann")
		p.say(`{"id":2,"subscribe":{"channel":"` + tt.channel + `","token":"` + tt.token + `"}}`)
		if got := p.take(t); len(got) != 1 || maskEpoch(got[0]) != tt.want {
			t.Errorf("%s in %s: %s, want %s", tt.token, tt.channel, got, tt.want)
		}
		if tt.channel == "lossy:a" {
			publish(t, h, "lossy:a", "1")
			if n := len(p.policies); n != 1 || p.policies[0] == hub.SlowDropOldest {
				t.Errorf("the client relies on its position, but the policies are %q", p.policies)
			}
		}
		p.OnClose()
	}
	present := func(token, channel string) int {
		p := newPeer(t, h, Params{}).connect("ann")
		defer p.OnClose()
		p.say(`{"id":2,"subscribe":{"channel":"` + channel + `","token":"` + token + `"}}`)
		list, err := h.config.Hub.Presence(channel)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if present("data", "a") != 1 || present("hidden", "a") != 0 {
		t.Error("the presence does not heed the override")
	}
	heard := func(listener, comer, channel string) string {
		p, q := newPeer(t, h, Params{}).connect("ann"), newPeer(t, h, Params{}).connect("bob")
		defer p.OnClose()
		defer q.OnClose()
		p.say(`{"id":2,"subscribe":{"channel":"` + channel + `","token":"` + listener + `","join_leave":true}}`)
		p.take(t)
		q.say(`{"id":2,"subscribe":{"channel":"` + channel + `","token":"` + comer + `"}}`)
		return strings.Join(p.take(t), "")
	}
	if !strings.Contains(heard("data", "data", "a"), `"join"`) || heard("data", "silent", "a") != "" || heard("silent", "data", "a") != "" {
		t.Error("join_leave cannot be turned off for one")
	}
	if !strings.Contains(heard("pushed", "pushed", "quiet:a"), `"join"`) || heard("pushed", "data", "quiet:a") != "" {
		t.Error("join_leave cannot be turned on for one")
	}
	checkEmpty(t, h)
}

// What the server has subscribed a client to is not the client's to renew: it says nothing of its end, and then disconnects.
func TestServerSubscriptionExpires(t *testing.T) {
	a := tokens{identities: map[string]Identity{
		"soon": {User: "ann", Subs: []ServerSubscription{{Channel: "plain:a", Expires: soon(100 * time.Second)}}},
		"over": {User: "ann", Subs: []ServerSubscription{{Channel: "plain:a", Expires: soon(-time.Second)}}},
	}}
	h := newHandler(t, Config{Authenticator: a})
	p := newPeer(t, h, Params{})
	p.say(`{"id":1,"connect":{"token":"soon"}}`)
	if got := p.take(t)[0]; strings.Contains(got, "ttl") {
		t.Errorf("connect: %s", got)
	}
	advance(h, 120*time.Second, p)
	if p.ended() != "" {
		t.Errorf("ended early: %s", p.ended())
	}
	advance(h, 10*time.Second, p)
	if p.ended() != "3006 subscription expired" {
		t.Errorf("ended: %q", p.ended())
	}
	p.OnClose()
	q := newPeer(t, h, Params{})
	q.say(`{"id":1,"connect":{"token":"over"}}`)
	q.expect(`{"id":1,"error":{"code":110,"message":"expired"}}`)
	q.OnClose()
	checkEmpty(t, h)
}
