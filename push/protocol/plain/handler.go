package plain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/roster"
)

// Conn is a client's connection. F is a frame as the engine sends it: encoded,
// immutable, shared among connections. The methods may be called by any
// goroutine and must not block. What cannot be sent ends the connection, which
// the Client learns by OnClose; so it ignores the errors.
type Conn[F any] interface {
	// Send queues frames, answers or messages of the server's own. They always find room; what waits is bounded here, by Waiting.
	Send(frames ...F) error

	// Waiting returns how many bytes wait for the client.
	Waiting() int

	// WakeWhenDrained has OnWake called when nothing waits any more. It reports false if nothing does.
	WakeWhenDrained() bool

	// SendBatch queues frames of one channel to leave together. policy is one of hub.Slow…, or empty for the server's. It is
	// called under a lock of the hub: it must not call a Client's method, not even OnClose. The slice is valid during the
	// call only.
	SendBatch(channel, policy string, frames []F) error

	// Close begins the closing handshake with a code of RFC 6455 §7.4.
	Close(code uint16, reason string)

	// Hold keeps the client's messages from it, until Resume. Both are called in the client's turn.
	Hold()
	Resume()

	// Wake has OnWake called, in its place among the other calls. False says that the connection is closed.
	Wake() bool

	// ID returns what others call the connection.
	ID() string
}

// Config holds what a Handler needs. Hub must be set.
type Config struct {
	Hub *hub.Hub

	// Authenticator checks logins. With nil they are refused.
	Authenticator Authenticator

	// Anonymous is who a client is before it has logged in. With nil it
	// may do nothing but log in and ping.
	Anonymous *Identity

	// IDPrefix is put before the ids of connections, which are different on one node alone.
	IDPrefix string

	// MaxChannels bounds a client's subscriptions; each costs 8 bytes here
	// and about 60 in the hub. Zero means 128.
	MaxChannels int

	// SlowPolicy is the server's, one of hub.Slow…; empty is hub.SlowDisconnect.
	SlowPolicy string

	// MaxAnswerBytes bounds the answers that wait for a client: while more do, commands that are answered with messages of the past get
	// hub.ErrTooManyRequests; with twice as much the connection is closed with 1008. Zero means 1 MiB.
	MaxAnswerBytes int

	// MaxHistory bounds the publications of one answer. Zero means 300.
	MaxHistory int

	// MaxFaults is the number of faults in a row that closes a connection:
	// messages that are no command, and failed logins. Zero means 16; at most
	// 255.
	MaxFaults int

	// Timeout bounds what a command waits for: the authenticator, the broker,
	// room in a channel's queue. Zero means 10 s.
	Timeout time.Duration

	// ExpiredDelay is how long a connection outlives its token, for the client to log in with another. Zero means 25 s.
	ExpiredDelay time.Duration

	// Backend is what the application's own program is asked. EmulatedHeaders, if set, returns the headers of logins that it may be
	// sent, by their canonical names.
	Backend         Backend
	EmulatedHeaders func() []string

	// Revoked, if set, reports whether a token of a user's that was good is revoked now. Its ID may be empty, for one that was shown before.
	Revoked func(user string, t Token) bool
	// OnConnect, if set, learns once of each client that has an identity, with its user then, or "".
	OnConnect func(client, user string)

	// OnInternalError, if set, gets the errors of which the client is told
	// only "internal server error".
	OnInternalError func(err error)
}

// Validate reports all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var problems []error
	if c.Hub == nil {
		problems = append(problems, errors.New("plain: Hub is missing"))
	}
	if c.MaxChannels < 0 {
		problems = append(problems, fmt.Errorf("plain: MaxChannels is %d, want 0 or more", c.MaxChannels))
	}
	if c.MaxAnswerBytes < 0 {
		problems = append(problems, fmt.Errorf("plain: MaxAnswerBytes is %d, want 0 or more", c.MaxAnswerBytes))
	}
	if c.MaxHistory < 0 {
		problems = append(problems, fmt.Errorf("plain: MaxHistory is %d, want 0 or more", c.MaxHistory))
	}
	if c.MaxFaults < 0 || c.MaxFaults > 255 {
		problems = append(problems, fmt.Errorf("plain: MaxFaults is %d, want 0 to 255", c.MaxFaults))
	}
	if c.ExpiredDelay < 0 {
		problems = append(problems, fmt.Errorf("plain: ExpiredDelay is %v, want 0 or more", c.ExpiredDelay))
	}
	if c.Timeout < 0 {
		problems = append(problems, fmt.Errorf("plain: Timeout is %v, want 0 or more", c.Timeout))
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.MaxChannels == 0 {
		c.MaxChannels = defaultMaxChannels
	}
	if c.MaxFaults == 0 {
		c.MaxFaults = 16
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.ExpiredDelay == 0 {
		c.ExpiredDelay = 25 * time.Second
	}
	if c.MaxAnswerBytes == 0 {
		c.MaxAnswerBytes = 1 << 20
	}
	if c.MaxHistory == 0 {
		c.MaxHistory = 300
	}
	if c.ExpiredDelay == 0 {
		c.ExpiredDelay = 25 * time.Second
	}
	if c.SlowPolicy == "" {
		c.SlowPolicy = hub.SlowDisconnect
	}
	return c
}

// Handler makes Clients. There is one for all connections of the protocol.
type Handler[F any] struct {
	// Immutable after NewHandler.
	config  Config
	frame   func(text []byte) F
	message func(string, *hub.Publication) F
	start   time.Time

	// Immutable after NewHandler, but for what clients never touch in it.
	anonymous *login[F] // of all clients that have not logged in; nil if they have none

	// With locks of their own.
	roster    *roster.Roster[*Client[F]]
	deadlines roster.Deadlines[*login[F]]
	ends      roster.Deadlines[*special[F]]
	tokens    *roster.Tokens[*Client[F]]

	// Any goroutine (atomic).
	most     atomic.Int64 // Config.MaxChannels
	recheck  atomic.Bool  // RecheckAll was called
	commands atomic.Uint64
	refusals hub.Refusals
}

// NewHandler returns a handler whose clients send what frame makes of a text
// message. frame may keep text.
func NewHandler[F any](config Config, frame func(text []byte) F) (*Handler[F], error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Handler[F]{
		config:  config.withDefaults(),
		frame:   frame,
		message: func(channel string, p *hub.Publication) F { return frame(appendPublication(nil, channel, p)) },
		start:   time.Now(),
		roster:  roster.New[*Client[F]](),
		tokens:  roster.NewTokens[*Client[F]](),
	}
	h.SetMaxChannels(config.MaxChannels)
	if config.Anonymous != nil {
		h.anonymous = newLogin[F](nil, config.Anonymous)
	}
	return h, nil
}

// now is in seconds since NewHandler, on the monotonic clock.
func (h *Handler[F]) now() uint32 { return uint32(time.Since(h.start) / time.Second) }

func (h *Handler[F]) context() (context.Context, context.CancelFunc) {
	return roster.Timeout(h.config.Timeout)
}

// Stats are a handler's figures since NewHandler.
type Stats struct {
	Commands uint64            // text messages that came
	Errors   map[uint32]uint64 // errors sent, by code; codes that did not occur are absent
}

// Stats returns the present figures.
func (h *Handler[F]) Stats() Stats {
	return Stats{Commands: h.commands.Load(), Errors: h.refusals.Counts()}
}

const defaultMaxChannels = 128

// SetMaxChannels sets Config.MaxChannels anew. What is there stays, though it be more.
func (h *Handler[F]) SetMaxChannels(n int) {
	if n == 0 {
		n = defaultMaxChannels
	}
	h.most.Store(int64(n))
}

func (h *Handler[F]) maxChannels() int { return int(h.most.Load()) }
