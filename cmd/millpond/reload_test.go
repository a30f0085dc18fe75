package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// SIGHUP takes over what can change, while clients come and go; a broken file changes nothing, and what needs a restart stays.
func TestReloadSettings(t *testing.T) {
	dir := t.TempDir()
	path, logFile := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "log")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("dev: true\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("max_connections: 1000\n")
	p := startProcess(t, "--config", path, "--audit-log", logFile)
	hangUp := func() {
		t.Helper()
		if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
				if err != nil {
					t.Errorf("a client while settings are read: %v", err)
					return
				}
				_ = c.CloseNow()
			}
		})
	}
	write("max_connections: 900\nmax_channels: 7\nlog_level: warn\n")
	hangUp()
	p.awaitMetric(`millpond_config_reloads_total{outcome="done"} 1`)
	p.awaitMetric("millpond_connections_limit 900")
	write("max_connections: 800\nmax_chanels: 7\n")
	hangUp()
	p.awaitMetric(`millpond_config_reloads_total{outcome="failed"} 1`)
	p.awaitMetric("millpond_connections_limit 900")
	write("max_connections: 800\npong_timeout: 99s\n")
	hangUp()
	p.awaitMetric(`millpond_config_reloads_total{outcome="failed"} 2`)
	p.awaitMetric("millpond_connections_limit 900")
	close(stop)
	clients.Wait()
	write("max_connections: 1\n")
	hangUp()
	p.awaitMetric("millpond_connections_limit 1")
	first, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
	for err != nil && strings.Contains(err.Error(), "503") { // the last of the clients before may not be gone
		first, _, err = websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.CloseNow() }()
	if c, answer, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil); err == nil || answer == nil || answer.StatusCode != 503 {
		t.Errorf("a second client with room for one: %v, %v", c, err)
	}
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(logFile)
	if n := strings.Count(string(b), "action=reconfigure"); err != nil || n != 4 {
		t.Errorf("%d lines in the audit log, %v\n%s", n, err, b)
	}
}

// What changed is told by key, old and new, and whether it needs a restart; no secret in it.
func TestReloadTells(t *testing.T) {
	var log strings.Builder
	r := &reloader{logger: slog.New(slog.NewTextHandler(&log, nil)), current: []shown{
		{Key: "max_connections", Value: "1", raw: "1"}, {Key: "max_channels", Value: "2", raw: "2"}, {Key: "events_url", Value: "https://h/", raw: "https://a:hunter2@h/"},
	}}
	next := []shown{
		{Key: "max_connections", Value: "3", raw: "3"}, {Key: "max_channels", Value: "4", raw: "4"}, {Key: "events_url", Value: "https://h/", raw: "https://a:hunter3@h/"},
	}
	r.tell(next)
	for _, want := range []string{
		"level=INFO msg=\"setting changed\" key=max_connections old=1 new=3", "it needs a restart\" key=max_channels old=2 new=4", "restart\" key=events_url",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "hunter") {
		t.Errorf("a secret in\n%s", log.String())
	}
	log.Reset()
	if r.tell(next); strings.Contains(log.String(), "max_connections") || !strings.Contains(log.String(), "max_channels") {
		t.Errorf("the second time\n%s", log.String())
	}
}
