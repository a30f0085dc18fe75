package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/internal/testcert"
)

// tlsFiles are a certificate's files, as a user has them.
type tlsFiles struct {
	t         *testing.T
	authority *testcert.Authority
	cert, key string
}

func newTLSFiles(t *testing.T, names ...string) *tlsFiles {
	dir := t.TempDir()
	f := &tlsFiles{t, testcert.NewAuthority(), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(f.authority.Issue(names...))
	return f
}

// write replaces the files, one after the other.
func (f *tlsFiles) write(c tls.Certificate) {
	f.t.Helper()
	cert, key := testcert.PEM(c)
	for path, b := range map[string][]byte{f.cert: cert, f.key: key} {
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			f.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			f.t.Fatal(err)
		}
	}
}

// client trusts the authority, and asks for the name.
func (f *tlsFiles) client(name string) *tls.Config {
	return &tls.Config{RootCAs: f.authority.Pool(), ServerName: name}
}

func echoOver(t *testing.T, url string, config *tls.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}})
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	text := strings.Repeat("over TLS ", 10_000)
	c.SetReadLimit(1 << 20)
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return err
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != text {
		return fmt.Errorf("%d bytes came back as %d: %w", len(text), len(b), err)
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// serial returns the serial number of the certificate in use.
func serial(t *testing.T, addr string, config *tls.Config) (string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// awaitMetric waits until the process's metrics have the line, or one that begins with it and goes on with a value.
func (p *process) awaitMetric(line string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // nothing announces it
		response, err := http.Get("http://" + p.internal + "/metrics")
		if err != nil {
			p.t.Fatal(err)
		}
		metrics, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if text := string(metrics); strings.Contains(text, line+"\n") || strings.Contains(text, line+" ") {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the metrics never have %s", line)
		}
	}
}

// wss and https on one port, plain on another; a certificate that is replaced is used at once, on change and by
// SIGHUP; one that does not fit its key changes nothing.
func TestServeTLS(t *testing.T) {
	files := newTLSFiles(t, "a.test")
	p := startProcess(t, "--dev", "--tls-cert", files.cert, "--tls-key", files.key, "--listen=plain:127.0.0.1:0")
	if err := echoOver(t, "wss://"+p.public+"/echo", files.client("a.test")); err != nil {
		t.Error(err)
	}
	if err := echoOver(t, "wss://"+p.public+"/echo", files.client("b.test")); err == nil {
		t.Error("a certificate for another name is good enough")
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: files.client("a.test")}}
	response, err := client.Get("https://" + p.public + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != 200 || !strings.Contains(string(page), "<html") {
		t.Errorf("%s: %.80s", response.Status, page)
	}
	client.CloseIdleConnections()

	first, err := serial(t, p.public, files.client("a.test"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(how string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // nothing announces it
			now, err := serial(t, p.public, files.client("a.test"))
			if err != nil {
				t.Fatal(err)
			}
			if now != first {
				first = now
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the old certificate is still in use", how)
			}
		}
	}
	files.write(files.authority.Issue("a.test"))
	changed("on change")

	if err := os.WriteFile(files.key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.awaitMetric(`millpond_tls_reloads_total{outcome="failed"} 1`) // on change
	_ = p.command.Process.Signal(syscall.SIGHUP)
	p.awaitMetric(`millpond_tls_reloads_total{outcome="failed"} 2`)
	if now, err := serial(t, p.public, files.client("a.test")); err != nil || now != first {
		t.Errorf("after a fault in the files: %s, %v", now, err)
	}
	files.write(files.authority.Issue("a.test"))
	_ = p.command.Process.Signal(syscall.SIGHUP)
	changed("by SIGHUP")

	// Plain HTTP where TLS is spoken is told so.
	response, err = http.Get("http://" + p.public + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != 400 {
		t.Errorf("plain HTTP: %s", response.Status)
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Clients without a certificate, with an expired one or one of another authority are turned away.
func TestServeTLSClientCertificates(t *testing.T) {
	files := newTLSFiles(t, "a.test")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, files.authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "--dev", "--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", ca)
	stranger := testcert.NewAuthority()
	for name, c := range map[string]struct {
		certificates []tls.Certificate
		ok           bool
	}{
		"none":                {nil, false},
		"good":                {[]tls.Certificate{files.authority.Issue("client")}, true},
		"expired":             {[]tls.Certificate{files.authority.IssueUntil(time.Now().Add(-time.Hour), "client")}, false},
		"another authority's": {[]tls.Certificate{stranger.Issue("client")}, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := files.client("a.test")
			config.MaxVersion = version
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(c.certificates) == 0 {
					return new(tls.Certificate), nil
				}
				return &c.certificates[0], nil
			}
			if err := echoOver(t, "wss://"+p.public+"/echo", config); (err == nil) != c.ok {
				t.Errorf("%s, %s: %v", name, tls.VersionName(version), err)
			}
		}
	}
	// A client may have its alert before the server has counted it.
	for _, want := range []string{
		`millpond_tls_handshakes_failed_total{reason="certificate"} 6`,
		`millpond_tls_handshakes_total{resumed="false",version="1.3"} 1`,
		`millpond_tls_handshakes_total{resumed="false",version="1.2"} 1`,
		`millpond_tls_certificate_expiry_timestamp_seconds{file="` + files.cert + `"}`,
	} {
		p.awaitMetric(want)
	}
}

// The next process takes port and tickets of the one before, which ends well.
func TestTakeoverOfAProcess(t *testing.T) {
	files := newTLSFiles(t, "a.test")
	path := filepath.Join(t.TempDir(), "s")
	args := []string{"--dev", "--tls-cert", files.cert, "--tls-key", files.key, "--takeover", path}
	first := startProcess(t, args...)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // it offers once it serves
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first process offers nothing")
		}
	}
	config := files.client("a.test")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumed := func() bool {
		t.Helper()
		c, err := tls.Dial("tcp", first.public, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil { // the ticket comes before the answer
			t.Fatal(err)
		}
		return c.ConnectionState().DidResume
	}
	if resumed() || !resumed() {
		t.Error("the first process does not resume")
	}
	second := startProcess(t, args...)
	if second.public != first.public || second.internal != first.internal {
		t.Errorf("the second process is at %s and %s, not %s and %s", second.public, second.internal, first.public, first.internal)
	}
	if code := first.wait(); code != 0 {
		t.Errorf("the first process ended with %d", code)
	}
	if !resumed() {
		t.Error("the second process does not resume what the first began")
	}
	if err := echoOver(t, "wss://"+first.public+"/echo", files.client("a.test")); err != nil {
		t.Error(err)
	}
}

// Sockets as systemd passes them: from number 3 on, for the process with that number.
func TestSystemdSockets(t *testing.T) {
	var files []*os.File
	var addresses []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files, addresses = append(files, f), append(addresses, l.Addr().String())
		_ = l.Close()
	}
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "serve", "--dev",
		"--listen="+addresses[1], "--internal-listen="+addresses[0])
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=1", "LISTEN_FDS=2")
	command.ExtraFiles = files
	p := startCommand(t, command)
	if err := echoOver(t, "ws://"+addresses[1]+"/echo", nil); err != nil {
		t.Error(err)
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// The sockets live on, with whoever opened them.
	if c, err := net.Dial("tcp", addresses[1]); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

// openssl, which is not written in Go, agrees on versions and ciphers, resumes, updates keys and renegotiates not.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	files := newTLSFiles(t, "a.test")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, files.authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "--dev", "--tls-cert", files.cert, "--tls-key", files.key)
	// client has openssl say input, and returns what it said, in lower case, once want is in it.
	client := func(input, want string, args ...string) string {
		args = append([]string{"s_client", "-connect", p.public, "-CAfile", ca, "-servername", "a.test", "-verify_return_error"}, args...)
		command := exec.Command(openssl, args...)
		var out transcript
		command.Stdout, command.Stderr = &out, &out
		in, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = command.Wait()
			close(ended)
		}()
		timer := time.AfterFunc(20*time.Second, func() { _ = command.Process.Kill() })
		defer timer.Stop()
		await := func(text string, times int) {
			for strings.Count(out.text(), text) < times {
				select {
				case <-ended:
					return
				case <-time.After(5 * time.Millisecond): // nothing announces it
				}
			}
		}
		updates := 0
		for line := range strings.Lines(input) {
			await("verify return code", 1) // it is connected
			_, _ = io.WriteString(in, line)
			if strings.EqualFold(line, "k\n") { // it takes a command only if it is all that one read brings
				updates++
				await("keyupdate", updates)
			}
		}
		await(want, 1)
		_ = in.Close()
		<-ended
		return out.text()
	}
	request := "GET /healthz HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name  string
		args  []string
		input string
		want  string
	}{
		{"TLS 1.3", []string{"-tls1_3", "-ign_eof"}, request, "http/1.1 404"},
		{"TLS 1.2", []string{"-tls1_2", "-ign_eof"}, request, "http/1.1 404"},
		{"TLS 1.1", []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, "", "alert"},
		{"a cipher with CBC", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA"}, "", "alert handshake failure"},
		{"ALPN", []string{"-alpn", "h2,http/1.1"}, "", "alpn protocol: http/1.1"},
		{"another protocol", []string{"-alpn", "h2"}, "", "no application protocol"},
		{"keys updated by the client", []string{"-tls1_3", "-crlf"}, "K\nk\nGET /healthz HTTP/1.1\nHost: a.test\n\n", "http/1.1 404"},
		{"renegotiation", []string{"-tls1_2"}, "R\n", "alert unexpected message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out := client(c.input, c.want, c.args...); !strings.Contains(out, c.want) {
				t.Errorf("no %q in\n%s", c.want, out)
			}
		})
	}
}

// transcript is what a process says, in lower case.
type transcript struct {
	mu   sync.Mutex
	said strings.Builder
}

// Write implements io.Writer.
func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.WriteString(strings.ToLower(string(b)))
}

func (s *transcript) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}
