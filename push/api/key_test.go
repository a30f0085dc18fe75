package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// key makes one with a text of its own.
func key(name string, change func(k *Key)) Key {
	k := Key{Name: name, Hash: sha256.Sum256([]byte("secret of " + name))}
	if change != nil {
		change(&k)
	}
	return k
}

// as sends a request with the key of that name.
func as(h http.Handler, name, method, body string) (status int, answer string, header http.Header) {
	r := request("POST", prefix+method, body)
	r.Header.Set("X-API-Key", "secret of "+name)
	return do(h, r)
}

// What a key is good for, and nothing else, is done with it: also in batches and pipes, where the commands are looked
// at one by one.
func TestScopes(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Keys: []Key{
		key("all", nil),
		key("writer", func(k *Key) { k.Scopes = ScopePublish }),
		key("reader", func(k *Key) { k.Scopes = ScopeRead }),
		key("manager", func(k *Key) { k.Scopes = ScopeManage }),
		key("orders", func(k *Key) { k.Namespaces, k.Channels = []string{"orders"}, []string{"news", "room:*"} }),
		key("plain", func(k *Key) { k.Namespaces = []string{""} }),
	}})
	publish := func(channel string) string { return fmt.Sprintf(`{"channel":%q,"data":1}`, channel) }
	for _, c := range []struct {
		key, method, body string
		status            int
		want              string // a part of the answer
	}{
		{"all", "publish", publish("a"), 200, `"offset"`},
		{"all", "disconnect", `{"user":"u"}`, 200, `{"result":{}}`},
		{"writer", "publish", publish("a"), 200, `"offset"`},
		{"writer", "broadcast", `{"channels":["a"],"data":1}`, 200, `"offset"`},
		{"writer", "info", ``, 403, `the key \"writer\" is not good for the scope that info needs`},
		{"writer", "disconnect", `{"user":"u"}`, 403, `"code":103`},
		{"writer", "batch", `{"commands":[{"publish":` + publish("a") + `},{"history":{"channel":"a"}},{"disconnect":{"user":"u"}}]}`, 200, `},{"error":{"code":103,`},
		{"writer", "", `{"method":"publish","params":` + publish("a") + "}\n" + `{"id":3,"method":"info"}`, 200, "}}\n{\"id\":3,\"error\":{\"code\":103,"},
		{"reader", "info", ``, 200, `"nodes"`},
		{"reader", "publish", publish("a"), 403, `"code":103`},
		{"reader", "bulk", publish("a"), 403, `"code":103`},
		{"reader", "history_remove", `{"channel":"a"}`, 403, `"code":103`},
		{"manager", "disconnect", `{"user":"u"}`, 200, `{"result":{}}`},
		{"manager", "publish", publish("a"), 403, `"code":103`},
		{"orders", "publish", publish("orders:7"), 200, `"offset"`},
		{"orders", "publish", publish("$orders:7"), 200, `"offset"`},
		{"orders", "publish", publish("news"), 200, `"offset"`},
		{"orders", "publish", publish("room:1"), 200, `"offset"`},
		{"orders", "publish", publish("orders"), 403, `\"channel\" the key \"orders\" is not good for this channel`},
		{"orders", "publish", publish("orders2:7"), 403, `"code":103`},
		{"orders", "publish", publish("other"), 403, `"code":103`},
		{"orders", "broadcast", `{"channels":["news","other"],"data":1}`, 200, `{"error":{"code":103,"message":"permission denied: \"channels[1]\" the key`},
		{"orders", "bulk", publish("other") + "\n" + publish("news"), 200, `{"line":2,"result":{"offset"`},
		{"orders", "bulk", publish("other") + "\n" + publish("news"), 200, `{"line":1,"error":{"code":103,`},
		{"orders", "subscribe", `{"user":"u","channel":"other"}`, 403, `"code":103`},
		{"orders", "unsubscribe", `{"user":"u","channel":"other"}`, 403, `"code":103`},
		{"orders", "unsubscribe", `{"user":"u"}`, 200, `missing`}, // that would be all channels
		{"orders", "history", `{"channel":"other"}`, 403, `"code":103`},
		{"orders", "presence", `{"channel":"other"}`, 403, `"code":103`},
		{"orders", "disconnect", `{"user":"u"}`, 403, `good for some channels only, and disconnect concerns more`},
		{"orders", "refresh", `{"user":"u"}`, 403, `concerns more`},
		{"orders", "info", ``, 403, `concerns more`},
		{"orders", "batch", `{"commands":[{"publish":` + publish("other") + `},{"info":{}}]}`, 200, `commands[0].publish.channel`},
		{"plain", "publish", publish("news"), 200, `"offset"`},
		{"plain", "publish", publish("orders:7"), 403, `"code":103`},
	} {
		status, answer, _ := as(h, c.key, c.method, c.body)
		if status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d … %s", c.key, c.method, c.body, status, answer, c.status, c.want)
		}
	}
	debug := func(name string) bool {
		r := request("GET", "/metrics", "")
		r.Header.Set("X-API-Key", "secret of "+name)
		return h.HasKey(r)
	}
	if !debug("all") || debug("writer") || debug("nobody") {
		t.Error("metrics are open to the wrong ones")
	}
	outcomes := h.Stats().Outcomes
	for want, n := range map[Outcome]uint64{
		{"writer", "publish", 0}: 3, {"writer", "history", 103}: 1, {"writer", "info", 103}: 2, {"manager", "publish", 103}: 1,
		{"plain", "publish", 0}: 1, {"orders", "publish", 103}: 6,
	} {
		if outcomes[want] != n {
			t.Errorf("%+v: %d, want %d", want, outcomes[want], n)
		}
	}
}

// Keys are replaced at once, and those that stay keep their figures.
func TestSetKeys(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Keys: []Key{key("old", nil), key("both", nil)}})
	as(h, "both", "info", "")
	if err := h.SetKeys([]Key{key("new", nil), key("both", nil)}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"old": 401, "new": 200, "both": 200} {
		if status, _, _ := as(h, name, "info", ""); status != want {
			t.Errorf("%s: %d, want %d", name, status, want)
		}
	}
	if n := h.Stats().Outcomes[Outcome{"both", "info", 0}]; n != 2 {
		t.Errorf("%d requests are known", n)
	}
	if err := h.SetKeys([]Key{key("new", nil), key("new", nil)}); err == nil {
		t.Error("two of a name")
	}
	if status, _, _ := as(h, "both", "info", ""); status != 200 {
		t.Error("a list with a fault replaced the keys")
	}
}

func TestValidateKeys(t *testing.T) {
	for want, keys := range map[string][]Key{
		"letters, digits":  {key("a b", nil)},
		"two of that name": {key("a", nil), {Name: "a", Hash: sha256.Sum256([]byte("x"))}},
		"same key as":      {key("a", nil), {Name: "b", Hash: key("a", nil).Hash}},
		"it is empty":      PlainKeys(""),
		"no pattern":       {key("a", func(k *Key) { k.Channels = []string{"["} })},
		"negative":         {key("a", func(k *Key) { k.BytesPerSecond = -1 })},
		"no number":        {key("a", func(k *Key) { k.RequestsPerSecond = math.NaN() })},
	} {
		if err := ValidateKeys(keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys, err := ReadKeyFile(write("keys", "one\r\n\n two \none\n#three"))
	if err != nil || len(keys) != 3 {
		t.Fatal(keys, err)
	}
	for i, want := range []struct{ name, key string }{{"line1", "one"}, {"line3", "two"}, {"line5", "#three"}} {
		if keys[i].Name != want.name || keys[i].Hash != sha256.Sum256([]byte(want.key)) {
			t.Errorf("key %d: %s", i, keys[i].Name)
		}
	}
	for _, path := range []string{write("empty", " \n"), filepath.Join(dir, "none")} {
		if _, err := ReadKeyFile(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	hash := sha256.Sum256([]byte("k"))
	for _, c := range []struct {
		key  NamedKey
		want string // of the error; empty is none
	}{
		{NamedKey{Name: "a", KeyFile: write("one", "k\n"), Scopes: []string{"publish", "read"}}, ""},
		{NamedKey{Name: "a", SHA256: hex.EncodeToString(hash[:]), Scopes: []string{"publish", "read"}}, ""},
		{NamedKey{Name: "a"}, "one of key_file and sha256"},
		{NamedKey{Name: "a", KeyFile: "x", SHA256: "y"}, "one of key_file and sha256"},
		{NamedKey{Name: "a", SHA256: "abc"}, "64 hexadecimal digits"},
		{NamedKey{Name: "a", KeyFile: write("two", "k\nl")}, "not one line"},
		{NamedKey{Name: "a", KeyFile: filepath.Join(dir, "none")}, "no such file"},
		{NamedKey{Name: "a", KeyFile: write("one", "k\n"), Scopes: []string{"write"}}, `"write" is none of`},
	} {
		k, err := c.key.Read()
		if c.want == "" && (err != nil || k.Hash != hash || k.Scopes != ScopePublish|ScopeRead) {
			t.Errorf("%+v: %+v %v", c.key, k, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `"a"`)) {
			t.Errorf("%+v: %v, want %s", c.key, err, c.want)
		}
	}
}

// A key that has used up its rate is told when to come again; others go on.
func TestRates(t *testing.T) {
	h := newHandler(t, Config{Hub: new(journal), Limits: Limits{MaxBodyBytes: 100, MaxBatchBytes: 100}, Keys: []Key{
		key("slow", func(k *Key) { k.RequestsPerSecond = 0.001 }),
		key("thin", func(k *Key) { k.BytesPerSecond = 0.01 }),
		key("other", nil),
	}})
	body := `{"channel":"a","data":"` + strings.Repeat("x", 70) + `"}`
	for i, want := range []struct {
		key    string
		status int
	}{{"slow", 200}, {"slow", 429}, {"thin", 200}, {"thin", 200}, {"thin", 429}, {"other", 200}, {"other", 200}} {
		status, answer, header := as(h, want.key, "publish", body)
		if status != want.status || (status == 429) != strings.Contains(answer, `"code":111`) {
			t.Errorf("%d: %s: %d %s", i, want.key, status, answer)
		}
		if after := header.Get("Retry-After"); (status == 429) != (after != "") || after == "0" {
			t.Errorf("%s: Retry-After %q", want.key, after)
		}
	}
	// An empty line of a bulk, and one that is too long, are paid for like any other.
	for _, line := range []string{strings.Repeat(" ", 90) + "\n", strings.Repeat("x", 200) + "\n"} {
		h = newHandler(t, Config{Hub: new(journal), Limits: Limits{MaxBodyBytes: 100, MaxBatchBytes: 100}, Keys: []Key{
			key("thin", func(k *Key) { k.BytesPerSecond = 0.01 }),
		}})
		as(h, "thin", "bulk", line)
		as(h, "thin", "publish", body)
		if status, _, _ := as(h, "thin", "publish", body); status != 429 {
			t.Errorf("after a line of %d bytes: %d", len(line), status)
		}
	}
	// A batch takes as much as its commands would.
	h = newHandler(t, Config{Hub: new(journal), Keys: []Key{key("k", func(k *Key) { k.RequestsPerSecond = 5 })}})
	as(h, "k", "batch", `{"commands":[`+strings.Repeat(`{"info":{}},`, 20)+`{"info":{}}]}`)
	if status, _, _ := as(h, "k", "info", ""); status != 429 {
		t.Errorf("after a batch: %d", status)
	}
}

// The id of a request is the caller's or a new one, and is found in the answer and the log; the key is in neither.
func TestRequestIDs(t *testing.T) {
	var log bytes.Buffer
	var internal []error
	h := newHandler(t, Config{
		Hub: new(journal), Keys: []Key{key("k", nil)},
		Logger:          slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnInternalError: func(err error) { internal = append(internal, err) },
	})
	for _, c := range []struct {
		id, method, body string
		echoed           bool
		level, want      string
	}{
		{"abc-7", "info", "", true, "DEBUG", "status=200"},
		{"abc-8", "publish", "{}", true, "INFO", "code=107"},
		{"", "publish", "{}", false, "INFO", `method=publish key=k status=200`},
		{"two words", "info", "", false, "DEBUG", "method=info"},
		{"a\"b", "info", "", false, "DEBUG", "method=info"},
		{strings.Repeat("x", 128), "info", "", true, "DEBUG", "method=info"},
		{strings.Repeat("x", 129), "info", "", false, "DEBUG", "method=info"},
	} {
		log.Reset()
		r := request("POST", prefix+c.method, c.body)
		r.URL.RawQuery = "api_key=secret+of+k"
		r.Header["X-Request-Id"] = []string{c.id}
		_, _, header := do(h, r)
		got := header.Get("X-Request-Id")
		if (got == c.id) != c.echoed || got == "" {
			t.Errorf("%q: %q", c.id, got)
		}
		line := log.String()
		for _, want := range []string{"level=" + c.level, "request=" + got + " ", c.want} {
			if !strings.Contains(line, want) {
				t.Errorf("%q: %s has no %s", c.id, line, want)
			}
		}
		if strings.Contains(line, "secret") {
			t.Errorf("the key is in the log: %s", line)
		}
	}
	_, _, header := as(h, "k", "publish", `{"channel":"broken","data":1}`)
	if id := header.Get("X-Request-Id"); len(internal) != 1 || !strings.Contains(internal[0].Error(), id) {
		t.Errorf("internal error %v of request %s", internal, id)
	}
	log.Reset()
	for range 1000 {
		as(h, "nobody", "info", "")
	}
	if n := strings.Count(log.String(), "code=101"); n < 50 || n > 500 {
		t.Errorf("%d lines of 1,000 refusals", n)
	}
}

// Who wants it is told of refusals by the status too.
func TestTransportErrors(t *testing.T) {
	for _, c := range []struct {
		method, body string
		status       int
	}{
		{"publish", `{"channel":"a","data":1}`, 200},
		{"publish", `{"channel":"bad","data":1}`, 404},
		{"publish", `{"channel":"broken","data":1}`, 500},
		{"publish", `{}`, 400},
		{"history", `{"channel":"a"}`, 501},
		{"refresh", `{"user":"u","expire_at":1}`, 400},
		{"broadcast", `{"channels":["bad"],"data":1}`, 200}, // each response has its own
	} {
		for _, how := range []string{"header", "query", "config", ""} {
			h := newHandler(t, Config{Hub: new(journal), Insecure: true, TransportErrors: how == "config"})
			r := request("POST", prefix+c.method, c.body)
			switch how {
			case "header":
				r.Header.Set("X-Centrifugo-Error-Mode", "transport")
			case "query":
				r.URL.RawQuery = "error_mode=transport"
			}
			want := c.status
			if how == "" {
				want = 200
			}
			if status, answer, _ := do(h, r); status != want || (status != 200) != strings.HasPrefix(answer, `{"error":{"code":1`) && how != "" {
				t.Errorf("%s %s by %q: %d %s, want %d", c.method, c.body, how, status, answer, want)
			}
		}
	}
}
