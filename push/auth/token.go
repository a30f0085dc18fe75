package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// minSecretBytes is the shortest secret: RFC 7518 §3.2 wants a key of at least the
// size of the hash for HS256.
const minSecretBytes = 32

// Identity is what a verified token says.
type Identity struct {
	User     string    // the claim sub; empty is an anonymous user
	Channels []string  // the claim channels: what the user may subscribe to
	Expires  time.Time // the claim exp; zero is never
}

// ErrToken is wrapped by every refusal. Its text says what was wrong and quotes
// nothing of the token.
var ErrToken = errors.New("invalid token")

// Verifier verifies connection tokens: JWTs signed with HS256, HS384 or HS512. Any
// goroutine may use it.
type Verifier struct {
	// Immutable after NewVerifier.
	secret []byte
	parser *jwt.Parser
}

// NewVerifier returns a verifier for a secret of at least 32 bytes.
func NewVerifier(secret []byte) (*Verifier, error) {
	if len(secret) < minSecretBytes {
		return nil, fmt.Errorf("token secret: %d bytes, want at least %d (openssl rand -base64 32)", len(secret), minSecretBytes)
	}
	return &Verifier{
		secret: secret,
		parser: jwt.NewParser(jwt.WithValidMethods([]string{"HS256", "HS384", "HS512"})),
	}, nil
}

// claims are the parts of a token that matter here.
type claims struct {
	jwt.RegisteredClaims
	Channels []string `json:"channels"`
}

// Verify checks signature and times and returns who the token names. The error
// wraps ErrToken.
func (v *Verifier) Verify(token string) (Identity, error) {
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return v.secret, nil })
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %s", ErrToken, cause(err))
	}
	id := Identity{User: c.Subject, Channels: c.Channels}
	if c.ExpiresAt != nil {
		id.Expires = c.ExpiresAt.Time
	}
	return id, nil
}

// cause names the fault in our own words, so that no byte of a token gets into a
// log or an answer.
func cause(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "not valid yet"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "bad signature or algorithm"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "malformed"
	}
	return "not acceptable"
}
