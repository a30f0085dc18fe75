package poller

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/internal/testcert"
)

var authority = testcert.NewAuthority()

var testCertificate = authority.Issue("test")

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate}, DynamicRecordSizingDisabled: true}
}

func clientTLS() *tls.Config { return &tls.Config{RootCAs: authority.Pool(), ServerName: "test"} }

// tlsPeer is the other end of a connection with TLS.
type tlsPeer struct{ *testcert.Client }

func (p tlsPeer) SetReadBuffer(n int) error  { return p.Socket.(halfCloser).SetReadBuffer(n) }
func (p tlsPeer) SetWriteBuffer(n int) error { return p.Socket.(halfCloser).SetWriteBuffer(n) }

// shakeHands makes a client of TLS on the other end of a connection that was given to AttachTLS, and waits until both are
// through.
func shakeHands(t testing.TB, e *tape, socket net.Conn, config *tls.Config) tlsPeer {
	t.Helper()
	client := testcert.NewClient(socket, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if !until(func() bool { _, ok := e.TLS(); return ok }) {
		t.Fatal("the server's handshake has not ended")
	}
	return tlsPeer{client}
}

// attachTLS attaches one end of a new TCP connection as a server, and returns the other end as it is.
func attachTLS(t testing.TB, p *Poller, e *tape, config *tls.Config) net.Conn {
	t.Helper()
	fd, socket := pair(t, "tcp")
	if err := p.AttachTLS(&e.Conn, fd, e, nil, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	return socket
}

// chopped writes in pieces.
type chopped struct {
	net.Conn
	cut  int // where the stream is cut once; 0 cuts it after each byte
	sent int
}

func (c *chopped) Write(b []byte) (int, error) {
	for i := range b {
		if c.cut == 0 {
			if _, err := c.Conn.Write(b[i : i+1]); err != nil {
				return i, err
			}
		}
	}
	if c.cut == 0 {
		return len(b), nil
	}
	at := min(max(c.cut-c.sent, 0), len(b))
	c.sent += len(b)
	n, err := c.Conn.Write(b[:at])
	if err != nil || at == len(b) {
		return n, err
	}
	if at > 0 {
		time.Sleep(200 * time.Microsecond) // so that it is read alone
	}
	m, err := c.Conn.Write(b[at:])
	return n + m, err
}

// TestTLSSplit cuts what a client sends, from its first hello to its close_notify, at each byte, and after each.
func TestTLSSplit(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := clientTLS()
			config.MaxVersion, config.CurvePreferences = version, []tls.CurveID{tls.X25519} // a short hello
			total := 1
			for cut := 0; cut <= total; cut++ {
				e := &tape{}
				socket := &chopped{Conn: attachTLS(t, p, e, serverTLS()), cut: cut}
				client := tls.Client(socket, config)
				want := "what a client says"
				if _, err := client.Write([]byte(want)); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				e.waitEOF(t)
				if got := e.received(); got != want {
					t.Fatalf("cut at %d: got %q", cut, got)
				}
				total = max(total, socket.sent)
				e.Close(nil)
				e.waitClosed(t)
				_ = socket.Close()
			}
			if total < 100 {
				t.Errorf("only %d bytes were cut", total)
			}
		})
	}
	if n := p.TLSStats(); n.Failures["gone"]+n.Failures["protocol"] > 0 {
		t.Errorf("failures: %v", n.Failures)
	}
}

// TestTLSCutOff ends the client's stream after each of its bytes: the handshake fails, or the stream is truncated;
// nothing is left, and never is it a clean end before the close_notify.
func TestTLSCutOff(t *testing.T) {
	config := clientTLS()
	config.CurvePreferences = []tls.CurveID{tls.X25519}
	p := newPoller(t, Config{Loops: 1})
	total, truncated, failed := 1000, 0, 0
	for cut := 0; cut < total; cut++ {
		e := &tape{}
		socket := &limited{Conn: attachTLS(t, p, e, serverTLS()), left: cut}
		client := tls.Client(socket, config)
		_, err := client.Write([]byte("what a client says"))
		if err == nil {
			err = client.CloseWrite()
		}
		if err == nil {
			total = cut
		}
		_ = socket.Conn.(halfCloser).CloseWrite()
		if err == nil {
			e.waitEOF(t)
			e.Close(nil)
		}
		switch cause := e.waitClosed(t); {
		case errors.Is(cause, ErrTruncated):
			truncated++
		case err != nil:
			var op *OpError
			if failed++; !errors.As(cause, &op) || op.Op != OpTLSHandshake {
				t.Fatalf("cut off after %d bytes: %v", cut, cause)
			}
		}
		_ = socket.Close()
	}
	if truncated == 0 || failed == 0 || total == 1000 {
		t.Errorf("%d truncated, %d failed, of %d bytes", truncated, failed, total)
	}
}

var errLimit = errors.New("the test's limit")

// limited writes only so many bytes.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	if _, err := l.Conn.Write(b[:n]); err != nil || n == len(b) {
		return n, err
	}
	return n, errLimit
}

// TestTLSFaults wants each failure told for what it is, to the client, to the user and in the counts.
func TestTLSFaults(t *testing.T) {
	expired := authority.IssueUntil(time.Now().Add(-time.Hour), "test")
	wantClient := serverTLS()
	wantClient.ClientAuth, wantClient.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool()
	panics := serverTLS()
	panics.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("the test's") }
	client := func(change func(*tls.Config)) func(net.Conn) string {
		return func(c net.Conn) string {
			config := clientTLS()
			change(config)
			secured := tls.Client(c, config)
			_, err := secured.Read(make([]byte, 1)) // with TLS 1.3 it is told after its own handshake
			return fmt.Sprint(err)
		}
	}
	raw := func(sent string) func(net.Conn) string {
		return func(c net.Conn) string {
			_, _ = io.WriteString(c, sent)
			b, _ := io.ReadAll(c)
			return string(b)
		}
	}
	for _, c := range []struct {
		name    string
		server  *tls.Config
		client  func(net.Conn) string
		answer  string
		failure TLSFailure
	}{
		{"plain HTTP", serverTLS(), raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 400 Bad Request", TLSNotSpoken},
		{"garbage", serverTLS(), raw(strings.Repeat("\xff", 100)), "", TLSNotSpoken},
		{"zeros", serverTLS(), raw(strings.Repeat("\x00", 100)), "", TLSNotSpoken},
		{"a record too long", serverTLS(), raw("\x16\x03\x01\xff\xff" + strings.Repeat("x", 20_000)), "\x15\x03", TLSProtocol},
		{"a hello that is none", serverTLS(), raw("\x16\x03\x01\x00\x05\x01\x00\x00\x01x"), "\x15\x03", TLSProtocol},
		{"no hello", serverTLS(), raw("\x16\x03\x01\x00\x04\x0e\x00\x00\x00"), "\x15\x03", TLSProtocol},
		{"an alert at once", serverTLS(), raw("\x15\x03\x01\x00\x02\x02\x28"), "", TLSAlert},
		{"TLS 1.1", serverTLS(), client(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), "protocol version not supported", TLSProtocol},
		{"another protocol", withProtocol("http/1.1"), client(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), "no application protocol", TLSProtocol},
		{"no certificate", wantClient, client(func(*tls.Config) {}), "certificate required", TLSCertificate},
		{"an expired certificate", wantClient, client(func(c *tls.Config) { c.Certificates = []tls.Certificate{expired} }), "expired certificate", TLSCertificate},
		{"a client that does not trust us", serverTLS(), client(func(c *tls.Config) { c.RootCAs = testcert.NewAuthority().Pool() }), "unknown authority", TLSAlert},
		{"a client that wants another", serverTLS(), client(func(c *tls.Config) { c.ServerName = "other" }), "not other", TLSAlert},
		{"a panic in the configuration", panics, client(func(*tls.Config) {}), "EOF", TLSProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			socket := attachTLS(t, p, e, c.server)
			answer := c.client(socket)
			if !strings.Contains(answer, c.answer) {
				t.Errorf("the client got %q, want %q", answer, c.answer)
			}
			_ = socket.Close()
			var op *OpError
			if cause := e.waitClosed(t); !errors.As(cause, &op) || op.Op != OpTLSHandshake {
				t.Errorf("cause %v", cause)
			}
			if !until(func() bool { return p.TLSStats().Failures[c.failure.String()] == 1 }) {
				t.Errorf("counted as %v, want %v", p.TLSStats().Failures, c.failure)
			}
			if reads, _ := e.counts(); reads > 0 {
				t.Error("something was delivered")
			}
		})
	}
}

func withProtocol(name string) *tls.Config {
	c := serverTLS()
	c.NextProtos = []string{name}
	return c
}

// TestTLSRecordFaults sends what is no record of the client's after the handshake: the end, and an alert.
func TestTLSRecordFaults(t *testing.T) {
	for name, garbage := range map[string]string{
		"not encrypted":  "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32),
		"too long":       "\x17\x03\x03\x7f\xff" + strings.Repeat("x", 20_000),
		"no record":      strings.Repeat("\x00", 50),
		"a plain alert":  "\x15\x03\x03\x00\x02\x02\x28",
		"another hello":  "\x16\x03\x03\x00\x04\x01\x00\x00\x00",
		"empty records ": strings.Repeat("\x17\x03\x03\x00\x00", 100),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			peer := attach(t, p, "tls", e).(tlsPeer)
			if _, err := peer.Write([]byte("before")); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(peer.Socket, garbage)
			var op *OpError
			if cause := e.waitClosed(t); !errors.As(cause, &op) || op.Op != OpTLS {
				t.Errorf("cause %v", cause)
			}
			if got := e.received(); got != "before" {
				t.Errorf("delivered %q", got)
			}
			if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the client sees %v", err)
			}
		})
	}
}

// TestTLSTruncated tells a stream that was cut from one that was ended, in both directions.
func TestTLSTruncated(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := attach(t, p, "tls", e).(tlsPeer)
	write(t, peer, "said")
	if err := peer.Socket.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if cause := e.waitClosed(t); !errors.Is(cause, ErrTruncated) {
		t.Errorf("cause %v", cause)
	}
	if got := e.received(); got != "said" {
		t.Errorf("got %q", got)
	}

	for how, end := range map[string]func(*Conn){
		"Close":    func(c *Conn) { c.Close(nil) },
		"Finish":   func(c *Conn) { c.Finish() },
		"SendLast": func(c *Conn) { _ = c.SendLast([]byte("last"), false); c.Finish() },
	} {
		e := &tape{}
		peer := attach(t, p, "tls", e)
		end(&e.Conn)
		if _, err := io.ReadAll(peer); err != nil { // without close_notify it is io.ErrUnexpectedEOF
			t.Errorf("%s: the peer sees %v", how, err)
		}
	}
}

// TestTLSRecordSizes exchanges messages around the size of a record, and wants full ones used.
func TestTLSRecordSizes(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for _, size := range []int{1, maxPlaintext - 1, maxPlaintext, maxPlaintext + 1, 3*maxPlaintext + 7, 200_000} {
		e := &tape{}
		peer := attach(t, p, "tls", e).(tlsPeer)
		want := string(randomBytes(uint64(size), size))
		if _, err := e.Send([]byte(want), Out{}); err != nil {
			t.Fatal(err)
		}
		readFull(t, peer, want)
		before := p.Stats().BytesRead
		go func() { _, _ = io.WriteString(peer, want) }()
		e.waitBytes(t, size)
		if got := e.received(); got != want {
			t.Errorf("%d bytes: got %d others", size, len(got))
		}
		records := (size + maxPlaintext - 1) / maxPlaintext
		if n := p.Stats().BytesRead - before; n < int64(size+22*records) {
			t.Errorf("%d bytes in %d of ciphertext", size, n)
		}
	}
}

// TestTLSGivesBuffersBack looks into crypto/tls after records of full size: the fields that this package knows are
// there, and hold nothing while a connection is idle; an unfinished record is kept, and completed.
func TestTLSGivesBuffersBack(t *testing.T) {
	if rawInputField < 0 || handField < 0 || inputField < 0 {
		t.Fatal("tls.Conn has other fields: see offset")
	}
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := attach(t, p, "tls", e).(tlsPeer)
	for range 3 {
		write(t, peer, strings.Repeat("x", maxPlaintext))
	}
	e.waitBytes(t, 3*maxPlaintext)
	held := func() (raw, hand int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		conn := e.rare.tls.conn
		return field[bytes.Buffer](conn, rawInputField).Cap(), field[bytes.Buffer](conn, handField).Cap()
	}
	if raw, hand := held(); raw != 0 || hand != 0 {
		t.Errorf("idle, it holds %d bytes of records and %d of handshakes", raw, hand)
	}
	// A record in two halves.
	recorder := &recorder{Conn: peer.Socket}
	peer.Client.Reroute(recorder)
	write(t, peer, strings.Repeat("y", 1000))
	record := recorder.written
	_, _ = peer.Socket.Write(record[:500])
	if !until(func() bool { raw, _ := held(); return raw > 0 }) {
		t.Error("half a record is not kept")
	}
	if raw, _ := held(); raw > 2*maxPlaintext {
		t.Errorf("half a record holds %d bytes", raw)
	}
	_, _ = peer.Socket.Write(record[500:])
	e.waitBytes(t, 3*maxPlaintext+1000)
	if raw, _ := held(); raw != 0 {
		t.Errorf("idle again, it holds %d bytes", raw)
	}
}

// recorder keeps what is written.
type recorder struct {
	net.Conn
	written []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.written = append(r.written, b...)
	return len(b), nil
}

// TestTLSHandshakesWait has clients stop in the midst of their handshakes, which takes no other's place; closing ends
// them, whatever they wait for.
func TestTLSHandshakesWait(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, TLSHandshakes: 1})
	var stuck []*tape
	for range 20 {
		e := &tape{}
		client := tls.Client(&limited{Conn: attachTLS(t, p, e, serverTLS()), left: 1 << 20}, clientTLS())
		// It sends its hello, and never reads the answer.
		go func() { _ = tls.Client(&deaf{client.NetConn()}, clientTLS()).Handshake() }()
		stuck = append(stuck, e)
	}
	if !until(func() bool {
		for _, e := range stuck {
			if e.rare.tls.begun() == false {
				return false
			}
		}
		return p.TLSStats().Running == 0
	}) {
		t.Error("the handshakes that wait hold a place")
	}
	e := &tape{}
	peer := attach(t, p, "tls", e)
	write(t, peer, "through")
	e.waitBytes(t, 7)
	if _, err := stuck[0].Send([]byte("x"), Out{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a send before the end of the handshake: %v", err)
	}
	for i, s := range stuck {
		switch i % 3 {
		case 0:
			s.Close(errTest)
		case 1:
			s.Abort(errTest)
		default:
			s.Finish()
		}
		s.waitClosed(t)
	}
	if !until(func() bool { return p.TLSStats().Failures["gone"] == 20 }) {
		t.Errorf("counted: %v", p.TLSStats().Failures)
	}
}

// begun reports whether the handshake has a goroutine.
func (t *TLS) begun() bool {
	t.wire.owner.mu.Lock()
	defer t.wire.owner.mu.Unlock()
	return t.shake != nil && t.shake.started
}

// deaf never reads.
type deaf struct{ net.Conn }

func (deaf) Read([]byte) (int, error) { return 0, io.EOF }

// TestTLSGiveAway gives a connection away and takes it back, with a half-read record and with one more behind it.
func TestTLSGiveAway(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	type given struct {
		fd int
		t  *TLS
	}
	taken := make(chan given, 1)
	e := &tape{}
	e.onData = func([]byte) {
		if !e.GiveAway(func(fd int, t *TLS) { taken <- given{fd, t} }) {
			t.Error("not given away")
		}
	}
	fd, socket := pair(t, "tcp")
	if err := p.AttachTLS(&e.Conn, fd, e, nil, serverTLS()); err != nil {
		t.Fatal(err)
	}
	client := tls.Client(socket, clientTLS())
	write(t, client, "first") // with the end of the handshake
	g := await(t, taken, "the descriptor")
	write(t, client, "second")
	f := os.NewFile(uintptr(g.fd), "given")
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	over := g.t.Over(conn)
	b := make([]byte, 6)
	if _, err := io.ReadFull(over, b); err != nil || string(b) != "second" {
		t.Fatalf("%q, %v", b, err)
	}
	write(t, over, "answer")
	readFull(t, client, "answer")

	back := takeSocket(t, conn)
	again := &tape{}
	if err := p.Reattach(&again.Conn, back, g.t, again, []byte("third ")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close(nil); again.waitClosed(t) })
	write(t, client, "fourth")
	again.waitBytes(t, 12)
	if got := again.received(); got != "third fourth" {
		t.Errorf("got %q", got)
	}
	if _, err := again.Send([]byte("all"), Out{}); err != nil {
		t.Error(err)
	}
	readFull(t, client, "all")
}

// TestTLSDial is both sides of this package, with resumption, and a server that is not to be trusted.
func TestTLSDial(t *testing.T) {
	p := newPoller(t, Config{Loops: 2})
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var served []*tape
	a, err := p.Serve(l, func(fd int, _ netip.AddrPort) {
		e := &tape{}
		e.onData = func(b []byte) { _, _ = e.SendCopy(b, nil, Out{}) }
		mu.Lock()
		served = append(served, e)
		mu.Unlock()
		if err := p.AttachTLS(&e.Conn, fd, e, nil, serverTLSOnce()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range served {
			e.Close(nil)
			e.waitClosed(t)
		}
	}()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	config := clientTLS()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		e := &tape{}
		if err := p.Dial(&e.Conn, to, e, DialOptions{TLS: config}); err != nil {
			t.Fatal(err)
		}
		e.wait(t, "OnConnected", func() bool { return e.connected == 1 })
		if _, err := e.Send([]byte("hello"), Out{}); err != nil {
			t.Fatal(err)
		}
		e.waitBytes(t, 5)
		if state, ok := e.TLS(); !ok || state.DidResume != (i == 1) {
			t.Errorf("connection %d: %t, resumed %t", i, ok, state.DidResume)
		}
		e.Close(nil)
		e.waitClosed(t)
	}
	e := &tape{}
	if err := p.Dial(&e.Conn, to, e, DialOptions{TLS: &tls.Config{ServerName: "test"}}); err != nil {
		t.Fatal(err)
	}
	var op *OpError
	var unknown x509.UnknownAuthorityError
	if cause := e.waitClosed(t); !errors.As(cause, &op) || op.Op != OpTLSHandshake || !errors.As(cause, &unknown) || e.connected > 0 {
		t.Errorf("cause %v, %d times connected", cause, e.connected)
	}
}

// serverTLSOnce is the same configuration each time, so that it has the same ticket keys.
var serverTLSOnce = sync.OnceValue(serverTLS)

// TestTLSStalled fills a connection whose peer does not read: what waits is bounded, is dropped by the policies as whole messages, and what
// arrives in the end is whole records.
func TestTLSStalled(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 64 << 10, Buffers: 100}})
	e := &tape{}
	fd, socket := tcpPair(t, 4096, 4096)
	if err := p.AttachTLS(&e.Conn, fd, e, nil, serverTLS()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	peer := shakeHands(t, e, socket, clientTLS())
	dropped := 0
	const size, sent = 1000, 2000
	for i := range sent {
		n, err := e.Send([]byte(fmt.Sprintf("%0*d", size, i)), Out{Policy: DropOldest})
		if err != nil {
			t.Fatal(err)
		}
		dropped += n
		if bytes, buffers, _ := e.Waiting(); bytes > 64<<10+maxPlaintext+100 || buffers > 100 {
			t.Fatalf("%d bytes in %d buffers wait", bytes, buffers)
		}
	}
	e.Finish()
	got, err := io.ReadAll(peer)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != (sent-dropped)*size || dropped == 0 {
		t.Fatalf("%d bytes came, %d of %d were dropped", len(got), dropped, sent)
	}
	last := -1
	for i := 0; i < len(got); i += size {
		n, err := strconv.Atoi(string(got[i : i+size]))
		if err != nil || n <= last {
			t.Fatalf("message %d after %d, %v", n, last, err)
		}
		last = n
	}
	if last != sent-1 {
		t.Errorf("the last one was %d", last)
	}
}

// TestTLSAllocations: a message in, and one out, cost none but what crypto/tls allocates for each read, 24 bytes on
// either side.
func TestTLSAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPoller(t, Config{Loops: 1})
	e := &tape{discard: true}
	peer := attach(t, p, "tls", e)
	read := make([]byte, 4096)
	message := bytes.Repeat([]byte("x"), 1000)
	got := make(chan struct{}, 1)
	e.onData = func([]byte) { got <- struct{}{} }
	out := testing.AllocsPerRun(300, func() {
		_, _ = e.Send(message, Out{})
		_, _ = io.ReadFull(peer, read[:1000])
	})
	in := testing.AllocsPerRun(300, func() {
		_, _ = peer.Write(message)
		<-got
	})
	if out > 1 || in > 1 {
		t.Errorf("%v allocations to send and to read that, %v to receive", out, in)
	}
}

// TestTLSUnsent stops reading while crypto/tls has answered more than the peer reads, and goes on when it has.
func TestTLSUnsent(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := attach(t, p, "tls", e)
	e.mu.Lock()
	e.rare.tls.out = make([]byte, maxUnsent+1)
	want := e.wantedLocked()
	e.rare.tls.out = nil
	e.mu.Unlock()
	if want != unix.EPOLLOUT {
		t.Errorf("the events wanted are %#x", want)
	}
	write(t, peer, "x")
	e.waitBytes(t, 1)
}

// TestTLSGiveAwayAtOnce sends one request with the end of the handshake and another right behind, which the loop may read while the
// first is being given away: whoever has the connection then gets both, in order.
func TestTLSGiveAwayAtOnce(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	for range rounds {
		taken := make(chan net.Conn, 1)
		e := &tape{}
		var first string
		e.onData = func(b []byte) {
			first = string(b)
			if !e.GiveAway(func(fd int, t *TLS) {
				f := os.NewFile(uintptr(fd), "given")
				conn, err := net.FileConn(f)
				_ = f.Close()
				if err == nil {
					taken <- t.Over(conn)
				}
			}) {
				t.Error("not given away")
			}
		}
		fd, socket := pair(t, "tcp")
		if err := p.AttachTLS(&e.Conn, fd, e, nil, serverTLSOnce()); err != nil {
			t.Fatal(err)
		}
		client := tls.Client(socket, clientTLS())
		write(t, client, "first ")
		write(t, client, "second")
		over := await(t, taken, "the connection")
		rest := make([]byte, len("first second")-len(first))
		if _, err := io.ReadFull(over, rest); err != nil || first+string(rest) != "first second" {
			t.Fatalf("%q and %q, %v", first, rest, err)
		}
		_ = over.(*tls.Conn).NetConn().(*transport).over.Close()
		_ = socket.Close()
	}
}

// TestTLSReattach takes a connection back of which another reader has decrypted more than it took.
func TestTLSReattach(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	server, client := pair(t, "tcp")
	secured := &TLS{server: true}
	secured.wire = transport{tls: secured}
	secured.conn = tls.Server(&secured.wire, serverTLS())
	f := os.NewFile(uintptr(server), "server")
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	over := secured.Over(conn)
	peer := tls.Client(client, clientTLS())
	want := string(randomBytes(1, 200_000))
	written := make(chan error, 1)
	go func() { _, err := io.WriteString(peer, want); written <- err }()
	some := make([]byte, 100) // of a record of 16 KiB
	if _, err := io.ReadFull(over, some); err != nil {
		t.Fatal(err)
	}
	back := takeSocket(t, conn)
	e := &tape{}
	if err := p.Reattach(&e.Conn, back, secured, e, some); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	if err := await(t, written, "the write"); err != nil {
		t.Fatal(err)
	}
	e.waitBytes(t, len(want))
	if e.received() != want {
		t.Error("something else came")
	}
}

// TestTLSLongHandshakeMessage fails a connection of which crypto/tls has collected a long handshake message after the
// handshake. No client of Go's sends one, so it is put there.
func TestTLSLongHandshakeMessage(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	attach(t, p, "tls", e)
	e.mu.Lock()
	defer e.mu.Unlock()
	hand := field[bytes.Buffer](e.rare.tls.conn, handField)
	for size, want := range map[int]error{maxAfterwards: nil, maxAfterwards + 1: errAfterwards} {
		*hand = *bytes.NewBuffer(make([]byte, size))
		if _, err := e.rare.tls.decryptLocked(nil, new(tlsBuffers)); !errors.Is(err, want) {
			t.Errorf("with %d bytes: %v", size, err)
		}
	}
	*hand = bytes.Buffer{}
}

// TestTLSReceivedLate is what the loop read while the handshake ended and more was done: it waits its turn, also for
// whoever was given the connection.
func TestTLSReceivedLate(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	for name, set := range map[string]state{"draining": draining | paused, "given away": closed} {
		e := &tape{}
		attach(t, p, "tls", e)
		e.mu.Lock()
		before := e.state
		e.state |= set
		e.mu.Unlock()
		e.Conn.received([]byte("late"))
		e.mu.Lock()
		if tls := e.rare.tls; string(tls.in) != "late" || !tls.fresh {
			t.Errorf("%s: %q is kept", name, tls.in)
		}
		e.rare.tls.in, e.rare.tls.fresh, e.state = nil, false, before
		e.mu.Unlock()
	}
	e := &tape{}
	attach(t, p, "tls", e)
	e.PauseReading()
	e.mu.Lock()
	e.rareLocked().kept = []byte("kept")
	e.mu.Unlock()
	e.Conn.received(nil)
	e.mu.Lock()
	fresh := e.rare.tls.fresh
	e.mu.Unlock()
	if !fresh {
		t.Error("something is delivered before what is kept")
	}
	e.ResumeReading()
	e.waitBytes(t, 4)
}

// takeSocket returns a non-blocking descriptor of conn's socket, and closes conn.
func takeSocket(t *testing.T, conn net.Conn) int {
	t.Helper()
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetNonblock(fd, true)
	_ = f.Close()
	_ = conn.Close()
	return fd
}
