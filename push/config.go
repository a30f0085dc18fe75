package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/auth"
	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/certs"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/pressure"
	"github.com/millpond/millpond/push/tracing"
	"github.com/millpond/millpond/push/webhook"
	"github.com/millpond/millpond/session"
)

// Config says how a Server is to be made. The zero value works with Dev, or with a
// TokenSecret.
type Config struct {
	// Listen are the public addresses: "HOST:PORT", ":PORT" or "unix:PATH". With TLS the ports speak it, unless "plain:" is
	// put before; sockets of this host, for a proxy, do not. Nil means ":8000".
	Listen []string
	// TLS has the files of certificates. Its zero value is no TLS.
	TLS TLS
	// Inherited are listening sockets that another process has opened, systemd for instance. Each must have an address of
	// Listen or InternalListen, of which it takes the place.
	Inherited []*os.File
	// Takeover is the path of a unix socket. If another process of the same user offers its listeners there, they are taken over,
	// by the addresses in its Listen and InternalListen, and that process drains; afterwards this one offers its own.
	Takeover string
	// InternalListen is the address of API, health and metrics. It may be one of
	// Listen. Empty means "127.0.0.1:8001".
	InternalListen string

	// Dev opens everything, for a first try on one's own machine: no token is
	// needed, clients may subscribe and publish, echo and playground are on, any page
	// may connect, and programs on this host may use the API without a key.
	Dev bool
	// Echo serves /echo.
	Echo bool
	// Playground serves the playground page at /.
	Playground bool

	// TokenSecret signs the clients' tokens: at least 32 bytes. Tokens has all other ways.
	TokenSecret []byte
	Tokens      Tokens
	// AllowAnonymous lets clients in that show no token: they have no user.
	AllowAnonymous bool
	// DataDir is a directory for what must outlive the process: revocations of tokens and events. Empty keeps them in memory alone.
	DataDir string
	// MaxBadTokens is the number of bad tokens for channels in a row that ends a connection of the Centrifuge protocol, at most 255. Zero means 128.
	MaxBadTokens int
	// MaxRevocations bounds the revocations that are kept at a time; each takes about 150 bytes. Zero means 100,000.
	MaxRevocations int
	// APIKeys open the API, and on an address that is not loopback also metrics and pprof. So do those in APIKeyFile, one a line, and what
	// NamedAPIKeys say of each. Files that change are read again.
	APIKeys      []string
	APIKeyFile   string
	NamedAPIKeys []APIKey
	// API bounds what requests to it may cost.
	API APILimits
	// Tap bounds captures of frames.
	Tap TapLimits
	// NoDashboard leaves the dashboard out of the internal routes. Dashboard bounds what it costs.
	NoDashboard bool
	Dashboard   DashboardLimits
	// APIErrorMode "transport" tells errors of the API by the HTTP status, too; empty leaves that to the caller.
	APIErrorMode string
	// AllowedOrigins are patterns for pages that may connect. Nil means those of the same host; with Dev any.
	AllowedOrigins []string

	// Cluster says how the node is one of several.
	Cluster Cluster

	// Channels are the options of channels without a namespace, Namespaces those of the others; a name with another
	// namespace is refused. With neither, all names are allowed, and with Dev channels have presence, join and leave, and tags filters.
	Channels   ChannelOptions
	Namespaces []Namespace
	// Webhooks say what the application's backend is asked.
	Webhooks Webhooks
	// MaxRecovered bounds the publications that one subscriber recovers. Zero means 300.
	MaxRecovered int
	// History bounds what the channels' histories take.
	History History
	// NATS says whether publications go over NATS, which several hosts may share and which keeps them on disk.
	NATS NATS
	// Queue says whether publications come from a queue, too.
	Queue Queue

	// MaxMessageBytes bounds a client's message. Zero means 64 KiB, on /echo 16 MiB.
	MaxMessageBytes int
	// MaxChannels bounds one client's subscriptions. Zero means 128.
	MaxChannels int
	// MaxAnswerBytes bounds the answers that wait for a client; while more do, it is told to ask for its past again later. Zero means 1 MiB.
	MaxAnswerBytes int
	// MaxPresence bounds the clients that a channel's presence lists. Zero means 10,000.
	MaxPresence int
	// MaxConnectionsPerUser bounds the connections of one user by the Centrifuge protocol. Zero means no bound.
	MaxConnectionsPerUser int
	// ConnectTimeout is how long a client of the Centrifuge protocol may wait with its connect command. Zero means 10 s.
	ConnectTimeout time.Duration
	// PersonalChannels subscribes every client with a user to a channel of its own: "#" and the user, in PersonalNamespace.
	PersonalChannels  bool
	PersonalNamespace string
	// SlowPolicy is what happens when a client's outbox is full. Zero is session.PolicyDisconnect.
	SlowPolicy session.Policy

	// Events says which events a backend is told, and how.
	Events Events

	// Compression is how messages are compressed for clients that offer permessage-deflate.
	Compression session.Compression
	// NoCompression declines every such offer.
	NoCompression bool

	// Memory says how much there is, so that clients are refused before it is gone. Its Logger is set by New.
	Memory Memory

	// Engine has the bounds and times of connections. Its Endpoints, HTTP,
	// MaxMessageBytes, Pressure and Logger are set by New.
	Engine session.Config
	// Socket has the options of public listeners.
	Socket session.SocketOptions

	// AuditLog has a line for all that is done to the server and its clients, by the API and otherwise; with AuditPublishes also for each
	// publication. See docs/logs.md. The zero value is none.
	AuditLog       Log
	AuditPublishes bool

	// AccessLog has lines for connections that are opened and closed. AccessSample is of how many, from 0 to 1; zero means all.
	// One that is open and has lines takes about 200 bytes. The zero value is none.
	AccessLog    Log
	AccessSample float64

	// Trace says where spans of OpenTelemetry go. Version and Logger are set by New. The zero value is nowhere.
	Trace Trace

	// Version is shown in metrics.
	Version string
	// LogRepeatInterval is the time in which a line that the broker or the cluster says again is counted, and not written; see [logs.Repeats]. Zero means 30 s, a negative
	// one that all are written.
	LogRepeatInterval time.Duration
	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// TLS is another package's type under the name by which users of the product know it.
type TLS = certs.Config

// Tokens is another package's type under the name by which users of the product know it.
type Tokens = auth.Config

// TokenKeys says where the keys are that sign tokens.
type TokenKeys = auth.Keys

// TokenJWKS says how key sets are fetched.
type TokenJWKS = auth.JWKS

// ChannelOptions is another package's type under the name by which users of the product know it.
type ChannelOptions = hub.Options

// Webhook is an endpoint of the application's backend.
type Webhook = webhook.Config

// WebhookTransform says what one HTTP status of an endpoint means.
type WebhookTransform = webhook.Transform

// WebhookRefusal is an error for the client.
type WebhookRefusal = webhook.Refusal

// WebhookDisconnect is the end of the client's connection.
type WebhookDisconnect = webhook.Disconnect

// Namespace is the options of channels whose names begin alike.
type Namespace = hub.Namespace

// History bounds what the channels' histories take.
type History = memory.Config

// APILimits is another package's type under the name by which users of the product know it.
type APILimits = api.Limits

// APIKey is another package's type under the name by which users of the product know it.
type APIKey = api.NamedKey

// Log says where the lines of a log go, and how they look.
type Log = logs.Config

// Trace says where spans go, and of how many traces.
type Trace = tracing.Config

// Memory is another package's type under the name by which users of the product know it.
type Memory = pressure.Config

// TLSPair is one certificate of TLS.
type TLSPair = certs.Pair

// SlowPolicies are the names of the policies for clients whose outbox is full.
var SlowPolicies = map[string]session.Policy{
	hub.SlowDisconnect: session.PolicyDisconnect, hub.SlowDropOldest: session.PolicyDropOldest,
	hub.SlowDropNewest: session.PolicyDropNewest, hub.SlowLatest: session.PolicyLatest,
}

const (
	defaultListen   = ":8000"
	defaultInternal = "127.0.0.1:8001"

	defaultEchoMessageBytes = 16 << 20
)

func (c Config) withDefaults() Config {
	if len(c.Listen) == 0 {
		c.Listen = []string{defaultListen}
	}
	if c.InternalListen == "" {
		c.InternalListen = defaultInternal
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Dev {
		c.Echo, c.Playground = true, true
		if c.AllowedOrigins == nil {
			c.AllowedOrigins = []string{"*"}
		}
	}
	return c
}

// Validate reports everything that keeps a server from starting, each by the name of its flag.
func (c Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	tokens := d.tokens(nil)
	if !d.Dev && !tokens.Enabled() && d.Webhooks.Connect == "" { // with that, the backend says who clients are
		errs = append(errs, errors.New("token-hmac-secret-file: not given, so nobody could log in; give one, or token-public-key-file, token-jwks-file or token-jwks-url, or a --connect-webhook, or --dev for a first try on your own machine"))
	}
	errs = append(errs, tokens.Validate())
	if !d.Dev && !d.hasAPIKeys() && !isLoopback(d.InternalListen) {
		errs = append(errs, fmt.Errorf("internal-listen: %s is not loopback; give an --api-key-file", d.InternalListen))
	}
	for name, value := range map[string]int{
		"max-channels": d.MaxChannels, "max-recovered": d.MaxRecovered, "max-answer-bytes": d.MaxAnswerBytes, "max-connections-per-user": d.MaxConnectionsPerUser,
		"max-revocations": d.MaxRevocations, "max-bad-tokens": d.MaxBadTokens,
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, value))
		}
	}
	for name, bound := range map[string][2]int{
		"max-presence": {d.MaxPresence, math.MaxInt32}, "send-buffer-bytes": {d.Socket.SendBuffer, 1 << 30},
	} {
		if bound[0] < 0 || bound[0] > bound[1] {
			errs = append(errs, fmt.Errorf("%s: %d is not between 0 and %d", name, bound[0], bound[1]))
		}
	}
	if d.Socket.UserTimeout < 0 || d.Socket.UserTimeout > maxUserTimeout {
		errs = append(errs, fmt.Errorf("tcp-user-timeout: %v is not between 0 and %v", d.Socket.UserTimeout, maxUserTimeout))
	}
	if d.Socket.KeepAlive > maxKeepAlive {
		errs = append(errs, fmt.Errorf("tcp-keepalive: %v is more than %v", d.Socket.KeepAlive, maxKeepAlive))
	}
	if name := d.Cluster.Name; len(name) > maxNodeName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		errs = append(errs, fmt.Errorf("node-name: %.40q… is no name: up to %d bytes of UTF-8 without control characters", name, maxNodeName))
	}
	if d.MaxBadTokens > 255 {
		errs = append(errs, fmt.Errorf("max-bad-tokens: %d is more than 255", d.MaxBadTokens))
	}
	if d.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("connect-timeout: %v is negative", d.ConnectTimeout))
	}
	if d.PersonalNamespace != "" && !slices.ContainsFunc(d.Namespaces, func(n Namespace) bool { return n.Name == d.PersonalNamespace }) {
		errs = append(errs, fmt.Errorf("personal-namespace: there is no namespace %q", d.PersonalNamespace))
	}
	for _, address := range d.Listen {
		if err := checkAddress(strings.TrimPrefix(address, plainPrefix)); err != nil {
			errs = append(errs, fmt.Errorf("listen: %s: %w", address, err))
		}
		if strings.HasPrefix(address, plainPrefix) && !d.TLS.Enabled() {
			errs = append(errs, fmt.Errorf("listen: %s: all ports are plain without a tls-cert", address))
		}
	}
	if err := checkAddress(strings.TrimPrefix(d.InternalListen, plainPrefix)); err != nil {
		errs = append(errs, fmt.Errorf("internal-listen: %s: %w", d.InternalListen, err))
	}
	if !(d.AccessSample >= 0 && d.AccessSample <= 1) {
		errs = append(errs, fmt.Errorf("access-log-sample: %v is not between 0 and 1", d.AccessSample))
	}
	if d.APIErrorMode != "" && d.APIErrorMode != "transport" {
		errs = append(errs, fmt.Errorf("api-error-mode: %q is not transport", d.APIErrorMode))
	}
	errs = append(errs,
		session.ValidateOrigins(d.AllowedOrigins),
		d.TLS.Validate(),
		d.History.Validate(),
		d.API.Validate(),
		d.Tap.Validate(),
		d.Dashboard.Validate(),
		d.validateEvents(),
		d.validateNATS(),
		d.validateQueue(),
		d.Cluster.Validate(),
		d.Trace.Validate(),
		d.Memory.Validate(),
	)
	errs = append(errs, hub.ValidateNamespaces(d.Channels, d.Namespaces), d.Webhooks.validate(d.Channels, d.Namespaces))
	engine := d.Engine
	engine.MaxMessageBytes = d.MaxMessageBytes
	if err := d.Compression.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, engine.Validate())...)
}

// What the kernel takes: 2³¹ ms, and 32,767 s (tcp(7)). The bounds are a little less, and round.
const (
	maxUserTimeout = 500 * time.Hour
	maxKeepAlive   = 9 * time.Hour
)

// maxNodeName is in bytes what the cluster's messages have room for.
const maxNodeName = 255

// maxUnixPath is in bytes the longest path of a socket (unix(7)).
const maxUnixPath = 107

// checkAddress reports what is wrong with the words of an address. Whether it is one of this host shows when a socket listens there.
func checkAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" || len(path) > maxUnixPath {
			return fmt.Errorf("a socket's path has 1 to %d bytes", maxUnixPath)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", port) // services(5), no server
	}
	if err != nil {
		return errors.New("it is not HOST:PORT, :PORT or unix:PATH")
	}
	return nil
}

// plainPrefix marks an address that does not speak TLS.
const plainPrefix = "plain:"

// secured reports whether a public address speaks TLS.
func (c Config) secured(address string) bool {
	return c.TLS.Enabled() && !strings.HasPrefix(address, plainPrefix) && !strings.HasPrefix(address, "unix:")
}

// tokens says which ones are good.
func (c *Config) tokens(r *auth.Revocations) auth.Config {
	t := c.Tokens
	if len(c.TokenSecret) > 0 {
		t.Secret = c.TokenSecret
	}
	t.Insecure, t.Revocations, t.Logger = c.Dev, r, c.Logger
	return t
}

// anyNamespace reports whether nobody has said what channels there are.
func (c *Config) anyNamespace() bool {
	return c.Channels == (ChannelOptions{}) && len(c.Namespaces) == 0
}

// channels are the options of channels without a namespace.
func (c *Config) channels() ChannelOptions {
	if c.Dev && c.anyNamespace() {
		return c.completed("", devChannels)
	}
	return c.completed("", c.Channels)
}

// completed returns the options of a namespace with what the server's settings add: of personal channels, that nobody but the user may
// subscribe to one, and the events that are wanted of all channels.
func (c *Config) completed(name string, o ChannelOptions) ChannelOptions {
	if o.Events |= c.channelEvents(); !o.RecoverLatest {
		o.Events &^= hub.EventCacheMiss & c.channelEvents()
	}
	if c.PersonalChannels && name == c.PersonalNamespace {
		o.AllowUserLimitedChannels = true
	}
	return o
}

// namespaces are the options of channels with a namespace.
func (c *Config) namespaces() []Namespace {
	list := slices.Clone(c.Namespaces)
	for i := range list {
		list[i].Options = c.completed(list[i].Name, list[i].Options)
	}
	return list
}

// devChannels are for a first try: what costs nothing is on.
var devChannels = ChannelOptions{Presence: true, JoinLeave: true, AllowTagsFilter: true}

// hasAPIKeys reports whether there is any.
func (c Config) hasAPIKeys() bool {
	return len(c.APIKeys) > 0 || c.APIKeyFile != "" || len(c.NamedAPIKeys) > 0
}

// compression is that of the endpoints.
func (c *Config) compression() *session.Compression {
	if c.NoCompression {
		return nil
	}
	return &c.Compression
}

// shared reports whether the internal routes are served on a public address. Port 0 is another
// port each time.
func (c Config) shared() bool {
	return slices.Contains(c.Listen, c.InternalListen) && !strings.HasSuffix(c.InternalListen, ":0")
}

// isLoopback reports whether only this host can reach a listening address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
