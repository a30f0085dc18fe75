package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// tokenProcess runs the program with a token's command and returns what it prints.
func tokenProcess(t *testing.T, stdin string, args ...string) (out string, ok bool) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], append([]string{"token"}, args...)...)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=1")
	command.Stdin = strings.NewReader(stdin)
	b, err := command.CombinedOutput()
	return string(b), err == nil
}

func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const tokenSecret = "0123456789abcdef0123456789abcdef"

// keyPair writes a private key, and its public one.
func keyPair(t *testing.T, key crypto.Signer, err error) (private, public string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	a, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "private.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a})),
		writeFile(t, "public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

// What token makes, token check finds good, and serve too.
func TestToken(t *testing.T) {
	secret := writeFile(t, "secret", []byte(tokenSecret+"\n"))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	rsaPrivate, rsaPublic := keyPair(t, rsaKey, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ecPrivate, ecPublic := keyPair(t, ecKey, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	edPrivate, edPublic := keyPair(t, edKey, err)
	server := startProcess(t, "--token-hmac-secret-file="+secret, "--token-public-key-file="+rsaPublic,
		"--token-public-key-file=k="+ecPublic, "--token-public-key-file="+edPublic)
	for _, tt := range []struct {
		make  []string
		check string
		want  string
	}{
		{[]string{"--hmac-secret-file=" + secret, "--user=ann"}, "--token-hmac-secret-file=" + secret, `"alg":"HS256"`},
		{[]string{"--token-hmac-secret-file=" + secret}, "--token-hmac-secret-file=" + secret, `"alg":"HS256"`}, // by the server's name
		{[]string{"--hmac-secret-file=" + secret, "--alg=HS512"}, "--token-hmac-secret-file=" + secret, `"alg":"HS512"`},
		{[]string{"--private-key-file=" + rsaPrivate, "--alg=PS256"}, "--token-public-key-file=" + rsaPublic, `"alg":"PS256"`},
		{[]string{"make", "--private-key-file=" + rsaPrivate}, "--token-public-key-file=" + rsaPublic, `"alg":"RS256"`},
		{[]string{"--private-key-file=" + ecPrivate, "--kid=k"}, "--token-public-key-file=k=" + ecPublic, `"kid":"k"`},
		{[]string{"--private-key-file=" + edPrivate, "--jti=j"}, "--token-public-key-file=" + edPublic, `"jti": "j"`},
	} {
		token, ok := tokenProcess(t, "", tt.make...)
		if !ok {
			t.Errorf("%v: %s", tt.make, token)
			continue
		}
		report, ok := tokenProcess(t, token, "check", tt.check)
		if !ok || !strings.Contains(report, tt.want) || !strings.HasSuffix(report, "good\n") {
			t.Errorf("%v: %s", tt.make, report)
		}
		c, _, err := websocket.Dial(t.Context(), "ws://"+server.public+"/push?token="+strings.TrimSpace(token), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || strings.Contains(string(b), "error") {
			t.Errorf("%v: serve says %s, %v", tt.make, b, err)
		}
		_ = c.CloseNow()
	}
}

func TestTokenClaims(t *testing.T) {
	secret := writeFile(t, "secret", []byte(tokenSecret))
	by := "--hmac-secret-file=" + secret
	for _, tt := range []struct {
		name  string
		make  []string
		check []string
		want  []string // in what check says
		good  bool
	}{
		{
			"all that a connection's can say",
			[]string{"--user=ann", "--info={\"n\":1}", "--meta=[2]", "--channels=a,b", `--subs={"c":{}}`, "--audience=x", "--issuer=own", "--ttl=0", "--expire-at=0"},
			[]string{"--token-audience=x", "--token-issuer-regex=o.n"},
			[]string{"kind: connection", `"sub": "ann"`, `"n": 1`, `"meta"`, `"c": {}`, `"aud": [`, `"iss": "own"`, `"expire_at": 0`, "good"},
			true,
		},
		{
			"a subscription's",
			[]string{"--user=ann", "--channel=$a", "--client=id", `--override={"presence":{"value":false}}`, "--expire=2100-01-01T00:00:00Z"},
			nil,
			[]string{"kind: subscription", `"client": "id"`, `"override"`, "exp: 2100-01-01T00:00:00Z (in ", "good"},
			true,
		},
		{"expired", []string{"--expire=1000"}, nil, []string{"exp: 1970-01-01T00:16:40Z", "ago)", "refused: invalid token: expired"}, false},
		{"another audience", []string{"--audience=y"}, []string{"--token-audience=x"}, []string{"refused: invalid token: for another audience"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, ok := tokenProcess(t, "", append(tt.make, by)...)
			if !ok {
				t.Fatal(token)
			}
			report, ok := tokenProcess(t, token, append([]string{"check", "--token-hmac-secret-file=" + secret}, tt.check...)...)
			if ok != tt.good {
				t.Errorf("exit with success: %t", ok)
			}
			for _, want := range tt.want {
				if !strings.Contains(report, want) {
					t.Errorf("no %q in %s", want, report)
				}
			}
		})
	}
	other := writeFile(t, "other", []byte(strings.Repeat("x", 32)))
	token, _ := tokenProcess(t, "", by)
	for _, tt := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{token, []string{"check", "--token-hmac-secret-file=" + other}, "refused: invalid token: bad signature or algorithm"},
		{"nonsense", []string{"check"}, "malformed"},
		{"", nil, "one file is needed"},
		{"", []string{by, "--private-key-file=" + other}, "one file is needed"},
		{"", []string{"--private-key-file=" + other}, "no private key in PEM"},
		{"", []string{by, "--alg=RS256"}, "the key is not for RS256"},
		{"", []string{by, "--alg=none"}, "the key is not for none"},
		{"", []string{by, "--info={"}, "info: it is not JSON"},
		{"", []string{by, "--client=x"}, "they need a --channel"},
		{"", []string{by, "--channel=x", "--meta=1"}, "not for a subscription"},
		{"", []string{by, "--expire=soon"}, "expire: \"soon\" is not a time"},
		{"", []string{by, "--expire-at=soon"}, "expire-at: \"soon\" is not a time"},
	} {
		if out, ok := tokenProcess(t, tt.stdin, tt.args...); ok || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %s, want %s", tt.args, out, tt.want)
		}
	}
	if out, ok := tokenProcess(t, token, "check"); !ok || !strings.Contains(out, "signature: not checked") {
		t.Error(out)
	}
}

// A server does not start without a key, or with one that is bad.
func TestServeTokenFlags(t *testing.T) {
	bad := writeFile(t, "bad", []byte("short"))
	for _, args := range [][]string{
		{"serve"},
		{"serve", "--allow-anonymous"},
		{"serve", "--token-hmac-secret-file=" + bad},
		{"serve", "--token-public-key-file=/nowhere"},
		{"serve", "--dev", "--token-hmac-previous-until=tomorrow"},
		{"serve", "--token-jwks-url=http://example.com/keys"},
	} {
		var out strings.Builder
		if code := run(t.Context(), args, &out, &out); code != 1 || !strings.Contains(out.String(), "token-") {
			t.Errorf("%v: %d %s", args, code, out.String())
		}
	}
}
