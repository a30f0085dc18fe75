package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each flag and key of the file that names a file is given /dev/zero by mistake, which is told at once.
func TestFilesWithoutEnd(t *testing.T) {
	const endless = "/dev/zero"
	pair := newTLSFiles(t, "a.test")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	data := "--data-dir=" + t.TempDir()
	// What else has to be there for the file to be read.
	also := map[string][]string{
		"tls_cert": {"--tls-key=" + pair.key}, "tls_key": {"--tls-cert=" + pair.cert}, "tls_client_ca": {"--tls-cert=" + pair.cert, "--tls-key=" + pair.key},
		"tls_ticket_keys_file":     {"--tls-cert=" + pair.cert, "--tls-key=" + pair.key},
		"events_secret_file":       {"--events-url=http://127.0.0.1:1/"},
		"cluster_credentials_file": {"--nats-embedded", data}, "cluster_tls_ca": {"--nats-embedded", data},
		"cluster_tls_cert": {"--cluster-tls-key=" + pair.key}, "cluster_tls_key": {"--cluster-tls-cert=" + pair.cert},
		"token_hmac_previous_secret_file":              {"--token-hmac-secret-file=" + secret, "--token-hmac-previous-until=2099-01-01T00:00:00Z"},
		"subscription_token_hmac_previous_secret_file": {"--subscription-token-hmac-secret-file=" + secret, "--subscription-token-hmac-previous-until=2099-01-01T00:00:00Z"},
	}
	for _, link := range []string{"nats", "queue"} {
		url := []string{"--" + link + "-url=nats://127.0.0.1:1"}
		if link == "queue" {
			url = append(url, "--queue-stream=S", "--queue-consumer=C")
		}
		for _, name := range []string{"password_file", "token_file", "credentials_file", "nkey_file", "tls_ca"} {
			also[link+"_"+name] = url
		}
		also[link+"_tls_cert"] = append(slices.Clone(url), "--"+link+"-tls-key="+pair.key)
		also[link+"_tls_key"] = append(slices.Clone(url), "--"+link+"-tls-cert="+pair.cert)
	}
	refused := func(t *testing.T, args ...string) {
		t.Helper()
		args = append([]string{"serve", "--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--drain-grace=0s"}, args...)
		if code, _, stderr := runCommand(args...); code == 0 || !strings.Contains(stderr, endless+" has more than 1048576 bytes") {
			t.Errorf("exit code %d\n%s", code, stderr)
		}
	}
	for _, s := range knownSettings(t) {
		switch {
		case s.file(), s.key == "token_public_key_file", s.key == "subscription_token_public_key_file":
			t.Run(s.key, func(t *testing.T) { refused(t, append(also[s.key], "--"+s.flag.Name+"="+endless)...) })
		case s.fields != nil:
			for _, f := range s.fields {
				if !f.file() && f.key != headerFilesKey {
					continue
				}
				t.Run(s.key+"."+f.key, func(t *testing.T) {
					text := map[string]string{
						"api_keys": "- {name: a, ", "webhooks": "- {name: hook, endpoint: 'https://127.0.0.1:1/', ",
					}[s.key] + f.key + ": " + endless
					switch f.key {
					case "tls_cert_file":
						text += ", tls_key_file: " + pair.key
					case "tls_key_file":
						text += ", tls_cert_file: " + pair.cert
					case headerFilesKey:
						text = strings.Replace(text, endless, "{X-Key: "+endless+"}", 1)
					}
					path := filepath.Join(t.TempDir(), "c.yaml")
					if err := os.WriteFile(path, []byte(s.key+":\n"+text+"}\nconnect_webhook: \n"), 0o600); err != nil {
						t.Fatal(err)
					}
					refused(t, "--config="+path)
				})
			}
		}
	}
	code, _, stderr := runCommand("serve", "--config="+endless)
	if code == 0 || !strings.Contains(stderr, endless+" has more than 16777216 bytes") {
		t.Errorf("the file of settings: %d, %s", code, stderr)
	}
}

// Settings, secrets and certificates may come out of pipes, as a shell makes them of commands: each is read once.
func TestFilesFromPipes(t *testing.T) {
	pair := newTLSFiles(t, "a.test")
	const script = `exec "$0" serve --listen=127.0.0.1:0 --internal-listen=127.0.0.1:0 --drain-grace=0s \
		--config <(printf 'listen: ["127.0.0.1:0", "plain:127.0.0.1:0"]\nnamespaces: [{name: orders}]\n') \
		--token-hmac-secret-file <(printf ssssssssssssssssssssssssssssssss) --api-key-file <(echo key) --tls-cert <(cat "$1") --tls-key <(cat "$2")`
	command := exec.Command("bash", "-c", script, os.Args[0], pair.cert, pair.key)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=1")
	p := startCommand(t, command)
	for channel, want := range map[string]string{"orders:1": `"result":{`, "elsewhere:1": `"code":102`} {
		if got := p.ask("POST", "/api/publish", `{"channel":"`+channel+`","data":1}`, "X-API-Key", "key"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", channel, got)
		}
	}
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil { // for which there is nothing more to read
		t.Fatal(err)
	}
	p.awaitLog("settings are as they were", "can be read once")
	p.awaitLog("certificates not reloaded; the old ones stay in use", "can be read once")
	if got := p.ask("POST", "/api/publish", `{"channel":"orders:1","data":1}`, "X-API-Key", "key"); !strings.Contains(got, `"result":{`) {
		t.Errorf("after SIGHUP: %s", got)
	}
}

// A file of settings that becomes a pipe into which nobody writes yet keeps a reload waiting, and nothing else.
func TestReloadWaitsForAPipe(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil { // of a pipe it waits for the reader
			t.Fatal(err)
		}
	}
	write("dev: true\n")
	p := startProcess(t, "--config", config)
	for _, err := range []error{os.Remove(config), syscall.Mkfifo(config, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := p.ask("GET", "/readyz", ""); !strings.HasPrefix(got, "200") {
		t.Errorf("while it waits: %s", got)
	}
	write("dev: true\nmax_connections: 77\n")
	p.awaitMetric("millpond_connections_limit 77")
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// SIGHUP while a server starts is for when it has, and the end of who reads the log is no end of the server.
func TestSignalsThatEndNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	command := serveCommandLine("--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--drain-grace=0s", "--token-hmac-secret-file="+secret)
	command.Stderr = w
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	p := &process{t: t, command: command}
	t.Cleanup(func() { _ = command.Process.Kill() })
	pipe, err := os.OpenFile(secret, os.O_WRONLY, 0) // the server has opened it: it starts
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Remove(secret), os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600)} { // for the next time
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _ = pipe.WriteString(strings.Repeat("s", 32))
	_ = pipe.Close()
	internal := regexp.MustCompile(`listener=internal address=(\S+)`)
	for lines := bufio.NewScanner(r); p.internal == "" && lines.Scan(); {
		if m := internal.FindStringSubmatch(lines.Text()); m != nil {
			p.internal = m[1]
		}
	}
	if p.internal == "" {
		t.Fatal("it does not listen")
	}
	_ = r.Close()
	p.awaitMetric(`millpond_config_reloads_total{outcome="done"} 1`)
	if err := command.Process.Signal(syscall.SIGHUP); err != nil { // which is logged
		t.Fatal(err)
	}
	p.awaitMetric(`millpond_config_reloads_total{outcome="done"} 2`)
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Of secrets that others may read there is a warning at the start and at SIGHUP, wherever they are named.
func TestServeWarnsOfOpenSecrets(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // else nobody could get to it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		for _, err := range []error{os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	secret := strings.Repeat("s", 32)
	pair := newTLSFiles(t, "a.test")
	b, err := os.ReadFile(pair.key)
	if err != nil {
		t.Fatal(err)
	}
	config := file("c.yaml", fmt.Sprintf("events: [channel_occupied]\nevents_url: http://127.0.0.1:1/\nevents_secret_file: %s\ntls_cert: [%s]\ntls_key: [%s]\nwebhooks:\n- {name: hook, endpoint: 'http://127.0.0.1:1', http_static_header_files: {X-Key: %s}}\n",
		file("events", secret, 0o644), pair.cert, file("key", string(b), 0o644), file("header", "value", 0o604)), 0o644)
	p, log := startTelling(t, []string{"MILLPOND_API_KEY_FILE=" + file("api", "key", 0o644)}, "--config", config, "--token-hmac-secret-file", file("closed", secret, 0o640))
	warnings := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); strings.Count(log.String(), "a secret is open to others") != n; time.Sleep(10 * time.Millisecond) { // nothing announces it
			if time.Now().After(deadline) {
				t.Fatalf("not %d warnings:\n%s", n, log)
			}
		}
	}
	warnings(4)
	for _, want := range []string{
		config + ":3:1: events_secret_file: anybody on this host may read " + dir + "/events: chmod o-r " + dir + "/events", config + ":5:1: tls_key: ",
		config + ":7:75: webhooks[0].http_static_header_files.X-Key: ", "MILLPOND_API_KEY_FILE: api_key_file: ",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	file("api", "key", 0o600)
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	warnings(7)
}

// What is wrong is named by where it comes from.
func TestWordsOfFaults(t *testing.T) {
	command := serveCommandLine("--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0")
	command.Env = append(command.Env, "GOMEMLIMIT=1MiB")
	if b, err := command.CombinedOutput(); err == nil || !strings.HasPrefix(string(b), "millpond: GOMEMLIMIT: 1048576 bytes are less") || strings.Count(string(b), "\n") != 1 {
		t.Errorf("%s, %v", b, err)
	}
	if code, _, stderr := runCommand("serve", "--dev", "--config="); code == 0 || !strings.Contains(stderr, "config: it names no file") {
		t.Errorf("%d, %s", code, stderr)
	}
}
