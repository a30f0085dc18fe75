package push

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/session"
)

// This file has how connections of the Centrifuge protocol begin, live and end.

// everybody lets clients subscribe to channels without a namespace, and to those of the namespace "hist", which keeps 5 publications.
func everybody() Config {
	return Config{
		TokenSecret: secret, Version: "v1",
		Channels: ChannelOptions{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true},
		Namespaces: []Namespace{{Name: "hist", Options: hub.Options{
			HistorySize: 5, HistoryTTL: time.Minute, ForceRecovery: true, AllowSubscribeForClient: true,
			AllowHistoryForSubscriber: true, AllowPublishForSubscriber: true,
		}}},
	}
}

func with(c Config, change func(*Config)) Config {
	change(&c)
	return c
}

var users = map[string]jwt.MapClaims{
	"ann": {"sub": "ann", "info": map[string]any{"name": "Ann"}},
	"bob": {"sub": "bob"},
	"":    {"sub": ""},
	"nil": {},
}

const (
	connectAnn = `{"id":1,"connect":{"token":"<ann>"}}`
	connectBob = `{"id":1,"connect":{"token":"<bob>"}}`
	connected  = `{"id":1,"connect":{"client":"<client>","version":"v1","ping":25,"pong":true}}`
)

func TestCentrifugeConnect(t *testing.T) {
	tokens := map[string]jwt.MapClaims{
		"ann": users["ann"], "bob": users["bob"],
		"expired":   {"sub": "ann", "exp": in(-time.Minute)},
		"over":      {"sub": "ann", "exp": in(time.Hour), "expire_at": in(-time.Minute)},
		"notyet":    {"sub": "ann", "nbf": in(time.Hour)},
		"endless":   {"sub": "ann", "exp": in(time.Hour), "expire_at": 0},
		"binary":    {"sub": "ann", "b64info": "/w=="},
		"mine":      {"sub": "ann", "channels": []string{"b", "a", "b"}},
		"unknown":   {"sub": "ann", "channels": []string{"a", "nowhere:a"}},
		"three":     {"sub": "ann", "channels": []string{"a", "b", "c"}},
		"anonymous": {"channels": []string{"a"}},
		"private":   {"sub": "ann", "channels": []string{"$a"}},
	}
	table := []conversation{
		{name: "success", lines: `
			> ` + connectAnn + `
			< ` + connected},
		{name: "without pings", config: with(everybody(), func(c *Config) { c.Engine.PingInterval = -1 }), lines: `
			> ` + connectAnn + `
			< {"id":1,"connect":{"client":"<client>","version":"v1"}}`},
		{name: "labels and unknown fields are ignored", codecs: []wire.Codec{wire.JSON}, lines: `
			> {"id":1,"nonsense":[1,{"a":null}],"connect":{"token":"<ann>","name":"js","version":"5","headers":{"a":"b"},"data":{"x":1},"flag":1,"dict":"d","whatever":1}}
			< ` + connected},
		{name: "an expiring token is told so in the reply", tokens: map[string]jwt.MapClaims{"ann": {"sub": "ann", "exp": in(7200 * time.Second)}}, lines: `
			> ` + connectAnn + `
			< {"id":1,"connect":{"client":"<client>","version":"v1","expires":true,"ttl":<any>,"ping":25,"pong":true}}`},
		{name: "expire_at 0 is never", lines: `
			> {"id":1,"connect":{"token":"<endless>"}}
			< ` + connected},
		{name: "another command first", lines: `
			> {"id":1,"subscribe":{"channel":"c"}}
			+ {"id":2,"connect":{"token":"<ann>"}}
			x 3501 bad request`},
		{name: "a pong first", lines: "> {}\nx 3501 bad request"},
		{name: "connect without an id", lines: `
			> {"connect":{"token":"<ann>"}}
			x 3501 bad request`},
		{name: "connect twice", lines: `
			> ` + connectAnn + `
			< ` + connected + `
			> {"id":2,"connect":{"token":"<ann>"}}
			x 3501 bad request`},
		{name: "connect twice in a frame", lines: `
			> ` + connectAnn + `
			+ {"id":2,"connect":{"token":"<ann>"}}
			< ` + connected + `
			x 3501 bad request`},
		{name: "no connect in time", config: with(everybody(), func(c *Config) { c.ConnectTimeout = time.Second }), lines: "x 3502 stale"},
		{name: "expired token, then anything", lines: `
			> {"id":1,"connect":{"token":"<expired>"}}
			+ {"id":2,"subscribe":{"channel":"a"}}
			< {"id":1,"error":{"code":109,"message":"token expired"}}
			> {"id":3,"connect":{"token":"<ann>"}}
			x 3501 bad request`},
		{name: "expired credentials", lines: `
			> {"id":1,"connect":{"token":"<over>"}}
			< {"id":1,"error":{"code":110,"message":"expired"}}
			> {"id":2,"rpc":{}}
			x 3501 bad request`},
		{name: "not valid yet", lines: `
			> {"id":1,"connect":{"token":"<notyet>"}}
			x 3500 invalid token`},
		{name: "malformed token", lines: `
			> {"id":1,"connect":{"token":"<forged>"}}
			x 3500 invalid token`},
		{name: "info that is no JSON", lines: `
			> {"id":1,"connect":{"token":"<binary>"}}
			x 3500 invalid token`},
		{name: "no token", lines: `
			> {"id":1,"connect":{}}
			+ {"id":2,"subscribe":{"channel":"a"}}
			x 3507 permission denied`},
		{name: "no token in development", config: Config{Dev: true}, lines: `
			> {"id":1,"connect":{}}
			< {"id":1,"connect":{"client":"<client>","ping":25,"pong":true}}`},
		{name: "server-side subscriptions", lines: `
			> {"id":1,"connect":{"token":"<mine>"}}
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{},"b":{}},"ping":25,"pong":true}}
			! a {"n":1}
			< {"push":{"channel":"a","pub":{"data":{"n":1}<offset>}}}
			> {"id":2,"subscribe":{"channel":"a"}}
			< {"id":2,"error":{"code":105,"message":"already subscribed"}}`},
		{name: "server-side subscription to a private channel", lines: `
			> {"id":1,"connect":{"token":"<private>"}}
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"$a":{}},"ping":25,"pong":true}}`},
		{name: "server-side subscription in an unknown namespace", lines: `
			> {"id":1,"connect":{"token":"<unknown>"}}
			< {"id":1,"error":{"code":102,"message":"unknown channel"}}
			> {"id":2,"rpc":{}}
			x 3501 bad request`},
		{name: "too many server-side subscriptions", config: with(everybody(), func(c *Config) { c.MaxChannels = 2 }), lines: `
			> {"id":1,"connect":{"token":"<three>"}}
			x 3505 channel limit`},
		{name: "as many server-side subscriptions as there may be", config: with(everybody(), func(c *Config) { c.MaxChannels = 3 }), lines: `
			> {"id":1,"connect":{"token":"<three>"}}
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{},"b":{},"c":{}},"ping":25,"pong":true}}
			> {"id":2,"subscribe":{"channel":"d"}}
			< {"id":2,"error":{"code":106,"message":"limit exceeded"}}`},
		{name: "personal channel", config: with(everybody(), func(c *Config) { c.PersonalChannels = true }), lines: `
			> ` + connectAnn + `
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"#ann":{}},"ping":25,"pong":true}}
			b:> {"id":1,"connect":{"token":"<anonymous>"}}
			b:< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{}},"ping":25,"pong":true}}`},
		{name: "personal channel in a namespace", config: with(everybody(), func(c *Config) { c.PersonalChannels, c.PersonalNamespace = true, "hist" }), lines: `
			> ` + connectAnn + `
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"hist:#ann":{"recoverable":true,"epoch":"<epoch>","positioned":true}},"ping":25,"pong":true}}`},
		{name: "too many connections of a user", config: with(everybody(), func(c *Config) { c.MaxConnectionsPerUser = 1 }), lines: `
			> ` + connectAnn + `
			< ` + connected + `
			b:> ` + connectAnn + `
			b:x 3504 connection limit
			c:> ` + connectBob + `
			c:< ` + connected + `
			d:> {"id":1,"connect":{"token":"<anonymous>"}}
			d:< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{}},"ping":25,"pong":true}}
			e:> {"id":1,"connect":{"token":"<anonymous>"}}
			e:< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{}},"ping":25,"pong":true}}`},
		{name: "a refused connection does not count against its user", config: with(everybody(), func(c *Config) { c.MaxConnectionsPerUser = 1 }), lines: `
			> {"id":1,"connect":{"token":"<unknown>"}}
			< {"id":1,"error":{"code":102,"message":"unknown channel"}}
			b:> ` + connectAnn + `
			b:< ` + connected},
	}
	haveAll(t, prepare(table, everybody(), tokens))
}

// prepare gives conversations what they do not have, and the offset its form: in channels without a history there is one all the same.
func prepare(table []conversation, c Config, tokens map[string]jwt.MapClaims) []conversation {
	for i := range table {
		if tt := &table[i]; tt.config.TokenSecret == nil && !tt.config.Dev {
			tt.config = c
		}
		if table[i].tokens == nil {
			table[i].tokens = tokens
		}
		table[i].lines = strings.ReplaceAll(table[i].lines, "<offset>", `,"offset":1`)
	}
	return table
}

func TestCentrifugeFrames(t *testing.T) {
	var seventeen, answers strings.Builder
	for i := range 40 {
		fmt.Fprintf(&seventeen, "+ {\"id\":%d,\"rpc\":{}}\n", i+2)
		fmt.Fprintf(&answers, "< {\"id\":%d,\"error\":{\"code\":108,\"message\":\"not available\"}}\n", i+2)
	}
	table := []conversation{
		{name: "several in order", lines: `
			> ` + connectAnn + `
			+ {"id":2,"subscribe":{"channel":"a","flag":1}}
			+ {"id":3,"subscribe":{"channel":"hist:a","flag":1}}
			+ {"id":4,"unsubscribe":{"channel":"a"}}
			+ {"id":5,"rpc":{"method":"m","data":{}}}
			< ` + connected + `
			< {"id":2,"subscribe":{}}
			< {"id":3,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
			< {"id":4,"unsubscribe":{}}
			< {"id":5,"error":{"code":108,"message":"not available"}}`},
		{name: "many", lines: "> " + connectAnn + "\n" + seventeen.String() + "< " + connected + "\n" + answers.String()},
		{name: "undecodable behind good ones", lines: `
			> ` + connectAnn + `
			+ {"id":2,"subscribe":{"channel":"a"}}
			+ {"id":
			< ` + connected + `
			< {"id":2,"subscribe":{}}
			x 3501 bad request`},
		{name: "undecodable", lines: `
			> ` + connectAnn + `
			< ` + connected + `
			> [1]
			x 3501 bad request`},
		{name: "nothing", lines: `
			> ` + connectAnn + `
			< ` + connected + `
			> ]
			x 3501 bad request`},
		{name: "a command of no kind", lines: `
			> ` + connectAnn + `
			+ {"id":2}
			< ` + connected + `
			x 3501 bad request`},
		{name: "ping is not a client's", lines: `
			> ` + connectAnn + `
			+ {"id":2,"ping":{}}
			< ` + connected + `
			x 3501 bad request`},
		{name: "a pong that nobody asked for", lines: `
			> ` + connectAnn + `
			< ` + connected + `
			> {}
			x 3501 bad request`},
		{name: "a pong that nobody asked for, in a frame", lines: `
			> ` + connectAnn + `
			+ {}
			< ` + connected + `
			x 3501 bad request`},
		{name: "a command without an id is a pong", lines: `
			> ` + connectAnn + `
			< ` + connected + `
			> {"subscribe":{"channel":"a"}}
			x 3501 bad request`},
		{name: "send", lines: `
			> ` + connectAnn + `
			+ {"id":2,"rpc":{}}
			+ {"send":{"data":1}}
			< ` + connected + `
			< {"id":2,"error":{"code":108,"message":"not available"}}
			x 3508 not available`},
		{name: "of several requests the first counts", lines: `
			> ` + connectAnn + `
			+ {"id":2,"rpc":{},"unsubscribe":{"channel":"a"},"publish":{"channel":"a"}}
			+ {"id":3,"sub_refresh":{"channel":"a"},"send":{}}
			< ` + connected + `
			< {"id":2,"unsubscribe":{}}
			x 3508 not available`},
	}
	for _, command := range []string{"subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"} {
		table = append(table, conversation{name: command + " without a channel", lines: `
			> ` + connectAnn + `
			+ {"id":2,"` + command + `":{}}
			< ` + connected + `
			x 3501 bad request`})
	}
	haveAll(t, prepare(table, everybody(), users))
}

// Replies to the commands of one frame share a frame, 16 at most.
func TestCentrifugeFramesAreBounded(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			s := newStage(t, everybody(), codec, users)
			c := s.client("a")
			commands := []string{connectAnn}
			for i := range 39 {
				commands = append(commands, fmt.Sprintf(`{"id":%d,"rpc":{}}`, i+2))
			}
			c.send(commands...)
			for i := range commands {
				if r := c.mustReply(); r.Id != uint32(i+1) {
					t.Fatalf("reply %d to command %d", r.Id, i+1)
				}
			}
			if got := fmt.Sprint(c.frames); got != "[16 16 8]" {
				t.Errorf("replies in the frames: %s", got)
			}
		})
	}
}

func TestCentrifugeFramesOfTheWrongKind(t *testing.T) {
	s := newStage(t, everybody(), wire.Protobuf, users)
	c := s.client("a")
	c.connect("<ann>")
	c.write(websocket.MessageText, []byte(`{"id":2,"rpc":{}}`))
	c.expectClose("3501 bad request")
	for name, frame := range map[string]string{"empty": "", "white": " \n\n"} {
		t.Run(name, func(t *testing.T) {
			for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
				if codec == wire.Protobuf && frame != "" {
					continue
				}
				c := dialSDK(t, s.server, codec, "")
				c.tokens = users
				c.connect("<bob>")
				kind := websocket.MessageText
				if codec == wire.Protobuf {
					kind = websocket.MessageBinary
				}
				c.write(kind, []byte(frame))
				c.expectClose("3501 bad request")
			}
		})
	}
}

func TestCentrifugeCodecByQuery(t *testing.T) {
	server := startServer(t, everybody())
	for _, query := range []string{"?format=protobuf", "?cf_protocol=protobuf&cf_protocol_version=v2"} {
		conn := dial(t, server.ws("/connection/websocket"+query))
		if conn.Subprotocol() != "" {
			t.Errorf("%s: subprotocol %q", query, conn.Subprotocol())
		}
		c := &sdk{t: t, conn: conn, codec: wire.Protobuf, tokens: users}
		c.connect("<ann>")
	}
	for _, query := range []string{"", "?cf_protocol=json", "?format=json&cf_protocol_version=v2"} {
		c := dialSDK(t, server, wire.JSON, query)
		c.tokens = users
		c.connect("<ann>")
	}
	conn, _, err := websocket.Dial(t.Context(), server.ws("/connection/websocket"), &websocket.DialOptions{Subprotocols: []string{"other", centrifugeJSON}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if got := conn.Subprotocol(); got != centrifugeJSON {
		t.Errorf("subprotocol %q", got)
	}
	c := &sdk{t: t, conn: conn, codec: wire.JSON, tokens: users}
	c.connect("<ann>")
}

func quickPings(c *Config) {
	c.Engine.PingInterval, c.Engine.PongTimeout = 600*time.Millisecond, 200*time.Millisecond
}

func TestCentrifugePings(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec)+"/answered", func(t *testing.T) {
			t.Parallel()
			s := newStage(t, with(everybody(), quickPings), codec, users)
			s.play(`
				> ` + connectAnn + `
				< {"id":1,"connect":{"client":"<client>","version":"v1","ping":1,"pong":true}}
				< {}
				> {}
				< {}
				> {}
				< {}
				> {}
				+ {}
				x 3501 bad request`)
		})
		t.Run(codecName(codec)+"/unanswered", func(t *testing.T) {
			t.Parallel()
			s := newStage(t, with(everybody(), quickPings), codec, users)
			s.play(`
				> ` + connectAnn + `
				< {"id":1,"connect":{"client":"<client>","version":"v1","ping":1,"pong":true}}
				< {}
				x 3012 no pong`)
		})
		t.Run(codecName(codec)+"/of WebSocket", func(t *testing.T) {
			t.Parallel()
			server := startServer(t, with(everybody(), quickPings))
			pings := make(chan struct{}, 16)
			o := &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
				pings <- struct{}{}
				return true
			}}
			if codec == wire.Protobuf {
				o.Subprotocols = []string{centrifugeProtobuf}
			}
			conn, _, err := websocket.Dial(t.Context(), server.ws("/connection/websocket?cf_ws_frame_ping_pong=true"), o)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			c := &sdk{t: t, conn: conn, codec: codec, tokens: users}
			c.send(connectAnn)
			c.expect(`{"id":1,"connect":{"client":"<client>","version":"v1"}}`)
			ended := make(chan error, 1)
			go func() { ended <- c.read() }() // answers the pings
			for range 3 {
				select {
				case <-pings:
				case err := <-ended:
					t.Fatalf("%v %v", err, c.received)
				case <-time.After(10 * time.Second):
					t.Fatal("no pings")
				}
			}
			conn.CloseNow()
			<-ended
		})
	}
}

// A client that has not logged in gets no pings, and so need not answer any.
func TestCentrifugePingsBeginWithConnect(t *testing.T) {
	s := newStage(t, with(everybody(), func(c *Config) {
		quickPings(c)
		c.ConnectTimeout = 2 * time.Second
	}), wire.JSON, users)
	s.client("a").expectClose("3502 stale")
	if n := s.server.engine.Stats().Pings; n != 0 {
		t.Errorf("%d pings", n)
	}
}

func TestCentrifugeShutdown(t *testing.T) {
	server := startServer(t, everybody())
	c := dialSDK(t, server, wire.JSON, "")
	c.tokens = users
	c.connect("<ann>")
	late := dialSDK(t, server, wire.Protobuf, "")
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ended <- server.Shutdown(ctx)
	}()
	c.expectClose("3001 shutdown")
	late.expectClose("3001 shutdown")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCentrifugeDrain(t *testing.T) {
	server := startServer(t, everybody())
	c := dialSDK(t, server, wire.JSON, "")
	c.tokens = users
	c.connect("<ann>")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Drain(ctx, 0, 1000) }()
	c.expectClose("3001 shutdown")
	<-ended
}

func TestCentrifugeOversizedMessage(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		s := newStage(t, everybody(), codec, users)
		c := s.client("a")
		c.connect("<ann>")
		c.send(`{"id":2,"rpc":{"data":"` + strings.Repeat("x", 64<<10) + `"}}`)
		_, err := c.reply()
		if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Errorf("%s: %v", codecName(codec), err)
		}
	}
}

// A client that does not read is not waited for.
func TestCentrifugeSlowClient(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		for _, channel := range []string{"a", "hist:a"} { // the policy of the server, and that of a channel that loses nothing
			t.Run(codecName(codec)+"/"+channel, func(t *testing.T) {
				c := with(everybody(), func(c *Config) {
					c.NoCompression = true
					c.Socket = session.SocketOptions{SendBuffer: 4096}
					c.Engine.OutboxMessages = 8
					if channel != "a" {
						c.SlowPolicy = session.PolicyDropOldest
					}
				})
				s := newStage(t, c, codec, users)
				s.play(`
					> ` + connectAnn + `
					+ {"id":2,"subscribe":{"channel":"` + channel + `"}}`)
				client := s.client("a")
				client.mustReply()
				client.mustReply()
				s.publish(channel+" 1", false)
				client.mustReply() // so that the subscription has begun, which comes a moment after its reply
				data := `"` + strings.Repeat("x", 32<<10) + `"`
				deadline := time.Now().Add(20 * time.Second)
				for s.server.engine.Stats().Closed[session.ReasonSlowConsumer] == 0 {
					if time.Now().After(deadline) {
						t.Fatal("it is still there")
					}
					s.publish(channel+" "+data, false)
				}
				for {
					if err := client.read(); err != nil {
						if got := websocket.CloseStatus(err); got != 3008 {
							t.Errorf("%v", err)
						}
						return
					}
				}
			})
		}
	}
}
