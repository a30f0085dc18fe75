package centrifuge

import (
	"context"
	"encoding/json"
	"time"
)

// ConnectRequest is what a client says of itself.
type ConnectRequest struct {
	Client  string // the connection's id
	Token   string
	Data    []byte // JSON, or any bytes in Protobuf
	Name    string // of the SDK
	Version string
}

// Identity is who a client proved to be, and what follows from it.
type Identity struct {
	User     string          // empty is an anonymous client
	Info     json.RawMessage // what others may see of it
	Channels []string        // that it is subscribed to by the server
	Expires  time.Time       // when another token is needed; zero is never
	// Everything lets it do all there is: development.
	Everything bool
}

// SubscribeRequest is a subscription for which a client shows a token.
type SubscribeRequest struct {
	Client  string
	User    string
	Channel string
	Token   string
}

// Grant is what a subscription's token gives.
type Grant struct {
	Info    json.RawMessage // what others in the channel may see
	Expires time.Time       // when another token is needed; zero is never
}

// Authenticator checks tokens. An error should be a *Disconnect, or wrap a *hub.Error, such as hub.ErrTokenExpired;
// any other is an internal one. The methods may be called by many goroutines and may wait; ctx bounds it.
type Authenticator interface {
	// Connect says who a client is, by its token or without one.
	Connect(ctx context.Context, r ConnectRequest) (Identity, error)
	// Subscribe checks the token of a subscription, which must be for that channel, user and client.
	Subscribe(ctx context.Context, r SubscribeRequest) (Grant, error)
}
