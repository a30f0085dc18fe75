package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/internal/testcert"
)

// ants has a pool of its own from the start, with two goroutines.
func TestMain(m *testing.M) {
	// Go's own poller takes two descriptors with the first socket.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	before := descriptors()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		for range 200 { // hang-ups of the last test's clients are still on their way
			if descriptors() <= before {
				os.Exit(code)
			}
			time.Sleep(10 * time.Millisecond)
		}
		println("descriptors left:", descriptors()-before)
		os.Exit(1)
	}))
}

func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// testServer is a server on loopback whose log the test may look at.
type testServer struct {
	*Server
	t    testing.TB
	addr string
	log  *syncBuffer

	mayPanic bool // the test makes a handler panic
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startServer(t testing.TB, c Config) *testServer {
	t.Helper()
	return startServerOn(t, SocketOptions{}, c)
}

func startServerOn(t testing.TB, o SocketOptions, c Config) *testServer {
	t.Helper()
	log := &syncBuffer{}
	if c.PingInterval == 0 {
		c.PingInterval = -1 // a ping would come between what other tests expect
	}
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	serve := (*Server).Serve
	if overTLS {
		serve = (*Server).ServeTLS
		setDefault(&c.TLS, &tls.Config{Certificates: []tls.Certificate{authority.Issue("test")}})
	}
	srv, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{Server: srv, t: t, addr: l.Addr().String(), log: log}
	served := make(chan error, 1)
	go func() { served <- serve(srv, l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
		if err := srv.ConsistencyCheck(); err != nil {
			t.Error(err)
		}
		if n := srv.Stats().Panics; n > 0 && !s.mayPanic {
			t.Errorf("%d panics: %s", n, log)
		}
	})
	return s
}

// echoHandler sends every message back, and tells how its sessions end.
type echoHandler struct{ closed chan Status }

func (echoHandler) OnOpen(*Session) {}

func (echoHandler) OnMessage(s *Session, op Opcode, payload []byte) { _ = s.SendMessage(op, payload) }

func (h echoHandler) OnClose(_ *Session, why Status) {
	if h.closed != nil {
		h.closed <- why
	}
}

// each runs a test with a handler on the loop and with one on the workers.
func each(t *testing.T, test func(t *testing.T, inline bool)) {
	t.Run("inline", func(t *testing.T) { test(t, true) })
	t.Run("pooled", func(t *testing.T) { test(t, false) })
}

func echoServer(t *testing.T, inline bool) (*testServer, chan Status) {
	closed := make(chan Status, 5000)
	return startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: inline, Handler: echoHandler{closed}}}}), closed
}

const openingHandshake = "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// overTLS has all tests run over TLS: see TestOverTLS.
var overTLS = os.Getenv("MILLPOND_TEST_TLS") != ""

// TestOverTLS runs all the other tests once more, over TLS.
func TestOverTLS(t *testing.T) {
	if overTLS || testing.Short() {
		t.Skip("it is run by itself")
	}
	again := exec.Command(os.Args[0], "-test.timeout=10m", "-test.short="+strconv.FormatBool(testing.Short()))
	again.Env = append(os.Environ(), "MILLPOND_TEST_TLS=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

var authority = testcert.NewAuthority()

// dial connects, over TLS if all tests do.
func (s *testServer) dial(d *net.Dialer) (net.Conn, error) {
	c, err := d.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return s.secure(c)
}

// secure begins TLS, if all tests do.
func (s *testServer) secure(c net.Conn) (net.Conn, error) {
	if !overTLS {
		return c, nil
	}
	secured := testcert.NewClient(c, &tls.Config{
		RootCAs: authority.Pool(), ServerName: "test", DynamicRecordSizingDisabled: true, // one write, one record
	})
	_ = c.SetDeadline(time.Now().Add(patience))
	return secured, secured.Handshake()
}

// tcp is the socket under c.
func tcp(c net.Conn) *net.TCPConn {
	if secured, ok := c.(*testcert.Client); ok {
		c = secured.Socket
	}
	return c.(*net.TCPConn)
}

func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// websocketURL is where coder/websocket finds a path, and dialOptions how.
func (s *testServer) websocketURL(path string) string {
	if overTLS {
		return "wss://" + s.addr + path
	}
	return "ws://" + s.addr + path
}

func dialOptions(o websocket.DialOptions) *websocket.DialOptions {
	o.HTTPClient = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), ServerName: "test"},
	}}
	return &o
}

// raw is a client by hand.
type raw struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

const patience = 20 * time.Second

func (s *testServer) connect() *raw {
	s.t.Helper()
	c, err := s.dial(&net.Dialer{})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	s.t.Cleanup(func() { _ = c.Close() })
	return newRaw(s.t, c)
}

func newRaw(t testing.TB, c net.Conn) *raw { return &raw{Conn: c, t: t, in: bufio.NewReader(c)} }

// open connects and upgrades.
func (s *testServer) open() *raw {
	s.t.Helper()
	c := s.connect()
	c.write([]byte(openingHandshake))
	c.response("101")
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// pour writes what does not fit into the kernel's buffers while the test goes on; the server
// may close before it has all.
func (c *raw) pour(b []byte) {
	go func() { _, _ = c.Write(b) }()
}

// response reads a response's header, and wants its status.
func (c *raw) response(status string) string {
	c.t.Helper()
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("response %q: %v", head.String(), err)
		}
		head.WriteString(line)
	}
	if !strings.HasPrefix(head.String(), "HTTP/1.1 "+status) {
		c.t.Fatalf("response %q, want %s", head.String(), status)
	}
	return head.String()
}

// next reads one frame.
func (c *raw) next() (Opcode, string) {
	c.t.Helper()
	op, payload, err := c.tryNext()
	if err != nil {
		c.t.Fatal(err)
	}
	return op, payload
}

func (c *raw) tryNext() (Opcode, string, error) {
	head, err := c.in.Peek(2)
	if err != nil {
		return 0, "", err
	}
	first, length, size := head[0], int(head[1]), 2
	switch length {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if head, err = c.in.Peek(size); err != nil {
		return 0, "", err
	}
	if size > 2 {
		length = 0
		for _, b := range head[2:] {
			length = length<<8 | int(b)
		}
	}
	_, _ = c.in.Discard(size)
	payload := make([]byte, length)
	_, err = io.ReadFull(c.in, payload)
	return Opcode(first & 15), string(payload), err
}

// expect wants frames, in order.
func (c *raw) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		op, payload := c.next()
		if got := op.String() + " " + payload; got != w {
			c.t.Fatalf("frame %.80q, want %.80q", got, w)
		}
	}
}

// expectClose wants a close frame, and then the end of the stream.
func (c *raw) expectClose(code CloseCode) {
	c.t.Helper()
	op, payload := c.next()
	if op != codec.OpClose {
		c.t.Fatalf("%v %q, want a close frame with %d", op, payload, code)
	}
	got := codec.StatusNoStatus
	if len(payload) >= 2 {
		got = CloseCode(payload[0])<<8 | CloseCode(payload[1])
	}
	if got != code {
		c.t.Fatalf("close code %d %q, want %d", got, payload, code)
	}
	c.expectEOF()
}

func (c *raw) expectEOF() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("after the end: %q, %v", rest, err)
	}
}

// masked is a frame as a client sends it.
func masked(op Opcode, fin bool, payload string) []byte {
	return codec.AppendMaskedFrame(nil, op, fin, []byte(payload), [4]byte{1, 2, 3, 4})
}

func text(payload string) []byte { return masked(OpText, true, payload) }

func closeFrame(code CloseCode, reason string) []byte {
	return masked(codec.OpClose, true, string(codec.AppendClosePayload(nil, code, reason)))
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually waits for something that another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
