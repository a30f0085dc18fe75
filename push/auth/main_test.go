package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	old    = []byte("fedcba9876543210fedcba9876543210")

	rsaKey   = must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSA = must(rsa.GenerateKey(rand.Reader, 2048))
	ec256    = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ec384    = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	ec521    = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	edKey    = must2(ed25519.GenerateKey(rand.Reader))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must2[A, T any](_ A, v T, err error) T { return must(v, err) }

// sign signs claims; kid is one of the header, if it is not empty.
func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	put(t, path, b)
	return path
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func publicPEM(keys ...crypto.Signer) (b []byte) {
	for _, k := range keys {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Public()))})...)
	}
	return b
}

// set is a key set; each key has its place in the list as its kid, "k0", "k1" …
func set(keys ...crypto.Signer) []byte {
	var s jose.JSONWebKeySet
	for i, k := range keys {
		s.Keys = append(s.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: "k" + string(rune('0'+i)), Use: "sig"})
	}
	return must(json.Marshal(s))
}

func newVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	if c.JWKS.Timeout == 0 {
		c.JWKS.Timeout = time.Minute // for a machine that is busy
	}
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
