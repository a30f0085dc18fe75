package api

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// visible is a subscriber that presence shows.
type visible struct{ info *hub.ClientInfo }

func (visible) Deliver(*hub.Batch) {}

func (v visible) Presence() *hub.ClientInfo { return v.info }

// What is done to clients arrives there as it was asked for, and what makes no sense does not.
func TestClients(t *testing.T) {
	d := new(deeds)
	h := newHandler(t, Config{Hub: new(journal), Clients: d, Insecure: true})
	for _, c := range []struct {
		method, body string
		want         string // the deed, or a part of the error
	}{
		{
			"subscribe",
			`{"user":"u","client":"c","channel":"a","expire_at":5,"info":{"n":1},"b64data":"/w==","recover_since":{"offset":3,"epoch":"e"},"override":{"force_recovery":{"value":true}}}`,
			"subscribe {User:u Client:c} a info={\"n\":1} data=\xff until=5 since=&{3 e} recovery=true",
		},
		{"subscribe", `{"user":"u","channel":"a","info":null}`, "subscribe {User:u Client:} a info= data= until=0 since=<nil> recovery=false"},
		{"subscribe", `{"user":"u","channel":"bad"}`, `"code":106`},
		{"subscribe", `{"user":"u"}`, `channel`},
		{"subscribe", `{"channel":"a"}`, `user`},
		{"subscribe", `{"user":"u","channel":"a","data":1,"b64data":"/w=="}`, `both`},
		{"subscribe", `{"user":"u","channel":"a","b64info":"/w=="}`, `not JSON`},
		{"subscribe", `{"user":"u","session":"s","channel":"a"}`, `no sessions`},
		{"unsubscribe", `{"user":"u","channel":"a"}`, `unsubscribe {User:u Client:} "a"`},
		{"unsubscribe", `{"user":"u","client":"c"}`, `unsubscribe {User:u Client:c} ""`},
		{"unsubscribe", `{"channel":"a"}`, `user`},
		{"disconnect", `{"user":"u"}`, `disconnect {User:u Client:} {Code:0 Reason: Keep:[]}`},
		{
			"disconnect", `{"user":"u","whitelist":["x"],"disconnect":{"code":4501,"reason":"banned"}}`,
			`disconnect {User:u Client:} {Code:4501 Reason:banned Keep:[x]}`,
		},
		{"disconnect", `{"user":"u","disconnect":{"code":2999}}`, `3000 to 4999`},
		{"disconnect", `{"user":"u","disconnect":{"code":5000}}`, `3000 to 4999`},
		{"disconnect", `{"user":"u","disconnect":{"code":3000,"reason":"` + strings.Repeat("x", 124) + `"}}`, `123 bytes`},
		{"disconnect", `{}`, `user`},
		{"refresh", `{"user":"u","client":"c"}`, `refresh {User:u Client:c} expired=false until=0 info=`},
		{"refresh", `{"user":"u","expire_at":99999999999}`, `refresh {User:u Client:} expired=false until=99999999999 info=`},
		{"refresh", `{"user":"u","expired":true,"info":{"n":1}}`, `refresh {User:u Client:} expired=true until=0 info={"n":1}`},
		{"refresh", `{"user":"u","expire_at":5}`, `"code":110`},
		{"refresh", `{"expired":true}`, `user`},
		{"rpc", `{"method":"x","params":{}}`, `{"error":{"code":108,"message":"not available: the server has no extensions that could be called"}}`},
	} {
		before := len(d.lines)
		_, body, _ := do(h, request("POST", prefix+c.method, c.body))
		done := len(d.lines) > before && d.lines[before] == c.want && body == `{"result":{}}`
		if !done && !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %s %q, want %s", c.method, c.body, body, d.lines[before:], c.want)
		}
	}
}

// Presence, channels and what the server tells of itself.
func TestChannelsAndInfo(t *testing.T) {
	b, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: inline{},
		Namespaces: []hub.Namespace{{Name: "room", Options: hub.Options{Presence: true}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ channel, user string }{{"room:1", "a"}, {"room:1", "b"}, {"room:1", "a"}, {"room:2", "a"}, {"news", ""}} {
		sub, err := b.Subscribe(t.Context(), c.channel, visible{&hub.ClientInfo{User: c.user, Client: strconv.Itoa(i), ConnInfo: []byte(`{"n":1}`), ChanInfo: []byte("\xff")}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe()
		sub.Start()
	}
	h := newHandler(t, Config{Hub: b, Insecure: true, Limits: Limits{MaxChannels: 2}})
	for _, c := range []struct{ method, body, want string }{
		{
			"presence", `{"channel":"room:1"}`,
			`{"result":{"presence":{"0":{"user":"a","client":"0","conn_info":{"n":1}},"1":{"user":"b","client":"1","conn_info":{"n":1}},"2":{"user":"a","client":"2","conn_info":{"n":1}}}}}`,
		},
		{"presence_stats", `{"channel":"room:1"}`, `{"result":{"num_clients":3,"num_users":2}}`},
		{"presence_stats", `{"channel":"room:9"}`, `{"result":{"num_clients":0,"num_users":0}}`},
		{"presence", `{"channel":"news"}`, `{"error":{"code":108,"message":"not available: channel \"news\" has no presence"}}`},
		{"presence", `{"channel":"no:1"}`, `{"error":{"code":102,"message":"unknown channel: there is no namespace \"no\""}}`},
		{"presence", `{}`, `{"error":{"code":107,"message":"bad request: \"channel\" is missing or empty"}}`},
		{"channels", `{"pattern":"room:*"}`, `{"result":{"channels":{"room:1":{"num_clients":3},"room:2":{"num_clients":1}}}}`},
		{"channels", `{"pattern":"n?ws"}`, `{"result":{"channels":{"news":{"num_clients":1}}}}`},
		{"channels", ``, `{"error":{"code":106,"message":"limit exceeded: there are more than 2; ask with a \"pattern\""}}`},
		{"channels", `{"pattern":"["}`, `{"error":{"code":107,"message":"bad request: \"pattern\" is \"[\", which is no pattern"}}`},
		{
			"info", ``,
			`{"result":{"nodes":[{"uid":"","name":"host-7","version":"","num_clients":0,"num_users":0,"num_subs":0,"num_channels":0,"uptime":0,"process":{"cpu":0,"rss":0}}]}}`,
		},
	} {
		if _, body, _ := do(h, request("POST", prefix+c.method, c.body)); body != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.body, body, c.want)
		}
	}
}

// A batch is carried out in order, or at the same time; what is wrong with one command is of no concern to the others.
func TestBatch(t *testing.T) {
	for _, parallel := range []string{"false", "true"} {
		j := new(journal)
		h := newHandler(t, Config{Hub: j, Insecure: true, Limits: Limits{MaxCommands: 7}})
		commands := `[{"publish":{"channel":"a","data":1}},{"publish":{"channel":"broken","data":1}},{"publish":{"data":1}},{"history":{"channel":"a"}},` +
			`{"none":{}},{"batch":{"commands":[]}},{"publish":{"channel":"a","data":1},"history":{}}]`
		_, body, _ := do(h, request("POST", prefix+"batch", `{"parallel":`+parallel+`,"commands":`+commands+`}`))
		list := `[{"publish":{"offset":1,"epoch":"abcd"}},{"error":{"code":100,"message":"internal server error"}},` +
			`{"error":{"code":107,"message":"bad request: \"commands[2].publish.channel\" is missing or empty"}},{"error":{"code":108,"message":"not available"}},` +
			`{"error":{"code":104,"message":"method not found: \"none\" in a batch"}},{"error":{"code":104,"message":"method not found: \"batch\" in a batch"}},` +
			`{"error":{"code":107,"message":"bad request: \"commands[6]\" is not {\"METHOD\":{…}}"}}]`
		want := `{"replies":` + list + `,"result":{"replies":` + list + `}}`
		if body != want {
			t.Errorf("parallel %s: %s", parallel, body)
		}
		for body, want := range map[string]string{
			`{}`: "commands", `{"commands":[` + strings.Repeat(`{},`, 7) + `{}]}`: "at most 7",
		} {
			if _, got, _ := do(h, request("POST", prefix+"batch", body)); !strings.Contains(got, want) {
				t.Errorf("%s: %s", body, got)
			}
		}
	}
	j := &journal{}
	h := newHandler(t, Config{Hub: j, Insecure: true})
	var commands []json.RawMessage
	var want []string
	for i := range 100 {
		commands = append(commands, json.RawMessage(`{"publish":{"channel":"c`+strconv.Itoa(i)+`","data":1}}`))
		want = append(want, "c"+strconv.Itoa(i)+` "1" map[]`)
	}
	body, _ := json.Marshal(map[string]any{"commands": commands})
	do(h, request("POST", prefix+"batch", string(body)))
	if !slices.Equal(j.lines, want) {
		t.Errorf("out of order: %q", j.lines)
	}
}

// vast is a hub whose channels have a long past.
type vast struct {
	journal
	asked atomic.Int64
}

func (v *vast) History(context.Context, string, hub.HistoryQuery) (hub.History, error) {
	v.asked.Add(1)
	return hub.History{Publications: []*hub.Publication{{Offset: 1, Data: []byte(`"` + strings.Repeat("x", 1000) + `"`)}}}, nil
}

// Small commands cannot ask for more replies than there is memory for; those that are left are told so, and not carried
// out.
func TestRepliesOfManyCommandsAreBounded(t *testing.T) {
	history := `{"history":{"channel":"a","limit":-1}}`
	for _, c := range []struct{ method, body string }{
		{"batch", `{"commands":[` + strings.Repeat(history+",", 99) + history + `]}`},
		{"batch", `{"parallel":true,"commands":[` + strings.Repeat(history+",", 99) + history + `]}`},
		{"", strings.Repeat(`{"method":"history","params":{"channel":"a","limit":-1}}`, 100)},
	} {
		v := new(vast)
		h := newHandler(t, Config{Hub: v, Insecure: true, Limits: Limits{MaxBatchBytes: 10_000}})
		_, body, _ := do(h, request("POST", prefix+c.method, c.body))
		body, _, _ = strings.Cut(body, `,"result":{"replies":[`) // the same once more
		most := int64(10 + maxParallel)
		if n := v.asked.Load(); n < 10 || n > most || strings.Count(body, `"code":106`) != 100-int(n) || !strings.Contains(body, "more than 10000 bytes") {
			t.Errorf("%s: %d of 100 were carried out, want 10 to %d: %.200s", c.body[:20], n, most, body)
		}
	}
}

// What is quoted of a request is short, in the answer and in the log.
func TestQuotesAreShort(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Insecure: true})
	number := strings.Repeat("1", 10_000)
	for _, c := range []struct{ method, body string }{
		{"history", `{"channel":"a","limit":` + number + `}`},
		{"publish", number},
		{"publish", `{"channel":"a","data":1,"tags":{"` + number + `":1}}`},
		{"batch", `{"commands":[{"` + number + `":{}}]}`},
		{"channels", `{"pattern":"[` + number + `"}`},
		{"channels", `{"pattern":"` + number + `"}`},
		{"", `{"method":"` + number + `"}`},
	} {
		if _, body, _ := do(h, request("POST", prefix+c.method, c.body)); len(body) > 300 || !strings.Contains(body, `"error"`) {
			t.Errorf("%s %.40s: %d bytes, %.200s", c.method, c.body, len(body), body)
		}
	}
}

// meeting is a hub whose publications wait for one another, two by two.
type meeting struct {
	journal
	other chan struct{}
}

func (m *meeting) Publish(context.Context, string, []byte, hub.PublishOptions) (hub.Position, error) {
	select {
	case m.other <- struct{}{}:
	case <-m.other:
	case <-time.After(20 * time.Second):
		return hub.Position{}, errors.New("nobody came")
	}
	return hub.Position{}, nil
}

// The commands of a parallel batch are under way at the same time.
func TestParallelBatch(t *testing.T) {
	h := newHandler(t, Config{Hub: &meeting{other: make(chan struct{})}, Insecure: true})
	_, body, _ := do(h, request("POST", prefix+"batch", `{"parallel":true,"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":"b","data":1}}]}`))
	if strings.Contains(body, "error") {
		t.Error(body)
	}
}

// A field of a wrong type is named as the request has it.
func TestWrongTypesAreNamed(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Insecure: true})
	for _, c := range []struct{ method, body, field string }{
		{"publish", `{"channel":"a","data":1,"version":"x"}`, `\"version\"`},
		{"publish", `{"channel":1}`, `\"channel\"`},
		{"broadcast", `{"channels":["a"],"data":1,"tags":5}`, `\"tags\"`},
		{"subscribe", `{"user":5,"channel":"a"}`, `\"user\"`},
		{"subscribe", `{"user":"u","channel":"a","recover_since":{"offset":"x"}}`, `\"recover_since.offset\"`},
	} {
		_, body, _ := do(h, request("POST", prefix+c.method, c.body))
		if !strings.Contains(body, "bad request: "+c.field+" has the wrong type") {
			t.Errorf("%s %s: %s", c.method, c.body, body)
		}
	}
}

// Older libraries send commands to /api itself, several in a body, and split the answer at line ends.
func TestPipe(t *testing.T) {
	for _, path := range []string{"/api", "/api/"} {
		h := newHandler(t, Config{Hub: new(journal), Insecure: true, Limits: Limits{MaxCommands: 4}})
		for _, c := range []struct {
			body   string
			status int
			want   string
		}{
			{`{"id":1,"method":"publish","params":{"channel":"a","data":1}}`, 200, `{"id":1,"result":{"offset":1,"epoch":"abcd"}}`},
			{
				`{"method":"publish","params":{"channel":"bad","data":1}}` + "\n" + `{"method":"none"} {"method":"publish","params":{}}` + "\n", 200,
				`{"error":{"code":102,"message":"unknown channel: no namespace of that name"}}` + "\n" +
					`{"error":{"code":104,"message":"method not found: \"none\" in a batch"}}` + "\n" +
					`{"error":{"code":107,"message":"bad request: \"[2].params.channel\" is missing or empty"}}`,
			},
			{``, 400, `{"error":{"code":107,"message":"bad request: there is no {\"method\":…,\"params\":{…}}"}}`},
			{`{"method":"publish","params":{"channel":"a","data":1}} x`, 400, `{"error":{"code":107,"message":"bad request: the body is not JSON: invalid character 'x' looking for beginning of value at byte 56"}}`},
			{`{"method":"publish"`, 400, `{"error":{"code":107,"message":"bad request: the body ends in the middle of a value"}}`},
			{`{"method":5}`, 400, `{"error":{"code":107,"message":"bad request: \"[0].method\" has the wrong type: number"}}`},
			{strings.Repeat(`{"method":"info"}`, 5), 200, `{"error":{"code":106,"message":"limit exceeded: \"commands\" has 5, at most 4 are allowed"}}`},
		} {
			status, body, _ := do(h, request("POST", path, c.body))
			if status != c.status && c.status == 200 || body != c.want {
				t.Errorf("%s %s: %d %s, want %d %s", path, c.body, status, body, c.status, c.want)
			}
		}
	}
}
