package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestVerify(t *testing.T) {
	v, err := NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	soon, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	good := sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "ann", "exp": soon, "channels": []string{"a", "b"}})
	tests := []struct {
		name, token, user, err string
	}{
		{"HS256", good, "ann", ""},
		{"HS512 without expiry", sign(t, jwt.SigningMethodHS512, secret, jwt.MapClaims{"sub": "bob"}), "bob", ""},
		{"anonymous", sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{}), "", ""},
		{"expired", sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "ann", "exp": past}), "", "expired"},
		{"not yet", sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "ann", "nbf": soon}), "", "not valid yet"},
		{"other key", sign(t, jwt.SigningMethodHS256, []byte("another"), jwt.MapClaims{"sub": "ann"}), "", "bad signature or algorithm"},
		{"none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"sub": "ann"}), "", "bad signature or algorithm"},
		{"cut", good[:len(good)-10], "", "malformed"},
		{"empty", "", "", "malformed"},
		{"garbage", "a.b.c", "", "malformed"},
		{"expiry of a wrong type", sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"exp": "x"}), "", "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := v.Verify(tt.token)
			if tt.err == "" && err != nil || tt.err != "" && !errors.Is(err, ErrToken) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err != nil && err.Error() != "invalid token: "+tt.err {
				t.Errorf("error %q, want %q", err, tt.err)
			}
			if id.User != tt.user {
				t.Errorf("user %q, want %q", id.User, tt.user)
			}
		})
	}
	if id, _ := v.Verify(good); !slices.Equal(id.Channels, []string{"a", "b"}) || id.Expires.Unix() != soon {
		t.Errorf("claims: %+v", id)
	}
}

func TestNewVerifierWantsAStrongSecret(t *testing.T) {
	if _, err := NewVerifier([]byte(strings.Repeat("x", 31))); err == nil {
		t.Error("31 bytes were taken")
	}
}
