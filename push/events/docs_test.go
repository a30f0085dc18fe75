package events_test

import (
	"bufio"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/internal/program"
)

// block returns the one block of code in docs/events.md that is in a language.
func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```"+language+"\n")
	code, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("docs/events.md has no block of %s", language)
	}
	return code
}

// The receiver in Go is the one that is compiled here, and it works.
func TestReceiverInGo(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), block(t, "go")) {
		t.Error("the receiver of docs/events.md is not that of example_test.go")
	}
	rc := &receiver{secret: secret, handled: map[string]uint64{}}
	server := httptest.NewServer(rc)
	defer server.Close()
	c := config(t, server.URL)
	e := start(t, c)
	e.Connected("a", "ann")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rc.mu.Lock()
	if rc.handled[c.Node] != 1 {
		t.Errorf("handled %v", rc.handled)
	}
	rc.mu.Unlock()
	other := config(t, server.URL)
	other.Secrets, other.ShutdownTimeout = [][]byte{[]byte(strings.Repeat("x", 32))}, 100*time.Millisecond
	e = start(t, other)
	e.Connected("a", "ann")
	if err := e.Close(t.Context()); err == nil {
		t.Error("a wrong signature was taken")
	}
}

// The receiver in Python runs as it stands there.
func TestReceiverInPython(t *testing.T) {
	python := program.Find(t, "python3")
	dir := t.TempDir()
	script, key := filepath.Join(dir, "receiver.py"), filepath.Join(dir, "secret")
	for path, content := range map[string]string{script: block(t, "python"), key: string(secret) + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := strings.TrimSuffix(strings.TrimPrefix(deadURL(t), "http://"), "/")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), python, script, key, port)
	command.Stderr = t.Output()
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	c := config(t, "http://"+address+"/events") // until it listens, the attempts fail
	c.Secrets = [][]byte{[]byte(strings.Repeat("x", 32)), secret}
	e := start(t, c)
	e.Connected("a", "ann")
	h := newHub(t, e)
	subscribe(t, h, "c", "ann").Unsubscribe()
	lines := bufio.NewScanner(stdout)
	for _, want := range []string{"client_connected  ann", "channel_occupied c ", "member_joined c ann", "member_left c ann", "channel_vacated c "} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_ = command.Process.Kill()
	_ = command.Wait() // it was killed
}
