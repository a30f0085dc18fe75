package plain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inline is an executor that leaves all work to the publisher, so a publish
// has been delivered when it returns.
type inline struct{}

func (inline) Submit(hub.Task) bool { return false }

// wire is a connection that keeps what is sent. A frame is a *string, so that
// tests can see whether it is shared.
type wire struct {
	mu      sync.Mutex
	sent    []string
	frames  []*string
	batches int
	wakes   int
	waiting int // what Waiting says

	afterSend func()
	id        string
	epoch     string // the latest that was sent
	policy    string // of the latest batch
	closed    string
	held      bool
}

func (w *wire) Send(frames ...*string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range frames {
		w.sent = append(w.sent, *f)
	}
	if w.afterSend != nil {
		w.afterSend()
	}
	return nil
}

func (w *wire) Waiting() int { return w.waiting }

func (w *wire) WakeWhenDrained() bool { return w.waiting > 0 }

func (w *wire) Wake() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakes++
	return true
}

func (w *wire) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = true
}

func (w *wire) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = false
}

func (w *wire) ID() string { return w.id }

func (w *wire) SendBatch(_, policy string, frames []*string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches++
	w.policy = policy
	w.frames = append(w.frames, frames...)
	for _, f := range frames {
		w.sent = append(w.sent, *f)
	}
	return nil
}

func (w *wire) Close(code uint16, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed += fmt.Sprintf("%d %s;", code, reason)
}

func textFrame(text []byte) *string {
	s := string(text)
	return &s
}

func newHub(t testing.TB) *hub.Hub {
	t.Helper()
	h, err := hub.New(hub.Config{Broker: memory.New(memory.Config{}), Executor: inline{}, AnyNamespace: true})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newHandler(t testing.TB, config Config) *Handler[*string] {
	t.Helper()
	if config.Hub == nil {
		config.Hub = newHub(t)
	}
	h, err := NewHandler(config, textFrame)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func open(h *Handler[*string], params Params) (*Client[*string], *wire) {
	w := new(wire)
	c := h.NewClient(w, params)
	c.OnOpen()
	return c, w
}

// passwords accepts each user whose password is the name reversed, and the
// token "good".
type passwords struct{}

func (passwords) Authenticate(_ context.Context, c Credentials) (*Identity, error) {
	switch {
	case c.Token == "good":
		return &Identity{User: "tok", Channels: []string{"a", "b", "c"}}, nil
	case c.Token == "broken":
		return nil, errors.New("key server 10.0.0.1 is down")
	case c.Username == "bob" && c.Password == "bob":
		return &Identity{User: "bob", Everything: true}, nil
	}
	return nil, fmt.Errorf("%w: wrong token or password", hub.ErrUnauthorized)
}

var everything = &Identity{Everything: true}

// conversations: lines of ">" are what the client sends, the others are what
// it gets.
var conversations = []struct {
	name   string
	config Config
	lines  string
	closed string
}{
	{name: "subscribe, publish, unsubscribe", config: Config{Anonymous: everything}, lines: `
> {"type":"subscribe","id":1,"payload":{"channel":"news"}}
{"type":"reply","id":1,"ok":true,"channel":"news"}
> {"type":"publish","id":2,"payload":{"channel":"news","data":{"n": 1, "html": "<b>&"}}}
{"type":"message","channel":"news","offset":1,"data":{"n":1,"html":"<b>&"}}
{"type":"reply","id":2,"ok":true,"channel":"news","offset":1}
> {"type":"unsubscribe","id":3,"payload":{"channel":"news"}}
{"type":"reply","id":3,"ok":true,"channel":"news"}
> {"type":"publish","id":4,"payload":{"channel":"news","data":2}}
{"type":"reply","id":4,"ok":true,"channel":"news","offset":1}`},
	{name: "several channels", config: Config{Anonymous: everything}, lines: `
> {"type":"subscribe","id":"x","payload":{"channels":["b","a"]}}
{"type":"reply","id":"x","ok":true,"channels":["b","a"]}
> {"type":"publish","payload":{"channel":"a","data":null}}
{"type":"message","channel":"a","offset":1,"data":null}
{"type":"reply","ok":true,"channel":"a","offset":1}
> {"type":"unsubscribe","payload":{"channels":["a","never joined"]}}
{"type":"reply","ok":true,"channels":["a","never joined"]}`},
	{name: "ids are echoed as written", lines: `
> {"type":"ping"}
{"type":"pong"}
> {"type":"ping","id":null}
{"type":"pong"}
> {"type":"ping","id":-1.50e+2}
{"type":"pong","id":-1.50e+2}
> {"id":"\u00e4\"é","type":"ping","more":[1,{"x":2}]}
{"type":"pong","id":"\u00e4\"é"}
> {"type":"ping","id":123456789012345678901234567890}
{"type":"pong","id":123456789012345678901234567890}`},
	{name: "bad ids", lines: `
> {"type":"ping","id":{"a":1}}
{"type":"error","code":107,"message":"bad request: \"id\" must be a string or a number"}
> {"type":"ping","id":true}
{"type":"error","code":107,"message":"bad request: \"id\" must be a string or a number"}
> {"type":"ping","id":"0123456789012345678901234567890123456789012345678901234567890123456789"}
{"type":"error","code":107,"message":"bad request: \"id\" has 72 bytes, at most 64 are allowed"}`},
	{name: "not a command", lines: `
> hello
{"type":"error","code":107,"message":"bad request: the message is not JSON: invalid character 'h' looking for beginning of value"}
> 
{"type":"error","code":107,"message":"bad request: the message is not JSON: unexpected end of JSON input"}
> [1]
{"type":"error","code":107,"message":"bad request: the message must be a JSON object, not array"}
>   null
{"type":"error","code":107,"message":"bad request: the message must be a JSON object"}
> {"id":7}
{"type":"error","id":7,"code":107,"message":"bad request: \"type\" is missing; it is one of \"login\", \"subscribe\", \"unsubscribe\", \"publish\", \"presence\", \"history\", \"ping\""}
> {"id":7,"type":5}
{"type":"error","id":7,"code":107,"message":"bad request: \"type\" has the wrong type: number"}
> {"id":7,"type":"sub\u0001"}
{"type":"error","id":7,"code":104,"message":"method not found: there is no type \"sub\\x01\"; it is one of \"login\", \"subscribe\", \"unsubscribe\", \"publish\", \"presence\", \"history\", \"ping\""}`},
	{name: "bad payloads", config: Config{Anonymous: everything}, lines: `
> {"type":"subscribe","id":1}
{"type":"error","id":1,"code":107,"message":"bad request: subscribe needs a \"payload\" object"}
> {"type":"subscribe","id":1,"payload":"news"}
{"type":"error","id":1,"code":107,"message":"bad request: subscribe needs a \"payload\" object"}
> {"type":"subscribe","id":1,"payload":{}}
{"type":"error","id":1,"code":107,"message":"bad request: subscribe needs either \"payload.channel\" or \"payload.channels\""}
> {"type":"unsubscribe","id":1,"payload":{"channel":"a","channels":["b"]}}
{"type":"error","id":1,"code":107,"message":"bad request: unsubscribe needs either \"payload.channel\" or \"payload.channels\""}
> {"type":"subscribe","id":1,"payload":{"channels":["a",2]}}
{"type":"error","id":1,"code":107,"message":"bad request: \"payload.channels\" has the wrong type: number"}
> {"type":"publish","id":1,"payload":{"data":1}}
{"type":"error","id":1,"code":107,"message":"bad request: publish needs \"payload.channel\""}
> {"type":"publish","id":1,"payload":{"channel":"a"}}
{"type":"error","id":1,"code":107,"message":"bad request: publish needs \"payload.data\""}
> {"type":"publish","id":1,"payload":{"channel":"","data":1}}
{"type":"error","id":1,"code":107,"message":"bad request: channel name is empty"}
> {"type":"subscribe","id":1,"payload":{"channel":""}}
{"type":"error","id":1,"code":107,"message":"bad request: channel name is empty"}
> {"type":"unsubscribe","id":1,"payload":{"channel":""}}
{"type":"error","id":1,"code":107,"message":"bad request: channel name is empty"}`},
	{name: "twice", config: Config{Anonymous: everything}, lines: `
> {"type":"subscribe","id":1,"payload":{"channel":"a"}}
{"type":"reply","id":1,"ok":true,"channel":"a"}
> {"type":"subscribe","id":2,"payload":{"channel":"a"}}
{"type":"error","id":2,"code":105,"message":"already subscribed: to channel \"a\""}
> {"type":"subscribe","id":3,"payload":{"channels":["b","a"]}}
{"type":"error","id":3,"code":105,"message":"already subscribed: to channel \"a\""}
> {"type":"subscribe","id":4,"payload":{"channels":["b","c","b"]}}
{"type":"error","id":4,"code":105,"message":"already subscribed: channel \"b\" is named twice"}
> {"type":"publish","id":5,"payload":{"channel":"b","data":"nobody has joined b"}}
{"type":"reply","id":5,"ok":true,"channel":"b","offset":1}`},
	{name: "channel limit", config: Config{Anonymous: everything, MaxChannels: 2}, lines: `
> {"type":"subscribe","id":1,"payload":{"channels":["a","b","c"]}}
{"type":"error","id":1,"code":106,"message":"limit exceeded: at most 2 channels are allowed on a connection"}
> {"type":"subscribe","id":2,"payload":{"channel":"a"}}
{"type":"reply","id":2,"ok":true,"channel":"a"}
> {"type":"subscribe","id":3,"payload":{"channels":["b","c"]}}
{"type":"error","id":3,"code":106,"message":"limit exceeded: at most 2 channels are allowed on a connection"}
> {"type":"subscribe","id":4,"payload":{"channel":"b"}}
{"type":"reply","id":4,"ok":true,"channel":"b"}`},
	{name: "nothing without a login", config: Config{Authenticator: passwords{}}, lines: `
> {"type":"subscribe","id":1,"payload":{"channel":"a"}}
{"type":"error","id":1,"code":101,"message":"unauthorized: log in before you subscribe"}
> {"type":"publish","id":1,"payload":{"channel":"a","data":1}}
{"type":"error","id":1,"code":101,"message":"unauthorized: log in before you publish"}
> {"type":"login","id":2,"payload":{"username":"bob","password":"eve"}}
{"type":"error","id":2,"code":101,"message":"unauthorized: wrong token or password"}
> {"type":"login","id":2,"payload":{"token":"broken"}}
{"type":"error","id":2,"code":100,"message":"internal server error"}
> {"type":"login","id":2,"payload":{}}
{"type":"error","id":2,"code":107,"message":"bad request: login needs \"payload.token\", or \"payload.username\" and \"payload.password\""}
> {"type":"login","id":3,"payload":{"username":"bob","password":"bob"}}
{"type":"reply","id":3,"ok":true,"user":"bob"}
> {"type":"login","id":4,"payload":{"token":"good"}}
{"type":"error","id":4,"code":107,"message":"bad request: already logged in"}
> {"type":"publish","id":5,"payload":{"channel":"a","data":1}}
{"type":"reply","id":5,"ok":true,"channel":"a","offset":1}`},
	{name: "clients may not publish unless told so", config: Config{Authenticator: passwords{}}, lines: `
> {"type":"login","payload":{"token":"good"}}
{"type":"reply","ok":true,"user":"tok"}
> {"type":"publish","id":1,"payload":{"channel":"a","data":1}}
{"type":"error","id":1,"code":103,"message":"permission denied: you may not publish to channel \"a\""}`},
	{name: "no permission to subscribe", config: Config{Anonymous: &Identity{}}, lines: `
> {"type":"subscribe","id":1,"payload":{"channel":"a"}}
{"type":"error","id":1,"code":103,"message":"permission denied: you may not subscribe to channel \"a\""}`},
	{name: "no login here", lines: `
> {"type":"login","id":1,"payload":{"token":"x"}}
{"type":"error","id":1,"code":108,"message":"not available: this server has no login"}`},
	{name: "anything is right under development", config: Config{Authenticator: AcceptAny{}}, lines: `
> {"type":"login","id":1,"payload":{"username":"ann","password":""}}
{"type":"reply","id":1,"ok":true,"user":"ann"}
> {"type":"subscribe","payload":{"channel":"a"}}
{"type":"reply","ok":true,"channel":"a"}`},
	{name: "faults in a row close", config: Config{MaxFaults: 3, Authenticator: passwords{}}, lines: `
> x
{"type":"error","code":107,"message":"bad request: the message is not JSON: invalid character 'x' looking for beginning of value"}
> {"type":"y"}
{"type":"error","code":104,"message":"method not found: there is no type \"y\"; it is one of \"login\", \"subscribe\", \"unsubscribe\", \"publish\", \"presence\", \"history\", \"ping\""}
> {"type":"ping"}
{"type":"pong"}
> {"type":"login","payload":{"token":"1"}}
{"type":"error","code":101,"message":"unauthorized: wrong token or password"}
> {"type":"login","payload":{"token":"2"}}
{"type":"error","code":101,"message":"unauthorized: wrong token or password"}
> {"type":"login","payload":{"token":"3"}}
{"type":"error","code":101,"message":"unauthorized: wrong token or password"}
> {"type":"ping"}`, closed: "1008 too many bad messages;"},
}

func TestConversations(t *testing.T) {
	for _, test := range conversations {
		t.Run(test.name, func(t *testing.T) {
			h := newHandler(t, test.config)
			c, w := open(h, Params{})
			var want []string
			for line := range strings.SplitSeq(strings.TrimPrefix(test.lines, "\n"), "\n") {
				message, isUp := strings.CutPrefix(line, "> ")
				if isUp {
					check(t, w, want)
					want = nil
					c.OnMessage(true, []byte(message))
				} else {
					want = append(want, line)
				}
			}
			check(t, w, want)
			if w.closed != test.closed {
				t.Errorf("closed %q, want %q", w.closed, test.closed)
			}
			c.OnClose()
			if s := h.config.Hub.Stats(); s.Subscriptions != 0 {
				t.Errorf("%d subscriptions after OnClose", s.Subscriptions)
			}
		})
	}
}

// check compares what was sent since the last check.
func check(t *testing.T, w *wire, want []string) {
	t.Helper()
	for _, s := range w.sent {
		if !json.Valid([]byte(s)) {
			t.Errorf("not JSON: %s", s)
		}
	}
	if !slices.Equal(w.sent, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(w.sent, "\n\t"), strings.Join(want, "\n\t"))
	}
	w.sent = nil
}

func TestOpenParams(t *testing.T) {
	for _, test := range []struct {
		name   string
		params Params
		want   []string
		closed string
	}{
		{"nothing", Params{}, nil, ""},
		{"token and channels", Params{Token: "good", Channels: []string{"a", "b"}}, []string{`{"type":"reply","ok":true,"channels":["a","b"]}`}, ""},
		{"token alone", Params{Token: "good"}, nil, ""},
		{
			"bad token",
			Params{Token: "bad", Channels: []string{"a"}},
			[]string{`{"type":"error","code":101,"message":"unauthorized: wrong token or password"}`},
			"1008 login failed;",
		},
		{
			"no token",
			Params{Channels: []string{"a"}},
			[]string{`{"type":"error","code":101,"message":"unauthorized: log in before you subscribe"}`},
			"",
		},
		{
			"bad channel",
			Params{Token: "good", Channels: []string{"a", ""}},
			[]string{`{"type":"error","code":107,"message":"bad request: channel name is empty"}`},
			"",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, w := open(newHandler(t, Config{Authenticator: passwords{}}), test.params)
			check(t, w, test.want)
			if w.closed != test.closed {
				t.Errorf("closed %q, want %q", w.closed, test.closed)
			}
			if test.closed != "" {
				c.OnMessage(true, []byte(`{"type":"ping"}`))
				check(t, w, nil)
			}
			c.OnClose()
		})
	}
}

func TestBinaryMessageCloses(t *testing.T) {
	c, w := open(newHandler(t, Config{}), Params{})
	c.OnMessage(false, []byte(`{"type":"ping"}`))
	if w.closed != "1003 text messages only;" || len(w.sent) > 0 {
		t.Errorf("closed %q, sent %q", w.closed, w.sent)
	}
}

func TestInternalErrorsAreReportedAndHidden(t *testing.T) {
	var reported []error
	h := newHandler(t, Config{Authenticator: passwords{}, OnInternalError: func(err error) { reported = append(reported, err) }})
	c, w := open(h, Params{})
	c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"broken"}}`))
	c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"bad"}}`))
	if len(reported) != 1 || !strings.Contains(reported[0].Error(), "10.0.0.1") {
		t.Errorf("reported %v", reported)
	}
	if strings.Contains(w.sent[0], "10.0.0.1") {
		t.Errorf("the client was told %s", w.sent[0])
	}
	s := h.Stats()
	if s.Commands != 2 || s.Errors[100] != 1 || s.Errors[101] != 1 || len(s.Errors) != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestFramesAreShared(t *testing.T) {
	h := newHandler(t, Config{Anonymous: everything})
	var wires []*wire
	for range 20 {
		_, w := open(h, Params{Channels: []string{"a"}})
		wires = append(wires, w)
	}
	for range 3 {
		if _, err := h.config.Hub.Publish(t.Context(), "a", []byte("1"), hub.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range wires {
		if !slices.Equal(w.frames, wires[0].frames) || len(w.frames) != 3 {
			t.Fatal("a client got frames of its own")
		}
	}
}

// TestAnswerComesBeforeMessages publishes all the time while a client joins
// and leaves.
func TestAnswerComesBeforeMessages(t *testing.T) {
	h := newHandler(t, Config{Anonymous: everything})
	done := make(chan struct{})
	var publishing sync.WaitGroup
	for range 2 {
		publishing.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					h.config.Hub.Publish(context.Background(), "a", []byte("1"), hub.PublishOptions{})
				}
			}
		})
	}
	c, w := open(h, Params{})
	for range 300 {
		c.OnMessage(true, []byte(`{"type":"subscribe","payload":{"channel":"a"}}`))
		c.OnMessage(true, []byte(`{"type":"unsubscribe","payload":{"channel":"a"}}`))
		w.mu.Lock()
		first, last := w.sent[0], w.sent[len(w.sent)-1]
		middle := w.sent[1 : len(w.sent)-1]
		w.sent = nil
		w.mu.Unlock()
		if reply := `{"type":"reply","ok":true,"channel":"a"}`; first != reply || last != reply {
			t.Fatalf("first %s, last %s", first, last)
		}
		for _, s := range middle {
			if !strings.HasPrefix(s, `{"type":"message"`) {
				t.Fatalf("between the answers: %s", s)
			}
		}
	}
	close(done)
	publishing.Wait()
	c.OnClose()
	if err := h.config.Hub.ConsistencyCheck(); err != nil {
		t.Error(err)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := NewHandler(Config{MaxChannels: -1, MaxFaults: 256, Timeout: -1}, textFrame)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Hub", "MaxChannels", "MaxFaults", "Timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

func TestClientSize(t *testing.T) {
	if n := unsafe.Sizeof(Client[*string]{}); n > 112 {
		t.Errorf("a client has %d bytes, budget 112", n)
	}
	h := newHandler(t, Config{})
	w := new(wire)
	if n := testing.AllocsPerRun(100, func() { h.NewClient(w, Params{}).OnOpen() }); n > 1 {
		t.Errorf("a client without parameters takes %v allocations, want 1", n)
	}
}

// nullConn drops everything.
type nullConn struct{ frames int }

func (*nullConn) Send(...*string) error { return nil }
func (*nullConn) Waiting() int          { return 0 }
func (*nullConn) WakeWhenDrained() bool { return false }
func (n *nullConn) SendBatch(_, _ string, f []*string) error {
	n.frames += len(f)
	return nil
}
func (*nullConn) Close(uint16, string) {}
func (*nullConn) Hold()                {}
func (*nullConn) Resume()              {}
func (*nullConn) Wake() bool           { return true }
func (*nullConn) ID() string           { return "null" }

// subscribeMany returns a handler with n clients on channel "a".
func subscribeMany(t testing.TB, n int) *Handler[*string] {
	h := newHandler(t, Config{Anonymous: everything})
	for range n {
		c := h.NewClient(new(nullConn), Params{})
		c.OnMessage(true, []byte(`{"type":"subscribe","payload":{"channel":"a"}}`))
	}
	return h
}

func TestDeliveryAllocatesNothing(t *testing.T) {
	measure := func(n int) float64 {
		h := subscribeMany(t, n)
		data := []byte(`{"n":1}`)
		return testing.AllocsPerRun(200, func() {
			h.config.Hub.Publish(context.Background(), "a", data, hub.PublishOptions{})
		})
	}
	// Each of the 1,000 would show; a pool emptied by the collector does not.
	if one, many := measure(1), measure(1001); many-one > 5 {
		t.Errorf("%v allocations for one client, %v for 1,001", one, many)
	}
}

func BenchmarkFanOut(b *testing.B) {
	const clients = 1000
	h := subscribeMany(b, clients)
	data := []byte(`{"n":1}`)
	b.ReportAllocs()
	for b.Loop() {
		h.config.Hub.Publish(context.Background(), "a", data, hub.PublishOptions{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/clients, "ns/delivery")
}

func BenchmarkCommand(b *testing.B) {
	for _, message := range []string{
		`{"type":"ping","id":1}`,
		`{"type":"publish","id":1,"payload":{"channel":"a","data":{"text":"hello"}}}`,
	} {
		b.Run(message[9:13], func(b *testing.B) {
			h := newHandler(b, Config{Anonymous: everything})
			c := h.NewClient(new(nullConn), Params{})
			b.ReportAllocs()
			for b.Loop() {
				c.OnMessage(true, []byte(message))
			}
		})
	}
}
