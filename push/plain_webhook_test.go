package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/webhook"
)

// plainPeer is a client of the plain protocol.
type plainPeer struct {
	t    testing.TB
	conn *websocket.Conn
}

func dialPlain(t testing.TB, s *Server, query string, header http.Header) *plainPeer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), s.ws("/push"+query), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &plainPeer{t, conn}
}

func (p *plainPeer) send(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		if err := p.conn.Write(p.t.Context(), websocket.MessageText, []byte(line)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// play plays a dialogue: ">" is sent, "<" comes, "~" comes in any order at the end, "x" is the close. Of what comes the ids of clients are left out.
func (p *plainPeer) play(dialogue string) {
	p.t.Helper()
	var anyOrder []string
	for line := range strings.Lines(dialogue) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "~":
			anyOrder = append(anyOrder, rest)
		case ">":
			p.send(rest)
		case "<":
			if got := anonymized(next(p.t, p.conn)); got != rest {
				p.t.Fatalf("got\n%s, want\n%s", got, rest)
			}
		case "x":
			_, _, err := p.conn.Read(p.t.Context())
			var closed websocket.CloseError
			if !errors.As(err, &closed) || fmt.Sprintf("%d %s", closed.Code, closed.Reason) != rest {
				p.t.Fatalf("ended with %v, want %s", err, rest)
			}
		}
	}
	for range anyOrder {
		got := anonymized(next(p.t, p.conn))
		i := slices.Index(anyOrder, got)
		if i < 0 {
			p.t.Fatalf("got\n%s, want one of\n%s", got, strings.Join(anyOrder, "\n"))
		}
		anyOrder[i] = "" // it came
	}
}

// variable is what is not the same in each run.
var variable = regexp.MustCompile(`"(client|epoch)":"[^"]*"`)

func anonymized(text string) string {
	return variable.ReplaceAllString(text, `"$1":"<$1>"`)
}

// What a backend says is what a client of the plain protocol gets, in the same shapes as the other protocol's.
func TestPlainWebhookOutcomes(t *testing.T) {
	const (
		login = `{"type":"login","id":1}`
		as    = `{"type":"login","id":1,"payload":{}}`
		ann   = `{"type":"reply","id":1,"ok":true,"user":"ann"}`
		fault = `"code":100,"message":"internal server error"}`
	)
	enter := func(lines string) string { return "> " + as + "\n< " + ann + "\n" + lines }
	short := func(c *Config) {
		for i := range c.Webhooks.Endpoints {
			c.Webhooks.Endpoints[i].Timeout = 100 * time.Millisecond
		}
	}
	for _, tt := range []struct {
		name   string
		says   map[string]string // beside a connect of ann
		change func(c *Config)
		query  string
		lines  string
		want   string // of the metrics
	}{
		{
			name: "connect", says: map[string]string{"connect": `{"result":{"user":"ann","data":{"hi":1},"channels":["shut:a"],"subs":{"shut:b":{}}}}`}, lines: `
			> {"type":"subscribe","id":0,"payload":{"channel":"shut:a"}}
			< {"type":"error","id":0,"code":101,"message":"unauthorized: log in before you subscribe"}
			> {"type":"login","id":1,"payload":{"data":{"d":1}}}
			< {"type":"reply","id":1,"ok":true,"user":"ann","data":{"hi":1}}
			> {"type":"subscribe","id":2,"payload":{"channels":["shut:a","shut:b"]}}
			< {"type":"reply","id":2,"ok":true,"channels":["shut:a","shut:b"]}
			> {"type":"subscribe","id":3,"payload":{"channel":"shut:c"}}
			< {"type":"error","id":3,"code":103,"message":"permission denied: you may not subscribe to channel \"shut:c\""}
			> {"type":"login","id":4,"payload":{}}
			< {"type":"error","id":4,"code":107,"message":"bad request: already logged in"}`,
			want: `millpond_webhook_requests_total{outcome="ok",webhook="connect"} 1`,
		},
		{name: "connect: by the opening request", says: map[string]string{"connect": enterAnn, "subscribe": `{}`, "publish": `500 `}, query: "?channels=ask:a", lines: `
			< {"type":"reply","ok":true,"channels":["ask:a"]}
			> {"type":"publish","id":1,"payload":{"channel":"ask:b","data":1}}
			< {"type":"error","id":1,` + fault},
		{name: "connect: its error", says: map[string]string{"connect": `{"error":{"code":401,"message":"who?"}}`}, lines: `
			> ` + as + `
			< {"type":"error","id":1,"code":401,"message":"who?"}
			> {"type":"ping","id":2}
			< {"type":"pong","id":2}`},
		{name: "connect: its error, to who cannot try again", says: map[string]string{"connect": `{"error":{"code":401,"message":"who?"}}`}, query: "?channels=ask:a", lines: `
			< {"type":"error","code":401,"message":"who?"}
			x 1008 login failed`},
		{name: "connect: its disconnect", says: map[string]string{"connect": `{"disconnect":{"code":4501,"reason":"go away"}}`}, lines: `
			> ` + as + `
			x 4501 go away`},
		{name: "connect: slow", says: map[string]string{}, change: short, lines: `
			> ` + as + `
			< {"type":"error","id":1,` + fault, want: `millpond_webhook_requests_total{outcome="timeout",webhook="connect"} 1`},
		{name: "connect: dead", says: map[string]string{}, change: func(c *Config) { c.Webhooks.Endpoints[0].Endpoint = "http://127.0.0.1:1/" }, lines: `
			> ` + as + `
			< {"type":"error","id":1,` + fault, want: `millpond_webhook_requests_total{outcome="connection",webhook="connect"} 1`},
		{name: "connect: expired", says: map[string]string{"connect": `{"result":{"user":"ann","expire_at":1}}`}, lines: `
			> ` + as + `
			< {"type":"error","id":1,"code":110,"message":"expired: the login"}`},
		{name: "connect: expires, and cannot be renewed", says: map[string]string{"connect": `{"result":{"user":"ann","expire_at":SOON}}`}, lines: enter(`
			x 1008 login expired`)},
		{name: "connect: guesses end", says: map[string]string{"connect": `{"error":{"code":401,"message":"no"}}`}, lines: strings.Repeat("> "+as+"\n"+`< {"type":"error","id":1,"code":401,"message":"no"}`+"\n", 16) + `
			x 1008 too many bad messages`},
		{name: "refresh: no more", says: map[string]string{"connect": `{"result":{"user":"ann","expire_at":SOON}}`, "refresh": `{"result":{"expired":true}}`}, change: func(c *Config) { c.Webhooks.Refresh = "refresh" }, lines: enter(`
			x 1008 login expired`), want: `millpond_webhook_requests_total{outcome="ok",webhook="refresh"} 1`},
		{name: "login without a payload", says: nil, lines: `
			> ` + login + `
			< {"type":"error","id":1,"code":107,"message":"bad request: login needs a \"payload\" object"}`},

		{name: "subscribe", says: map[string]string{"subscribe": `{"result":{"data":{"x":1},"info":{"i":1}}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a","data":{"d":1}}}
			< {"type":"reply","id":2,"ok":true,"channel":"ask:a","data":{"x":1}}
			> {"type":"presence","id":3,"payload":{"channel":"ask:a"}}
			< {"type":"reply","id":3,"ok":true,"channel":"ask:a","clients":[{"user":"ann","client":"<client>","info":{"name":"Ann"},"chan_info":{"i":1}}]}
			> {"type":"subscribe","id":4,"payload":{"channel":"ask:a"}}
			< {"type":"error","id":4,"code":105,"message":"already subscribed: to channel \"ask:a\""}`), want: `millpond_webhook_requests_total{outcome="ok",webhook="subscribe"} 1`},
		{name: "subscribe: to several", says: map[string]string{"subscribe": `{"result":{"data":1}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channels":["ask:a","ask:b","ask:a#ann"]}}
			< {"type":"reply","id":2,"ok":true,"channels":["ask:a","ask:b","ask:a#ann"],"data":{"ask:a":1,"ask:b":1}}`), want: `millpond_webhook_requests_total{outcome="ok",webhook="subscribe"} 2`},
		{name: "subscribe: unseen", says: map[string]string{"subscribe": `{"result":{"override":{"presence":{"value":false}}}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a"}}
			< {"type":"reply","id":2,"ok":true,"channel":"ask:a"}
			> {"type":"presence","id":3,"payload":{"channel":"ask:a"}}
			< {"type":"reply","id":3,"ok":true,"channel":"ask:a","clients":[]}`)},
		{name: "subscribe: its error, and nothing of several", says: map[string]string{"subscribe": `{"error":{"code":403,"message":"no"}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channels":["ask:a#ann","ask:a"]}}
			< {"type":"error","id":2,"code":403,"message":"no"}
			> {"type":"presence","id":3,"payload":{"channel":"ask:a#ann"}}
			< {"type":"error","id":3,"code":103,"message":"permission denied: you may not ask who is in channel \"ask:a#ann\""}`)},
		{name: "subscribe: its disconnect", says: map[string]string{"subscribe": `{"disconnect":{"code":4501,"reason":"no"}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a"}}
			x 4501 no`)},
		{name: "subscribe: slow", says: map[string]string{}, change: func(c *Config) { c.Webhooks.Endpoints[2].Timeout = 100 * time.Millisecond }, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a"}}
			< {"type":"error","id":2,` + fault)},
		{name: "subscribe: nothing more", says: map[string]string{"subscribe": `{}`, "publish": `500 `}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"more:b"}}
			< {"type":"reply","id":2,"ok":true,"channel":"more:b","offset":0,"epoch":"<epoch>"}
			> {"type":"publish","id":3,"payload":{"channel":"more:b","data":1}}
			< {"type":"error","id":3,` + fault + `
			> {"type":"presence","id":4,"payload":{"channel":"more:b"}}
			< {"type":"error","id":4,"code":103,"message":"permission denied: you may not ask who is in channel \"more:b\""}
			> {"type":"history","id":5,"payload":{"channel":"more:b"}}
			< {"type":"error","id":5,"code":103,"message":"permission denied: you may not ask for the history of channel \"more:b\""}`)},
		{name: "subscribe: what it allows beside", says: map[string]string{"subscribe": `{"result":{"allow":["pub","prs","hst"]}}`, "publish": `500 `}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"more:a","since":{"offset":0,"epoch":"no"}}}
			< {"type":"reply","id":2,"ok":true,"channel":"more:a","offset":0,"epoch":"<epoch>","recovered":false}
			> {"type":"publish","id":3,"payload":{"channel":"more:a","data":1}}
			~ {"type":"message","channel":"more:a","offset":1,"data":1}
			~ {"type":"reply","id":3,"ok":true,"channel":"more:a","offset":1}`)},
		{name: "subscribe: what the name says goes before", says: map[string]string{"subscribe": `{}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a#bob"}}
			< {"type":"error","id":2,"code":103,"message":"permission denied: you may not subscribe to channel \"ask:a#bob\""}
			> {"type":"subscribe","id":3,"payload":{"channel":"$ask:a"}}
			< {"type":"error","id":3,"code":103,"message":"permission denied: you may not subscribe to channel \"$ask:a\""}`)},
		{name: "subscribe: expired", says: map[string]string{"subscribe": `{"result":{"expire_at":1}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ends:a"}}
			< {"type":"error","id":2,"code":110,"message":"expired: the subscription to channel \"ends:a\""}`)},
		{name: "subscribe: expires", says: map[string]string{"subscribe": `{"result":{"expire_at":SOON}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ends:a"}}
			< {"type":"reply","id":2,"ok":true,"channel":"ends:a"}
			< {"type":"unsubscribed","channel":"ends:a","code":2501,"message":"subscription expired"}`)},
		{name: "sub_refresh: no more", says: map[string]string{"subscribe": `{"result":{"expire_at":SOON}}`, "sub_refresh": `{"result":{"expired":true}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"renew:a"}}
			< {"type":"reply","id":2,"ok":true,"channel":"renew:a"}
			< {"type":"unsubscribed","channel":"renew:a","code":2501,"message":"subscription expired"}`), want: `millpond_webhook_requests_total{outcome="ok",webhook="sub_refresh"} 1`},

		{name: "publish", says: map[string]string{"subscribe": `{}`, "publish": `{"result":{"data":{"b":2},"tags":{"t":"1"}}}`}, lines: enter(`
			> {"type":"subscribe","id":2,"payload":{"channel":"ask:a"}}
			< {"type":"reply","id":2,"ok":true,"channel":"ask:a"}
			> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":{"a":1}}}
			~ {"type":"message","channel":"ask:a","offset":1,"data":{"b":2},"tags":{"t":"1"}}
			~ {"type":"reply","id":3,"ok":true,"channel":"ask:a","offset":1}`)},
		{name: "publish: as it is", says: map[string]string{"publish": `{}`}, lines: enter(`
			> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":{"a":1}}}
			< {"type":"reply","id":3,"ok":true,"channel":"ask:a","offset":1}`)},
		{name: "publish: not from outside, and no data that some could not read", says: map[string]string{"publish": `{"result":{"b64data":"/wA="}}`}, lines: enter(`
			> {"type":"publish","id":2,"payload":{"channel":"ask:a#bob","data":1}}
			< {"type":"error","id":2,"code":103,"message":"permission denied: you may not publish to channel \"ask:a#bob\""}
			> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":1}}
			< {"type":"error","id":3,` + fault)},
		{name: "publish: no", says: map[string]string{"publish": `{"error":{"code":1000,"message":"no"}}`}, lines: enter(`
			> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":1}}
			< {"type":"error","id":3,"code":1000,"message":"no"}`)},
		{name: "publish: gone", says: map[string]string{"publish": `503 `}, lines: enter(`
			> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":1}}
			< {"type":"error","id":3,` + fault), want: `millpond_webhook_requests_total{outcome="status",webhook="publish"} 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			says := map[string]string{}
			if !strings.HasPrefix(tt.name, "connect") {
				says["connect"] = enterAnn
			}
			for event, body := range tt.says {
				says[event] = body
			}
			c := asksAll(newApplication(t, says).URL)
			c.Namespaces = append(c.Namespaces, Namespace{Name: "shut"})
			if tt.change != nil {
				tt.change(&c)
			}
			s := startServer(t, c)
			dialPlain(t, s, tt.query, nil).play(tt.lines)
			if _, metrics := request(t, "GET", s.internalURL("/metrics"), ""); !strings.Contains(metrics, tt.want) {
				t.Errorf("no %s in the metrics", tt.want)
			}
		})
	}
}

// The backend is told the same of a client of the plain protocol as of others.
func TestPlainWebhookQuestions(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn, "subscribe": `{}`, "publish": `{}`})
	c := asksAll(a.URL)
	for i := range c.Webhooks.Endpoints {
		e := &c.Webhooks.Endpoints[i]
		e.HTTPHeaders, e.EmulatedHeaders = []string{"x-app"}, []string{"Authorization"}
	}
	p := dialPlain(t, startServer(t, c), "", http.Header{"X-App": {"7"}, "X-Secret": {"no"}})
	p.play(`> {"type":"login","id":1,"payload":{"data":{"d":1},"headers":{"authorization":"Bearer 1","x-other":"no"}}}
		< {"type":"reply","id":1,"ok":true,"user":"ann"}
		> {"type":"subscribe","id":2,"payload":{"channel":"ask:a","data":[2]}}
		< {"type":"reply","id":2,"ok":true,"channel":"ask:a"}
		> {"type":"publish","id":3,"payload":{"channel":"ask:b","data":{"a":1}}}
		< {"type":"reply","id":3,"ok":true,"channel":"ask:b","offset":1}`)
	for event, want := range map[string]string{
		"connect":   `{"client":"<client>","data":{"d":1},"encoding":"json","protocol":"json","transport":"websocket"}`,
		"subscribe": `{"channel":"ask:a","client":"<client>","data":[2],"encoding":"json","meta":{"plan":"gold"},"protocol":"json","transport":"websocket","user":"ann"}`,
		"publish":   `{"channel":"ask:b","client":"<client>","data":{"a":1},"encoding":"json","meta":{"plan":"gold"},"protocol":"json","transport":"websocket","user":"ann"}`,
	} {
		a.mu.Lock()
		got, _ := json.Marshal(a.asked[event][0])
		h := a.headers[event][0]
		a.mu.Unlock()
		if anonymized(string(got)) != want {
			t.Errorf("%s: asked %s, want %s", event, got, want)
		}
		if h.Get("X-App") != "7" || h.Get("Authorization") != "Bearer 1" || h.Get("X-Secret") != "" || h.Get("X-Other") != "" {
			t.Errorf("%s: headers %v", event, h)
		}
	}
	p = dialPlain(t, startServer(t, c), "?channels=ask:z", http.Header{"X-App": {"8"}})
	p.play(`< {"type":"reply","ok":true,"channels":["ask:z"]}`)
	a.mu.Lock()
	defer a.mu.Unlock()
	if got, _ := json.Marshal(a.asked["connect"][1]["channels"]); string(got) != `["ask:z"]` || a.headers["connect"][1].Get("X-App") != "8" {
		t.Errorf("asked %s with %v", got, a.headers["connect"][1])
	}
}

// A connection and a subscription stay while the backend says so, or says nothing.
func TestPlainWebhookRefresh(t *testing.T) {
	a := newApplication(t, map[string]string{
		"connect": `{"result":{"user":"ann","expire_at":SOON}}`, "subscribe": `{"result":{"expire_at":SOON}}`, "sub_refresh": `500 `, "refresh": `500 `,
	})
	c := asksAll(a.URL)
	c.Webhooks.Refresh = "refresh"
	p := dialPlain(t, startServer(t, c), "?channels=renew:a", nil)
	p.play(`< {"type":"reply","ok":true,"channels":["renew:a"]}`)
	eventually(t, "the backend is asked", func() bool { return a.questions("refresh") > 0 && a.questions("sub_refresh") > 0 })
	a.say("refresh", fmt.Sprintf(`{"result":{"expire_at":%d,"info":{"name":"Anna"}}}`, in(time.Hour)))
	a.say("sub_refresh", fmt.Sprintf(`{"result":{"expire_at":%d,"info":{"seat":1}}}`, in(time.Hour)))
	n, m := a.questions("refresh"), a.questions("sub_refresh")
	eventually(t, "it is asked again", func() bool { return a.questions("refresh") > n && a.questions("sub_refresh") > m })
	a.say("subscribe", `{}`)
	p.play(`> {"type":"subscribe","id":1,"payload":{"channel":"ask:a"}}
		< {"type":"reply","id":1,"ok":true,"channel":"ask:a"}
		> {"type":"presence","id":2,"payload":{"channel":"ask:a"}}
		< {"type":"reply","id":2,"ok":true,"channel":"ask:a","clients":[{"user":"ann","client":"<client>","info":{"name":"Anna"}}]}
		> {"type":"presence","id":3,"payload":{"channel":"renew:a"}}
		< {"type":"reply","id":3,"ok":true,"channel":"renew:a","clients":[{"user":"ann","client":"<client>","info":{"name":"Anna"},"chan_info":{"seat":1}}]}`)
}

// Clients wait for a backend that does not answer: nobody else does, no worker either, and what they sent meanwhile is
// carried out afterwards, in order. Who goes meanwhile has published all the same.
func TestPlainWebhookDead(t *testing.T) {
	a := newApplication(t, map[string]string{"connect": enterAnn})
	c := asksAll(a.URL)
	const waiting = 100
	for i := range c.Webhooks.Endpoints {
		c.Webhooks.Endpoints[i].Timeout, c.Webhooks.Endpoints[i].MaxConcurrency, c.Webhooks.Endpoints[i].MaxWaiting = 5*time.Minute, 16, waiting-16
	}
	c.Engine.Workers, c.Engine.PingInterval = 4, -1
	c.Namespaces = append(c.Namespaces, Namespace{Name: "free", Options: hub.Options{AllowSubscribeForClient: true, AllowPublishForSubscriber: true}})
	s := startServer(t, c)
	enter := `> {"type":"login","id":1,"payload":{}}
		< {"type":"reply","id":1,"ok":true,"user":"ann"}`
	clients := make([]*plainPeer, waiting)
	for i := range clients {
		clients[i] = dialPlain(t, s, "", nil)
		clients[i].play(enter)
		clients[i].send(`{"type":"publish","id":2,"payload":{"channel":"ask:a","data":2}}`, `{"type":"subscribe","id":3,"payload":{"channel":"free:a"}}`, `{"type":"ping","id":4}`)
	}
	endpoint := s.backend.client("publish")
	eventually(t, "all wait", func() bool { st := endpoint.Stats(); return st.Running == 16 && st.Waiting == waiting-16 })
	eventually(t, "no worker waits", func() bool { n := s.engine.Stats().Pool; return n.Running == 0 && n.Waiting == 0 })
	other := dialPlain(t, s, "", nil)
	other.play(enter + `
		> {"type":"subscribe","id":2,"payload":{"channel":"free:b"}}
		< {"type":"reply","id":2,"ok":true,"channel":"free:b"}
		> {"type":"publish","id":3,"payload":{"channel":"ask:a","data":1}}
		< {"type":"error","id":3,"code":111,"message":"too many requests"}`)
	if n := s.hub.Stats().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions: somebody did not wait", n)
	}
	_ = clients[waiting-1].conn.CloseNow()
	eventually(t, "it has gone", func() bool { return s.engine.Stats().Connections == waiting })
	a.say("publish", `{}`)
	close(a.blocked)
	for _, client := range clients[:waiting-1] {
		if got := next(t, client.conn); !strings.HasPrefix(got, `{"type":"reply","id":2,"ok":true,"channel":"ask:a","offset":`) {
			t.Fatal(got)
		}
		client.play(`< {"type":"reply","id":3,"ok":true,"channel":"free:a"}
			< {"type":"pong","id":4}`)
	}
	eventually(t, "all is published", func() bool { return s.hub.Stats().Publications == waiting })
	eventually(t, "nothing is under way", func() bool { return endpoint.Stats().Outcomes[webhook.OutcomeOK] == waiting })
}
