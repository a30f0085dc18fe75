package session

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A private endpoint is not there for clients of listeners, and is for those of another net/http server, also when the
// bounds on connections are reached. Both sessions are of the same engine.
func TestUpgrade(t *testing.T) {
	if overTLS {
		t.Skip("the other server's connections are plain")
	}
	srv := startServer(t, Config{
		MaxConnections: 1, MaxPerAddress: 1,
		Endpoints: []Endpoint{{Path: "/inside", Private: true, Handler: echoHandler{nil}}, {Path: "/echo", Handler: echoHandler{nil}}},
	})
	inside := httptest.NewServer(http.HandlerFunc(srv.Upgrade))
	t.Cleanup(inside.Close)

	if _, response, err := websocket.Dial(t.Context(), "ws://"+srv.addr+"/inside", nil); err == nil || response == nil || response.StatusCode != http.StatusNotFound {
		t.Fatalf("a client of the listener: %v %v", response, err)
	}
	outer, _, err := websocket.Dial(t.Context(), "ws://"+srv.addr+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outer.CloseNow() }()
	begun := time.Now()
	for range 3 {
		c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(inside.URL, "http")+"/inside?a=b", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.CloseNow() }()
		if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || string(b) != "hello" {
			t.Fatalf("%q %v", b, err)
		}
	}
	n := 0
	srv.Range(func(s *Session) {
		n++
		if at := s.Accepted(); at.Before(begun.Add(-time.Minute)) || at.After(time.Now()) {
			t.Errorf("accepted at %v", at)
		}
	})
	if st := srv.Stats(); n != 4 || st.Connections != 4 || st.Handshaking != 0 {
		t.Errorf("%d sessions, %d connections, %d handshaking", n, st.Connections, st.Handshaking)
	}

	response, err := http.Get(inside.URL + "/inside")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: %d", response.StatusCode)
	}
	if _, response, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(inside.URL, "http")+"/nowhere", nil); err == nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %v", err)
	}
}

// Who is refused has given back its place when it reads the answer: it may come again at once, also where only one fits.
func TestRefusedLeavesItsPlace(t *testing.T) {
	srv := startServer(t, Config{
		MaxConnections: 1,
		Endpoints:      []Endpoint{{Path: "/inside", Private: true, Handler: echoHandler{nil}}, {Path: "/echo", AllowedOrigins: []string{"https://a.example"}, Handler: echoHandler{nil}}},
	})
	for _, path := range []string{"/inside", "/nowhere", "/echo"} {
		for range 300 {
			_, response, err := websocket.Dial(t.Context(), srv.websocketURL(path), dialOptions(websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://b.example"}}}))
			if err == nil || response == nil || response.StatusCode == http.StatusServiceUnavailable {
				t.Fatalf("%s: %v %v", path, response, err)
			}
		}
	}
}
