package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const floodLimit = 256 << 20

// smallGroup makes a control group, of version 1 or 2, whose processes may have so much memory, and returns its directory.
func smallGroup(t *testing.T, limit int64) string {
	t.Helper()
	for _, g := range []struct{ parent, file string }{
		{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		dir := filepath.Join(g.parent, fmt.Sprintf("millpond-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		// The file system itself makes the file, and only where the controller is.
		f, err := os.OpenFile(filepath.Join(dir, g.file), os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = fmt.Fprint(f, limit)
		if err = errors.Join(err, f.Close()); err == nil {
			return dir
		}
	}
	t.Skip("no control group with a memory controller can be made here")
	return ""
}

// A flood of clients, each with many channels of its own, meets 503 before the memory is gone; those who are in are served, and when
// they have left there is room again.
func TestFloodUnderAMemoryLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory is many times the limit, and never given back")
	}
	limit := fmt.Sprint(int64(floodLimit))
	t.Run("memory-limit", func(t *testing.T) { flood(t, "", nil, "--memory-limit="+limit) })
	t.Run("GOMEMLIMIT", func(t *testing.T) { flood(t, "", []string{"GOMEMLIMIT=" + limit}) })
	t.Run("cgroup", func(t *testing.T) { flood(t, smallGroup(t, floodLimit), nil) })
}

func flood(t *testing.T, group string, env []string, args ...string) {
	args = append([]string{"serve", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--dev", "--ping-interval=-1s", "--max-loop-lag=-1s"}, args...)
	command := exec.Command(os.Args[0], args...)
	if group != "" {
		join := `echo $$ >"$0/cgroup.procs" && exec "$@"`
		command = exec.Command("sh", append([]string{"-c", join, group, os.Args[0]}, args...)...)
	}
	command.Env = append(append(os.Environ(), "MILLPOND_TEST_PROCESS=1"), env...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := startCommand(t, command)

	first, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.CloseNow() }()
	var in []net.Conn
	leave := func() {
		for _, c := range in {
			_ = c.Close()
		}
		in = nil
	}
	defer leave()
	refused := 0
	for i := 0; refused < 50; i++ {
		if i == 15_000 {
			t.Fatalf("%d clients got in, and %d were refused", len(in), refused)
		}
		c, status := p.subscribeMany(i)
		switch status {
		case http.StatusSwitchingProtocols:
			in = append(in, c)
		case http.StatusServiceUnavailable:
			refused++
		default:
			t.Fatalf("client %d, of whom %d are in: status %d", i, len(in), status)
		}
	}
	t.Logf("%d clients got in, %s", len(in), p.metric("millpond_memory_used_bytes"))
	if !strings.Contains(p.metric("millpond_connections_refused_total"), `bound="memory_limit"`) {
		t.Error("no metric of those refused")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := first.Write(ctx, websocket.MessageText, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := first.Read(ctx); err != nil || string(b) != "still here" {
		t.Fatalf("who is in got %q, %v", b, err)
	}
	leave()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, status := p.subscribeMany(0)
		if c != nil {
			_ = c.Close()
		}
		if status == http.StatusSwitchingProtocols {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is never room again: %s", p.metric("millpond_memory_used_bytes"))
		}
	}
	_ = first.CloseNow()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// subscribeMany opens a WebSocket with 100 channels that nobody else has; the connection is nil unless the answer is 101.
func (p *process) subscribeMany(i int) (net.Conn, int) {
	p.t.Helper()
	c, err := net.Dial("tcp", p.public)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	names := make([]string, 100)
	for n := range names {
		names[n] = fmt.Sprintf("%d-%d", i, n)
	}
	fmt.Fprintf(c, "GET /push?channels=%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", strings.Join(names, ","))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		_ = c.Close()
		if errors.Is(err, syscall.ECONNRESET) { // refused before it was read
			return nil, http.StatusServiceUnavailable
		}
		p.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") == "" {
			p.t.Error("503 without Retry-After")
		}
		_ = c.Close()
		return nil, answer.StatusCode
	}
	return c, answer.StatusCode
}

// metric returns the lines of a metric that are not zero.
func (p *process) metric(name string) string {
	p.t.Helper()
	answer, err := http.Get("http://" + p.internal + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, name) && !strings.HasSuffix(line, " 0") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}
