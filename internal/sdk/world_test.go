package sdk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push"
	"github.com/millpond/millpond/session"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// worldOptions are what a case wants of its server.
type worldOptions struct {
	MaxChannels           int
	MaxRecovered          int
	MaxConnectionsPerUser int
	PersonalChannels      bool
	NoCompression         bool
	PingSeconds           int
}

// world is a server of a case's own, behind a network that can break.
type world struct {
	t      *testing.T
	config push.Config
	proxy  *proxy

	// Guarded by mu.
	mu     sync.Mutex
	server *push.Server // nil while it is down
	served chan error
}

// namespaces are the channels of every world. All but "closed" are for everybody who is logged in.
func namespaces() []push.Namespace {
	list := []push.Namespace{
		{Name: "plain"},
		{Name: "closed"},
		{Name: "news", Options: push.ChannelOptions{HistorySize: 5000, ForceRecovery: true}},
		{Name: "short", Options: push.ChannelOptions{HistorySize: 10, ForceRecovery: true}},
		{Name: "asked", Options: push.ChannelOptions{HistorySize: 100, AllowRecovery: true, AllowPositioning: true}},
		{Name: "latest", Options: push.ChannelOptions{HistorySize: 100, ForceRecovery: true, RecoverLatest: true}},
		{Name: "room", Options: push.ChannelOptions{Presence: true, JoinLeave: true, AllowPresenceForSubscriber: true}},
		{Name: "lobby", Options: push.ChannelOptions{Presence: true, JoinLeave: true, ForcePushJoinLeave: true, AllowPresenceForSubscriber: true}},
		{Name: "delta", Options: push.ChannelOptions{HistorySize: 5000, ForceRecovery: true, AllowFossilDelta: true, DeltaPublish: true}},
		{Name: "tags", Options: push.ChannelOptions{HistorySize: 100, ForceRecovery: true, AllowTagsFilter: true}},
		{Name: "users", Options: push.ChannelOptions{AllowUserLimitedChannels: true}},
		{Name: "small", Options: push.ChannelOptions{MaxPublicationBytes: 100}},
	}
	for i := range list {
		o := &list[i].Options
		if o.HistorySize > 0 {
			o.HistoryTTL, o.AllowHistoryForSubscriber = time.Minute, true
		}
		if list[i].Name != "closed" {
			o.AllowSubscribeForClient, o.AllowPublishForSubscriber = true, true
		}
	}
	return list
}

func newWorld(t *testing.T, o worldOptions, origin string) (*world, error) {
	w := &world{t: t, config: push.Config{
		Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", TokenSecret: secret, APIKeys: []string{"key"},
		AllowedOrigins: []string{origin}, Namespaces: namespaces(), MaxChannels: o.MaxChannels, MaxRecovered: o.MaxRecovered,
		MaxConnectionsPerUser: o.MaxConnectionsPerUser, PersonalChannels: o.PersonalChannels, PersonalNamespace: "users",
		NoCompression: o.NoCompression,
		Engine:        session.Config{PingInterval: time.Duration(o.PingSeconds) * time.Second, CloseTimeout: 20 * time.Second},
		// One channel may have a 64th of it.
		History: push.History{MaxHistoryBytes: 4 << 30},
		Version: "1.2.3", Logger: slog.New(&logHandler{slog.NewTextHandler(t.Output(), nil), t}),
	}}
	w.config.Engine.PongTimeout = w.config.Engine.PingInterval * 9 / 10 // clients are busy with one another
	w.proxy = newProxy(t)
	return w, w.start()
}

// logHandler fails the test for what the server takes for an error.
type logHandler struct {
	slog.Handler
	t *testing.T
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		h.t.Error("the server has logged an error")
	}
	return h.Handler.Handle(ctx, r)
}

// start starts a server, which knows nothing of the one before.
func (w *world) start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	server, err := push.New(w.config)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	w.server, w.served = server, served
	w.proxy.setBackend(server.Addrs()[0].String())
	return nil
}

// stop shuts the server down as an operator would.
func (w *world) stop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server == nil {
		return nil
	}
	w.proxy.setBackend("")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := w.server.Shutdown(ctx)
	if served := <-w.served; !errors.Is(served, push.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	w.server = nil
	return err
}

// close ends the world; it may be called again.
func (w *world) close() error {
	w.proxy.setStalled(false)
	err := w.stop()
	w.proxy.close()
	return err
}

// api hands a request for the HTTP API on, by its method, and returns the result.
func (w *world) api(ctx context.Context, method string, body []byte) (any, error) {
	w.mu.Lock()
	server := w.server
	w.mu.Unlock()
	if server == nil {
		return nil, errors.New("the server is down")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+server.InternalAddr().String()+"/api/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-API-Key", "key")
	response, err := apiClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct{ Result, Error json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("/api/%s: %s", method, answer.Error)
	}
	return answer.Result, nil
}

// Connections to a server that is gone must not outlive it.
var apiClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// do carries out what a case asks of its world.
func (w *world) do(ctx context.Context, what string, body []byte) (any, error) {
	var m struct {
		On    bool
		Bytes int64
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	switch what {
	case "publish", "broadcast", "history":
		return w.api(ctx, what, body)
	case "reset":
		w.proxy.cut(true)
	case "finish":
		w.proxy.cut(false)
	case "cutAfter":
		w.proxy.cutAfter(m.Bytes)
	case "refuse":
		w.proxy.setRefuse(m.On)
	case "stall":
		w.proxy.setStalled(m.On)
	case "sent":
		return w.proxy.sent.Load(), nil
	case "stop":
		return nil, w.stop()
	case "start":
		return nil, w.start()
	case "close":
		return nil, w.close()
	default:
		return nil, fmt.Errorf("a world has no %q", what)
	}
	return nil, nil
}

// report is what became of a case; an empty Name says that there are no more.
type report struct {
	Name   string
	Error  string
	Millis int
}

// control serves the cases: their files, worlds, tokens and reports.
type control struct {
	t       *testing.T
	server  *httptest.Server
	reports chan report

	// Guarded by mu.
	mu     sync.Mutex
	worlds []*world
}

// newControl starts it, for the files of this directory. It ends with the test.
func newControl(t *testing.T) *control {
	c := &control{t: t, reports: make(chan report, 1000)}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(".")))
	handle := func(path string, f func(r *http.Request, body []byte) (any, error)) {
		mux.HandleFunc("POST "+path, func(rw http.ResponseWriter, r *http.Request) {
			var answer struct {
				Result any    `json:"result"`
				Error  string `json:"error,omitempty"`
			}
			body, err := io.ReadAll(r.Body)
			if err == nil {
				answer.Result, err = f(r, body)
			}
			if err != nil {
				answer.Error = err.Error() // with status 200: a browser complains of others
			}
			_ = json.NewEncoder(rw).Encode(answer)
		})
	}
	handle("/report", func(_ *http.Request, body []byte) (any, error) {
		var r report
		err := json.Unmarshal(body, &r)
		c.reports <- r
		return nil, err
	})
	handle("/sign", func(_ *http.Request, body []byte) (any, error) { return sign(body), nil })
	handle("/worlds", func(_ *http.Request, body []byte) (any, error) { return c.open(body) })
	handle("/worlds/{id}/{what}", func(r *http.Request, body []byte) (any, error) {
		var id int
		if _, err := fmt.Sscan(r.PathValue("id"), &id); err != nil {
			return nil, err
		}
		c.mu.Lock()
		w := c.worlds[id]
		c.mu.Unlock()
		return w.do(r.Context(), r.PathValue("what"), body)
	})
	c.server = httptest.NewUnstartedServer(mux)
	c.server.Start()
	t.Cleanup(func() {
		c.server.Close()
		for _, w := range c.worlds {
			if err := w.close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *control) open(body []byte) (any, error) {
	var o worldOptions
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	w, err := newWorld(c.t, o, c.server.URL)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.worlds = append(c.worlds, w)
	return map[string]any{"id": len(c.worlds) - 1, "url": "ws://" + w.proxy.listener.Addr().String() + "/connection/websocket"}, err
}

// sign returns a token with those claims, a JSON object.
func sign(claims []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}
