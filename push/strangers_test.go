package push

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/getkin/kin-openapi/openapi3"
)

// These tests walk all routes as somebody who has no credentials. The routes are those that the server registers, so a new one is
// walked too, and has to refuse such callers unless it is listed here.

// anyoneHere is what the internal listener answers on loopback to whoever asks, by the route's pattern.
var anyoneHere = []string{
	"/healthz", "/readyz", "/{$}", "/dashboard/", "/metrics",
	"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile", "/debug/pprof/symbol", "/debug/pprof/trace",
}

// anyone is what it answers on other addresses.
var anyone = []string{"/healthz", "/readyz", "/{$}", "/dashboard/"} // the page, which has nothing but what is in the sources

// strangers are ways to ask without a valid key.
var strangers = map[string][]string{
	"nothing":           nil,
	"a wrong key":       {"X-API-Key", "wrong"},
	"an empty key":      {"X-API-Key", ""},
	"a wrong authority": {"Authorization", "apikey wrong"},
	"a bearer":          {"Authorization", "Bearer key"},
	"from this host":    {"X-Forwarded-For", "127.0.0.1", "Forwarded", "for=127.0.0.1", "X-Real-IP", "127.0.0.1"},
	"another path":      {"X-Original-URL", "/healthz", "X-Rewrite-URL", "/healthz"},
	"another method":    {"X-HTTP-Method-Override", "GET"},
	"the host":          {"Origin", "http://127.0.0.1", "Sec-Fetch-Site", "same-origin"},
}

var allMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "BREW"}

// patternsOf returns what was registered with mux, which net/http tells nobody.
func patternsOf(t *testing.T, mux *http.ServeMux) []string {
	t.Helper()
	found := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				return
			}
			if v.Type().Elem().Name() == "pattern" {
				found[v.Elem().FieldByName("str").String()] = true
				return
			}
			walk(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).Type.Kind() != reflect.Interface { // the handler
					walk(v.Field(i))
				}
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, key := range v.MapKeys() {
				walk(v.MapIndex(key))
			}
		}
	}
	walk(reflect.ValueOf(mux).Elem())
	return slices.Sorted(maps.Keys(found))
}

// The walk above relies on fields that net/http does not export.
func TestPatternsOf(t *testing.T) {
	mux := http.NewServeMux()
	want := []string{"/", "/a", "/a/", "/a/{id}/b", "/b/{$}", "GET /c", "example.org/d"}
	for _, p := range want {
		mux.Handle(p, http.NotFoundHandler())
	}
	if got := patternsOf(t, mux); !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

// route is a path that a server has, and the pattern by which.
type route struct{ pattern, path string }

// routesOf returns all of a server's routes on the internal listener, and the methods of the API one by one.
func routesOf(t *testing.T, s *Server) (list []route) {
	t.Helper()
	mux := http.NewServeMux()
	s.addInternal(mux)
	for _, pattern := range patternsOf(t, mux) {
		path := pattern[strings.Index(pattern, "/"):]
		path = strings.NewReplacer("{$}", "", "{", "", "...}", "", "}", "").Replace(path)
		list = append(list, route{pattern, path})
		if strings.HasSuffix(path, "/") {
			list = append(list, route{pattern, path + "some/thing"})
		}
	}
	_, text := request(t, "GET", s.internalURL("/api/openapi.json"), "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range doc.Paths.InMatchingOrder() {
		list = append(list, route{"/api/", path})
	}
	for _, name := range []string{"heap", "goroutine", "allocs", "block", "mutex", "threadcreate"} {
		list = append(list, route{"/debug/pprof/", "/debug/pprof/" + name})
	}
	if len(list) < 25 {
		t.Fatalf("only %d routes: %v", len(list), list)
	}
	return list
}

func TestStrangersAtTheInternalListener(t *testing.T) {
	keys := Config{TokenSecret: secret, APIKeys: []string{"key"}}
	shared := keys
	shared.Listen = []string{freeAddress(t)}
	shared.InternalListen = shared.Listen[0]
	outside := keys
	outside.InternalListen = "0.0.0.0:0"
	for name, tt := range map[string]struct {
		config Config
		open   []string
	}{
		"on loopback":                   {keys, anyoneHere},
		"on loopback, without any keys": {Config{TokenSecret: secret}, anyoneHere},
		"on all addresses":              {outside, anyone},
		"on the public address":         {shared, anyone},
	} {
		t.Run(name, func(t *testing.T) {
			s, transport := startServer(t, tt.config), &http.Transport{}
			defer transport.CloseIdleConnections()
			for _, r := range routesOf(t, s) {
				for who, headers := range strangers {
					for _, method := range allMethods {
						if who != "nothing" && method != "GET" && method != "POST" {
							continue // enough
						}
						walkAsStranger(t, transport, s, r, method, who, headers, slices.Contains(tt.open, r.pattern))
					}
				}
			}
		})
	}
}

// walkAsStranger does one request that only an open route may do something for.
func walkAsStranger(t *testing.T, transport *http.Transport, s *Server, r route, method, who string, headers []string, open bool) {
	t.Helper()
	url := s.internalURL(r.path) + "?api_key=wrong&error_mode=transport"
	if open {
		if method != "GET" || who != "nothing" {
			return // a profile takes a second
		}
		if r.path == "/debug/pprof/profile" || r.path == "/debug/pprof/trace" {
			url += "&seconds=1"
		}
		if status, _ := requestOver(t, transport, method, url, ""); status >= 500 || status == http.StatusUnauthorized {
			t.Errorf("%s %s is open, but: %d", method, r.path, status)
		}
		return
	}
	if r.path == "/api/openapi.json" && (method == "GET" || method == "HEAD") {
		return // the description of the API, which is in the sources
	}
	status, body := requestOver(t, transport, method, url, `{"channel":"c","data":1}`, headers...)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUpgradeRequired:
	default:
		t.Errorf("%s %s with %s: %d %.200s", method, r.path, who, status, body)
	}
}

// A page whose name leads to this host since a moment ago, which to the browser is of the same origin, gets nothing without a key.
func TestNamesOfOthers(t *testing.T) {
	for name, config := range map[string]Config{"dev": {Dev: true}, "no key": {TokenSecret: secret, APIKeys: []string{"key"}}} {
		s := startServer(t, config)
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/api/info", "/tap"} {
			for _, host := range []string{"evil.example", "evil.example:8001", "localhost.evil.example", "127.0.0.1.evil.example", ""} {
				if host == "" {
					host = "." // the client fills in what is empty
				}
				for _, method := range []string{"GET", "POST"} {
					if status, body := request(t, method, s.internalURL(path), "{}", "Host", host); status < 400 || status >= 500 {
						t.Errorf("%s: %s %s as %s: %d %.100s", name, method, path, host, status, body)
					}
				}
			}
			if path == "/tap" || path == "/api/info" && name != "dev" {
				continue // without an end; wants a key
			}
			for _, host := range []string{"localhost", "localhost:8001", "127.0.0.1", "[::1]:8001", "::1", "millpond.localhost", "LOCALHOST"} {
				if status, body := request(t, "POST", s.internalURL(path), "{}", "Host", host); status != 200 {
					t.Errorf("%s: %s as %s: %d %.100s", name, path, host, status, body)
				}
			}
		}
	}
}

// What is refused to strangers is there: with a key, it answers.
func TestKeysOpenWhatStrangersAreRefused(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}, InternalListen: "0.0.0.0:0"})
	for _, r := range routesOf(t, s) {
		if r.path == "/tap" || r.path == "/debug/pprof/profile" || r.path == "/debug/pprof/trace" {
			continue // they take their time, and have tests of their own
		}
		for _, method := range []string{"GET", "POST"} {
			if status, body := request(t, method, s.internalURL(r.path), `{}`, "X-API-Key", "key"); status == http.StatusUnauthorized || status == http.StatusForbidden {
				t.Errorf("%s %s with a key: %d %.200s", method, r.path, status, body)
			}
		}
	}
}

// The public listener has nothing of the internal one, however the path is written.
func TestStrangersAtThePublicListener(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}})
	var endpoints []string
	for _, e := range s.endpoints() {
		endpoints = append(endpoints, e.Path)
	}
	paths := []string{"/", "/echo", "/playground/tap", "/.git/config", "/%2e%2e/metrics", "//metrics", "/push/../metrics", "/push/metrics", "/metrics;a", "/metrics%00", "http://127.0.0.1:8001/metrics"}
	for _, r := range routesOf(t, s) {
		paths = append(paths, r.path)
	}
	for _, path := range paths {
		for _, upgrade := range []bool{false, true} {
			for _, method := range allMethods {
				// A redirect is to the path as it should have been written.
				if status := askRaw(t, s.Addrs()[0].String(), method, path, upgrade); status < 300 || status >= 500 {
					t.Errorf("%s %s (upgrade: %v): %d", method, path, upgrade, status)
				}
			}
		}
	}
	for _, path := range endpoints {
		for _, method := range allMethods {
			if status := askRaw(t, s.Addrs()[0].String(), method, path, false); status < 400 || status >= 500 {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
}

// askRaw asks without a library that would mend the path, and returns the status.
func askRaw(t *testing.T, address, method, path string, upgrade bool) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-API-Key: key\r\n", method, path, address)
	if upgrade {
		text += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	} else {
		text += "Connection: close\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// strangersSay is what a stranger tries at each public endpoint, one connection for each line: the answer to it has to contain
// what stands beside it, or the connection ends with that code.
var strangersSay = map[string][]struct {
	say, answer string
	code        websocket.StatusCode
}{
	"/push": {
		{`{"type":"subscribe","id":1,"payload":{"channel":"news"}}`, `"type":"error"`, 0},
		{`{"type":"subscribe","id":1,"payload":{"channel":"$news"}}`, `"type":"error"`, 0},
		{`{"type":"publish","id":1,"payload":{"channel":"news","data":1}}`, `"type":"error"`, 0},
		{`{"type":"presence","id":1,"payload":{"channel":"news"}}`, `"type":"error"`, 0},
		{`{"type":"history","id":1,"payload":{"channel":"news"}}`, `"type":"error"`, 0},
		{`{"type":"login","id":1,"payload":{"token":"e30.e30.e30"}}`, `"type":"error"`, 0},
		{`{"type":"login","id":1,"payload":{}}`, `"type":"error"`, 0},
	},
	"/connection/websocket": {
		{`{"id":1,"connect":{}}`, "", 3507},
		{`{"id":1,"connect":{"token":"e30.e30.e30"}}`, "", 3500},
		{`{"id":1,"connect":{"token":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."}}`, "", 3500},
		{`{"id":1,"subscribe":{"channel":"news"}}`, "", 3501},
		{`{"id":1,"publish":{"channel":"news","data":1}}`, "", 3501},
		{`{"id":1,"history":{"channel":"news"}}`, "", 3501},
		{`{"id":1,"presence":{"channel":"news"}}`, "", 3501},
		{`{"id":1,"rpc":{"method":"x"}}`, "", 3501},
	},
}

func TestStrangersAtEachEndpoint(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}})
	for _, e := range s.endpoints() {
		if e.Private {
			if _, _, err := websocket.Dial(t.Context(), s.ws(e.Path), nil); err == nil {
				t.Errorf("%s is not private", e.Path)
			}
			continue
		}
		tries, listed := strangersSay[e.Path]
		if !listed {
			t.Errorf("%s is a new endpoint: say in strangersSay what strangers are refused there", e.Path)
		}
		for _, try := range tries {
			c := dial(t, s.ws(e.Path))
			send(t, c, try.say)
			_, b, err := c.Read(t.Context())
			if code := websocket.CloseStatus(err); code != try.code && try.code != 0 || !strings.Contains(string(b), try.answer) {
				t.Errorf("%s: %s: %s %v, want %q or %d", e.Path, try.say, b, err, try.answer, try.code)
			}
		}
	}
	for _, path := range []string{"/push?channels=news", "/push?token=e30.e30.e30", "/push?channels=news&token=e30.e30.e30"} {
		c, _, err := websocket.Dial(t.Context(), s.ws(path), nil)
		if err != nil {
			continue // refused in the handshake
		}
		if _, b, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation && !strings.Contains(string(b), `"type":"error"`) {
			t.Errorf("%s: %s %v", path, b, err)
		}
		_ = c.CloseNow()
	}
	if _, info := request(t, "POST", s.internalURL("/api/channels"), "{}", "X-API-Key", "key"); strings.Contains(info, "news") {
		t.Errorf("a stranger is in a channel: %s", info)
	}
}
