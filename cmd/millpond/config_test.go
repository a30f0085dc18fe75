package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// parsed is what serve gets from its arguments, without the name of the file.
func parsed(t *testing.T, args ...string) serveCommand {
	t.Helper()
	var c cli
	parser, err := newParser(&c, newDocument)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	c.Serve.Config, c.Serve.document = "", nil
	return c.Serve
}

// The file of all defaults says nothing else than no file, and nothing in it is refused.
func TestConfigDefault(t *testing.T) {
	code, text, stderr := runCommand("config", "default")
	if code != 0 || stderr != "" {
		t.Fatal(code, stderr)
	}
	path := filepath.Join(t.TempDir(), "default.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := parsed(t, "--config", path), parsed(t); !reflect.DeepEqual(got, want) {
		t.Errorf("with the file\n%+v\nwithout\n%+v", got, want)
	}
	d, err := newDocument(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	base, namespaces, err := loadChannels(d.values)
	if err != nil || !reflect.ValueOf(base).IsZero() || namespaces != nil {
		t.Errorf("channels %+v, %v, %v", base, namespaces, err)
	}
	var c cli
	parser, err := newParser(&c, newDocument)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settingsOf(parser.Model) {
		if n := strings.Count("\n"+text, "\n"+s.key+":"); n != 1 {
			t.Errorf("%s stands %d times in the file", s.key, n)
		}
		for _, f := range append([]setting{s}, s.fields...) {
			if !strings.HasSuffix(f.help, ".") || f.kind() == "" {
				t.Errorf("%s.%s: not said what it is: %q", s.key, f.key, f.help)
			}
		}
	}
}

func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "0123456789abcdef0123456789abcdef"
	private, open := write("private", secret, 0o600), write("open", secret, 0o644)
	for _, d := range []string{dir, filepath.Dir(dir)} { // else nobody could get to it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, file string
		env        []string
		code       int
		want       []string // all that is said, in order, without the path of the file
	}{
		{"good", "dev: true\nnamespaces:\n  - name: aa\n    history_size: 1\n    history_ttl: 1s\n", nil, 0, nil},
		{"all at once", `devv: true
max_channels: many
ping_interval: 5s
log_format: xml
namespaces:
  - name: orders
    histroy_size: 10
    presence: perhaps
tls_cert: [/nowhere]
max_presence: -3
dev: true
webhooks:
  - name: auth
    timeout: [1]
    http_status_to_code_transforms:
      - to_error: {cod: 1}
trusted_proxies: [10.0.0.1]
`, nil, 1, []string{
			"F:1:1: devv: unknown key devv, did you mean dev?",
			`F:2:15: max_channels: "many" is no integer`,
			`F:4:13: log_format: "xml" is not one of text, json`,
			"F:7:5: namespaces[0].histroy_size: unknown key histroy_size, did you mean history_size?",
			"F:8:15: namespaces[0].presence: perhaps is no boolean",
			"F:9:11: tls_cert: stat /nowhere: no such file or directory",
			"F:10:15: max_presence: -3 is not 0 to 2147483647",
			"F:14:14: webhooks[0].timeout: [1] is no duration",
			"F:16:20: webhooks[0].http_status_to_code_transforms[0].to_error.cod: unknown key cod, did you mean code?",
			`F:17:1: trusted_proxies: "10.0.0.1" is no network, such as 10.0.0.0/8 or 192.0.2.7/32`,
			"pong_timeout: 8s is not between 0 and ping-interval 5s",
		}},
		{"contradictions", "dev: true\nchannels:\n  history_size: 1\nnamespaces:\n  - name: aa\n  - name: bb\n    force_recovery: true\n", nil, 1, []string{
			"F:2:1: channels: ", "F:6:5: namespaces[1]: ",
		}},
		{"no YAML", "dev: [", nil, 1, []string{"F:1:6: "}},
		{"two documents", "dev: true\n---\ndev: false\n", nil, 1, []string{"F:3:4: a second document: "}},
		{"an end", "---\ndev: true\n...\n---\n# nothing\n", nil, 0, nil},
		{"not UTF-8", "dev: true\nnode_name: \"b\xff\"\n", nil, 1, []string{"F:2:14: it is not UTF-8"}},
		{"kinds", "dev: true\nlog_level: loud\nping_interval: 25\ndrain_rate: -1\ndrain_timeout: -1s\ntcp_user_timeout: 501h\ntcp_keepalive: 10h\nmax_presence: 2147483648\n", nil, 1, []string{
			`F:2:12: log_level: "loud" is no level: it is debug, info, warn or error`, `F:3:16: ping_interval: "25" is no duration, such as 300ms, 10s or 24h`, "F:4:13: drain_rate: -1 is not 0 or more",
			"F:5:16: drain_timeout: -1s is not 0 or more", "F:6:1: tcp_user_timeout: 501h0m0s is not between 0 and 500h", "F:7:1: tcp_keepalive: 10h0m0s is more than 9h", "F:8:15: max_presence: 2147483648 is not 0 to 2147483647",
		}},
		{"names", "dev: true\nnode_name: \"a\\0\"\nlisten: [':http', 'unix:/run/s', '127.0.0.1:65536']\ninternal_listen: 127.0.0.1\n", nil, 1, []string{
			"F:2:1: node_name: ", "F:3:1: listen: 127.0.0.1:65536: it is not HOST:PORT, :PORT or unix:PATH", "F:4:1: internal_listen: 127.0.0.1: it is not HOST:PORT",
		}},
		{"twice", "dev: true\ndev: false\n", nil, 1, []string{"F:2:1: "}},
		{"a list", "- 1\n", nil, 1, []string{"F:1:1: "}},
		{"variables", "dev: true\n", []string{"MILLPOND_LOOPSS=1", "MILLPOND_WORKERS=x", "MILLPOND_API_PORT_8000_TCP_ADDR=10.0.0.1", "MILLPOND_SERVICE_HOST=10.0.0.1", "MILLPOND_LOOPS=-1"}, 1, []string{
			"MILLPOND_LOOPSS: unknown variable, did you mean MILLPOND_LOOPS?", "MILLPOND_LOOPS: loops: ", `MILLPOND_WORKERS: workers: "x" is no integer`,
		}},
		{"a secret for all", "token_hmac_secret_file: " + open + "\n", nil, 0, []string{"warning: F:1:1: token_hmac_secret_file: anybody on this host may read "}},
		{"a secret", "token_hmac_secret_file: " + private + "\n", nil, 0, nil},
		{"a secret of a webhook for all", "dev: true\nwebhooks:\n  - name: aa\n    endpoint: http://127.0.0.1:1/\n    secret_file: " + open + "\n", nil, 0, []string{"warning: F:5:5: webhooks[0].secret_file: anybody on this host may read "}},
		{"a file that is a directory", "token_hmac_secret_file: " + dir + "\n", nil, 1, []string{"F:1:25: token_hmac_secret_file: "}},
		{"empty", "", nil, 1, []string{"token_hmac_secret_file: not given"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pair := range tt.env {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			path := write("config.yaml", tt.file, 0o600)
			code, stdout, stderr := runCommand("config", "check", "--config", path)
			lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(stdout, path, "F"), "\n"), "\n")
			if stdout == "" {
				lines = nil
			}
			ok := len(lines) == len(tt.want) && code == tt.code
			for i := 0; ok && i < len(lines); i++ {
				ok = strings.HasPrefix(lines[i], tt.want[i])
			}
			if !ok {
				t.Errorf("exit code %d\n%s\n%s\nwant %d\n%s", code, strings.Join(lines, "\n"), stderr, tt.code, strings.Join(tt.want, "\n"))
			}
			if strings.Contains(stdout+stderr, secret) {
				t.Error("the secret is in the output")
			}
			_, stdout, _ = runCommand("config", "check", "--json", "--config", path)
			var report struct {
				OK       bool
				Problems []problem
			}
			if err := json.Unmarshal([]byte(stdout), &report); err != nil || report.OK != (tt.code == 0) || len(report.Problems) != len(tt.want) {
				t.Errorf("JSON: %v\n%s", err, stdout)
			}
		})
	}
}

// What is in force is told with where it is from, and no secret in it.
func TestConfigShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	const text = `max_channels: 3
max_presence: 4
events_url: https://user:hunter2@backend.example/events?key=hunter2
nats_url: ["nats://user:hunter2@nats.example:4222"]
webhooks:
  - name: auth
    endpoint: https://user:hunter2@backend.example/
    http_static_headers: {Authorization: hunter2}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MILLPOND_MAX_CHANNELS", "5")
	t.Setenv("MILLPOND_MAX_RECOVERED", "6")
	code, stdout, stderr := runCommand("config", "show", "--config", path, "--max-recovered=7", "--drain-grace=3s")
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{
		`max_channels: "5" # environment`, `max_presence: "4" # file`, `max_recovered: "7" # flag`, `drain_grace: "3s" # flag`, `max_answer_bytes: "1048576" # default`,
		`listen: [":8000"] # default`, "# file", "backend.example/events",
	} {
		if !strings.Contains(stdout, want+"\n") && !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "hunter2") {
		t.Errorf("a secret in\n%s", stdout)
	}
	_, stdout, _ = runCommand("config", "show", "--config", path, "--json")
	var list []shown
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) < 100 || strings.Contains(stdout, "hunter2") {
		t.Errorf("JSON: %v, %d", err, len(list))
	}
	if first := fmt.Sprintln(list[0].Key, list[0].Value, list[0].Source); first != "listen [:8000] default\n" {
		t.Error(first)
	}
}
