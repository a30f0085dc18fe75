package session

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/pool"
)

// Config says how a Server is to be made. The zero value of every field works,
// save that a server without Endpoints and HTTP serves nothing.
type Config struct {
	// Endpoints are the paths at which sessions are opened.
	Endpoints []Endpoint
	// HTTP answers the requests that are no opening handshake, on the same port, save
	// those for the path of an endpoint, which get 426. Nil answers 404.
	//
	// A body has HandshakeTimeout to come, an answer a minute to leave; http.ResponseController gives a handler other deadlines.
	HTTP http.Handler
	// MaxHTTPConns bounds the plain HTTP connections, which cost a goroutine each.
	// Zero means 1024.
	MaxHTTPConns int

	// Loops is the number of event loops. Zero means one per core (GOMAXPROCS).
	Loops int
	// Workers is how many handlers may run at the same time. Zero means 512. Tasks given to
	// Server.Go have workers of their own, two per loop, so that handlers that wait do not hold them up.
	Workers int

	// MaxConnections bounds the sessions that are through their opening handshake. One more is answered 503 with a
	// Retry-After that differs from one to the next. Zero means no bound but the number of file descriptors.
	MaxConnections int
	// Pressure says how short memory is, for each connection anew, on the loop goroutine: it must be quick. Nil means never.
	Pressure func() Pressure
	// MaxPerAddress bounds the sessions of one client address, as TrustedProxies tell it; of IPv6 a /64 counts as one. One
	// more is answered 503. It costs about 90 bytes for each session. Zero means no bound.
	MaxPerAddress int
	// TLS is for ServeTLS. Without NextProtos it gets "http/1.1". A GetConfigForClient returns what is used as it is.
	TLS *tls.Config
	// TLSHandshakes is how many TLS handshakes compute at the same time. Those that wait for their client do not
	// count, but as MaxHandshakes says. Zero means half of GOMAXPROCS.
	TLSHandshakes int

	// MaxLoopLag is how late an event loop may be until accepting pauses, so that those who are in come first. Zero means
	// 50 ms, negative means any.
	MaxLoopLag time.Duration
	// AcceptRate is how many connections are accepted in a second; more wait in the kernel's backlog, and nobody is
	// refused for it. Zero means no bound.
	AcceptRate float64
	// MaxHandshakes bounds the connections that are not, those that are being refused among them; one more is refused
	// before it is read. Zero means 8192.
	MaxHandshakes int
	// MaxHeaderBytes bounds the header of an opening handshake. Zero means 8 KiB.
	MaxHeaderBytes int
	// HandshakeTimeout bounds the time from accept to the end of the header. Zero means 10 s.
	HandshakeTimeout time.Duration
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// ProxyProtocolFrom are the networks whose connections must begin with a PROXY protocol header, version 1 or 2, with the
	// client's address; with TLS it comes before that. From others it is a bad request.
	ProxyProtocolFrom []netip.Prefix
	// ProxyProtocolUnix is the same for all unix sockets.
	ProxyProtocolUnix bool

	// MaxMessageBytes bounds one message, fragments together. Zero means 64 KiB. It
	// is taken only while a message is arriving in pieces.
	MaxMessageBytes int
	// InboxBytes is how much may wait for a handler until the socket is no longer
	// read, nor what was read decoded (64 KiB at most). One message may come on top. Zero means 64 KiB.
	InboxBytes int
	// OutboxBytes bounds what waits for a slow client. An empty outbox takes one
	// message of any size. Zero means 256 KiB.
	OutboxBytes int
	// OutboxMessages bounds the number of messages that wait. Zero means 1024.
	OutboxMessages int

	// OutboxAge bounds how long the oldest message of an outbox may wait. A session of which it is older when
	// something else is to be sent, a heartbeat at the latest, is ended, whatever its policy. Zero means
	// 60 s, negative means no bound.
	OutboxAge time.Duration

	// PingInterval is how often an open session is sent a ping. Zero means 25 s,
	// negative means never.
	PingInterval time.Duration
	// PongTimeout is how long after a ping anything must have been received, and up to a second more, because
	// pings of few sessions leave together; it must be shorter than PingInterval. Zero means 8 s, or a third of
	// PingInterval where that is less.
	PongTimeout time.Duration
	// CloseTimeout bounds the closing handshake, and the wait for the peer to close TCP. Zero means 5 s.
	CloseTimeout time.Duration

	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// Endpoint is a path at which sessions are opened, and how they are handled.
type Endpoint struct {
	// Path is matched exactly, without the query.
	Path string
	// Handler gets what happens in the sessions. It must not be nil.
	Handler Handler
	// Inline runs Handler on the event loop: for handlers that never block and take
	// microseconds. It saves a copy and a switch of goroutines for each message.
	Inline bool
	// PauseOnBacklog stops reading from a client that does not read its answers, until
	// its outbox is empty: for endpoints where messages are answers, such as an echo. Session.SendMessage
	// then always finds room, so that the outbox may exceed its bound by the answers to 64 KiB of messages and one more.
	PauseOnBacklog bool
	// Accept, if not nil, may refuse a request or attach data to the session. It
	// runs on the event loop and must not block. An error that is a *Refusal is
	// answered as it says, any other with 500.
	Accept func(*Request) (data any, err error)
	// AllowedOrigins are patterns for the Origin header, such as
	// "https://*.example.com". Nil allows requests without Origin and those from the same host; "*" allows all.
	AllowedOrigins []string
	// Subprotocols are those the endpoint speaks, in its order of preference.
	Subprotocols []string
	// SlowPolicy is what happens to a message for which a full outbox has no room. Zero
	// is PolicyDisconnect.
	SlowPolicy Policy
	// MaxMessageBytes overrides Config.MaxMessageBytes. Zero means that one.
	MaxMessageBytes int
	// Compression accepts permessage-deflate. Nil declines it.
	Compression *Compression
	// Pings are the messages that a protocol with heartbeats of its own sends every PingInterval: to each session the one that
	// Session.BeginHeartbeat has chosen, and none before. Nil means a WebSocket ping frame from the beginning.
	Pings []*Frame
	// Closes are the close frames by which the engine ends sessions of a protocol with codes of its own: those for
	// ReasonShutdown, ReasonSlowConsumer, ReasonOutboxAge, ReasonPongTimeout and ReasonHandlerPanic. A reason that is not
	// there has the code of RFC 6455 §7.4.1.
	Closes map[Reason]CloseFrame
	// Private keeps the endpoint from the clients of listeners, for whom there is no such path: its sessions come by Server.Upgrade.
	Private bool
}

// CloseFrame is what a close frame says: a code of RFC 6455 §7.4 and a reason of at most 123 bytes.
type CloseFrame struct {
	Code CloseCode
	Text string
}

// These are other packages' types under the names by which users of the engine
// know them.
type (
	// Request is an opening handshake; see handshake.Request.
	Request = handshake.Request
	// Refusal is the HTTP answer to a request that is not upgraded.
	Refusal = handshake.Fault
	// Frame is an encoded message that any number of sessions share.
	Frame = codec.Frame
	// Opcode tells text from binary messages.
	Opcode = codec.Opcode
	// CloseCode is a status code of RFC 6455 §7.4.
	CloseCode = codec.CloseCode
	// SocketOptions are set on a listener and inherited by its connections.
	SocketOptions = poller.SocketOptions
	// Listener is a listening socket.
	Listener = poller.Listener
	// Policy says what happens to a message for which a full outbox has no room.
	Policy = poller.Policy
)

// The opcodes of messages.
const (
	OpText   = codec.OpText
	OpBinary = codec.OpBinary
)

// PingFrame is a WebSocket ping without a payload.
var PingFrame = codec.Ping

// DefaultPingInterval is what a Config.PingInterval of zero means.
const DefaultPingInterval = defaultPingInterval

// NewFrame encodes a message once for any number of sessions. payload is copied.
func NewFrame(op Opcode, payload []byte) *Frame { return codec.NewFrame(op, payload) }

// Listen opens a listening socket on "host:port", ":port" or "unix:PATH".
func Listen(address string, o SocketOptions) (*Listener, error) { return poller.Listen(address, o) }

// ListenFile makes a Listener of a listening socket that another process has opened.
func ListenFile(f *os.File, o SocketOptions) (*Listener, error) { return poller.ListenFile(f, o) }

const (
	defaultMaxHTTPConns     = 1024
	defaultMaxHandshakes    = 8192
	defaultMaxHeaderBytes   = 8 << 10
	defaultHandshakeTimeout = 10 * time.Second
	defaultMaxMessageBytes  = 64 << 10
	defaultInboxBytes       = 64 << 10
	defaultOutboxBytes      = 256 << 10
	defaultOutboxMessages   = 1024
	defaultOutboxAge        = 60 * time.Second
	defaultPingInterval     = 25 * time.Second
	defaultPongTimeout      = 8 * time.Second
	defaultCloseTimeout     = 5 * time.Second
)

func (c Config) withDefaults() Config {
	setDefault(&c.MaxHTTPConns, defaultMaxHTTPConns)
	setDefault(&c.MaxHandshakes, defaultMaxHandshakes)
	setDefault(&c.MaxHeaderBytes, defaultMaxHeaderBytes)
	setDefault(&c.HandshakeTimeout, defaultHandshakeTimeout)
	setDefault(&c.MaxMessageBytes, defaultMaxMessageBytes)
	setDefault(&c.InboxBytes, defaultInboxBytes)
	setDefault(&c.OutboxBytes, defaultOutboxBytes)
	setDefault(&c.OutboxMessages, defaultOutboxMessages)
	setDefault(&c.OutboxAge, defaultOutboxAge)
	setDefault(&c.PingInterval, defaultPingInterval)
	setDefault(&c.PongTimeout, min(defaultPongTimeout, max(c.PingInterval/3, tickInterval)))
	setDefault(&c.CloseTimeout, defaultCloseTimeout)
	setDefault(&c.Logger, slog.Default())
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(d.MaxHTTPConns > 0, "max-http-connections: %d is negative", d.MaxHTTPConns)
	check(d.MaxConnections >= 0, "max-connections: %d is negative", d.MaxConnections)
	check(d.MaxPerAddress >= 0, "max-connections-per-address: %d is negative", d.MaxPerAddress)
	check(d.MaxHandshakes > 0, "max-handshakes: %d is negative", d.MaxHandshakes)
	check(d.HandshakeTimeout >= tickInterval, "handshake-timeout: %v is less than %v", d.HandshakeTimeout, tickInterval)
	check(d.CloseTimeout >= tickInterval, "close-timeout: %v is less than %v", d.CloseTimeout, tickInterval)
	check(d.InboxBytes > 0, "inbox-bytes: %d is negative", d.InboxBytes)
	check(d.OutboxBytes > 0, "outbox-bytes: %d is negative", d.OutboxBytes)
	check(d.OutboxMessages > 0, "outbox-messages: %d is negative", d.OutboxMessages)
	if d.PingInterval > 0 {
		check(d.PingInterval >= 2*tickInterval, "ping-interval: %v is less than %v", d.PingInterval, 2*tickInterval)
		check(d.PongTimeout > 0 && d.PongTimeout < d.PingInterval, "pong-timeout: %v is not between 0 and ping-interval %v", d.PongTimeout, d.PingInterval)
	}
	paths := map[string]bool{}
	for _, e := range c.Endpoints {
		check(e.Handler != nil, "endpoint %q: no Handler", e.Path)
		check(!paths[e.Path], "endpoint %q: given twice", e.Path)
		paths[e.Path] = true
		o := codec.Options{MaxMessageBytes: e.MaxMessageBytes}
		if err := o.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: %w", e.Path, err))
		}
		for reason, frame := range e.Closes {
			_, known := closeFrames[reason]
			check(known && frame.Code.ValidOnWire() && len(frame.Text) <= maxReasonBytes, "endpoint %q: Closes: %v: %+v", e.Path, reason, frame)
		}
		if e.Compression != nil {
			if err := e.Compression.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("endpoint %q: %w", e.Path, err))
			}
		}
	}
	o := codec.Options{MaxMessageBytes: c.MaxMessageBytes}
	return errors.Join(append(errs, o.Validate(), c.handshake().Validate(), c.poller().Validate(), c.pool().Validate())...)
}

func (c Config) poller() poller.Config {
	return poller.Config{
		Loops: c.Loops, Logger: c.Logger, AcceptRate: c.AcceptRate, TLSHandshakes: c.TLSHandshakes, MaxLag: c.MaxLoopLag,
		Limits: poller.Limits{Bytes: max(c.OutboxBytes, 0), Buffers: max(c.OutboxMessages, 0), Age: max(c.OutboxAge, 0)},
	}
}

func (c Config) pool() pool.Config { return pool.Config{Workers: c.Workers, Logger: c.Logger} }

// handshake makes the part that handshake needs; each route carries its endpoint.
func (c Config) handshake() handshake.Config {
	h := handshake.Config{MaxHeaderBytes: c.MaxHeaderBytes, TrustedProxies: c.TrustedProxies}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		h.Routes = append(h.Routes, handshake.Route{
			Path: e.Path, Subprotocols: e.Subprotocols, AllowedOrigins: e.AllowedOrigins, Accept: e.Accept,
			Deflate: e.Compression.handshake(),
			Value:   newEndpoint(e, c.MaxMessageBytes),
		})
	}
	return h
}

// endpoint is an Endpoint made ready for the hot path. Immutable.
type endpoint struct {
	path    string
	handler Handler
	ping    PingHandler // nil answers pings by itself
	codec   codec.Options
	deflate *agreements // nil without Endpoint.Compression

	compression *compression // nil unless the session agreed on it
	pings       []*Frame     // nil: a WebSocket ping frame
	closes      map[Reason]CloseFrame
	policy      Policy
	inline      bool
	paced       bool
	private     bool
}

func newEndpoint(e *Endpoint, maxMessage int) *endpoint {
	out := &endpoint{path: e.Path, handler: e.Handler, inline: e.Inline, paced: e.PauseOnBacklog, pings: e.Pings, policy: e.SlowPolicy, private: e.Private}
	out.ping, _ = e.Handler.(PingHandler)
	out.closes = maps.Clone(closeFrames)
	maps.Copy(out.closes, e.Closes)
	out.codec.MaxMessageBytes = e.MaxMessageBytes
	setDefault(&out.codec.MaxMessageBytes, maxMessage)
	out.deflate = newAgreements(e.Compression, *out)
	return out
}
