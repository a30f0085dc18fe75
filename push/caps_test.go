package push

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// capable is a server whose channels have all and give nothing.
func capable() Config {
	o := hub.Options{Presence: true, JoinLeave: true, HistorySize: 10, HistoryTTL: time.Hour, AllowUserLimitedChannels: true}
	asks := o
	asks.SubscribeWebhook, asks.PublishWebhook = "subscribe", "publish"
	return Config{
		TokenSecret: secret, Version: "v1", Channels: o,
		Namespaces: []Namespace{{Name: "ns", Options: o}, {Name: "asks", Options: asks}},
	}
}

type entries []map[string]any

func caps(match string, channels []string, allow ...string) map[string]any {
	return map[string]any{"channels": channels, "match": match, "allow": allow}
}

var capsOf = map[string]entries{
	"all":     {caps("wildcard", []string{"*"}, "sub", "pub", "prs", "hst")},
	"sub":     {caps("", []string{"ns:x"}, "sub")},
	"pub":     {caps("regex", []string{`ns:\d+`}, "pub")},
	"none":    {},
	"private": {caps("wildcard", []string{"$*", "*#*"}, "sub", "pub", "prs", "hst")},
}

const refused103 = denied + "}"

var capsTable = []struct{ name, who, lines string }{
	{"all", "all", `
		> {"id":2,"subscribe":{"channel":"ns:x","recoverable":true,"join_leave":true}}
		~ {"push":{"channel":"ns:x","join":{"info":{"user":"ann","client":"<client>"}}}}
		~ {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
		> {"id":3,"presence_stats":{"channel":"ns:x"}}
		< {"id":3,"presence_stats":{"num_clients":1,"num_users":1}}
		> {"id":4,"history":{"channel":"ns:x"}}
		< {"id":4,"history":{"publications":[],"epoch":"<epoch>","offset":0}}
		> {"id":5,"publish":{"channel":"ns:y","data":1}}
		< {"id":5,"publish":{}}`},
	{"one right, one channel", "sub", `
		> {"id":2,"subscribe":{"channel":"ns:x","recoverable":true,"join_leave":true}}
		< {"id":2,"subscribe":{}}
		> {"id":3,"presence":{"channel":"ns:x"}}
		< {"id":3,` + refused103 + `
		> {"id":4,"history":{"channel":"ns:x"}}
		< {"id":4,` + refused103 + `
		> {"id":5,"publish":{"channel":"ns:x","data":1}}
		< {"id":5,` + refused103 + `
		> {"id":6,"subscribe":{"channel":"ns:xx"}}
		< {"id":6,` + refused103},
	{"to publish alone", "pub", `
		> {"id":2,"publish":{"channel":"ns:42","data":1}}
		< {"id":2,"publish":{}}
		> {"id":3,"subscribe":{"channel":"ns:42"}}
		< {"id":3,` + refused103 + `
		> {"id":4,"publish":{"channel":"ns:42x","data":1}}
		< {"id":4,` + refused103},
	{"none", "none", `
		> {"id":2,"subscribe":{"channel":"ns:x"}}
		< {"id":2,` + refused103},
	{"names go before", "private", `
		> {"id":2,"subscribe":{"channel":"$ns:x"}}
		< {"id":2,` + refused103 + `
		> {"id":3,"publish":{"channel":"$ns:x","data":1}}
		< {"id":3,` + refused103 + `
		> {"id":4,"presence":{"channel":"$ns:x"}}
		< {"id":4,` + refused103 + `
		> {"id":5,"subscribe":{"channel":"ns:x#bob"}}
		< {"id":5,` + refused103 + `
		> {"id":6,"history":{"channel":"ns:x#bob"}}
		< {"id":6,` + refused103 + `
		> {"id":7,"publish":{"channel":"ns:x#bob","data":1}}
		< {"id":7,` + refused103 + `
		> {"id":8,"publish":{"channel":"ns:x#ann","data":1}}
		< {"id":8,"publish":{}}`},
}

// Capabilities of a token, and of a backend, give rights beside the options; the channels' names go before.
func TestCapabilities(t *testing.T) {
	tokens := map[string]jwt.MapClaims{
		"broken": {"sub": "ann", "caps": entries{caps("regex", []string{"("}, "sub")}},
		"kind":   {"sub": "ann", "caps": "all"},
		"grant":  {"sub": "ann", "channel": "$ns:x"},
	}
	for name, list := range capsOf {
		tokens[name] = jwt.MapClaims{"sub": "ann", "caps": list}
	}
	var table []conversation
	for _, tt := range capsTable {
		table = append(table, conversation{name: tt.name, lines: `> {"id":1,"connect":{"token":"<` + tt.who + `>"}}` + "\n< " + connected + tt.lines})
	}
	table = append(table, []conversation{
		{name: "in a private channel with a token", lines: `
			> {"id":1,"connect":{"token":"<private>"}}
			< ` + connected + `
			> {"id":2,"subscribe":{"channel":"$ns:x","token":"<grant>"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"presence_stats":{"channel":"$ns:x"}}
			< {"id":3,"presence_stats":{"num_clients":1,"num_users":1}}`},
		{name: "a refresh takes them, and what was had by them", lines: `
			> {"id":1,"connect":{"token":"<all>"}}
			< ` + connected + `
			> {"id":2,"subscribe":{"channel":"ns:x"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"subscribe":{"channel":"ns:y"}}
			< {"id":3,"subscribe":{}}
			> {"id":4,"subscribe":{"channel":"$ns:x","token":"<grant>"}}
			< {"id":4,"subscribe":{}}
			> {"id":5,"refresh":{"token":"<sub>"}}
			~ {"push":{"channel":"ns:y","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			~ {"id":5,"refresh":{"client":"<client>","version":"v1"}}
			> {"id":6,"publish":{"channel":"ns:x","data":1}}
			< {"id":6,` + refused103 + `
			> {"id":7,"subscribe":{"channel":"ns:y"}}
			< {"id":7,` + refused103},
		{name: "no regular expression", lines: "> {\"id\":1,\"connect\":{\"token\":\"<broken>\"}}\nx 3500 invalid token"},
		{name: "no list", lines: "> {\"id\":1,\"connect\":{\"token\":\"<kind>\"}}\nx 3500 invalid token"},
	}...)
	config := capable()
	config.Namespaces = config.Namespaces[:1]
	haveAll(t, prepare(table, config, tokens))
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answerAnn is what a backend says of a connection with capabilities.
func answerAnn(t *testing.T, list any) string {
	t.Helper()
	return `{"result":{"user":"ann","caps":` + jsonOf(t, list) + `}}`
}

func askingCapable(a *application) Config {
	c := capable()
	c.Webhooks = asksAll(a.URL).Webhooks
	return c
}

func TestCapabilitiesOfBackend(t *testing.T) {
	says := map[string]string{"subscribe": `{"error":{"code":1000,"message":"no"}}`, "publish": `500 `}
	for _, tt := range capsTable {
		for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
			t.Run(tt.name+"/"+codecName(codec), func(t *testing.T) {
				t.Parallel()
				a := newApplication(t, maps.Clone(says))
				a.say("connect", answerAnn(t, capsOf[tt.who]))
				newStage(t, askingCapable(a), codec, users).play("> " + connectNone + "\n< " + connected + tt.lines)
			})
		}
	}
	t.Run("subscribe_webhook decides, publish_webhook is not asked", func(t *testing.T) {
		t.Parallel()
		a := newApplication(t, maps.Clone(says))
		a.say("connect", answerAnn(t, capsOf["all"]))
		newStage(t, askingCapable(a), wire.JSON, users).play("> " + connectNone + "\n< " + connected + `
			> {"id":2,"subscribe":{"channel":"asks:x"}}
			< {"id":2,"error":{"code":1000,"message":"no"}}
			> {"id":3,"publish":{"channel":"asks:x","data":1}}
			< {"id":3,"publish":{}}`)
	})
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		a := newApplication(t, maps.Clone(says))
		a.say("connect", answerAnn(t, entries{caps("regex", []string{"("}, "sub")}))
		s := newStage(t, askingCapable(a), wire.JSON, users)
		s.play("> " + connectNone + "\n" + `< {"id":1,` + internal)
		want := `millpond_webhook_requests_total{outcome="unreadable",webhook="connect"} 1`
		if _, metrics := request(t, "GET", s.server.internalURL("/metrics"), ""); !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	})
	t.Run("refresh", func(t *testing.T) {
		t.Parallel()
		a := newApplication(t, maps.Clone(says))
		a.say("connect", strings.Replace(answerAnn(t, capsOf["all"]), `"user"`, `"expire_at":SOON,"user"`, 1))
		a.say("refresh", `{"result":{"expire_at":SOON}}`)
		c := askingCapable(a)
		c.Webhooks.Refresh = "refresh"
		s := newStage(t, c, wire.JSON, users)
		s.play("> " + connectNone + "\n< " + connected + `
			> {"id":2,"subscribe":{"channel":"ns:x"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"subscribe":{"channel":"ns:y"}}
			< {"id":3,"subscribe":{}}`)
		n := a.questions("refresh")
		eventually(t, "a refresh that says nothing of them", func() bool { return a.questions("refresh") > n+1 })
		a.say("refresh", `{"result":{"caps":`+jsonOf(t, capsOf["sub"])+`}}`)
		s.play(`< {"push":{"channel":"ns:y","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			> {"id":4,"publish":{"channel":"ns:x","data":1}}
			< {"id":4,` + refused103)
	})
}

// The plain protocol has them too, by a token or a backend.
func TestPlainCapabilities(t *testing.T) {
	const no = `"code":103,"message":"permission denied: you may not `
	enter := map[string]func(t *testing.T, who string) *plainPeer{
		"token": func(t *testing.T, who string) *plainPeer {
			c := capable()
			c.Namespaces = c.Namespaces[:1]
			p := dialPlain(t, startServer(t, c), "", nil)
			p.send(`{"type":"login","id":1,"payload":{"token":"` + signed(t, jwt.MapClaims{"sub": "ann", "caps": capsOf[who]}) + `"}}`)
			return p
		},
		"backend": func(t *testing.T, who string) *plainPeer {
			a := newApplication(t, map[string]string{"connect": answerAnn(t, capsOf[who])})
			p := dialPlain(t, startServer(t, askingCapable(a)), "", nil)
			p.send(`{"type":"login","id":1,"payload":{}}`)
			return p
		},
	}
	for _, by := range slices.Sorted(maps.Keys(enter)) {
		for who, lines := range map[string]string{
			"all": `
				> {"type":"subscribe","id":2,"payload":{"channel":"ns:x","since":{"offset":0,"epoch":"no"}}}
				< {"type":"reply","id":2,"ok":true,"channel":"ns:x","offset":0,"epoch":"<epoch>","recovered":false}
				> {"type":"publish","id":3,"payload":{"channel":"ns:y","data":1}}
				< {"type":"reply","id":3,"ok":true,"channel":"ns:y","offset":1}
				> {"type":"presence","id":4,"payload":{"channel":"ns:x"}}
				< {"type":"reply","id":4,"ok":true,"channel":"ns:x","clients":[{"user":"ann","client":"<client>"}]}`,
			"sub": `
				> {"type":"subscribe","id":2,"payload":{"channel":"ns:x","since":{"offset":0,"epoch":"no"}}}
				< {"type":"reply","id":2,"ok":true,"channel":"ns:x","offset":0,"epoch":"<epoch>"}
				> {"type":"publish","id":3,"payload":{"channel":"ns:x","data":1}}
				< {"type":"error","id":3,` + no + `publish to channel \"ns:x\""}
				> {"type":"subscribe","id":4,"payload":{"channel":"ns:y"}}
				< {"type":"error","id":4,` + no + `subscribe to channel \"ns:y\""}`,
			"private": `
				> {"type":"subscribe","id":2,"payload":{"channel":"$ns:x"}}
				< {"type":"error","id":2,` + no + `subscribe to channel \"$ns:x\""}
				> {"type":"publish","id":3,"payload":{"channel":"ns:x#bob","data":1}}
				< {"type":"error","id":3,` + no + `publish to channel \"ns:x#bob\""}`,
		} {
			t.Run(by+"/"+who, func(t *testing.T) {
				t.Parallel()
				enter[by](t, who).play(`< {"type":"reply","id":1,"ok":true,"user":"ann"}` + lines)
			})
		}
	}
	t.Run("refresh", func(t *testing.T) {
		t.Parallel()
		p := enter["token"](t, "all")
		p.play(`< {"type":"reply","id":1,"ok":true,"user":"ann"}
			> {"type":"subscribe","id":2,"payload":{"channels":["ns:x","ns:y"]}}`)
		_ = next(t, p.conn)
		p.send(`{"type":"login","id":3,"payload":{"token":"` + signed(t, jwt.MapClaims{"sub": "ann", "caps": capsOf["sub"]}) + `"}}`)
		p.play(`~ {"type":"unsubscribed","channel":"ns:y","code":2501,"message":"subscription expired"}
			~ {"type":"reply","id":3,"ok":true,"user":"ann"}`)
		p.play(`> {"type":"publish","id":4,"payload":{"channel":"ns:x","data":1}}
			< {"type":"error","id":4,` + no + `publish to channel \"ns:x\""}`)
	})
}
