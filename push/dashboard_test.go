package push

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/dashboard"
	"github.com/millpond/millpond/session"
)

// ask posts a request of the page, with a key, and decodes the answer into out if it is good.
func (s *Server) ask(t testing.TB, key, name, body string, out any) (status int, text string) {
	t.Helper()
	status, text = request(t, "POST", s.internalURL("/dashboard/"+name), body, "X-API-Key", key)
	if status == http.StatusOK && out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return status, text
}

// watch opens the page's socket.
func (s *Server) watch(t testing.TB, key string) *websocket.Conn {
	t.Helper()
	var begun struct{ Ticket string }
	if status, text := s.ask(t, key, "session", "{}", &begun); status != http.StatusOK {
		t.Fatalf("session: %d %s", status, text)
	}
	return dial(t, "ws://"+s.InternalAddr().String()+"/dashboard/live?ticket="+begun.Ticket)
}

// figuresUntil reads until there are figures of which ok holds.
func figuresUntil(t testing.TB, c *websocket.Conn, what string, ok func(f *dashboard.Figures) bool) *dashboard.Figures {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var f dashboard.Figures
		if err := json.Unmarshal([]byte(next(t, c)), &f); err != nil {
			t.Fatal(err)
		}
		if ok(&f) {
			return &f
		}
	}
	t.Fatal("never: " + what)
	return nil
}

func scoped(scopes ...string) api.Key {
	k := api.PlainKeys("key-of-" + strings.Join(scopes, "-"))[0]
	k.Name = "of-" + strings.Join(scopes, "-")
	for _, s := range scopes {
		k.Scopes |= api.ScopeNames[s]
	}
	return k
}

// Whoever has no key, or one without the scope, learns nothing; the scopes manage and publish say what else may be done.
func TestDashboardWantsAKey(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret})
	limited := scoped("dashboard", "publish")
	limited.Name, limited.Namespaces = "limited", []string{"a"}
	if err := s.api.SetKeys([]api.Key{scoped("dashboard"), scoped("dashboard", "manage"), scoped("manage", "read", "debug"), limited}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.ws("/push?token="+token(t, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})))
	var found dashboard.Found
	eventually(t, "ann is there", func() bool {
		s.ask(t, "key-of-dashboard", "find", `{"by":"user","value":"ann"}`, &found)
		return len(found.Connections) == 1
	})
	disconnect := fmt.Sprintf(`{"id":%q}`, found.Connections[0].ID)
	for _, tt := range []struct {
		key, name, body string
		want            int
	}{
		{"", "session", "{}", 401},
		{"wrong", "session", "{}", 401},
		{"wrong", "find", `{"by":"any"}`, 401},
		{"wrong", "disconnect", disconnect, 401},
		{"key-of-manage-read-debug", "session", "{}", 403},
		{"key-of-manage-read-debug", "disconnect", disconnect, 403},
		{"key-of-dashboard-publish", "session", "{}", 403}, // good for some channels only
		{"key-of-dashboard", "session", "{}", 200},
		{"key-of-dashboard", "find", `{"by":"any"}`, 200},
		{"key-of-dashboard", "disconnect", disconnect, 403},
		{"key-of-dashboard", "find", `{"by":"name","value":"x"}`, 400},
		{"key-of-dashboard", "find", `{"by":"user"}`, 400},
		{"key-of-dashboard", "find", `{"by":"address","value":"x"}`, 400},
		{"key-of-dashboard", "find", `{"by":"user","value":"` + strings.Repeat("x", 600) + `"}`, 400},
		{"key-of-dashboard", "find", `{"by":"any","more":1}`, 400},
		{"key-of-dashboard", "find", strings.Repeat(" ", 10_000) + `{}`, 400},
		{"key-of-dashboard", "find", `[`, 400},
		{"key-of-dashboard-manage", "disconnect", `{}`, 400},
		{"key-of-dashboard-manage", "disconnect", `{"id":"!"}`, 200},
		{"key-of-dashboard-manage", "disconnect", `{"id":"a","node":"elsewhere"}`, 404},
	} {
		if status, text := s.ask(t, tt.key, tt.name, tt.body, nil); status != tt.want {
			t.Errorf("%q %s %.40s: %d %s, want %d", tt.key, tt.name, tt.body, status, text, tt.want)
		}
	}
	if status, _ := request(t, "GET", s.internalURL("/dashboard/session"), ""); status != 405 {
		t.Errorf("GET: %d", status)
	}
	for _, url := range []string{
		"ws://" + s.InternalAddr().String() + "/dashboard/live", "ws://" + s.InternalAddr().String() + "/dashboard/live?ticket=x", s.ws("/dashboard/live"),
	} {
		if _, response, err := websocket.Dial(t.Context(), url, nil); err == nil || response.StatusCode != 401 && response.StatusCode != 404 {
			t.Errorf("%s: %v", url, err)
		}
	}
	var ended map[string]bool
	if status, text := s.ask(t, "key-of-dashboard-manage", "disconnect", disconnect, &ended); !ended["disconnected"] {
		t.Errorf("disconnect: %d %s", status, text)
	}
	for {
		if _, _, err := c.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != 3503 {
				t.Errorf("closed with %v", err)
			}
			break
		}
	}
}

// Figures come while somebody watches, to all who do, and nothing is collected or measured before and after. A ticket lets one in.
func TestDashboardFigures(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}, Dashboard: DashboardLimits{MaxWatchers: 2}})
	var measured atomic.Int32
	publish := func() {
		if status, text := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"news","data":1}`, "X-API-Key", "key"); status != 200 {
			t.Fatal(text)
		}
		measured.Add(1)
	}
	publish()
	if list := s.watched.busiest.Tick(1); len(list) != 0 {
		t.Errorf("measured while nobody watches: %+v", list)
	}
	a := s.watch(t, "key")
	first := figuresUntil(t, a, "figures", func(*dashboard.Figures) bool { return true })
	if first.Connections != 1 || first.UID != s.uid || len(first.Nodes) != 1 || first.Nodes[0].UID != s.uid || len(first.Fanout.Counts) == 0 || first.Resident == 0 {
		t.Errorf("the first: %+v", first)
	}
	b := s.watch(t, "key")
	c := dial(t, s.ws("/push?channels=news&token="+token(t, jwt.MapClaims{"sub": "ann", "channels": []string{"news"}, "exp": time.Now().Add(time.Hour).Unix()})))
	next(t, c)
	publish()
	for _, watcher := range []*websocket.Conn{a, b} {
		f := figuresUntil(t, watcher, "a publication", func(f *dashboard.Figures) bool { return len(f.Busiest) == 1 })
		if f.Watchers != 2 || f.Connections != 3 || f.Users != 1 || f.Subscriptions != 1 || f.Busiest[0].Name != "news" || f.Busiest[0].Subscribers != 1 || f.Busiest[0].Messages <= 0 {
			t.Errorf("%+v", f)
		}
	}
	var third struct{ Ticket string }
	s.ask(t, "key", "session", "{}", &third)
	if _, response, err := websocket.Dial(t.Context(), "ws://"+s.InternalAddr().String()+"/dashboard/live?ticket="+third.Ticket, nil); err == nil || response.StatusCode != 503 {
		t.Errorf("one too many: %v", err)
	}
	if _, _, err := websocket.Dial(t.Context(), s.ws("/dashboard/live?ticket="+third.Ticket), nil); err == nil {
		t.Error("a ticket was good twice")
	}
	_, metrics := request(t, "GET", s.internalURL("/metrics"), "")
	for _, line := range []string{"millpond_dashboard_watchers 2\n", "millpond_dashboard_refused_total 1\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	// The keys change: all have to show theirs again.
	s.dashboard.Recheck()
	for _, watcher := range []*websocket.Conn{a, b} {
		for {
			if _, _, err := watcher.Read(t.Context()); err != nil {
				if websocket.CloseStatus(err) != 4401 {
					t.Errorf("closed with %v", err)
				}
				break
			}
		}
	}
	eventually(t, "nobody watches", func() bool { return s.dashboard.Stats().Watchers == 0 })
	s.dashboard.Close() // the goroutine has ended
	publish()
	if list := s.watched.busiest.Tick(1); len(list) != 0 {
		t.Errorf("measured after nobody watches: %+v", list)
	}
}

// Whoever sends anything on the page's socket is no page.
func TestDashboardHearsNothing(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	c := s.watch(t, "")
	send(t, c, "hello")
	for {
		if _, _, err := c.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("closed with %v", err)
			}
			return
		}
	}
}

// Connections are found by all ways, of both protocols, with what they are subscribed to; not more than may be.
func TestDashboardFinds(t *testing.T) {
	s := startServer(t, Config{
		Dev: true, Echo: true, Dashboard: DashboardLimits{MaxResults: 3}, AccessLog: Log{Path: filepath.Join(t.TempDir(), "access")},
		Webhooks: Webhooks{RPC: "app", Endpoints: []Webhook{{Name: "app", Endpoint: "http://127.0.0.1:1/", HTTPHeaders: []string{"User-Agent"}}}},
	})
	plain, _, err := websocket.Dial(t.Context(), s.ws("/push?channels=news,<b>"), &websocket.DialOptions{HTTPHeader: http.Header{"User-Agent": {"browser/1"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.CloseNow() }()
	next(t, plain)
	send(t, plain, `{"type":"login","id":1,"payload":{"username":"ann","password":"x"}}`)
	next(t, plain)
	centrifuge := dial(t, s.ws("/connection/websocket"))
	send(t, centrifuge, `{"id":1,"connect":{"token":"`+token(t, jwt.MapClaims{"sub": "bob"})+`"}}`)
	var connected struct{ Connect struct{ Client string } }
	if err := json.Unmarshal([]byte(next(t, centrifuge)), &connected); err != nil {
		t.Fatal(err)
	}
	send(t, centrifuge, `{"id":2,"subscribe":{"channel":"news"}}`)
	next(t, centrifuge)
	echo := dial(t, s.ws("/echo"))
	send(t, echo, "x")
	next(t, echo)
	dial(t, s.ws("/push"))
	eventually(t, "all are open", func() bool { return s.engine.Stats().Connections == 4 && s.engine.Stats().Handshaking == 0 })

	find := func(by, value string) (*dashboard.Found, []string) {
		t.Helper()
		body, _ := json.Marshal(dashboard.Query{By: by, Value: value})
		if value == "" {
			body = fmt.Appendf(nil, `{"by":%q}`, by)
		}
		var found dashboard.Found
		if status, text := s.ask(t, "", "find", string(body), &found); status != 200 {
			t.Fatalf("%s %s: %d %s", by, value, status, text)
		}
		var users []string
		for _, c := range found.Connections {
			users = append(users, c.User)
		}
		slices.Sort(users)
		return &found, users
	}
	ann, users := find("user", "ann")
	if !slices.Equal(users, []string{"ann"}) {
		t.Fatalf("ann: %+v", ann)
	}
	a := ann.Connections[0]
	if !slices.Equal(a.Channels, []string{"<b>", "news"}) || a.Subscriptions != 2 || a.Protocol != "plain" || a.Path != "/push" || a.Client != a.ID ||
		!strings.HasPrefix(a.Address, "127.0.0.1") || a.Age < 0 || a.Age > 60 || a.Node != s.uid || a.UserAgent != "browser/1" {
		t.Errorf("ann: %+v", a)
	}
	for _, tt := range []struct {
		by, value string
		want      []string
	}{
		{"user", "bob", []string{"bob"}},
		{"user", "carl", nil},
		{"id", a.ID, []string{"ann"}},
		{"id", connected.Connect.Client, []string{"bob"}},
		{"id", "nobody", nil},
		{"channel", "news", []string{"ann", "bob"}},
		{"channel", "<b>", []string{"ann"}},
		{"address", "192.0.2.1", nil},
		{"slow", "", nil},
	} {
		if found, users := find(tt.by, tt.value); !slices.Equal(users, tt.want) || found.More {
			t.Errorf("%s %s: %v, want %v", tt.by, tt.value, users, tt.want)
		}
	}
	for _, way := range [][2]string{{"any", ""}, {"address", "127.0.0.0/8"}, {"address", "127.0.0.1"}} {
		if found, users := find(way[0], way[1]); len(users) != 3 || !found.More {
			t.Errorf("%v: %d, more: %v", way, len(users), found.More)
		}
	}
	for _, q := range []dashboard.Query{{By: "any", Max: 1}, {By: "address", Value: "127.0.0.1", Max: 1}, {By: "channel", Value: "news"}} {
		if chosen, err := s.choose(q); err != nil || len(chosen) != q.Max+1 { // and no more is looked at
			t.Errorf("%+v: %d, %v", q, len(chosen), err)
		}
	}
	b, _ := find("user", "bob")
	if c := b.Connections[0]; c.Protocol != "Centrifuge JSON" || !slices.Equal(c.Channels, []string{"news"}) {
		t.Errorf("bob: %+v", c)
	}
	var ended map[string]bool
	s.ask(t, "", "disconnect", fmt.Sprintf(`{"id":%q,"node":%q,"reconnect":true}`, b.Connections[0].ID, s.uid), &ended)
	if _, _, err := centrifuge.Read(t.Context()); websocket.CloseStatus(err) != 3011 || !ended["disconnected"] {
		t.Errorf("closed with %v", err)
	}
}

// What waits in outboxes is found, the most first.
func TestDashboardFindsTheSlow(t *testing.T) {
	s := startServer(t, Config{Dev: true, MaxMessageBytes: 1 << 20, Engine: session.Config{OutboxBytes: 64 << 20}})
	fast, slow := dial(t, s.ws("/push?channels=news")), dial(t, s.ws("/push?channels=news"))
	slower := dial(t, s.ws("/push?channels=news,more"))
	next(t, slower)
	fast.SetReadLimit(-1)
	next(t, fast)
	next(t, slow)
	var found dashboard.Found
	message := []byte(`"` + strings.Repeat("x", 64<<10) + `"`)
	eventually(t, "somebody is slow", func() bool {
		if status, text := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"news","data":`+string(message)+`}`); status != 200 {
			t.Fatal(text)
		}
		next(t, fast)
		s.ask(t, "", "find", `{"by":"slow"}`, &found)
		return len(found.Connections) == 2 && min(found.Connections[0].OutboxBytes, found.Connections[1].OutboxBytes) > 100_000
	})
	for range 12 { // what the kernel took of the others differs by some
		if status, text := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"more","data":`+string(message)+`}`); status != 200 {
			t.Fatal(text)
		}
	}
	var most dashboard.Connection
	eventually(t, "the first has more by these messages", func() bool {
		s.ask(t, "", "find", `{"by":"slow"}`, &found)
		if len(found.Connections) != 2 {
			return false
		}
		most = found.Connections[0]
		return most.OutboxBytes > found.Connections[1].OutboxBytes+6*len(message)
	})
	if most.OutboxMessages < 2 || most.OutboxAge <= 0 || !slices.Contains(most.Channels, "more") {
		t.Errorf("%+v", found)
	}
	if chosen := s.slowest(1); len(chosen) != 1 || strconv.FormatUint(chosen[0].ID(), 36) != most.ID {
		t.Errorf("the slowest is %v, want %s", chosen, most.ID)
	}
}

// All nodes are asked, and the one that has a connection ends it.
func TestDashboardOfACluster(t *testing.T) {
	broker := startNATS(t)
	one := startNode(t, broker, "one", func(c *Config) { c.Dev = true })
	two := startNode(t, broker, "two", func(c *Config) { c.Dev = true })
	eventually(t, "they know each other", func() bool { return len(one.nodes.all()) == 2 && len(two.nodes.all()) == 2 })
	for _, s := range []*Server{one, two} {
		c := dial(t, s.ws("/push?channels=news"))
		next(t, c)
		send(t, c, `{"type":"login","id":1,"payload":{"username":"ann","password":"x"}}`)
		next(t, c)
	}
	var found dashboard.Found
	if status, text := one.ask(t, "", "find", `{"by":"user","value":"ann"}`, &found); len(found.Connections) != 2 {
		t.Fatalf("%d %s", status, text)
	}
	if f := figuresUntil(t, one.watch(t, ""), "nodes", func(f *dashboard.Figures) bool { return len(f.Nodes) == 2 }); f.Nodes[0].UID != one.uid || f.Nodes[1].Name != "two" {
		t.Errorf("nodes: %+v", f.Nodes)
	}
	at := slices.IndexFunc(found.Connections, func(c dashboard.Connection) bool { return c.Node == two.uid })
	if at < 0 {
		t.Fatalf("none is of the other node: %+v", found)
	}
	c := found.Connections[at]
	if c.NodeName != "two" || !slices.Equal(c.Channels, []string{"news"}) {
		t.Errorf("%+v", c)
	}
	for _, want := range []bool{true, false} {
		var ended map[string]bool
		if status, text := one.ask(t, "", "disconnect", fmt.Sprintf(`{"id":%q,"node":%q}`, c.ID, c.Node), &ended); ended["disconnected"] != want || status != 200 {
			t.Errorf("disconnect: %d %s, want %v", status, text, want)
		}
		eventually(t, "it is gone", func() bool {
			two.ask(t, "", "find", `{"by":"id","value":"`+c.ID+`"}`, &found)
			return len(found.Connections) == 0 || found.Connections[0].Node != two.uid
		})
	}
}

// The dashboard is the internal address's first page, unless it is turned off or the playground is.
func TestDashboardPlace(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(s.internalURL("/"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusFound || response.Header.Get("Location") != "dashboard/" {
		t.Errorf("/: %d %s", response.StatusCode, response.Header.Get("Location"))
	}
	if status, body := request(t, "GET", s.internalURL("/"), ""); status != 200 || !strings.Contains(body, "millpond dashboard") {
		t.Errorf("the page: %d", status)
	}
	if status, _ := request(t, "GET", "http://"+s.Addrs()[0].String()+"/dashboard/", ""); status != 404 {
		t.Errorf("for strangers: %d", status)
	}
	without := startServer(t, Config{Dev: true, NoDashboard: true})
	for _, path := range []string{"/", "/dashboard/", "/dashboard/session"} {
		if status, _ := request(t, "GET", without.internalURL(path), ""); status != 404 {
			t.Errorf("without: %s: %d", path, status)
		}
	}
	address := freeAddress(t)
	shared := startServer(t, Config{Dev: true, Listen: []string{address}, InternalListen: address})
	if status, body := request(t, "GET", shared.internalURL("/"), ""); status != 200 || !strings.Contains(body, "millpond playground") {
		t.Errorf("shared: %d", status)
	}
	if status, body := request(t, "GET", shared.internalURL("/dashboard/"), ""); status != 200 || !strings.Contains(body, "millpond dashboard") {
		t.Errorf("shared: %d", status)
	}
	figuresUntil(t, shared.watch(t, ""), "figures on a shared address", func(f *dashboard.Figures) bool { return f.Connections == 1 })
}
