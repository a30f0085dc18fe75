package push

import (
	"context"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has what clients do in channels and see of one another, and what a backend does to them.

// rooms has namespaces by what is allowed in them.
func rooms() Config {
	client := hub.Options{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true}
	change := func(change func(*hub.Options)) hub.Options {
		o := client
		change(&o)
		return o
	}
	c := quiet()
	c.Channels = client
	c.Namespaces = []Namespace{
		{Name: "present", Options: change(func(o *hub.Options) { o.Presence, o.AllowPresenceForSubscriber = true, true })},
		{Name: "secret", Options: change(func(o *hub.Options) { o.Presence, o.JoinLeave = true, true })},
		{Name: "known", Options: change(func(o *hub.Options) { o.Presence, o.AllowPresenceForClient = true, true })},
		{Name: "public", Options: change(func(o *hub.Options) {
			o.Presence, o.AllowPresenceForClient, o.AllowPresenceForAnonymous = true, true, true
		})},
		{Name: "joins", Options: change(func(o *hub.Options) {
			o.Presence, o.JoinLeave, o.AllowPresenceForSubscriber = true, true, true
		})},
		{Name: "pushed", Options: change(func(o *hub.Options) { o.JoinLeave, o.ForcePushJoinLeave = true, true })},
		{Name: "past", Options: change(func(o *hub.Options) {
			o.HistorySize, o.HistoryTTL, o.AllowHistoryForSubscriber = 5, time.Minute, true
		})},
		{Name: "forgets", Options: change(func(o *hub.Options) { o.HistorySize, o.HistoryTTL = 5, time.Minute })},
		{Name: "members", Options: change(func(o *hub.Options) { o.AllowPublishForSubscriber = true })},
		{Name: "users", Options: change(func(o *hub.Options) { o.AllowPublishForClient = true })},
		{Name: "all", Options: change(func(o *hub.Options) { o.AllowPublishForClient, o.AllowPublishForAnonymous = true, true })},
		{Name: "small", Options: change(func(o *hub.Options) { o.AllowPublishForClient, o.MaxPublicationBytes = true, 8 })},
		{Name: "rec", Options: change(func(o *hub.Options) { o.HistorySize, o.HistoryTTL, o.ForceRecovery = 5, time.Minute, true })},
	}
	return c
}

var people = map[string]jwt.MapClaims{
	"ann": {"sub": "ann", "info": map[string]any{"name": "Ann"}}, "bob": {"sub": "bob"}, "nobody": {},
	"annsub": {"sub": "ann", "channel": "$joins:a", "info": map[string]any{"role": "chair"}},
	"annpub": {"sub": "ann", "channel": "$all:a", "info": map[string]any{"role": "chair"}},
}

const (
	annInfo = `{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}}`
	denied  = `"error":{"code":103,"message":"permission denied"}`
	absent  = `"error":{"code":108,"message":"not available"}`
)

func TestCentrifugePresence(t *testing.T) {
	nobody := `> {"id":1,"connect":{"token":"<nobody>"}}
		< {"id":1,"connect":{"client":"<client>"}}` + "\n"
	both := func(channel, presence, stats string) string {
		return `> {"id":7,"presence":{"channel":"` + channel + `"}}
			+ {"id":8,"presence_stats":{"channel":"` + channel + `"}}
			< {"id":7,` + presence + `}
			< {"id":8,` + stats + `}` + "\n"
	}
	subscribe := func(channel string) string {
		return `> {"id":2,"subscribe":{"channel":"` + channel + `"}}
			< {"id":2,"subscribe":{}}` + "\n"
	}
	empty := both("known:a", `"presence":{"presence":{}}`, `"presence_stats":{"num_clients":0,"num_users":0}`)
	table := after([]conversation{
		{name: "not enabled", lines: both("a", absent, absent)},
		{name: "unknown namespace", lines: both("nowhere:a", `"error":{"code":102,"message":"unknown channel"}`, `"error":{"code":102,"message":"unknown channel"}`)},
		{name: "not allowed", lines: subscribe("secret:a") + both("secret:a", denied, denied)},
		{name: "not subscribed", lines: both("present:a", denied, denied)},
		{name: "subscribed", lines: subscribe("present:a") + both("present:a", `"presence":{"presence":{"<client>":`+annInfo+`}}`, `"presence_stats":{"num_clients":1,"num_users":1}`)},
		{name: "nobody is there", lines: empty},
		{name: "those who left are not there", lines: subscribe("known:a") + `
			> {"id":3,"unsubscribe":{"channel":"known:a"}}
			< {"id":3,"unsubscribe":{}}` + "\n" + empty},
		{name: "several connections and users", lines: subscribe("public:a") + `
			b:> {"id":1,"connect":{"token":"<ann>"}}
			b:+ {"id":2,"subscribe":{"channel":"public:a"}}
			b:< ` + world + `
			b:< {"id":2,"subscribe":{}}
			c:> {"id":1,"connect":{"token":"<nobody>"}}
			c:+ {"id":2,"subscribe":{"channel":"public:a"}}
			c:+ {"id":3,"presence_stats":{"channel":"public:a"}}
			c:< ` + world + `
			c:< {"id":2,"subscribe":{}}
			c:< {"id":3,"presence_stats":{"num_clients":3,"num_users":2}}`},
		{name: "with the info of a subscription", lines: `
			> {"id":2,"subscribe":{"channel":"$joins:a","token":"<annsub>"}}
			< {"id":2,"subscribe":{}}` + "\n" + both("$joins:a",
			`"presence":{"presence":{"<client>":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"},"chan_info":{"role":"chair"}}}}`,
			`"presence_stats":{"num_clients":1,"num_users":1}`)},
		{name: "too many", config: with(rooms(), func(c *Config) { c.MaxPresence = 1 }), lines: subscribe("known:a") + `
			b:> {"id":1,"connect":{"token":"<bob>"}}
			b:+ {"id":2,"subscribe":{"channel":"known:a"}}
			b:< ` + world + `
			b:< {"id":2,"subscribe":{}}
			` + both("known:a", `"error":{"code":106,"message":"limit exceeded"}`, `"presence_stats":{"num_clients":2,"num_users":2}`)},
	})
	table = append(
		table,
		conversation{name: "anonymous, not allowed", lines: nobody + both("known:a", denied, denied)},
		conversation{name: "anonymous, allowed", lines: nobody + subscribe("public:a") + both("public:a",
			`"presence":{"presence":{"<client>":{"user":"","client":"<client>"}}}`, `"presence_stats":{"num_clients":1,"num_users":1}`)},
		conversation{name: "anonymous, subscribed", lines: nobody + subscribe("present:a") + both("present:a",
			`"presence":{"presence":{"<client>":{"user":"","client":"<client>"}}}`, `"presence_stats":{"num_clients":1,"num_users":1}`)},
	)
	haveAll(t, prepare(table, rooms(), people))
}

func TestCentrifugeJoinLeave(t *testing.T) {
	join := func(info string) string { return `{"push":{"channel":"joins:a","join":{"info":` + info + `}}}` }
	leave := func(info string) string { return `{"push":{"channel":"joins:a","leave":{"info":` + info + `}}}` }
	const bob = `{"user":"bob","client":"<any>"}`
	bobComes := `
		b:> {"id":1,"connect":{"token":"<bob>"}}
		b:+ {"id":2,"subscribe":{"channel":"joins:a"}}
		b:< ` + world + `
		b:< {"id":2,"subscribe":{}}` + "\n"
	table := after([]conversation{
		{name: "those who ask are told, of themselves as well", lines: `
			> {"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}
			< {"id":2,"subscribe":{}}
			< ` + join(annInfo) + bobComes + `
			< ` + join(bob) + `
			b:> {"id":3,"unsubscribe":{"channel":"joins:a"}}
			b:< {"id":3,"unsubscribe":{}}
			< ` + leave(bob) + `
			b:?`},
		{name: "among the publications, in order", lines: `
			> {"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}
			< {"id":2,"subscribe":{}}
			< ` + join(annInfo) + `
			! joins:a 1` + bobComes + `
			< {"push":{"channel":"joins:a","pub":{"data":1,"offset":1}}}
			< ` + join(bob) + `
			! joins:a 2
			< {"push":{"channel":"joins:a","pub":{"data":2,"offset":2}}}
			b:< {"push":{"channel":"joins:a","pub":{"data":2,"offset":2}}}`},
		{name: "comes and goes in one frame", lines: `
			> {"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}
			< {"id":2,"subscribe":{}}
			< ` + join(annInfo) + `
			b:> {"id":1,"connect":{"token":"<bob>"}}
			b:+ {"id":2,"subscribe":{"channel":"joins:a"}}
			b:+ {"id":3,"send":{}}
			b:< ` + world + `
			b:< {"id":2,"subscribe":{}}
			b:x 3508 not available
			< ` + join(bob) + `
			< ` + leave(bob)},
		{name: "where nobody may ask who is there, nobody is told", lines: `
			> {"id":2,"subscribe":{"channel":"secret:a","join_leave":true}}
			+ {"id":3,"unsubscribe":{"channel":"secret:a"}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"unsubscribe":{}}
			> {"id":4,"subscribe":{"channel":"secret:a","join_leave":true}}
			< {"id":4,"subscribe":{}}
			! secret:a 1
			< {"push":{"channel":"secret:a","pub":{"data":1,"offset":1}}}`},
		{name: "where there are none, none come", lines: `
			> {"id":2,"subscribe":{"channel":"present:a","join_leave":true}}
			< {"id":2,"subscribe":{}}
			! present:a 1
			< {"push":{"channel":"present:a","pub":{"data":1,"offset":1}}}`},
		{name: "pushed to all", lines: `
			> {"id":2,"subscribe":{"channel":"pushed:a"}}
			< {"id":2,"subscribe":{}}
			< {"push":{"channel":"pushed:a","join":{"info":` + annInfo + `}}}`},
		{name: "with the info of a subscription", lines: `
			> {"id":2,"subscribe":{"channel":"$joins:a","token":"<annsub>","join_leave":true}}
			< {"id":2,"subscribe":{}}
			< {"push":{"channel":"$joins:a","join":{"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"},"chan_info":{"role":"chair"}}}}}`},
	})
	haveAll(t, prepare(table, rooms(), people))
}

// Whoever's connection breaks has left.
func TestCentrifugeLeaveOnClose(t *testing.T) {
	s := newStage(t, rooms(), wire.JSON, people)
	s.play(`
		> ` + hello + `
		+ {"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}
		< ` + world + `
		< {"id":2,"subscribe":{}}
		< {"push":{"channel":"joins:a","join":{"info":` + annInfo + `}}}
		b:> {"id":1,"connect":{"token":"<bob>"}}
		b:+ {"id":2,"subscribe":{"channel":"joins:a"}}
		b:< ` + world + `
		b:< {"id":2,"subscribe":{}}
		< {"push":{"channel":"joins:a","join":{"info":{"user":"bob","client":"<any>"}}}}`)
	_ = s.client("b").conn.CloseNow()
	s.play(`< {"push":{"channel":"joins:a","leave":{"info":{"user":"bob","client":"<any>"}}}}`)
}

func TestCentrifugeHistory(t *testing.T) {
	begin := `
		> {"id":2,"subscribe":{"channel":"past:a"}}
		< {"id":2,"subscribe":{}}
		! past:a 1
		! past:a 2 k=v
		! past:a 3
		~ {"push":{"channel":"past:a","pub":{"data":1,"offset":1}}}
		~ {"push":{"channel":"past:a","pub":{"data":2,"offset":2,"tags":{"k":"v"}}}}
		~ {"push":{"channel":"past:a","pub":{"data":3,"offset":3}}}
		> {"id":3,"history":{"channel":"past:a"}}
		< {"id":3,"history":{"publications":[],"epoch":"<epoch>","offset":3}}` + "\n"
	ask := func(request, want string) string {
		return begin + `
			> {"id":4,"history":{"channel":"past:a",` + request + `}}
			< {"id":4,` + want + `}`
	}
	answer := func(publications string) string {
		return `"history":{"publications":[` + publications + `],"epoch":"<epoch>","offset":3}`
	}
	const one, two, three = `{"data":1,"offset":1}`, `{"data":2,"offset":2,"tags":{"k":"v"}}`, `{"data":3,"offset":3}`
	table := after([]conversation{
		{name: "not kept", lines: `
			> {"id":2,"history":{"channel":"a"}}
			< {"id":2,` + absent + `}`},
		{name: "unknown namespace", lines: `
			> {"id":2,"history":{"channel":"nowhere:a"}}
			< {"id":2,"error":{"code":102,"message":"unknown channel"}}`},
		{name: "not subscribed", lines: `
			> {"id":2,"history":{"channel":"past:a"}}
			< {"id":2,` + denied + `}`},
		{name: "not allowed", lines: `
			> {"id":2,"subscribe":{"channel":"forgets:a"}}
			+ {"id":3,"history":{"channel":"forgets:a"}}
			< {"id":2,"subscribe":{}}
			< {"id":3,` + denied + `}`},
		{name: "of a channel that is empty", lines: `
			> {"id":2,"subscribe":{"channel":"past:a"}}
			+ {"id":3,"history":{"channel":"past:a","limit":-1}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"history":{"publications":[],"epoch":"<epoch>","offset":0}}`},
		{name: "all", lines: ask(`"limit":-1`, answer(one+","+two+","+three))},
		{name: "some", lines: ask(`"limit":2`, answer(one+","+two))},
		{name: "more than there are", lines: ask(`"limit":100`, answer(one+","+two+","+three))},
		{name: "the latest", lines: ask(`"limit":2,"reverse":true`, answer(three+","+two))},
		{name: "since", lines: ask(`"limit":-1,"since":{"offset":1,"epoch":"<epoch>"}`, answer(two+","+three))},
		{name: "since, none", lines: ask(`"since":{"offset":1,"epoch":"<epoch>"}`, answer(""))},
		{name: "since, without an epoch", lines: ask(`"limit":1,"since":{"offset":1}`, answer(two))},
		{name: "since the top", lines: ask(`"limit":-1,"since":{"offset":3,"epoch":"<epoch>"}`, answer(""))},
		{name: "since later than that", lines: ask(`"limit":-1,"since":{"offset":18446744073709551615,"epoch":"<epoch>"}`, answer(""))},
		{name: "before", lines: ask(`"limit":-1,"reverse":true,"since":{"offset":3,"epoch":"<epoch>"}`, answer(two+","+one))},
		{name: "before, some", lines: ask(`"limit":1,"reverse":true,"since":{"offset":3,"epoch":"<epoch>"}`, answer(two))},
		{name: "before the first", lines: ask(`"limit":-1,"reverse":true,"since":{"offset":0,"epoch":"<epoch>"}`, `"error":{"code":107,"message":"bad request"}`)},
		{name: "before the first, without an epoch", lines: ask(`"reverse":true,"since":{}`, `"error":{"code":107,"message":"bad request"}`)},
		{name: "another epoch", lines: ask(`"limit":-1,"since":{"offset":1,"epoch":"_"}`, `"error":{"code":112,"message":"unrecoverable position"}`)},
		{name: "no more than there may be", config: with(rooms(), func(c *Config) { c.MaxRecovered = 2 }), lines: ask(`"limit":-1`, answer(one+","+two))},
		{name: "no more than there may be, asked for more", config: with(rooms(), func(c *Config) { c.MaxRecovered = 2 }), lines: ask(`"limit":3,"reverse":true`, answer(three+","+two))},
	})
	haveAll(t, prepare(table, rooms(), people))
}

func TestCentrifugePublish(t *testing.T) {
	publish := func(channel, want string) string {
		return `> {"id":3,"publish":{"channel":"` + channel + `","data":{"x":1}}}
			< {"id":3,` + want + `}` + "\n"
	}
	const done = `"publish":{}`
	subscribed := `> {"id":2,"subscribe":{"channel":"members:a"}}
		< {"id":2,"subscribe":{}}` + "\n"
	nobody := `> {"id":1,"connect":{"token":"<nobody>"}}
		< {"id":1,"connect":{"client":"<client>"}}` + "\n"
	table := after([]conversation{
		{name: "not allowed", lines: publish("a", denied)},
		{name: "unknown namespace", lines: publish("nowhere:a", `"error":{"code":102,"message":"unknown channel"}`)},
		{name: "a private channel, from outside", lines: publish("$all:a", denied)},
		{name: "not a member", lines: publish("members:a", denied)},
		{name: "a member", lines: subscribed + `
			> {"id":3,"publish":{"channel":"members:a","data":{"x":1}}}
			~ {"id":3,"publish":{}}
			~ {"push":{"channel":"members:a","pub":{"data":{"x":1},"info":` + annInfo + `,"offset":1}}}`},
		{name: "in the frame of the subscribe", lines: `
			> {"id":2,"subscribe":{"channel":"members:a"}}
			+ {"id":3,"publish":{"channel":"members:a","data":1}}
			+ {"id":4,"publish":{"channel":"members:a","data":2}}
			< {"id":2,"subscribe":{}}
			< {"id":3,"publish":{}}
			< {"id":4,"publish":{}}
			< {"push":{"channel":"members:a","pub":{"data":1,"info":` + annInfo + `,"offset":1}}}
			< {"push":{"channel":"members:a","pub":{"data":2,"info":` + annInfo + `,"offset":2}}}`},
		{name: "no longer a member", lines: subscribed + `
			> {"id":4,"unsubscribe":{"channel":"members:a"}}
			< {"id":4,"unsubscribe":{}}` + "\n" + publish("members:a", denied)},
		{name: "a user", lines: publish("users:a", done)},
		{name: "with the info of a subscription", lines: `
			> {"id":2,"subscribe":{"channel":"$all:a","token":"<annpub>"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"$all:a"}}
			+ {"id":4,"publish":{"channel":"$all:a","data":"x"}}
			~ {"id":3,"error":{"code":107,"message":"bad request"}}
			~ {"id":4,"publish":{}}
			~ {"push":{"channel":"$all:a","pub":{"data":"x","info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"},"chan_info":{"role":"chair"}},"offset":1}}}`},
		{name: "no data", lines: `
			> {"id":3,"publish":{"channel":"users:a"}}
			< {"id":3,"error":{"code":107,"message":"bad request"}}`},
		{name: "too much data", lines: `
			> {"id":3,"publish":{"channel":"small:a","data":12345678}}
			+ {"id":4,"publish":{"channel":"small:a","data":123456789}}
			< {"id":3,"publish":{}}
			< {"id":4,"error":{"code":106,"message":"limit exceeded"}}`},
		{name: "map channel", lines: `
			> {"id":3,"publish":{"channel":"users:a","data":1,"type":1,"key":"k"}}
			< {"id":3,` + denied + `}`},
	})
	table = append(
		table,
		conversation{name: "anonymous, for users", lines: nobody + publish("users:a", denied)},
		conversation{name: "anonymous, for all", lines: nobody + publish("all:a", done)},
		conversation{name: "anonymous, a member", lines: nobody + subscribed + `
			> {"id":3,"publish":{"channel":"members:a","data":{"x":1}}}
			~ {"id":3,"publish":{}}
			~ {"push":{"channel":"members:a","pub":{"data":{"x":1},"info":{"user":"","client":"<client>"},"offset":1}}}`},
	)
	haveAll(t, prepare(table, rooms(), people))
}

func TestCentrifugeRefresh(t *testing.T) {
	tokens := map[string]jwt.MapClaims{
		"ann": {"sub": "ann", "exp": in(time.Hour)}, "again": {"sub": "ann", "exp": in(2 * time.Hour)}, "ever": {"sub": "ann"},
		"bob": {"sub": "bob"}, "expired": {"sub": "ann", "exp": in(-time.Minute)},
		"over": {"sub": "ann", "exp": in(time.Hour), "expire_at": in(-time.Minute)},
	}
	refresh := func(token string) string { return `> {"id":2,"refresh":{"token":"` + token + `"}}` + "\n" }
	table := []conversation{
		{name: "another token", lines: refresh("<again>") + `< {"id":2,"refresh":{"client":"<client>","version":"v1","expires":true,"ttl":7<any>}}`},
		{name: "one that does not expire", lines: refresh("<ever>") + `< {"id":2,"refresh":{"client":"<client>","version":"v1"}}`},
		{name: "none", lines: refresh("") + "x 3501 bad request"},
		{name: "malformed", lines: refresh("<forged>") + "x 3500 invalid token"},
		{name: "of another user", lines: refresh("<bob>") + "x 3500 invalid token"},
		{name: "expired", lines: refresh("<expired>") + "x 3005 connection expired"},
		{name: "for a connection that is over", lines: refresh("<over>") + "x 3005 connection expired"},
	}
	for i := range table {
		table[i].lines = "> " + hello + `
			< {"id":1,"connect":{"client":"<client>","version":"v1","expires":true,"ttl":3<any>}}` + "\n" + table[i].lines
	}
	haveAll(t, prepare(table, with(quiet(), func(c *Config) { c.Version = "v1" }), tokens))
}

func TestCentrifugeSubRefresh(t *testing.T) {
	tokens := map[string]jwt.MapClaims{
		"ann": {"sub": "ann"}, "first": {"sub": "ann", "channel": "$a", "exp": in(time.Hour)},
		"again": {"sub": "ann", "channel": "$a", "exp": in(2 * time.Hour)}, "ever": {"sub": "ann", "channel": "$a"},
		"expired": {"sub": "ann", "channel": "$a", "exp": in(-time.Minute)},
		"over":    {"sub": "ann", "channel": "$a", "exp": in(time.Hour), "expire_at": in(-time.Minute)},
		"other":   {"sub": "ann", "channel": "$b"}, "bob": {"sub": "bob", "channel": "$a"},
		"elsewho": {"sub": "ann", "channel": "$a", "client": "11111111-1111-4111-8111-111111111111"},
		"mine":    {"sub": "ann", "channel": "$a", "client": "<client>"},
	}
	refresh := func(channel, token string) string {
		return `> {"id":3,"sub_refresh":{"channel":"` + channel + `","token":"` + token + `"}}` + "\n"
	}
	const endless = `> {"id":4,"subscribe":{"channel":"$b","token":"<other>"}}
		< {"id":4,"subscribe":{}}
		`
	table := []conversation{
		{name: "another token", lines: refresh("$a", "<again>") + `< {"id":3,"sub_refresh":{"expires":true,"ttl":7<any>}}`},
		{name: "one that does not expire", lines: refresh("$a", "<ever>") + `< {"id":3,"sub_refresh":{}}`},
		{name: "one for this client", lines: refresh("$a", "<mine>") + `< {"id":3,"sub_refresh":{}}`},
		{name: "not subscribed", lines: refresh("$b", "<other>") + `< {"id":3,` + denied + `}`},
		{name: "not subscribed, and no token", lines: refresh("$b", "") + `< {"id":3,` + denied + `}`},
		{name: "no token", lines: refresh("$a", "") + `< {"id":3,"error":{"code":107,"message":"bad request"}}`},
		{name: "malformed", lines: refresh("$a", "<forged>") + "x 3500 invalid token"},
		{name: "of another channel", lines: refresh("$a", "<other>") + "x 3500 invalid token"},
		{name: "of another user", lines: refresh("$a", "<bob>") + "x 3500 invalid token"},
		{name: "of another client", lines: refresh("$a", "<elsewho>") + "x 3500 invalid token"},
		{name: "for a subscription that is over", lines: refresh("$a", "<over>") + `< {"id":3,"error":{"code":110,"message":"expired"}}`},
		{name: "expired", lines: refresh("$a", "<expired>") + `
			~ {"id":3,"sub_refresh":{}}
			~ {"push":{"channel":"$a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			> {"id":4,"subscribe":{"channel":"$a","token":"<first>"}}
			< {"id":4,"subscribe":{"expires":true,"ttl":<any>}}`},
		{name: "for one without an end", lines: endless + refresh("$b", "<other>") + `< {"id":3,"sub_refresh":{}}`},
		{name: "for one without an end, malformed", lines: endless + refresh("$b", "<forged>") + "x 3500 invalid token"},
		{name: "for one without an end, of another channel", lines: endless + refresh("$b", "<again>") + "x 3500 invalid token"},
		{name: "shared poll", lines: `
			> {"id":3,"sub_refresh":{"channel":"$a","type":1,"track":[{"signature":"s","items":[{"key":"k"}]}]}}
			< {"id":3,` + denied + `}`},
	}
	for i := range table {
		table[i].lines = `> {"id":2,"subscribe":{"channel":"$a","token":"<first>"}}
			< {"id":2,"subscribe":{"expires":true,"ttl":<any>}}` + "\n" + table[i].lines
	}
	haveAll(t, prepare(after(table), quiet(), tokens))
}

// What a backend does to clients reaches them as pushes and close frames.
func TestCentrifugeBackend(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			s := newStage(t, rooms(), codec, people)
			s.play(`
				> ` + hello + `
				< ` + world + `
				b:> {"id":1,"connect":{"token":"<ann>"}}
				b:< ` + world + `
				c:> {"id":1,"connect":{"token":"<bob>"}}
				c:< ` + world + `
				! rec:a 1
				! rec:a 2`)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			h := s.server.centrifuge
			ann, first := centrifuge.Target{User: "ann"}, centrifuge.Target{User: "ann", Client: s.client("a").id}
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			do(h.Subscribe(ctx, ann, "joins:a", centrifuge.SubscribeOptions{Data: []byte(`{"d":1}`), Info: []byte(`{"i":1}`)}))
			do(h.Subscribe(ctx, ann, "joins:a", centrifuge.SubscribeOptions{})) // once more changes nothing
			s.play(`
				< {"push":{"channel":"joins:a","subscribe":{"data":{"d":1}}}}
				b:< {"push":{"channel":"joins:a","subscribe":{"data":{"d":1}}}}
				! joins:a 1
				< {"push":{"channel":"joins:a","pub":{"data":1,"offset":1}}}
				b:< {"push":{"channel":"joins:a","pub":{"data":1,"offset":1}}}
				c:?`)
			do(h.Subscribe(ctx, first, "rec:a", centrifuge.SubscribeOptions{Since: &hub.Position{Offset: 1}}))
			s.play(`
				< {"push":{"channel":"rec:a","subscribe":{"recoverable":true,"epoch":"<epoch>","offset":1,"positioned":true}}}
				< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}
				! rec:a 3
				< {"push":{"channel":"rec:a","pub":{"data":3,"offset":3}}}
				b:?`)
			do(h.Unsubscribe(ctx, first, "rec:a"))
			do(h.Unsubscribe(ctx, ann, "unheard"))
			s.play(`
				< {"push":{"channel":"rec:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
				b:?`)
			do(h.Unsubscribe(ctx, ann, ""))
			s.play(`
				< {"push":{"channel":"joins:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
				b:< {"push":{"channel":"joins:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
			do(h.Disconnect(ctx, ann, []string{s.client("b").id}, centrifuge.DisconnectForceReconnect))
			s.play("x 3011 force reconnect\nb:?")
			do(h.Disconnect(ctx, ann, nil, centrifuge.DisconnectForceNoReconnect))
			s.play("b:x 3503 force disconnect\nc:?")
			do(h.Disconnect(ctx, ann, nil, centrifuge.DisconnectForceNoReconnect))
		})
	}
}
