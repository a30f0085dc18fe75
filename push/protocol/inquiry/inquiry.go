// Package inquiry has what the protocols ask the application's backend on behalf of their clients. It asks nobody itself.
package inquiry

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Ask asks the backend something on behalf of a client, and returns at once. done is called once with the answer, later
// and by another goroutine; its error is a *Disconnect, or wraps a *hub.Error, any other is an internal one. An error of
// Ask says that the question was not asked, and done is not called. It may be called by many goroutines.
type Ask[Q, A any] func(who Caller, question Q, done func(A, error)) error

// Functions are what all protocols ask; nil is never.
type Functions struct {
	// Refresh says whether a connection that expires may stay, whatever let it in. Without it a client with a token
	// brings another one, and one that the backend let in has to connect again.
	Refresh Ask[struct{}, Renewal]
	// Subscribe decides in namespaces with a SubscribeWebhook, where a client shows no token.
	Subscribe Ask[SubscribeQuestion, Grant]
	// SubRefresh does in namespaces with a SubRefreshWebhook for subscriptions what Refresh does for connections.
	SubRefresh Ask[SubscribeQuestion, Renewal]
	// Publish decides in namespaces with a PublishWebhook.
	Publish Ask[PublishQuestion, Publishing]

	// Presence and PresenceStats say who is in a channel on all nodes: these are asked, not a backend. Without them there is this node alone.
	Presence      Ask[string, []*hub.ClientInfo]
	PresenceStats Ask[string, hub.PresenceStats]
}

// Caller is the client on whose behalf a question is asked.
type Caller struct {
	Client   string // the connection's id
	User     string
	Protobuf bool
	Meta     json.RawMessage
	Headers  *Headers // nil is none
}

// Header is one of a request.
type Header struct{ Name, Value string }

// Headers are those that are kept of a client: of its opening request, and what its first command calls so.
type Headers struct{ Connection, Emulated []Header }

// Emulated returns what a client's command calls headers, of those with the given canonical names; no names is none.
func Emulated(names func() []string, headers map[string]string) (list []Header) {
	if names == nil || len(headers) == 0 {
		return nil
	}
	for _, name := range names() {
		for key, value := range headers {
			if textproto.CanonicalMIMEHeaderKey(key) == name && value != "" {
				list = append(list, Header{Name: name, Value: value})
				break
			}
		}
	}
	return list
}

// SubscribeQuestion is about one channel.
type SubscribeQuestion struct {
	Webhook string // of the namespace's options
	Channel string
	Data    []byte
}

// Grant is what a subscription is given.
type Grant struct {
	Info     json.RawMessage // what others in the channel may see
	Data     []byte          // for the client, in the answer
	Expires  time.Time       // zero is never
	Override *hub.Override   // what is different for it in the channel's options; nil is nothing
	Rights   hub.Rights      // what it may do beside
}

// PublishQuestion is whether something may be published.
type PublishQuestion struct {
	Webhook string
	Channel string
	Data    []byte
}

// Publishing is what is published then. Nil data is what the client wanted.
type Publishing struct {
	Data    []byte
	Options hub.PublishOptions
}

// RPCQuestion is a client's call.
type RPCQuestion struct {
	Method string
	Data   []byte
}

// Renewal is until when something that expires goes on.
type Renewal struct {
	Expired bool            // it does not
	Expires time.Time       // zero is for ever
	Info    json.RawMessage // what others may see from now on; nil is what they see
	// Caps are what a connection may do beside from now on; nil is what it may.
	Caps *hub.Capabilities
}

// Over reports whether it ends now.
func (r *Renewal) Over() bool { return r.Expired || !r.Expires.IsZero() && time.Until(r.Expires) <= 0 }

// Disconnect is the error that ends a client's connection.
type Disconnect struct {
	Code   uint16
	Reason string
}

// Error implements error.
func (d *Disconnect) Error() string { return fmt.Sprintf("disconnect %d: %s", d.Code, d.Reason) }

// The backend is asked before a connection or a subscription expires, and asked again a while after it gave no answer:
// that it is gone for some time is no reason to lose the clients, and when it comes back not all of them ask at once.
const (
	renewBefore     = 5 // seconds, of longer times
	renewAgainAfter = 5 // seconds, and as many again by chance
)

// RenewIn returns in how many seconds the backend is to be asked about what expires in ttl seconds.
func RenewIn(ttl uint32) uint32 { return ttl - min(renewBefore, ttl/2) }

// RenewAgainIn returns in how many seconds it is to be asked again after it gave no answer.
func RenewAgainIn() uint32 { return renewAgainAfter + rand.Uint32N(renewAgainAfter+1) }
