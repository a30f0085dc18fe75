package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/internal/files"
)

var ann = jwt.MapClaims{"sub": "ann"}

// Each key verifies the tokens of its algorithms, and no others.
func TestAlgorithms(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret, PublicKeyFiles: []string{
		file(t, "rsa.pem", publicPEM(rsaKey)), file(t, "ec.pem", publicPEM(ec256, ec384, ec521)), file(t, "ed.pem", publicPEM(edKey)),
	}}})
	publicRSA := publicPEM(rsaKey)
	none := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", ann)
	for _, tt := range []struct {
		name  string
		token string
		good  bool
	}{
		{"HS256", sign(t, jwt.SigningMethodHS256, secret, "", ann), true},
		{"HS384", sign(t, jwt.SigningMethodHS384, secret, "", ann), true},
		{"HS512", sign(t, jwt.SigningMethodHS512, secret, "", ann), true},
		{"RS256", sign(t, jwt.SigningMethodRS256, rsaKey, "", ann), true},
		{"RS384", sign(t, jwt.SigningMethodRS384, rsaKey, "", ann), true},
		{"RS512", sign(t, jwt.SigningMethodRS512, rsaKey, "", ann), true},
		{"PS256", sign(t, jwt.SigningMethodPS256, rsaKey, "", ann), true},
		{"PS384", sign(t, jwt.SigningMethodPS384, rsaKey, "", ann), true},
		{"PS512", sign(t, jwt.SigningMethodPS512, rsaKey, "", ann), true},
		{"ES256", sign(t, jwt.SigningMethodES256, ec256, "", ann), true},
		{"ES384", sign(t, jwt.SigningMethodES384, ec384, "", ann), true},
		{"ES512", sign(t, jwt.SigningMethodES512, ec521, "", ann), true},
		{"EdDSA", sign(t, jwt.SigningMethodEdDSA, edKey, "", ann), true},
		{"an unknown kid does not matter where keys have none", sign(t, jwt.SigningMethodEdDSA, edKey, "x", ann), true},
		{"another secret", sign(t, jwt.SigningMethodHS256, old, "", ann), false},
		{"another RSA key", sign(t, jwt.SigningMethodRS256, otherRSA, "", ann), false},
		{"an HMAC with the public key as it is in the file", sign(t, jwt.SigningMethodHS256, publicRSA, "", ann), false},
		{"and without white space", sign(t, jwt.SigningMethodHS256, []byte(strings.TrimSpace(string(publicRSA))), "", ann), false},
		{"an HMAC with the public key's bytes", sign(t, jwt.SigningMethodHS256, must(x509.MarshalPKIXPublicKey(rsaKey.Public())), "", ann), false},
		{"an HMAC with nothing", sign(t, jwt.SigningMethodHS256, []byte{}, "", ann), false},
		{"none", none, false},
		{"none, written otherwise", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"None"}`)) + none[strings.Index(none, "."):], false},
		{"no algorithm", base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + none[strings.Index(none, "."):], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), tt.token)
			if good := err == nil && id.User == "ann"; good != tt.good || err != nil && !errors.Is(err, ErrToken) {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
	if st := v.Stats(); st.Verified != 14 || st.Refused["bad signature or algorithm"] == 0 || st.Keys != 6 {
		t.Errorf("%+v", st)
	}
}

// A secret alone: the other algorithms have no key at all.
func TestUnknownKey(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}})
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodRS256, rsaKey, "", ann)); err == nil || err.Error() != "invalid token: unknown key" {
		t.Error(err)
	}
}

func TestClaims(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}, Audience: []string{"here", "there"}, IssuerPattern: `https://[a-z]+\.example\.com|own`})
	base := func(more jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "ann", "aud": "here", "iss": "own", "iat": 1000, "jti": "id"}
		for k, v := range more {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	for _, tt := range []struct {
		name   string
		claims jwt.MapClaims
		want   string // what of the identity, or the error
	}{
		{"plain", nil, `ann   id 1000`},
		{"anonymous", jwt.MapClaims{"sub": nil}, `   id 1000`},
		{"no iat, no jti", jwt.MapClaims{"iat": nil, "jti": nil}, `ann    0`},
		{"info and meta", jwt.MapClaims{"info": map[string]int{"n": 1}, "meta": []int{1}}, `ann {"n":1} [1] id 1000`},
		{"b64info", jwt.MapClaims{"b64info": "eyJuIjoyfQ=="}, `ann {"n":2}  id 1000`},
		{"info that is null", jwt.MapClaims{"info": nil}, `ann   id 1000`},
		{"b64info that is no JSON", jwt.MapClaims{"b64info": "/w=="}, "invalid token: a claim does not make sense"},
		{
			"channels and subs",
			jwt.MapClaims{"channels": []string{"b", "a"}, "subs": map[string]any{
				"a": map[string]any{"info": 1, "data": 2, "override": map[string]any{"presence": map[string]bool{"value": true}}},
				"c": map[string]any{"b64info": "MQ==", "b64data": "/w=="}, "d": nil,
			}},
			`ann   id 1000 a:1:2:true c:1:` + "\xff" + `:false d:::false b:::false`,
		},
		{"sub's info that is no JSON", jwt.MapClaims{"subs": map[string]any{"a": map[string]any{"b64info": "/w=="}}}, "invalid token: a claim does not make sense"},
		{"several audiences", jwt.MapClaims{"aud": []string{"x", "there"}}, `ann   id 1000`},
		{"another audience", jwt.MapClaims{"aud": "x"}, "invalid token: for another audience"},
		{"no audience", jwt.MapClaims{"aud": nil}, "invalid token: a claim does not make sense"},
		{"issuer by the pattern", jwt.MapClaims{"iss": "https://a.example.com"}, `ann   id 1000`},
		{"issuer beyond the pattern", jwt.MapClaims{"iss": "https://a.example.com.evil.org"}, "invalid token: from another issuer"},
		{"issuer before the pattern", jwt.MapClaims{"iss": "xown"}, "invalid token: from another issuer"},
		{"no issuer", jwt.MapClaims{"iss": nil}, "invalid token: from another issuer"},
		{"expired", jwt.MapClaims{"exp": in(-time.Second)}, "invalid token: expired"},
		{"expired, and for another audience", jwt.MapClaims{"exp": in(-time.Second), "aud": "x"}, "invalid token: for another audience"},
		{"not yet", jwt.MapClaims{"nbf": in(time.Hour)}, "invalid token: not valid yet"},
		{"not yet, and expired", jwt.MapClaims{"nbf": in(time.Hour), "exp": in(-time.Hour)}, "invalid token: not valid yet"},
		{"for a channel", jwt.MapClaims{"channel": "c"}, "invalid token: of the other kind"},
		{"a user that is a number", jwt.MapClaims{"sub": 42}, "invalid token: malformed"},
		{"an expiry that is a word", jwt.MapClaims{"exp": "soon"}, "invalid token: malformed"},
		{"channels that are a word", jwt.MapClaims{"channels": "a"}, "invalid token: malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", base(tt.claims)))
			got := fmt.Sprintf("%s %s %s %s %d", id.User, id.Info, id.Meta, id.Mark.ID, id.Mark.Issued.Unix())
			for _, s := range id.Subs {
				got += fmt.Sprintf(" %s:%s:%s:%t", s.Channel, s.Info, s.Data, s.Override != nil && s.Override.Presence.Value)
			}
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// When what a token gives ends, and what it says as a subscription's.
func TestExpiryAndSubscriptions(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}})
	soon, later := in(time.Hour), in(2*time.Hour)
	for _, tt := range []struct {
		claims jwt.MapClaims
		want   int64
	}{
		{jwt.MapClaims{}, 0},
		{jwt.MapClaims{"exp": soon}, soon},
		{jwt.MapClaims{"exp": soon, "expire_at": later}, later},
		{jwt.MapClaims{"exp": soon, "expire_at": 0}, 0},
		{jwt.MapClaims{"expire_at": soon}, soon},
	} {
		id, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", tt.claims))
		got := id.Expires.Unix()
		if id.Expires.IsZero() {
			got = 0
		}
		if err != nil || got != tt.want {
			t.Errorf("%v: %d, %v", tt.claims, got, err)
		}
	}
	c := jwt.MapClaims{"sub": "ann", "channel": "c", "client": "id", "info": 1, "override": map[string]any{"join_leave": map[string]bool{"value": false}}}
	s, err := v.VerifySubscription(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", c))
	if err != nil || s.User != "ann" || s.Channel != "c" || s.Client != "id" || string(s.Info) != "1" || s.Override.JoinLeave.Value {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := v.VerifySubscription(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", ann)); !errors.Is(err, ErrToken) {
		t.Error("a connection's token opens a channel")
	}
}

func TestLeewayAndCritical(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}, Leeway: time.Hour})
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{"exp": in(-time.Minute), "expire_at": 0})); err != nil {
		t.Error(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, ann)
	token.Header["crit"] = []string{"b64"}
	signed, _ := token.SignedString(secret)
	if _, err := v.Verify(t.Context(), signed); err == nil || err.Error() != "invalid token: with critical extensions" {
		t.Error(err)
	}
}

// A token with a kid is tried with the key of that name, or with those without one.
func TestKeyIDs(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{PublicKeyFiles: []string{
		"one=" + file(t, "1.pem", publicPEM(rsaKey)), "two=" + file(t, "2.pem", publicPEM(otherRSA)),
	}}})
	for _, tt := range []struct {
		key  *rsa.PrivateKey
		kid  string
		good bool
	}{
		{rsaKey, "one", true}, {rsaKey, "two", false}, {rsaKey, "", true}, {otherRSA, "", true}, {rsaKey, "three", false},
	} {
		if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodRS256, tt.key, tt.kid, ann)); (err == nil) != tt.good {
			t.Errorf("kid %q: %v", tt.kid, err)
		}
	}
}

// The secret before is good until its end.
func TestPreviousSecret(t *testing.T) {
	path := file(t, "old", old)
	token := sign(t, jwt.SigningMethodHS256, old, "", ann)
	for _, tt := range []struct {
		until time.Time
		good  bool
	}{{time.Now().Add(time.Hour), true}, {time.Now().Add(-time.Second), false}} {
		v := newVerifier(t, Config{Keys: Keys{Secret: secret, PreviousSecretFile: path, PreviousUntil: tt.until}})
		if _, err := v.Verify(t.Context(), token); (err == nil) != tt.good {
			t.Errorf("until %v: %v", tt.until, err)
		}
		if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", ann)); err != nil {
			t.Error(err)
		}
	}
}

// Channels' tokens can have keys of their own, which then are the only ones.
func TestSubscriptionKeys(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}, Subscription: &Keys{Secret: old}})
	c := jwt.MapClaims{"channel": "c"}
	if _, err := v.VerifySubscription(t.Context(), sign(t, jwt.SigningMethodHS256, old, "", c)); err != nil {
		t.Error(err)
	}
	if _, err := v.VerifySubscription(t.Context(), sign(t, jwt.SigningMethodHS256, secret, "", c)); err == nil {
		t.Error("a key of connections' tokens is good for a channel's")
	}
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, old, "", ann)); err == nil {
		t.Error("a key of channels' tokens is good for a connection's")
	}
}

func TestInsecure(t *testing.T) {
	v := newVerifier(t, Config{Insecure: true})
	if id, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, []byte("any"), "", ann)); err != nil || id.User != "ann" {
		t.Error(id, err)
	}
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, []byte("any"), "", jwt.MapClaims{"exp": in(-time.Minute)})); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
	if v := newVerifier(t, Config{Insecure: true, Keys: Keys{Secret: secret}}); true {
		if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, []byte("any"), "", ann)); err == nil {
			t.Error("with a key, a wrong signature is believed")
		}
	}
}

func TestValidate(t *testing.T) {
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(rsaKey))})
	many := make([]crypto.Signer, maxKeys+1)
	for i := range many {
		many[i] = ec256
	}
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"short secret", Config{Keys: Keys{Secret: secret[:31]}}, "31 bytes, want at least 32"},
		{"no file", Config{Keys: Keys{SecretFile: "/nowhere"}}, "token-hmac-secret-file: open /nowhere"},
		{"empty file", Config{Keys: Keys{SecretFile: file(t, "e", []byte(" \n"))}}, "is empty"},
		{"large file", Config{Keys: Keys{SecretFile: file(t, "l", make([]byte, files.MaxSecretBytes+1))}}, "more than"},
		{"a public key as the secret", Config{Keys: Keys{SecretFile: file(t, "p", publicPEM(rsaKey))}}, "not a secret"},
		{"a secret as the public key", Config{Keys: Keys{PublicKeyFiles: []string{file(t, "s", secret)}}}, "no public key in PEM"},
		{"a private key as the public key", Config{Keys: Keys{PublicKeyFiles: []string{file(t, "k", private)}}}, "needs no private ones"},
		{"small RSA key", Config{Keys: Keys{PublicKeyFiles: []string{file(t, "w", publicPEM(small))}}}, "1024 bits"},
		{"other curve", Config{Keys: Keys{PublicKeyFiles: []string{file(t, "c", publicPEM(p224))}}}, "curve"},
		{"too many keys", Config{Keys: Keys{PublicKeyFiles: []string{file(t, "m", publicPEM(many...))}}}, "at most 32"},
		{"no key set", Config{Keys: Keys{JWKSFile: file(t, "j", []byte("<html>"))}}, "not a JSON Web Key Set"},
		{"empty key set", Config{Keys: Keys{JWKSFile: file(t, "j", []byte(`{"keys":[]}`))}}, "no keys"},
		{"secret in a key set", Config{Keys: Keys{JWKSFile: file(t, "j", []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))}}, "not public"},
		{"previous without an end", Config{Keys: Keys{Secret: secret, PreviousSecretFile: file(t, "o", old)}}, "token-hmac-previous-until"},
		{"http", Config{Keys: Keys{JWKSURL: "http://example.com/"}}, "token-jwks-url: want https"},
		{"subscriptions", Config{Subscription: &Keys{SecretFile: "/nowhere"}}, "subscription-token-hmac-secret-file"},
		{"two issuers", Config{Issuer: "a", IssuerPattern: "b"}, "only one"},
		{"bad pattern", Config{IssuerPattern: "("}, "token-issuer-regex"},
		{"negative", Config{Leeway: -1, JWKS: JWKS{Refresh: -1}}, "token-leeway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := New(tt.config)
			if err == nil {
				_ = v.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A file that changes is read again; a bad one leaves the old key in place.
func TestReload(t *testing.T) {
	path := file(t, "secret", secret)
	v := newVerifier(t, Config{Keys: Keys{SecretFile: path}})
	good := func(key []byte) bool {
		_, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, key, "", ann))
		return err == nil
	}
	put(t, path, []byte("short"))
	eventually(t, "the bad file is noticed", func() bool { return v.Stats().Failed > 0 })
	if err := v.Reload(); err == nil || !good(secret) {
		t.Error("a bad file has taken the old secret away")
	}
	put(t, path, old)
	eventually(t, "the new secret is in use", func() bool { return good(old) })
	if good(secret) {
		t.Error("the old secret is good still")
	}
	put(t, path, secret)
	if err := v.Reload(); err != nil || !good(secret) {
		t.Error(err)
	}
}

func TestJWKSFile(t *testing.T) {
	v := newVerifier(t, Config{Keys: Keys{JWKSFile: file(t, "jwks", set(rsaKey, ec256, edKey))}})
	for _, token := range []string{
		sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann), sign(t, jwt.SigningMethodES256, ec256, "k1", ann), sign(t, jwt.SigningMethodEdDSA, edKey, "", ann),
	} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodRS256, rsaKey, "k1", ann)); err == nil {
		t.Error("a token names the key of another")
	}
	bound := strings.Replace(string(set(rsaKey)), `"kty"`, `"alg":"RS512","kty"`, 1)
	v = newVerifier(t, Config{Keys: Keys{JWKSFile: file(t, "bound", []byte(bound))}})
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)); err == nil {
		t.Error("a key for RS512 alone verifies RS256")
	}
	if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodRS512, rsaKey, "k0", ann)); err != nil {
		t.Error(err)
	}
	others := strings.Replace(string(set(rsaKey, ec256)), `"use":"sig"`, `"use":"enc"`, 1)
	keys, err := parseJWKS([]byte(strings.Replace(others, `{"keys":[`, `{"keys":[{"kty":"XYZ"},7,{"kty":"oct","k":"AA"},`, 1)))
	if err != nil || len(keys) != 1 || keys[0].algs[0] != "ES256" {
		t.Errorf("%+v, %v", keys, err)
	}
}

// Whatever a client sends as a token: no panic, and nothing of it in the error.
func FuzzVerify(f *testing.F) {
	v := newVerifier(f, Config{Keys: Keys{Secret: secret, PublicKeyFiles: []string{file(f, "k", publicPEM(rsaKey, ec256, edKey))}}})
	for _, c := range []jwt.MapClaims{ann, {"exp": 1e300}, {"exp": -1e300, "iat": 1e18}, {"subs": map[string]any{"a": nil}}, {"channel": "c"}} {
		f.Add(sign(f, jwt.SigningMethodHS256, secret, "k", c))
	}
	f.Add(sign(f, jwt.SigningMethodES256, ec256, "", ann))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		_, err1 := v.Verify(t.Context(), token)
		_, err2 := v.VerifySubscription(t.Context(), token)
		if err1 == nil && err2 == nil {
			t.Error("a token is of both kinds")
		}
		for _, err := range []error{err1, err2} {
			if err != nil && len(token) > 60 && strings.Contains(err.Error(), token[:20]) {
				t.Error("the error quotes the token")
			}
		}
	})
}

// FuzzClaims puts anything between a good header and a good signature.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f, Config{Keys: Keys{Secret: secret}})
	f.Add(`{"sub":"ann","exp":9e99,"iat":-9e99,"expire_at":9223372036854775807,"subs":{"a":{"override":{"presence":null}}},"b64info":"AA=="}`)
	f.Add(`{"channel":"c","info":{"a":1},"override":{"presence":{"value":true}}}`)
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`))
	f.Fuzz(func(t *testing.T, claims string) {
		text := header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signature, err := jwt.SigningMethodHS256.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		token := text + "." + base64.RawURLEncoding.EncodeToString(signature)
		_, err1 := v.Verify(t.Context(), token)
		_, err2 := v.VerifySubscription(t.Context(), token)
		if err1 == nil && err2 == nil {
			t.Error("a token is of both kinds")
		}
	})
}

// How long tokens take, by their algorithms; "none" is one of nonsense.
func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b, Config{Keys: Keys{Secret: secret, PublicKeyFiles: []string{file(b, "k", publicPEM(rsaKey, ec256, ec384, ec521, edKey))}}})
	c := jwt.MapClaims{"sub": "ann", "exp": in(time.Hour), "iat": in(0), "info": map[string]string{"name": "Ann"}}
	for _, m := range []struct {
		method jwt.SigningMethod
		key    any
	}{
		{jwt.SigningMethodHS256, secret},
		{jwt.SigningMethodHS512, secret},
		{jwt.SigningMethodRS256, rsaKey},
		{jwt.SigningMethodPS256, rsaKey},
		{jwt.SigningMethodES256, ec256},
		{jwt.SigningMethodES384, ec384},
		{jwt.SigningMethodES512, ec521},
		{jwt.SigningMethodEdDSA, edKey},
	} {
		token := sign(b, m.method, m.key, "", c)
		b.Run(m.method.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	forged := sign(b, jwt.SigningMethodHS256, old, "", c)
	for name, token := range map[string]string{"forged": forged, "nonsense": strings.Repeat("x", 300)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err == nil {
					b.Fatal("it is good")
				}
			}
		})
	}
}
