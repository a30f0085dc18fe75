package push

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has who may subscribe to what, what the reply says, and what becomes of the past.

// spaces has a namespace for each thing that a channel can be.
func spaces() Config {
	kept := hub.Options{HistorySize: 5, HistoryTTL: time.Minute, AllowSubscribeForClient: true}
	history := func(change func(*hub.Options)) hub.Options {
		o := kept
		change(&o)
		return o
	}
	return Config{
		TokenSecret: secret,
		Channels:    ChannelOptions{AllowSubscribeForClient: true},
		Engine:      everybody().Engine,
		Namespaces: []Namespace{
			{Name: "none"},
			{Name: "open", Options: hub.Options{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true}},
			{Name: "regex", Options: hub.Options{AllowSubscribeForClient: true, ChannelRegex: "[a-z]+"}},
			{Name: "users", Options: hub.Options{AllowSubscribeForClient: true, AllowUserLimitedChannels: true}},
			{Name: "rec", Options: history(func(o *hub.Options) { o.ForceRecovery = true })},
			{Name: "may", Options: history(func(o *hub.Options) { o.AllowRecovery, o.AllowPositioning = true, true })},
			{Name: "pos", Options: history(func(o *hub.Options) { o.ForcePositioning = true })},
			{Name: "kept", Options: kept},
			{Name: "cache", Options: history(func(o *hub.Options) { o.ForceRecovery, o.RecoverLatest = true, true })},
			{Name: "tags", Options: history(func(o *hub.Options) { o.ForceRecovery, o.AllowTagsFilter = true, true })},
			{Name: "delta", Options: history(func(o *hub.Options) { o.ForceRecovery, o.AllowFossilDelta, o.AllowTagsFilter = true, true, true })},
		},
	}
}

// quiet is spaces without pings, in which nothing comes but what a conversation is about.
func quiet() Config {
	c := spaces()
	c.Engine.PingInterval = -1
	return c
}

const (
	hello = `{"id":1,"connect":{"token":"<ann>"}}`
	world = `{"id":1,"connect":{"client":"<client>"}}`
)

// after begins conversations with the login.
func after(table []conversation) []conversation {
	for i := range table {
		table[i].lines = "> " + hello + "\n< " + world + "\n" + table[i].lines
	}
	return table
}

func TestCentrifugeSubscribeChecks(t *testing.T) {
	tokens := map[string]jwt.MapClaims{
		"ann": {"sub": "ann"}, "nobody": {},
		"good":     {"sub": "ann", "channel": "$none:a", "info": map[string]int{"n": 1}},
		"mine":     {"sub": "ann", "channel": "$none:a", "client": "<client>"},
		"expired":  {"sub": "ann", "channel": "$none:a", "exp": in(-time.Minute)},
		"over":     {"sub": "ann", "channel": "$none:a", "exp": in(time.Hour), "expire_at": in(-time.Minute)},
		"expiring": {"sub": "ann", "channel": "$none:a", "exp": in(time.Hour)},
		"other":    {"sub": "ann", "channel": "$none:b"},
		"bob":      {"sub": "bob", "channel": "$none:a"},
		"elsewho":  {"sub": "ann", "channel": "$none:a", "client": "11111111-1111-4111-8111-111111111111"},
		"binary":   {"sub": "ann", "channel": "$none:a", "b64info": "/w=="},
		"listed":   {"sub": "ann", "channel": "users:a#bob"},
	}
	type row struct{ name, request, want string } // want is the rest of the reply, or the end
	rows := []row{
		{"allowed", `"channel":"a"`, `"subscribe":{}`},
		{"in a namespace", `"channel":"open:a"`, `"subscribe":{}`},
		{"with labels that mean nothing here", `"channel":"a","flag":1,"data":{"x":1},"join_leave":true,"positioned":true,"recoverable":true,"recover":true,"epoch":"_"`, `"subscribe":{}`},
		{"name of 255 bytes", `"channel":"` + strings.Repeat("x", 255) + `"`, `"subscribe":{}`},
		{"name of 256 bytes", `"channel":"<long>"`, `"error":{"code":107,"message":"bad request"}`},
		{"unknown namespace", `"channel":"nowhere:a"`, `"error":{"code":102,"message":"unknown channel"}`},
		{"unknown namespace, with a token", `"channel":"nowhere:a","token":"<good>"`, `"error":{"code":102,"message":"unknown channel"}`},
		{"name that matches", `"channel":"regex:a"`, `"subscribe":{}`},
		{"name that does not match", `"channel":"regex:a1"`, `"error":{"code":107,"message":"bad request"}`},
		{"no permission", `"channel":"none:a"`, `"error":{"code":103,"message":"permission denied"}`},
		{"private without a token", `"channel":"$a"`, `"error":{"code":103,"message":"permission denied"}`},
		{"private without a token, in a namespace", `"channel":"$open:a"`, `"error":{"code":103,"message":"permission denied"}`},
		{"private with a token", `"channel":"$none:a","token":"<good>"`, `"subscribe":{}`},
		{"token for this client", `"channel":"$none:a","token":"<mine>"`, `"subscribe":{}`},
		{"token that expires", `"channel":"$none:a","token":"<expiring>"`, `"subscribe":{"expires":true,"ttl":<any>}`},
		{"expired token", `"channel":"$none:a","token":"<expired>"`, `"error":{"code":109,"message":"token expired"}`},
		{"malformed token", `"channel":"$none:a","token":"<forged>"`, `"error":{"code":103,"message":"permission denied"}`},
		{"malformed token where none is needed", `"channel":"a","token":"<forged>"`, `"error":{"code":103,"message":"permission denied"}`},
		{"info that is no JSON", `"channel":"$none:a","token":"<binary>"`, `"error":{"code":103,"message":"permission denied"}`},
		{"token for another channel", `"channel":"$none:a","token":"<other>"`, "3500 invalid token"},
		{"token for another user", `"channel":"$none:a","token":"<bob>"`, "3500 invalid token"},
		{"token for another client", `"channel":"$none:a","token":"<elsewho>"`, "3500 invalid token"},
		{"subscription that is over", `"channel":"$none:a","token":"<over>"`, `"error":{"code":110,"message":"expired"}`},
		{"user-limited, listed", `"channel":"users:a#bob,ann"`, `"subscribe":{}`},
		{"user-limited, not listed", `"channel":"users:a#bob"`, `"error":{"code":103,"message":"permission denied"}`},
		{"user-limited, part of a name", `"channel":"users:a#ann2,an"`, `"error":{"code":103,"message":"permission denied"}`},
		{"user-limited, not listed, with a token", `"channel":"users:a#bob","token":"<listed>"`, `"subscribe":{}`},
		{"private and user-limited", `"channel":"$users:a#ann"`, `"error":{"code":103,"message":"permission denied"}`},
		{"unknown delta", `"channel":"delta:a","delta":"other"`, "3501 bad request"},
		{"unknown delta, before all else", `"channel":"<long>","delta":"other"`, "3501 bad request"},
		{"delta that is not allowed", `"channel":"open:a","delta":"fossil"`, `"subscribe":{}`},
		{"delta", `"channel":"delta:a","delta":"fossil"`, `"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true,"delta":true}`},
		{"map channel", `"channel":"a","type":1,"phase":2`, `"error":{"code":103,"message":"permission denied"}`},
		{"shared poll", `"channel":"a","type":4`, `"error":{"code":103,"message":"permission denied"}`},
		{"filter where there is none", `"channel":"open:a","tf":{"key":"a","cmp":"ex"}`, `"error":{"code":107,"message":"bad request"}`},
		{"filter where there is none, without permission", `"channel":"none:a","tf":{"key":"a","cmp":"ex"}`, `"error":{"code":103,"message":"permission denied"}`},
	}
	for name, filter := range map[string]string{
		"no comparison":          `{"key":"a"}`,
		"unknown comparison":     `{"key":"a","cmp":"like","val":"b"}`,
		"no key":                 `{"cmp":"eq","val":"b"}`,
		"unknown operation":      `{"op":"xor","nodes":[{"key":"a","cmp":"ex"}]}`,
		"and of nothing":         `{"op":"and"}`,
		"or of nothing":          `{"op":"or"}`,
		"not of nothing":         `{"op":"not"}`,
		"not of two":             `{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}`,
		"in of nothing":          `{"key":"a","cmp":"in"}`,
		"nin of nothing":         `{"key":"a","cmp":"nin","val":"b"}`,
		"less than a word":       `{"key":"a","cmp":"lt","val":"b"}`,
		"more than nothing":      `{"key":"a","cmp":"gte"}`,
		"a bad one behind a not": `{"op":"not","nodes":[{"op":"and","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"?"}]}]}`,
		"too many":               `{"op":"or","nodes":[` + strings.Repeat(`{"key":"a","cmp":"ex"},`, 64) + `{"key":"a","cmp":"ex"}]}`,
		"too deep":               strings.Repeat(`{"op":"not","nodes":[`, 20) + `{"key":"a","cmp":"ex"}` + strings.Repeat("]}", 20),
	} {
		rows = append(rows, row{"filter: " + name, `"channel":"tags:a","tf":` + filter, `"error":{"code":107,"message":"bad request"}`})
	}
	var table []conversation
	for _, r := range rows {
		lines := `> {"id":2,"subscribe":{` + r.request + "}}\n"
		if strings.HasPrefix(r.want, `"`) {
			lines += `< {"id":2,` + r.want + `}`
			if !strings.HasPrefix(r.want, `"error"`) {
				lines += "\n" + `> {"id":3,"subscribe":{` + r.request + `}}
					< {"id":3,"error":{"code":105,"message":"already subscribed"}}
					> {"id":4,"unsubscribe":` + `{` + strings.SplitN(r.request, `,"`, 2)[0] + `}}
					< {"id":4,"unsubscribe":{}}
					> {"id":5,"subscribe":{` + r.request + `}}
					< {"id":5,` + r.want + `}`
			}
		} else {
			lines += "x " + r.want
		}
		table = append(table, conversation{name: r.name, lines: lines})
	}
	table = after(table)
	table = append(table, conversation{name: "without a user", lines: `
		> {"id":1,"connect":{"token":"<nobody>"}}
		+ {"id":2,"subscribe":{"channel":"a"}}
		+ {"id":3,"subscribe":{"channel":"open:a"}}
		+ {"id":4,"subscribe":{"channel":"users:a#"}}
		+ {"id":5,"subscribe":{"channel":"users:a#,"}}
		< ` + world + `
		< {"id":2,"error":{"code":103,"message":"permission denied"}}
		< {"id":3,"subscribe":{}}
		< {"id":4,"error":{"code":103,"message":"permission denied"}}
		< {"id":5,"error":{"code":103,"message":"permission denied"}}`})
	haveAll(t, prepare(table, quiet(), tokens))
}

// A request that is wrong in two ways gets the answer to the first.
func TestCentrifugeSubscribeChecksInOrder(t *testing.T) {
	table := []conversation{
		{name: "limit", config: with(quiet(), func(c *Config) { c.MaxChannels = 2 }), lines: `
			> {"id":2,"subscribe":{"channel":"a"}}
			+ {"id":3,"subscribe":{"channel":"b"}}
			+ {"id":4,"subscribe":{"channel":"c"}}
			+ {"id":5,"subscribe":{"channel":"a"}}
			+ {"id":6,"subscribe":{"channel":"nowhere:a"}}
			+ {"id":7,"subscribe":{"channel":"<long>"}}
			+ {"id":8,"unsubscribe":{"channel":"a"}}
			+ {"id":9,"subscribe":{"channel":"c"}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"subscribe":{}}
			< {"id":4,"error":{"code":106,"message":"limit exceeded"}}
			< {"id":5,"error":{"code":105,"message":"already subscribed"}}
			< {"id":6,"error":{"code":106,"message":"limit exceeded"}}
			< {"id":7,"error":{"code":107,"message":"bad request"}}
			< {"id":8,"unsubscribe":{}}
			< {"id":9,"subscribe":{}}`},
		{name: "128 channels", lines: manyChannels(128) + `
			> {"id":1000,"subscribe":{"channel":"one more"}}
			< {"id":1000,"error":{"code":106,"message":"limit exceeded"}}`},
	}
	haveAll(t, prepare(after(table), quiet(), users))
}

func manyChannels(n int) string {
	var commands, replies strings.Builder
	for i := range n {
		fmt.Fprintf(&commands, "> {\"id\":%d,\"subscribe\":{\"channel\":\"%d\"}}\n", i+2, i)
		fmt.Fprintf(&replies, "< {\"id\":%d,\"subscribe\":{}}\n", i+2)
	}
	return commands.String() + replies.String()
}

func TestCentrifugeUnsubscribe(t *testing.T) {
	table := []conversation{
		{name: "not subscribed", lines: `
			> {"id":2,"unsubscribe":{"channel":"a"}}
			+ {"id":3,"unsubscribe":{"channel":"nowhere:a"}}
			< {"id":2,"unsubscribe":{}}
			< {"id":3,"unsubscribe":{}}`},
		{name: "in the frame of the subscribe", lines: `
			> {"id":2,"subscribe":{"channel":"a"}}
			+ {"id":3,"unsubscribe":{"channel":"a"}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"unsubscribe":{}}
			! a 1
			> {"id":4,"subscribe":{"channel":"a"}}
			< {"id":4,"subscribe":{}}
			! a 2
			< {"push":{"channel":"a","pub":{"data":2,"offset":1}}}`},
		{name: "and again, all in a frame", lines: `
			> {"id":2,"subscribe":{"channel":"rec:a"}}
			+ {"id":3,"unsubscribe":{"channel":"rec:a"}}
			+ {"id":4,"subscribe":{"channel":"rec:a"}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
			< {"id":3,"unsubscribe":{}}
			< {"id":4,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
			! rec:a 1
			< {"push":{"channel":"rec:a","pub":{"data":1,"offset":1}}}
			! rec:a 2
			< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}`},
		{name: "nothing comes afterwards", lines: `
			> {"id":2,"subscribe":{"channel":"a"}}
			+ {"id":3,"subscribe":{"channel":"b"}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"subscribe":{}}
			> {"id":4,"unsubscribe":{"channel":"a"}}
			< {"id":4,"unsubscribe":{}}
			! a 1
			! b 2
			< {"push":{"channel":"b","pub":{"data":2,"offset":1}}}
			?`},
	}
	haveAll(t, prepare(after(table), quiet(), users))
}

func TestCentrifugePositions(t *testing.T) {
	subscribe := func(request, want string) string {
		return `> {"id":2,"subscribe":{` + request + `}}
			< {"id":2,"subscribe":{` + want + `}}` + "\n"
	}
	const recoverable = `"recoverable":true,"epoch":"<epoch>"`
	table := []conversation{
		{name: "none without a history", lines: subscribe(`"channel":"a"`, ``) + `
			! a {"n":1}
			< {"push":{"channel":"a","pub":{"data":{"n":1},"offset":1}}}`},
		{name: "none unasked for", lines: subscribe(`"channel":"may:a"`, ``) + `
			! may:a 1
			< {"push":{"channel":"may:a","pub":{"data":1,"offset":1}}}`},
		{name: "none with a history alone", lines: subscribe(`"channel":"kept:a","positioned":true,"recoverable":true`, ``)},
		{name: "asked for", lines: "! may:a 1\n" + subscribe(`"channel":"may:a","positioned":true`, `"epoch":"<epoch>","offset":1,"positioned":true`)},
		{name: "recovery asked for", lines: "! may:a 1\n" + subscribe(`"channel":"may:a","recoverable":true`, recoverable+`,"offset":1,"positioned":true`)},
		{name: "forced", lines: "! pos:a 1\n" + subscribe(`"channel":"pos:a"`, `"epoch":"<epoch>","offset":1,"positioned":true`)},
		{name: "recovery forced", lines: "! rec:a 1\n" + subscribe(`"channel":"rec:a"`, recoverable+`,"offset":1,"positioned":true`)},
		{name: "recovery is none where there is a position alone", lines: "! pos:a 1\n" +
			subscribe(`"channel":"pos:a","recover":true,"recoverable":true,"offset":0`, `"epoch":"<epoch>","offset":1,"positioned":true`)},
		{name: "offset 0 is left out", lines: subscribe(`"channel":"rec:a"`, recoverable+`,"positioned":true`)},
		{name: "tags and no history", lines: subscribe(`"channel":"rec:a"`, recoverable+`,"positioned":true`) + `
			! rec:a {"x":[1,"a"]} b=2 a=1
			< {"push":{"channel":"rec:a","pub":{"data":{"x":[1,"a"]},"offset":1,"tags":{"a":"1","b":"2"}}}}`},
	}
	haveAll(t, prepare(after(table), quiet(), users))
}

func TestCentrifugeRecovery(t *testing.T) {
	const failed = `"recoverable":true,"epoch":"<epoch>","offset":%d,"positioned":true,"was_recovering":true`
	again := func(offset int, more, want string) string {
		return fmt.Sprintf(`> {"id":3,"unsubscribe":{"channel":"rec:a"}}
			+ {"id":4,"subscribe":{"channel":"rec:a","recover":true,"offset":%d%s}}
			< {"id":3,"unsubscribe":{}}
			< {"id":4,%s}`, offset, more, want) + "\n"
	}
	const epoch = `,"epoch":"<epoch>"`
	begin := `> {"id":2,"subscribe":{"channel":"rec:a"}}
		< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
		! rec:a 1
		! rec:a 2
		! rec:a 3
		< {"push":{"channel":"rec:a","pub":{"data":1,"offset":1}}}
		< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}
		< {"push":{"channel":"rec:a","pub":{"data":3,"offset":3}}}` + "\n"
	live := `! rec:a "live"
		< {"push":{"channel":"rec:a","pub":{"data":"live","offset":%d}}}`
	more := "! rec:a 4\n! rec:a 5\n! rec:a 6\n! rec:a 7\n"
	table := []conversation{
		{name: "all", lines: begin + again(0, epoch, `"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":1,"offset":1},{"data":2,"offset":2},{"data":3,"offset":3}],"recovered":true,"positioned":true,"was_recovering":true}`) + fmt.Sprintf(live, 4)},
		{name: "some", lines: begin + again(2, epoch, `"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":3,"offset":3}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}`) + fmt.Sprintf(live, 4)},
		{name: "nothing was missed", lines: begin + again(3, epoch, `"subscribe":{"recoverable":true,"epoch":"<epoch>","recovered":true,"offset":3,"positioned":true,"was_recovering":true}`) + fmt.Sprintf(live, 4)},
		{name: "without an epoch", lines: begin + again(2, "", `"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":3,"offset":3}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}`)},
		{name: "another epoch", lines: begin + again(2, `,"epoch":"_"`, `"subscribe":{`+fmt.Sprintf(failed, 3)+`}`) + fmt.Sprintf(live, 4)},
		{name: "another epoch at the same offset", lines: begin + again(3, `,"epoch":"_"`, `"subscribe":{`+fmt.Sprintf(failed, 3)+`}`)},
		{name: "an offset that is not there yet", lines: begin + again(4, epoch, `"subscribe":{`+fmt.Sprintf(failed, 3)+`}`) + fmt.Sprintf(live, 4)},
		{name: "the largest offset", codecs: []wire.Codec{wire.JSON, wire.Protobuf}, lines: begin + strings.Replace(again(77, epoch, `"subscribe":{`+fmt.Sprintf(failed, 3)+`}`), `"offset":77`, `"offset":18446744073709551615`, 1)},
		{name: "too far back for the history", lines: strings.Replace(begin, "! rec:a 1", "! rec:a 1", 1) + `> {"id":9,"unsubscribe":{"channel":"rec:a"}}
			< {"id":9,"unsubscribe":{}}` + "\n" + more + again(1, epoch, `"subscribe":{`+fmt.Sprintf(failed, 7)+`}`) + fmt.Sprintf(live, 8)},
		{name: "just not too far back", lines: begin + `> {"id":9,"unsubscribe":{"channel":"rec:a"}}
			< {"id":9,"unsubscribe":{}}` + "\n" + more + again(2, epoch, `"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":3,"offset":3},{"data":4,"offset":4},{"data":5,"offset":5},{"data":6,"offset":6},{"data":7,"offset":7}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}`)},
		{name: "more than are recovered", config: with(quiet(), func(c *Config) { c.MaxRecovered = 2 }), lines: begin + again(0, epoch, `"subscribe":{`+fmt.Sprintf(failed, 3)+`}`)},
		{name: "as many as are recovered", config: with(quiet(), func(c *Config) { c.MaxRecovered = 2 }), lines: begin + again(1, epoch, `"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":2,"offset":2},{"data":3,"offset":3}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}`)},
		{name: "or an error", lines: begin + again(2, `,"epoch":"_","flag":2`, `"error":{"code":112,"message":"unrecoverable position"}`) + `
			> {"id":5,"subscribe":{"channel":"rec:a","recover":true,"offset":2,"epoch":"<epoch>","flag":3}}
			< {"id":5,"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":3,"offset":3}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}}`},
		{name: "not asked for recoverability", lines: `
			! may:a 1
			> {"id":2,"subscribe":{"channel":"may:a","recover":true,"positioned":true}}
			< {"id":2,"subscribe":{"epoch":"<epoch>","offset":1,"positioned":true}}`},
		{name: "asked for recoverability", lines: `
			! may:a 1
			> {"id":2,"subscribe":{"channel":"may:a","recover":true,"recoverable":true}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":1,"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}`},
		{name: "latest: the one that was missed", lines: `
			! cache:a 1
			! cache:a 2
			> {"id":2,"subscribe":{"channel":"cache:a","recover":true,"epoch":"_","offset":7}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":2,"offset":2}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}}
			! cache:a 3
			< {"push":{"channel":"cache:a","pub":{"data":3,"offset":3}}}`},
		{name: "latest: none was missed", lines: `
			! cache:a 1
			> {"id":2,"subscribe":{"channel":"cache:a"}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","offset":1,"positioned":true}}
			> {"id":3,"unsubscribe":{"channel":"cache:a"}}
			+ {"id":4,"subscribe":{"channel":"cache:a","recover":true,"epoch":"<epoch>","offset":1}}
			< {"id":3,"unsubscribe":{}}
			< {"id":4,"subscribe":{"recoverable":true,"epoch":"<epoch>","recovered":true,"offset":1,"positioned":true,"was_recovering":true}}`},
		{name: "latest: there is none", lines: `
			> {"id":2,"subscribe":{"channel":"cache:a","recover":true,"epoch":"_"}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true,"was_recovering":true}}
			> {"id":3,"subscribe":{"channel":"cache:b","recover":true,"epoch":"_","flag":2}}
			< {"id":3,"error":{"code":112,"message":"unrecoverable position"}}`},
	}
	haveAll(t, prepare(after(table), quiet(), users))
}

// Server-side subscriptions recover by what the connect command says of them.
func TestCentrifugeRecoveryOfServerSideSubscriptions(t *testing.T) {
	tokens := map[string]jwt.MapClaims{"ann": {"sub": "ann", "channels": []string{"a", "rec:a"}}}
	table := []conversation{{lines: `
		> {"id":1,"connect":{"token":"<ann>","subs":{"rec:a":{"offset":7,"epoch":"x"},"rec:b":{"recover":true}}}}
		< {"id":1,"connect":{"client":"<client>","subs":{"a":{},"rec:a":{"recoverable":true,"epoch":"<epoch>","positioned":true}}}}
		! rec:a 1
		< {"push":{"channel":"rec:a","pub":{"data":1,"offset":1}}}
		b:> {"id":1,"connect":{"token":"<ann>","subs":{"a":{"recover":true},"rec:a":{"recover":true,"offset":0}}}}
		b:< {"id":1,"connect":{"client":"<client>","subs":{"a":{},"rec:a":{"recoverable":true,"epoch":"<epoch>","publications":[{"data":1,"offset":1}],"recovered":true,"positioned":true,"was_recovering":true}}}}
		! rec:a 2
		b:< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}
		b:> {"id":2,"unsubscribe":{"channel":"rec:a"}}
		b:< {"id":2,"unsubscribe":{}}
		c:> {"id":1,"connect":{"token":"<ann>","subs":{"rec:a":{"recover":true,"offset":1,"epoch":"_"}}}}
		c:< {"id":1,"connect":{"client":"<client>","subs":{"a":{},"rec:a":{"recoverable":true,"epoch":"<epoch>","offset":2,"positioned":true,"was_recovering":true}}}}`}}
	haveAll(t, prepare(table, quiet(), tokens))
}

// A stream that begins anew ends what was told positions in it.
func TestCentrifugeReset(t *testing.T) {
	c := quiet()
	tokens := map[string]jwt.MapClaims{"ann": {"sub": "ann"}, "bob": {"sub": "bob", "channels": []string{"rec:a"}}}
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			s := newStage(t, c, codec, tokens)
			s.play(`
				> ` + hello + `
				+ {"id":2,"subscribe":{"channel":"rec:a"}}
				+ {"id":3,"subscribe":{"channel":"may:a"}}
				< ` + world + `
				< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
				< {"id":3,"subscribe":{}}
				b:> {"id":1,"connect":{"token":"<bob>"}}
				b:< {"id":1,"connect":{"client":"<client>","subs":{"rec:a":{"recoverable":true,"epoch":"<epoch>","positioned":true}}}}
				! rec:a 1
				! may:a 1
				~ {"push":{"channel":"rec:a","pub":{"data":1,"offset":1}}}
				~ {"push":{"channel":"may:a","pub":{"data":1,"offset":1}}}
				b:< {"push":{"channel":"rec:a","pub":{"data":1,"offset":1}}}`)
			s.server.hub.Deliver("rec:a", &hub.Publication{Kind: hub.KindReset}) // as a broker does
			s.server.hub.Deliver("may:a", &hub.Publication{Kind: hub.KindReset})
			s.play(`
				< {"push":{"channel":"rec:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}
				b:x 3010 insufficient state
				> {"id":4,"subscribe":{"channel":"rec:a","recover":true,"offset":1,"epoch":"<epoch>"}}
				< {"id":4,"subscribe":{"recoverable":true,"epoch":"<epoch>","recovered":true,"offset":1,"positioned":true,"was_recovering":true}}`)
		})
	}
}
