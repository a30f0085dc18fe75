package webhook

import (
	"encoding/json"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/tracing"
)

// Event is what a backend is asked about.
type Event string

// The events.
const (
	EventConnect    Event = "connect"
	EventRefresh    Event = "refresh"
	EventSubscribe  Event = "subscribe"
	EventPublish    Event = "publish"
	EventRPC        Event = "rpc"
	EventSubRefresh Event = "sub_refresh"
)

// safe reports whether the event may be asked about once more when nothing of the question was sent.
func (e Event) safe() bool { return e != EventPublish && e != EventRPC }

// Question is the body of a request. Each event uses some of its fields; those of the others are empty.
type Question struct {
	Client    string `json:"client"`    // the connection's id
	Transport string `json:"transport"` // "websocket"
	Protocol  string `json:"protocol"`  // "json" or "protobuf"
	Encoding  string `json:"encoding"`  // set by Ask: "json", or "binary" for base64

	User     string   `json:"user,omitempty"`
	Name     string   `json:"name,omitempty"`     // connect: the client's, as Version
	Version  string   `json:"version,omitempty"`  // connect
	Channels []string `json:"channels,omitempty"` // connect: that the client wants to be subscribed to
	Channel  string   `json:"channel,omitempty"`  // subscribe, publish, sub_refresh
	Method   string   `json:"method,omitempty"`   // rpc

	// Payload is the client's own: JSON, or any bytes for an endpoint with Config.BinaryEncoding.
	Payload []byte          `json:"-"`
	Data    json.RawMessage `json:"data,omitempty"`    // set by Ask
	B64Data []byte          `json:"b64data,omitempty"` // set by Ask

	// Meta is the connection's. It is sent where Config.IncludeConnectionMeta says so.
	Meta json.RawMessage `json:"meta,omitempty"`
}

// Subscription is one that a backend makes for a client that connects.
type Subscription struct {
	Info         json.RawMessage `json:"info"`
	B64Info      []byte          `json:"b64info"`
	Data         json.RawMessage `json:"data"`
	B64Data      []byte          `json:"b64data"`
	ExpireAt     int64           `json:"expire_at"`
	CacheRecover bool            `json:"cache_recover"`
	Override     *hub.Override   `json:"override"`
}

// Answer is the result of a question, of all events. The payloads in base64 are decoded into their fields without B64
// by Ask.
type Answer struct {
	User     *string                  `json:"user"`      // connect, which must say it
	ExpireAt int64                    `json:"expire_at"` // seconds since 1970; 0 is never
	Expired  bool                     `json:"expired"`   // refresh, sub_refresh
	Info     json.RawMessage          `json:"info"`
	B64Info  []byte                   `json:"b64info"`
	Data     json.RawMessage          `json:"data"`
	B64Data  []byte                   `json:"b64data"`
	Channels []string                 `json:"channels"` // connect
	Subs     map[string]*Subscription `json:"subs"`     // connect
	Meta     json.RawMessage          `json:"meta"`     // connect: an object
	Override *hub.Override            `json:"override"` // subscribe
	Allow    []string                 `json:"allow"`    // subscribe: what the subscriber may do beside
	Rights   hub.Rights               `json:"-"`        // Allow, read by Ask
	Caps     []hub.Capability         `json:"caps"`     // connect, refresh: what the connection may do beside

	Capabilities *hub.Capabilities `json:"-"` // Caps, read by Ask; nil if it says nothing of them

	// publish
	SkipHistory    bool              `json:"skip_history"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
	Delta          bool              `json:"delta"`
	PubVersion     uint64            `json:"version"`
	VersionEpoch   string            `json:"version_epoch"`

	Trace *tracing.Trace `json:"-"` // what is done with the answer belongs to it; nil if nobody follows it
}

// envelope is the body of an answer: one of three.
type envelope struct {
	Result     *Answer     `json:"result"`
	Error      *Refusal    `json:"error"`
	Disconnect *Disconnect `json:"disconnect"`
}
