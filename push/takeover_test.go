package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// startOffering is startServer, and waits until the server offers its listeners to the next.
func startOffering(t *testing.T, c Config) *Server {
	t.Helper()
	s := startServer(t, c)
	eventually(t, "the server offers its listeners", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.offer != nil
	})
	return s
}

// drainTaken does what the command does once another process has the listeners.
func drainTaken(t *testing.T, s *Server, rate float64) {
	t.Helper()
	select {
	case <-s.Taken():
	case <-time.After(time.Minute):
		t.Error("nobody took over")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(s.Drain(ctx, 0, rate), s.Shutdown(ctx)); err != nil {
		t.Error(err)
	}
}

// TestTakeover replaces a server twice while clients connect and talk without a pause: none is refused or reset, each
// message comes back or its session is closed with 1001, the API answers always, and the next server has the same ports.
func TestTakeover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takeover")
	config := Config{Dev: true, Takeover: path, Listen: []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "public")}}
	old := startOffering(t, config)
	public, internal := old.Addrs()[0].String(), old.InternalAddr().String()

	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var sessions, told, messages atomic.Int64
	for i := range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				closed, n, err := converse(ctx, "ws://"+public+"/echo", []int{5, 1e9}[i%2])
				messages.Add(n)
				if err != nil {
					t.Error(err)
					return
				}
				sessions.Add(1)
				if closed {
					told.Add(1)
				}
			}
		})
	}
	var asked atomic.Int64
	clients.Go(func() {
		for ctx.Err() == nil {
			if status, body := request(t, "POST", "http://"+internal+"/api/publish", `{"channel":"c","data":1}`); status != 200 {
				t.Errorf("API: %d %s", status, body)
			}
			asked.Add(1)
		}
	})
	talking := func(s *Server) {
		t.Helper()
		at, api := messages.Load(), asked.Load()
		eventually(t, "those that stay are in, and others come and go", func() bool {
			return s.engine.Stats().Connections > 4 && messages.Load() > at && asked.Load() > api
		})
	}
	for range 2 {
		talking(old)
		next := startOffering(t, config)
		if got := next.Addrs()[0].String(); got != public {
			t.Errorf("the next server is at %s, not %s", got, public)
		}
		drainTaken(t, old, 200)
		old = next
	}
	talking(old)
	cancel()
	clients.Wait()
	t.Logf("%d sessions, %d of them told to reconnect, %d messages, %d requests", sessions.Load(), told.Load(), messages.Load(), asked.Load())
	if told.Load() < 2 { // one of those that stay, at least, each time
		t.Error("nothing happened during the takeovers")
	}
	if c, err := net.Dial("unix", old.Addrs()[1].String()); err != nil {
		t.Errorf("the unix socket did not last: %v", err)
	} else {
		_ = c.Close()
	}
}

// converse opens a session and has at most so many messages echoed, until the server closes it (closed) or ctx ends.
func converse(ctx context.Context, url string, most int) (closed bool, echoed int64, err error) {
	dialing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(dialing, url, nil)
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = c.CloseNow() }()
	for i := 0; i < most && ctx.Err() == nil; i++ {
		text := fmt.Sprint("message ", i)
		err := c.Write(dialing, websocket.MessageText, []byte(text))
		var b []byte
		if err == nil {
			_, b, err = c.Read(dialing)
		}
		if err != nil {
			if _, _, e := c.Read(dialing); websocket.CloseStatus(err) == websocket.StatusGoingAway || websocket.CloseStatus(e) == websocket.StatusGoingAway {
				return true, echoed, nil
			}
			return false, echoed, err
		}
		if string(b) != text {
			return false, echoed, fmt.Errorf("%q came back as %q", text, b)
		}
		echoed++
	}
	if err = c.Close(websocket.StatusNormalClosure, ""); websocket.CloseStatus(err) == websocket.StatusGoingAway {
		return true, echoed, nil // both closed at the same moment
	}
	return false, echoed, err
}

// TestTakeoverFails lets a process that took the sockets fail before it serves: the old one serves on, and can still
// be taken over.
func TestTakeoverFails(t *testing.T) {
	config := Config{Dev: true, Takeover: filepath.Join(t.TempDir(), "takeover")}
	old := startOffering(t, config)
	broken := config
	broken.Listen, broken.InternalListen = []string{"127.0.0.1:0", "256.0.0.1:1"}, "127.0.0.1:0"
	if _, err := New(broken); err == nil || !strings.Contains(err.Error(), "256.0.0.1") {
		t.Errorf("error %v", err)
	}
	c := dial(t, old.ws("/echo"))
	send(t, c, "still here")
	if got := next(t, c); got != "still here" {
		t.Error(got)
	}
	select {
	case <-old.Taken():
		t.Error("it was taken over by a process that failed")
	default:
	}
	_ = c.CloseNow()
	second := startOffering(t, config)
	drainTaken(t, old, 0)
	c = dial(t, second.ws("/echo"))
	send(t, c, "here")
	if got := next(t, c); got != "here" {
		t.Error(got)
	}
}

// Sockets that systemd has opened take the place of those that have their addresses; one that nobody asked for is a fault.
func TestInherited(t *testing.T) {
	listen := func() (*os.File, string) {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		return f, l.Addr().String()
	}
	public, publicAddress := listen()
	internal, internalAddress := listen()
	s := startServer(t, Config{Dev: true, Listen: []string{publicAddress}, InternalListen: internalAddress, Inherited: []*os.File{internal, public}})
	if status, _ := request(t, "GET", s.internalURL("/healthz"), ""); status != 200 || s.InternalAddr().String() != internalAddress {
		t.Errorf("internal: %d at %s", status, s.InternalAddr())
	}
	c := dial(t, "ws://"+publicAddress+"/echo")
	send(t, c, "x")
	if got := next(t, c); got != "x" {
		t.Error(got)
	}

	other, otherAddress := listen()
	_, err := New(Config{Dev: true, Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", Inherited: []*os.File{other}})
	if err == nil || !strings.Contains(err.Error(), otherAddress) {
		t.Errorf("error %v", err)
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		address, listening string
		want               bool
	}{
		{":PORT", "[::]:0", true},
		{"0.0.0.0:PORT", "0.0.0.0:0", true},
		{"127.0.0.1:PORT", "127.0.0.1:0", true},
		{"localhost:PORT", "127.0.0.1:0", true},
		{"127.0.0.2:PORT", "127.0.0.1:0", false},
		{":PORT", "127.0.0.1:0", false},
		{"127.0.0.1:1", "127.0.0.1:0", false},
		{"unix:/x", "127.0.0.1:0", false},
		{"nowhere", "127.0.0.1:0", false},
	} {
		l, err := net.Listen("tcp", c.listening)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		if got := sameAddress(strings.Replace(c.address, "PORT", port, 1), f); got != c.want {
			t.Errorf("%s at %s: %t", c.address, c.listening, got)
		}
		_ = f.Close()
		_ = l.Close()
	}
}

// A state of another version is not a reason to fail.
func TestAdoptState(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	s.adoptState([]byte("?"))
	b, err := json.Marshal(state{TicketKeys: [][32]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	s.adoptState(b)
}
