package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, fault := range nonconforming.faults {
			fmt.Println("not as described:", fault)
			code = 1
		}
		os.Exit(code)
	}))
}

// journal accepts publications except to channels named "broken" and "bad".
type journal struct {
	Hub   // what is not here is not called
	lines []string
}

// deeds notes what was done to clients.
type deeds struct{ lines []string }

func (d *deeds) Subscribe(_ context.Context, t Target, s Subscription) error {
	if s.Channel == "bad" {
		return hub.ErrLimitExceeded
	}
	var o hub.Options
	if s.Override != nil {
		o = *s.Override.Apply(&hub.Options{HistorySize: 1, HistoryTTL: 1})
	}
	d.lines = append(d.lines, fmt.Sprintf("subscribe %+v %s info=%s data=%s until=%d since=%v recovery=%v",
		t, s.Channel, s.Info, s.Data, max(s.Expires.Unix(), 0), s.Since, o.ForceRecovery))
	return nil
}

func (d *deeds) Unsubscribe(_ context.Context, t Target, channel string) error {
	d.lines = append(d.lines, fmt.Sprintf("unsubscribe %+v %q", t, channel))
	return nil
}

func (d *deeds) Disconnect(_ context.Context, t Target, why Disconnect) error {
	d.lines = append(d.lines, fmt.Sprintf("disconnect %+v %+v", t, why))
	return nil
}

func (d *deeds) Refresh(_ context.Context, t Target, r Refresh) error {
	d.lines = append(d.lines, fmt.Sprintf("refresh %+v expired=%v until=%d info=%s", t, r.Expired, max(r.Expires.Unix(), 0), r.Info))
	return nil
}

func noNode() []Node { return []Node{{Name: "host-7"}} }

func (j *journal) Publish(_ context.Context, channel string, data []byte, options hub.PublishOptions) (hub.Position, error) {
	switch channel {
	case "broken":
		return hub.Position{}, errors.New("disk of host-7 is full")
	case "bad":
		return hub.Position{}, fmt.Errorf("%w: no namespace of that name", hub.ErrUnknownChannel)
	}
	j.lines = append(j.lines, fmt.Sprintf("%s %q %v", channel, data, options.Tags))
	return hub.Position{Offset: uint64(len(j.lines)), Epoch: "abcd"}, nil
}

func (j *journal) History(context.Context, string, hub.HistoryQuery) (hub.History, error) {
	return hub.History{}, hub.ErrNotAvailable
}

func (j *journal) RemoveHistory(context.Context, string) error { return hub.ErrNotAvailable }

func newHandler(t testing.TB, config Config) *Handler {
	t.Helper()
	if config.Clients == nil {
		config.Clients = new(deeds)
	}
	config.Info = noNode
	if config.Audience == nil {
		h, _ := config.Hub.(*hub.Hub)
		config.Audience = Local{h}
	}
	h, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d does
	return r
}

// do has a request answered. What is said there is held against the description of the API.
func do(h http.Handler, r *http.Request) (status int, body string, header http.Header) {
	w := httptest.NewRecorder()
	sent, _ := io.ReadAll(r.Body) // one that breaks off breaks off again
	whole := r.Body
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(sent), whole))
	h.ServeHTTP(w, r)
	conforms(r, sent, w)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n"), w.Header()
}

func TestMethods(t *testing.T) {
	for _, test := range []struct {
		name      string
		path      string
		body      string
		status    int
		want      string
		published []string
	}{
		{
			"publish", "publish", `{"channel":"news","data":{"n": 1},"unknown":[]}`, 200,
			`{"result":{"offset":1,"epoch":"abcd"}}`,
			[]string{`news "{\"n\": 1}" map[]`},
		},
		{
			"publish null", "publish", `{"channel":"news","data":null}`, 200,
			`{"result":{"offset":1,"epoch":"abcd"}}`,
			[]string{`news "null" map[]`},
		},
		{
			"publish tags", "publish", `{"channel":"news","data":1,"tags":{"k":"v"}}`, 200,
			`{"result":{"offset":1,"epoch":"abcd"}}`,
			[]string{`news "1" map[k:v]`},
		},
		{
			"publish bytes", "publish", `{"channel":"news","b64data":"AAEC"}`, 200,
			`{"result":{"offset":1,"epoch":"abcd"}}`,
			[]string{`news "\x00\x01\x02" map[]`},
		},
		{
			"no channel", "publish", `{"data":1}`, 200,
			`{"error":{"code":107,"message":"bad request: \"channel\" is missing or empty"}}`, nil,
		},
		{
			"no data", "publish", `{"channel":"a"}`, 200,
			`{"error":{"code":107,"message":"bad request: \"data\" is missing or empty"}}`, nil,
		},
		{
			"data twice", "publish", `{"channel":"a","data":1,"b64data":"AAEC"}`, 200,
			`{"error":{"code":107,"message":"bad request: there are both \"data\" and \"b64data\""}}`, nil,
		},
		{
			"refused", "publish", `{"channel":"bad","data":1}`, 200,
			`{"error":{"code":102,"message":"unknown channel: no namespace of that name"}}`, nil,
		},
		{
			"internal", "publish", `{"channel":"broken","data":1}`, 200,
			`{"error":{"code":100,"message":"internal server error"}}`, nil,
		},
		{
			"broadcast", "broadcast", `{"channels":["a","bad","b"],"data":"x"}`, 200,
			`{"result":{"responses":[{"result":{"offset":1,"epoch":"abcd"}},` +
				`{"error":{"code":102,"message":"unknown channel: no namespace of that name"}},` +
				`{"result":{"offset":2,"epoch":"abcd"}}]}}`,
			[]string{`a "\"x\"" map[]`, `b "\"x\"" map[]`},
		},
		{
			"broadcast to none", "broadcast", `{"channels":[],"data":1}`, 200,
			`{"error":{"code":107,"message":"bad request: \"channels\" is missing or empty"}}`, nil,
		},
		{
			"broadcast of nothing", "broadcast", `{"channels":["a"]}`, 200,
			`{"error":{"code":107,"message":"bad request: \"data\" is missing or empty"}}`, nil,
		},
		{
			"broadcast to too many", "broadcast", `{"channels":["a","b","c","d"],"data":1}`, 200,
			`{"error":{"code":106,"message":"limit exceeded: \"channels\" has 4, at most 3 are allowed"}}`, nil,
		},
		{
			"empty body", "publish", ``, 400,
			`{"error":{"code":107,"message":"bad request: the body is not JSON: unexpected end of JSON input at byte 0"}}`, nil,
		},
		{
			"form", "publish", `channel=a&data=1`, 400,
			`{"error":{"code":107,"message":"bad request: the body is not JSON: invalid character 'c' looking for beginning of value at byte 1"}}`, nil,
		},
		{
			"two objects", "publish", `{"channel":"a","data":1}{}`, 400,
			`{"error":{"code":107,"message":"bad request: the body is not JSON: invalid character '{' after top-level value at byte 25"}}`, nil,
		},
		{
			"array", "publish", `[]`, 400,
			`{"error":{"code":107,"message":"bad request: the body must be a JSON object, not array"}}`, nil,
		},
		{
			"null", "publish", `null`, 200,
			`{"error":{"code":107,"message":"bad request: \"channel\" is missing or empty"}}`, nil,
		},
		{
			"channel of a wrong type", "publish", `{"channel":5,"data":1}`, 400,
			`{"error":{"code":107,"message":"bad request: \"channel\" has the wrong type: number"}}`, nil,
		},
		{
			"channels of a wrong type", "broadcast", `{"channels":"a","data":1}`, 400,
			`{"error":{"code":107,"message":"bad request: \"channels\" has the wrong type: string"}}`, nil,
		},
		{
			"no base64", "publish", `{"channel":"a","b64data":"*"}`, 400,
			`{"error":{"code":107,"message":"bad request: \"b64data\" is not base64: illegal base64 data at input byte 0"}}`, nil,
		},
		{
			"no base64, in one of two", "subscribe", `{"user":"ann","channel":"a","b64data":"MQ==","b64info":"MQ"}`, 400,
			`{"error":{"code":107,"message":"bad request: \"b64info\" is not base64: illegal base64 data at input byte 0"}}`, nil,
		},
		{
			"no UTF-8", "publish", "{\"channel\":\"a\",\"data\":\"\xff\"}", 400,
			`{"error":{"code":107,"message":"bad request: the body is not valid UTF-8"}}`, nil,
		},
		{
			"largest body", "publish", `{"channel":"a","data":1}` + strings.Repeat(" ", 76), 200,
			`{"result":{"offset":1,"epoch":"abcd"}}`,
			[]string{`a "1" map[]`},
		},
		{
			"too large", "publish", `{"channel":"a","data":1}` + strings.Repeat(" ", 77), 413,
			`{"error":{"code":106,"message":"limit exceeded: the body has more than 100 bytes"}}`, nil,
		},
		{
			"unknown method", "publihs", `{}`, 404,
			`{"error":{"code":104,"message":"method not found: no such path; behind /api/ there are batch, broadcast, channels, disconnect, history, history_remove, info, invalidate_all_tokens, invalidate_user_tokens, presence, presence_stats, publish, refresh, revoke_token, rpc, subscribe, unsubscribe; and bulk"}}`, nil,
		},
		{
			"path below a method", "publish/x", `{}`, 404,
			`{"error":{"code":104,"message":"method not found: no such path; behind /api/ there are batch, broadcast, channels, disconnect, history, history_remove, info, invalidate_all_tokens, invalidate_user_tokens, presence, presence_stats, publish, refresh, revoke_token, rpc, subscribe, unsubscribe; and bulk"}}`, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := new(journal)
			h := newHandler(t, Config{Hub: j, Insecure: true, Limits: Limits{MaxBodyBytes: 100, MaxBatchBytes: 100, MaxChannels: 3}})
			status, body, header := do(h, request("POST", prefix+test.path, test.body))
			if status != test.status || body != test.want {
				t.Errorf("got  %d %s\nwant %d %s", status, body, test.status, test.want)
			}
			if got, want := strings.Join(j.lines, "\n"), strings.Join(test.published, "\n"); got != want {
				t.Errorf("published %s, want %s", got, want)
			}
			if got := header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
			s := h.Stats()
			if s.Requests != 1 || s.Published != uint64(len(test.published)) || (s.Refused == 1) != (status >= 400) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	for _, test := range []struct {
		name   string
		keys   []string
		header string
		value  string
		status int
	}{
		{"first key", []string{"one", "two"}, "X-API-Key", "one", 200},
		{"second key", []string{"one", "two"}, "X-Api-Key", "two", 200},
		{"authorization", []string{"one"}, "Authorization", "apikey one", 200},
		{"authorization, other case", []string{"one"}, "Authorization", "ApiKey  one", 200},
		{"query", []string{"one"}, "query", "a=b&api_key=one", 200},
		{"query, wrong key", []string{"one"}, "query", "api_key=two", 401},
		{"no key", []string{"one"}, "X-Other", "one", 401},
		{"wrong key", []string{"one"}, "X-API-Key", "onE", 401},
		{"beginning of a key", []string{"one"}, "X-API-Key", "on", 401},
		{"more than a key", []string{"one"}, "X-API-Key", "one ,", 401},
		{"other scheme", []string{"one"}, "Authorization", "Bearer one", 401},
		{"scheme alone", []string{"one"}, "Authorization", "apikey", 401},
		{"no keys configured", nil, "X-API-Key", "", 401},
		{"no keys configured, one sent", nil, "X-API-Key", "one", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := new(journal)
			h := newHandler(t, Config{Hub: j, Keys: PlainKeys(test.keys...)})
			r := request("POST", "/api/publish", `{"channel":"a","data":1}`)
			if test.header == "query" {
				r.URL.RawQuery = test.value
			} else {
				r.Header.Set(test.header, test.value)
			}
			status, body, _ := do(h, r)
			if status != test.status {
				t.Errorf("got %d %s, want %d", status, body, test.status)
			}
			if (len(j.lines) == 1) != (test.status == 200) {
				t.Errorf("published %v", j.lines)
			}
			if status == 401 && !strings.Contains(body, `{"error":{"code":101,"message":"unauthorized: send a valid key`) {
				t.Errorf("body %s", body)
			}
		})
	}
}

func TestOtherHTTPMethods(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Insecure: true})
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"} {
		status, body, header := do(h, request(method, "/api/publish", ""))
		if status != 405 || header.Get("Allow") != "POST" || !strings.Contains(body, `"code":107`) {
			t.Errorf("%s: %d %s, Allow %q", method, status, body, header.Get("Allow"))
		}
	}
}

func TestForeignPagesCannotPublishWithoutKey(t *testing.T) {
	for _, test := range []struct {
		name   string
		header map[string]string
		status int
	}{
		{"curl", nil, 200},
		{"same origin", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"this host's page", map[string]string{"Origin": "http://localhost:8001", "Host": "localhost:8001"}, 200},
		{"this host's page, by address", map[string]string{"Origin": "http://[::1]", "Host": "[::1]"}, 200},
		{"page of a name that leads here now", map[string]string{"Origin": "http://evil.example", "Host": "evil.example"}, 403},
		{"typed by the user", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		{"foreign page", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		{"foreign page, old browser", map[string]string{"Origin": "https://evil.example"}, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := new(journal)
			h := newHandler(t, Config{Hub: j, Insecure: true})
			r := request("POST", "/api/publish", `{"channel":"a","data":1}`)
			for name, value := range test.header {
				r.Header.Set(name, value)
			}
			r.Host = cmp.Or(test.header["Host"], r.Host)
			if status, body, _ := do(h, r); status != test.status || (len(j.lines) == 1) != (status == 200) {
				t.Errorf("%d %s, published %v", status, body, j.lines)
			}
		})
	}
}

func TestBrokenBody(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Insecure: true})
	r := httptest.NewRequest("POST", "/api/publish", io.MultiReader(strings.NewReader(`{"ch`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if status, body, _ := do(h, r); status != 400 || !strings.Contains(body, "ends too early") {
		t.Errorf("%d %s", status, body)
	}
}

func TestInternalErrorsAreReported(t *testing.T) {
	var reported []error
	h := newHandler(t, Config{Hub: new(journal), Insecure: true, OnInternalError: func(err error) { reported = append(reported, err) }})
	do(h, request("POST", "/api/publish", `{"channel":"broken","data":1}`))
	do(h, request("POST", "/api/broadcast", `{"channels":["a","broken","bad"],"data":1}`))
	if len(reported) != 2 || !strings.Contains(reported[0].Error(), "host-7") {
		t.Errorf("reported %v", reported)
	}
	if s := h.Stats(); s.Failed != 3 || s.Published != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := New(Config{Keys: PlainKeys("a", ""), Limits: Limits{MaxBodyBytes: -1, MaxChannels: -1}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Hub", `key "key2": it is empty`, "api-max-body-bytes", "api-max-channels"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

type inline struct{}

func (inline) Submit(hub.Task) bool { return false }

// TestWithHub publishes through a real hub, over a socket.
func TestWithHub(t *testing.T) {
	h, err := hub.New(hub.Config{Broker: memory.New(memory.Config{}), Executor: inline{}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	sub, err := h.Subscribe(t.Context(), "news", collect(func(p *hub.Publication) {
		got = append(got, fmt.Sprintf("%d %s", p.Offset, p.Data))
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := sub.StartAfter(0); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newHandler(t, Config{Hub: h, Insecure: true}))
	defer server.Close()
	for i, path := range []string{"publish", "broadcast"} {
		body := fmt.Sprintf(`{"channel":"news","channels":["news",""],"data":{"n":%d}}`, i)
		response, err := server.Client().Post(server.URL+prefix+path, "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !json.Valid(answer) || response.StatusCode != 200 {
			t.Errorf("%d %s %v", response.StatusCode, answer, err)
		}
		if i == 1 && !bytes.Contains(answer, []byte("channel name is empty")) {
			t.Errorf("broadcast to an empty name: %s", answer)
		}
	}
	if want := `[1 {"n":0} 2 {"n":1}]`; fmt.Sprint(got) != want {
		t.Errorf("delivered %v, want %s", got, want)
	}
}

type collect func(*hub.Publication)

func (c collect) Deliver(b *hub.Batch) {
	for _, p := range b.Publications() {
		c(p)
	}
}

// FuzzRequest sends any body to several methods: the answer is JSON with either a
// result or an error.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"channel":"a","channels":["a","b"],"data":{"n":1}}`, `{"channels":[],"b64data":"AAEC"}`, `{"tags":{"a":1}}`, `null`, `[[[`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h := newHandler(t, Config{Hub: new(journal), Insecure: true, Limits: Limits{MaxChannels: 5}})
		for _, path := range []string{"publish", "broadcast", "subscribe", "disconnect", "refresh", "history"} {
			status, answer, _ := do(h, httptest.NewRequest("POST", prefix+path, bytes.NewReader(body)))
			var either struct{ Result, Error *json.RawMessage }
			if err := json.Unmarshal([]byte(answer), &either); err != nil || (either.Result == nil) == (either.Error == nil) {
				t.Fatalf("%s: %d %s", path, status, answer)
			}
			if status != 200 && status != 400 {
				t.Fatalf("status %d", status)
			}
		}
	})
}
