package push

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/webhook"
)

// application is a backend that says to each event what its table has: a body, or a status and a body. SOON is a time
// that comes soon.
type application struct {
	*httptest.Server
	mu       sync.Mutex
	says     map[string]string
	asked    map[string][]map[string]any // by event
	headers  map[string][]http.Header
	blocked  chan struct{} // questions to which nothing is said wait for it
	underWay atomic.Int64
}

func newApplication(t testing.TB, says map[string]string) *application {
	a := &application{says: says, asked: map[string][]map[string]any{}, headers: map[string][]http.Header{}, blocked: make(chan struct{})}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *application) serve(w http.ResponseWriter, r *http.Request) {
	event := strings.TrimPrefix(r.URL.Path, "/")
	b, _ := io.ReadAll(r.Body)
	var q map[string]any
	_ = json.Unmarshal(b, &q)
	a.mu.Lock()
	a.asked[event] = append(a.asked[event], q)
	a.headers[event] = append(a.headers[event], r.Header)
	says, ok := a.says[event]
	a.mu.Unlock()
	if !ok {
		a.underWay.Add(1)
		defer a.underWay.Add(-1)
		select {
		case <-a.blocked:
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
		says = a.says[event]
		a.mu.Unlock()
	}
	if status, body, ok := strings.Cut(says, " "); ok && len(status) == 3 {
		var n int
		_, _ = fmt.Sscan(status, &n)
		w.WriteHeader(n)
		says = body
	}
	_, _ = io.WriteString(w, strings.ReplaceAll(says, "SOON", strconv.FormatInt(in(3*time.Second), 10)))
}

func (a *application) say(event, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says[event] = body
}

// questions returns how often an event was asked about.
func (a *application) questions(event string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked[event])
}

// asksAll asks the application at url about everything.
func asksAll(url string) Config {
	c := Config{
		Version: "v1",
		Namespaces: []Namespace{
			{Name: "ask", Options: hub.Options{JSONData: true, SubscribeWebhook: "subscribe", PublishWebhook: "publish", Presence: true, AllowPresenceForSubscriber: true, AllowUserLimitedChannels: true}},
			{Name: "more", Options: hub.Options{SubscribeWebhook: "subscribe", PublishWebhook: "publish", Presence: true, HistorySize: 10, HistoryTTL: time.Hour}},
			{Name: "renew", Options: hub.Options{SubscribeWebhook: "subscribe", SubRefreshWebhook: "sub_refresh", Presence: true, AllowPresenceForSubscriber: true}},
			{Name: "ends", Options: hub.Options{SubscribeWebhook: "subscribe"}},
		},
		Webhooks: Webhooks{Connect: "connect", RPC: "rpc", RPCNamespaces: []RPCNamespace{{"shop", "shop"}}},
	}
	for _, name := range []string{"connect", "refresh", "subscribe", "publish", "rpc", "shop", "sub_refresh"} {
		c.Webhooks.Endpoints = append(c.Webhooks.Endpoints, Webhook{
			Name: name, Endpoint: url + "/" + name, Timeout: 20 * time.Second, IncludeConnectionMeta: true, BreakerFailures: -1,
		})
	}
	return c
}

const (
	enterAnn    = `{"result":{"user":"ann","info":{"name":"Ann"},"meta":{"plan":"gold"}}}`
	connectNone = `{"id":1,"connect":{}}`
	internal    = `"error":{"code":100,"message":"internal server error","temporary":true}}`
)

// What a backend says is what the client gets, and what it says wrong, or does not say, is an error that the client
// comes back from.
func TestWebhookOutcomes(t *testing.T) {
	enter := func(lines string) string { return "> " + connectNone + "\n< " + connected + "\n" + lines }
	short := func(c *Config) {
		for i := range c.Webhooks.Endpoints {
			c.Webhooks.Endpoints[i].Timeout = 100 * time.Millisecond
		}
	}
	table := []struct {
		name   string
		says   map[string]string // beside a connect of ann
		change func(c *Config)
		lines  string
		want   string // of the metrics
	}{
		{
			name: "connect", says: map[string]string{"connect": `{"result":{"user":"ann","data":{"hi":1},"channels":["ask:a"],"subs":{"ask:b":{"data":{"x":1},"info":{"i":1}}}}}`},
			lines: `> {"id":1,"connect":{"data":{"d":1},"name":"js"}}
				< {"id":1,"connect":{"client":"<client>","version":"v1","data":{"hi":1},"subs":{"ask:a":{},"ask:b":{"data":{"x":1}}},"ping":25,"pong":true}}
				> {"id":2,"presence":{"channel":"ask:b"}}
				< {"id":2,"presence":{"presence":{"<client>":{"user":"ann","client":"<client>","chan_info":{"i":1}}}}}`,
			want: `millpond_webhook_requests_total{outcome="ok",webhook="connect"} 1`,
		},
		{name: "connect: its error", says: map[string]string{"connect": `{"error":{"code":401,"message":"who?","temporary":true}}`}, lines: `> ` + connectNone + `
			< {"id":1,"error":{"code":401,"message":"who?","temporary":true}}
			> {"id":2,"rpc":{}}
			x 3501 bad request`, want: `millpond_webhook_requests_total{outcome="error",webhook="connect"} 1`},
		{name: "connect: its disconnect", says: map[string]string{"connect": `{"disconnect":{"code":4501,"reason":"go away"}}`}, lines: `> ` + connectNone + `
			x 4501 go away`, want: `millpond_webhook_requests_total{outcome="disconnect",webhook="connect"} 1`},
		{name: "connect: 500", says: map[string]string{"connect": `500 {}`}, lines: `> ` + connectNone + `
			< {"id":1,` + internal, want: `millpond_webhook_requests_total{outcome="status",webhook="connect"} 1`},
		{name: "connect: 403 that means something", says: map[string]string{"connect": `403 {}`}, change: func(c *Config) {
			c.Webhooks.Endpoints[0].Transforms = []WebhookTransform{{Status: 403, ToError: &WebhookRefusal{Code: 403, Message: "no"}}}
		}, lines: `> ` + connectNone + `
			< {"id":1,"error":{"code":403,"message":"no"}}`, want: `millpond_webhook_requests_total{outcome="error",webhook="connect"} 1`},
		{name: "connect: lies", says: map[string]string{"connect": `{"result":{"user":7}}`}, lines: `> ` + connectNone + `
			< {"id":1,` + internal, want: `millpond_webhook_requests_total{outcome="unreadable",webhook="connect"} 1`},
		{name: "connect: data for nobody", says: map[string]string{"connect": `{"result":{"user":"ann","expire_at":1}}`}, lines: `> ` + connectNone + `
			< {"id":1,"error":{"code":110,"message":"expired"}}`},
		{name: "connect: slow", says: map[string]string{}, change: short, lines: `> ` + connectNone + `
			< {"id":1,` + internal, want: `millpond_webhook_requests_total{outcome="timeout",webhook="connect"} 1`},
		{name: "connect: with a token nobody is asked", says: map[string]string{"connect": `500 `}, change: func(c *Config) { c.TokenSecret = secret }, lines: `> ` + connectAnn + `
			< ` + connected},
		{name: "connect: a token that nobody can have signed", says: map[string]string{"connect": enterAnn}, lines: `> ` + connectAnn + `
			x 3500 invalid token`},
		{name: "connect: expires, and cannot be renewed", says: map[string]string{"connect": `{"result":{"user":"ann","expire_at":SOON}}`}, lines: `> ` + connectNone + `
			< ` + connected + `
			x 3005 connection expired`},

		{name: "subscribe", says: map[string]string{"subscribe": `{"result":{"data":{"x":1},"info":{"i":1}}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a","data":{"d":1}}}
			< {"id":2,"subscribe":{"data":{"x":1}}}
			> {"id":3,"presence":{"channel":"ask:a"}}
			< {"id":3,"presence":{"presence":{"<client>":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"},"chan_info":{"i":1}}}}}
			> {"id":4,"subscribe":{"channel":"ask:a"}}
			< {"id":4,"error":{"code":105,"message":"already subscribed"}}`), want: `millpond_webhook_requests_total{outcome="ok",webhook="subscribe"} 1`},
		{name: "subscribe: no result", says: map[string]string{"subscribe": `{}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,"subscribe":{}}`)},
		{name: "subscribe: its error", says: map[string]string{"subscribe": `{"error":{"code":403,"message":"no"}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,"error":{"code":403,"message":"no"}}`)},
		{name: "subscribe: its disconnect", says: map[string]string{"subscribe": `{"disconnect":{"code":4501,"reason":"no"}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			x 4501 no`)},
		{name: "subscribe: slow", says: map[string]string{}, change: func(c *Config) { c.Webhooks.Endpoints[2].Timeout = 100 * time.Millisecond }, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,` + internal), want: `millpond_webhook_requests_total{outcome="timeout",webhook="subscribe"} 1`},
		{name: "subscribe: nothing more", says: map[string]string{"subscribe": `{"result":{"allow":["sub"]}}`, "publish": `500 `}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"more:a","recoverable":true}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"more:a","data":1}}
			< {"id":3,` + internal + `
			> {"id":4,"presence":{"channel":"more:a"}}
			< {"id":4,"error":{"code":103,"message":"permission denied"}}
			> {"id":5,"history":{"channel":"more:a"}}
			< {"id":5,"error":{"code":103,"message":"permission denied"}}`)},
		{name: "subscribe: what it allows beside", says: map[string]string{"subscribe": `{"result":{"allow":["pub","prs"]}}`, "publish": `500 `}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"more:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"more:a","data":1}}
			~ {"push":{"channel":"more:a","pub":{"data":1,"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}},"offset":1}}}
			~ {"id":3,"publish":{}}
			> {"id":4,"presence_stats":{"channel":"more:a"}}
			< {"id":4,"presence_stats":{"num_clients":1,"num_users":1}}
			> {"id":5,"history":{"channel":"more:a"}}
			< {"id":5,"error":{"code":103,"message":"permission denied"}}
			> {"id":6,"unsubscribe":{"channel":"more:a"}}
			< {"id":6,"unsubscribe":{}}
			> {"id":7,"publish":{"channel":"more:a","data":1}}
			< {"id":7,` + internal)},
		{name: "subscribe: it allows the past", says: map[string]string{"subscribe": `{"result":{"allow":["hst"]}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"more:a","recoverable":true}}
			< {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}
			> {"id":3,"history":{"channel":"more:a"}}
			< {"id":3,"history":{"publications":[],"epoch":"<epoch>","offset":0}}
			> {"id":4,"presence":{"channel":"more:a"}}
			< {"id":4,"error":{"code":103,"message":"permission denied"}}`)},
		{name: "subscribe: what the name says goes before", says: map[string]string{"subscribe": `{}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a#bob"}}
			< {"id":2,"error":{"code":103,"message":"permission denied"}}
			> {"id":3,"subscribe":{"channel":"$ask:a"}}
			< {"id":3,"error":{"code":103,"message":"permission denied"}}
			> {"id":4,"subscribe":{"channel":"ask:a#ann"}}
			< {"id":4,"subscribe":{}}`)},
		{name: "subscribe: expires, and cannot be renewed", says: map[string]string{"subscribe": `{"result":{"expire_at":SOON}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ends:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"sub_refresh":{"channel":"ask:a","token":"x"}}
			< {"id":3,"error":{"code":103,"message":"permission denied"}}
			< {"push":{"channel":"ends:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)},
		{name: "subscribe: not the client's to renew", says: map[string]string{"subscribe": `{"result":{"expire_at":` + fmt.Sprint(in(time.Hour)) + `}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ends:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"sub_refresh":{"channel":"ends:a","token":"x"}}
			x 3501 bad request`)},

		{name: "publish", says: map[string]string{"subscribe": `{}`, "publish": `{"result":{"data":{"b":2},"tags":{"t":"1"}}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"ask:a","data":{"a":1}}}
			~ {"push":{"channel":"ask:a","pub":{"data":{"b":2},"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}},"offset":1,"tags":{"t":"1"}}}}
			~ {"id":3,"publish":{}}`)},
		{name: "publish: as it is", says: map[string]string{"subscribe": `{}`, "publish": `{"result":{}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"ask:a","data":{"a":1}}}
			~ {"push":{"channel":"ask:a","pub":{"data":{"a":1},"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}},"offset":1}}}
			~ {"id":3,"publish":{}}`)},
		{name: "publish: not from outside, and no data that some could not read", says: map[string]string{"subscribe": `{}`, "publish": `{"result":{"b64data":"/wA="}}`}, lines: enter(`
			> {"id":2,"publish":{"channel":"ask:a#bob","data":1}}
			< {"id":2,"error":{"code":103,"message":"permission denied"}}
			> {"id":3,"publish":{"channel":"$ask:a","data":1}}
			< {"id":3,"error":{"code":103,"message":"permission denied"}}
			> {"id":4,"publish":{"channel":"ask:a","data":1}}
			< {"id":4,` + internal)},
		{name: "publish: no", says: map[string]string{"subscribe": `{}`, "publish": `{"error":{"code":1000,"message":"no"}}`}, lines: enter(`
			> {"id":2,"subscribe":{"channel":"ask:a"}}
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"ask:a","data":{"a":1}}}
			< {"id":3,"error":{"code":1000,"message":"no"}}
			> {"id":4,"presence_stats":{"channel":"ask:a"}}
			< {"id":4,"presence_stats":{"num_clients":1,"num_users":1}}`)},
		{name: "publish: gone", says: map[string]string{"publish": `503 `}, lines: enter(`
			> {"id":3,"publish":{"channel":"ask:a","data":{"a":1}}}
			< {"id":3,` + internal), want: `millpond_webhook_requests_total{outcome="status",webhook="publish"} 1`},

		{name: "rpc", says: map[string]string{"rpc": `{"result":{"data":{"year":2026}}}`, "shop": `{"result":{"data":"sold"}}`}, lines: enter(`
			> {"id":2,"rpc":{"method":"year","data":{"a":1}}}
			< {"id":2,"rpc":{"data":{"year":2026}}}
			> {"id":3,"rpc":{"method":"shop:buy"}}
			< {"id":3,"rpc":{"data":"sold"}}
			> {"id":4,"rpc":{"method":"other:x"}}
			< {"id":4,"error":{"code":104,"message":"method not found"}}`), want: `millpond_webhook_requests_total{outcome="ok",webhook="shop"} 1`},
		{name: "rpc: its disconnect", says: map[string]string{"rpc": `{"disconnect":{"code":4000,"reason":"later"}}`}, lines: enter(`
			> {"id":2,"rpc":{}}
			x 4000 later`)},
		{name: "rpc: lies", says: map[string]string{"rpc": `{"result":{},"error":{"code":400}}`}, lines: enter(`
			> {"id":2,"rpc":{}}
			< {"id":2,` + internal), want: `millpond_webhook_requests_total{outcome="unreadable",webhook="rpc"} 1`},
		{name: "send has nobody to go to", says: map[string]string{}, lines: enter(`
			> {"send":{"data":1}}
			x 3508 not available`)},

		{name: "in order, in one frame", says: map[string]string{"subscribe": `{}`, "publish": `{}`, "rpc": `{"result":{"data":1}}`}, lines: `
			> ` + connectNone + `
			+ {"id":2,"subscribe":{"channel":"ask:a"}}
			+ {"id":3,"unsubscribe":{"channel":"ask:a"}}
			+ {"id":4,"rpc":{}}
			+ {"id":5,"publish":{"channel":"ask:a","data":1}}
			+ {"id":6,"rpc":{"method":"other:x"}}
			+ {"id":7,"rpc":{}}
			> {"id":8,"rpc":{}}
			> {"id":9,"presence_stats":{"channel":"ask:b"}}
			< ` + connected + `
			< {"id":2,"subscribe":{}}
			< {"id":3,"unsubscribe":{}}
			< {"id":4,"rpc":{"data":1}}
			< {"id":5,"publish":{}}
			< {"id":6,"error":{"code":104,"message":"method not found"}}
			< {"id":7,"rpc":{"data":1}}
			< {"id":8,"rpc":{"data":1}}
			< {"id":9,"error":{"code":103,"message":"permission denied"}}`},
	}
	for _, tt := range table {
		for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
			t.Run(tt.name+"/"+codecName(codec), func(t *testing.T) {
				t.Parallel()
				says := map[string]string{}
				if !strings.HasPrefix(tt.name, "connect") {
					says["connect"] = enterAnn
				}
				for event, body := range tt.says {
					says[event] = body
				}
				c := asksAll(newApplication(t, says).URL)
				if tt.change != nil {
					tt.change(&c)
				}
				s := newStage(t, c, codec, users)
				s.play(tt.lines)
				if _, metrics := request(t, "GET", s.server.internalURL("/metrics"), ""); !strings.Contains(metrics, tt.want) {
					t.Errorf("no %s in the metrics", tt.want)
				}
			})
		}
	}
}

// The backend is told what Centrifugo tells it, and gets the headers that it wants, whichever event it is asked about.
func TestWebhookQuestions(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn, "subscribe": `{}`, "publish": `{}`, "rpc": `{}`})
	c := asksAll(a.URL)
	for i := range c.Webhooks.Endpoints {
		e := &c.Webhooks.Endpoints[i]
		e.HTTPHeaders, e.EmulatedHeaders, e.StaticHeaders = []string{"x-app", "x-forwarded-for"}, []string{"Authorization"}, map[string]string{"X-From": "millpond"}
	}
	s := newStage(t, c, wire.JSON, nil)
	s.header = http.Header{"X-App": {"7"}, "X-Forwarded-For": {"1.1.1.1", "10.0.0.1"}, "X-Secret": {"no"}}
	s.play(`> {"id":1,"connect":{"name":"js","version":"5","data":{"d":1},"headers":{"authorization":"Bearer 1","x-other":"no"},"subs":{"ask:z":{}}}}
		< ` + connected + `
		> {"id":2,"subscribe":{"channel":"ask:a","data":[2]}}
		< {"id":2,"subscribe":{}}
		> {"id":3,"publish":{"channel":"ask:a","data":{"a":1}}}
		~ {"push":{"channel":"ask:a","pub":{"data":{"a":1},"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}},"offset":1}}}
		~ {"id":3,"publish":{}}
		> {"id":4,"rpc":{"method":"m","data":4}}
		< {"id":4,"rpc":{}}`)
	id := s.client("a").id
	for event, want := range map[string]string{
		"connect":   `{"channels":["ask:z"],"client":"ID","data":{"d":1},"encoding":"json","name":"js","protocol":"json","transport":"websocket","version":"5"}`,
		"subscribe": `{"channel":"ask:a","client":"ID","data":[2],"encoding":"json","meta":{"plan":"gold"},"protocol":"json","transport":"websocket","user":"ann"}`,
		"publish":   `{"channel":"ask:a","client":"ID","data":{"a":1},"encoding":"json","meta":{"plan":"gold"},"protocol":"json","transport":"websocket","user":"ann"}`,
		"rpc":       `{"client":"ID","data":4,"encoding":"json","meta":{"plan":"gold"},"method":"m","protocol":"json","transport":"websocket","user":"ann"}`,
	} {
		a.mu.Lock()
		got, _ := json.Marshal(a.asked[event][0])
		h := a.headers[event][0]
		a.mu.Unlock()
		if want = strings.ReplaceAll(want, "ID", id); string(got) != want {
			t.Errorf("%s: asked %s, want %s", event, got, want)
		}
		if h.Get("X-App") != "7" || strings.Join(h["X-Forwarded-For"], ",") != "1.1.1.1,10.0.0.1" || h.Get("X-From") != "millpond" || h.Get("Authorization") != "Bearer 1" {
			t.Errorf("%s: headers %v", event, h)
		}
		for _, name := range []string{"X-Secret", "X-Other", "Upgrade", "Connection", "Sec-Websocket-Key"} {
			if h.Get(name) != "" {
				t.Errorf("%s: header %s: %s", event, name, h.Get(name))
			}
		}
	}
}

// What the backend has said of a connection goes to those endpoints alone that are to have it.
func TestWebhookConnectionMeta(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn, "subscribe": `{}`, "rpc": `{}`})
	c := asksAll(a.URL)
	for i := range c.Webhooks.Endpoints {
		c.Webhooks.Endpoints[i].IncludeConnectionMeta = c.Webhooks.Endpoints[i].Name == "rpc"
	}
	newStage(t, c, wire.JSON, nil).play(`> ` + connectNone + `
		< ` + connected + `
		> {"id":2,"subscribe":{"channel":"ask:a"}}
		< {"id":2,"subscribe":{}}
		> {"id":3,"rpc":{}}
		< {"id":3,"rpc":{}}`)
	a.mu.Lock()
	defer a.mu.Unlock()
	if meta, ok := a.asked["subscribe"][0]["meta"]; ok {
		t.Errorf("subscribe: told %v", meta)
	}
	if meta := fmt.Sprint(a.asked["rpc"][0]["meta"]); meta != "map[plan:gold]" {
		t.Errorf("rpc: told %s", meta)
	}
}

// A connection and a subscription that expire stay while the backend says so, and the client is not bothered, whether a
// token has let it in or the backend.
func TestWebhookRefresh(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token bool
	}{{"let in by the backend", false}, {"by a token", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApplication(t, map[string]string{
				"connect":     `{"result":{"user":"ann","expire_at":SOON}}`,
				"subscribe":   `{"result":{"expire_at":SOON}}`,
				"sub_refresh": `500 `, "refresh": `500 `, // it is away for a while, and nobody is lost
			})
			c := asksAll(a.URL)
			c.Webhooks.Refresh = "refresh"
			c.TokenSecret, c.Webhooks.RPC, c.Webhooks.RPCNamespaces = secret, "", nil
			begin := connectNone
			tokens := users
			if tt.token {
				begin = connectAnn
				tokens = map[string]jwt.MapClaims{"ann": {"sub": "ann", "exp": in(3 * time.Second)}}
			}
			s := newStage(t, c, wire.JSON, tokens)
			s.play(`> ` + begin + `
				< ` + connected + `
				> {"id":2,"subscribe":{"channel":"renew:a"}}
				< {"id":2,"subscribe":{}}`)
			eventually(t, "the backend is asked", func() bool { return a.questions("refresh") > 0 && a.questions("sub_refresh") > 0 })
			a.say("refresh", fmt.Sprintf(`{"result":{"expire_at":%d}}`, in(time.Hour)))
			n := a.questions("refresh")
			eventually(t, "it is asked again", func() bool { return a.questions("refresh") > n })
			a.say("sub_refresh", `{"result":{"expire_at":SOON,"info":{"seat":1}}}`)
			m := a.questions("sub_refresh")
			eventually(t, "the subscription goes on", func() bool { return a.questions("sub_refresh") > m+1 })
			if seen, err := s.server.hub.Presence("renew:a"); err != nil || len(seen) != 1 || string(seen[0].ChanInfo) != `{"seat":1}` {
				t.Errorf("others see %v, %v", seen, err)
			}
			a.say("sub_refresh", `{"result":{"expired":true}}`)
			s.play(`< {"push":{"channel":"renew:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
				?`)
		})
	}
	for _, says := range []string{`{"result":{"expired":true}}`, `{"result":{"expire_at":1}}`} {
		t.Run("no more: "+says, func(t *testing.T) {
			t.Parallel()
			a := newApplication(t, map[string]string{"connect": `{"result":{"user":"ann","expire_at":SOON}}`, "refresh": says})
			c := asksAll(a.URL)
			c.Webhooks.Refresh = "refresh"
			newStage(t, c, wire.JSON, users).play(`> ` + connectNone + `
				< ` + connected + `
				x 3005 connection expired`)
		})
	}
}

// A thousand clients wait for a backend that does not answer: nobody else does, no worker either, and who comes over
// the bound is told so at once.
func TestWebhookDead(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn})
	c := asksAll(a.URL)
	const waiting = 1000
	for i := range c.Webhooks.Endpoints {
		c.Webhooks.Endpoints[i].Timeout = 5 * time.Minute
		c.Webhooks.Endpoints[i].MaxConcurrency, c.Webhooks.Endpoints[i].MaxWaiting = 64, waiting-64
	}
	c.Engine.Workers, c.Engine.PingInterval = 4, -1
	c.Namespaces = append(c.Namespaces, Namespace{Name: "free", Options: hub.Options{AllowSubscribeForClient: true, AllowPublishForSubscriber: true}})
	s := startServer(t, c)
	clients := make([]*sdk, waiting)
	for i := range clients {
		clients[i] = dialSDK(t, s, wire.JSON, "")
		clients[i].connect("")
		clients[i].send(`{"id":2,"rpc":{"method":"m"}}`, `{"id":3,"unsubscribe":{"channel":"free:a"}}`)
	}
	endpoint := s.backend.client("rpc")
	eventually(t, "all wait", func() bool { st := endpoint.Stats(); return st.Running == 64 && st.Waiting == waiting-64 })
	if n := s.engine.Stats().Pool; n.Running > 0 || n.Waiting > 0 {
		eventually(t, "no worker waits", func() bool { n := s.engine.Stats().Pool; return n.Running == 0 && n.Waiting == 0 })
	}
	other := dialSDK(t, s, wire.JSON, "")
	other.connect("")
	other.send(`{"id":2,"subscribe":{"channel":"free:a"}}`)
	other.expect(`{"id":2,"subscribe":{}}`)
	for id := 3; id < 100; id++ {
		other.send(fmt.Sprintf(`{"id":%d,"publish":{"channel":"free:a","data":1}}`, id))
		other.expectAll([]string{
			fmt.Sprintf(`{"id":%d,"publish":{}}`, id),
			fmt.Sprintf(`{"push":{"channel":"free:a","pub":{"data":1,"info":{"user":"ann","client":"<client>","conn_info":{"name":"Ann"}},"offset":%d}}}`, id-2),
		})
	}
	other.send(`{"id":100,"rpc":{"method":"m"}}`)
	other.expect(`{"id":100,"error":{"code":111,"message":"too many requests","temporary":true}}`)
	if a.underWay.Load() != 64 {
		t.Errorf("%d are asked at a time", a.underWay.Load())
	}
	_ = clients[waiting-1].conn.CloseNow() // who waits may go
	eventually(t, "it has gone", func() bool { return s.centrifuge.Stats().Connected == waiting })
	a.say("rpc", `{"result":{"data":2}}`)
	close(a.blocked)
	for _, client := range clients[:waiting-1] {
		client.expect(`{"id":2,"rpc":{"data":2}}`)
		client.expect(`{"id":3,"unsubscribe":{}}`)
	}
	eventually(t, "nothing waits", func() bool { st := endpoint.Stats(); return st.Running == 0 && st.Waiting == 0 })
}

// What the backend has let pass is published even if the client has gone meanwhile; a subscription of one that has gone
// is none.
func TestWebhookAfterTheClient(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn})
	c := asksAll(a.URL)
	s := startServer(t, c)
	gone := dialSDK(t, s, wire.JSON, "")
	gone.connect("")
	gone.send(`{"id":2,"publish":{"channel":"ask:a","data":"last words"}}`)
	second := dialSDK(t, s, wire.JSON, "")
	second.connect("")
	second.send(`{"id":2,"subscribe":{"channel":"ask:b"}}`)
	eventually(t, "both are asked", func() bool { return a.underWay.Load() == 2 })
	_ = gone.conn.CloseNow()
	_ = second.conn.CloseNow()
	eventually(t, "they have gone", func() bool { return s.centrifuge.Stats().Connected == 0 })
	a.mu.Lock()
	a.says["publish"], a.says["subscribe"] = `{}`, `{}`
	a.mu.Unlock()
	close(a.blocked)
	eventually(t, "the last words are published", func() bool { return s.hub.Stats().Publications == 1 })
	eventually(t, "the other is answered", func() bool { return s.backend.client("subscribe").Stats().Outcomes[webhook.OutcomeOK] == 1 })
	if n := s.hub.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions", n)
	}
}

// Who waits for the backend for longer than it is between two pings answers each of them, as it has to.
func TestWebhookSlowerThanPings(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn})
	c := asksAll(a.URL)
	c.Engine.PingInterval, c.Engine.PongTimeout = time.Second, 500*time.Millisecond
	s := startServer(t, c)
	client := dialSDK(t, s, wire.JSON, "")
	client.connect("")
	client.send(`{"id":2,"rpc":{"method":"m"}}`)
	for range 3 {
		client.expect(`{}`)
		client.send(`{}`)
	}
	a.say("rpc", `{"result":{"data":2}}`)
	close(a.blocked)
	client.expect(`{"id":2,"rpc":{"data":2}}`)
	client.send(`{"id":3,"unsubscribe":{"channel":"free:a"}}`)
	client.expect(`{"id":3,"unsubscribe":{}}`)
}
