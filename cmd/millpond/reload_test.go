package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/push"
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
	write("max_connections: 900\noutbox_messages: 7\nlog_level: warn\n")
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

// What changed is told by key, with old and new for a flag, and whether it needs a restart; no secret in it.
func TestReloadTells(t *testing.T) {
	var log strings.Builder
	hooks := func(secret, url string) any {
		return []any{map[string]any{"name": "auth", "endpoint": url, "http_static_headers": map[string]any{"X-Key": secret}}, map[string]any{"name": "b"}}
	}
	before := []shown{
		{Key: "max_connections", Value: "1", whole: "1"},
		{Key: "outbox_bytes", Value: "2", whole: "2"},
		{Key: "events_url", Value: "https://h/", whole: "https://a:hunter2@h/"},
		{Key: "webhooks", whole: hooks("hunter4", "https://h/")},
		{Key: "namespaces"},
	}
	next := settings{values: []shown{
		{Key: "max_connections", Value: "3", whole: "3"},
		{Key: "outbox_bytes", Value: "4", whole: "4"},
		{Key: "events_url", Value: "https://h/", whole: "https://a:hunter3@h/"},
		{Key: "webhooks", whole: hooks("hunter5", "https://hunter6@h/")},
		{Key: "namespaces", whole: []any{map[string]any{"name": "aa", "presence": true}}},
	}}
	known := knownSettings(t)
	for _, v := range before {
		s, ok := find(known, v.Key)
		if !ok {
			t.Fatalf("there is no %s", v.Key)
		}
		next.known = append(next.known, s)
	}
	r := &reloader{logger: slog.New(slog.NewTextHandler(&log, nil)), current: before}
	r.tell(next)
	for _, want := range []string{
		"level=INFO msg=\"setting changed\" key=max_connections old=1 new=3", "it needs a restart\" key=outbox_bytes old=2 new=4", "restart\" key=events_url",
		`key=webhooks changed="webhooks[auth].endpoint webhooks[auth].http_static_headers.X-Key"`, "key=namespaces changed=namespaces[aa]",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "hunter") {
		t.Errorf("a secret in\n%s", log.String())
	}
	log.Reset()
	if r.tell(next); strings.Contains(log.String(), "max_connections") || strings.Contains(log.String(), "webhooks") || !strings.Contains(log.String(), "outbox_bytes") {
		t.Errorf("the second time\n%s", log.String())
	}
}

// What the reference says of SIGHUP is what push.Server.Reconfigure does: of a setting that is marked it takes over another value, and of no other.
func TestReloadable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	configured := func(args ...string) push.Config {
		t.Helper()
		var c cli
		parser, err := newParser(&c, newDocument)
		if err == nil {
			_, err = parser.Parse(append([]string{"serve"}, args...))
		}
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		config, _ := c.Serve.config(nil) // a key of TLS without its certificate is an error, and that is what is compared
		return config
	}
	// Values that are not made of the default, and what else has to be there for the setting to mean anything.
	values := map[string]string{
		"trusted_proxies": "10.0.0.0/8", "proxy_protocol_from": "unix", "token_hmac_previous_until": "2026-12-31T00:00:00Z",
		"subscription_token_hmac_previous_until": "2026-12-31T00:00:00Z", "log_level": "warn", "cluster_peers": "10.0.0.1:1",
	}
	also := map[string][]string{
		"tls_cert": {"--tls-key=" + file}, "tls_key": {"--tls-cert=" + file},
		"subscription_token_hmac_previous_until": {"--subscription-token-hmac-secret-file=" + file}, "subscription_token_hmac_previous_secret_file": {"--subscription-token-hmac-secret-file=" + file},
	}
	cert := newTLSFiles(t, "a.test")
	values["cluster_tls_cert"], values["cluster_tls_key"], values["cluster_tls_ca"] = cert.cert, cert.key, cert.cert
	also["cluster_tls_cert"] = []string{"--cluster-tls-key=" + cert.key}
	also["cluster_tls_key"] = []string{"--cluster-tls-cert=" + cert.cert}
	also["cluster_tls_ca"] = []string{"--cluster-tls-cert=" + cert.cert, "--cluster-tls-key=" + cert.key}
	alone := configured()
	elsewhere := []string{"drain_grace", "drain_rate", "drain_timeout", "log_level"} // not in push.Config
	for _, s := range knownSettings(t) {
		if s.flag == nil {
			continue
		}
		value := values[s.key]
		switch {
		case value != "":
		case s.file():
			value = file
		case s.kind() == "boolean":
			value = strconv.FormatBool(s.def != "true")
		case s.kind() == "integer", s.kind() == "number":
			value = "7"
		case s.kind() == "duration":
			value = "7s"
		case s.enum != nil:
			value = s.enum[(slices.Index(s.enum, s.def)+1)%len(s.enum)]
		default:
			value = "other"
		}
		base := alone
		if also[s.key] != nil {
			base = configured(also[s.key]...)
		}
		changed := configured(append(also[s.key], "--"+s.flag.Name+"="+value)...)
		was, is := base.Reconfigured(base), changed.Reconfigured(changed)
		differs := !reflect.DeepEqual(was, is)
		if differs == slices.Contains(elsewhere, s.key) {
			t.Errorf("%s=%s: push.Config differs: %t", s.key, value, differs)
		}
		got := base.Reconfigured(changed)
		if taken := reflect.DeepEqual(got, is); differs && taken != (s.reload == reloadValue) {
			t.Errorf("%s: marked as %q, but that it is taken over is %t", s.key, s.reload, taken)
		}
		if s.reload != reloadValue && !reflect.DeepEqual(got, was) {
			t.Errorf("%s: it is taken over in part", s.key)
		}
	}
}

// A process takes over namespaces, origins, keys, webhooks and bounds, all of one file or none of it, while clients stay.
func TestReloadAll(t *testing.T) {
	backend := func(user string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"result":{"user":"`+user+`"}}`)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	file := func(version, url, more string) string {
		return fmt.Sprintf(`connect_webhook: hook
allowed_origins: ["https://%[1]s.example"]
max_channels: %[3]d
namespaces: [{name: %[1]s, allow_subscribe_for_client: true}, {name: both, allow_subscribe_for_client: true, history_size: %[3]d, history_ttl: 60s}]
webhooks: [{name: hook, endpoint: "%[2]s", http_static_headers: {X-Key: hunter-%[1]s}}]
api_keys: [{name: %[1]s, sha256: "%[4]x"}]
%[5]s
`, version, url, len(version), sha256.Sum256([]byte("key "+version)), more)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := backend("ann"), backend("bob")
	write(file("one", one, ""))
	p := startProcess(t, "--config", path)
	inForce := func(version, user, other string, channels int) {
		t.Helper()
		from := func(version string) http.Header { return http.Header{"Origin": {"https://" + version + ".example"}} }
		if heard := p.say("/push", `{"type":"login","id":1,"payload":{}}`, from(version)); !strings.Contains(heard, `"user":"`+user+`"`) {
			t.Errorf("%s: a login: %s", version, heard)
		}
		if heard := p.say("/push", "", from(other)); !strings.Contains(heard, "403") {
			t.Errorf("%s: another origin: %s", version, heard)
		}
		for _, tt := range []struct{ key, channel, want string }{
			{version, version + ":x", `"result":{`}, {version, "both:x", `"result":{`}, {version, other + ":x", `"code":102`}, {other, version + ":x", "401"},
		} {
			if got := p.ask("POST", "/api/publish", `{"channel":"`+tt.channel+`","data":1}`, "X-API-Key", "key "+tt.key); !strings.Contains(got, tt.want) {
				t.Errorf("%s: publish to %s with the key %s: %s", version, tt.channel, tt.key, got)
			}
		}
		list := make([]string, channels+1)
		for i := range list {
			list[i] = fmt.Sprint("both:", i)
		}
		for n, want := range map[int]bool{channels: true, channels + 1: false} {
			c, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/push", nil)
			if err != nil {
				t.Fatal(err)
			}
			heard := ""
			for i, say := range []string{`{"type":"login","id":1,"payload":{}}`, `{"type":"subscribe","id":2,"payload":{"channels":["` + strings.Join(list[:n], `","`) + `"]}}`} {
				if err = c.Write(t.Context(), websocket.MessageText, []byte(say)); err == nil {
					var b []byte
					_, b, err = c.Read(t.Context())
					heard = string(b)
				}
				if err != nil {
					t.Fatal(i, err)
				}
			}
			if strings.Contains(heard, `"ok":true`) != want {
				t.Errorf("%s: %d channels: %s", version, n, heard)
			}
			_ = c.CloseNow()
		}
	}
	inForce("one", "ann", "three", 3)
	stays, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/push", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stays.CloseNow() }()
	hear := func(want string) {
		t.Helper()
		if _, b, err := stays.Read(t.Context()); err != nil || !strings.Contains(string(b), want) {
			t.Fatalf("who stays hears %s, %v", b, err)
		}
	}
	for _, say := range []string{`{"type":"login","id":1,"payload":{}}`, `{"type":"subscribe","id":2,"payload":{"channel":"both:x"}}`} {
		if err := stays.Write(t.Context(), websocket.MessageText, []byte(say)); err != nil {
			t.Fatal(err)
		}
		hear(`"ok":true`)
	}

	write(file("three", two, "outbox_messages: 77\n"))
	hangUp := func() {
		t.Helper()
		if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangUp()
	p.awaitMetric(`millpond_config_reloads_total{outcome="done"} 1`)
	p.awaitLog("key=namespaces", "namespaces[both].history_size", "namespaces[one]", "namespaces[three]")
	p.awaitLog("key=webhooks", "webhooks[hook].endpoint", "webhooks[hook].http_static_headers.X-Key")
	p.awaitLog("it needs a restart", "key=outbox_messages", "new=77")
	inForce("three", "bob", "one", 5)
	hear(`"channel":"both:x"`) // of inForce

	for i, tt := range []struct{ more, want string }{
		{"max_chanels: 1", path + ":7:1: max_chanels: unknown key"},
		{"namespaces: []", path + ":7"},
		{"max_connections: -1", path + ":7:18: max_connections: -1 is not 0 or more"},
		{"personal_namespace: nowhere", "personal_namespace"},
		{"rpc_webhook: nobody", `there is no webhook \"nobody\"`},
		{"api_key_file: /missing", path + ":7:15: api_key_file: "},
		{"a: [", path + ":"},
	} {
		write(file("one", one, tt.more))
		hangUp()
		p.awaitMetric(fmt.Sprintf(`millpond_config_reloads_total{outcome="failed"} %d`, i+1))
		p.awaitLog("settings are as they were", tt.want)
		if t.Failed() {
			break
		}
	}
	inForce("three", "bob", "one", 5)
	p.mu.Lock()
	defer p.mu.Unlock()
	if all := strings.Join(p.lines, "\n"); strings.Contains(all, "hunter") || strings.Contains(all, "key one") {
		t.Errorf("a secret in the log:\n%s", all)
	}
}
