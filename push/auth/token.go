package auth

import (
	"encoding/json"
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
	User     string          // the claim sub; empty is an anonymous user
	Channels []string        // the claim channels: what the user may subscribe to, and is by the Centrifuge protocol
	Info     json.RawMessage // the claim info, or b64info decoded: what others may see of the user
	Expires  time.Time       // the claim expire_at, or else exp; zero is never
}

// Subscription is what a verified token for a channel says.
type Subscription struct {
	User    string          // the claim sub
	Channel string          // the claim channel
	Client  string          // the claim client: the connection's id; empty is any
	Info    json.RawMessage // the claim info, or b64info decoded: what others in the channel may see
	Expires time.Time       // the claim expire_at, or else exp; zero is never
}

// ErrToken is wrapped by every refusal. Its text says what was wrong and quotes
// nothing of the token.
var ErrToken = errors.New("invalid token")

// ErrExpired is wrapped, beside ErrToken, by the refusal of a token that was good until it expired.
var ErrExpired = errors.New("expired")

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
	return newVerifier(secret), nil
}

// NewDevVerifier returns a verifier for development, with a secret of any length; with none it believes every signature.
func NewDevVerifier(secret []byte) *Verifier { return newVerifier(secret) }

func newVerifier(secret []byte) *Verifier {
	return &Verifier{
		secret: secret,
		parser: jwt.NewParser(jwt.WithValidMethods([]string{"HS256", "HS384", "HS512"})),
	}
}

// claims are the parts of a token that matter here.
type claims struct {
	jwt.RegisteredClaims
	Channels []string        `json:"channels"`
	Channel  string          `json:"channel"`
	Client   string          `json:"client"`
	Info     json.RawMessage `json:"info"`
	B64Info  []byte          `json:"b64info"`
	ExpireAt *int64          `json:"expire_at"` // overrides exp as the end of what the token gives; 0 is never
}

// info is that of either form.
func (c *claims) info() json.RawMessage {
	if len(c.B64Info) > 0 {
		return c.B64Info
	}
	if string(c.Info) == "null" {
		return nil
	}
	return c.Info
}

func (c *claims) expires() time.Time {
	switch {
	case c.ExpireAt != nil && *c.ExpireAt > 0:
		return time.Unix(*c.ExpireAt, 0)
	case c.ExpireAt == nil && c.ExpiresAt != nil:
		return c.ExpiresAt.Time
	}
	return time.Time{}
}

// Verify checks signature and times and returns who the token names. The error
// wraps ErrToken.
func (v *Verifier) Verify(token string) (Identity, error) {
	c, err := v.claims(token)
	if err != nil {
		return Identity{}, err
	}
	if c.Channel != "" { // whoever has it was given a channel, not all that the user may do
		return Identity{}, fmt.Errorf("%w: it is for a channel", ErrToken)
	}
	return Identity{User: c.Subject, Channels: c.Channels, Info: c.info(), Expires: c.expires()}, nil
}

// VerifySubscription is Verify for the token of a channel.
func (v *Verifier) VerifySubscription(token string) (Subscription, error) {
	c, err := v.claims(token)
	if err != nil {
		return Subscription{}, err
	}
	return Subscription{User: c.Subject, Channel: c.Channel, Client: c.Client, Info: c.info(), Expires: c.expires()}, nil
}

func (v *Verifier) claims(token string) (*claims, error) {
	c := new(claims)
	var err error
	if len(v.secret) == 0 {
		_, _, err = v.parser.ParseUnverified(token, c)
		if err == nil {
			err = jwt.NewValidator().Validate(c)
		}
	} else {
		_, err = v.parser.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return v.secret, nil })
	}
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, fmt.Errorf("%w: %w", ErrToken, ErrExpired)
	case err != nil:
		return nil, fmt.Errorf("%w: %s", ErrToken, cause(err))
	}
	return c, nil
}

// cause names the fault in our own words, so that no byte of a token gets into a
// log or an answer.
func cause(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "not valid yet"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "bad signature or algorithm"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "malformed"
	}
	return "not acceptable"
}
