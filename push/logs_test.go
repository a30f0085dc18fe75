package push

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
