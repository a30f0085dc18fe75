package push

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

// auditLine is what tests look at of a line of the audit log.
type auditLine struct {
	Msg, Action, Key, Remote, Request, Outcome string
	Code                                       int
	Target                                     map[string]any
}

// auditLines waits for n lines and returns them, and the whole file.
func auditLines(t *testing.T, path string, n int) (lines []auditLine, whole string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d lines in %s", n, path), func() bool {
		b, err := os.ReadFile(path)
		whole = string(b)
		return err == nil && strings.Count(whole, "\n") >= n
	})
	for _, text := range strings.Split(strings.TrimSpace(whole), "\n") {
		var line auditLine
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Msg != "audit" {
			t.Fatalf("line %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines, whole
}

func TestAuditLog(t *testing.T) {
	const key = "a-secret-key-of-the-api"
	for _, publishes := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "audit")
		s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{key}, AuditLog: Log{Path: path, JSON: true}, AuditPublishes: publishes})
		call := func(path, body string, header ...string) {
			t.Helper()
			if header == nil {
				header = []string{"X-API-Key", key, "X-Request-Id", "request-" + path}
			}
			request(t, "POST", s.internalURL("/api"+path), body, header...)
		}
		call("/disconnect", `{"user":"ann\nmsg=forged","client":"c1"}`)
		call("/disconnect", `{"user":"ann"}`, "X-API-Key", "another") // no line: nobody was let in
		call("/publish", `{"channel":"p","data":"secret data"}`)      // a line if publishes
		call("/presence", `{"channel":"p"}`)                          // no line: nothing changes
		call("/unsubscribe", `{"user":`)                              // refused
		call("/nothing", `{}`)                                        // no line: there is no such thing
		call("/revoke_token", `{"uid":"jti-1"}`)                      //
		call("/batch", `{"commands":[{"subscribe":{"user":"bob","channel":"b","data":"secret data"}},{"broadcast":{"channels":["x","y"],"data":"secret data"}},{"batch":{}}]}`)
		call("", `{"method":"history_remove","params":{"channel":"h"}}`) // a pipe
		call("/bulk", `{"channel":"k","data":"secret data"}`+"\n"+`{"channels":["x"],"data":1}`+"\n")
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"disconnect key1 ok 0 map[client:c1 user:ann\nmsg=forged] request-/disconnect",
			"publish key1 ok 0 map[channel:p] request-/publish",
			"unsubscribe key1 bad request: the body is not JSON: unexpected end of JSON input at byte 8 107 map[] request-/unsubscribe",
			"revoke_token key1 ok 0 map[uid:jti-1] request-/revoke_token",
			"subscribe key1 ok 0 map[channel:b user:bob] request-/batch",
			"broadcast key1 ok 0 map[channels:x y channels_count:2] request-/batch",
			`history_remove key1 not available: channel "h" keeps no history 108 map[channel:h] request-`,
			"publish key1 ok 0 map[channel:k] request-/bulk",
			"broadcast key1 ok 0 map[channels:x channels_count:1] request-/bulk",
			"api_keys_reload  ok 0 map[keys:1] ",
			"reload  ok 0 map[] ",
		}
		if !publishes {
			want = slices.DeleteFunc(want, func(line string) bool {
				return strings.HasPrefix(line, "publish") || strings.HasPrefix(line, "broadcast")
			})
		}
		lines, whole := auditLines(t, path, len(want))
		var got []string
		for _, l := range lines {
			if (l.Remote == "") != (l.Key == "") {
				t.Errorf("%+v", l)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d %v %s", l.Action, l.Key, l.Outcome, l.Code, l.Target, l.Request))
		}
		if !slices.Equal(got, want) {
			t.Errorf("publishes %t: got\n%s\nwant\n%s", publishes, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if strings.Contains(whole, "secret") || strings.Contains(whole, key) {
			t.Errorf("there is a secret in %s", whole)
		}
	}
}

// A disk that is full ends nothing but the log.
func TestAuditLogOnAFullDisk(t *testing.T) {
	s := startServer(t, Config{Dev: true, AuditLog: Log{Path: "/dev/full"}})
	for range 3 {
		if status, body := request(t, "POST", s.internalURL("/api/disconnect"), `{"user":"ann"}`); status != 200 || strings.Contains(body, "error") {
			t.Fatal(status, body)
		}
	}
	eventually(t, "three lines that failed", func() bool { return s.audit.Stats().Failed == 3 })
}

func TestAuditLogThatCannotBeOpened(t *testing.T) {
	_, err := New(Config{Dev: true, Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", AuditLog: Log{Path: "/nowhere/at/all"}})
	if err == nil || !strings.Contains(err.Error(), "audit-log: ") {
		t.Error(err)
	}
}

// accessLine is what tests look at of a line of the access log.
type accessLine struct {
	Event, Connection, Address, Path, Protocol, Client, User, Reason, Text string
	Code                                                                   int
	Seconds                                                                *float64 `json:"duration_seconds"`
}

func accessLines(t *testing.T, path string, n int) (lines []accessLine, whole string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d lines in %s", n, path), func() bool {
		b, err := os.ReadFile(path)
		whole = string(b)
		return err == nil && strings.Count(whole, "\n") >= n
	})
	for text := range strings.Lines(whole) {
		var line accessLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines, whole
}

func TestAccessLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	s := startServer(t, Config{TokenSecret: secret, AllowAnonymous: true, Echo: true, AccessLog: Log{Path: path, JSON: true}})
	signed := token(t, jwt.MapClaims{"sub": "ann\nmsg=forged", "exp": time.Now().Add(time.Hour).Unix()})
	for i, c := range []struct {
		url, first     string
		protocol, user string
		named          bool
	}{
		{"/push?token=" + signed, `{"type":"ping"}`, "plain", "ann\nmsg=forged", true},
		{"/push", `{"type":"ping"}`, "plain", "", true},
		{"/connection/websocket?x=" + signed, `{"id":1,"connect":{"token":"` + signed + `"}}`, "centrifuge-json", "ann\nmsg=forged", true},
		{"/connection/websocket", "", "centrifuge-json", "", false},
		{"/echo", "hello", "echo", "", false},
	} {
		conn := dial(t, s.ws(c.url))
		if c.first != "" {
			send(t, conn, c.first)
			next(t, conn)
		}
		lines, _ := accessLines(t, path, 2*i+1)
		want := accessLine{Event: "opened", Connection: lines[2*i].Connection, Address: "127.0.0.1", Path: strings.Split(c.url, "?")[0], Protocol: c.protocol}
		if len(lines) != 2*i+1 || lines[2*i] != want || want.Connection == "" {
			t.Errorf("%s: %+v, want %+v", c.url, lines[2*i], want)
		}
		if err := conn.Close(websocket.StatusCode(4321), "bye\nmsg=forged"); err != nil {
			t.Error(err)
		}
		lines, whole := accessLines(t, path, 2*i+2)
		got := lines[2*i+1]
		if got.Seconds == nil || *got.Seconds <= 0 || (got.Client != "") != c.named {
			t.Errorf("%s: %+v", c.url, got)
		}
		want.Event, want.User, want.Reason, want.Code, want.Text = "closed", c.user, "client_close", 4321, "bye\nmsg=forged"
		if want.Client, want.Seconds = got.Client, got.Seconds; got != want {
			t.Errorf("%s: %+v, want %+v", c.url, got, want)
		}
		if strings.Contains(whole, signed) {
			t.Error("there is a token in the log")
		}
	}
	eventually(t, "nothing is kept", func() bool {
		s.access.mu.Lock()
		defer s.access.mu.Unlock()
		return len(s.access.open) == 0
	})
}

// Of a share of the connections there are lines, and always both; the rest of the product does not notice.
func TestAccessLogIsSampled(t *testing.T) {
	for share, most := range map[float64][2]int{1: {20_000, 20_000}, 0.5: {9_500, 10_500}, 0.01: {100, 300}, 1e-9: {0, 1}} {
		a := &accessLog{share: share}
		n := 0
		for i := range 20_000 {
			if a.has(uint64(i)<<32 | uint64(i)) {
				n++
			}
		}
		if n < most[0] || n > most[1] {
			t.Errorf("%v: %d of 20,000", share, n)
		}
	}
	s := startServer(t, Config{Dev: true, AccessLog: Log{Path: filepath.Join(t.TempDir(), "access")}, AccessSample: 1e-9})
	c := dial(t, s.ws("/push?channels=a"))
	if got, want := next(t, c), `{"type":"reply","ok":true,"channels":["a"]}`; got != want {
		t.Error(got)
	}
	if st := s.accessLines().Stats(); st.Written+st.Dropped != 0 {
		t.Errorf("%+v", st)
	}

	path := filepath.Join(t.TempDir(), "access")
	s = startServer(t, Config{Dev: true, AccessLog: Log{Path: path, JSON: true}, AccessSample: 0.5})
	for range 40 {
		c := dial(t, s.ws("/push?channels=a"))
		next(t, c)
		_ = c.Close(websocket.StatusNormalClosure, "")
	}
	if err := s.Shutdown(t.Context()); err != nil { // after which all that was told is written
		t.Fatal(err)
	}
	lines, _ := accessLines(t, path, 2)
	events := map[string]string{}
	for _, l := range lines {
		events[l.Connection] += l.Event + " "
	}
	if n := len(events); n == 0 || n == 40 {
		t.Errorf("%d of 40 connections have lines", n)
	}
	for id, both := range events {
		if both != "opened closed " {
			t.Errorf("%s: %s", id, both)
		}
	}
}
