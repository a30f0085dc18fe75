package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/broker/nats"
	"github.com/millpond/millpond/push/broker/nats/embedded"
	"github.com/millpond/millpond/push/cluster"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has what nodes do for each other, each a whole server, over a real server of NATS.

// startNATS boots a server of NATS and ends it with the test.
func startNATS(t testing.TB) *embedded.Server {
	t.Helper()
	s, stop := startNATSWith(t, embedded.Config{Dir: t.TempDir()})
	if s == nil {
		t.FailNow()
	}
	t.Cleanup(stop)
	return s
}

func startNATSWith(t testing.TB, c embedded.Config) (s *embedded.Server, stop func()) {
	t.Helper()
	c.StoreBytes = 64 << 20
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := embedded.Start(c)
	if err != nil {
		t.Error(err)
		return nil, func() {}
	}
	return s, sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}

// hanging is a bus on which nothing comes from a node that hangs.
type hanging struct {
	cluster.Bus
	hangs atomic.Bool
}

func (h *hanging) Publish(subject string, data []byte) error {
	if h.hangs.Load() {
		return nil
	}
	return h.Bus.Publish(subject, data)
}

// startNode boots one of several servers.
func startNode(t testing.TB, broker *embedded.Server, name string, change func(*Config)) *Server {
	t.Helper()
	link, err := nats.Open(nats.LinkConfig{Server: broker, Node: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close(context.Background()) })
	log, err := nats.NewRecords(link, "revocations", 1+broker.Stats().Peers, 1000)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		TokenSecret: secret, APIKeys: []string{"key"}, Version: "v1", Channels: ChannelOptions{Presence: true, AllowSubscribeForClient: true, AllowPresenceForSubscriber: true},
		Cluster: Cluster{
			Bus: &hanging{Bus: nats.NewBus(link)}, Log: log, Name: name,
			ClusterLimits: cluster.Limits{Heartbeat: 50 * time.Millisecond, Timeout: time.Minute, AskTimeout: 30 * time.Second},
		},
	}
	if change != nil {
		change(&c)
	}
	return startServer(t, c)
}

// startNodes boots three servers that know each other.
func startNodes(t testing.TB, change func(*Config)) (broker *embedded.Server, servers []*Server) {
	t.Helper()
	broker = startNATS(t)
	for _, name := range []string{"one", "two", "three"} {
		servers = append(servers, startNode(t, broker, name, change))
	}
	knowEachOther(t, servers)
	return broker, servers
}

func knowEachOther(t testing.TB, servers []*Server) {
	t.Helper()
	for _, s := range servers {
		eventually(t, "all nodes are known", func() bool { return len(s.nodes.cluster.Nodes()) == len(servers)-1 })
	}
}

// callAPI calls a method of the API and returns the answer.
func (s *Server) callAPI(t testing.TB, method, body string) string {
	t.Helper()
	_, got := request(t, "POST", s.internalURL("/api/"+method), body, "X-API-Key", "key")
	return strings.TrimSpace(got)
}

// wantAPI calls a method and wants an answer; <id> stands for a client's.
func wantAPI(t testing.TB, s *Server, method, body, want string) {
	t.Helper()
	if got := s.callAPI(t, method, body); got != want {
		t.Errorf("%s %s: %s, want %s", method, body, got, want)
	}
}

// join connects a client of the Centrifuge protocol to a server, and subscribes it.
func join(t testing.TB, s *Server, claims jwt.MapClaims, channels ...string) *sdk {
	t.Helper()
	if claims["iat"] == nil {
		claims["iat"] = time.Now().Unix()
	}
	c := dialSDK(t, s, wire.JSON, "")
	c.connect(signed(t, claims))
	for i, channel := range channels {
		c.send(fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q}}`, i+2, channel))
		c.expect(fmt.Sprintf(`{"id":%d,"subscribe":{}}`, i+2))
	}
	return c
}

// What a backend asks of any node is done by the one that has the client.
func TestCallsReachAllNodes(t *testing.T) {
	_, nodes := startNodes(t, nil)
	here := nodes[0]
	ann, ben := join(t, nodes[1], jwt.MapClaims{"sub": "ann"}, "a"), join(t, nodes[2], jwt.MapClaims{"sub": "ben"}, "a", "b")
	again := join(t, nodes[2], jwt.MapClaims{"sub": "ann"}, "a")

	for i, s := range nodes {
		var answer struct {
			Result struct {
				Presence map[string]struct{ User, Client string }
			}
		}
		if err := json.Unmarshal([]byte(s.callAPI(t, "presence", `{"channel":"a"}`)), &answer); err != nil {
			t.Fatal(err)
		}
		got, want := slices.Sorted(maps.Keys(answer.Result.Presence)), slices.Sorted(slices.Values([]string{ann.id, ben.id, again.id}))
		if !slices.Equal(got, want) || answer.Result.Presence[ben.id].User != "ben" {
			t.Errorf("presence by %d: %v", i, answer)
		}
		wantAPI(t, s, "presence_stats", `{"channel":"a"}`, `{"result":{"num_clients":3,"num_users":2}}`)
		wantAPI(t, s, "channels", `{}`, `{"result":{"channels":{"a":{"num_clients":3},"b":{"num_clients":1}}}}`)
		wantAPI(t, s, "channels", `{"pattern":"b*"}`, `{"result":{"channels":{"b":{"num_clients":1}}}}`)
	}
	ann.send(`{"id":5,"presence_stats":{"channel":"a"}}`, `{"id":6,"presence":{"channel":"a"}}`, `{"id":7,"rpc":{}}`)
	ann.expect(`{"id":5,"presence_stats":{"num_clients":3,"num_users":2}}`)
	if r := ann.mustReply(); r.Presence == nil || len(r.Presence.Presence) != 3 || r.Presence.Presence[again.id].GetUser() != "ann" {
		t.Errorf("presence: %s", ann.text(r))
	}
	ann.expect(`{"id":7,"error":{"code":108,"message":"not available"}}`)

	eventually(t, "info has all nodes, with their figures", func() bool {
		var info struct {
			Result struct {
				Nodes []struct {
					UID, Name  string
					NumClients int `json:"num_clients"`
				}
			}
		}
		_ = json.Unmarshal([]byte(here.callAPI(t, "info", `{}`)), &info)
		clients := map[string]int{}
		for _, n := range info.Result.Nodes {
			clients[n.Name] = n.NumClients
		}
		return maps.Equal(clients, map[string]int{"one": 0, "two": 1, "three": 2})
	})

	const done = `{"result":{}}`
	wantAPI(t, here, "subscribe", `{"user":"ann","channel":"c","data":{"n":1}}`, done)
	for _, c := range []*sdk{ann, again} {
		c.expect(`{"push":{"channel":"c","subscribe":{"data":{"n":1}}}}`)
	}
	wantAPI(t, here, "unsubscribe", `{"user":"ann","channel":"c","client":"`+again.id+`"}`, done)
	again.expect(`{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	ann.expectNothing()
	wantAPI(t, here, "subscribe", `{"user":"ann","channel":"none:c"}`, here.callAPI(t, "subscribe", `{"user":"nobody","channel":"none:c"}`))
	wantAPI(t, here, "refresh", `{"user":"ben","info":{"new":1}}`, done)
	ben.expect(`{"push":{"refresh":{}}}`)
	eventually(t, "ben's info is new", func() bool { return strings.Contains(here.callAPI(t, "presence", `{"channel":"b"}`), `{"new":1}`) })
	wantAPI(t, here, "disconnect", `{"user":"ann","whitelist":["`+again.id+`"]}`, done)
	ann.expectClose("3503 force disconnect")
	again.expectNothing()
	wantAPI(t, here, "refresh", `{"user":"ann","expired":true,"client":"`+again.id+`"}`, done)
	again.expectClose("3005 connection expired")
	wantAPI(t, here, "disconnect", `{"user":"ben","disconnect":{"code":4000,"reason":"enough"}}`, done)
	ben.expectClose("4000 enough")
	wantAPI(t, here, "disconnect", `{"user":"nobody","client":"x"}`, done)
}

// Clients of the plain protocol have ids that differ among nodes, and are reached like the others.
func TestPlainClientsOfSeveralNodes(t *testing.T) {
	_, nodes := startNodes(t, nil)
	token := signed(t, jwt.MapClaims{"sub": "ann"})
	first, second := dial(t, nodes[1].ws("/push?channels=a&token="+token)), dial(t, nodes[2].ws("/push?channels=a&token="+token))
	next(t, first)
	next(t, second)
	var answer struct {
		Result struct{ Presence map[string]any }
	}
	if err := json.Unmarshal([]byte(nodes[0].callAPI(t, "presence", `{"channel":"a"}`)), &answer); err != nil || len(answer.Result.Presence) != 2 {
		t.Fatal(answer, err)
	}
	send(t, first, `{"type":"presence","id":1,"payload":{"channel":"a"}}`)
	if got := next(t, first); strings.Count(got, `"ann"`) != 2 {
		t.Error(got)
	}
	first.CloseRead(t.Context()) // which answers close frames
	second.CloseRead(t.Context())
	for id := range answer.Result.Presence {
		wantAPI(t, nodes[0], "disconnect", `{"user":"ann","client":"`+id+`"}`, `{"result":{}}`)
		left := len(answer.Result.Presence) - 1
		delete(answer.Result.Presence, id)
		eventually(t, "one is gone, and no other", func() bool {
			return nodes[0].callAPI(t, "presence_stats", `{"channel":"a"}`) == fmt.Sprintf(`{"result":{"num_clients":%d,"num_users":%d}}`, left, min(left, 1))
		})
	}
}

// A revocation ends what was made with the token on all nodes, and is known to those that start later.
func TestRevocationsOnAllNodes(t *testing.T) {
	broker, nodes := startNodes(t, nil)
	issued := time.Now().Add(-time.Hour).Unix()
	claims := map[string]jwt.MapClaims{
		"ann": {"sub": "ann", "jti": "a1", "iat": issued}, "ben": {"sub": "ben", "iat": issued}, "eve": {"sub": "eve", "iat": issued},
	}
	clients := map[string]*sdk{"ann": join(t, nodes[1], claims["ann"], "a"), "ben": join(t, nodes[2], claims["ben"]), "eve": join(t, nodes[1], claims["eve"])}
	for _, c := range []struct{ who, method, body string }{
		{"ann", "revoke_token", `{"uid":"a1"}`},
		{"ben", "invalidate_user_tokens", `{"user":"ben"}`},
		{"eve", "invalidate_all_tokens", `{}`},
	} {
		wantAPI(t, nodes[0], c.method, c.body, `{"result":{"lasting":true}}`) // in the cluster's log
		clients[c.who].expectClose("3500 invalid token")
	}
	late := startNode(t, broker, "late", nil)
	for i, s := range append(nodes, late) {
		for who, claim := range claims {
			c := dialSDK(t, s, wire.JSON, "")
			c.send(`{"id":1,"connect":{"token":"` + signed(t, claim) + `"}}`)
			if r, err := c.reply(); err == nil {
				t.Errorf("%s is let in by %d: %s", who, i, c.text(r))
			}
		}
	}
	if got := nodes[0].callAPI(t, "revoke_token", `{"uid":"x","expire_at":`+fmt.Sprint(time.Now().Add(time.Hour).Unix())+`}`); got != `{"result":{"lasting":true}}` {
		t.Error(got)
	}
	eventually(t, "the late one learns of it from the log or from the question", func() bool { return late.revocations.Len() == 4 })
}

// What a node knew when it was alone gets to the others, and what all know survives a node's own file and directory.
func TestRevocationsOfANodeThatWasAlone(t *testing.T) {
	dir := t.TempDir()
	alone := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}, DataDir: dir})
	wantAPI(t, alone, "revoke_token", `{"uid":"old"}`, `{"result":{"lasting":true}}`)
	if alone.nodes != nil {
		t.Error("a server that is alone has other nodes")
	}
	if err := alone.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	broker := startNATS(t)
	other := startNode(t, broker, "other", nil)
	joined := startNode(t, broker, "joined", func(c *Config) { c.DataDir = dir })
	eventually(t, "the other knows", func() bool { return other.revocations.Len() == 1 })
	wantAPI(t, other, "revoke_token", `{"uid":"new"}`, `{"result":{"lasting":true}}`)
	if err := joined.revocations.Sweep(); err != nil || joined.revocations.Len() != 2 {
		t.Error(joined.revocations.Len(), err)
	}
	if err := joined.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	again := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}, DataDir: dir})
	if n := again.revocations.Len(); n != 2 {
		t.Errorf("%d are in the file", n)
	}
}

// An answer that is not of all nodes is none: the error names the node, and what was asked for is done where it could be.
func TestNodeThatDoesNotAnswer(t *testing.T) {
	buses := map[string]*hanging{}
	_, nodes := startNodes(t, func(c *Config) {
		c.Cluster.AskTimeout = 3 * time.Second
		buses[c.Cluster.Name] = c.Cluster.Bus.(*hanging)
		c.Channels.AllowPresenceForClient = true
	})
	ann := join(t, nodes[1], jwt.MapClaims{"sub": "ann"}, "a")
	ben := join(t, nodes[1], jwt.MapClaims{"sub": "ben"}, "a")
	buses["three"].hangs.Store(true)
	var calls sync.WaitGroup // all at once, for each takes the whole time
	const missing = `{"error":{"code":114,"message":"temporarily unavailable: not all nodes have answered: three (`
	for _, c := range []struct{ method, body string }{
		{"presence", `{"channel":"a"}`},
		{"presence_stats", `{"channel":"a"}`},
		{"channels", `{}`},
		{"subscribe", `{"user":"ben","channel":"c"}`},
		{"unsubscribe", `{"user":"nobody"}`},
		{"refresh", `{"user":"nobody"}`},
		{"disconnect", `{"user":"ann"}`},
		{"disconnect", `{"user":"ann","client":"x"}`},
		{"revoke_token", `{"uid":"x"}`},
		{"invalidate_user_tokens", `{"user":"x"}`},
		{"invalidate_all_tokens", `{"issued_before":1}`},
	} {
		calls.Go(func() {
			answer, err := http.Post(nodes[0].internalURL("/api/"+c.method+"?api_key=key"), "", strings.NewReader(c.body))
			if err != nil {
				t.Error(err)
				return
			}
			got, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if !strings.HasPrefix(string(got), missing) || !strings.Contains(string(got), "did not answer within 3s") {
				t.Errorf("%s: %s", c.method, got)
			}
		})
	}
	calls.Wait()
	http.DefaultClient.CloseIdleConnections()
	ben.expect(`{"push":{"channel":"c","subscribe":{}}}`)
	ann.expectClose("3503 force disconnect")
	wantAPI(t, nodes[0], "disconnect", `{"user":"ben","client":"`+ben.id+`"}`, `{"result":{}}`) // who it is meant for has answered
	ben.expectClose("3503 force disconnect")
	eve := join(t, nodes[0], jwt.MapClaims{"sub": "eve"}, "a")
	eve.send(`{"id":5,"presence":{"channel":"a"}}`)
	if r := eve.mustReply(); r.Error == nil || r.Error.Code != 114 || !r.Error.Temporary {
		t.Errorf("a client is told %s", eve.text(r))
	}
	if status, _ := request(t, "POST", nodes[0].internalURL("/api/presence?error_mode=transport"), `{"channel":"a"}`, "X-API-Key", "key"); status != 503 {
		t.Errorf("status %d", status)
	}
	if _, metrics := request(t, "GET", nodes[0].internalURL("/metrics"), ""); !strings.Contains(metrics, "millpond_cluster_query_timeouts_total 1") ||
		!strings.Contains(metrics, "millpond_cluster_nodes 3") || !strings.Contains(metrics, `millpond_cluster_messages_total{direction="in",kind="beat"}`) ||
		!strings.Contains(metrics, "millpond_cluster_records_synced 1") {
		t.Error(metrics)
	}
	buses["three"].hangs.Store(false)
	eventually(t, "all is well again", func() bool {
		return nodes[0].callAPI(t, "presence_stats", `{"channel":"a"}`) == `{"result":{"num_clients":1,"num_users":1}}`
	})
}

// The merged answers are bounded by entries and by bytes.
func TestAnswersOfAllNodesAreBounded(t *testing.T) {
	broker, nodes := startNodes(t, func(c *Config) { c.MaxPresence, c.API.MaxChannels = 3, 3 })
	for i := range 4 {
		join(t, nodes[1+i%2], jwt.MapClaims{"sub": "ann"}, "a", fmt.Sprint("b", i))
	}
	for _, s := range nodes {
		if got := s.callAPI(t, "presence", `{"channel":"a"}`); !strings.HasPrefix(got, `{"error":{"code":106,"message":"limit exceeded: more than 3 clients`) {
			t.Error(got)
		}
		wantAPI(t, s, "presence_stats", `{"channel":"a"}`, `{"result":{"num_clients":4,"num_users":1}}`)
		if got := s.callAPI(t, "channels", `{"pattern":"b*"}`); got != `{"error":{"code":106,"message":"limit exceeded: there are more than 3; ask with a \"pattern\""}}` {
			t.Error(got)
		}
	}
	tight := startNode(t, broker, "tight", func(c *Config) { c.Cluster.MaxAnswerBytes = 100 })
	knowEachOther(t, append(nodes, tight))
	if got := tight.callAPI(t, "presence", `{"channel":"a"}`); !strings.Contains(got, `"code":106`) || !strings.Contains(got, "cluster-max-answer-bytes, 100") {
		t.Error(got)
	}
	if got := tight.callAPI(t, "subscribe", `{"user":"ann","channel":"a","data":"`+strings.Repeat("x", 900_000)+`"}`); !strings.Contains(got, `"code":106`) {
		t.Error(got)
	}
}

// Without a log a revocation reaches the nodes that are there, and does not claim to last.
func TestRevocationsWithoutALog(t *testing.T) {
	_, nodes := startNodes(t, func(c *Config) { c.Cluster.Log = nil })
	claims := jwt.MapClaims{"sub": "ann", "jti": "a1"}
	ann := join(t, nodes[1], claims)
	wantAPI(t, nodes[0], "revoke_token", `{"uid":"a1"}`, `{"result":{"lasting":false}}`)
	ann.expectClose("3500 invalid token")
	for _, s := range nodes {
		c := dialSDK(t, s, wire.JSON, "")
		c.send(`{"id":1,"connect":{"token":"` + signed(t, claims) + `"}}`)
		c.expectClose("3500 invalid token")
	}
}
