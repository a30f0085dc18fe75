package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The test's binary is also the peers' own, as the measurement starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		forgiveRaces("nbio")
		main()
		return
	}
	os.Exit(m.Run())
}

// forgiveRaces has this process, if it is a peer's whose library has races that are not ours to mend, start again as one
// that the race detector does not end with a fault. nbio v1.6.7 hands new connections to its loops by epoll alone.
func forgiveRaces(peer string) {
	const forgiving = "GORACE=exitcode=0"
	if slices.Contains(os.Args, peer) && !slices.Contains(os.Environ(), forgiving) {
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), forgiving))
		panic(err)
	}
}

// started starts a peer's process and returns its URLs.
func started(t *testing.T, p peer) *target {
	t.Helper()
	s, err := (&plan{}).start(t.Context(), p.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	})
	return s
}

// forAll runs a test with each peer.
func forAll(t *testing.T, test func(ctx context.Context, t *testing.T, s *target)) {
	t.Helper()
	forEach(t, func(ctx context.Context, t *testing.T, _ peer, s *target) { test(ctx, t, s) })
}

func forEach(t *testing.T, test func(ctx context.Context, t *testing.T, p peer, s *target)) {
	t.Helper()
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			test(ctx, t, p, started(t, p))
		})
	}
}

func dial(ctx context.Context, t *testing.T, url string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(1 << 20)
	return c
}

func TestEcho(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		c := dial(ctx, t, s.url)
		for _, size := range []int{1, 125, 126, 600, 5000, maxMessage} {
			for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
				want := bytes.Repeat([]byte("m"), size)
				if err := c.Write(ctx, kind, want); err != nil {
					t.Fatal(err)
				}
				if got, message, err := c.Read(ctx); err != nil || got != kind || !bytes.Equal(message, want) {
					t.Fatalf("%d bytes: %v, %d bytes back, %v", size, got, len(message), err)
				}
			}
		}
		// Many at once come back in order.
		for i := range 100 {
			if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "message %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			if _, message, err := c.Read(ctx); err != nil || string(message) != fmt.Sprintf("message %d", i) {
				t.Fatalf("message %d: %q, %v", i, message, err)
			}
		}
		// So does one in fragments, between which there is a ping.
		w, err := c.Writer(ctx, websocket.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := io.WriteString(w, strings.Repeat("f", 5000)); err != nil {
				t.Fatal(err)
			}
		}
		pong := make(chan error, 1)
		go func() { pong <- c.Ping(ctx) }()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, message, err := c.Read(ctx); err != nil || len(message) != 15_000 {
			t.Fatalf("%d bytes, %v", len(message), err)
		}
		c.CloseRead(ctx)
		if err := <-pong; err != nil {
			t.Error("a ping is not answered:", err)
		}
	})
}

func TestEmpty(t *testing.T) {
	forEach(t, func(ctx context.Context, t *testing.T, p peer, s *target) {
		c := dial(ctx, t, s.url)
		for _, m := range []string{"", "x"} {
			if err := c.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		_, message, err := c.Read(ctx)
		if dropped := len(message) > 0; err != nil || dropped != slices.Contains(p.lacks, emptyMessages) {
			t.Errorf("the answer to an empty message is %q, %v; said is %q", message, err, p.lacks)
		}
	})
}

func TestTooBig(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		c := dial(ctx, t, s.url)
		// The server may hang up before all of it is written.
		_ = c.Write(ctx, websocket.MessageBinary, make([]byte, maxMessage+1))
		// What was not read resets the connection, which may overtake the close frame.
		_, _, err := c.Read(ctx)
		if code := websocket.CloseStatus(err); err == nil || ctx.Err() != nil || code != websocket.StatusMessageTooBig && code != -1 {
			t.Errorf("a message over the bound: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		c := dial(ctx, t, s.url)
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
}

// What breaks the protocol ends the connection: an unmasked frame, by hand, since no client sends one.
func TestUnmasked(t *testing.T) {
	forEach(t, func(ctx context.Context, t *testing.T, p peer, s *target) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http"+strings.TrimPrefix(s.url, "ws"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "bWlsbHBvbmQncyBiZW5jaA=="} {
			request.Header.Set(k, v)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		conn, ok := response.Body.(io.ReadWriteCloser)
		if response.StatusCode != http.StatusSwitchingProtocols || !ok {
			t.Fatal(response.Status)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if _, err := conn.Write([]byte{0x81, 1, 'x'}); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		_, err = io.ReadFull(conn, first)
		if taken := first[0] == 0x81; taken != slices.Contains(p.lacks, maskCheck) || ctx.Err() != nil {
			t.Errorf("an unmasked frame is answered by % x, %v; said is %q", first, err, p.lacks)
		}
	})
}

func TestOrigin(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		for origin, want := range map[string]bool{"https://example.com": false, "http" + strings.TrimSuffix(strings.TrimPrefix(s.url, "ws"), "/"): true} {
			c, _, err := websocket.Dial(ctx, s.url, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
			if (err == nil) != want {
				t.Errorf("a page of %s: %v", origin, err)
			}
			if err == nil {
				c.CloseNow()
			}
		}
	})
}

func TestNoCompression(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		c, response, err := websocket.Dial(ctx, s.url, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if got := response.Header.Get("Sec-WebSocket-Extensions"); got != "" {
			t.Errorf("it compresses: %s", got)
		}
	})
}

func TestGoroutinesPage(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var n int
		if _, err := fmt.Fscanf(response.Body, "go_goroutines %d\n", &n); err != nil || n < 1 {
			t.Errorf("%d goroutines, %v", n, err)
		}
	})
}

// A server ends when it is told to, also with clients.
func TestServeEnds(t *testing.T) {
	forAll(t, func(ctx context.Context, t *testing.T, s *target) { dial(ctx, t, s.url) })
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"serve", "nobody"}, {"-only=nobody"}, {"-rounds=0"}, {"hello"}, {"-hello"}, {"-millpond=/no/such/file"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// built is millpond, of this tree.
func built(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/millpond"
	command := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/millpond")
	command.Dir = "../.."
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
