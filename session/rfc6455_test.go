package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/codec"
)

// byHand builds the frames of a client byte by byte, apart from the code under test.
type byHand struct{}

// mask is the masking key of all of them. No byte of it is zero.
var mask = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// frame is a masked frame with that first byte and the shortest form of its length.
func (byHand) frame(first byte, payload string) []byte {
	b := []byte{first, 0x80 | byte(len(payload))}
	switch n := len(payload); {
	case n > 0xFFFF:
		b[1] = 0x80 | 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	case n > 125:
		b[1] = 0x80 | 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func (c byHand) text(s string) []byte        { return c.frame(0x81, s) }
func (c byHand) binary(s string) []byte      { return c.frame(0x82, s) }
func (c byHand) firstText(s string) []byte   { return c.frame(0x01, s) }
func (c byHand) firstBinary(s string) []byte { return c.frame(0x02, s) }
func (c byHand) more(s string) []byte        { return c.frame(0x00, s) }
func (c byHand) last(s string) []byte        { return c.frame(0x80, s) }
func (c byHand) ping(s string) []byte        { return c.frame(0x89, s) }
func (c byHand) pong(s string) []byte        { return c.frame(0x8A, s) }

func (c byHand) close(code uint16, reason string) []byte {
	return c.frame(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// header is a masked header whose length takes 16 or 64 bits, whatever it is.
func (byHand) header(first byte, bits int, length uint64) []byte {
	b := []byte{first, 0x80 | 127}
	if bits == 16 {
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(length))
	} else {
		b = binary.BigEndian.AppendUint64(b, length)
	}
	return append(b, mask[:]...)
}

// unmasked is a frame without a mask, up to 125 bytes of payload.
func (byHand) unmasked(first byte, payload string) []byte {
	return append([]byte{first, byte(len(payload))}, payload...)
}

// fragments is a message in frames of size bytes each.
func (c byHand) fragments(first byte, message string, size int) []byte {
	var b []byte
	for ; len(message) > size; message = message[size:] {
		b = append(b, c.frame(first, message[:size])...)
		first = 0
	}
	return append(b, c.frame(0x80|first, message)...)
}

// wireFrame reads one frame of the server's and writes it as the table does: "text abc", "close 1000 bye". It wants
// of each what RFC 6455 wants of a server, and what this server promises: no fragments.
func wireFrame(in *bufio.Reader) (string, error) {
	first, err := in.ReadByte()
	if err != nil {
		return "", err // io.EOF is the end
	}
	second, err := in.ReadByte()
	if err != nil {
		return "", fmt.Errorf("half a header: %w", err)
	}
	if first&0xF0 != 0x80 || second&0x80 != 0 {
		return "", fmt.Errorf("header %x %x: fragmented, with reserved bits, or masked", first, second)
	}
	length, least := uint64(second), uint64(0)
	switch second {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(in, b[:])
		length, least = uint64(binary.BigEndian.Uint16(b[:])), 126
	case 127:
		var b [8]byte
		_, err = io.ReadFull(in, b[:])
		length, least = binary.BigEndian.Uint64(b[:]), 1<<16
	}
	if err != nil || length < least || length > 16<<20 {
		return "", fmt.Errorf("length %d in a field for %d and more: %w", length, least, err)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return "", fmt.Errorf("half a payload: %w", err)
	}
	return wireString(first&0x0F, payload)
}

func wireString(op byte, payload []byte) (string, error) {
	switch name := map[byte]string{1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}[op]; {
	case name == "" || (op >= 8 && len(payload) > 125) || (op == 8 && len(payload) == 1):
		return "", fmt.Errorf("opcode %x with %d bytes", op, len(payload))
	case op != 8:
		return name + " " + string(payload), nil
	case len(payload) == 0:
		return "close", nil
	}
	s := fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:])
	return strings.TrimSuffix(s, " "), nil
}

// wireServer has the endpoints of the table, and knows how the session of each run ended.
type wireServer struct {
	*testServer
	inline bool

	// Guarded by mu.
	mu     sync.Mutex
	ends   []chan Status
	faults map[string]int64
	closed map[Reason]int64

	// Any goroutine (atomic).
	unheard atomic.Int64 // messages that were handled after the handler had closed their session
}

// wireHandler echoes, and closes when it is told to.
type wireHandler struct{ srv *wireServer }

func (wireHandler) OnOpen(*Session) {}

func (h wireHandler) OnMessage(s *Session, op Opcode, payload []byte) {
	if why := s.status.Load(); why != nil && why.Reason == ReasonServerClose {
		h.srv.unheard.Add(1)
	}
	switch string(payload) {
	case "close!":
		s.Close(4000, "go away")
	case "panic!":
		panic("oops")
	default:
		_ = s.SendMessage(op, payload)
	}
}

func (h wireHandler) OnClose(s *Session, why Status) {
	run, err := strconv.Atoi(s.Data().(string))
	if err != nil {
		return // of no run
	}
	h.srv.mu.Lock()
	defer h.srv.mu.Unlock()
	h.srv.ends[run] <- why
}

func startWireServer(t *testing.T, inline bool, closeTimeout time.Duration) *wireServer {
	w := &wireServer{inline: inline, faults: map[string]int64{}, closed: map[Reason]int64{}}
	config := Config{PingInterval: -1, CloseTimeout: closeTimeout}
	for path, limit := range map[string]int{"/echo": 1 << 20, "/default": 0, "/1000": 1000, "/1": 1} {
		config.Endpoints = append(config.Endpoints, Endpoint{
			Path: path, Handler: wireHandler{w}, Inline: inline, PauseOnBacklog: true, MaxMessageBytes: limit,
			Accept: func(r *Request) (any, error) { return r.RawQuery, nil },
		})
	}
	w.testServer = startServer(t, config)
	return w
}

// wireClient is one run of a wireCase.
type wireClient struct {
	net.Conn
	in    *bufio.Reader
	srv   *wireServer
	want  wireCase
	ended chan Status
}

// dial connects and returns the request that opens the session.
func (w *wireServer) dial(c wireCase) (*wireClient, []byte, error) {
	conn, err := w.testServer.dial(&net.Dialer{}) // with TCP_NODELAY
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	client := &wireClient{Conn: conn, in: bufio.NewReader(conn), srv: w, want: c, ended: make(chan Status, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	run := len(w.ends)
	w.ends = append(w.ends, client.ended)
	w.closed[c.why.Reason]++
	if c.fault != "" {
		w.faults[c.fault]++
	}
	return client, []byte(strings.Replace(openingHandshake, "/echo", fmt.Sprintf("%s?%d", c.path, run), 1)), nil
}

// upgraded reads the answer to the request.
func (c *wireClient) upgraded() error {
	for line := range 20 {
		b, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("response: %w", err)
		case line == 0 && !strings.HasPrefix(b, "HTTP/1.1 101 "):
			return fmt.Errorf("response %q", b)
		case b == "\r\n":
			return nil
		}
	}
	return errors.New("response without an end")
}

// write sends b. The server never stops reading for good, so it always succeeds.
func (c *wireClient) write(b []byte) error {
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("after %d bytes: %w", len(b), err)
	}
	return nil
}

// end sends the last bytes, and the end of the client's side where that is wanted.
func (c *wireClient) end(b []byte) error {
	if err := c.write(b); err != nil || !c.want.halfClose {
		return err
	}
	return closeWrite(c.Conn)
}

// finish reads all that comes back, up to the server's end of the stream, and compares. written tells that the client
// has sent all.
func (c *wireClient) finish(written <-chan error) error {
	var got []string
	for {
		frame, err := wireFrame(c.in)
		if errors.Is(err, io.EOF) && frame == "" {
			break
		}
		if err != nil {
			return fmt.Errorf("after %.200q: %w", got, err)
		}
		got = append(got, frame)
	}
	if want := c.want.want; !slices.Equal(c.inOrder(got), c.inOrder(want)) {
		return fmt.Errorf("came %.400q\nwant %.400q", got, want)
	}
	if err := errors.Join(<-written, c.stillRead()); err != nil {
		return err
	}
	_ = c.Close()
	return c.checkEnd()
}

// inOrder puts pongs first when workers run the handlers: the reader answers pings at once. Nothing follows a close
// frame in any case.
func (c *wireClient) inOrder(frames []string) []string {
	if c.srv.inline || len(frames) == 0 {
		return frames
	}
	isPong := func(s string) bool { return strings.HasPrefix(s, "pong ") }
	sorted := slices.Clone(frames)
	slices.SortStableFunc(sorted[:len(sorted)-1], func(a, b string) int {
		switch {
		case isPong(a) == isPong(b):
			return 0
		case isPong(a):
			return -1
		}
		return 1
	})
	return sorted
}

// stillRead wants that the server has ended its side of the stream alone: a socket that was closed would answer what
// still comes with a reset, and on loopback has done so when Write returns.
func (c *wireClient) stillRead() error {
	if c.want.halfClose {
		return nil
	}
	if err := c.write([]byte("late")); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %d bytes, %v", n, err)
	}
	return nil
}

// checkEnd compares what OnClose was told.
func (c *wireClient) checkEnd() error {
	var got Status
	select {
	case got = <-c.ended:
	case <-time.After(patience):
		return errors.New("OnClose was not called")
	}
	fault := ""
	if f, ok := got.Err.(*codec.Fault); ok {
		fault = f.Kind.String()
	}
	want := c.want.why
	if got.Reason != want.Reason || got.Code != want.Code || got.Text != want.Text {
		return fmt.Errorf("ended with %+v, want %+v", got, want)
	}
	if want.Reason != ReasonServerClose && fault != c.want.fault {
		return fmt.Errorf("ended with fault %q, want %q", fault, c.want.fault)
	}
	return nil
}

// run has one conversation. The stream comes in one segment with the opening handshake, if at is -1; else in two parts,
// the second when the first was read: that comes behind a ping, in one segment with it and the opening handshake, and
// the pong is waited for.
func (w *wireServer) run(c wireCase, stream []byte, at int) error {
	client, request, err := w.dial(c)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	first, second := slices.Concat(request, stream), []byte(nil)
	if at >= 0 {
		first, second = slices.Concat(request, byHand{}.ping("read"), stream[:at]), stream[at:]
	}
	read := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(read) })
	defer goOn()
	written := make(chan error, 1)
	go func() {
		err := client.write(first)
		<-read
		written <- errors.Join(err, client.end(second))
	}()
	if err := client.upgraded(); err != nil {
		return err
	}
	if at >= 0 {
		if pong, err := wireFrame(client.in); err != nil || pong != "pong read" {
			return fmt.Errorf("%.80q, %v instead of the first pong", pong, err)
		}
	}
	goOn()
	return client.finish(written)
}

// cuts are the places at which a conversation is split: each up to the byte that decides it, or, if it is long, those
// near its ends and some between; and one in what comes after.
func (c wireCase) cuts() (at []int) {
	n := len(c.send)
	for i := range n {
		near := n <= 20 || (n < 4096 && (i < 14 || i >= n-3 || i%150 == 0))
		if near && !c.fragmented || i == n/2 || (n < 1<<17 && (i == 1 || i == n-1)) {
			at = append(at, i)
		}
	}
	if len(c.late) > 0 {
		at = append(at, n, n+len(c.late)/2)
	}
	return at
}

// byteByByte has all conversations at once, in step: one byte of each, and the next when the server has read all of
// them, so that each byte is a read of its own.
func (w *wireServer) byteByByte(t *testing.T, list []wireCase) {
	clients := make([]*wireClient, len(list))
	longest := 0
	for i, c := range list {
		client, request, err := w.dial(c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		if err := errors.Join(client.write(request), client.upgraded()); err != nil {
			t.Fatal(err)
		}
		clients[i] = client
		longest = max(longest, len(c.stream()))
	}
	sent := w.poller.Stats().BytesRead // what one byte more than that tells is that it was read
	for i := range longest {
		for k, c := range list {
			if b := c.stream(); i < len(b) {
				if err := clients[k].write(b[i : i+1]); err != nil {
					t.Fatalf("%s: byte %d: %v", c.name, i, err)
				}
				sent++
			}
		}
		w.awaitRead(t, sent)
	}
	for k, c := range list {
		written := make(chan error, 1)
		written <- clients[k].end(nil)
		if err := clients[k].finish(written); err != nil {
			t.Errorf("%s, byte by byte: %v", c.name, err)
		}
	}
}

// awaitRead waits until the server has read that many bytes.
func (s *testServer) awaitRead(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.poller.Stats().BytesRead < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes were read", s.poller.Stats().BytesRead, n)
		}
	}
}

// Every conversation of the table, whole, cut and byte by byte, is answered in the same way.
func TestRFC6455(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		w := startWireServer(t, inline, time.Hour)
		runs := make(chan func(), 64)
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for run := range runs {
					run()
				}
			})
		}
		var short []wireCase
		for _, c := range wireCases {
			if c.inline && !inline {
				continue
			}
			stream := c.stream()
			run := func(stream []byte, at int) {
				runs <- func() {
					if t.Failed() {
						return // one is enough, and may have taken all our patience
					}
					if err := w.run(c, stream, at); err != nil {
						t.Errorf("%s, cut at %d: %v", c.name, at, err)
					}
				}
			}
			run(stream, -1)
			run(c.send, -1) // what is left does not matter, so that it needs not come
			for _, at := range c.cuts() {
				run(stream, at)
			}
			if len(stream) <= 1000 {
				short = append(short, c)
			}
		}
		close(runs)
		workers.Wait()
		if t.Failed() {
			return
		}
		for list := range slices.Chunk(short, 200) {
			w.byteByByte(t, list)
		}
		w.checkStats(t)
	})
}

// checkStats wants each fault and each end counted once, under its own name.
func (w *wireServer) checkStats(t *testing.T) {
	stats := w.Stats()
	for name, got := range stats.Faults {
		if got != w.faults[name] {
			t.Errorf("%d faults %s counted, want %d", got, name, w.faults[name])
		}
	}
	for reason, got := range stats.Closed {
		if got != w.closed[reason] {
			t.Errorf("%d sessions ended by %v counted, want %d", got, reason, w.closed[reason])
		}
	}
	if n := w.unheard.Load(); n != 0 {
		t.Errorf("%d messages handled after Close", n)
	}
	if int(stats.Opened) != len(w.ends) || stats.CloseTimeouts != 0 {
		t.Errorf("%d opened, want %d; %d close timeouts", stats.Opened, len(w.ends), stats.CloseTimeouts)
	}
}

// The server that has begun the closing handshake waits for the client's answer, also when that lets it wait, and
// ends its side of TCP when it is there, not earlier. RFC 6455 §5.5.1 and §7.1.1.
func TestServerAwaitsTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s := startWireServer(t, inline, time.Hour)
		for _, answer := range [][]byte{
			byHand{}.close(4000, "go away"), byHand{}.close(1000, ""), byHand{}.frame(0x88, ""),
			byHand{}.close(1005, ""), byHand{}.unmasked(0x88, ""),
			{0x83},
			byHand{}.text("\xFF"),
		} {
			c := s.open()
			c.write(append(byHand{}.text("close!"), byHand{}.text("not handled")...))
			c.expect("close \x0f\xa0go away")
			read := s.poller.Stats().BytesRead
			late := slices.Concat(byHand{}.ping("no answer"), byHand{}.text("no echo"))
			c.write(late)
			s.awaitRead(t, read+int64(len(late)))
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // an end would be here already
			if _, err := c.in.ReadByte(); err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("before the answer: %v", err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			c.write(answer)
			c.expectEOF()
			c.write([]byte("late"))
			c.expectEOF()
			_ = c.Close()
		}
		eventually(t, "all are gone", func() bool { return s.table.Len() == 0 })
		if n := s.Stats().Closed[ReasonServerClose]; n != 7 {
			t.Errorf("%d sessions ended by the server", n)
		}
		if n := s.unheard.Load(); n != 0 {
			t.Errorf("%d messages handled after Close", n)
		}
	})
}

// Whoever began to close and for whatever reason, a client that then neither answers nor closes TCP is let go after a
// deadline.
func TestNobodyIsAwaitedForEver(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		for _, tt := range []struct {
			name string
			send []byte
			why  Reason
		}{
			{"server closes", byHand{}.text("close!"), ReasonServerClose},
			{"client closes", byHand{}.close(1000, ""), ReasonClientClose},
			{"fault", []byte{0x83}, ReasonProtocolError},
			{"panic", byHand{}.text("panic!"), ReasonHandlerPanic},
			{"refusal", nil, ReasonHandshakeRefused},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := startWireServer(t, inline, 3*tickInterval)
				s.stopTicking()
				s.mayPanic = true
				c := s.connect()
				if tt.send == nil {
					c.write([]byte(strings.Replace(openingHandshake, "/echo", "/nowhere", 1)))
				} else {
					c.write(append([]byte(openingHandshake), tt.send...))
				}
				eventually(t, "the deadline is set", func() bool {
					s.closings.mu.Lock()
					defer s.closings.mu.Unlock()
					return len(s.closings.entries) > 0
				})
				for range s.closeTicks {
					s.tick()
				}
				eventually(t, "the session is gone", func() bool { return s.table.Len() == 0 })
				if stats := s.Stats(); stats.CloseTimeouts != 1 || stats.Closed[tt.why] != 1 {
					t.Errorf("%d close timeouts, ended: %v", stats.CloseTimeouts, stats.Closed)
				}
			})
		}
	})
}

// The header of an opening handshake may come in any two segments. The second is sent when the first was read.
func TestHandshakeCut(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, _ := echoServer(t, inline)
		all := slices.Concat([]byte(openingHandshake), byHand{}.text("first"), byHand{}.ping("second"))
		for at := 1; at < len(all); at++ {
			c := s.connect()
			read := s.poller.Stats().BytesRead
			c.write(all[:at])
			s.awaitRead(t, read+int64(at))
			c.write(all[at:])
			checkUpgraded(t, c)
			got := make([]string, 2)
			for i := range got {
				var err error
				if got[i], err = wireFrame(c.in); err != nil {
					t.Fatalf("cut at %d: %v", at, err)
				}
			}
			if slices.Sort(got); got[0] != "pong second" || got[1] != "text first" {
				t.Fatalf("cut at %d: %q", at, got)
			}
			_ = c.Close()
		}
	})
}

// checkUpgraded wants the answer of RFC 6455 §4.2.2 to a client that offers nothing.
func checkUpgraded(t *testing.T, c *raw) {
	t.Helper()
	head := c.response("101")
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		"Sec-WebSocket-Extensions": "", "Sec-WebSocket-Protocol": "",
	} {
		if got := strings.Join(r.Header.Values(name), "|"); got != want {
			t.Fatalf("%s: %q, want %q", name, got, want)
		}
	}
}

// A refusal gets through whole, with the end of the stream behind it and no reset, also when frames came with the
// request, and however the request was cut.
func TestRefusalsOnTheWire(t *testing.T) {
	s, _ := echoServer(t, true)
	key := "dGhlIHNhbXBsZSBub25jZQ=="
	for _, tt := range []struct {
		name, from, to string
		status         int
		field, value   string
	}{
		{"method", "GET", "POST", 405, "Allow", "GET"},
		{"request line", "/echo", "/e cho", 400, "", ""},
		{"HTTP version", "HTTP/1.1", "HTTP/1.0", 505, "", ""},
		{"host missing", "Host: x\r\n", "", 400, "", ""},
		{"host twice", "Host: x\r\n", "Host: x\r\nHost: x\r\n", 400, "", ""},
		{"upgrade missing", "Upgrade: websocket\r\n", "", 426, "Upgrade", "websocket"},
		{"upgrade to something else", "Upgrade: websocket", "Upgrade: h2c", 400, "", ""},
		{"connection missing", "Connection: Upgrade\r\n", "", 400, "", ""},
		{"key missing", "Sec-WebSocket-Key: " + key + "\r\n", "", 400, "", ""},
		{"key of 15 bytes", key, "MDEyMzQ1Njc4OTAxMjM0", 400, "", ""},
		{"version missing", "Sec-WebSocket-Version: 13\r\n", "", 400, "Sec-Websocket-Version", "13"},
		{"version 14", "Version: 13", "Version: 14", 426, "Sec-Websocket-Version", "13"},
		{"malformed subprotocols", "Host: x", "Host: x\r\nSec-WebSocket-Protocol: @", 400, "", ""},
		{"malformed extensions", "Host: x", "Host: x\r\nSec-WebSocket-Extensions: a;", 400, "", ""},
		{"path", "/echo", "/nowhere", 404, "", ""},
		{"origin", "Host: x", "Host: x\r\nOrigin: https://evil.example", 403, "", ""},
		{"body", "Host: x", "Host: x\r\nContent-Length: 1", 400, "", ""},
	} {
		request := []byte(strings.Replace(openingHandshake, tt.from, tt.to, 1))
		all := append(request, byHand{}.text("too early")...)
		for _, at := range []int{0, 1, 3, 20, len(request) / 2, len(request) - 3, len(request) - 2, len(request) - 1, len(request)} {
			c := s.connect()
			if at > 0 {
				read := s.poller.Stats().BytesRead
				c.write(all[:at])
				s.awaitRead(t, read+int64(at))
			}
			c.write(all[at:])
			r, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Fatalf("%s, cut at %d: %v", tt.name, at, err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != tt.status || int(r.ContentLength) != len(body) || len(body) == 0 || !r.Close {
				t.Errorf("%s, cut at %d: %d %q %v, %v", tt.name, at, r.StatusCode, body, r.Header, err)
			}
			if tt.field != "" && r.Header.Get(tt.field) != tt.value {
				t.Errorf("%s, cut at %d: no %s in %v", tt.name, at, tt.field, r.Header)
			}
			c.write([]byte("late"))
			c.expectEOF()
			_ = c.Close()
		}
	}
}
