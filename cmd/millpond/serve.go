package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/coreos/go-systemd/v22/activation"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/push"
	"github.com/millpond/millpond/session"
)

// serveCommand has the flags of the server. Zero values mean what push.Config and
// session.Config say.
type serveCommand struct {
	Listen         []string   `help:"Public address: HOST:PORT, :PORT or unix:PATH; may be repeated." default:":8000" sep:"none" placeholder:"ADDR"`
	InternalListen string     `help:"Address of API, health and metrics; may be a public one." default:"127.0.0.1:8001" placeholder:"ADDR"`
	Config         configFile `help:"YAML file; its keys are the flags, with _ for -." placeholder:"FILE"`
	Dev            bool       `help:"Everything open, for a first try on one's own machine."`
	Echo           bool       `help:"Serve /echo (--dev does)."`
	Playground     bool       `help:"Serve the playground page at / (--dev does)."`

	ReusePort bool   `help:"Share the public ports with other processes (SO_REUSEPORT)."`
	Takeover  string `help:"Unix socket over which this process takes the listening sockets of the one before, and hands them to the next." placeholder:"PATH"`

	TLSCert           []string `reload:"content" name:"tls-cert" help:"File with a certificate chain in PEM; the public ports then speak TLS. May be repeated: one of several is chosen by name." type:"existingfile" sep:"none" placeholder:"FILE"`
	TLSKey            []string `reload:"content" name:"tls-key" help:"File with the key of the certificate in the same place." type:"existingfile" sep:"none" placeholder:"FILE"`
	TLSMinVersion     string   `name:"tls-min-version" help:"Oldest version: ${enum}." enum:"1.2,1.3" default:"1.2"`
	TLSClientCA       string   `reload:"content" name:"tls-client-ca" help:"File with authorities in PEM, one of which must have signed the client's certificate." type:"existingfile" placeholder:"FILE"`
	TLSClientAuth     string   `name:"tls-client-auth" help:"Whether a client must show a certificate: ${enum}." enum:"required,optional" default:"required"`
	TLSTicketKeysFile string   `reload:"content" name:"tls-ticket-keys-file" help:"File with the keys of session tickets, 64 hexadecimal digits a line, the first for new ones; default: own keys, a new one each day." type:"existingfile" placeholder:"FILE"`
	TLSHandshakes     int      `range:"0:" name:"tls-handshakes" help:"TLS handshakes that compute at the same time; 0: half as many as cores."`

	tokenFlags     `embed:""`
	AllowAnonymous bool   `help:"Let clients in that show no token; they have no user."`
	DataDir        string `help:"Directory for what must outlive the process." placeholder:"DIR"`
	natsFlags      `embed:""`
	queueFlags     `embed:""`
	MaxBadTokens   int `range:"0:255" help:"Bad tokens for channels in a row that end a connection of the Centrifuge protocol." default:"128"`
	MaxRevocations int `range:"0:" help:"Revocations of tokens that are kept." default:"100000"`

	APIKeyFile        string   `reload:"value" name:"api-key-file" help:"File with keys for the whole API, one a line; api_keys in the file of --config has keys for parts of it." type:"existingfile" placeholder:"FILE"`
	AllowedOrigins    []string `reload:"value" help:"Origins that browsers may connect from, such as https://*.example.com; default: the same host." placeholder:"PATTERN"`
	TrustedProxies    []string `help:"Networks whose X-Forwarded-For is believed." placeholder:"CIDR"`
	ProxyProtocolFrom []string `help:"Networks, or unix for unix sockets, whose connections must begin with a PROXY protocol header, version 1 or 2." placeholder:"CIDR"`

	ConnectWebhook string `help:"Webhook of the --config file that says who a client without a token is." placeholder:"NAME"`
	RefreshWebhook string `help:"Webhook that says whether a connection that expires may stay." placeholder:"NAME"`
	RPCWebhook     string `name:"rpc-webhook" help:"Webhook that answers the clients' calls." placeholder:"NAME"`

	Loops                    int           `range:"0:1024" help:"Event loops; 0: one per core."`
	Workers                  int           `range:"0:" help:"Handlers that may run at the same time; 0: 512."`
	MaxConnections           int           `range:"0:" reload:"value" help:"Connections at most; 0: no bound but the file descriptors."`
	MaxConnectionsPerAddress int           `range:"0:" reload:"value" help:"Connections of one client address at most, of IPv6 of a /64; 0: no bound."`
	AcceptRate               float64       `range:"0:" reload:"value" help:"Connections accepted in a second; more wait in the kernel's backlog; 0: no bound."`
	MaxLoopLag               time.Duration `help:"Delay of the event loops at which accepting pauses; negative: any." default:"50ms"`
	MaxHandshakes            int           `range:"0:" help:"Connections that have not finished their opening handshake, at most." default:"8192"`
	MaxHTTPConnections       int           `range:"0:" name:"max-http-connections" help:"Plain HTTP connections at most." default:"1024"`
	MaxHeaderBytes           int           `range:"256:1048576 or 0" help:"Bytes in the header of an opening handshake." default:"8192"`
	HandshakeTimeout         time.Duration `range:"0:" help:"Time from accept to the end of the header." default:"10s"`
	MaxMessageBytes          int           `range:"0:1073741824" help:"Bytes in a client's message; 0: 65536, on /echo 16 MiB."`
	HistoryBytes             int           `range:"0:" help:"Bytes of all channels' histories." default:"268435456"`
	HistoryChannels          int           `range:"0:" help:"Channels whose position is kept while nobody subscribes." default:"1048576"`
	HistoryPositionTTL       time.Duration `range:"0:" name:"history-position-ttl" help:"Time for which a channel's position outlives its last publication." default:"24h"`
	IdempotencyKeys          int           `range:"0:" help:"Idempotency keys of publications that are known; the oldest are forgotten early." default:"1048576"`
	MaxRecovered             int           `range:"0:" help:"Publications that one subscriber recovers." default:"300"`
	MaxAnswerBytes           int           `range:"0:" help:"Bytes of answers that wait for a client; while more do, it is told to ask for its past again later, and with twice as much it is slow." default:"1048576"`
	MaxPresence              int           `range:"0:2147483647" help:"Clients that a channel's presence lists; of more, only the number is told." default:"10000"`
	MaxChannels              int           `range:"0:" reload:"value" help:"Channels that one connection may subscribe to." default:"128"`
	MaxConnectionsPerUser    int           `range:"0:" reload:"value" help:"Connections of one user by the Centrifuge protocol; 0: no bound."`
	ConnectTimeout           time.Duration `range:"0:" help:"Time that a client of the Centrifuge protocol has to send its connect command." default:"10s"`
	PersonalChannels         bool          `help:"Subscribe each client of the Centrifuge protocol that has a user to a channel of the user's own: # and the user."`
	PersonalNamespace        string        `help:"Namespace of these channels."`
	InboxBytes               int           `range:"0:" help:"Bytes that wait for a handler until the socket is not read." default:"65536"`
	OutboxBytes              int           `range:"0:" help:"Bytes that wait for a slow client." default:"262144"`
	OutboxMessages           int           `range:"0:" help:"Messages that wait for a slow client." default:"1024"`
	SendBufferBytes          int           `range:"0:1073741824" help:"SO_SNDBUF of each connection, which the kernel doubles." default:"65536"`
	SlowPolicy               string        `help:"What happens when the outbox is full: ${enum}." enum:"disconnect,drop-oldest,drop-newest,latest" default:"disconnect"`
	OutboxAge                time.Duration `help:"Time that the oldest message may wait for a slow client; negative: no bound." default:"60s"`
	TCPUserTimeout           time.Duration `range:"0:" name:"tcp-user-timeout" help:"Time that sent data may stay unacknowledged until the kernel gives a client up." default:"30s"`
	TCPKeepalive             time.Duration `name:"tcp-keepalive" help:"Time of silence until the kernel probes a connection; heartbeats that are more frequent leave it nothing to do; negative: never." default:"2m"`
	Compression              string        `help:"permessage-deflate: ${enum}. Context takeover costs up to 64 KiB for each connection that compresses." enum:"on,off,context-takeover" default:"on"`
	CompressionLevel         int           `range:"0:6" help:"From 1, the fastest, to 6." default:"1"`
	CompressionMinBytes      int           `range:"0:" help:"Bytes below which a message is not compressed." default:"256"`
	CompressionWindowBits    int           `range:"8:15 or 0" help:"Windows of context takeover, as the exponent of 2: 8 to 15." default:"15"`

	NodeName              string        `help:"What this node is called; default: the name of the host." placeholder:"NAME"`
	ClusterHeartbeat      time.Duration `range:"0:" help:"Time between two signs of life of a node among several." default:"2s"`
	ClusterTimeout        time.Duration `range:"0:" help:"Time without one after which a node counts as gone." default:"10s"`
	ClusterAskTimeout     time.Duration `range:"0:" help:"Time that the other nodes have to answer what all are asked: presence, channels, disconnect and the like." default:"3s"`
	ClusterMaxNodes       int           `range:"0:" help:"Nodes that may be." default:"128"`
	ClusterMaxAnswerBytes int           `range:"0:" help:"Bytes of all nodes' answers to one question." default:"16777216"`
	ClusterMaxAsks        int           `range:"0:" help:"Questions to other nodes under way at most." default:"64"`
	ClusterMaxServed      int           `range:"0:" help:"Questions of other nodes under way at most." default:"64"`

	APIErrorMode         string        `name:"api-error-mode" help:"How the API tells errors of methods: ${enum}, which is by the HTTP status, too." enum:"body,transport" default:"body"`
	APIRequestsPerSecond float64       `range:"0:" reload:"value" name:"api-requests-per-second" help:"Requests with each key of the API in a second, commands of a batch and lines of a bulk among them; 0: no bound."`
	APIBytesPerSecond    float64       `range:"0:" reload:"value" name:"api-bytes-per-second" help:"Bytes of requests with each key of the API in a second; 0: no bound."`
	APIMaxRequests       int           `range:"0:" name:"api-max-requests" help:"Requests to the API under way at most." default:"256"`
	APIMaxStreams        int           `range:"0:" name:"api-max-streams" help:"Bulks of the API under way at most." default:"32"`
	APIMaxBodyBytes      int64         `range:"0:" name:"api-max-body-bytes" help:"Bytes of a request to the API, or of a line of a bulk." default:"1048576"`
	APIMaxBatchBytes     int64         `range:"0:" name:"api-max-batch-bytes" help:"Bytes of a batch or broadcast, and of the replies to the commands of a batch." default:"8388608"`
	APIMaxChannels       int           `range:"0:" name:"api-max-channels" help:"Channels and users of a broadcast, and channels of a list." default:"10000"`
	APIMaxCommands       int           `range:"0:" name:"api-max-commands" help:"Commands of a batch." default:"1000"`
	APITimeout           time.Duration `range:"0:" name:"api-timeout" help:"Time that a request to the API has to come, to be carried out, and that its answer has to leave." default:"10s"`
	APIStreamTimeout     time.Duration `range:"0:" name:"api-stream-timeout" help:"Time that a bulk may be silent." default:"60s"`

	Events                []string      `help:"Events of which the backend is told: client_connected, client_disconnected, and of all channels channel_occupied, channel_vacated, member_joined, member_left, cache_miss; namespaces may have more." placeholder:"TYPE"`
	EventsURL             string        `name:"events-url" help:"Where events are posted to." placeholder:"URL"`
	EventsSecretFile      string        `help:"File with the secrets that sign events, one a line, of 32 bytes or more; several while one takes the place of another." type:"existingfile" placeholder:"FILE"`
	EventsBatch           int           `help:"Events in a POST." default:"500"`
	EventsBatchBytes      int           `help:"Bytes of events in a POST; a single one may have more." default:"262144"`
	EventsDelay           time.Duration `help:"Time that an event waits for others to be sent with it; negative: none." default:"100ms"`
	EventsDebounce        time.Duration `help:"Time for which a departure is held back: who comes back within it has not been away; negative: none." default:"1s"`
	EventsTimeout         time.Duration `help:"Time that the backend has to answer a POST." default:"10s"`
	EventsBackoff         time.Duration `help:"Time between two attempts, at most." default:"30s"`
	EventsMaxRejections   int           `help:"Times that the backend may reject a batch of events, with 400, 410, 413 or 422, until it is given up; negative: no bound." default:"20"`
	EventsShutdownTimeout time.Duration `help:"Time to send what waits when the server ends." default:"5s"`
	EventsQueueBytes      int64         `help:"Bytes of events that wait for the backend; of more, the oldest are given up." default:"67108864"`
	EventsSync            time.Duration `help:"Time between two fsyncs of the events' queue, at least; negative: none." default:"20ms"`

	TapMaxCaptures     int           `help:"Captures of frames that may run at a time; negative: none." default:"8"`
	TapMaxInspectors   int           `help:"Playground pages that may look at their own connection's frames at a time; negative: none." default:"16"`
	TapMaxConnections  int           `range:"0:" help:"Connections of one capture." default:"100"`
	TapBytesPerSecond  int           `range:"0:" help:"Bytes of frames that one capture shows in a second; more are left out, and counted." default:"4194304"`
	TapBufferBytes     int           `range:"0:" help:"Bytes that wait for a capture's reader; more are left out, and counted." default:"4194304"`
	TapFrameBytes      int           `range:"0:" help:"Bytes that a capture keeps of one frame, and of one message to inflate it." default:"262144"`
	TapMaxDuration     time.Duration `range:"0:" help:"Time of one capture." default:"1h"`
	TapPayloadBytes    int           `range:"0:" help:"Bytes of each payload that keys without the scope tap_payload are shown." default:"0"`
	TapStartsPerMinute float64       `range:"0:" help:"Captures that begin in a minute." default:"60"`

	MemoryLimit     int64   `help:"Bytes that the process may take; default: GOMEMLIMIT, if that is set. The limit of the control group, if there is one, holds too. Negative: neither is watched."`
	MemoryHighWater float64 `range:"0:<1" help:"Part of these limits from which new clients are refused, so that those who are in can stay." default:"0.9"`

	Dashboard            bool `help:"The dashboard on the internal address." negatable:"" default:"true"`
	DashboardMaxWatchers int  `help:"Dashboards that may be open at a time; negative: none." default:"16"`
	DashboardMaxResults  int  `range:"0:" help:"Connections that the dashboard finds at a time on each node." default:"100"`

	PingInterval time.Duration  `help:"Time between two pings; negative: never." default:"25s"`
	PongTimeout  time.Duration  `range:"0:" help:"Time from a ping to any sign of life." default:"8s"`
	CloseTimeout time.Duration  `range:"0:" help:"Time that a client has to answer a close frame." default:"5s"`
	DrainGrace   *time.Duration `range:"0:" help:"Time from SIGTERM during which clients are still accepted, while /readyz says 503; default 2s, with --dev none." placeholder:"2s"`
	DrainRate    float64        `range:"0:" help:"Sessions that are then closed in a second; 0: all at once." default:"5000"`
	DrainTimeout time.Duration  `range:"0:" help:"Time from SIGTERM until those that are left are closed at once." default:"25s"`

	LogLevel          slog.Level    `reload:"value" help:"debug, info, warn or error." default:"info"`
	LogRepeatInterval time.Duration `help:"Time in which a line of the log that the broker or the cluster says again is counted, and not written; negative: all are written." default:"30s"`
	LogFormat         string        `help:"How to log: ${enum}." enum:"text,json" default:"text"`

	TraceEndpoint string   `help:"Where spans of OpenTelemetry go, by OTLP over HTTP; default: where OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere." placeholder:"URL"`
	TraceSample   *float64 `range:"0:1" help:"Of how many traces that begin here spans are kept: 0.01 is one in a hundred; default: what OTEL_TRACES_SAMPLER says, or all." placeholder:"1"`

	AuditLog       string `reload:"content" help:"Where the audit log goes, with a line for all that is done by the API or a signal: stderr, off or a file, which SIGHUP opens again." default:"stderr" placeholder:"FILE"`
	AuditPublishes bool   `help:"Have a line in it for each publication by the API, too."`

	AccessLog       string  `reload:"content" help:"Where the access log goes, with a line for each connection when it is opened and when it is closed: stderr, off or a file, which SIGHUP opens again." default:"off" placeholder:"FILE"`
	AccessLogSample float64 `range:"0:1" help:"Of how many connections it has lines: 0.01 is one in a hundred." default:"1"`

	document *document // what Config says; nil without
}

// gcPercent makes the garbage of a storm of handshakes a quarter of what Go would let it become, for among it the connections
// are strewn: GOGC=100 millpond bench personal and bench idle show the difference. Steady traffic allocates little, so the
// collections stay rare.
const gcPercent = 25

// Run serves until ctx ends, which SIGTERM does, and then drains.
func (c *serveCommand) Run(ctx context.Context, s *streams, k *kong.Context) error {
	// Who reads the log may end, and come back, without a word to the clients. SIGHUP may come before there is anything to reload.
	signal.Ignore(syscall.SIGPIPE)
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	level := new(slog.LevelVar)
	level.Set(c.LogLevel)
	logger := c.logger(s, level)
	followQuota(logger)
	config, err := c.config(logger)
	if err != nil {
		return err
	}
	server, err := push.New(config)
	if err != nil {
		return err
	}
	c.examine(logger)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			c.end(server, c.grace(), logger)
		case <-server.Taken():
			c.end(server, 0, logger)
		case <-ended:
		}
	}()
	reloader := newReloader(server, k, c, s, level, logger)
	warnOfExposed(logger, exposed(settingsOf(k.Model), reloader.current, c.document))
	defer onHangUp(hangUps, reloader.reload)()
	if err := server.Serve(); !errors.Is(err, push.ErrServerClosed) {
		return err
	}
	logger.Info("stopped")
	return nil
}

// onHangUp calls f for each of the signals, until stop.
func onHangUp(signals <-chan os.Signal, f func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-signals:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// defaultDrainGrace is what a load balancer that asks /readyz every second needs.
const defaultDrainGrace = 2 * time.Second

// shutdownSlack is for handlers and HTTP requests that are under way.
const shutdownSlack = 5 * time.Second

var errHurry = errors.New("a second signal came")

func (c *serveCommand) grace() time.Duration {
	switch {
	case c.DrainGrace != nil:
		return *c.DrainGrace
	case c.Dev:
		return 0
	}
	return defaultDrainGrace
}

// end drains server and shuts it down. A second signal leaves out what is left of the draining.
func (c *serveCommand) end(server *push.Server, grace time.Duration, logger *slog.Logger) {
	logger.Info("draining", "grace", grace, "rate", c.DrainRate, "timeout", c.DrainTimeout)
	deadline, cancel := context.WithTimeout(context.Background(), c.DrainTimeout)
	defer cancel()
	draining, hurry := context.WithCancelCause(deadline)
	defer hurry(nil)
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	go func() {
		select {
		case <-again:
			hurry(errHurry)
		case <-draining.Done():
		}
	}()
	if err := server.Drain(draining, grace, c.DrainRate); err != nil {
		logger.Warn("draining ends early", "error", err)
	}
	// The closing handshakes have their own timeout; this is for what does not keep to it.
	ending, done := context.WithTimeout(context.Background(), c.CloseTimeout+shutdownSlack)
	defer done()
	if err := server.Shutdown(ending); err != nil {
		logger.Warn("drained with force", "error", err)
	}
}

func (c *serveCommand) logger(s *streams, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.err, o))
	}
	return slog.New(slog.NewTextHandler(s.err, o))
}

// config maps the flags onto the product's structs.
func (c *serveCommand) config(logger *slog.Logger) (push.Config, error) {
	out := push.Config{
		Listen: c.Listen, InternalListen: c.InternalListen, Dev: c.Dev, Echo: c.Echo, Playground: c.Playground,
		AllowedOrigins: c.AllowedOrigins, MaxChannels: c.MaxChannels, MaxPresence: c.MaxPresence, MaxAnswerBytes: c.MaxAnswerBytes,
		MaxConnectionsPerUser: c.MaxConnectionsPerUser, ConnectTimeout: c.ConnectTimeout,
		PersonalChannels: c.PersonalChannels, PersonalNamespace: c.PersonalNamespace, SlowPolicy: push.SlowPolicies[c.SlowPolicy],
		NoCompression: c.Compression == "off",
		Compression: session.Compression{
			ContextTakeover: c.Compression == "context-takeover", Level: c.CompressionLevel,
			MinBytes: c.CompressionMinBytes, WindowBits: c.CompressionWindowBits,
		},
		TLS: push.TLS{
			ClientCA: c.TLSClientCA, OptionalClientCert: c.TLSClientAuth == "optional", TicketKeys: c.TLSTicketKeysFile,
			MinVersion: map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[c.TLSMinVersion],
		},
		History: push.History{
			MaxHistoryBytes: c.HistoryBytes, MaxStreams: c.HistoryChannels, PositionTTL: c.HistoryPositionTTL,
			MaxIdempotencyKeys: c.IdempotencyKeys,
		},
		APIKeyFile: c.APIKeyFile,
		API: push.APILimits{
			MaxBodyBytes: c.APIMaxBodyBytes, MaxBatchBytes: c.APIMaxBatchBytes, MaxChannels: c.APIMaxChannels, MaxCommands: c.APIMaxCommands,
			MaxRequests: c.APIMaxRequests, MaxStreams: c.APIMaxStreams, Timeout: c.APITimeout, StreamTimeout: c.APIStreamTimeout,
			RequestsPerSecond: c.APIRequestsPerSecond, BytesPerSecond: c.APIBytesPerSecond,
		},
		Cluster: push.Cluster{Name: c.NodeName, ClusterLimits: push.ClusterLimits{
			Heartbeat: c.ClusterHeartbeat, Timeout: c.ClusterTimeout, AskTimeout: c.ClusterAskTimeout, MaxNodes: c.ClusterMaxNodes,
			MaxAnswerBytes: c.ClusterMaxAnswerBytes, MaxAsks: c.ClusterMaxAsks, MaxServed: c.ClusterMaxServed,
		}},
		Tap: push.TapLimits{
			MaxCaptures: c.TapMaxCaptures, MaxInspectors: c.TapMaxInspectors, MaxConnections: c.TapMaxConnections,
			BytesPerSecond: c.TapBytesPerSecond, BufferBytes: c.TapBufferBytes, FrameBytes: c.TapFrameBytes,
			MaxDuration: c.TapMaxDuration, PayloadBytes: c.TapPayloadBytes, StartsPerMinute: c.TapStartsPerMinute,
		},
		NoDashboard: !c.Dashboard, Dashboard: push.DashboardLimits{MaxWatchers: c.DashboardMaxWatchers, MaxResults: c.DashboardMaxResults},
		MaxRecovered:   c.MaxRecovered,
		AllowAnonymous: c.AllowAnonymous, DataDir: c.DataDir, MaxRevocations: c.MaxRevocations, MaxBadTokens: c.MaxBadTokens,
		Events: push.Events{Kinds: c.Events, EventsConfig: push.EventsConfig{
			URL: c.EventsURL, BatchEvents: c.EventsBatch, BatchBytes: c.EventsBatchBytes, Delay: c.EventsDelay, Debounce: c.EventsDebounce,
			Timeout: c.EventsTimeout, MaxBackoff: c.EventsBackoff, MaxRejections: c.EventsMaxRejections, ShutdownTimeout: c.EventsShutdownTimeout, QueueBytes: c.EventsQueueBytes,
			SyncInterval: c.EventsSync,
		}},
		Memory:    c.memory(),
		Inherited: activation.Files(true), Takeover: c.Takeover,
		Trace:             push.Trace{Endpoint: c.TraceEndpoint, Sample: c.TraceSample, Environment: true},
		LogRepeatInterval: c.LogRepeatInterval,
		AuditLog:          push.Log{Path: c.AuditLog, JSON: c.LogFormat == "json"}, AuditPublishes: c.AuditPublishes,
		AccessLog: push.Log{Path: c.AccessLog, JSON: c.LogFormat == "json"}, AccessSample: c.AccessLogSample,
		MaxMessageBytes: c.MaxMessageBytes, Version: version, Logger: logger,
		Socket: session.SocketOptions{SendBuffer: c.SendBufferBytes, UserTimeout: c.TCPUserTimeout, KeepAlive: c.TCPKeepalive, ReusePort: c.ReusePort},
		Engine: session.Config{
			Loops: c.Loops, Workers: c.Workers, TLSHandshakes: c.TLSHandshakes, MaxConnections: c.MaxConnections, MaxHandshakes: c.MaxHandshakes, MaxPerAddress: c.MaxConnectionsPerAddress, AcceptRate: c.AcceptRate, MaxLoopLag: c.MaxLoopLag, MaxHTTPConns: c.MaxHTTPConnections,
			MaxHeaderBytes: c.MaxHeaderBytes, HandshakeTimeout: c.HandshakeTimeout, InboxBytes: c.InboxBytes,
			OutboxBytes: c.OutboxBytes, OutboxMessages: c.OutboxMessages, OutboxAge: c.OutboxAge, PingInterval: c.PingInterval,
			PongTimeout: c.PongTimeout, CloseTimeout: c.CloseTimeout,
		},
	}
	if c.APIErrorMode != "body" {
		out.APIErrorMode = c.APIErrorMode
	}
	var errs []error
	if len(c.TLSCert) != len(c.TLSKey) {
		errs = append(errs, fmt.Errorf("tls-cert: %d given, but %d of tls-key", len(c.TLSCert), len(c.TLSKey)))
	} else {
		for i := range c.TLSCert {
			out.TLS.Pairs = append(out.TLS.Pairs, push.TLSPair{Certificate: c.TLSCert[i], Key: c.TLSKey[i]})
		}
	}
	var err error
	if out.Channels, out.Namespaces, err = loadChannels(c.sections()); err != nil {
		errs = append(errs, err)
	}
	out.Webhooks = push.Webhooks{Connect: c.ConnectWebhook, Refresh: c.RefreshWebhook, RPC: c.RPCWebhook}
	if out.Webhooks.Endpoints, out.Webhooks.RPCNamespaces, err = loadWebhooks(c.sections()); err != nil {
		errs = append(errs, err)
	}
	if out.Engine.TrustedProxies, err = parseNetworks(c.TrustedProxies); err != nil {
		errs = append(errs, fmt.Errorf("trusted-proxies: %w", err))
	}
	tcp := slices.DeleteFunc(slices.Clone(c.ProxyProtocolFrom), func(p string) bool { return p == "unix" })
	out.Engine.ProxyProtocolUnix = len(tcp) < len(c.ProxyProtocolFrom)
	if out.Engine.ProxyProtocolFrom, err = parseNetworks(tcp); err != nil {
		errs = append(errs, fmt.Errorf("proxy-protocol-from: %w", err))
	}
	for name, value := range map[string]float64{"drain-rate": c.DrainRate, "drain-grace": float64(c.grace()), "drain-timeout": float64(c.DrainTimeout)} {
		if !(value >= 0) {
			errs = append(errs, fmt.Errorf("%s: it is negative, or no number", name))
		}
	}
	if out.NATS, err = c.nats(); err != nil {
		errs = append(errs, err)
	}
	if out.Queue, err = c.queue(); err != nil {
		errs = append(errs, err)
	}
	if out.Tokens, err = c.tokens(); err != nil {
		errs = append(errs, err)
	}
	if out.NamedAPIKeys, err = loadAPIKeys(c.sections()); err != nil {
		errs = append(errs, err)
	}
	secrets, err := readSecret(c.EventsSecretFile)
	if err != nil {
		errs = append(errs, fmt.Errorf("events-secret-file: %w", err))
	}
	out.Events.Secrets = lines(secrets)
	if limit := out.Memory.LimitBytes; c.MemoryLimit == 0 && (push.Memory{LimitBytes: limit}).Validate() != nil {
		errs, out.Memory.LimitBytes = append(errs, fmt.Errorf("GOMEMLIMIT: %d bytes are less than the program needs before anybody connects", limit)), 0
	}
	return out, errors.Join(errs...)
}

// sections are those of the file, with all else in it.
func (c *serveCommand) sections() file {
	if c.document == nil {
		return nil
	}
	return c.document.values
}

// memory is what the flags and Go's own variable say. Whoever has set that one wants Go to keep to it.
func (c *serveCommand) memory() push.Memory {
	m := push.Memory{LimitBytes: c.MemoryLimit, HighWater: c.MemoryHighWater, TuneGo: os.Getenv("GOMEMLIMIT") == ""}
	if limit := debug.SetMemoryLimit(-1); !m.TuneGo && m.LimitBytes == 0 && limit < math.MaxInt64 {
		m.LimitBytes = limit
	}
	return m
}

// lines returns those of b that are not empty, without the white space around them.
func lines(b []byte) (list [][]byte) {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			list = append(list, line)
		}
	}
	return list
}

func parseNetworks(list []string) (networks []netip.Prefix, err error) {
	for _, p := range list {
		prefix, e := netip.ParsePrefix(p)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%q is no network, such as 10.0.0.0/8 or 192.0.2.7/32", p))
		}
		networks = append(networks, prefix)
	}
	return networks, err
}

// readSecret reads a file without the white space around its content; no path, no secret.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return files.Secret(path)
}
