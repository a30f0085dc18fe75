package push

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/tap"
)

// tapped is a capture that runs.
type tapped struct {
	t  testing.TB
	in *bufio.Reader
}

// tap begins a capture, with a key.
func (s *Server) tap(t testing.TB, query, key string) *tapped {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.internalURL("/tap?"+query), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Key", key)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, response.Status)
	}
	return &tapped{t, bufio.NewReader(response.Body)}
}

// until reads until a line has what is wanted.
func (c *tapped) until(what string, ok func(l *tap.Line) bool) *tap.Line {
	c.t.Helper()
	for {
		b, err := c.in.ReadBytes('\n')
		if err != nil {
			c.t.Fatalf("%v before %s", err, what)
		}
		var l tap.Line
		if err := json.Unmarshal(b, &l); err != nil {
			c.t.Fatal(err)
		}
		if ok(&l) {
			return &l
		}
	}
}

func (c *tapped) open() *tap.Line {
	c.t.Helper()
	return c.until("an opening", func(l *tap.Line) bool { return l.Type == "open" })
}

// message reads until a frame's text has something in it.
func (c *tapped) message(from, part string) *tap.Line {
	c.t.Helper()
	return c.until(part, func(l *tap.Line) bool {
		return l.Type == "frame" && l.From == from && l.Text != nil && strings.Contains(*l.Text, part)
	})
}

// Connections of both protocols are found by user, by channel and by id, whether they were there before or not.
func TestTapFinds(t *testing.T) {
	s := startServer(t, Config{
		TokenSecret: secret, NamedAPIKeys: []APIKey{tapKey("ops", "tap", "tap_payload")}, Channels: ChannelOptions{AllowSubscribeForClient: true},
	})
	sign := func(user string) string { return signed(t, jwt.MapClaims{"sub": user}) }
	plain := dial(t, s.ws("/push?channels=news&token="+sign("ada")))
	next(t, plain)
	sdk := dial(t, s.ws("/connection/websocket"))
	send(t, sdk, `{"id":1,"connect":{"token":"`+sign("ada")+`"}}`)
	next(t, sdk)
	other := dial(t, s.ws("/push?channels=other&token="+sign("grace")))
	next(t, other)

	byUser := s.tap(t, "user=ada", "ops-key")
	ids := map[string]*tap.Line{}
	for len(ids) < 2 {
		l := byUser.open()
		ids[l.Path] = l
	}
	for path, l := range ids {
		if l.User != "ada" || !l.Synthesised || l.Client == "" {
			t.Errorf("%s: %+v", path, l)
		}
	}
	byChannel := s.tap(t, "channel=news", "ops-key")
	byClient := s.tap(t, "id="+ids["/connection/websocket"].Client, "ops-key")
	byID := s.tap(t, "id="+ids["/push"].Connection, "ops-key")
	for name, c := range map[string]*tapped{"/push": byChannel, "/connection/websocket": byClient, " /push": byID} {
		if l := c.open(); l.Connection != ids[strings.TrimSpace(name)].Connection {
			t.Errorf("%s: %+v, want %+v", name, l, ids)
		}
	}
	send(t, plain, `{"type":"ping","id":"mine"}`)
	next(t, plain)
	byID.message("client", "mine")
	byChannel.message("server", "mine")

	later := dial(t, s.ws("/push?channels=news&token="+sign("ada")))
	next(t, later)
	if l := byUser.open(); l.Synthesised || !strings.Contains(l.Request, "token=[redacted]") || l.User != "ada" {
		t.Errorf("%+v", l)
	}
}

// tapKey is the key NAME-key with scopes.
func tapKey(name string, scopes ...string) APIKey {
	sum := sha256.Sum256([]byte(name + "-key"))
	return APIKey{Name: name, SHA256: hex.EncodeToString(sum[:]), Scopes: scopes}
}

// The scope tap is for frames without payloads, tap_payload for these; keys for some channels have neither, and those without scopes see no
// payload.
func TestTapScopes(t *testing.T) {
	limited := tapKey("some", "tap", "tap_payload")
	limited.Channels = []string{"news"}
	s := startServer(t, Config{TokenSecret: secret, Echo: true, NamedAPIKeys: []APIKey{
		tapKey("seer", "tap"), tapKey("reader", "tap", "tap_payload"), tapKey("publisher", "publish", "debug"), tapKey("all"), limited,
	}})
	for key, want := range map[string]int{"": 401, "nobody": 401, "publisher-key": 403, "some-key": 403} {
		if status, body := request(t, "GET", s.internalURL("/tap"), "", "X-API-Key", key); status != want {
			t.Errorf("%q: %d %s, want %d", key, status, body, want)
		}
	}
	for _, key := range []string{"seer-key", "all-key"} {
		if status, body := request(t, "GET", s.internalURL("/tap?payload_bytes=-1"), "", "X-API-Key", key); status != 403 {
			t.Errorf("%q: %d %s", key, status, body)
		}
	}
	seer, reader := s.tap(t, "path=/echo", "seer-key"), s.tap(t, "path=/echo", "reader-key")
	c := dial(t, s.ws("/echo"))
	if err := c.Write(t.Context(), websocket.MessageText, []byte("between us")); err != nil {
		t.Fatal(err)
	}
	next(t, c)
	reader.message("client", "between us")
	if l := seer.message("client", ""); *l.Text != "" || l.Hidden != 10 || len(l.Wire) != 0 {
		t.Errorf("%+v", l)
	}
}

// A server that shuts down does not wait for captures, and the figures are there.
func TestTapMetricsAndShutdown(t *testing.T) {
	s := startServer(t, Config{Dev: true})
	c := s.tap(t, "", "")
	if status, body := request(t, "GET", s.internalURL("/metrics"), ""); status != 200 || !strings.Contains(body, `millpond_tap_captures{kind="api"} 1`) ||
		!strings.Contains(body, "millpond_tap_started_total 1") || !strings.Contains(body, `millpond_tap_refused_total{reason="rate"} 0`) {
		t.Errorf("metrics: %d %s", status, body)
	}
	if status, _ := request(t, "GET", s.internalURL("/tap"), "", "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("a page of another origin: %d", status)
	}
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	if l := c.until("the end", func(l *tap.Line) bool { return l.Type == "done" }); l.Reason != "shutdown" {
		t.Errorf("%+v", l)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
