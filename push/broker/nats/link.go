package nats

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gonats "github.com/nats-io/nats.go"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/push/hub"
)

// InProcess is a NATS server in this process.
type InProcess interface {
	// InProcessConn returns a new connection to it.
	InProcessConn() (net.Conn, error)
}

// LinkConfig says how a node reaches NATS: by Server, or by URLs and what they ask for.
type LinkConfig struct {
	// Server, if set, is a NATS server in this process; the other ways are then none.
	Server InProcess
	// URLs are the servers' addresses: "nats://HOST:PORT", "tls://HOST:PORT". One that answers tells of the others.
	URLs []string
	// Node names this process among others, in the lists of the servers' connections.
	Node string
	// Prefix begins every subject and every stream's name, so that several installations may share the servers. Empty means "millpond".
	Prefix string

	// User and Password, or Token, or CredentialsFile (a user's JWT and its key), or NKeyFile (the seed of a key), say who this is.
	User, Password, Token     string
	CredentialsFile, NKeyFile string
	TLS                       TLS

	// ConnectTimeout bounds one attempt to connect. Zero means 5 s.
	ConnectTimeout time.Duration
	// ReconnectWait is the time after the first attempt in vain, of which chance takes up to a half off. Zero means 250 ms.
	ReconnectWait time.Duration
	// MaxReconnectWait is what it grows to, twofold with each attempt. Zero means 5 s, or ReconnectWait if that is more.
	MaxReconnectWait time.Duration
	// PingInterval is the time between two pings; a server that leaves two unanswered is gone. Zero means 5 s.
	PingInterval time.Duration

	// Flags begins the names of the flags in errors. Empty means "nats".
	Flags string
	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// TLS has the files of a connection's certificates. Its zero value is the system's authorities and no certificate.
type TLS struct {
	CA          string // authorities that sign the other side's certificate, in PEM; empty means the system's
	Certificate string // own certificate chain in PEM, and its Key
	Key         string
}

// flag returns the name of one of the connection's flags.
func (c LinkConfig) flag(name string) string { return cmp.Or(c.Flags, "nats") + "-" + name }

// Enabled reports whether any file is given.
func (t TLS) Enabled() bool { return t != TLS{} }

// Load reads the files.
func (t TLS) Load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		var err error
		if c.RootCAs, err = files.Authorities(t.CA); err != nil {
			return nil, err
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, errors.New("a certificate needs its key, and a key its certificate")
	}
	if t.Certificate != "" {
		pair, err := files.KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c LinkConfig) Validate() error {
	var errs []error
	if (c.Server == nil) == (len(c.URLs) == 0) {
		errs = append(errs, fmt.Errorf("%s: give the address of a server, or nats-embedded, and not both", c.flag("url")))
	}
	for _, u := range c.URLs {
		parsed, err := url.Parse(u)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: one of them is no URL", c.flag("url"))) // which may have a password in it
		case parsed.Scheme != "nats" && parsed.Scheme != "tls" || parsed.Host == "":
			errs = append(errs, fmt.Errorf("%s: %s is not like nats://HOST:4222 or tls://HOST:4222", c.flag("url"), parsed.Redacted()))
		case parsed.User != nil:
			errs = append(errs, fmt.Errorf("%s: %s has credentials in it; give %s and %s, or %s", c.flag("url"), parsed.Redacted(), c.flag("user"), c.flag("password-file"), c.flag("token-file")))
		}
	}
	ways := 0
	for _, given := range []bool{c.User != "", c.Token != "", c.CredentialsFile != "", c.NKeyFile != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		errs = append(errs, fmt.Errorf("%s, %s, %s, %s: give one of them", c.flag("user"), c.flag("token-file"), c.flag("credentials-file"), c.flag("nkey-file")))
	}
	if (c.User == "") != (c.Password == "") {
		errs = append(errs, fmt.Errorf("%s: it needs %s, and that needs it", c.flag("user"), c.flag("password-file")))
	}
	if c.Server != nil && (ways > 0 || c.TLS.Enabled()) {
		errs = append(errs, errors.New("nats-embedded: it needs no credentials and no nats-tls-…: those are for nats-url"))
	}
	if strings.ContainsFunc(c.Prefix, func(r rune) bool { return !isWord(r) }) {
		errs = append(errs, fmt.Errorf("nats-prefix: %q has more than letters, digits, - and _ in it", c.Prefix))
	}
	for name, d := range map[string]time.Duration{"nats-connect-timeout": c.ConnectTimeout, "nats-reconnect-wait": c.ReconnectWait, "nats-max-reconnect-wait": c.MaxReconnectWait, "nats-ping-interval": c.PingInterval} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is negative", name, d))
		}
	}
	return errors.Join(errs...)
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

func (c LinkConfig) withDefaults() LinkConfig {
	if c.Prefix == "" {
		c.Prefix = "millpond"
	}
	for _, field := range []struct {
		value *time.Duration
		zero  time.Duration
	}{
		{&c.ConnectTimeout, 5 * time.Second},
		{&c.ReconnectWait, 250 * time.Millisecond},
		{&c.PingInterval, 5 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	if c.MaxReconnectWait == 0 {
		c.MaxReconnectWait = max(5*time.Second, c.ReconnectWait)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// reconnectDelay is how long a node waits after an attempt at all servers, the first of which is 1, so that not all nodes come back at once.
func (c LinkConfig) reconnectDelay(attempt int) time.Duration {
	wait := c.ReconnectWait
	for ; attempt > 1 && wait < c.MaxReconnectWait; attempt-- {
		wait *= 2
	}
	wait = min(wait, c.MaxReconnectWait)
	return wait/2 + rand.N(wait/2+1)
}

// absence is for how long a connection that breaks is away, if there is a server: until that is noticed, and it is restored.
func (c LinkConfig) absence() time.Duration { return 2*c.PingInterval + c.MaxReconnectWait }

// Message is one that came over a Link. Its parts may be kept.
type Message struct {
	Subject string
	Reply   string // where an answer is awaited; empty for nowhere
	Data    []byte
}

// Link is a node's connection to NATS, which is restored for ever when it breaks. While it is broken, what is sent fails at once and
// subscriptions stay. All methods may be called by any goroutine.
type Link struct {
	// Immutable after Open.
	config LinkConfig
	conn   *gonats.Conn

	// Guarded by mu.
	mu     sync.Mutex
	states []func(connected bool)

	// Any goroutine (atomic).
	reconnects, disconnects, attempts, dropped atomic.Int64
	closing                                    atomic.Bool
}

// Open connects. Servers that cannot be reached are tried again for ever, in the background, which is logged; what they refuse, or what is wrong
// in the files, is an error. The Link must be closed.
func Open(c LinkConfig) (*Link, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &Link{config: c.withDefaults()}
	options, err := l.options()
	if err != nil {
		return nil, err
	}
	servers := strings.Join(c.URLs, ",")
	conn, err := gonats.Connect(servers, options...)
	if err != nil && !isRefusal(err) {
		l.config.Logger.Warn("broker: no server of NATS can be reached; trying on", "servers", servers, "error", err)
		conn, err = gonats.Connect(servers, append(options, gonats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.config.flag("url"), err)
	}
	l.conn = conn
	return l, nil
}

// isRefusal reports whether trying again would not help.
func isRefusal(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	for _, target := range []error{gonats.ErrAuthorization, gonats.ErrAuthExpired, gonats.ErrNkeysNotSupported, gonats.ErrSecureConnRequired, gonats.ErrSecureConnWanted} {
		if errors.Is(err, target) {
			return true
		}
	}
	return errors.As(err, &unknown) || errors.As(err, &name)
}

func (l *Link) options() ([]gonats.Option, error) {
	c := l.config
	options := []gonats.Option{
		gonats.Name("millpond " + c.Node),
		gonats.Timeout(c.ConnectTimeout),
		gonats.MaxReconnects(-1),
		gonats.IgnoreAuthErrorAbort(), // a server that comes up may not know its users yet
		gonats.CustomReconnectDelay(func(attempt int) time.Duration {
			l.attempts.Add(1)
			return c.reconnectDelay(attempt)
		}),
		gonats.ReconnectBufSize(-1), // what is sent meanwhile fails, and is not sent late
		gonats.PingInterval(c.PingInterval),
		gonats.MaxPingsOutstanding(2),
		gonats.DisconnectErrHandler(l.onDisconnect),
		gonats.ConnectHandler(func(*gonats.Conn) { l.tell(true) }),
		gonats.ReconnectHandler(l.onReconnect),
		gonats.ErrorHandler(l.onError),
	}
	if c.Server != nil {
		return append(options, gonats.InProcessServer(c.Server)), nil
	}
	if c.TLS.Enabled() {
		config, err := c.TLS.Load()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.flag("tls"), err)
		}
		options = append(options, gonats.Secure(config))
	}
	switch {
	case c.User != "":
		options = append(options, gonats.UserInfo(c.User, c.Password))
	case c.Token != "":
		options = append(options, gonats.Token(c.Token))
	case c.CredentialsFile != "":
		user, err := (&credentials{path: c.CredentialsFile}).user()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.flag("credentials-file"), err)
		}
		options = append(options, user)
	case c.NKeyFile != "":
		key, err := (&credentials{path: c.NKeyFile}).seed()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.flag("nkey-file"), err)
		}
		options = append(options, key)
	}
	return options, nil
}

func (l *Link) onDisconnect(_ *gonats.Conn, err error) {
	if l.closing.Load() {
		return
	}
	l.disconnects.Add(1)
	l.config.Logger.Warn("broker: the connection to NATS is broken", "error", err)
	l.tell(false)
}

func (l *Link) onReconnect(c *gonats.Conn) {
	l.reconnects.Add(1)
	l.config.Logger.Info("broker: connected to NATS again", "server", c.ConnectedServerName())
	l.tell(true)
}

func (l *Link) onError(_ *gonats.Conn, sub *gonats.Subscription, err error) {
	if errors.Is(err, gonats.ErrSlowConsumer) {
		l.dropped.Add(1) // nats.go tells once until the subscription has caught up
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.config.Logger.Warn("broker: NATS", "subject", subject, "error", err)
}

// tell calls those who want to know, on a goroutine of the connection's.
func (l *Link) tell(connected bool) {
	l.mu.Lock()
	states := l.states
	l.mu.Unlock()
	for _, f := range states {
		f(connected)
	}
}

// OnState calls f whenever the connection breaks, and whenever it is there again; one call at a time. f must not block.
func (l *Link) OnState(f func(connected bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = append(l.states[:len(l.states):len(l.states)], f)
}

// Connected reports whether the connection is there.
func (l *Link) Connected() bool { return l.conn.IsConnected() }

// Node returns the name of this node.
func (l *Link) Node() string { return l.config.Node }

// Prefix returns what begins every subject.
func (l *Link) Prefix() string { return l.config.Prefix }

// Inbox returns a subject that nobody else has, for answers.
func (l *Link) Inbox() string { return l.conn.NewInbox() }

// Publish sends data to whoever has subscribed to the subject; there may be nobody. With a reply, answers are awaited there.
func (l *Link) Publish(subject, reply string, data []byte) error {
	return unavailable(l.conn.PublishMsg(&gonats.Msg{Subject: subject, Reply: reply, Data: data}))
}

// Request sends data and awaits one answer, until ctx ends, which it must at some time.
func (l *Link) Request(ctx context.Context, subject string, data []byte) (Message, error) {
	m, err := l.conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return Message{}, unavailable(err)
	}
	return Message{m.Subject, m.Reply, m.Data}, nil
}

// Subscribe calls f for every message to the subject, in order, on a goroutine of its own, until stop, which does not wait for a call that
// is under way. Up to pending messages wait for f; more are dropped and counted.
func (l *Link) Subscribe(subject string, pending int, f func(Message)) (stop func(), err error) {
	sub, err := l.conn.Subscribe(subject, func(m *gonats.Msg) { f(Message{m.Subject, m.Reply, m.Data}) })
	if err != nil {
		return nil, unavailable(err)
	}
	if err := sub.SetPendingLimits(pending, -1); err != nil {
		return nil, unavailable(err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Flush returns when the server has seen all that was sent before, subscriptions among it.
func (l *Link) Flush(ctx context.Context) error { return unavailable(l.conn.FlushWithContext(ctx)) }

// unavailable says of an error of NATS that it is temporary.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: the broker: %w", hub.ErrUnavailable, err)
}

// LinkStats are the figures of a Link.
type LinkStats struct {
	Connected   bool
	Server      string // that it is connected to
	Disconnects int64
	Reconnects  int64
	Attempts    int64     // to connect, that were in vain, at all servers each
	Slow        int64     // times that a subscription dropped messages because it did not keep up
	Messages    [2]uint64 // in, out
	Bytes       [2]uint64
	// Subscriptions are the connection's: of partitions, groups, and what nodes tell each other.
	Subscriptions int
}

// Stats returns them.
func (l *Link) Stats() LinkStats {
	st := l.conn.Stats()
	return LinkStats{
		Connected: l.Connected(), Server: l.conn.ConnectedServerName(),
		Disconnects: l.disconnects.Load(), Reconnects: l.reconnects.Load(), Attempts: l.attempts.Load(), Slow: l.dropped.Load(),
		Messages: [2]uint64{st.InMsgs, st.OutMsgs}, Bytes: [2]uint64{st.InBytes, st.OutBytes}, Subscriptions: l.conn.NumSubscriptions(),
	}
}

// Close ends the connection after what was sent, as far as ctx allows.
func (l *Link) Close(ctx context.Context) error {
	l.closing.Store(true)
	var err error
	if l.Connected() {
		err = l.conn.FlushWithContext(ctx)
	}
	l.conn.Close()
	return err
}
