package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
)

// Identity is what a connection's token says.
type Identity struct {
	User    string            // the claim sub; empty is an anonymous user
	Info    json.RawMessage   // the claim info, or b64info decoded, JSON: what others may see of the user
	Meta    json.RawMessage   // the claim meta, JSON: for the backend alone
	Caps    *hub.Capabilities // the claim caps: what the user may do beside what the channels' options say
	Subs    []ServerSub       // the claims subs and channels, by channel: what the user may subscribe to, and is by the Centrifuge protocol
	Expires time.Time         // the claim expire_at, or else exp; zero is never
	Mark    Mark
}

// ServerSub is one of the claim subs.
type ServerSub struct {
	Channel  string
	Info     json.RawMessage // JSON: what others in the channel may see
	Data     []byte          // for the client
	Override *hub.Override
}

// Subscription is what a token for a channel says.
type Subscription struct {
	User     string          // the claim sub
	Channel  string          // the claim channel
	Client   string          // the claim client: the connection's id; empty is any
	Info     json.RawMessage // the claim info, or b64info decoded, JSON: what others in the channel may see
	Override *hub.Override
	Expires  time.Time // the claim expire_at, or else exp; zero is never
	Mark     Mark
}

// Mark is what revocations know a token by.
type Mark struct {
	ID     string    // the claim jti; may be empty
	Issued time.Time // the claim iat; the Unix epoch if there is none
}

// ErrToken is wrapped by every refusal. Its text says what was wrong and quotes nothing of the token.
var ErrToken = errors.New("invalid token")

// ErrExpired is wrapped, beside ErrToken, by the refusal of a token that was good until it expired.
var ErrExpired = errors.New("expired")

// ErrUnavailable says that the key of a token is not known, and that it cannot be found out just now. The same token
// may be good later.
var ErrUnavailable = errors.New("the token's key is not known yet")

// refusal is why a token is refused: what the metric has, and, beside ErrToken, what the client may read.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// The refusals.
const (
	refusedExpired     refusal = "expired"
	refusedRevoked     refusal = "revoked"
	refusedNotYet      refusal = "not valid yet"
	refusedSignature   refusal = "bad signature or algorithm"
	refusedKey         refusal = "unknown key"
	refusedMalformed   refusal = "malformed"
	refusedAudience    refusal = "for another audience"
	refusedIssuer      refusal = "from another issuer"
	refusedClaim       refusal = "a claim does not make sense"
	refusedKind        refusal = "of the other kind" // for a channel, or not
	refusedCritical    refusal = "with critical extensions"
	refusedUnavailable refusal = "key not known yet"
)

var refusals = []refusal{
	refusedExpired, refusedRevoked, refusedNotYet, refusedSignature, refusedKey, refusedMalformed, refusedAudience, refusedIssuer, refusedClaim,
	refusedKind, refusedCritical, refusedUnavailable,
}

// err is the error that callers see.
func (r refusal) err() error {
	switch r {
	case refusedExpired:
		return fmt.Errorf("%w: %w", ErrToken, ErrExpired)
	case refusedUnavailable:
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrToken, r)
}

// claims are the parts of a token that matter here.
type claims struct {
	jwt.RegisteredClaims
	Channels []string             `json:"channels"`
	Subs     map[string]*subClaim `json:"subs"`
	Channel  string               `json:"channel"`
	Client   string               `json:"client"`
	Info     json.RawMessage      `json:"info"`
	B64Info  []byte               `json:"b64info"`
	Meta     json.RawMessage      `json:"meta"`
	Caps     []hub.Capability     `json:"caps"`
	Override *hub.Override        `json:"override"`
	ExpireAt *int64               `json:"expire_at"` // overrides exp as the end of what the token gives; 0 is never
}

// subClaim is one of the claim subs.
type subClaim struct {
	Info     json.RawMessage `json:"info"`
	B64Info  []byte          `json:"b64info"`
	Data     json.RawMessage `json:"data"`
	B64Data  []byte          `json:"b64data"`
	Override *hub.Override   `json:"override"`
}

// either is the value of a claim that may also come in base64.
func either(plain json.RawMessage, b64 []byte) []byte {
	if len(b64) > 0 {
		return b64
	}
	if string(plain) == "null" {
		return nil
	}
	return plain
}

// shown is either of a claim that clients are shown, of which some speak JSON.
func shown(plain json.RawMessage, b64 []byte) (json.RawMessage, error) {
	value := either(plain, b64)
	if len(value) > 0 && (!utf8.Valid(value) || !json.Valid(value)) {
		return nil, refusedClaim
	}
	return value, nil
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

func (c *claims) mark() Mark {
	m := Mark{ID: c.ID, Issued: time.Unix(0, 0)}
	if c.IssuedAt != nil {
		m.Issued = c.IssuedAt.Time
	}
	return m
}

func (c *claims) identity() (i Identity, err error) {
	if c.Channel != "" { // whoever has it was given a channel, not all that the user may do
		return Identity{}, refusedKind
	}
	i = Identity{User: c.Subject, Expires: c.expires(), Mark: c.mark()}
	if i.Info, err = shown(c.Info, c.B64Info); err != nil {
		return Identity{}, err
	}
	if i.Meta, err = shown(c.Meta, nil); err != nil {
		return Identity{}, err
	}
	if i.Caps, err = hub.ParseCapabilities(c.Caps); err != nil {
		return Identity{}, refusedClaim
	}
	if i.Subs, err = c.subs(); err != nil {
		return Identity{}, err
	}
	return i, nil
}

func (c *claims) subs() ([]ServerSub, error) {
	var subs []ServerSub
	for _, channel := range slices.Sorted(maps.Keys(c.Subs)) {
		s := ServerSub{Channel: channel}
		if claim := c.Subs[channel]; claim != nil {
			var err error
			if s.Info, err = shown(claim.Info, claim.B64Info); err != nil {
				return nil, err
			}
			s.Data, s.Override = either(claim.Data, claim.B64Data), claim.Override
		}
		subs = append(subs, s)
	}
	for _, channel := range c.Channels {
		if _, found := c.Subs[channel]; !found {
			subs = append(subs, ServerSub{Channel: channel})
		}
	}
	return subs, nil
}

func (c *claims) subscription() (s Subscription, err error) {
	if c.Channel == "" {
		return Subscription{}, refusedKind
	}
	s = Subscription{User: c.Subject, Channel: c.Channel, Client: c.Client, Override: c.Override, Expires: c.expires(), Mark: c.mark()}
	if s.Info, err = shown(c.Info, c.B64Info); err != nil {
		return Subscription{}, err
	}
	return s, nil
}
