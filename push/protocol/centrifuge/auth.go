package centrifuge

import (
	"context"
	"encoding/json"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// ConnectRequest is what a client says of itself.
type ConnectRequest struct {
	Client  string // the connection's id
	Token   string
	Data    []byte // JSON, or any bytes in Protobuf
	Name    string // of the SDK
	Version string

	Channels []string // of the server's that it comes back to
}

// Identity is who a client proved to be, and what follows from it.
type Identity struct {
	User    string               // empty is an anonymous client
	Info    json.RawMessage      // what others may see of it
	Data    []byte               // for the client, in the answer: JSON, or any bytes in Protobuf
	Meta    json.RawMessage      // for the backend; no client sees it
	Caps    *hub.Capabilities    // what it may do beside what the options of channels say; nil is nothing
	Subs    []ServerSubscription // that it gets without asking; of several to one channel the first
	Expires time.Time            // when another token is needed; zero is never
	Token   Token                // that it showed
	// Everything lets it do all there is: development.
	Everything bool
}

// Token is what revocations know of one. The zero value is no token: nothing can be revoked.
type Token struct {
	ID     string    // the claim jti; may be empty
	Issued time.Time // the claim iat; the Unix epoch if the token does not say
}

// ServerSubscription is one that the server makes for a client that connects.
type ServerSubscription struct {
	Channel  string
	Info     json.RawMessage // what others in the channel may see
	Data     []byte          // for the client
	Expires  time.Time       // when the client is disconnected, to connect again; zero is never
	Override *hub.Override   // what is different for it in the channel's options; nil is nothing
	// RecoverLatest recovers for a client that does not ask for it, where that means the latest publication alone.
	RecoverLatest bool
}

// SubscribeRequest is a subscription for which a client shows a token.
type SubscribeRequest struct {
	Client  string
	User    string
	Channel string
	Token   string
}

// Grant is what a subscription's token gives; another one is needed when it expires.
type Grant struct {
	inquiry.Grant
	Token Token
}

// Authenticator checks tokens. An error should be a *Disconnect, or wrap a *hub.Error, such as hub.ErrTokenExpired;
// any other is an internal one. The methods may be called by many goroutines and may wait; ctx bounds it.
type Authenticator interface {
	// Connect says who a client is, by its token or without one.
	Connect(ctx context.Context, r ConnectRequest) (Identity, error)
	// Subscribe checks the token of a subscription, which must be for that channel, user and client.
	Subscribe(ctx context.Context, r SubscribeRequest) (Grant, error)
}
