package certs

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/internal/testcert"
	"github.com/millpond/millpond/push/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var authority = testcert.NewAuthority()

// write writes a certificate into dir and returns where.
func write(t *testing.T, dir, name string, c tls.Certificate) Pair {
	t.Helper()
	cert, key := testcert.PEM(c)
	p := Pair{filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	put(t, p.Certificate, cert)
	put(t, p.Key, key)
	return p
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func newStore(t *testing.T, c Config) *Store {
	t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shake has a client and the store's server shake hands, and returns what the client sees.
func shake(t *testing.T, s *Store, client *tls.Config) (state tls.ConnectionState, err error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server := tls.Server(b, s.TLS())
		_, _ = server.Write([]byte("x")) // behind the tickets
		_ = server.Close()
	}()
	c := tls.Client(a, client)
	_, err = c.Read(make([]byte, 1))
	state = c.ConnectionState()
	_ = a.Close()
	<-done
	return state, err
}

func client(name string) *tls.Config { return &tls.Config{RootCAs: authority.Pool(), ServerName: name} }

// Of several certificates the one for the client's name is shown, and the first to clients that name none of them.
func TestServerName(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, Config{Pairs: []Pair{
		write(t, dir, "a", authority.Issue("a.test", "www.a.test")), write(t, dir, "b", authority.Issue("*.b.test")),
	}})
	for name, want := range map[string]string{"a.test": "a.test", "www.a.test": "a.test", "x.b.test": "*.b.test"} {
		state, err := shake(t, s, client(name))
		if err != nil || state.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"other.test", ""} {
		config := client(name)
		config.InsecureSkipVerify = true
		if state, err := shake(t, s, config); err != nil || state.PeerCertificates[0].Subject.CommonName != "a.test" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := len(s.Stats().NotAfter); n != 2 {
		t.Errorf("%d certificates in the statistics", n)
	}
}

// eventually waits for the watcher.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func serial(t *testing.T, s *Store) string {
	t.Helper()
	state, err := shake(t, s, client("a.test"))
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// Files that are written anew, renamed over, or turned by a link, as Kubernetes does, are loaded without being asked.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "1"), "tls", authority.Issue("a.test"))
	write(t, filepath.Join(dir, "2"), "tls", authority.Issue("a.test"))
	link := func(to string) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "now")); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	for _, name := range []string{"tls.pem", "tls.key"} {
		if err := os.Symlink(filepath.Join("now", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t, Config{Pairs: []Pair{{filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")}}})
	first := serial(t, s)
	link("2")
	eventually(t, "a turned link", func() bool { return serial(t, s) != first })
	second := serial(t, s)
	link("1")
	eventually(t, "the link turned back", func() bool { return serial(t, s) == first })
	write(t, filepath.Join(dir, "1"), "tls", authority.Issue("a.test"))
	eventually(t, "files written anew", func() bool { n := serial(t, s); return n != first && n != second })

	reloads := s.Stats().Reloads
	put(t, filepath.Join(dir, "other"), []byte("?"))
	time.Sleep(2 * watch.Calm) // long enough for a reload, of which there must be none
	if n := s.Stats().Reloads; n != reloads {
		t.Error("a file of others led to a reload")
	}
}

// What is wrong leaves the old in use, and is counted; at the start it is an error that names the flag.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good", authority.Issue("a.test"))
	other := write(t, dir, "other", authority.Issue("a.test"))
	path := func(name, content string) string {
		p := filepath.Join(dir, name)
		put(t, p, []byte(content))
		return p
	}
	for name, c := range map[string]Config{
		"tls-cert":             {Pairs: []Pair{{filepath.Join(dir, "none"), good.Key}}},
		"tls-key":              {Pairs: []Pair{{good.Certificate, other.Key}}},
		"tls-client-ca":        {Pairs: []Pair{good}, ClientCA: path("ca", "?")},
		"tls-ticket-keys-file": {Pairs: []Pair{good}, TicketKeys: path("keys", "abc")},
		"has 0 keys":           {Pairs: []Pair{good}, TicketKeys: path("nokeys", "\n")},
		"has 9 keys":           {Pairs: []Pair{good}, TicketKeys: path("manykeys", strings.Repeat(strings.Repeat("ab", 32)+"\n", 9))},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]Config{
		"tls-min-version": {Pairs: []Pair{good}, MinVersion: tls.VersionTLS11}, "tls-cert": {ClientCA: "x"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}

	s := newStore(t, Config{Pairs: []Pair{good}})
	before := serial(t, s)
	put(t, good.Key, []byte("?"))
	if err := s.Reload(); err == nil {
		t.Error("a broken key was loaded")
	}
	if serial(t, s) != before || s.Stats().Failed == 0 {
		t.Errorf("the old one is not in use: %+v", s.Stats())
	}
}

// Tickets last over a reload and a rotation, and with the same keys on another server.
func TestTickets(t *testing.T) {
	dir := t.TempDir()
	pair := write(t, dir, "a", authority.Issue("a.test"))
	s := newStore(t, Config{Pairs: []Pair{pair}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := client("a.test")
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
		resumed := func(s *Store) bool {
			t.Helper()
			state, err := shake(t, s, config)
			if err != nil {
				t.Fatal(err)
			}
			return state.DidResume
		}
		if resumed(s) {
			t.Error("resumed what never began")
		}
		if !resumed(s) {
			t.Error("not resumed")
		}
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		if !resumed(s) {
			t.Error("not resumed after a reload")
		}
		s.rotate()
		if !resumed(s) {
			t.Error("not resumed after a rotation")
		}
		other := newStore(t, Config{Pairs: []Pair{pair}})
		other.AdoptTicketKeys(s.TicketKeys())
		if !resumed(other) {
			t.Error("not resumed by the process that took over")
		}
		for range maxTicketKeys {
			other.rotate()
		}
		if n := len(other.TicketKeys()); n != maxTicketKeys {
			t.Errorf("%d keys", n)
		}
		if resumed(newStore(t, Config{Pairs: []Pair{pair}})) {
			t.Error("resumed with keys of its own")
		}
	}
	keys := filepath.Join(dir, "keys")
	put(t, keys, []byte(strings.Repeat("ab", 32)+"\n"+strings.Repeat("cd", 32)+"\n"))
	fromFile := newStore(t, Config{Pairs: []Pair{pair}, TicketKeys: keys})
	fromFile.AdoptTicketKeys([][32]byte{{}})
	fromFile.rotate()
	if got := fromFile.TicketKeys(); len(got) != 2 || got[0][0] != 0xab {
		t.Errorf("keys of a file were changed: %x", got)
	}
}

// With TLS 1.2 there is nothing but forward secrecy and authenticated encryption, and nothing older at all.
func TestVersionsAndCiphers(t *testing.T) {
	dir := t.TempDir()
	pair := write(t, dir, "a", authority.Issue("a.test"))
	s := newStore(t, Config{Pairs: []Pair{pair}})
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		config := client("a.test")
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{c.ID}
		_, err := shake(t, s, config)
		good := strings.HasPrefix(c.Name, "TLS_ECDHE_ECDSA_") && (strings.Contains(c.Name, "_GCM_") || strings.Contains(c.Name, "CHACHA20"))
		if (err == nil) != good && c.SupportedVersions[0] != tls.VersionTLS13 {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	old := client("a.test")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := shake(t, s, old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	only13 := newStore(t, Config{Pairs: []Pair{pair}, MinVersion: tls.VersionTLS13})
	config := client("a.test")
	config.MaxVersion = tls.VersionTLS12
	if _, err := shake(t, only13, config); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

// A client certificate is asked for, and checked, if a client CA is given.
func TestClientCA(t *testing.T) {
	dir := t.TempDir()
	pair := write(t, dir, "a", authority.Issue("a.test"))
	ca := filepath.Join(dir, "ca.pem")
	put(t, ca, authority.PEM())
	for _, optional := range []bool{false, true} {
		s := newStore(t, Config{Pairs: []Pair{pair}, ClientCA: ca, OptionalClientCert: optional})
		none, good, bad := client("a.test"), client("a.test"), client("a.test")
		good.Certificates = []tls.Certificate{authority.Issue("me")}
		wrong := testcert.NewAuthority().Issue("me")
		bad.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &wrong, nil }
		if _, err := shake(t, s, none); (err == nil) != optional {
			t.Errorf("optional %t: without a certificate: %v", optional, err)
		}
		if _, err := shake(t, s, good); err != nil {
			t.Errorf("optional %t: with one: %v", optional, err)
		}
		if _, err := shake(t, s, bad); err == nil {
			t.Errorf("optional %t: with a stranger's", optional)
		}
	}
}
