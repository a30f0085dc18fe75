package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/coder/websocket"
)

// marked has secrets that can be found again, in whatever is told. Each is of letters and digits, so that nothing escapes it.
type marked struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	secrets map[string]string // by the place that it was given in
}

func newMarked(t *testing.T) *marked {
	return &marked{t: t, dir: t.TempDir(), secrets: map[string]string{}}
}

// text returns a new secret for a place.
func (m *marked) text(place string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	secret := fmt.Sprintf("%x", sha256.Sum256([]byte(place+m.dir)))
	m.secrets[place] = secret
	return secret
}

// file returns the path of a file with a new secret, in the middle of format.
func (m *marked) file(place, format string) string {
	m.t.Helper()
	return m.write(place, fmt.Sprintf(format, m.text(place)))
}

func (m *marked) write(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, strings.ReplaceAll(name, "/", "-"))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// absent fails for each secret, or its first half, that is in what was told, also in base64 or hex. The secret of allowed places is
// the asker's own.
func (m *marked) absent(where, told string, allowed ...string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, place := range allowed {
		told = strings.ReplaceAll(told, m.secrets[place], "")
	}
	for place, secret := range m.secrets {
		for _, form := range []string{
			secret, secret[:20], base64.StdEncoding.EncodeToString([]byte(secret))[:24], hex.EncodeToString([]byte(secret)),
		} {
			if i := strings.Index(told, form); i >= 0 {
				m.t.Errorf("%s has the secret of %s: …%s…", where, place, told[max(0, i-150):min(len(told), i+len(form)+20)])
				break
			}
		}
	}
}

// notSecret are flags of all commands whose names sound as if a secret could be given in them.
var notSecret = map[string]string{
	"token-audience": "a name", "token-issuer": "a name", "token-issuer-regex": "a pattern", "token-leeway": "a time", "token-public-key-file": "public",
	"subscription-token-public-key-file": "public", "token-jwks-refresh": "a time", "token-jwks-interval": "a time", "token-jwks-timeout": "a time",
	"token-jwks-bytes": "a size", "token-jwks-waiting": "a number", "token-hmac-previous-until": "a time", "subscription-token-hmac-previous-until": "a time",
	"max-bad-tokens": "a number", "idempotency-keys": "a number", "idempotency-key": "a name", "secrets": "a switch", "tls-cert": "public",
	"nats-tls-cert": "public", "queue-tls-cert": "public", "cluster-tls-cert": "public", "header-timeout": "a time", "max-header-bytes": "a size",
	// Each of these is read as the one of the same kind above is: bench, publish and subscribe read what serve does.
	"token-file": "a client's", "hmac-secret-file": "that of token", "private-key-file": "that of token",
}

var soundsSecret = regexp.MustCompile(`secret|token|password|credential|nkey|(^|-)keys?(-|$)|header`)

// Each flag by which a secret can be given, of all commands, is marked by the tests below.
func TestEachPlaceForASecretIsMarked(t *testing.T) {
	source, err := os.ReadFile("secrets_test.go")
	if err != nil {
		t.Fatal(err)
	}
	parser, err := kong.New(&cli{}, kong.Vars{})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			if soundsSecret.MatchString(f.Name) && notSecret[f.Name] == "" && !bytes.Contains(source, []byte(`"--`+f.Name+"=")) {
				t.Errorf("--%s of %s: a secret can be given there, and no test here gives one", f.Name, n.FullPath())
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
}

// A token that is signed with a secret.
func (m *marked) token(secret, user string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"HS256"}`)) + "." + b64(fmt.Appendf(nil, `{"sub":%q,"exp":%d}`, user, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	token := text + "." + b64(mac.Sum(nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets["token of "+user] = b64(mac.Sum(nil)) // the part that makes it one
	return token
}

// told is what a process writes to stderr.
type told struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *told) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startTelling starts a server whose log is read at the level debug, and waits until it listens.
func startTelling(t *testing.T, env []string, args ...string) (p *process, log *told) {
	t.Helper()
	log = &told{}
	command := exec.Command(os.Args[0], append([]string{"serve", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--log-level=debug", "--drain-grace=0s"}, args...)...)
	command.Env = append(append(os.Environ(), "MILLPOND_TEST_PROCESS=1"), env...)
	command.Stderr = log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p = &process{t: t, command: command}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	public, internal := regexp.MustCompile(`listening listener=public address=(\S+)`), regexp.MustCompile(`listening listener=internal address=(\S+)`)
	for deadline := time.Now().Add(time.Minute); p.internal == ""; time.Sleep(5 * time.Millisecond) {
		if strings.HasPrefix(log.String(), "millpond: ") {
			t.Fatal(log)
		}
		if a, b := public.FindStringSubmatch(log.String()), internal.FindStringSubmatch(log.String()); a != nil && b != nil {
			p.public, p.internal = a[1], b[1]
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not listen: %s", log)
		}
	}
	return p, log
}

// ask does a request, and returns the answer with its header.
func (p *process) ask(method, path, body string, header ...string) string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.internal+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprint(response.Status, response.Header, string(b))
}

// say opens a WebSocket, says something, and reads until the server ends it or has answered.
func (p *process) say(path, text string, header http.Header) (heard string) {
	p.t.Helper()
	c, response, err := websocket.Dial(p.t.Context(), "ws://"+p.public+path, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		return fmt.Sprint(err, response)
	}
	defer func() { _ = c.CloseNow() }()
	if text != "" {
		_ = c.Write(p.t.Context(), websocket.MessageText, []byte(text))
	}
	_, b, err := c.Read(p.t.Context())
	return fmt.Sprint(string(b), err)
}

// Secrets are given in all places where a server takes them; clients and backends use good and bad ones. None of them is told.
func TestNoSecretIsTold(t *testing.T) {
	m := newMarked(t)
	nobody := newCuttable(t, "127.0.0.1:1").Addr().String() // accepts, and hangs up

	hmacSecret := m.text("--token-hmac-secret-file")
	cert := newTLSFiles(t, "localhost")
	config := m.write("millpond.yaml", fmt.Sprintf(`
connect_webhook: ask
channels: {history_size: 10, history_ttl: 60s, allow_subscribe_for_client: true, allow_publish_for_client: true, publish_webhook: ask}
webhooks:
  - name: ask
    endpoint: http://%s/hook?token=%s
    secret_file: %s
    http_headers: [Cookie, X-Session]
    emulated_headers: [Authorization]
    http_static_headers: {X-Static: %s}
    http_static_header_files: {X-Static-File: %s}
api_keys:
  - name: part
    key_file: %s
    scopes: [read]
`, nobody, m.text("a webhook's query"), m.file("secret_file", "%s"), m.text("http_static_headers"),
		m.file("http_static_header_files", "%s"), m.file("key_file", "%s")))
	apiKey := m.text("--api-key-file")
	audit, access := filepath.Join(m.dir, "audit.log"), filepath.Join(m.dir, "access.log")
	flags := []string{
		"--config=" + config,
		"--token-hmac-secret-file=" + m.write("hmac", hmacSecret),
		"--token-hmac-previous-secret-file=" + m.file("--token-hmac-previous-secret-file", "%s"), "--token-hmac-previous-until=2100-01-01T00:00:00Z",
		"--token-jwks-file=" + m.file("--token-jwks-file", `{"keys":[{"kty":"oct","kid":"a","k":"%s"},{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`),
		"--token-jwks-url=http://" + nobody + "/?key=" + m.text("--token-jwks-url"),
		"--subscription-token-hmac-secret-file=" + m.file("--subscription-token-hmac-secret-file", "%s"),
		"--subscription-token-hmac-previous-secret-file=" + m.file("--subscription-token-hmac-previous-secret-file", "%s"), "--subscription-token-hmac-previous-until=2100-01-01T00:00:00Z",
		"--api-key-file=" + m.write("keys", apiKey+"\n"),
		"--events=client_connected,channel_occupied", "--events-delay=-1s", "--events-shutdown-timeout=1ms",
		"--events-url=http://user:" + m.text("--events-url's password") + "@" + nobody + "/?key=" + m.text("--events-url"),
		"--events-secret-file=" + m.file("--events-secret-file", "%s"),
		"--trace-endpoint=http://" + nobody,
		"--listen=plain:127.0.0.1:0", "--tls-cert=" + cert.cert, "--tls-key=" + cert.key,
		"--tls-ticket-keys-file=" + m.file("--tls-ticket-keys-file", "%s"),
		"--audit-log=" + audit, "--audit-publishes", "--access-log=" + access, "--playground", "--echo", "--allow-anonymous",
		"--data-dir=" + filepath.Join(m.dir, "data"),
	}
	p, log := startTelling(t, []string{"OTEL_EXPORTER_OTLP_HEADERS=authorization=" + m.text("OTEL_EXPORTER_OTLP_HEADERS")}, flags...)
	addresses := regexp.MustCompile(`listening listener=public address=(\S+) tls=false`).FindStringSubmatch(log.String())
	if addresses == nil {
		t.Fatalf("no listener without TLS: %s", log)
	}
	p.public = addresses[1]

	good, bad := m.token(hmacSecret, "ann"), m.token("0123456789abcdef0123456789abcdef", "mallory")
	cookies := http.Header{"Cookie": {"session=" + m.text("a cookie")}, "X-Session": {m.text("a header")}, "Authorization": {"Bearer " + m.text("a bearer")}}
	var heard []string
	for _, token := range []string{good, bad, m.text("a token that is none")} {
		heard = append(heard,
			p.say("/push?channels=news&token="+token, "", cookies),
			p.say("/push", `{"type":"login","id":1,"payload":{"token":"`+token+`"}}`, cookies),
			p.say("/connection/websocket", `{"id":1,"connect":{"token":"`+token+`","headers":{"Authorization":"`+m.text("an emulated header")+`"}}}`, cookies),
			p.say("/connection/websocket?token="+token, `{"id":1,"connect":{"data":"`+m.text("connect data")+`"}}`, cookies),
			p.say("/nowhere?token="+token, "", cookies),
		)
	}
	for _, key := range []string{apiKey, m.text("a wrong key")} {
		for _, path := range []string{"/api/publish", "/api/broadcast", "/api/nothing", "/api/batch", "/api/revoke_token", "/api/publish?api_key=" + key, "/tap?sample=0", "/nothing?api_key=" + key} {
			body := `{"channel":"news","data":"` + m.text("a publication") + `","uid":"` + "x" + `"}`
			heard = append(heard, p.ask("POST", path, body, "X-API-Key", key), p.ask("POST", path, body[:len(body)-3], "Authorization", "apikey "+key))
		}
	}
	for _, path := range []string{
		"/metrics", "/healthz", "/readyz", "/api/openapi.json", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
		"/debug/pprof/allocs?debug=1", "/debug/pprof/block?debug=1", "/debug/pprof/mutex?debug=1", "/debug/pprof/threadcreate?debug=1", "/debug/pprof/symbol",
	} {
		m.absent(path, p.ask("GET", path, ""), "--token-jwks-url", "--events-url", "--events-url's password") // they are in the command line
	}
	m.absent("/api/info", p.ask("POST", "/api/info", "{}", "X-API-Key", apiKey))
	m.absent("answers", strings.Join(heard, "\n"))
	if !strings.Contains(strings.Join(heard, ""), `"offset"`) || !strings.Contains(strings.Join(heard, ""), "ok") {
		t.Errorf("nothing came in: %s", heard)
	}
	for _, args := range [][]string{append([]string{"config", "show"}, flags...), {"config", "check", flags[0]}, {"config", "check", "--json", flags[0]}, {"config", "default"}} {
		_, stdout, stderr := runCommand(args...)
		if !strings.Contains(stdout, "webhooks") && args[1] != "check" {
			t.Errorf("%s: %s%s", args[:2], stdout, stderr)
		}
		m.absent(strings.Join(args[:2], " "), stdout+stderr)
	}
	_ = p.command.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "msg=reloaded"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not reload: %s", log)
		}
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	_ = p.command.Wait()
	for name, path := range map[string]string{"the audit log": audit, "the access log": access} {
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		m.absent(name, string(b))
	}
	for _, want := range []string{"webhook", "events", "level=DEBUG"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has nothing of %q, so nothing of it was tried: %s", want, log)
		}
	}
	m.absent("the log", log.String())
}

// The same for what a server needs for NATS, which is away.
func TestNoSecretOfNATSIsTold(t *testing.T) {
	for name, flags := range map[string]func(m *marked) []string{
		"password": func(m *marked) []string {
			return []string{"--nats-url=nats://127.0.0.1:1", "--nats-user=u", "--nats-password-file=" + m.file("--nats-password-file", "%s")}
		},
		"token": func(m *marked) []string {
			return []string{"--nats-url=nats://127.0.0.1:1", "--nats-token-file=" + m.file("--nats-token-file", "%s")}
		},
		"queue's password": func(m *marked) []string {
			return []string{"--queue-stream=q", "--queue-url=nats://127.0.0.1:1", "--queue-user=u", "--queue-password-file=" + m.file("--queue-password-file", "%s")}
		},
		"queue's token": func(m *marked) []string {
			return []string{"--queue-stream=q", "--queue-url=nats://127.0.0.1:1", "--queue-token-file=" + m.file("--queue-token-file", "%s")}
		},
		"queue's URL": func(m *marked) []string {
			return []string{"--queue-stream=q", "--queue-url=nats://user:" + m.text("--queue-url") + "@127.0.0.1:1"}
		},
		"URL": func(m *marked) []string {
			return []string{"--nats-url=nats://user:" + m.text("--nats-url") + "@127.0.0.1:1"}
		},
		"cluster": func(m *marked) []string {
			return []string{
				"--nats-embedded", "--data-dir=" + filepath.Join(m.dir, "data"), "--cluster-name=c", "--cluster-listen=127.0.0.1:0", "--replicas=1",
				"--cluster-routes=127.0.0.1:1", "--cluster-credentials-file=" + m.file("--cluster-credentials-file", "user:%s"),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMarked(t)
			log := &told{}
			command := exec.Command(os.Args[0], append([]string{
				"serve", "--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--log-level=debug", "--nats-start-timeout=1s", "--drain-grace=0s",
			}, flags(m)...)...)
			command.Env, command.Stderr = append(os.Environ(), "MILLPOND_TEST_PROCESS=1"), log
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				_ = command.Wait()
				close(ended)
			}()
			defer func() {
				_ = command.Process.Kill()
				<-ended
			}()
			for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "listener=internal"); time.Sleep(5 * time.Millisecond) {
				select {
				case <-ended:
					t.Logf("it did not start: %s", log)
					m.absent("the log", log.String())
					return
				default:
				}
				if time.Now().After(deadline) {
					t.Fatal(log)
				}
			}
			_ = command.Process.Signal(syscall.SIGTERM)
			<-ended
			m.absent("the log", log.String())
		})
	}
}

// Whoever gives a secret that makes no sense, or anything beside one, is told what is wrong, without it.
func TestErrorsTellNoSecret(t *testing.T) {
	m := newMarked(t)
	good := m.write("good", m.text("good"))
	cert := newTLSFiles(t, "localhost")
	pem := "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n"
	serve := func(args ...string) []string {
		return append([]string{"serve", "--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--log-level=debug", "--nats-start-timeout=10ms"}, args...)
	}
	configured := func(place, yaml string) []string {
		return serve("--config=" + m.file(place, yaml))
	}
	short := func(place string) string { return m.write(place, m.text(place)[:21]) }
	for name, args := range map[string][]string{
		"a short secret":              serve("--token-hmac-secret-file=" + short("a")),
		"a PEM as a secret":           serve("--token-hmac-secret-file=" + m.file("b", pem)),
		"a short previous secret":     serve("--token-hmac-secret-file="+good, "--token-hmac-previous-secret-file="+short("c"), "--token-hmac-previous-until=2100-01-01T00:00:00Z"),
		"a private key as public":     serve("--token-public-key-file=" + m.file("d", pem)),
		"a secret as public key":      serve("--token-public-key-file=" + m.file("e", "%s")),
		"a bad JWKS":                  serve("--token-jwks-file=" + m.file("f", `{"keys":[{"kty":"oct","k":"%s"}]}`)),
		"a JWKS that is no JSON":      serve("--token-jwks-file=" + m.file("g", `{"keys":[{"k":%s}]}`)),
		"a URL that cannot be":        serve("--token-jwks-url=http://example.org/?key=" + m.text("h")),
		"a URL of no use":             serve("--token-jwks-url=ftp://u:" + m.text("i") + "@example.org/"),
		"an API key with spaces":      serve("--api-key-file=" + m.file("j", "%s and more\n")),
		"a short API key":             serve("--internal-listen=0.0.0.0:0", "--api-key-file="+short("k")),
		"short secrets of events":     serve("--events=client_connected", "--events-url=http://127.0.0.1:1/", "--events-secret-file="+short("l")),
		"events to nowhere":           serve("--events=client_connected", "--events-url=ftp://u:"+m.text("m")+"@h/", "--events-secret-file="+good),
		"events to a bad URL":         serve("--events=client_connected", "--events-url=http://u:"+m.text("n")+"@h:port/", "--events-secret-file="+good),
		"traces to a bad URL":         serve("--trace-endpoint=http://u:" + m.text("o") + "@h:port/"),
		"ticket keys that are none":   serve("--tls-cert="+cert.cert, "--tls-key="+cert.key, "--tls-ticket-keys-file="+m.file("p", "g%s\n")),
		"a key that is none":          serve("--tls-cert="+cert.cert, "--tls-key="+m.file("q", pem)),
		"credentials without a colon": serve("--nats-embedded", "--data-dir="+m.dir, "--cluster-name=c", "--cluster-credentials-file="+m.file("r", "%s")),
		"NATS credentials":            serve("--nats-url=nats://127.0.0.1:1", "--nats-credentials-file="+m.file("s", "-----BEGIN USER NKEY SEED-----\n%s\n")),
		"an NKey":                     serve("--nats-url=nats://127.0.0.1:1", "--nats-nkey-file="+m.file("t", "SU%s")),
		"a bad NATS URL":              serve("--nats-url=nats://u:" + m.text("u") + "@h:port"),
		"NATS's key":                  serve("--nats-url=tls://127.0.0.1:1", "--nats-tls-cert="+cert.cert, "--nats-tls-key="+m.file("v", pem)),
		"the queue's credentials":     serve("--queue-stream=q", "--queue-url=nats://127.0.0.1:1", "--queue-credentials-file="+m.file("va", "-----BEGIN USER NKEY SEED-----\n%s\n")),
		"the queue's NKey":            serve("--queue-stream=q", "--queue-url=nats://127.0.0.1:1", "--queue-nkey-file="+m.file("vb", "SU%s")),
		"a bad URL of the queue":      serve("--queue-stream=q", "--queue-url=nats://u:"+m.text("vc")+"@h:port"),
		"the queue's key":             serve("--queue-stream=q", "--queue-url=tls://127.0.0.1:1", "--queue-tls-cert="+cert.cert, "--queue-tls-key="+m.file("vd", pem)),
		"the cluster's key":           serve("--nats-embedded", "--data-dir="+m.dir, "--cluster-name=c", "--cluster-tls-ca="+cert.cert, "--cluster-tls-cert="+cert.cert, "--cluster-tls-key="+m.file("w", pem)),
		"a subscription's secret":     serve("--subscription-token-hmac-secret-file=" + short("x")),
		"a subscription's previous":   serve("--subscription-token-hmac-previous-secret-file=" + m.file("y", "%s")),
		"a subscription's JWKS":       serve("--subscription-token-jwks-file=" + m.file("z", `{"keys":"%s"}`)),
		"a subscription's URL":        serve("--subscription-token-jwks-url=http://h.example/?" + m.text("aa")),
		"a token's flag":              {"bench", "idle", "--token=" + m.text("ab")},
		"a header":                    {"bench", "idle", "--url=ws://127.0.0.1:1", "--header=" + m.text("ac")},
		"a bench's tokens":            {"bench", "idle", "--url=ws://127.0.0.1:1", "--connections=1", "--token-file=" + m.file("ad", "%s\n"), "--token=" + m.text("ae")},

		"beside an unknown key":         configured("ba", "webhooks:\n  - name: a\n    endpont: x\n    http_static_headers: {A: %s}\n"),
		"beside a wrong type":           configured("bb", "webhooks:\n  - name: a\n    http_static_headers: {A: %s}\n    timeout: {}\n"),
		"in a wrong type":               configured("bc", "webhooks:\n  - name: a\n    http_static_headers: %s\n"),
		"beside what is no YAML":        configured("be", "webhooks:\n  - name: a\n    http_static_headers: {A: %s}\n  b: [\n"),
		"beside what stands twice":      configured("bf", "webhooks:\n  - name: a\n    http_static_headers: {A: %s}\ndev: true\ndev: true\n"),
		"a bad endpoint":                configured("bg", "webhooks:\n  - name: a\n    endpoint: http://u:%s@h:port/\n"),
		"an endpoint of no use":         configured("bh", "webhooks:\n  - name: a\n    endpoint: ftp://u:%s@h/\n"),
		"a header twice":                configured("bi", "webhooks:\n  - name: a\n    endpoint: http://h/\n    http_headers: [A]\n    http_static_headers: {A: %s}\n"),
		"a header with a line break":    configured("bj", "webhooks:\n  - name: a\n    endpoint: http://h/\n    http_static_headers: {A: \"%s\\n\"}\n"),
		"a key instead of a file":       configured("bl", "api_keys:\n  - name: a\n    key: %s\n"),
		"a key for a key's list":        configured("bm", "api_keys: %s\n"),
		"a file of keys with two lines": configured("bn", "api_keys:\n  - name: a\n    key_file: "+m.file("bo", "%s\nmore\n")+" # %s\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, stdout, stderr := runCommand(args...)
			m.absent(name, stdout+stderr)
			if last := args[len(args)-1]; strings.HasPrefix(last, "--config=") {
				_, stdout, stderr := runCommand("config", "check", last)
				m.absent(name+", checked", stdout+stderr)
				_, stdout, stderr = runCommand("config", "show", last)
				m.absent(name+", shown", stdout+stderr)
			}
		})
	}
}

// A report of the bench tool is shown to others; the command line in it, and the server's, are without secrets.
func TestReportsTellNoSecret(t *testing.T) {
	m := newMarked(t)
	hmacSecret := m.text("--token-hmac-secret-file")
	p, _ := startTelling(t, nil, "--echo", "--token-hmac-secret-file="+m.write("hmac", hmacSecret),
		"--token-jwks-url=http://127.0.0.1:1/?key="+m.text("--token-jwks-url"), "--api-key-file="+m.file("--api-key-file", "%s"))
	out, page := filepath.Join(m.dir, "out.json"), filepath.Join(m.dir, "out.html")
	command := exec.Command(os.Args[0], "bench", "echo", "--url=ws://user:"+m.text("a password")+"@"+p.public+"/echo?key="+url.QueryEscape(m.text("a query")),
		"--pid="+fmt.Sprint(p.command.Process.Pid), "--metrics=http://user:"+m.text("another password")+"@"+p.internal+"/metrics?api_key="+m.text("a key in a URL"),
		"--connections=2", "--duration=100ms", "--warmup=1ms", "--token="+m.text("a token"), "--header="+"Authorization: Bearer "+m.text("a header"), "--header", "Cookie: a="+m.text("a cookie"),
		"--out="+out, "--html="+page)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=tree")
	told, err := command.CombinedOutput()
	m.absent("the report", string(told))
	for _, path := range []string{out, page} {
		b, missing := os.ReadFile(path)
		if missing != nil {
			t.Fatalf("%v: %v: %s", missing, err, told)
		}
		m.absent(filepath.Base(path), string(b))
	}
	if b, _ := os.ReadFile(out); !bytes.Contains(b, []byte("token-hmac-secret-file")) {
		t.Errorf("the server's flags are not in the report: %s", b)
	}
}
