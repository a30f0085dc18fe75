package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/internal/program"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has what backends do over the API, on a listener of its own and on one that clients share.

// apiServers starts one of either kind.
func apiServers(t *testing.T, c Config) map[string]*Server {
	t.Helper()
	if !c.Dev {
		c.TokenSecret, c.APIKeys = secret, []string{"key"}
	}
	shared := c
	shared.Listen = []string{freeAddress(t)}
	shared.InternalListen = shared.Listen[0]
	return map[string]*Server{"internal": startServer(t, c), "shared": startServer(t, shared)}
}

// past has a channel's history.
func pastChannels() Config {
	return Config{Channels: ChannelOptions{HistorySize: 1000, HistoryTTL: time.Hour}}
}

// A bulk is answered while it comes, in order; a bad line does not stop the others.
func TestBulkIsAStream(t *testing.T) {
	for name, s := range apiServers(t, pastChannels()) {
		t.Run(name, func(t *testing.T) {
			body, lines := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), "POST", s.internalURL("/api/bulk"), body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-API-Key", "key")
			response, err := http.DefaultTransport.RoundTrip(r)
			if err == nil {
				defer response.Body.Close()
			}
			if err != nil || response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" {
				t.Fatal(response, err)
			}
			answers := bufio.NewReader(response.Body)
			for i, c := range []struct{ line, want string }{
				{`{"channel":"a","data":1}`, `"result":{"offset":1,`},
				{`{"channel":"a","data":`, `"error":{"code":107,"message":"bad request: the body is not JSON`},
				{``, ``},
				{`{"channels":["a","b"],"data":{"n":2}}`, `"result":{"responses":[{"result":{"offset":2,`},
				{`{"data":1}`, `"error":{"code":107,"message":"bad request: \"channel\" is missing`},
				{"{\"channel\":\"a\",\"data\":3}\r", `"result":{"offset":3,`},
				{`{"channel":"a","channels":["b"],"data":1}`, `beside`},
				{`{"channel":"a","data":"` + strings.Repeat("x", 2<<20) + `"}`, `"error":{"code":106,"message":"limit exceeded: the line has more than 1048576 bytes"}`},
				{`{"channel":"a","data":"` + strings.Repeat("x", 1<<19) + `"}`, `"result":{"offset":4,`},
				{`{"users":["u"],"data":1}`, `"error":{"code":108,"message":"not available: \"users\" needs personal channels`},
				{"{\"channel\":\"a\",\"data\":\"\xff\"}", `UTF-8`},
			} {
				if _, err := io.WriteString(lines, c.line+"\n"); err != nil {
					t.Fatal(err)
				}
				if c.want == "" {
					continue
				}
				answer, err := answers.ReadString('\n')
				if err != nil || !strings.HasPrefix(answer, fmt.Sprintf(`{"line":%d,`, i+1)) || !strings.Contains(answer, c.want) || !json.Valid([]byte(answer)) {
					t.Fatalf("%.80s: %s %v, want %s", c.line, answer, err, c.want)
				}
			}
			_, _ = io.WriteString(lines, `{"channel":"a","data":"last, without an end"}`)
			_ = lines.Close()
			rest, err := io.ReadAll(answers)
			if err != nil || !bytes.Contains(rest, []byte(`{"line":12,"result":{"offset":5,`)) {
				t.Errorf("%s %v", rest, err)
			}
			eventually(t, "no bulk is left", func() bool { return s.api.Stats().Streams == 0 })
		})
	}
}

// bulk sends all lines at once.
func bulk(t testing.TB, s *Server, query string, body io.Reader) []string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.internalURL("/api/bulk"+query), body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Key", "key")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body) // what is not read of the body may cost its end
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// Many lines keep the order of each channel, whatever the pieces in which they come.
func TestBulkKeepsOrder(t *testing.T) {
	const lines = 20_000
	var body bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&body, "{\"channel\":\"c%d\",\"data\":%d}\n", i%3, i)
	}
	for name, s := range apiServers(t, Config{Channels: ChannelOptions{HistorySize: 7000, HistoryTTL: time.Hour}}) {
		answers := bulk(t, s, "", bytes.NewReader(body.Bytes()))
		if len(answers) != lines || !strings.HasPrefix(answers[lines-1], `{"line":20000,"result":{"offset":6667,`) {
			t.Fatalf("%s: %d answers, the last %s", name, len(answers), answers[len(answers)-1])
		}
		for c := range 3 {
			past, err := s.hub.History(t.Context(), fmt.Sprintf("c%d", c), hub.HistoryQuery{Limit: -1})
			if err != nil || len(past.Publications) < 6666 {
				t.Fatal(len(past.Publications), err)
			}
			for i, p := range past.Publications {
				if string(p.Data) != strconv.Itoa(3*i+c) {
					t.Fatalf("c%d: %s at %d", c, p.Data, i)
				}
			}
		}
	}
}

func TestBulkStopsAtAnErrorIfToldTo(t *testing.T) {
	s := apiServers(t, pastChannels())["internal"]
	answers := bulk(t, s, "?on_error=stop", strings.NewReader("{\"channel\":\"a\",\"data\":1}\nx\n{\"channel\":\"a\",\"data\":2}\n"))
	if len(answers) != 2 || !strings.Contains(answers[1], `"line":2,"error"`) {
		t.Errorf("%q", answers)
	}
}

// curl sends a stream as its users would.
func TestBulkByCurl(t *testing.T) {
	curl := program.Find(t, "curl")
	for name, s := range apiServers(t, pastChannels()) {
		command := exec.CommandContext(t.Context(), curl, "-sS", "-T", "-", "-H", "Content-Type: application/x-ndjson", "-H", "X-API-Key: key", s.internalURL("/api/bulk"))
		command.Stdin = strings.NewReader("{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"a\",\"data\":2}\n")
		out, err := command.CombinedOutput()
		if err != nil || !strings.Contains(string(out), `{"line":2,"result":{"offset":2,`) {
			t.Errorf("%s: %s %v", name, out, err)
		}
	}
}

// A caller that sends and does not read the answers is not read from for long, and then given up.
func TestBulkThatIsNotReadEnds(t *testing.T) {
	c := pastChannels()
	c.API.Timeout = 200 * time.Millisecond // it is not read for as long, whatever the machine does
	for name, s := range apiServers(t, c) {
		conn, err := net.Dial("tcp", s.InternalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /api/bulk HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nTransfer-Encoding: chunked\r\n\r\n")
		line := []byte("x\n")
		chunk := append([]byte(fmt.Sprintf("%x\r\n", 2000*len(line))), bytes.Repeat(line, 2000)...)
		chunk = append(chunk, '\r', '\n')
		_ = conn.SetWriteDeadline(time.Now().Add(60 * time.Second))
		for { // until the server gives up; it reads no more meanwhile
			if _, err = conn.Write(chunk); err != nil {
				break
			}
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: still there after a minute", name)
		}
		eventually(t, "the place is free", func() bool { return s.api.Stats().Streams == 0 })
		_ = conn.Close()
	}
}

// A server that shuts down ends the bulks, and says at which line.
func TestShutdownEndsBulks(t *testing.T) {
	for _, kind := range []string{"internal", "shared"} {
		s := apiServers(t, pastChannels())[kind]
		body, lines := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.internalURL("/api/bulk"), body)
		r.Header.Set("X-API-Key", "key")
		go func() { _, _ = io.WriteString(lines, "{\"channel\":\"a\",\"data\":1}\n") }()
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(response.Body)
		if _, err := answers.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		cancel()
		if last, _ := answers.ReadString('\n'); !strings.Contains(last, `{"line":2,"error":{"code":111,"message":"too many requests: the server shuts down`) {
			t.Errorf("%s: %s", kind, last)
		}
		_ = lines.Close()
		_ = response.Body.Close()
	}
}

// raw sends bytes, and returns all that comes back.
func raw(t testing.TB, s *Server, bytes string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.InternalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	answer := make(chan []byte, 1)
	go func() { // beside the writing: what is not read of the request ends the connection a while after the answer
		b, _ := io.ReadAll(conn)
		answer <- b
	}()
	_, _ = io.WriteString(conn, bytes)
	return string(<-answer)
}

// Whatever a body is, there is an answer that says what is wrong with it.
func TestHostileBodies(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprintf("slow=%t", slow), func(t *testing.T) { testHostileBodies(t, slow) })
	}
}

// testHostileBodies sends those bodies that never come to a server that soon gives up, and the others to one that does not.
func testHostileBodies(t *testing.T, slow bool) {
	c := pastChannels()
	if slow {
		c.API.Timeout = 500 * time.Millisecond
	}
	head := func(length int, more string) string {
		return fmt.Sprintf("POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n", length, more)
	}
	whole := func(body string) string { return head(len(body), "") + body }
	good := `{"channel":"a","data":1}`
	for name, s := range apiServers(t, c) {
		for _, tt := range []struct{ what, request, want string }{
			{"deep data", whole(`{"channel":"a","data":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`), `"offset"`},
			{"too deep", whole(`{"channel":"a","data":` + strings.Repeat("[", 200_000)), `exceeded max depth`},
			{"too deep beside", whole(`{"channel":"a","data":1,"x":` + strings.Repeat(`{"a":`, 20_000)), `exceeded max depth`},
			{"huge number", whole(`{"channel":"a","data":1` + strings.Repeat("0", 5000) + `}`), `"offset"`},
			{"huge version", whole(`{"channel":"a","data":1,"version":1e400}`), `\"version\" has the wrong type`},
			{"negative version", whole(`{"channel":"a","data":1,"version":-1}`), `\"version\" has the wrong type`},
			{"negative ttl", whole(`{"channel":"a","data":1,"ttl":-1}`), `\"ttl\" is -1`},
			{"duplicate keys", whole(`{"channel":"","channel":"a","data":1,"data":2}`), `"offset"`},
			{"invalid UTF-8", whole("{\"channel\":\"\xc3\x28\",\"data\":1}"), `not valid UTF-8`},
			{"surrogate", whole(`{"channel":"\ud800","data":1}`), `"offset"`}, // encoding/json makes it U+FFFD
			{"zero byte", whole(`{"channel":"a` + "\x00" + `","data":1}`), `not JSON`},
			{"trailing garbage", whole(good + "x"), `after top-level value`},
			{"two bodies", whole(good + good), `after top-level value`},
			{"long channel", whole(`{"channel":"` + strings.Repeat("x", 300) + `","data":1}`), `at most 255`},
			{"long key", whole(`{"channel":"a","data":1,"idempotency_key":"` + strings.Repeat("x", 256) + `"}`), `\"idempotency_key\" has 256`},
			{"too large", whole(`{"channel":"a","data":"` + strings.Repeat("x", 1<<20) + `"}`), `413 `},
			{"said to be too large", head(1<<40, ""), `413 `},
			{"expects to be asked", head(len(good), "Expect: 100-continue\r\n") + good, `100 Continue`},
			{"another type", head(len(good), "Content-Type: image/png\r\n") + good, `"offset"`},
			{"compressed", head(len(good), "Content-Encoding: gzip\r\n") + good, `"offset"`}, // it says so and is not
			{"slow", head(len(good), "") + good[:10], `408 `},
			{"no length", strings.Replace(head(0, "Transfer-Encoding: chunked\r\n"), "Content-Length: 0\r\n", "", 1) + "18\r\n" + good + "\r\n0\r\n\r\n", `"offset"`},
			{"slow chunks", strings.Replace(head(0, "Transfer-Encoding: chunked\r\n"), "Content-Length: 0\r\n", "", 1) + "18\r\n" + good[:4], `408 `},
		} {
			if slow != (tt.want == "408 ") {
				continue
			}
			if got := raw(t, s, tt.request); !strings.Contains(got, tt.want) {
				t.Errorf("%s, %s: %.300s, want %s", name, tt.what, got, tt.want)
			}
		}
		eventually(t, "no request is under way", func() bool { return s.api.Stats().Running == 0 })
	}
}

// A bound on requests holds for those that are slow, too; who is refused comes again.
func TestRequestsAreBounded(t *testing.T) {
	c := pastChannels()
	c.API.MaxRequests, c.API.MaxStreams = 1, 1
	for name, s := range apiServers(t, c) {
		for _, path := range []string{"/api/publish", "/api/bulk"} {
			conn, err := net.Dial("tcp", s.InternalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nContent-Length: 100\r\n\r\n{", path)
			eventually(t, "it is under way", func() bool { st := s.api.Stats(); return st.Running+st.Streams == 1 })
			if status, body := request(t, "POST", s.internalURL(path), "{}", "X-API-Key", "key"); status != 503 || !strings.Contains(body, `"code":111`) {
				t.Errorf("%s %s: %d %s", name, path, status, body)
			}
			_ = conn.Close()
			eventually(t, "the place is free", func() bool { st := s.api.Stats(); return st.Running+st.Streams == 0 })
		}
	}
}

// Of many that publish the same at the same time, one does.
func TestIdempotency(t *testing.T) {
	for name, s := range apiServers(t, pastChannels()) {
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				request(t, "POST", s.internalURL("/api/publish"), `{"channel":"a","data":1,"idempotency_key":"k"}`, "X-API-Key", "key")
				request(t, "POST", s.internalURL("/api/broadcast"), `{"channels":["a","b","c"],"data":1,"idempotency_key":"k"}`, "X-API-Key", "key")
			})
		}
		group.Wait()
		for _, channel := range []string{"a", "b", "c"} {
			past, err := s.hub.History(t.Context(), channel, hub.HistoryQuery{Limit: -1})
			if err != nil || len(past.Publications) != 1 {
				t.Errorf("%s %s: %d publications, %v", name, channel, len(past.Publications), err)
			}
		}
		if status, body := request(t, "GET", s.internalURL("/metrics"), "", "X-API-Key", "key"); status != 200 || !strings.Contains(body, "millpond_idempotency_keys 3") {
			t.Errorf("%s: metrics %d have no keys", name, status)
		}
	}
}

// Keys in files are good, and are read again when they change or somebody says so.
func TestKeysFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := startServer(t, Config{
		TokenSecret: secret, APIKeyFile: write("keys", "one\ntwo\n"),
		NamedAPIKeys: []APIKey{{Name: "reader", KeyFile: write("reader", "three"), Scopes: []string{"read"}}},
	})
	check := func(key, method string, want int) {
		t.Helper()
		if status, body := request(t, "POST", s.internalURL("/api/"+method), `{"channel":"a","data":1}`, "X-API-Key", key); status != want {
			t.Errorf("%s with %s: %d %s, want %d", method, key, status, body, want)
		}
	}
	check("two", "publish", 200)
	check("three", "info", 200)
	check("three", "publish", 403)
	check("four", "info", 401)
	write("reader", "four\n")
	eventually(t, "the change is seen", func() bool { return s.apiKeys.reloads.Load() > 0 })
	check("three", "info", 401)
	check("four", "info", 200)
	write("keys", " ")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty file: %v", err)
	}
	check("one", "info", 200) // the old ones stay
	write("keys", "five")
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	check("one", "info", 401)
	check("five", "publish", 200)
	if status, body := request(t, "GET", s.internalURL("/metrics"), ""); status != 200 ||
		!strings.Contains(body, `millpond_api_commands_total{code="103",key="reader",method="publish"} 1`) ||
		!strings.Contains(body, `millpond_api_key_reloads_total{outcome="failed"} 1`) {
		t.Errorf("metrics: %d %s", status, body)
	}
}

// A connection can be left out, live and alone: whoever recovers has everything. What is over is in no history and no recovery, and nobody misses it.
func TestExcludeAndTTL(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		c := rooms()
		c.TokenSecret = secret
		s := newStage(t, c, codec, map[string]jwt.MapClaims{"u": {"sub": "u"}, "v": {"sub": "v"}})
		s.play(`
			> {"id":1,"connect":{"token":"<u>"}}
			< {"id":1,"connect":{"client":"<client>"}}
			b:> {"id":1,"connect":{"token":"<v>"}}
			b:< {"id":1,"connect":{"client":"<client>"}}
			> {"id":2,"subscribe":{"channel":"past:1"}}
			< {"id":2,"subscribe":{}}
			b:> {"id":2,"subscribe":{"channel":"past:1"}}
			b:< {"id":2,"subscribe":{}}`)
		first := func(o hub.PublishOptions) {
			t.Helper()
			if _, err := s.server.hub.Publish(t.Context(), "past:1", []byte(`"bounded"`), o); err != nil {
				t.Fatal(err)
			}
		}
		first(hub.PublishOptions{ExcludeClient: s.client("a").id})
		first(hub.PublishOptions{TTL: 1}) // over at once
		first(hub.PublishOptions{TTL: time.Hour, ExcludeClient: "no such thing"})
		s.play(`
			! past:1 "all"
			< {"push":{"channel":"past:1","pub":{"data":"bounded","offset":3}}}
			< {"push":{"channel":"past:1","pub":{"data":"all","offset":4}}}
			b:< {"push":{"channel":"past:1","pub":{"data":"bounded","offset":1}}}
			b:< {"push":{"channel":"past:1","pub":{"data":"bounded","offset":3}}}
			b:< {"push":{"channel":"past:1","pub":{"data":"all","offset":4}}}
			> {"id":3,"history":{"channel":"past:1","limit":3}}
			< {"id":3,"history":{"publications":[{"data":"bounded","offset":1},{"data":"bounded","offset":3},{"data":"all","offset":4}],"epoch":"<epoch>","offset":4}}`)
		recovery, err := s.server.hub.Recover(t.Context(), "past:1", hub.Position{})
		if err != nil || !recovery.Recovered || len(recovery.Publications) != 3 {
			t.Errorf("recovery %+v %v", recovery, err)
		}
	}
}

// The plain protocol's connections can be left out, too, and be ended by a refresh; those of an SDK learn their new end.
func TestRefreshAndExcludeOverTheAPI(t *testing.T) {
	c := rooms()
	c.TokenSecret, c.APIKeys = secret, []string{"key"}
	c.PersonalChannels = true
	s := newStage(t, c, wire.JSON, map[string]jwt.MapClaims{"u": {"sub": "u"}})
	call := func(method, body, want string) {
		t.Helper()
		if status, got := request(t, "POST", s.server.internalURL("/api/"+method), body, "X-API-Key", "key"); status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s %s: %d %s, want %s", method, body, status, got, want)
		}
	}
	s.play(`
		> {"id":1,"connect":{"token":"<u>"}}
		< {"id":1,"connect":{"client":"<client>","subs":{"#u":{}}}}`)
	call("refresh", `{"user":"u","expire_at":`+strconv.FormatInt(in(time.Hour), 10)+`,"info":{"n":2}}`, `{"result":{}}`)
	s.play(`< {"push":{"refresh":{"expires":true,"ttl":3600}}}`)
	call("refresh", `{"user":"u","client":"`+s.client("a").id+`"}`, `{"result":{}}`)
	s.play(`< {"push":{"refresh":{}}}`)
	call("broadcast", `{"users":["u","no,body"],"channels":["past:1"],"data":7}`, `\"users[1]\" is \"no,body\"`)
	s.play(`< {"push":{"channel":"#u","pub":{"data":7,"offset":1}}}`)

	plain := dial(t, s.server.ws("/push?channels=past:1&token="+token(t, jwt.MapClaims{"sub": "p", "channels": []string{"past:1"}})))
	next(t, plain)
	call("refresh", `{"user":"p","expire_at":`+strconv.FormatInt(in(time.Hour), 10)+`,"info":{"n":3}}`, `{"result":{}}`)
	call("publish", `{"channel":"past:1","data":"for all"}`, `offset`)
	if got := next(t, plain); !strings.Contains(got, "for all") {
		t.Error(got)
	}
	call("refresh", `{"user":"p","expired":true}`, `{"result":{}}`)
	if _, _, err := plain.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "3005") {
		t.Errorf("plain: %v", err)
	}
	call("refresh", `{"user":"u","expired":true}`, `{"result":{}}`)
	s.play(`x 3005 connection expired`)
}
