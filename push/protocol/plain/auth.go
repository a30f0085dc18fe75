package plain

import (
	"context"
	"encoding/json"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Credentials are what a client shows: a token, or a name and a password.
type Credentials struct {
	Token    string
	Username string
	Password string
}

// Identity is who a client proved to be, and what follows from it. It must not be changed once a client has it.
type Identity struct {
	User     string
	Info     json.RawMessage   // what others may see of it
	Data     json.RawMessage   // for the client, in the answer to its login
	Meta     json.RawMessage   // for the backend; no client sees it
	Caps     *hub.Capabilities // what it may do beside what the options of channels say; nil is nothing
	Channels []string          // that it may subscribe to, whatever their options say
	Expires  time.Time         // when another token is needed; zero is never
	Token    Token             // that it showed
	// Everything lets it do all there is: development.
	Everything bool
}

// Token is what revocations know of one. The zero value is no token: nothing can be revoked.
type Token struct {
	ID     string    // the claim jti; may be empty
	Issued time.Time // the claim iat; the Unix epoch if the token does not say
}

// Authenticator checks credentials. The error should wrap a *hub.Error, such
// as hub.ErrUnauthorized, for the client to read; any other is an internal one.
// It may be called by many goroutines and may wait; ctx bounds it.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (*Identity, error)
}

// AcceptAny is the Authenticator of a development server: whatever is shown,
// it is right, and lets its bearer do everything. The user is the username, if there is one.
type AcceptAny struct{}

var _ Authenticator = AcceptAny{}

// Authenticate accepts c.
func (AcceptAny) Authenticate(_ context.Context, c Credentials) (*Identity, error) {
	return &Identity{User: c.Username, Everything: true}, nil
}
