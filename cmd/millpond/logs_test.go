package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// logrotate renames the files of a server that runs, and sends SIGHUP: what comes then is in new ones, and nothing is lost.
func TestSIGHUPReopensLogs(t *testing.T) {
	dir := t.TempDir()
	audit, access := filepath.Join(dir, "audit"), filepath.Join(dir, "access")
	p := startProcess(t, "--dev", "--audit-log="+audit, "--access-log="+access, "--log-format=text")
	act := func(user string) {
		t.Helper()
		r, err := http.Post("http://"+p.internal+"/api/disconnect", "application/json", strings.NewReader(fmt.Sprintf(`{"user":%q}`, user)))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		c, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(4000, user)
	}
	// has waits for a file with a line for the user.
	has := func(path, part string) {
		t.Helper()
		var b []byte
		for deadline := time.Now().Add(time.Minute); !strings.Contains(string(b), part); time.Sleep(time.Millisecond) {
			if b, _ = os.ReadFile(path); time.Now().After(deadline) {
				t.Fatalf("%s never has %s: %s", path, part, b)
			}
		}
	}
	act("ann")
	has(audit, "target.user=ann")
	has(access, "text=ann")
	for _, path := range []string{audit, access} {
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	has(audit, "action=reload")
	act("bob")
	has(audit, "target.user=bob")
	has(access, "text=bob")
	has(audit+".1", "target.user=ann")
	has(access+".1", "text=ann")
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
