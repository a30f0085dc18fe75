package push

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// Bounds and rates that are set anew hold for those who come; each of them is seen from outside.
func TestReconfigureBounds(t *testing.T) {
	hash := sha256.Sum256([]byte("key"))
	keys := []APIKey{{Name: "a", SHA256: hex.EncodeToString(hash[:])}}
	keyFile := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keyFile, []byte("the key of the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := Config{TokenSecret: secret, Echo: true, NamedAPIKeys: keys}
	ask := func(t *testing.T, s *Server, key string) int {
		t.Helper()
		status, _ := request(t, "POST", s.internalURL("/api/info"), "{}", "X-API-Key", key)
		return status
	}
	refused := func(t *testing.T, s *Server) bool {
		t.Helper()
		c, response, err := websocket.Dial(t.Context(), s.ws("/echo"), nil)
		if err == nil {
			t.Cleanup(func() { _ = c.CloseNow() })
			return false
		}
		if response == nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("refused with %v, %v", response, err)
		}
		return true
	}
	for _, tt := range []struct {
		name  string
		set   func(*Config)
		bound func(*testing.T, *Server) bool // whether it holds
	}{
		{"connections", func(c *Config) { c.Engine.MaxConnections = 1 }, func(t *testing.T, s *Server) bool { return twice(func() bool { return refused(t, s) }) }},
		{"connections of an address", func(c *Config) { c.Engine.MaxPerAddress = 1 }, func(t *testing.T, s *Server) bool { return twice(func() bool { return refused(t, s) }) }},
		{"accept rate", func(c *Config) { c.Engine.AcceptRate = 5 }, func(t *testing.T, s *Server) bool {
			for range 3 {
				_ = dial(t, s.ws("/echo")).CloseNow()
			}
			return s.engine.Stats().AcceptPaced > 0
		}},
		{"requests with a key", func(c *Config) { c.API.RequestsPerSecond = 0.001 }, func(t *testing.T, s *Server) bool {
			return twice(func() bool { return ask(t, s, "key") == http.StatusTooManyRequests })
		}},
		{"bytes with a key", func(c *Config) { c.API.BytesPerSecond = 0.001 }, func(t *testing.T, s *Server) bool {
			large := strings.Repeat(" ", 128<<10-2) // net/http reads what is left of as much before it hangs up: the answer always arrives
			for range 80 {                          // a burst has room for the largest batch
				if status, _ := request(t, "POST", s.internalURL("/api/info"), "{}"+large, "X-API-Key", "key"); status == http.StatusTooManyRequests {
					return true
				}
			}
			return false
		}},
		{"a file of keys", func(c *Config) { c.APIKeyFile = keyFile }, func(t *testing.T, s *Server) bool { return ask(t, s, "the key of the file") == http.StatusOK }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startServer(t, base)
			if tt.bound(t, s) {
				t.Fatal("it holds before")
			}
			c := base
			tt.set(&c)
			if err := s.Reconfigure(c, nil); err != nil {
				t.Fatal(err)
			}
			if !tt.bound(t, s) {
				t.Error("it does not hold")
			}
		})
	}
}

func TestReconfigureConnectionsOfAUser(t *testing.T) {
	c := everybody()
	s := newStage(t, c, wire.JSON, map[string]jwt.MapClaims{"ann": {"sub": "ann"}, "bob": {"sub": "bob"}})
	s.play("> " + connectAnn + "\n< " + connected + "\nb:> " + connectAnn + "\nb:< " + connected)
	c.MaxConnectionsPerUser = 1
	if err := s.server.Reconfigure(c, nil); err != nil {
		t.Fatal(err)
	}
	s.play("c:> " + connectAnn + "\nc:x 3504 connection limit\nd:> " + connectBob + "\nd:< " + connected) // those who are in stay
	s.play(`> {"id":2,"subscribe":{"channel":"a"}}` + "\n" + `< {"id":2,"subscribe":{}}`)
}

// A fault, wherever it is found, leaves everything as it was.
func TestReconfigureFaults(t *testing.T) {
	kept := ChannelOptions{HistorySize: 10, HistoryTTL: time.Minute}
	base := Config{
		TokenSecret: secret, Echo: true, DataDir: t.TempDir(), NATS: NATS{Embedded: true, Server: NATSServer{StoreBytes: 128 << 20}, Broker: NATSBroker{Groups: 2}},
		Namespaces: []Namespace{{Name: "kept", Options: kept}, {Name: "none"}},
	}
	s := startServer(t, base)
	for want, set := range map[string]func(*Config){
		`namespaces: "kept": history_size: with NATS`: func(c *Config) { c.Namespaces[0].Options = ChannelOptions{} },
		`namespaces: "none": history_size: with NATS`: func(c *Config) { c.Namespaces[1].Options = kept },
		`channels: history_size: with NATS`:           func(c *Config) { c.Channels = kept },
		`api_keys: "a": sha256`:                       func(c *Config) { c.NamedAPIKeys = []APIKey{{Name: "a", SHA256: "abc"}} },
		`webhooks: "w": `: func(c *Config) {
			c.Webhooks.Endpoints = []Webhook{{Name: "w", Endpoint: "https://h/", CAFile: "/missing"}}
		},
		`allowed-origins: "a/b"`: func(c *Config) { c.AllowedOrigins = append(c.AllowedOrigins, "a/b") },
		"personal-namespace":     func(c *Config) { c.PersonalNamespace = "nowhere" },
		"token-hmac-secret-file": func(c *Config) { c.TokenSecret = nil },
	} {
		c := base
		c.Namespaces = append([]Namespace{}, base.Namespaces...)
		c.Namespaces = append(c.Namespaces, Namespace{Name: "new", Options: kept})
		c.AllowedOrigins, c.Engine.MaxConnections = []string{"*"}, 1
		set(&c)
		if err := s.Reconfigure(c, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if status, body := request(t, "GET", "http://"+s.Addrs()[0].String()+"/echo", "", upgradeFrom("https://other.example")...); status != http.StatusForbidden {
		t.Errorf("another origin: %d %s", status, body)
	}
	if _, err := s.hub.Options("new:x"); err == nil {
		t.Error("there is a namespace new")
	}
	if n := s.engine.Stats().MaxConnections; n != 0 {
		t.Errorf("connections are bounded to %d", n)
	}
	if n := s.reloads.done.Load(); n != 0 {
		t.Errorf("it was done %d times", n)
	}
	c := base
	c.Namespaces = append([]Namespace{{Name: "new", Options: kept}}, base.Namespaces...) // there were no channels of it
	c.Namespaces[1].HistorySize = 20
	if err := s.Reconfigure(c, nil); err != nil {
		t.Error(err)
	}
}

func upgradeFrom(origin string) []string {
	return []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", origin}
}

// twice does it two times, the second of which may be one too many, and reports whether either was.
func twice(refused func() bool) bool {
	first := refused()
	return refused() || first
}
