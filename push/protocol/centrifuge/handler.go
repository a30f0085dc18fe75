package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/roster"
)

// Conn is a client's connection. F is a frame as the engine sends it: encoded, immutable, shared among connections; its
// zero value is none. The methods may be called by any goroutine and must not block. What cannot be sent ends the
// connection, which the Client learns by OnClose; so it ignores the errors.
type Conn[F comparable] interface {
	// Send queues one frame, an answer or a push of the server's own. It always finds room; what waits is bounded here, by Waiting.
	Send(frame F) error

	// Waiting returns how many bytes wait for the client.
	Waiting() int

	// WakeWhenDrained has OnWake called when nothing waits any more. It reports false if nothing does.
	WakeWhenDrained() bool

	// SendBatch queues frames of one channel to leave together. policy is one of hub.Slow…, or empty for the server's. It is called under a lock
	// of the hub: it must not call a Client's method, not even OnClose. The slice is valid during the call only.
	SendBatch(channel, policy string, frames []F) error

	// Close begins the closing handshake with a code of RFC 6455 §7.4.
	Close(code uint16, reason string)

	// Hold keeps the client's messages from it, until Resume. Both are called in the client's turn.
	Hold()
	Resume()

	// BeginHeartbeat lets the pings begin.
	BeginHeartbeat(h Heartbeat)

	// Answered notes that the client has answered a ping, and reports whether one was unanswered.
	Answered() bool

	// Wake has OnWake called, in its place among the other calls. False says that the connection is closed.
	Wake() bool
}

// Heartbeat is a kind of ping.
type Heartbeat uint8

// The kinds of pings: the empty reply of a codec, and the WebSocket's own.
const (
	HeartbeatJSON Heartbeat = iota
	HeartbeatProtobuf
	HeartbeatWebSocket
)

// The messages of the protocol's own pings: an empty reply.
var (
	PingJSON     = []byte("{}")
	PingProtobuf = []byte{0}
)

// Config holds what a Handler needs. Hub and Authenticator must be set.
type Config struct {
	Hub           *hub.Hub
	Authenticator Authenticator

	// Version is what clients are told of the server.
	Version string

	// PingInterval is what clients are told of the heartbeat; zero or less says that there is none.
	PingInterval time.Duration

	// ConnectTimeout is how long a client may wait with its connect command. Zero means 10 s.
	ConnectTimeout time.Duration

	// ExpiredDelay is how long a connection or a subscription outlives its token, for the client to bring another. Zero means 25 s.
	ExpiredDelay time.Duration

	// Timeout bounds what a command waits for: the authenticator, the broker, room in a channel's queue. Zero means 10 s.
	Timeout time.Duration

	// MaxChannels bounds a client's subscriptions. Zero means 128.
	MaxChannels int

	// MaxBadTokens is the number of bad tokens for channels in a row that ends a connection, at most 255. Zero means 128.
	MaxBadTokens int

	// MaxConnectionsPerUser bounds the connections of one user on this node. Zero means no bound.
	MaxConnectionsPerUser int

	// SlowPolicy is the server's, one of hub.Slow…; empty is hub.SlowDisconnect.
	SlowPolicy string

	// MaxAnswerBytes bounds the answers that wait for a client: while more do, commands whose answers have publications get
	// hub.ErrTooManyRequests, after which SDKs try again; with twice as much the client is disconnected as slow. Zero means 1 MiB.
	MaxAnswerBytes int

	// MaxHistory bounds the publications of one answer. Zero means 300.
	MaxHistory int

	// PersonalChannels subscribes each client with a user to the channel that is the user's own, in PersonalNamespace.
	PersonalChannels  bool
	PersonalNamespace string

	// Backend is what the application's own program is asked. EmulatedHeaders, if set, returns the headers of connect commands that
	// it may be sent, by their canonical names.
	Backend         Backend
	EmulatedHeaders func() []string
	// Revoked, if set, reports whether a token of a user's that was good is revoked now. Its ID may be empty, for one that was shown before.
	Revoked func(user string, t Token) bool
	// OnConnect, if set, learns of each client that has connected, before it is subscribed to anything by a command, with its user or "".
	OnConnect func(client, user string)

	// OnInternalError, if set, gets the errors of which the client is told only "internal server error".
	OnInternalError func(err error)
}

// Validate reports all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf("centrifuge: "+format, args...))
		}
	}
	check(c.Hub != nil, "Hub is missing")
	check(c.Authenticator != nil, "Authenticator is missing")
	check(c.ConnectTimeout >= 0, "ConnectTimeout is %v, want 0 or more", c.ConnectTimeout)
	check(c.ExpiredDelay >= 0, "ExpiredDelay is %v, want 0 or more", c.ExpiredDelay)
	check(c.Timeout >= 0, "Timeout is %v, want 0 or more", c.Timeout)
	check(c.MaxChannels >= 0, "MaxChannels is %d, want 0 or more", c.MaxChannels)
	check(c.MaxBadTokens >= 0 && c.MaxBadTokens <= 255, "MaxBadTokens is %d, want 0 to 255", c.MaxBadTokens)
	check(c.MaxConnectionsPerUser >= 0, "MaxConnectionsPerUser is %d, want 0 or more", c.MaxConnectionsPerUser)
	check(c.MaxAnswerBytes >= 0, "MaxAnswerBytes is %d, want 0 or more", c.MaxAnswerBytes)
	check(c.MaxHistory >= 0, "MaxHistory is %d, want 0 or more", c.MaxHistory)
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	setDefault(&c.ConnectTimeout, 10*time.Second)
	setDefault(&c.ExpiredDelay, 25*time.Second)
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.MaxChannels, defaultMaxChannels)
	setDefault(&c.MaxBadTokens, 128)
	setDefault(&c.MaxHistory, 300)
	setDefault(&c.MaxAnswerBytes, 1<<20)
	setDefault(&c.SlowPolicy, hub.SlowDisconnect)
	return c
}

const defaultMaxChannels = 128

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Frames makes frames of the engine: of a text message or a binary one. The payload is borrowed.
type Frames[F comparable] func(isText bool, payload []byte) F

// Handler makes Clients. There is one for all connections of the protocol.
type Handler[F comparable] struct {
	// Immutable after NewHandler.
	config Config
	frame  Frames[F]
	pushes [numEncodings]func(string, *hub.Publication) F
	start  time.Time
	ids    ids

	// With locks of their own.
	roster    *roster.Roster[*Client[F]]
	deadlines roster.Deadlines[*Client[F]]
	tokens    *roster.Tokens[*Client[F]]

	turns sync.Pool // of *turn[F]

	// Any goroutine (atomic).
	maxChannels atomic.Int64  // Config.MaxChannels
	maxPerUser  atomic.Int64  // Config.MaxConnectionsPerUser
	number      atomic.Uint64 // that there ever were
	recheck     atomic.Bool   // RecheckAll was called
	connected   atomic.Int64
	commands    atomic.Uint64
	refusals    hub.Refusals
	disconnects [disconnectCodes]atomic.Uint64
	untold      atomic.Uint64
}

// NewHandler returns a handler whose clients send what frame makes of their messages.
func NewHandler[F comparable](config Config, frame Frames[F]) (*Handler[F], error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Handler[F]{
		config: config.withDefaults(), frame: frame, start: time.Now(), ids: newIDs(), roster: roster.New[*Client[F]](), tokens: roster.NewTokens[*Client[F]](),
	}
	h.SetLimits(config.MaxChannels, config.MaxConnectionsPerUser)
	for e := range h.pushes {
		h.pushes[e] = h.pushBuilder(encoding(e))
	}
	return h, nil
}

// SetLimits sets Config.MaxChannels and Config.MaxConnectionsPerUser anew. What is there stays, though it be more.
func (h *Handler[F]) SetLimits(maxChannels, maxConnectionsPerUser int) {
	setDefault(&maxChannels, defaultMaxChannels)
	h.maxChannels.Store(int64(maxChannels))
	h.maxPerUser.Store(int64(maxConnectionsPerUser))
}

func (h *Handler[F]) context() (context.Context, context.CancelFunc) {
	return roster.Timeout(h.config.Timeout)
}

// now is in seconds since NewHandler, on the monotonic clock.
func (h *Handler[F]) now() uint32 { return uint32(time.Since(h.start) / time.Second) }

// Tick does what is due; it is called about once a second.
func (h *Handler[F]) Tick() {
	now := h.now()
	for _, c := range h.deadlines.Take(now) {
		h.roster.Do(c, func() { c.onDeadline(now) })
	}
}

// Codes that are counted one by one.
const (
	firstDisconnect = 3000
	disconnectCodes = 1000
)

// Stats are a handler's figures since NewHandler.
type Stats struct {
	Connected   int64             // clients, at present
	Users       int               // different ones, anonymous ones not among them, at present
	Commands    uint64            // that came
	Errors      map[uint32]uint64 // replied, by code; codes that did not occur are absent
	Disconnects map[uint16]uint64 // by this protocol, by code; codes that did not occur are absent
	Untold      uint64            // deliveries and recoveries for clients of JSON in which something was not JSON
}

// Stats returns the present figures.
func (h *Handler[F]) Stats() Stats {
	s := Stats{
		Connected: h.connected.Load(), Users: h.roster.Users(), Commands: h.commands.Load(), Untold: h.untold.Load(),
		Errors: h.refusals.Counts(), Disconnects: map[uint16]uint64{},
	}
	for i := range h.disconnects {
		if n := h.disconnects[i].Load(); n > 0 {
			s.Disconnects[firstDisconnect+uint16(i)] = n
		}
	}
	return s
}

func (h *Handler[F]) internal(err error) {
	if h.config.OnInternalError != nil {
		h.config.OnInternalError(err)
	}
}
