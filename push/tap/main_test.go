package tap

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/internal/testcert"
	"github.com/millpond/millpond/session"
)

func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

const patience = 30 * time.Second

// bench is an engine, its taps, and what answers for them.
type bench struct {
	t      *testing.T
	engine *session.Server
	addr   string
	tls    *tls.Config // of clients; nil without TLS
	taps   *Taps
	http   *httptest.Server

	mu       sync.Mutex
	users    map[uint64]string
	channels map[string][]uint64
	acts     []Act
	caller   Caller
	err      error
}

func start(t *testing.T, l Limits, endpoints ...session.Endpoint) *bench {
	return startOn(t, "127.0.0.1:0", false, l, endpoints...)
}

func startOn(t *testing.T, address string, secured bool, l Limits, endpoints ...session.Endpoint) *bench {
	t.Helper()
	b := &bench{t: t, users: map[uint64]string{}, channels: map[string][]uint64{}, caller: Caller{Key: "test", Payload: true}}
	if endpoints == nil {
		endpoints = []session.Endpoint{{Path: "/echo", Handler: echo{}, Inline: true}}
	}
	config := session.Config{Endpoints: endpoints, PingInterval: -1, MaxMessageBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	serve := (*session.Server).Serve
	if secured {
		authority := testcert.NewAuthority()
		config.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue("test")}}
		b.tls = &tls.Config{RootCAs: authority.Pool(), ServerName: "test"}
		serve = (*session.Server).ServeTLS
	}
	var err error
	b.engine, err = session.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := session.Listen(address, session.SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.addr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- serve(b.engine, listener) }()
	b.taps, err = New(Config{
		Engine: func() *session.Server { return b.engine }, Connections: b, Limits: l,
		Caller: func(*http.Request) (Caller, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.caller, b.err
		},
		Audit: func(a Act) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.acts = append(b.acts, a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/tap", b.taps)
	mux.Handle("/playground/tap", b.taps.Inspector())
	b.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		b.taps.Stop()
		b.http.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.engine.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, session.ErrServerClosed) {
			t.Error(err)
		}
		if st := b.taps.Stats(); st.Captures != 0 || st.Inspectors != 0 || st.Connections != 0 {
			t.Errorf("left: %+v", st)
		}
	})
	return b
}

type echo struct{}

func (echo) OnOpen(*session.Session)                                   {}
func (echo) OnClose(*session.Session, session.Status)                  {}
func (echo) OnMessage(s *session.Session, op session.Opcode, b []byte) { _ = s.SendMessage(op, b) }

func (b *bench) byIDs(ids []uint64, find func(*session.Session) bool) {
	for _, id := range ids {
		if s := b.engine.Session(id); s != nil && !find(s) {
			return
		}
	}
}

func (b *bench) ByID(id string, find func(*session.Session) bool) {
	b.engine.Range(func(s *session.Session) {
		if connectionID(s.ID()) == id {
			find(s)
		}
	})
}

func (b *bench) ByUser(user string, find func(*session.Session) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []uint64
	for id, u := range b.users {
		if u == user {
			ids = append(ids, id)
		}
	}
	b.byIDs(ids, find)
}

func (b *bench) ByChannel(channel string, find func(*session.Session) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byIDs(b.channels[channel], find)
}

func (b *bench) All(find func(*session.Session) bool) {
	b.engine.Range(func(s *session.Session) { find(s) })
}

func (b *bench) Who(s *session.Session) Who {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Who{User: b.users[s.ID()]}
}

// wire is a client by hand.
type wire struct {
	net.Conn
	t       *testing.T
	in      *bufio.Reader
	session *session.Session
}

const openingHead = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// dial opens a connection; more are fields of the opening request.
func (b *bench) dial(target string, more ...string) *wire {
	b.t.Helper()
	network := "tcp"
	if strings.HasPrefix(b.addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.tls != nil {
		c = tls.Client(c, b.tls)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	b.t.Cleanup(func() { _ = c.Close() })
	w := &wire{Conn: c, t: b.t, in: bufio.NewReader(c)}
	before := map[uint64]bool{}
	b.engine.Range(func(s *session.Session) { before[s.ID()] = true })
	w.send([]byte("GET " + target + " HTTP/1.1\r\n" + openingHead + strings.Join(more, "") + "\r\n"))
	for line := ""; line != "\r\n"; {
		if line, err = w.in.ReadString('\n'); err != nil {
			b.t.Fatal(err)
		}
	}
	b.until("the session is open", func() bool {
		b.engine.Range(func(s *session.Session) {
			if !before[s.ID()] {
				w.session = s
			}
		})
		return w.session != nil
	})
	return w
}

func (w *wire) send(b ...[]byte) {
	w.t.Helper()
	if _, err := w.Write(slices.Concat(b...)); err != nil {
		w.t.Fatal(err)
	}
}

// next reads one frame of at most 65535 bytes.
func (w *wire) next() (codec.Opcode, []byte) {
	w.t.Helper()
	head, err := w.in.Peek(2)
	if err != nil {
		w.t.Fatal(err)
	}
	if head[1] == 126 {
		head, err = w.in.Peek(4)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	h := codec.ReadHeader(head)
	_, _ = w.in.Discard(len(head))
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(w.in, payload); err != nil {
		w.t.Fatal(err)
	}
	return h.Opcode, payload
}

func masked(op codec.Opcode, fin bool, payload string) []byte {
	return codec.AppendMaskedFrame(nil, op, fin, []byte(payload), [4]byte{0x37, 0xfa, 0x21, 0x3d})
}

func text(payload string) []byte { return masked(codec.OpText, true, payload) }

// deflater compresses a client's messages, by another implementation, with context takeover.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

func newDeflater() *deflater {
	d := &deflater{}
	d.w, _ = flate.NewWriter(&d.out, 6)
	return d
}

func (d *deflater) message(s string) string {
	d.out.Reset()
	_, _ = io.WriteString(d.w, s)
	_ = d.w.Flush()
	return strings.TrimSuffix(d.out.String(), "\x00\x00\xff\xff")
}

func compressed(frame []byte) []byte {
	frame[0] |= 0x40
	return frame
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatal("never: " + what)
		}
	}
}

// reader is a capture that runs.
type reader struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Reader
	got  []Line
}

// capture begins one, and waits for what it sends first.
func (b *bench) capture(query string) *reader {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	b.t.Cleanup(cancel)
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.http.URL+query, nil)
	response, err := b.http.Client().Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != 200 {
		text, _ := io.ReadAll(response.Body)
		b.t.Fatalf("%s: %s %s", query, response.Status, text)
	}
	r := &reader{t: b.t, body: response.Body, in: bufio.NewReader(response.Body)}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/x-ndjson") {
		r.until("tap", func(l Line) bool { return l.Type == "tap" })
	}
	return r
}

// until reads until a line is as wanted, and returns it.
func (r *reader) until(what string, ok func(l Line) bool) Line {
	r.t.Helper()
	for {
		b, err := r.in.ReadBytes('\n')
		if err != nil {
			r.t.Fatalf("%v before %s; got %s", err, what, r.words())
		}
		var l Line
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			r.t.Fatalf("%s: %v", b, err)
		}
		r.got = append(r.got, l)
		if ok(l) {
			return l
		}
	}
}

func (r *reader) frame(content string) Line {
	r.t.Helper()
	return r.until("frame "+content, func(l Line) bool { return l.Type == "frame" && l.Text != nil && *l.Text == content })
}

func (r *reader) words() string {
	b, _ := json.MarshalIndent(r.got, "", " ")
	return string(b)
}

// attached waits until so many connections are looked on at.
func (b *bench) attached(n int) {
	b.t.Helper()
	b.until("connections are attached", func() bool { return b.taps.Stats().Connections == n })
}
