package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/internal/testcert"
	"github.com/millpond/millpond/push/webhook/sign"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what must come, however busy the machine is.
const patience = 20 * time.Second

// serve starts a backend, and returns its URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// raw starts a server that hands f each connection, once something of a request has come.
func raw(t testing.TB, f func(c *net.TCPConn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 4096)); err == nil {
					f(c.(*net.TCPConn))
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return "http://" + l.Addr().String()
}

// dead returns the URL of a port that is taken, so that nobody else listens at it either.
func dead(t testing.TB) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + strconv.Itoa(address.(*unix.SockaddrInet4).Port)
}

// journal is a log.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// newClient returns one that has the time it needs, unless c says otherwise.
func newClient(t testing.TB, c Config) (*Client, *journal) {
	t.Helper()
	j := &journal{}
	c.Name, c.Logger = "test", slog.New(slog.NewTextHandler(j, nil))
	setDefault(&c.Timeout, patience)
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := client.Close(ctx); err != nil {
			t.Error(err)
		}
		if s := client.Stats(); s.Running != 0 || s.Waiting != 0 {
			t.Errorf("left: %d running, %d waiting", s.Running, s.Waiting)
		}
	})
	return client, j
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Every way in which a backend can behave has an outcome, and none of them shows the client's data, or what a URL has,
// in the log.
func TestOutcomes(t *testing.T) {
	short := 100 * time.Millisecond
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is noticed
		<-r.Context().Done()
	}
	for _, tt := range []struct {
		name    string
		backend func(t testing.TB) string
		config  Config
		event   Event
		want    Outcome
		heard   bool // the breaker learns of a backend that is there
	}{
		{"fast", func(t testing.TB) string { return serve(t, says(200, `{"result":{"user":"42"}}`)) }, Config{}, EventConnect, OutcomeOK, true},
		{"its own error", func(t testing.TB) string { return serve(t, says(200, `{"error":{"code":403,"message":"no"}}`)) }, Config{}, EventRPC, OutcomeError, true},
		{"its own disconnect", func(t testing.TB) string { return serve(t, says(200, `{"disconnect":{"code":4501,"reason":"no"}}`)) }, Config{}, EventRPC, OutcomeDisconnect, true},
		{"no result", func(t testing.TB) string { return serve(t, says(200, `{}`)) }, Config{}, EventSubscribe, OutcomeOK, true},
		{"slow", func(t testing.TB) string { return serve(t, hang) }, Config{Timeout: short}, EventConnect, OutcomeTimeout, false},
		{"slow trickle", func(t testing.TB) string {
			return serve(t, func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, " ")
					w.(http.Flusher).Flush()
				}
			})
		}, Config{Timeout: short, MaxResponseBytes: 1 << 30}, EventConnect, OutcomeTimeout, false},
		{"dead", dead, Config{}, EventConnect, OutcomeConnection, false},
		{"dead, for a publish", dead, Config{}, EventPublish, OutcomeConnection, false},
		{"reset", func(t testing.TB) string { return raw(t, func(c *net.TCPConn) { _ = c.SetLinger(0) }) }, Config{}, EventConnect, OutcomeConnection, false},
		{"no HTTP", func(t testing.TB) string {
			return raw(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n") })
		}, Config{}, EventConnect, OutcomeConnection, false},
		{"half an answer", func(t testing.TB) string {
			return raw(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") })
		}, Config{}, EventConnect, OutcomeConnection, false},
		{"endless headers", func(t testing.TB) string {
			return raw(t, func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n{}")
			})
		}, Config{}, EventConnect, OutcomeConnection, false},
		{"500", func(t testing.TB) string { return serve(t, says(500, `{"result":{"user":"42"}}`)) }, Config{}, EventConnect, OutcomeStatus, true},
		{"503", func(t testing.TB) string { return serve(t, says(503, ``)) }, Config{}, EventConnect, OutcomeStatus, false},
		{"204", func(t testing.TB) string { return serve(t, says(204, ``)) }, Config{}, EventConnect, OutcomeStatus, true},
		{"elsewhere", func(t testing.TB) string {
			other := serve(t, says(200, `{"result":{"user":"thief"}}`))
			return serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusTemporaryRedirect) })
		}, Config{}, EventConnect, OutcomeStatus, true},
		{"404 that is an error", func(t testing.TB) string { return serve(t, says(404, `<html>`)) }, Config{
			Transforms: []Transform{{Status: 403}, {Status: 404, ToError: &Refusal{Code: 404}}}[1:],
		}, EventConnect, OutcomeError, true},
		{"403 that is a disconnect", func(t testing.TB) string { return serve(t, says(403, `<html>`)) }, Config{
			Transforms: []Transform{{Status: 403, ToDisconnect: &Disconnect{Code: 4903}}},
		}, EventConnect, OutcomeDisconnect, true},
		{"not JSON", func(t testing.TB) string { return serve(t, says(200, `<html>`)) }, Config{}, EventConnect, OutcomeUnreadable, true},
		{"nothing", func(t testing.TB) string { return serve(t, says(200, ``)) }, Config{}, EventConnect, OutcomeUnreadable, true},
		{"too long", func(t testing.TB) string { return serve(t, says(200, `{"result":{}}`+strings.Repeat(" ", 100))) }, Config{MaxResponseBytes: 64}, EventRPC, OutcomeUnreadable, true},
		{"a bomb", func(t testing.TB) string {
			return serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("asked for compression")
				}
				_, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20))
			})
		}, Config{MaxResponseBytes: 1 << 10}, EventRPC, OutcomeUnreadable, true},
		{"data that is no JSON", func(t testing.TB) string { return serve(t, says(200, `{}`)) }, Config{}, "", OutcomePayload, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.config.Endpoint = tt.backend(t) + "/hidden-path"
			tt.config.BreakerFailures, tt.config.BreakerTimeout = 2, time.Hour
			c, log := newClient(t, tt.config)
			q := Question{Client: "c1", Payload: []byte(`"hidden-data"`), Meta: json.RawMessage(`{"hidden":1}`)}
			if tt.want == OutcomePayload {
				tt.event, q.Payload = EventRPC, []byte("hidden-data\xff")
			}
			for range 2 {
				_, err := c.Ask(t.Context(), tt.event, q, []Header{{"Cookie", "hidden-cookie"}}, nil)
				if got := outcomeOf(err); got != tt.want || (err == nil) != (tt.want == OutcomeOK) {
					t.Fatalf("%s: %v, want %s", got, err, tt.want)
				}
			}
			want := map[Outcome]uint64{tt.want: 2}
			if s := c.Stats(); !maps.Equal(s.Outcomes, want) || s.Durations.Count != 2 {
				t.Errorf("%v, want %v", s.Outcomes, want)
			} else if (s.Breaker == "closed") != tt.heard {
				t.Errorf("the breaker is %s", s.Breaker)
			}
			if strings.Contains(log.text(), "hidden") {
				t.Errorf("logged: %s", log.text())
			}
			mine := tt.want == OutcomeOK || tt.want == OutcomeError || tt.want == OutcomeDisconnect || tt.want == OutcomePayload
			if n := strings.Count(log.text(), "a question was not answered"); n != 1 && !mine || n != 0 && mine {
				t.Errorf("logged %d times, want once: %s", n, log.text())
			}
		})
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A question is sent again only if nothing of it was sent, and only where that does no harm.
func TestRetries(t *testing.T) {
	for _, tt := range []struct {
		event   Event
		retries int
		want    uint64
	}{
		{EventConnect, 0, 1},
		{EventConnect, 3, 3},
		{EventConnect, -1, 0},
		{EventRefresh, 0, 1},
		{EventSubscribe, 0, 1},
		{EventSubRefresh, 0, 1},
		{EventPublish, 3, 0},
		{EventRPC, 3, 0},
	} {
		c, _ := newClient(t, Config{Endpoint: dead(t), Retries: tt.retries})
		if _, err := c.Ask(t.Context(), tt.event, Question{}, nil, nil); !errors.Is(err, errConnection) {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Retries != tt.want {
			t.Errorf("%s: %d retries, want %d", tt.event, s.Retries, tt.want)
		}
		var heard atomic.Int64
		c, _ = newClient(t, Config{Endpoint: raw(t, func(c *net.TCPConn) {
			heard.Add(1)
			_ = c.SetLinger(0)
		}), Retries: tt.retries})
		if _, err := c.Ask(t.Context(), tt.event, Question{}, nil, nil); !errors.Is(err, errConnection) {
			t.Fatal(err)
		}
		if n := heard.Load(); n != 1 {
			t.Errorf("%s: heard %d times", tt.event, n)
		}
	}
}

// What is sent is what Centrifugo's backends know, with the headers that were asked for, signed.
func TestQuestion(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	full := Question{
		Client: "c1", Transport: "websocket", Protocol: "json", User: "42", Name: "js", Version: "5", Channels: []string{"a"}, Channel: "news:1",
		Method: "m", Payload: []byte(`{"a":"<1>"}`), Meta: json.RawMessage(`{"m":1}`),
	}
	connection := []Header{
		{"Cookie", "a=1"}, {"Cookie", "b=2"}, {"X-Real-Ip", "10.0.0.1"}, {"Authorization", "real"}, {"X-Bad", "a\nb"}, {"Content-Type", "text/html"}, {"X-Unwanted", "1"},
	}
	emulated := []Header{{"Authorization", "made up"}, {"X-App", "1"}, {"X-Real-Ip", "1.1.1.1"}, {"X-Key", "1"}}
	for _, tt := range []struct {
		name    string
		config  Config
		q       Question
		body    string
		headers http.Header
	}{
		{
			"as little as can be",
			Config{},
			Question{Client: "c1", Transport: "websocket", Protocol: "protobuf"},
			`{"client":"c1","transport":"websocket","protocol":"protobuf","encoding":"json"}`,
			http.Header{},
		},
		{
			"all",
			Config{
				IncludeConnectionMeta: true, HTTPHeaders: []string{"cookie", "X-Real-IP", "authorization", "X-Bad"},
				EmulatedHeaders: []string{"authorization", "x-app"}, StaticHeaders: map[string]string{"x-key": "k"},
			},
			full,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"42","name":"js","version":"5","channels":["a"],"channel":"news:1","method":"m","data":{"a":"\u003c1\u003e"},"meta":{"m":1}}`,
			http.Header{
				"Cookie": {"a=1", "b=2"}, "X-Real-Ip": {"10.0.0.1"}, "Authorization": {"real"}, "X-App": {"1"}, "X-Key": {"k"},
			},
		},
		{
			"emulated alone",
			Config{EmulatedHeaders: []string{"authorization", "x-real-ip"}},
			Question{},
			`{"client":"","transport":"","protocol":"","encoding":"json"}`,
			http.Header{"Authorization": {"made up"}, "X-Real-Ip": {"1.1.1.1"}},
		},
		{
			"binary",
			Config{BinaryEncoding: true},
			Question{Client: "c1", Transport: "websocket", Protocol: "protobuf", Payload: []byte("\xff\x00")},
			`{"client":"c1","transport":"websocket","protocol":"protobuf","encoding":"binary","b64data":"/wA="}`,
			http.Header{},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got *http.Request
			var body []byte
			tt.config.Endpoint = serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ = io.ReadAll(r.Body)
				got = r
				says(200, `{}`)(w, r)
			})
			tt.config.Secret = secret
			c, _ := newClient(t, tt.config)
			if _, err := c.Ask(t.Context(), EventRPC, tt.q, connection, emulated); err != nil {
				t.Fatal(err)
			}
			if string(body) != tt.body {
				t.Errorf("body\n%s, want\n%s", body, tt.body)
			}
			if got.Method != http.MethodPost || got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s of %s", got.Method, got.Header.Get("Content-Type"))
			}
			if err := sign.Verify(secret, got.Header.Get(sign.Header), body, time.Now(), time.Minute); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"User-Agent", "Content-Length", "Content-Type", sign.Header} {
				got.Header.Del(name)
			}
			if !maps.EqualFunc(got.Header, tt.headers, slices.Equal) {
				t.Errorf("headers %v, want %v", got.Header, tt.headers)
			}
		})
	}
}

// So many are asked at a time and so many wait; the next is told so at once. Those that waited are asked in order.
func TestBounds(t *testing.T) {
	release := make(chan struct{})
	var under, most atomic.Int64
	c, log := newClient(t, Config{MaxConcurrency: 2, MaxWaiting: 3, Endpoint: serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := under.Add(1)
		defer under.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		says(200, `{}`)(w, r)
	})})
	var done sync.WaitGroup
	ask := func() bool {
		done.Add(1)
		ok := c.Go(func(ctx context.Context, err error) {
			defer done.Done()
			if err == nil {
				_, err = c.Ask(ctx, EventRPC, Question{}, nil, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
		if !ok {
			done.Done()
		}
		return ok
	}
	for i := range 5 {
		if !ask() {
			t.Fatalf("number %d was refused", i+1)
		}
	}
	if ask() {
		t.Error("one too many was taken")
	}
	eventually(t, "two are under way", func() bool { return under.Load() == 2 })
	if s := c.Stats(); s.Running != 2 || s.Waiting != 3 || s.Outcomes[OutcomeOverloaded] != 1 {
		t.Errorf("%+v", s)
	}
	close(release)
	done.Wait()
	if s := c.Stats(); s.Outcomes[OutcomeOK] != 5 || s.Waiting != 0 || most.Load() != 2 {
		t.Errorf("%+v, %d at a time", s, most.Load())
	}
	if !strings.Contains(log.text(), "outcome=overloaded") {
		t.Errorf("log: %s", log.text())
	}
}

// What has waited too long is not asked any more.
func TestWaitedTooLong(t *testing.T) {
	var asked atomic.Int64
	c, _ := newClient(t, Config{MaxConcurrency: 1, Timeout: 50 * time.Millisecond, Endpoint: serve(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})})
	errs := make(chan error, 2)
	hold := make(chan struct{})
	c.Go(func(ctx context.Context, _ error) {
		_, err := c.Ask(ctx, EventRPC, Question{}, nil, nil)
		<-hold
		errs <- err
	})
	c.Go(func(_ context.Context, err error) { errs <- err })
	eventually(t, "the second has waited too long", func() bool { return c.Stats().Outcomes[OutcomeTimeout] == 1 })
	close(hold)
	if first, second := <-errs, <-errs; !errors.Is(first, ErrTimeout) || !errors.Is(second, ErrOverloaded) {
		t.Errorf("%v, %v", first, second)
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// A backend that comes and goes: after failures in a row nothing is asked, until one question finds it there again.
func TestFlapping(t *testing.T) {
	var up atomic.Bool
	var heard atomic.Int64
	c, log := newClient(t, Config{BreakerFailures: 3, BreakerTimeout: 200 * time.Millisecond, Endpoint: serve(t, func(w http.ResponseWriter, r *http.Request) {
		heard.Add(1)
		if !up.Load() {
			says(503, "")(w, r)
			return
		}
		says(200, `{}`)(w, r)
	})})
	ask := func() error {
		_, err := c.Ask(t.Context(), EventRPC, Question{}, nil, nil)
		return err
	}
	for round := range 3 {
		before := heard.Load()
		up.Store(false)
		eventually(t, "the breaker opens", func() bool { return errors.Is(ask(), ErrBreaker) })
		if n := heard.Load() - before; n != 3 {
			t.Errorf("round %d: %d questions were heard until it opened, want 3", round, n)
		}
		up.Store(true)
		eventually(t, "the breaker closes", func() bool { return ask() == nil })
		if s := c.Stats(); s.Breaker != "closed" {
			t.Errorf("the breaker is %s", s.Breaker)
		}
	}
	if !strings.Contains(log.text(), "from=half-open to=closed") {
		t.Errorf("log: %s", log.text())
	}
	never, _ := newClient(t, Config{BreakerFailures: -1, Endpoint: dead(t)})
	for range 20 {
		if _, err := never.Ask(t.Context(), EventRPC, Question{}, nil, nil); !errors.Is(err, errConnection) {
			t.Fatal(err)
		}
	}
}

// Close ends what is under way, and what waits is not asked.
func TestClose(t *testing.T) {
	c, _ := newClient(t, Config{MaxConcurrency: 1, Endpoint: serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})})
	errs := make(chan error, 2)
	for range 2 {
		c.Go(func(ctx context.Context, err error) {
			if err == nil {
				_, err = c.Ask(ctx, EventRPC, Question{}, nil, nil)
			}
			errs <- err
		})
	}
	eventually(t, "one is under way", func() bool { return c.Stats().Running == 1 })
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	if c.Go(func(context.Context, error) {}) {
		t.Error("a task after Close")
	}
}

// An https endpoint may have a certificate of an own authority, and want to see one.
func TestTLS(t *testing.T) {
	authority := testcert.NewAuthority()
	file := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "pem")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := httptest.NewUnstartedServer(says(200, `{}`))
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{authority.Issue("127.0.0.1")}, ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	certificate, key := testcert.PEM(authority.Issue("millpond"))
	ca, certFile, keyFile := file(authority.PEM()), file(certificate), file(key)
	for _, tt := range []struct {
		name   string
		config Config
		want   error
	}{
		{"both", Config{CAFile: ca, CertFile: certFile, KeyFile: keyFile}, nil},
		{"no certificate of ours", Config{CAFile: ca}, errConnection},
		{"an authority that nobody knows", Config{CertFile: certFile, KeyFile: keyFile}, errConnection},
	} {
		tt.config.Endpoint = s.URL
		c, _ := newClient(t, tt.config)
		if _, err := c.Ask(t.Context(), EventRPC, Question{}, nil, nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, c := range []Config{{CAFile: "missing"}, {CAFile: keyFile}, {CertFile: "missing", KeyFile: keyFile}} {
		c.Name, c.Endpoint = "test", s.URL
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Name: "auth", Endpoint: "https://backend.example.com/connect"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.Name = "a" }, "name:"},
		{func(c *Config) { c.Name = "a b" }, "name:"},
		{func(c *Config) { c.Endpoint = "" }, "endpoint:"},
		{func(c *Config) { c.Endpoint = "grpc://x:1" }, "endpoint:"},
		{func(c *Config) { c.Endpoint = "http://" }, "endpoint:"},
		{func(c *Config) { c.Endpoint = "http://u:p@x/" }, "endpoint:"},
		{func(c *Config) { c.Timeout = -1 }, "timeout:"},
		{func(c *Config) { c.BreakerTimeout = -1 }, "breaker_timeout:"},
		{func(c *Config) { c.MaxConcurrency = -1 }, "max_concurrency:"},
		{func(c *Config) { c.MaxWaiting = -1 }, "max_waiting:"},
		{func(c *Config) { c.MaxResponseBytes = -1 }, "max_response_bytes:"},
		{func(c *Config) { c.Secret = []byte("short") }, "secret_file:"},
		{func(c *Config) { c.CertFile = "x" }, "tls_cert_file"},
		{func(c *Config) { c.Endpoint, c.CAFile = "http://x", "x" }, "tls_ca_file"},
		{func(c *Config) { c.HTTPHeaders = []string{"Upgrade"} }, "http_headers: Upgrade"},
		{func(c *Config) { c.HTTPHeaders = []string{"sec-websocket-key"} }, "http_headers: Sec-Websocket-Key"},
		{func(c *Config) { c.HTTPHeaders = []string{"connection"} }, "http_headers: Connection"},
		{func(c *Config) { c.HTTPHeaders = []string{"content-length"} }, "http_headers: Content-Length"},
		{func(c *Config) { c.HTTPHeaders = []string{"x-millpond-signature"} }, "http_headers: X-Millpond-Signature"},
		{func(c *Config) { c.HTTPHeaders = []string{"a b"} }, "http_headers:"},
		{func(c *Config) { c.HTTPHeaders = []string{"A", "a"} }, "http_headers: A is there twice"},
		{func(c *Config) { c.EmulatedHeaders = []string{"host"} }, "emulated_headers: Host"},
		{func(c *Config) { c.StaticHeaders = map[string]string{"Te": "x"} }, "http_static_headers: Te"},
		{func(c *Config) { c.StaticHeaders = map[string]string{"X": "a\r\nb"} }, "http_static_headers: X"},
		{func(c *Config) { c.StaticHeaders, c.HTTPHeaders = map[string]string{"x-key": "k"}, []string{"X-Key"} }, "http_static_headers: x-key"},
		{func(c *Config) { c.Transforms = []Transform{{Status: 404}} }, "http_status_to_code_transforms: number 1"},
		{func(c *Config) { c.Transforms = []Transform{{Status: 200, ToError: &Refusal{Code: 400}}} }, "status_code: 200"},
		{func(c *Config) { c.Transforms = []Transform{{Status: 404, ToError: &Refusal{Code: 5}}} }, "error.code"},
		{func(c *Config) { c.Transforms = []Transform{{Status: 404, ToDisconnect: &Disconnect{Code: 5}}} }, "disconnect.code"},
	} {
		c := good
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New takes it", tt.want)
		}
	}
}
