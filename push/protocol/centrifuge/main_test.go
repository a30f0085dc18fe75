package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inline is an executor that leaves all work to the publisher, so a publish has been delivered when it returns.
type inline struct{}

func (inline) Submit(hub.Task) bool { return false }

// frame is what a connection sends. Tests can see whether one is shared.
type frame = *string

// pipe is a connection that keeps what is sent.
type pipe struct {
	mu          sync.Mutex
	codec       wire.Codec
	sent        []*wire.Reply
	frames      []frame
	sizes       []int // the replies in each of the frames sent alone
	batches     int
	policies    []string
	closed      string
	late        int // calls of Send after the close
	awake       int // calls of Wake
	pinged      bool
	waiting     int // what Waiting says
	wakeDrained bool
	heartbeat   int  // plus one
	held        bool // owned by the client's turn
	beforeSend  func(text string)
}

func (p *pipe) keepLocked(f frame) int {
	if p.closed != "" {
		return 0
	}
	n := 0
	for r, err := range p.codec.Replies([]byte(*f)) {
		if err != nil {
			panic(fmt.Sprintf("sent %q: %v", *f, err))
		}
		p.sent = append(p.sent, r)
		n++
	}
	p.frames = append(p.frames, f)
	return n
}

// Send implements Conn.
func (p *pipe) Send(f frame) error {
	if p.beforeSend != nil {
		p.beforeSend(*f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != "" {
		p.late++
	}
	if n := p.keepLocked(f); n > 0 {
		p.sizes = append(p.sizes, n)
	}
	return nil
}

// SendBatch implements Conn.
func (p *pipe) SendBatch(_, policy string, frames []frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches++
	p.policies = append(p.policies, policy)
	for _, f := range frames {
		p.keepLocked(f)
	}
	return nil
}

// Close implements Conn.
func (p *pipe) Close(code uint16, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == "" {
		p.closed = fmt.Sprintf("%d %s", code, reason)
	}
}

// Hold implements Conn. A test must not have anything received then.
func (p *pipe) Hold() { p.held = true }

// Resume implements Conn.
func (p *pipe) Resume() { p.held = false }

// BeginHeartbeat implements Conn.
func (p *pipe) BeginHeartbeat(h Heartbeat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heartbeat = int(h) + 1
}

// Waiting implements Conn.
func (p *pipe) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

// WakeWhenDrained implements Conn.
func (p *pipe) WakeWhenDrained() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeDrained = p.waiting > 0
	return p.wakeDrained
}

// Answered implements Conn.
func (p *pipe) Answered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.pinged
	p.pinged = false
	return was
}

// Wake implements Conn.
func (p *pipe) Wake() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awake++
	return p.closed == ""
}

func (p *pipe) ended() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// take returns what was sent since the last call, in JSON, and wakes the client for what waits for it.
func (p *pipe) take(t testing.TB) []string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var texts []string
	for _, r := range p.sent {
		b, err := wire.JSON.AppendReply(nil, r)
		if err != nil {
			b = fmt.Appendf(nil, "%v", err)
		}
		texts = append(texts, string(b))
	}
	p.sent = nil
	return texts
}

// tokens is an Authenticator of tokens that are written down.
type tokens struct {
	identities map[string]Identity
	grants     map[string]Grant
	refusals   map[string]error
}

var _ Authenticator = tokens{}

// Connect implements Authenticator.
func (a tokens) Connect(_ context.Context, r ConnectRequest) (Identity, error) {
	id, ok := a.identities[r.Token]
	if err := a.refusals[r.Token]; err != nil {
		return Identity{}, err
	}
	if !ok && r.Token != "" {
		return Identity{}, DisconnectInvalidToken
	}
	return id, nil
}

// Subscribe implements Authenticator.
func (a tokens) Subscribe(_ context.Context, r SubscribeRequest) (Grant, error) {
	if err := a.refusals[r.Token]; err != nil {
		return Grant{}, err
	}
	g, ok := a.grants[r.Token]
	if !ok {
		return Grant{}, hub.ErrPermissionDenied
	}
	return g, nil
}

// open is what all may be done in.
var open = hub.Options{
	HistorySize: 100, HistoryTTL: time.Minute, ForceRecovery: true, Presence: true, JoinLeave: true,
	AllowFossilDelta: true, AllowTagsFilter: true, AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true,
	AllowPublishForClient: true, AllowPublishForAnonymous: true, AllowPresenceForClient: true, AllowPresenceForAnonymous: true,
	AllowHistoryForClient: true, AllowHistoryForAnonymous: true, AllowUserLimitedChannels: true,
}

// plainChannels have nothing but publications.
var plainChannels = hub.Namespace{Name: "plain", Options: hub.Options{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true}}

func newHub(t testing.TB, config hub.Config) *hub.Hub {
	t.Helper()
	if config.Broker == nil {
		config.Broker = memory.New(memory.Config{})
	}
	config.Executor = inline{}
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newHandler(t testing.TB, config Config) *Handler[frame] {
	t.Helper()
	if config.Hub == nil {
		config.Hub = newHub(t, hub.Config{Channels: open, Namespaces: []hub.Namespace{plainChannels}})
	}
	if config.Authenticator == nil {
		config.Authenticator = tokens{}
	}
	h, err := NewHandler(config, func(_ bool, payload []byte) frame {
		text := string(payload)
		return &text
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// peer is a client with its connection.
type peer struct {
	*Client[frame]
	*pipe
	t testing.TB
}

func newPeer(t testing.TB, h *Handler[frame], params Params) *peer {
	p := &pipe{codec: wire.JSON}
	if params.Protobuf {
		p.codec = wire.Protobuf
	}
	c := h.NewClient(p, params)
	c.OnOpen()
	return &peer{Client: c, pipe: p, t: t}
}

// connect begins with the connect command.
func (p *peer) connect(token string) *peer {
	p.t.Helper()
	p.say(`{"id":1,"connect":{"token":"` + token + `"}}`)
	if p.state != connected {
		p.t.Fatalf("not connected: %s %s", p.take(p.t), p.ended())
	}
	p.take(p.t)
	return p
}

// say has a frame with these commands, in JSON, received.
func (p *peer) say(text string) {
	p.t.Helper()
	if p.pipe.codec == wire.JSON {
		p.OnMessage(true, []byte(text))
		return
	}
	var b []byte
	for m, err := range wire.JSON.Commands([]byte(text)) {
		if err == nil {
			b, err = wire.Protobuf.AppendCommand(b, m)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	p.OnMessage(false, b)
}

func (p *peer) expect(want ...string) {
	p.t.Helper()
	if got := p.take(p.t); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		p.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

// advance moves the clock of h and does what is due.
func advance(h *Handler[frame], d time.Duration, peers ...*peer) {
	h.start = h.start.Add(-d)
	h.Tick()
	for _, p := range peers {
		p.OnWake()
	}
}

func publish(t testing.TB, h *Handler[frame], channel, data string) {
	t.Helper()
	if _, err := h.config.Hub.Publish(context.Background(), channel, []byte(data), hub.PublishOptions{Delta: true}); err != nil {
		t.Error(err)
	}
}

// publishAsClient is publish by a client.
func publishAsClient(t testing.TB, h *Handler[frame], channel, data string) {
	t.Helper()
	if _, err := h.config.Hub.Publish(context.Background(), channel, []byte(data), hub.PublishOptions{Delta: true, Info: &hub.ClientInfo{}}); err != nil {
		t.Error(err)
	}
}

// checkEmpty reports what a handler without clients still has.
func checkEmpty(t testing.TB, h *Handler[frame]) {
	t.Helper()
	tasks := h.roster.Waiting()
	s := h.Stats()
	if n := h.tokens.Len(); n != 0 {
		t.Errorf("left: %d tokens", n)
	}
	if s.Connected != 0 || s.Users != 0 || tasks != 0 || h.deadlines.Len() != 0 {
		t.Errorf("left: %d connected, %d users, %d tasks, %d deadlines", s.Connected, s.Users, tasks, h.deadlines.Len())
	}
	if err := h.config.Hub.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
	if n := h.config.Hub.Stats().Subscriptions; n != 0 {
		t.Errorf("left: %d subscriptions", n)
	}
}

var errDown = errors.New("the database at 10.0.0.1 is down")
