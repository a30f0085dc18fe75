package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/internal/program"
	"github.com/millpond/millpond/internal/testcert"
)

// frontProxy is a program with its file in deploy/, in front of two servers.
type frontProxy struct {
	program string
	trust   string // the flag by which a server takes its word on clients' addresses
	file    string // in deploy/
	// edits are pairs of what is in the file and what is there in the test.
	edits func(e proxyPlaces) []string
	check []string // its arguments to check a file, and to run with it; FILE stands for its name
	run   []string
}

// proxyPlaces is what differs between a test and what is in deploy/.
type proxyPlaces struct {
	dir, port string // of the proxy; the socket that it inherits is descriptor 3
	cert, key string // the file of the certificate has its key, too
	a, b      *process
	silence   string
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

var frontProxies = []frontProxy{
	{
		program: "nginx", trust: "--trusted-proxies=127.0.0.1/32", file: "nginx/nginx.conf",
		edits: func(e proxyPlaces) []string {
			temporary := ""
			for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				temporary += fmt.Sprintf("%s_temp_path %s/%s;\n", what, e.dir, what)
			}
			return []string{
				"http {\n", "http {\n" + temporary,
				"pid /run/", "pid " + e.dir + "/",
				"/var/log/nginx/error.log", e.dir + "/error.log",
				"worker_rlimit_nofile 262144;", "worker_rlimit_nofile 1024;",
				"worker_connections 131072;", "worker_connections 512;",
				"listen 443 ssl;", "listen 127.0.0.1:" + e.port + " ssl;",
				"listen [::]:443 ssl;", "",
				"/etc/nginx/tls/push.example.com.pem", e.cert,
				"/etc/nginx/tls/push.example.com.key", e.key,
				"server 127.0.0.1:8000 ", "server " + e.a.public + " ",
				"server 127.0.0.1:8010 ", "server " + e.b.public + " ",
				"proxy_read_timeout 75s;", "proxy_read_timeout " + e.silence + ";",
			}
		},
		check: []string{"-e", "stderr", "-t", "-c", "FILE"},
		run:   []string{"-e", "stderr", "-c", "FILE", "-g", "daemon off;"},
	},
	{
		program: "haproxy", trust: "--proxy-protocol-from=127.0.0.1/32", file: "haproxy/haproxy.cfg",
		edits: func(e proxyPlaces) []string {
			return []string{
				"maxconn 100000\n", "maxconn 1000\n",
				"bind :443 ssl crt /etc/haproxy/push.example.com.pem", "bind fd@3 ssl crt " + e.cert,
				"bind [::]:443 v6only ssl crt /etc/haproxy/push.example.com.pem alpn http/1.1\n", "\n",
				"server a 127.0.0.1:8000 port 8001\n", "server a " + e.a.public + " port " + portOf(e.a.internal) + "\n",
				"server b 127.0.0.1:8010 port 8011\n", "server b " + e.b.public + " port " + portOf(e.b.internal) + "\n",
				"timeout tunnel 75s\n", "timeout tunnel " + e.silence + "\n",
			}
		},
		check: []string{"-c", "-f", "FILE"},
		run:   []string{"-db", "-f", "FILE"},
	},
}

// fronted is a proxy that runs.
type fronted struct {
	t       *testing.T
	address string
	client  *http.Client // from 127.0.0.77
	a, b    *process
	access  string // the servers' access log
	token   string
}

// start runs the proxy and its servers. What is silent for so long is cut off.
func (p *frontProxy) start(t *testing.T, silence string, args ...string) *fronted {
	path := program.Find(t, p.program)
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	f := &fronted{t: t, address: listener.Addr().String(), access: filepath.Join(t.TempDir(), "access")}
	secret := writeFile(t, "secret", []byte(tokenSecret))
	token, ok := tokenProcess(t, "", "--token-hmac-secret-file="+secret, "--user=ann", "--channels=news")
	if !ok {
		t.Fatal(token)
	}
	f.token = strings.TrimSpace(token)
	args = append([]string{p.trust, "--token-hmac-secret-file=" + secret, "--api-key-file=" + writeFile(t, "keys", []byte("the-key-of-a-test-0123456789")), "--access-log=" + f.access}, args...)
	f.a, f.b = startProcess(t, args...), startProcess(t, args...)

	authority := testcert.NewAuthority()
	cert, key := testcert.PEM(authority.Issue("push.example.com"))
	e := proxyPlaces{
		dir: t.TempDir(), port: portOf(f.address), a: f.a, b: f.b, silence: silence,
		cert: writeFile(t, "cert.pem", append(cert, key...)), key: writeFile(t, "key.pem", key),
	}
	b, err := os.ReadFile("../../deploy/" + p.file)
	if err != nil {
		t.Fatal(err)
	}
	text, edits := string(b), p.edits(e)
	for i := 0; i < len(edits); i += 2 {
		if strings.Count(text, edits[i]) != 1 {
			t.Fatalf("%s has %q %d times", p.file, edits[i], strings.Count(text, edits[i]))
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	file := filepath.Join(e.dir, "conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args []string) *exec.Cmd {
		command := exec.Command(path)
		for _, arg := range args {
			command.Args = append(command.Args, strings.ReplaceAll(arg, "FILE", file))
		}
		command.ExtraFiles = []*os.File{socket}
		command.Env = append(os.Environ(), "NGINX=3;") // nginx takes the socket with the address of listen
		return command
	}
	if out, err := command(p.check).CombinedOutput(); err != nil || strings.Contains(string(out), "[WARNING]") {
		t.Fatalf("%s does not like the file: %v\n%s", p.program, err, out)
	}
	running := command(p.run)
	var log lockedBuffer
	running.Stdout, running.Stderr = &log, &log
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	// os/exec has made the socket a blocking one, for all who have it; of nginx's workers, one that is late would wait in accept.
	if err := syscall.SetNonblock(int(socket.Fd()), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = running.Process.Signal(syscall.SIGTERM)
		_ = running.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", p.program, log.String())
		}
	})
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
	f.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: authority.Pool(), ServerName: "push.example.com"},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, f.address)
		},
	}}
	return f
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// connect returns a connection of the Centrifuge protocol in JSON that is subscribed to news.
func (f *fronted) connect(header http.Header) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://push.example.com/connection/websocket", &websocket.DialOptions{HTTPClient: f.client, HTTPHeader: header})
	if err != nil {
		return nil, err
	}
	answer, err := []byte(nil), c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"id":1,"connect":{"token":%q}}`, f.token))
	if err == nil {
		_, answer, err = c.Read(ctx)
	}
	if err == nil && !strings.Contains(string(answer), `"subs":{"news":`) {
		err = fmt.Errorf("answer %s", answer)
	}
	if err != nil {
		return nil, errors.Join(err, c.CloseNow())
	}
	return c, nil
}

// Clients connect with the Centrifuge protocol over TLS, and with their own address; nothing but what clients need is
// there; messages come; the origin is that of the page; and pings keep what is otherwise idle.
func TestFrontProxies(t *testing.T) {
	t.Parallel()
	for _, p := range frontProxies {
		t.Run(p.program, func(t *testing.T) {
			t.Parallel()
			f := p.start(t, "7s", "--ping-interval=4s", "--pong-timeout=3900ms", "--echo", "--playground") // the last two are not for who comes by the proxy
			c, err := f.connect(http.Header{
				"Origin": {"https://push.example.com"}, "X-Forwarded-For": {"203.0.113.9"}, "Forwarded": {"for=203.0.113.9"},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }()
			if _, err := f.connect(http.Header{"Origin": {"https://elsewhere.example"}}); err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("a page of elsewhere: %v", err)
			}
			for _, path := range []string{"/", "/echo", "/api/publish", "/metrics", "/healthz", "/push/../api/info", "/connection/websocket/x"} {
				response, err := f.client.Post("https://push.example.com"+path, "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusNotFound {
					t.Errorf("%s: %s", path, response.Status)
				}
			}
			var log []byte
			for deadline := time.Now().Add(time.Minute); !strings.Contains(string(log), "event=opened"); time.Sleep(10 * time.Millisecond) { // nothing announces it
				if log, _ = os.ReadFile(f.access); time.Now().After(deadline) {
					t.Fatalf("the access log is %q", log)
				}
			}
			if !strings.Contains(string(log), "address=127.0.0.77 ") || strings.Contains(string(log), "203.0.113.9") {
				t.Errorf("the client is 127.0.0.77: %s", log)
			}

			// Silent but for pings, for longer than the proxy waits.
			for pings := range 3 {
				_, b, err := c.Read(t.Context())
				if err != nil || string(b) != "{}" {
					t.Fatalf("after %d pings: %q, %v", pings, b, err)
				}
				if err := c.Write(t.Context(), websocket.MessageText, b); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range []*process{f.a, f.b} {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.internal+"/api/publish", strings.NewReader(`{"channel":"news","data":{"n":1}}`))
				r.Header.Set("X-API-Key", "the-key-of-a-test-0123456789")
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
			}
			for {
				_, b, err := c.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(b), `{"n":1}`) {
					break
				}
			}
		})
	}
}

// Without pings, the proxy ends what is idle: the timeouts that deploy/ has are in effect, and the pings of the test before are what keeps a connection.
func TestFrontProxiesEndSilence(t *testing.T) {
	t.Parallel()
	for _, p := range frontProxies {
		t.Run(p.program, func(t *testing.T) {
			t.Parallel()
			f := p.start(t, "1s", "--ping-interval=-1s")
			c, err := f.connect(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, b, err := c.Read(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// A server that drains closes its clients, and each of them finds the other one at its first attempt.
func TestFrontProxiesDrain(t *testing.T) {
	t.Parallel()
	for _, p := range frontProxies {
		t.Run(p.program, func(t *testing.T) {
			t.Parallel()
			f := p.start(t, "5m", "--drain-rate=100", "--drain-timeout=5m")
			const clients = 20
			var ready, away sync.WaitGroup
			var moved atomic.Int64
			leave, cancel := context.WithCancel(t.Context())
			defer cancel()
			ready.Add(clients)
			for range clients {
				away.Go(func() {
					c, err := f.connect(nil)
					ready.Done()
					for err == nil {
						var b []byte
						if _, b, err = c.Read(leave); err == nil { // a ping
							err = c.Write(leave, websocket.MessageText, b)
							continue
						}
						_ = c.CloseNow()
						if websocket.CloseStatus(err) == 3001 { // the server drains
							moved.Add(1)
							c, err = f.connect(nil)
						}
					}
					if leave.Err() == nil {
						t.Error(err)
					} else if c != nil {
						_ = c.CloseNow()
					}
				})
			}
			ready.Wait()
			if err := f.a.command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := f.a.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			f.b.awaitMetric(fmt.Sprintf("millpond_connections %d", clients))
			if n := moved.Load(); n < clients/4 {
				t.Errorf("%d of %d clients were on the server that drained", n, clients)
			}
			cancel()
			away.Wait()
		})
	}
}
