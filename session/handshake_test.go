package session

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/handshake"
)

func TestOpeningHandshake(t *testing.T) {
	s, _ := echoServer(t, true)
	other := s.open()
	for _, tt := range []struct{ name, from, to, status, want string }{
		{"good", "", "", "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"wrong version", "Version: 13", "Version: 12", "426", "Sec-WebSocket-Version: 13"},
		{"no version", "Sec-WebSocket-Version: 13\r\n", "", "400", ""},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "400", ""},
		{"key of 15 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "MDEyMzQ1Njc4OTAxMjM0", "400", ""},
		{"no host", "Host: x\r\n", "", "400", ""},
		{"unknown path", "/echo", "/nowhere", "404", ""},
		{"POST", "GET", "POST", "405", "Allow: GET"},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", "505", ""},
		{"another origin", "Host: x", "Host: x\r\nOrigin: http://evil.example", "403", ""},
		{"garbage with a key", "GET /echo HTTP/1.1", "\x16\x03\x01", "400", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.connect()
			c.t = t
			c.write([]byte(strings.Replace(openingHandshake, tt.from, tt.to, 1)))
			if head := c.response(tt.status); !strings.Contains(head, tt.want) {
				t.Errorf("no %q in %q", tt.want, head)
			}
			if tt.status != "101" {
				_, _ = io.Copy(io.Discard, c.in) // the server closes
			}
		})
	}
	other.write(text("undisturbed"))
	other.expect("text undisturbed")
	if st := s.Stats(); st.Closed[ReasonHandshakeRefused] != 10 || st.Refusals[string(handshake.KindVersion)] != 2 {
		t.Errorf("counted: %v %v", st.Closed, st.Refusals)
	}
}

// The header may come in any pieces, and what follows it is the first frames.
func TestHeaderInPieces(t *testing.T) {
	s, _ := echoServer(t, true)
	all := append([]byte(openingHandshake), text("first")...)
	for cut := range all {
		c := s.connect()
		c.write(all[:cut])
		c.write(all[cut:])
		c.response("101")
		c.expect("text first")
		_ = c.Close()
	}
	c := s.connect()
	for i := range all {
		c.write(all[i : i+1])
	}
	c.response("101")
	c.expect("text first")
}

// Whatever a client pours in before the header's end, the server keeps no more than the limit.
func TestHeaderTooLarge(t *testing.T) {
	s, _ := echoServer(t, true)
	for name, tt := range map[string]struct{ begin, status string }{
		"URI without an end":    {"GET /", "414"},
		"header without an end": {"GET /echo HTTP/1.1\r\nX-Filler: ", "431"},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.connect()
			c.t = t
			c.write([]byte(tt.begin))
			c.pour(bytes.Repeat([]byte("a"), 50<<20))
			c.response(tt.status)
		})
	}
}

// A client that dribbles its header is answered and let go.
func TestHandshakeTimeout(t *testing.T) {
	s, _ := echoServer(t, true)
	s.stopTicking()
	silent, slow, done := s.connect(), s.connect(), s.open()
	slow.write([]byte("GET /echo HTTP/1.1\r\nHost"))
	eventually(t, "all are accepted", func() bool { return s.table.Len() == 3 })
	for range ticks(s.config.HandshakeTimeout) + 1 {
		s.tick()
	}
	silent.response("408")
	slow.response("408")
	done.write(text("x"))
	done.expect("text x")
	if n := s.Stats().Closed[ReasonHandshakeTimeout]; n != 2 {
		t.Errorf("%d timeouts counted, want 2", n)
	}
}

// One session too many is answered when its handshake has been read, so that no reset can overtake the answer.
func TestMaxConnections(t *testing.T) {
	s := startServer(t, Config{MaxConnections: 2, Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}}})
	s.open()
	second := s.open()
	seen := map[string]bool{}
	for i := range 40 {
		third := s.connect()
		third.write([]byte(openingHandshake))
		_, after, _ := strings.Cut(third.response("503"), "Retry-After: ")
		after, _, _ = strings.Cut(after, "\r\n")
		if n, err := strconv.Atoi(after); err != nil || n < 1 || n > maxRetryAfter {
			t.Errorf("Retry-After: %q", after)
		}
		seen[after] = true
		_ = third.Close()
		if n := s.Stats().RefusedFull; n != int64(i+1) {
			t.Errorf("%d counted as refused, want %d", n, i+1)
		}
	}
	if len(seen) < 2 {
		t.Errorf("all are to come again after %v", seen)
	}
	wrong := s.connect() // takes no place for good
	wrong.write([]byte(strings.Replace(openingHandshake, "13", "12", 1)))
	wrong.response("503")
	_ = wrong.Close()
	_ = second.Close()
	eventually(t, "there is room again", func() bool { return s.admitted.Load() == 1 })
	wrong = s.connect()
	wrong.write([]byte(strings.Replace(openingHandshake, "Version: 13", "Version: 12", 1)))
	wrong.response("426")
	third := s.open()
	third.write(text("in"))
	third.expect("text in")
}

// Connections that say nothing fill the handshakes' places, and no session's.
func TestMaxHandshakes(t *testing.T) {
	s := startServer(t, Config{MaxHandshakes: 3, Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}}})
	for range 5 {
		s.open()
	}
	var silent []*raw
	for range 3 {
		silent = append(silent, s.connect())
	}
	eventually(t, "the silent are in", func() bool { return s.Stats().Handshaking == 3 })
	if overTLS { // there is nobody yet to whom a 503 could be said
		if c, err := s.dial(&net.Dialer{}); err == nil {
			t.Error("a fourth was let in")
			_ = c.Close()
		}
	} else {
		s.connect().response("503")
	}
	if n := s.Stats().RefusedCrowd; n != 1 {
		t.Errorf("%d refused", n)
	}
	_ = silent[0].Close()
	eventually(t, "there is room again", func() bool { return s.Stats().Handshaking == 2 })
	s.open()
}

// A kept-alive connection becomes a WebSocket with many frames right behind its request: none is left lying in between.
func TestTakenBackWithFrames(t *testing.T) {
	const frames = 120 // one record with TLS
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: true, Handler: echoHandler{}}}})
	c := s.connect()
	c.write([]byte("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.response("404")
	readBody(t, c, len("404 page not found\n"))
	out := []byte(openingHandshake)
	for i := range frames {
		out = append(out, text(fmt.Sprintf("%d %0100d", i, 0))...)
	}
	c.write(out)
	c.response("101")
	for i := range frames {
		c.expect(fmt.Sprintf("text %d %0100d", i, 0))
	}
}

// Plain HTTP on the same port, with the bytes that were read already.
func TestPlainHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(body))
	})
	s := startServer(t, Config{HTTP: handler, MaxHTTPConns: 2, Endpoints: []Endpoint{{Path: "/echo", Inline: true, Handler: echoHandler{}}}})

	c := s.connect()
	post := "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
	c.write([]byte(post))
	c.response("200")
	if body := readBody(t, c, len("POST /a hello")); body != "POST /a hello" {
		t.Error(body)
	}

	// The same connection, kept alive, now becomes a WebSocket, as behind a proxy.
	c.write(append([]byte(openingHandshake), text("taken back")...))
	c.response("101")
	c.expect("text taken back")
	c.write(closeFrame(1000, ""))
	c.expectClose(1000)
	_ = c.Close()

	plain := s.connect()
	plain.write([]byte("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	if head := plain.response("426"); !strings.Contains(head, "Sec-Websocket-Version: 13") {
		t.Error(head)
	}

	first, second := s.connect(), s.connect()
	for _, c := range []*raw{first, second} {
		c.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		c.response("200")
	}
	third := s.connect()
	third.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	third.response("503")
	_ = first.Close()
	eventually(t, "there is room again", func() bool { return s.http.open.Load() == 1 })
}

func readBody(t *testing.T, c *raw, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAcceptAttachesData(t *testing.T) {
	got := make(chan any, 1)
	s := startServer(t, Config{Endpoints: []Endpoint{{
		Path: "/echo", Accept: func(r *Request) (any, error) {
			if r.Query().Get("ok") == "" {
				return nil, &Refusal{Status: http.StatusTeapot, Reason: "no"}
			}
			return r.Query().Get("ok"), nil
		},
		Handler: Funcs{Open: func(s *Session) { got <- s.Data() }},
	}}})
	c := s.connect()
	c.write([]byte(strings.Replace(openingHandshake, "/echo", "/echo?ok=yes", 1)))
	c.response("101")
	if v := receive(t, got); v != "yes" {
		t.Errorf("data %v", v)
	}
	c = s.connect()
	c.write([]byte(openingHandshake))
	c.response("418")
}

func TestConfigValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"pong-timeout":      {PingInterval: time.Second, PongTimeout: time.Second},
		"max-connections":   {MaxConnections: -1},
		"max-message-bytes": {MaxMessageBytes: -1},
		"no Handler":        {Endpoints: []Endpoint{{Path: "/"}}},
		"given twice":       {Endpoints: []Endpoint{{Path: "/", Handler: Funcs{}}, {Path: "/", Handler: Funcs{}}}},
		"outbox-bytes":      {OutboxBytes: -1},
		"workers":           {Workers: -1},
		"loops":             {Loops: -1},
		"max-header-bytes":  {MaxHeaderBytes: 1},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

// With little memory left, nobody new gets in, but plain HTTP is answered; with less, nobody is read. Those who are in stay.
func TestPressure(t *testing.T) {
	var level atomic.Int32
	s := startServer(t, Config{
		Pressure:  func() Pressure { return Pressure(level.Load()) },
		Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}},
	})
	first := s.open()
	level.Store(int32(PressureHigh))
	late := s.connect()
	late.write([]byte(openingHandshake))
	if head := late.response("503"); !strings.Contains(head, "Retry-After: ") {
		t.Errorf("no Retry-After in %q", head)
	}
	c := s.connect()
	c.write([]byte("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.response("404")
	if n := s.Stats().RefusedMemory; n != 1 {
		t.Errorf("%d refused", n)
	}
	level.Store(int32(PressureSevere))
	if overTLS { // there is nobody yet to whom a 503 could be said
		if c, err := s.dial(&net.Dialer{}); err == nil {
			t.Error("somebody was let in")
			_ = c.Close()
		}
	} else {
		s.connect().response("503")
	}
	if n := s.Stats().RefusedMemory; n != 2 {
		t.Errorf("%d refused", n)
	}
	first.write(text("still here"))
	first.expect("text still here")
	level.Store(int32(PressureNone))
	s.open()
}
