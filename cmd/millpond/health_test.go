package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// health asks real servers, wherever they listen: what it is given, what the environment and the file have.
func TestHealth(t *testing.T) {
	dir := t.TempDir()
	file := func(internal string) string {
		path := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(path, []byte("nonsense: 1\ninternal_listen: "+internal+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	socket, cert := filepath.Join(dir, "s"), newTLSFiles(t, "a.test")
	p := startProcess(t, "--dev", "--drain-grace=100s", "--drain-timeout=200s")
	startCommand(t, serveCommandLine("--dev", "--listen=unix:"+socket, "--internal-listen=unix:"+socket))
	secured := startCommand(t, serveCommandLine("--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--tls-cert="+cert.cert, "--tls-key="+cert.key))
	_, port, _ := net.SplitHostPort(p.internal)
	silent := newCuttable(t, "127.0.0.1:1").Addr().String() // accepts, and hangs up
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	health := func(code int, want, variable string, args ...string) {
		t.Helper()
		t.Setenv("MILLPOND_INTERNAL_LISTEN", variable)
		if variable == "" {
			os.Unsetenv("MILLPOND_INTERNAL_LISTEN")
		}
		var said bytes.Buffer
		if got := run(t.Context(), append([]string{"health"}, args...), &said, &said); got != code || !strings.Contains(said.String(), want) {
			t.Errorf("health %q with %q: %d, want %d and %q:\n%s", args, variable, got, code, want, &said)
		}
	}
	health(0, "ready", "", "--internal-listen="+p.internal)
	health(0, "ok", "", "--live", "--internal-listen="+p.internal)
	health(0, "ready", p.internal)
	health(0, "ready", ":"+port)
	health(0, "ready", "0.0.0.0:"+port)
	health(0, "ready", "", "--config="+file(p.internal))
	health(0, "ready", p.internal, "--config="+file("127.0.0.1:1"))
	health(0, "ready", "unix:"+socket)
	health(0, "ready", secured.internal)
	health(1, "refused", "127.0.0.1:1")
	health(1, "no such file", "unix:"+socket+"x")
	health(1, "no address", "127.0.0.1:0")
	health(1, "no such file", "", "--config="+filepath.Join(dir, "missing"))
	health(1, "404", "", "--internal-listen="+p.public)
	health(1, silent, silent) // EOF, or that it was closed
	health(1, "deadline", mute.Addr().String(), "--timeout=50ms")
	health(2, "timeot", "", "--timeot=1s")
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitLog("msg=draining")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it is logged a moment before
		var said bytes.Buffer
		if run(t.Context(), []string{"health", "--internal-listen=" + p.internal}, &said, &said); strings.Contains(said.String(), "503 draining") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("while it drains health says %s", &said)
		}
	}
	health(0, "ok", "", "--live", "--internal-listen="+p.internal)
	_ = p.command.Process.Signal(syscall.SIGTERM) // hurry
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	health(1, "refused", p.internal)
}
