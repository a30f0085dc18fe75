package plain

import "context"

// Credentials are what a client shows: a token, or a name and a password.
type Credentials struct {
	Token    string
	Username string
	Password string
}

// Identity is who a client proved to be, and what follows from it.
type Identity struct {
	User        string
	Permissions Permissions // nil permits nothing
}

// Authenticator checks credentials. The error should wrap a *hub.Error, such
// as hub.ErrUnauthorized, for the client to read; any other is an internal one.
// It may be called by many goroutines and may wait; ctx bounds it.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (Identity, error)
}

// Permissions say what a client may do. The methods are called for each
// command, by many goroutines, and must not wait.
type Permissions interface {
	MaySubscribe(channel string) bool
	MayPublish(channel string) bool
}

// Allow grants the same for every channel.
type Allow struct {
	Subscribe bool
	Publish   bool
}

var _ Permissions = Allow{}

// MaySubscribe reports a.Subscribe.
func (a Allow) MaySubscribe(string) bool { return a.Subscribe }

// MayPublish reports a.Publish.
func (a Allow) MayPublish(string) bool { return a.Publish }

// AcceptAny is the Authenticator of a development server: whatever is shown,
// it is right. The user is the username, if there is one.
type AcceptAny struct {
	Permissions Permissions
}

var _ Authenticator = AcceptAny{}

// Authenticate accepts c.
func (a AcceptAny) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	return Identity{User: c.Username, Permissions: a.Permissions}, nil
}
