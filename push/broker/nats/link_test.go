package nats

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/millpond/millpond/push/broker/nats/embedded"
	"github.com/millpond/millpond/push/hub"
)

var silent = slog.New(slog.DiscardHandler)

// startEmbedded starts a server in dir.
func startEmbedded(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: dir, StoreBytes: 256 << 20, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, s) })
	return s
}

// shutdown ends what has a Shutdown or Close with a context.
func shutdown(t *testing.T, s interface{ Shutdown(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func openLink(t *testing.T, c LinkConfig) *Link {
	t.Helper()
	if c.Logger == nil {
		c.Logger = silent
	}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

// external starts a server of NATS that listens.
func external(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.NoLog, o.NoSigs = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.Addr().String()
}

func TestLinkInProcess(t *testing.T) {
	l := openLink(t, LinkConfig{Server: startEmbedded(t, t.TempDir()), Node: "n"})
	exchange(t, l)
	st := l.Stats()
	if !st.Connected || st.Messages[1] == 0 || st.Subscriptions == 0 {
		t.Errorf("%+v", st)
	}
	stop, err := l.Subscribe("test.one", 1, func(Message) {})
	if err != nil {
		t.Fatal(err)
	}
	if n := l.Stats().Subscriptions; n != st.Subscriptions+1 {
		t.Errorf("%d subscriptions, after one more than %d", n, st.Subscriptions)
	}
	stop()
	if n := l.Stats().Subscriptions; n != st.Subscriptions {
		t.Errorf("%d subscriptions, after %d and one that ended", n, st.Subscriptions)
	}
}

// exchange has a request answered.
func exchange(t *testing.T, l *Link) {
	t.Helper()
	stop, err := l.Subscribe("test.echo", 100, func(m Message) { _ = l.Publish(m.Reply, "", m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if m, err := l.Request(ctx, "test.echo", []byte("hello")); err != nil || string(m.Data) != "hello" {
		t.Errorf("%q, %v", m.Data, err)
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every way to say who this is opens, and what is wrong with it is an error, not a wait.
func TestLinkCredentials(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := pair.Seed()
	public, _ := pair.PublicKey()
	other, _ := nkeys.CreateUser()
	otherSeed, _ := other.Seed()
	for _, c := range []struct {
		name        string
		server      *server.Options
		right, fail LinkConfig
	}{
		{
			"password", &server.Options{Username: "u", Password: "p"},
			LinkConfig{User: "u", Password: "p"},
			LinkConfig{User: "u", Password: "q"},
		},
		{"token", &server.Options{Authorization: "secret"}, LinkConfig{Token: "secret"}, LinkConfig{}},
		{
			"nkey", &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}},
			LinkConfig{NKeyFile: write(t, "seed", string(seed))},
			LinkConfig{NKeyFile: write(t, "seed", string(otherSeed))},
		},
		{"file", &server.Options{}, LinkConfig{}, LinkConfig{CredentialsFile: "/nonexistent"}},
		{"nkey file", &server.Options{}, LinkConfig{}, LinkConfig{NKeyFile: "/nonexistent"}},
		{"ca file", &server.Options{}, LinkConfig{}, LinkConfig{TLS: TLS{CA: write(t, "ca.pem", "no certificate")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := "nats://" + external(t, c.server)
			c.right.URLs, c.fail.URLs, c.fail.Logger = []string{url}, []string{url}, silent
			exchange(t, openLink(t, c.right))
			if l, err := Open(c.fail); err == nil {
				_ = l.Close(t.Context())
				t.Error("it opened")
			}
		})
	}
}

// A server that comes later is found, and one that goes is told of at once: what is sent meanwhile fails.
func TestLinkOutlivesServers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	link := openLink(t, LinkConfig{URLs: []string{"nats://" + l.Addr().String()}, ReconnectWait: 5 * time.Millisecond})
	var up, down atomic.Int32
	link.OnState(func(connected bool) {
		if connected {
			up.Add(1)
		} else {
			down.Add(1)
		}
	})
	if err := link.Publish("a", "", nil); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("before it was there: %v", err)
	}
	for round := range int32(2) {
		t.Run("round", func(t *testing.T) {
			external(t, &server.Options{Port: port})
			eventually(t, "connected", func() bool { return link.Connected() && up.Load() > round })
			exchange(t, link)
		})
		eventually(t, "broken", func() bool { return !link.Connected() && down.Load() > round })
		if err := link.Publish("a", "", nil); !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("without a server: %v", err)
		}
	}
}

// While there is no server, attempts become rarer, and no two nodes make them at the same time: no storm awaits a server that comes back.
func TestLinkBacksOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var attempts atomic.Int64
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			attempts.Add(1)
			_ = c.Close()
		}
	})
	defer answering.Wait()
	defer l.Close()
	const nodes, rounds = 20, 8
	config := LinkConfig{URLs: []string{"nats://" + l.Addr().String()}, ReconnectWait: 20 * time.Millisecond, MaxReconnectWait: 160 * time.Millisecond}
	for range nodes {
		openLink(t, config)
	}
	before, began := attempts.Load(), time.Now()
	eventually(t, "attempts", func() bool { return attempts.Load() > before+nodes*rounds })
	// However slow this machine is: so many attempts take at least the shortest of the waits, 10, 20, 40, and then 80 ms.
	if least := 300 * time.Millisecond; time.Since(began) < least {
		t.Errorf("%d attempts of %d nodes within %v", attempts.Load(), nodes, time.Since(began))
	}
	seen := map[time.Duration]bool{}
	for attempt, most := range map[int]time.Duration{
		1: 20 * time.Millisecond, 2: 40 * time.Millisecond, 3: 80 * time.Millisecond, 4: 160 * time.Millisecond, 5: 160 * time.Millisecond, 100: 160 * time.Millisecond,
	} {
		for range 50 {
			d := config.reconnectDelay(attempt)
			if d < most/2 || d > most {
				t.Errorf("after attempt %d: %v, of at most %v", attempt, d, most)
			}
			seen[d] = true
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d different ones of 300", len(seen))
	}
}

func TestLinkConfigNamesAll(t *testing.T) {
	for _, c := range []struct {
		config LinkConfig
		want   []string
	}{
		{LinkConfig{}, []string{"nats-url"}},
		{LinkConfig{URLs: []string{"nats://u:secret@h"}}, []string{"credentials in it"}},
		{LinkConfig{URLs: []string{"http://h", "nats://"}, User: "u", Token: "t", Prefix: "a.b", ConnectTimeout: -1, ReconnectWait: -1, MaxReconnectWait: -1, PingInterval: -1}, []string{
			"http://h", "nats-user", "nats-password-file", "nats-prefix", "nats-connect-timeout", "nats-reconnect-wait", "nats-max-reconnect-wait", "nats-ping-interval",
		}},
	} {
		err := c.config.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is in: %v", err)
		}
	}
}

// eventually waits for what must come true at some time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
