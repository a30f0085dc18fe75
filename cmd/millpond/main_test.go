package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/session"
)

// The test binary is the program too, for tests of a whole process.
func TestMain(m *testing.M) {
	if how := os.Getenv("MILLPOND_TEST_PROCESS"); how == "nats" {
		if err := natsServer(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	} else if how != "" {
		if how != "tree" { // bench starts itself as other processes, which must be the program too
			os.Unsetenv("MILLPOND_TEST_PROCESS")
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a server in a process of its own.
type process struct {
	t                *testing.T
	command          *exec.Cmd
	public, internal string
	log              sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	lines []string // of its log
}

// awaitLog waits until a line of the log has all of that.
func (p *process) awaitLog(parts ...string) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // nothing announces it
		p.mu.Lock()
		i := slices.IndexFunc(p.lines, func(line string) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
		})
		p.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the log never has %q", parts)
		}
	}
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, serveCommandLine(append([]string{"--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0"}, args...)...))
}

// serveCommandLine is a server with these flags and no others.
func serveCommandLine(args ...string) *exec.Cmd {
	command := exec.Command(os.Args[0], append([]string{"serve"}, args...)...)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=1")
	return command
}

// startCommand starts it and waits until it listens.
func startCommand(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	p := &process{t: t, command: command}
	listening := regexp.MustCompile(`msg=listening listener=(\w+) address=(\S+)`)
	lines := bufio.NewScanner(stderr)
	for (p.public == "" || p.internal == "") && lines.Scan() {
		t.Log(lines.Text())
		p.lines = append(p.lines, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil && m[1] == "public" {
			if p.public == "" { // of several the first
				p.public = m[2]
			}
		} else if m != nil {
			p.internal = m[2]
		}
	}
	if p.internal == "" {
		t.Fatal("the process does not listen")
	}
	p.log.Go(func() {
		for lines.Scan() {
			t.Log(lines.Text())
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			p.mu.Unlock()
		}
	})
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = p.command.Process.Kill() })
	defer timer.Stop()
	p.log.Wait()
	_ = p.command.Wait()
	return p.command.ProcessState.ExitCode()
}

// SIGTERM under load: every client gets 1001, nothing hangs, the exit code is 0.
func TestSIGTERMUnderLoad(t *testing.T) {
	p := startProcess(t, "--dev")
	const clients = 200
	var ready, ended sync.WaitGroup
	var wrong atomic.Value
	ready.Add(clients)
	for i := range clients {
		ended.Go(func() {
			path := [...]string{"/echo", "/push?channels=load"}[i%2]
			c, _, err := websocket.Dial(t.Context(), "ws://"+p.public+path, nil)
			if err != nil {
				wrong.Store(err)
				ready.Done()
				return
			}
			defer func() { _ = c.CloseNow() }()
			for n := 0; err == nil; n++ {
				if path == "/echo" {
					_ = c.Write(t.Context(), websocket.MessageText, []byte("load"))
				}
				_, _, err = c.Read(t.Context())
				if n == 0 {
					ready.Done()
				}
			}
			if code := websocket.CloseStatus(err); code != websocket.StatusGoingAway {
				wrong.Store(fmt.Errorf("%s ended with %w", path, err))
			}
		})
	}
	ready.Wait()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	ended.Wait()
	if err := wrong.Load(); err != nil {
		t.Error(err)
	}
}

// A client that does not answer the close frame holds the drain up for the close timeout only.
func TestSIGTERMWithADeafClient(t *testing.T) {
	p := startProcess(t, "--dev", "--close-timeout=500ms")
	c, err := net.Dial("tcp", p.public)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatal(line, err)
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// After SIGTERM clients come in for the grace time, while /readyz says 503; a second SIGTERM ends it at once, cleanly.
func TestDrainAndSecondSIGTERM(t *testing.T) {
	for name, args := range map[string][]string{
		"in the grace time":   {"--drain-grace=1m"},
		"while it is closing": {"--drain-grace=0s", "--drain-rate=0.01"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, append([]string{"--dev", "--drain-timeout=5m"}, args...)...)
			dial := func() *websocket.Conn {
				c, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.CloseNow() })
				return c
			}
			clients := []*websocket.Conn{dial(), dial()}
			_ = p.command.Process.Signal(syscall.SIGTERM)
			for ready := true; ready; {
				response, err := http.Get("http://" + p.internal + "/readyz")
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				ready = response.StatusCode != http.StatusServiceUnavailable
			}
			if name == "in the grace time" {
				clients = append(clients, dial())
			}
			for _, c := range clients {
				if err := c.Write(t.Context(), websocket.MessageText, []byte("still there?")); err != nil {
					t.Fatal(err)
				}
				if _, b, err := c.Read(t.Context()); err != nil || string(b) != "still there?" {
					t.Fatal(string(b), err)
				}
			}
			_ = p.command.Process.Signal(syscall.SIGTERM)
			for _, c := range clients {
				if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
					t.Error(err)
				}
			}
			if code := p.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func runCommand(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	listen := []string{"serve", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0"}
	serve := func(args ...string) []string { return append(append([]string(nil), listen...), args...) }
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"version", []string{"version"}, 0, []string{"millpond unknown"}},
		{"help", []string{"--help"}, 0, []string{"serve", "version"}},
		{"no command", nil, 2, []string{"expected one of"}},
		{"unknown flag", serve("--ping-intervall=1s"), 2, []string{`did you mean "--ping-interval"`}},
		{"neither token key nor dev", serve(), 1, []string{"token-hmac-secret-file", "--dev"}},
		{"several faults", serve("--dev", "--loops=-1", "--ping-interval=5s"), 1, []string{"loops", "pong-timeout"}},
		{"dev, stopped at once", serve("--dev"), 0, []string{"DEVELOPMENT MODE", "listening", "stopped"}},
		{"secret from a file", serve("--token-hmac-secret-file", write("secret", "0123456789abcdef0123456789abcdef\n")), 0, []string{"stopped"}},
		{"empty key file", serve("--dev", "--api-key-file", write("empty", "\n")), 1, []string{"api-key-file", "is empty"}},
		{"file", serve("--config", write("ok.yaml", "dev: true\nlog_format: json\nmax_channels: 3\n")), 0, []string{`"msg":"listening"`}},
		{"flag over file", serve("--log-format=text", "--config", write("both.yaml", "dev: true\nlog_format: json\n")), 0, []string{"msg=listening"}},
		{"unknown keys in the file", serve("--config", write("bad.yaml", "devv: true\nmax_chanels: 3\n")), 2, []string{"devv, did you mean dev?", "max_chanels, did you mean max_channels?"}},
		{"no YAML", serve("--config", write("no.yaml", "a: [")), 2, []string{"config"}},
		{"namespaces", serve("--config", write("ns.yaml", "dev: true\nchannels:\n  history_size: 1\n  history_ttl: 5s\nnamespaces:\n  - name: orders\n    history_size: 10\n    history_ttl: 300s\n    force_recovery: true\n")), 0, []string{"stopped"}},
		{"an unknown option", serve("--config", write("ns1.yaml", "dev: true\nnamespaces:\n  - name: orders\n    histroy_size: 10\n")), 2, []string{"ns1.yaml:4:5: namespaces[0].histroy_size", "did you mean history_size?"}},
		{"an option that makes no sense", serve("--config", write("ns2.yaml", "dev: true\nchannels:\n  history_size: 10\n")), 1, []string{"channels: history_size and history_ttl"}},
		{"events", serve("--config", write("ev.yaml", "dev: true\nevents_url: http://127.0.0.1:1/\nevents: [client_connected]\nnamespaces:\n  - name: rooms\n    events: [channel_occupied]\n")), 0, []string{"stopped"}},
		{"events without a place", serve("--dev", "--events=channel_occupied"), 1, []string{"events-url"}},
		{"events without a secret", serve("--token-hmac-secret-file", write("secret2", "0123456789abcdef0123456789abcdef\n"), "--events=client_connected", "--events-url=http://127.0.0.1:1/"), 1, []string{"events-secret-file"}},
		{"an unknown event", serve("--dev", "--events=channel_ocupied", "--events-url=http://127.0.0.1:1/"), 1, []string{"channel_ocupied"}},
		{"an unknown event of a namespace", serve("--config", write("ev1.yaml", "dev: true\nevents_url: http://127.0.0.1:1/\nnamespaces:\n  - name: rooms\n    events: [client_connected]\n")), 2, []string{"ev1.yaml:5:13: namespaces[0].events", "client_connected", "channel_occupied"}},
		{"bad network", serve("--dev", "--trusted-proxies=10.0.0.1"), 1, []string{"trusted-proxies"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := runCommand(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, stderr)
				}
			}
			if strings.Contains(stdout+stderr, "0123456789abcdef") {
				t.Error("the secret is in the output")
			}
		})
	}
}

func TestEnvironmentWinsOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("dev: true\nlog_format: text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MILLPOND_LOG_FORMAT", "json")
	_, _, stderr := runCommand("serve", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--config", path)
	if !strings.Contains(stderr, `"msg":"listening"`) {
		t.Error(stderr)
	}
}

// The kernel's timeouts reach the sockets' options.
func TestSocketFlags(t *testing.T) {
	c := serveCommand{TCPUserTimeout: time.Second, TCPKeepalive: 2 * time.Second, SendBufferBytes: 3, ReusePort: true, APIErrorMode: "body"}
	config, err := c.config(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := session.SocketOptions{UserTimeout: time.Second, KeepAlive: 2 * time.Second, SendBuffer: 3, ReusePort: true}
	if config.Socket != want {
		t.Errorf("%+v, want %+v", config.Socket, want)
	}
}
