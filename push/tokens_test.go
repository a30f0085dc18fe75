package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// What tokens can say, and what becomes of clients that show one which is not good, or none.
func TestTokens(t *testing.T) {
	on := map[string]any{"value": true}
	tokens := map[string]jwt.MapClaims{
		"ann": users["ann"], "nobody": {"sub": ""},
		"subs": {"sub": "ann", "meta": map[string]int{"secret": 1}, "channels": []string{"a", "b"}, "subs": map[string]any{
			"b":      map[string]any{"data": map[string]int{"hello": 1}, "info": map[string]int{"seat": 2}},
			"past:c": map[string]any{"override": map[string]any{"force_recovery": on}},
		}},
		"binary":   {"sub": "ann", "subs": map[string]any{"a": map[string]any{"b64data": "/w=="}}},
		"broken":   {"sub": "ann", "subs": map[string]any{"a": map[string]any{"b64info": "/w=="}}},
		"audience": {"sub": "ann", "aud": "here", "iss": "own"},
		"stranger": {"sub": "ann", "aud": "there", "iss": "own"},
		"issuer":   {"sub": "ann", "aud": "here", "iss": "other"},
		"late":     {"sub": "ann", "exp": in(-5 * time.Second), "expire_at": 0},
		"grant":    {"sub": "ann", "channel": "past:a", "override": map[string]any{"force_positioning": on}},
	}
	config := everybody()
	config.Namespaces = append(config.Namespaces, Namespace{Name: "past", Options: ChannelOptions{HistorySize: 5, HistoryTTL: time.Minute}})
	strict := with(config, func(c *Config) { c.Tokens.Audience, c.Tokens.Issuer = []string{"here"}, "own" })
	table := []conversation{
		{name: "anonymous, where that is allowed", config: with(config, func(c *Config) { c.AllowAnonymous = true }), lines: `
			> {"id":1,"connect":{}}
			+ {"id":2,"subscribe":{"channel":"a"}}
			< ` + connected + `
			< {"id":2,"subscribe":{}}
			> {"id":3,"publish":{"channel":"a","data":1}}
			< {"id":3,"error":{"code":103,"message":"permission denied"}}`},
		{name: "a bad token is none the better for it", config: with(config, func(c *Config) { c.AllowAnonymous = true }), lines: `
			> {"id":1,"connect":{"token":"<forged>"}}
			x 3500 invalid token`},
		{name: "a token without a user", lines: `
			> {"id":1,"connect":{"token":"<nobody>"}}
			< ` + connected},
		{name: "subs", lines: `
			> {"id":1,"connect":{"token":"<subs>"}}
			< {"id":1,"connect":{"client":"<client>","version":"v1","subs":{"a":{},"b":{"data":{"hello":1}},"past:c":{"recoverable":true,"epoch":"<epoch>","positioned":true}},"ping":25,"pong":true}}`},
		{name: "data that is no JSON, for JSON", codecs: []wire.Codec{wire.JSON}, lines: `
			> {"id":1,"connect":{"token":"<binary>"}}
			x 3506 inappropriate protocol`},
		{name: "info that is no JSON", lines: `
			> {"id":1,"connect":{"token":"<broken>"}}
			x 3500 invalid token`},
		{name: "audience and issuer", config: strict, lines: `
			> {"id":1,"connect":{"token":"<audience>"}}
			< ` + connected},
		{name: "another audience", config: strict, lines: "> {\"id\":1,\"connect\":{\"token\":\"<stranger>\"}}\nx 3500 invalid token"},
		{name: "another issuer", config: strict, lines: "> {\"id\":1,\"connect\":{\"token\":\"<issuer>\"}}\nx 3500 invalid token"},
		{name: "neither", config: strict, lines: "> {\"id\":1,\"connect\":{\"token\":\"<ann>\"}}\nx 3500 invalid token"},
		{name: "expired within the leeway", config: with(config, func(c *Config) { c.Tokens.Leeway = time.Minute }), lines: `
			> {"id":1,"connect":{"token":"<late>"}}
			< ` + connected},
		{name: "a grant with an override", lines: `
			> {"id":1,"connect":{"token":"<ann>"}}
			+ {"id":2,"subscribe":{"channel":"past:a","token":"<grant>"}}
			< ` + connected + `
			< {"id":2,"subscribe":{"epoch":"<epoch>","positioned":true}}`},
	}
	haveAll(t, prepare(table, config, tokens))
}

// callAPI calls a method of the API and wants its answer to begin so.
func (s *stage) callAPI(method, body, want string) {
	s.t.Helper()
	_, got := request(s.t, "POST", s.server.internalURL("/api/"+method), body, "X-API-Key", "key")
	if !strings.HasPrefix(got, want) {
		s.t.Errorf("%s %s: %s, want %s", method, body, got, want)
	}
}

// Revoked tokens end what was made with them at once, and are refused from then on.
func TestRevocation(t *testing.T) {
	issued := time.Now().Add(-time.Hour).Unix()
	now := time.Now().Add(time.Minute).Unix() // after all revocations
	tokens := map[string]jwt.MapClaims{
		"ann": {"sub": "ann", "jti": "a1", "iat": issued}, "anna": {"sub": "ann", "jti": "a2", "iat": issued}, "bob": {"sub": "bob", "iat": issued},
		"new": {"sub": "ann", "iat": now, "jti": "a3"}, "old": {"sub": "ann"}, "nobody": {"iat": issued}, "newnobody": {"iat": now},
		"grant": {"sub": "ann", "channel": "$a", "jti": "s1", "iat": issued}, "free": {"sub": "ann", "channel": "$b", "iat": issued},
		"later": {"sub": "ann", "channel": "$a", "iat": now}, "short": {"sub": "ann", "channel": "$c", "iat": issued, "exp": in(time.Hour)},
		"renewed": {"sub": "ann", "channel": "$c", "iat": now, "exp": in(time.Hour)},
	}
	const done = `{"result":{"lasting":false}}`
	connect := func(who, token string) string {
		return who + `:> {"id":1,"connect":{"token":"<` + token + `>"}}` + "\n" + who + ":< " + connected + "\n"
	}
	subscribe := func(channel, token string) string {
		return `> {"id":2,"subscribe":{"channel":"` + channel + `","token":"<` + token + `>"}}` + "\n" + `< {"id":2,"subscribe":{}}` + "\n"
	}
	const alive = "> {\"id\":9,\"rpc\":{}}\n< {\"id\":9,\"error\":{\"code\":108,\"message\":\"not available\"}}\n"
	refusedAgain := func(token string) string {
		return `z:> {"id":1,"connect":{"token":"<` + token + `>"}}` + "\nz:x 3500 invalid token\n"
	}
	for _, tt := range []struct{ name, before, method, body, after string }{
		{
			"a connection's token", connect("a", "ann") + connect("b", "anna") + connect("c", "ann"), "revoke_token", `{"uid":"a1"}`,
			"a:x 3500 invalid token\nc:x 3500 invalid token\nb:" + strings.ReplaceAll(strings.TrimSpace(alive), "\n", "\nb:") + "\n" + refusedAgain("ann"),
		},
		{
			"a connection's token, after a refresh", connect("a", "ann") + `> {"id":2,"refresh":{"token":"<anna>"}}
				< {"id":2,"refresh":{"client":"<client>","version":"v1"}}` + "\n", "revoke_token", `{"uid":"a1"}`, alive,
		},
		{
			"the token of the refresh", connect("a", "ann") + `> {"id":2,"refresh":{"token":"<anna>"}}
				< {"id":2,"refresh":{"client":"<client>","version":"v1"}}` + "\n", "revoke_token", `{"uid":"a2"}`, "x 3500 invalid token",
		},
		{
			"a channel's token", connect("a", "ann") + subscribe("$a", "grant"), "revoke_token", `{"uid":"s1"}`,
			`< {"push":{"channel":"$a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			> {"id":3,"subscribe":{"channel":"$a","token":"<grant>"}}
			< {"id":3,"error":{"code":103,"message":"permission denied"}}`,
		},
		{
			"a user's", connect("a", "ann") + connect("b", "old") + connect("c", "bob") + connect("d", "new"), "invalidate_user_tokens", `{"user":"ann"}`,
			"a:x 3500 invalid token\nb:x 3500 invalid token\nc:" + strings.ReplaceAll(strings.TrimSpace(alive), "\n", "\nc:") + "\nd:" +
				strings.ReplaceAll(strings.TrimSpace(alive), "\n", "\nd:") + "\n" + refusedAgain("old"),
		},
		{
			"a user's, at a refresh", connect("a", "new"), "invalidate_user_tokens", `{"user":"ann"}`,
			"> {\"id\":2,\"refresh\":{\"token\":\"<ann>\"}}\nx 3500 invalid token",
		},
		{
			"a user's, for channels", connect("a", "new") + subscribe("$b", "free") + subscribe("$a", "later") + subscribe("x", "x"), "invalidate_user_tokens", `{"user":"ann"}`,
			`~ {"push":{"channel":"$a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			~ {"push":{"channel":"$b","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
			> {"id":3,"subscribe":{"channel":"$a","token":"<later>"}}
			+ {"id":4,"subscribe":{"channel":"$b","token":"<free>"}}
			+ {"id":5,"subscribe":{"channel":"x"}}
			< {"id":3,"subscribe":{}}
			< {"id":4,"error":{"code":103,"message":"permission denied"}}
			< {"id":5,"error":{"code":105,"message":"already subscribed"}}`,
		},
		{
			"a user's, for a channel with an end, and after its refresh", connect("a", "new") + `> {"id":2,"subscribe":{"channel":"$c","token":"<short>"}}
			< {"id":2,"subscribe":{"expires":true,"ttl":<any>}}
			> {"id":3,"sub_refresh":{"channel":"$c","token":"<renewed>"}}
			< {"id":3,"sub_refresh":{"expires":true,"ttl":<any>}}` + "\n", "invalidate_user_tokens", `{"user":"ann"}`,
			alive + "> {\"id\":4,\"sub_refresh\":{\"channel\":\"$c\",\"token\":\"<short>\"}}\nx 3500 invalid token",
		},
		{
			"everybody's", connect("a", "ann") + connect("b", "nobody") + connect("c", "new") + connect("d", "newnobody"), "invalidate_all_tokens", ``,
			"a:x 3500 invalid token\nb:x 3500 invalid token\nc:" + strings.ReplaceAll(strings.TrimSpace(alive), "\n", "\nc:") + "\nd:" +
				strings.ReplaceAll(strings.TrimSpace(alive), "\n", "\nd:") + "\n" + refusedAgain("bob"),
		},
		{"nobody's", connect("a", "ann"), "invalidate_user_tokens", fmt.Sprintf(`{"user":"ann","issued_before":%d}`, issued), alive},
	} {
		for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
			t.Run(tt.name+"/"+codecName(codec), func(t *testing.T) {
				c := everybody()
				c.APIKeys = []string{"key"}
				s := newStage(t, c, codec, tokens)
				s.play(strings.ReplaceAll(tt.before, `,"token":"<x>"`, ""))
				s.callAPI(tt.method, tt.body, done)
				s.play(tt.after)
			})
		}
	}
}

// Those who were let in without a token lose nothing when all tokens are revoked.
func TestRevocationSparesAnonymous(t *testing.T) {
	s := newStage(t, with(everybody(), func(c *Config) { c.AllowAnonymous, c.APIKeys = true, []string{"key"} }), wire.JSON, nil)
	s.play("> {\"id\":1,\"connect\":{}}\n< " + connected)
	s.callAPI("invalidate_all_tokens", `{}`, `{"result":`)
	s.play("> {\"id\":9,\"rpc\":{}}\n< {\"id\":9,\"error\":{\"code\":108,\"message\":\"not available\"}}")
}

// With a directory a revocation outlives the server; the API says so, and what it cannot do.
func TestRevocationLasts(t *testing.T) {
	config := with(everybody(), func(c *Config) { c.APIKeys, c.DataDir, c.MaxRevocations = []string{"key"}, t.TempDir(), 2 })
	tokens := map[string]jwt.MapClaims{"ann": {"sub": "ann", "jti": "a1"}}
	first := newStage(t, config, wire.JSON, tokens)
	first.callAPI("revoke_token", `{"uid":"a1"}`, `{"result":{"lasting":true}}`)
	for _, tt := range []struct{ method, body, want string }{
		{"revoke_token", `{}`, `{"error":{"code":107`},
		{"revoke_token", `{"uid":"` + strings.Repeat("x", 256) + `"}`, `{"error":{"code":107`},
		{"revoke_token", `{"uid":"x","expire_at":5}`, `{"error":{"code":107,"message":"bad request: \"expire_at\" is over`},
		{"invalidate_user_tokens", `{}`, `{"error":{"code":107`},
		{"invalidate_user_tokens", `{"user":"` + strings.Repeat("x", 256) + `"}`, `{"error":{"code":107`},
		{"invalidate_user_tokens", `{"user":"u","channel":"c"}`, `{"error":{"code":107,"message":"bad request: \"channel\"`},
		{"invalidate_all_tokens", `{"issued_before":-1}`, `{"error":{"code":107`},
		{"invalidate_all_tokens", fmt.Sprintf(`{"issued_before":%d}`, time.Now().UnixMilli()), `{"error":{"code":107`},
		{"invalidate_all_tokens", `{"issued_before":5}`, `{"result":{"lasting":true}}`},
		{"revoke_token", `{"uid":"x"}`, `{"error":{"code":106,"message":"limit exceeded`},
		{"invalidate_user_tokens", `{"user":"x"}`, `{"error":{"code":106,"message":"limit exceeded`},
	} {
		first.callAPI(tt.method, tt.body, tt.want)
	}
	if err := first.server.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	newStage(t, config, wire.JSON, tokens).play("> {\"id\":1,\"connect\":{\"token\":\"<ann>\"}}\nx 3500 invalid token")
}

func signed(t testing.TB, c jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expectPlainClose(t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		if err == nil {
			t.Logf("skipped %s", b)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		return
	}
}

// The same by the plain protocol.
func TestPlainTokens(t *testing.T) {
	s := startServer(t, with(everybody(), func(c *Config) { c.AllowAnonymous, c.APIKeys = true, []string{"key"} }))
	post := func(method, body string) {
		t.Helper()
		if status, b := request(t, "POST", s.internalURL("/api/"+method), body, "X-API-Key", "key"); status != 200 || !strings.HasPrefix(b, `{"result"`) {
			t.Errorf("%s: %d %s", method, status, b)
		}
	}
	open := func(c jwt.MapClaims) *websocket.Conn { return dial(t, s.ws("/push?channels=a&token="+signed(t, c))) }
	past := time.Now().Add(-time.Hour).Unix()
	anonymous := dial(t, s.ws("/push?channels=a"))
	byID, ofUser, other := open(jwt.MapClaims{"sub": "ann", "jti": "p1"}), open(jwt.MapClaims{"sub": "ann", "iat": past}), open(jwt.MapClaims{"sub": "bob", "iat": past})
	subs := open(jwt.MapClaims{"sub": "eve", "subs": map[string]any{"$x": nil}})
	send(t, subs, `{"type":"subscribe","payload":{"channel":"$x"}}`)
	for _, c := range []*websocket.Conn{anonymous, byID, ofUser, other, subs, subs} {
		if m := next(t, c); !strings.Contains(m, `"ok":true`) && !strings.Contains(m, `"subscribe`) || strings.Contains(m, "error") {
			t.Errorf("got %s", m)
		}
	}
	post("revoke_token", `{"uid":"p1"}`)
	expectPlainClose(t, byID, "token revoked")
	post("invalidate_user_tokens", `{"user":"ann"}`)
	expectPlainClose(t, ofUser, "token revoked")
	post("publish", `{"channel":"a","data":1}`)
	for _, c := range []*websocket.Conn{anonymous, other} {
		if m := next(t, c); !strings.Contains(m, `"data":1`) {
			t.Errorf("got %s", m)
		}
	}
	post("invalidate_all_tokens", "")
	expectPlainClose(t, other, "token revoked")
	expectPlainClose(t, subs, "token revoked")
	post("publish", `{"channel":"a","data":2}`)
	if m := next(t, anonymous); !strings.Contains(m, `"data":2`) {
		t.Errorf("got %s", m)
	}
	again := open(jwt.MapClaims{"sub": "bob", "iat": past})
	if m := next(t, again); !strings.Contains(m, "revoked") {
		t.Errorf("got %s", m)
	}
	expectPlainClose(t, again, "login failed")
}

// Keys from a file and from a server; the one while the other is away.
func TestKeysFromElsewhere(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	s := startServer(t, Config{Tokens: Tokens{Keys: TokenKeys{PublicKeyFiles: []string{path}, JWKSURL: dead.URL}}})
	for _, tt := range []struct {
		method jwt.SigningMethod
		key    any
		kid    string
		want   string
	}{
		{jwt.SigningMethodES256, key, "", `"client"`},
		{jwt.SigningMethodES256, key, "other", `"client"`},
		{jwt.SigningMethodRS256, nil, "gone", `"code":111`},
		{jwt.SigningMethodHS256, secret, "", "3500"},
	} {
		token := jwt.NewWithClaims(tt.method, jwt.MapClaims{"sub": "ann"})
		token.Header["kid"] = tt.kid
		text, _ := token.SigningString()
		text += ".AAAA"
		if tt.key != nil {
			if text, err = token.SignedString(tt.key); err != nil {
				t.Fatal(err)
			}
		}
		c := dial(t, s.ws("/connection/websocket"))
		command, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]string{"token": text}})
		send(t, c, string(command))
		_, b, err := c.Read(t.Context())
		got := string(b)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s %q: %s, want %s", tt.method.Alg(), tt.kid, got, tt.want)
		}
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("a bad file is no error")
	}
	_, metrics := request(t, "GET", s.internalURL("/metrics"), "")
	for _, want := range []string{
		`millpond_tokens_total{outcome="good"} 2`, `millpond_tokens_total{outcome="key not known yet"} 1`, `millpond_tokens_total{outcome="unknown key"} 1`,
		"millpond_token_keys 1", "millpond_token_keys_fetched_timestamp_seconds 0", "millpond_token_revocations 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
