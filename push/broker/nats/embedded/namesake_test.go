package embedded

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/testcert"
)

// A server with the name of one that runs does not become one of the cluster, and leaves its directory as it was; when that one is gone, it does.
func TestNameThatIsTaken(t *testing.T) {
	ca := testcert.NewAuthority()
	withTLS := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}}
	for _, c := range []struct {
		name  string
		tls   *tls.Config
		node  string
		other string // cluster
		taken bool
	}{
		{"taken", nil, "one", "c", true},
		{"taken, over TLS", withTLS, "one", "c", true},
		{"free", nil, "two", "c", false},
		{"taken in another cluster", nil, "one", "d", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := []string{freeAddress(t), freeAddress(t)}
			config := func(i int, node, cluster string) Config {
				return Config{Dir: t.TempDir(), StoreBytes: 64 << 20, Node: node, ClusterName: cluster, ClusterListen: at[i], ClusterRoutes: at, ClusterTLS: c.tls}
			}
			first := start(t, config(0, "one", "c"))
			second := config(1, c.node, c.other)
			s, err := Start(second)
			if (err != nil) != c.taken || err != nil && (!strings.Contains(err.Error(), "node-name") || !strings.Contains(err.Error(), at[0])) {
				t.Fatalf("%v", err)
			}
			if err == nil {
				stop(t, s)
				return
			}
			if _, err := os.Stat(filepath.Join(second.Dir, identityFile)); !os.IsNotExist(err) {
				t.Errorf("the directory is one of a server's: %v", err)
			}
			stop(t, first)
			start(t, second)
		})
	}
}

// Who is at a route's address, and says nothing, or something else, keeps nobody from starting.
func TestRouteToAnotherThing(t *testing.T) {
	for _, says := range []string{"", "INFO {\r\n", "SSH-2.0-OpenSSH\r\n", strings.Repeat("x", 2*maxInfoBytes)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close() // with the listener
				_, _ = c.Write([]byte(says))
			}
		}()
		s := start(t, Config{Dir: t.TempDir(), Node: "one", ClusterName: "c", ClusterListen: freeAddress(t), ClusterRoutes: []string{l.Addr().String(), "none.invalid:6222"}})
		stop(t, s)
		_ = l.Close()
	}
}

// Of two that reach each other only when both run, either may notice.
func TestNamesakeThatComes(t *testing.T) {
	at := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	servers := make([]*Server, 3)
	for i, c := range []Config{
		{Node: "one", ClusterRoutes: []string{at[1]}},
		{Node: "two", ClusterRoutes: []string{at[0]}},
		{Node: "one", ClusterRoutes: []string{at[1]}}, // which tells the first of it
	} {
		c.Dir, c.ClusterName, c.ClusterListen = t.TempDir(), "c", at[i]
		servers[i] = start(t, c)
		if i == 1 {
			eventually(t, "the two find each other", func() bool { return servers[0].Stats().Peers == 1 && servers[1].Stats().Peers == 1 })
		}
	}
	eventually(t, "one of them knows", func() bool { return servers[0].Namesake() != nil || servers[2].Namesake() != nil })
	if err := servers[1].Namesake(); err != nil {
		t.Error(err)
	}
}
