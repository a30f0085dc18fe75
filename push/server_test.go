package push

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/session"
)

func TestPublishReachesEverySubscriberInOrder(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	const clients, publications = 20, 50
	var conns []*websocket.Conn
	for range clients {
		c := dial(t, s.ws("/push?channels=news,other"))
		if got, want := next(t, c), `{"type":"reply","ok":true,"channels":["news","other"]}`; got != want {
			t.Fatalf("reply %s, want %s", got, want)
		}
		conns = append(conns, c)
	}
	for i := range publications {
		status, body := request(t, "POST", s.internalURL("/api/publish"), fmt.Sprintf(`{"channel":"news","data":{"n":%d}}`, i))
		if status != 200 || !strings.Contains(body, fmt.Sprintf(`"offset":%d,`, i+1)) {
			t.Fatalf("publish: %d %s", status, body)
		}
	}
	for _, c := range conns {
		for i := range publications {
			want := fmt.Sprintf(`{"type":"message","channel":"news","offset":%d,"data":{"n":%d}}`, i+1, i)
			if got := next(t, c); got != want {
				t.Fatalf("message %s, want %s", got, want)
			}
		}
	}
}

func TestBroadcast(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	a, b := dial(t, s.ws("/push?channels=a")), dial(t, s.ws("/push?channels=b"))
	next(t, a)
	next(t, b)
	if status, body := request(t, "POST", s.internalURL("/api/broadcast"), `{"channels":["a","b"],"data":1}`); status != 200 {
		t.Fatalf("broadcast: %d %s", status, body)
	}
	if got := next(t, a); got != `{"type":"message","channel":"a","offset":1,"data":1}` {
		t.Error(got)
	}
	if got := next(t, b); got != `{"type":"message","channel":"b","offset":1,"data":1}` {
		t.Error(got)
	}
}

// The plain protocol from end to end, over a socket.
func TestPlainDialogue(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	c := dial(t, s.ws("/push"))
	for _, step := range []struct{ send, want string }{
		{`{"type":"ping","id":1}`, `{"type":"pong","id":1}`},
		{`{"type":"login","id":"l","payload":{"username":"ann","password":"x"}}`, `{"type":"reply","id":"l","ok":true,"user":"ann"}`},
		{`{"type":"subscribe","id":2,"payload":{"channel":"c"}}`, `{"type":"reply","id":2,"ok":true,"channel":"c"}`},
		{`{"type":"unsubscribe","id":4,"payload":{"channel":"c"}}`, `{"type":"reply","id":4,"ok":true,"channel":"c"}`},
	} {
		send(t, c, step.send)
		if got := next(t, c); got != step.want {
			t.Fatalf("%s: got %s, want %s", step.send, got, step.want)
		}
	}
	send(t, c, `{"type":"subscribe","payload":{"channel":"c"}}`)
	next(t, c)
	send(t, c, `{"type":"publish","id":5,"payload":{"channel":"c","data":[1, 2]}}`)
	got := []string{next(t, c), next(t, c)} // the message and the reply, in either order
	all := strings.Join(got, "\n")
	if !strings.Contains(all, `{"type":"message","channel":"c","offset":1,"data":[1,2]}`) || !strings.Contains(all, `"id":5,"ok":true`) {
		t.Errorf("publish: %s", all)
	}
}

func token(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestTokensDecideWhoSubscribes(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}})
	valid := token(t, jwt.MapClaims{"sub": "ann", "channels": []string{"mine"}, "exp": time.Now().Add(time.Hour).Unix()})

	c := dial(t, s.ws("/push?channels=mine&token="+valid))
	if got := next(t, c); got != `{"type":"reply","ok":true,"channels":["mine"]}` {
		t.Fatalf("with a token: %s", got)
	}
	for name, message := range map[string]string{
		"a channel that the token does not name": `{"type":"subscribe","id":1,"payload":{"channel":"yours"}}`,
		"publishing":                             `{"type":"publish","id":1,"payload":{"channel":"mine","data":1}}`,
	} {
		send(t, c, message)
		if got := next(t, c); !strings.Contains(got, `"code":103`) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if status, _ := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"mine","data":1}`, "X-API-Key", "key"); status != 200 {
		t.Fatalf("publish: %d", status)
	}
	if got := next(t, c); !strings.Contains(got, `"type":"message"`) {
		t.Errorf("message: %s", got)
	}

	stranger := dial(t, s.ws("/push?channels=mine"))
	if got := next(t, stranger); !strings.Contains(got, `"type":"error"`) {
		t.Errorf("without a token: %s", got)
	}
	forged := dial(t, s.ws("/push?channels=mine&token="+valid[:len(valid)-2]+"xx"))
	if got := next(t, forged); !strings.Contains(got, `"code":101`) {
		t.Errorf("with a forged token: %s", got)
	}
	if _, _, err := forged.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("with a forged token: %v", err)
	}
}

func TestDevelopmentAPIRefusesPagesOfOtherOrigins(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	status, _ := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"c","data":1}`, "Sec-Fetch-Site", "cross-site")
	if status != 403 {
		t.Errorf("cross-site publish: %d, want 403", status)
	}
	status, _ = request(t, "POST", s.internalURL("/api/publish"), `{"channel":"c","data":1}`, "X-Forwarded-For", "192.0.2.1")
	if status != 401 {
		t.Errorf("publish through a proxy: %d, want 401", status)
	}
}

func TestConfigValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		want   []string
	}{
		"no token key":      {Config{}, []string{"token-hmac-secret-file", "--dev"}},
		"weak secret":       {Config{TokenSecret: []byte("short")}, []string{"32"}},
		"internal, exposed": {Config{TokenSecret: secret, InternalListen: ":8001"}, []string{"internal-listen", "api-key-file"}},
		"several at once": {Config{MaxChannels: -1, MaxMessageBytes: -1}, []string{
			"token-hmac-secret-file", "max-channels", "max-message-bytes",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.config.Validate()
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not mention %s", err, want)
				}
			}
		})
	}
	if err := (Config{Dev: true}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	s := startServer(t, Config{Dev: true, Version: "v1"})
	c := dial(t, s.ws("/push?channels=a"))
	next(t, c)
	_, body := request(t, "GET", s.internalURL("/metrics"), "")
	for _, want := range []string{
		`millpond_build_info{version="v1"} 1`, "millpond_connections 1", "millpond_subscriptions 1", "millpond_handshakes_total 1",
		"go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "millpond.sock")
	s := startServer(t, Config{Dev: true, Listen: []string{"127.0.0.1:0", "unix:" + path}})
	if got := s.Addrs()[1].String(); got != path {
		t.Errorf("address %s, want %s", got, path)
	}
}

func TestPortInUse(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	_, err := New(Config{Dev: true, Listen: []string{s.Addrs()[0].String()}, InternalListen: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
	_, err = New(Config{Dev: true, Listen: []string{"127.0.0.1:0"}, InternalListen: s.InternalAddr().String()})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

// The echo takes messages that /push would refuse.
func TestEchoLimits(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	c := dial(t, s.ws("/echo"))
	c.SetReadLimit(-1)
	big := strings.Repeat("x", 1<<20)
	send(t, c, big)
	if next(t, c) != big {
		t.Error("1 MiB came back differently")
	}
	p := dial(t, s.ws("/push"))
	send(t, p, strings.Repeat("x", 64<<10+1))
	if _, _, err := p.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("message over the limit: %v", err)
	}
}

// TestLatest publishes to a client that does not read, on two channels: of each it gets the newest in the end.
func TestLatest(t *testing.T) {
	s := startServer(t, Config{
		Dev: true, SlowPolicy: session.PolicyLatest, NoCompression: true,
		Socket: session.SocketOptions{SendBuffer: 4096}, Engine: session.Config{OutboxMessages: 8},
	})
	c := dial(t, s.ws("/push?channels=a,b"))
	c.SetReadLimit(1 << 20)
	next(t, c) // the reply: both are subscribed
	const rounds = 400
	padding := strings.Repeat("x", 4096)
	for i := 1; i <= rounds; i++ {
		for _, channel := range []string{"a", "b"} {
			body := fmt.Sprintf(`{"channel":%q,"data":{"n":%d,"padding":%q}}`, channel, i, padding)
			if status, answer := request(t, "POST", s.internalURL("/api/publish"), body); status != 200 {
				t.Fatal(status, answer)
			}
		}
	}
	got, last := 0, map[string]int{}
	for last["a"] < rounds || last["b"] < rounds {
		var m struct {
			Channel string
			Offset  int
		}
		if err := json.Unmarshal([]byte(next(t, c)), &m); err != nil {
			t.Fatal(err)
		}
		if m.Offset <= last[m.Channel] {
			t.Fatalf("%d after %d on %s", m.Offset, last[m.Channel], m.Channel)
		}
		last[m.Channel] = m.Offset
		got++
	}
	if got == 2*rounds {
		t.Error("nothing was dropped")
	}
	// The client may have the newest before the one that it replaced is counted.
	eventually(t, fmt.Sprintf("%d came, and all others of %d are counted as dropped", got, 2*rounds), func() bool {
		return got+int(s.engine.Stats().Dropped["latest"]) == 2*rounds
	})
}

// A header on the internal port has an end.
func TestInternalHeader(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	for bytes, want := range map[int]int{1 << 10: 200, 64 << 10: 431} {
		status, _ := request(t, "GET", s.internalURL("/healthz"), "", "X-Filler", strings.Repeat("x", bytes))
		if status != want {
			t.Errorf("%d bytes: %d, want %d", bytes, status, want)
		}
	}
}
