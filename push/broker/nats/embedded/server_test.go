package embedded

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"

	"github.com/millpond/millpond/internal/testcert"
)

func start(t *testing.T, c Config) *Server {
	t.Helper()
	if c.StoreBytes == 0 {
		c.StoreBytes = 64 << 20
	}
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// edit changes the identity of a directory that nobody uses.
func edit(t *testing.T, dir string, change func(*identity)) {
	t.Helper()
	id, _, err := readIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(&id)
	if err := writeIdentity(dir, id); err != nil {
		t.Fatal(err)
	}
}

func TestNameOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	name := s.Node()
	stop(t, s)
	if s = start(t, Config{Dir: dir}); s.Node() != name || name == "" {
		t.Errorf("%q, then %q", name, s.Node())
	}
	if s.Suspect() != "" {
		t.Errorf("after an orderly end: %s", s.Suspect())
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	if _, err := Start(Config{Dir: dir, StoreBytes: 1 << 20}); err == nil || !strings.Contains(err.Error(), "used by another process") {
		t.Errorf("the second: %v", err)
	}
	stop(t, s)
	start(t, Config{Dir: dir})
}

// What the directory says of itself decides whether its newest data can be relied on.
func TestSuspect(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"killed", func(t *testing.T, dir string) {
			boot, _ := os.ReadFile(bootID)
			edit(t, dir, func(id *identity) { id.Boot = strings.TrimSpace(string(boot)) })
		}, ""},
		{"power", func(t *testing.T, dir string) { edit(t, dir, func(id *identity) { id.Boot = "another" }) }, "the host went down"},
		{"copy", func(t *testing.T, dir string) { edit(t, dir, func(id *identity) { id.Inode++ }) }, "copy"},
		{"no identity", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			stop(t, start(t, Config{Dir: dir}))
			c.change(t, dir)
			s := start(t, Config{Dir: dir})
			if got := s.Suspect(); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("%q, want %q", got, c.want)
			}
			stop(t, s)
			s = start(t, Config{Dir: dir}) // nobody has drawn consequences
			if got := s.Suspect(); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("the next time: %q, want %q", got, c.want)
			}
			if err := s.Settled(); err != nil {
				t.Fatal(err)
			}
			stop(t, s)
			if s = start(t, Config{Dir: dir}); s.Suspect() != "" {
				t.Errorf("after it was settled: %q", s.Suspect())
			}
		})
	}
}

// Data is not thrown away because of a flag.
func TestOtherPurpose(t *testing.T) {
	dir := t.TempDir()
	stop(t, start(t, Config{Dir: dir, Node: "one"}))
	for _, c := range []struct {
		change Config
		want   string
	}{
		{Config{Node: "one", ClusterName: "c", ClusterRoutes: []string{"127.0.0.1:1"}}, "without a cluster"},
		{Config{Node: "two"}, `node "one"`},
	} {
		c.change.Dir, c.change.StoreBytes = dir, 1<<20
		if _, err := Start(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Dir: dir, StoreBytes: 1 << 20}); err == nil || !strings.Contains(err.Error(), "remove the directory") {
		t.Errorf("of a broken identity: %v", err)
	}
}

func TestStoreThatDoesNotFit(t *testing.T) {
	_, err := Start(Config{Dir: t.TempDir(), StoreBytes: 1 << 60})
	if err == nil || !strings.Contains(err.Error(), "nats-store-bytes") {
		t.Errorf("%v", err)
	}
}

func TestDirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Dir: file}); err == nil || !strings.Contains(err.Error(), "data-dir") {
		t.Errorf("%v", err)
	}
}

func TestValidateNamesAll(t *testing.T) {
	err := Config{
		Node: "a b", StoreBytes: -1, SyncInterval: -1, ClusterName: "c", ClusterListen: "0.0.0.0:1", ClusterRoutes: []string{"x"}, ClusterAdvertise: "y",
	}.Validate()
	for _, flag := range []string{"nats-embedded", "node-name", "nats-store-bytes", "nats-sync-interval", "cluster-listen", "cluster-routes", "cluster-advertise"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in: %v", flag, err)
		}
	}
	err = Config{Dir: "x", ClusterRoutes: []string{"a:1"}, ClusterListen: "a:1", ClusterUser: "u", ClusterTLS: &tls.Config{}}.Validate()
	for _, flag := range []string{"cluster-listen", "cluster-routes", "cluster-credentials-file", "cluster-tls"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in: %v", flag, err)
		}
	}
	if err := (Config{Dir: "x", ClusterName: "c", ClusterListen: "0.0.0.0:1", ClusterRoutes: []string{"127.0.0.1:1"}, ClusterUser: "u", ClusterPassword: "p"}).Validate(); err != nil {
		t.Error(err)
	}
}

// A port that others use is an error, and not a server that is alone.
func TestClusterListenInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := Config{Dir: t.TempDir(), StoreBytes: 64 << 20, ClusterName: "c", ClusterListen: l.Addr().String(), ClusterRoutes: []string{freeAddress(t)}, ClusterUser: "u", ClusterPassword: "p"}
	if s, err := Start(c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Start: %v, %v", s, err)
	}
}

// Servers with the same credentials become one cluster; one with others does not join.
func TestRoutes(t *testing.T) {
	at := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	var log buffer
	servers := make([]*Server, 3)
	for i := range servers {
		c := Config{
			Dir: t.TempDir(), Node: string('a' + rune(i)), ClusterName: "c", ClusterListen: at[i], ClusterRoutes: at[:2], ClusterUser: "u", ClusterPassword: "secret",
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}
		if i == 2 {
			eventually(t, "the two find each other", func() bool { return servers[0].Stats().Peers == 1 && servers[1].Stats().Peers == 1 })
			c.ClusterPassword = "other"
		}
		servers[i] = start(t, c)
	}
	eventually(t, "the third is turned away", func() bool {
		return strings.Contains(log.String(), "uthentication") || strings.Contains(log.String(), "uthorization")
	})
	turnedAway(t, servers)
	interest(t, servers)
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), ":other") {
		t.Errorf("a password is in the log: %s", log.String())
	}
}

// The same by certificates: who has none of the authority does not join.
func TestRoutesOverTLS(t *testing.T) {
	at := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	authority, other := testcert.NewAuthority(), testcert.NewAuthority()
	var log buffer
	servers := make([]*Server, 3)
	for i := range servers {
		c := Config{
			Dir: t.TempDir(), Node: string('a' + rune(i)), ClusterName: "c", ClusterListen: at[i], ClusterRoutes: at[:2],
			ClusterTLS: &tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{authority.Issue("127.0.0.1")}},
			Logger:     slog.New(slog.NewTextHandler(&log, nil)),
		}
		if i == 2 {
			eventually(t, "the two find each other", func() bool { return servers[0].Stats().Peers == 1 && servers[1].Stats().Peers == 1 })
			c.ClusterTLS.Certificates = []tls.Certificate{other.Issue("127.0.0.1")}
		}
		servers[i] = start(t, c)
	}
	eventually(t, "the third is turned away", func() bool { return strings.Contains(log.String(), "unknown authority") })
	turnedAway(t, servers)
}

// interest checks that the second server knows what is subscribed to on the first, and the third does not.
func interest(t *testing.T, servers []*Server) {
	t.Helper()
	const many = 1000 // more than the servers have among themselves
	for i, s := range servers {
		if n := s.Stats().Interest; n < 1 || n >= many {
			t.Fatalf("%d has %d subscriptions before", i, n)
		}
	}
	c, err := gonats.Connect("", gonats.InProcessServer(servers[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range many {
		if _, err := c.SubscribeSync(fmt.Sprint("interest.", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both know", func() bool { return servers[0].Stats().Interest > many && servers[1].Stats().Interest > many })
	if n := servers[2].Stats().Interest; n >= many {
		t.Errorf("the third, which is no peer, has %d", n)
	}
}

// turnedAway checks that the third is no peer of the others. It takes them for its own until they answer what it shows them, and tries again.
func turnedAway(t *testing.T, servers []*Server) {
	t.Helper()
	eventually(t, "it knows", func() bool { return servers[2].Stats().Peers == 0 })
	for _, s := range servers[:2] {
		if n := s.Stats().Peers; n != 1 {
			t.Errorf("%s has %d peers", s.Node(), n)
		}
	}
}

// buffer is one that a logger writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freeAddress returns one of this host on which nobody listened just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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

// The port for clients that a server of a cluster must have lets nobody in.
func TestNobodyFromOutside(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), ClusterName: "c", ClusterListen: freeAddress(t), ClusterRoutes: []string{"127.0.0.1:1"}})
	c, err := net.Dial("tcp", s.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("CONNECT {}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(c)
	if !strings.Contains(string(answer), "Authorization Violation") || strings.Contains(string(answer), "PONG") {
		t.Errorf("%q", answer)
	}
}

// A server that has given a part of its storage up is replaced by another on the same data; so is one that has given up all of it.
func TestStoreThatFailed(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	for i, fail := range []func(*server.Server, *logger){
		func(_ *server.Server, log *logger) {
			log.Errorf("JetStream stream %q critical write error: %v", "s", "EIO")
		},
		func(n *server.Server, _ *logger) {
			if err := n.DisableJetStream(); err != nil {
				t.Error(err)
			}
		},
	} {
		before, log := s.current()
		fail(before, log)
		eventually(t, "another server", func() bool { now, _ := s.current(); return now != before })
		eventually(t, "it can store", func() bool { st := s.Stats(); return !st.Failed && st.Restarts == int64(i)+1 && st.FreeBytes > 0 })
		c, err := s.InProcessConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}
