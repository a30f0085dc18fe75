package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/millpond/millpond/internal/testcert"
)

// natsServer is what a process of the test binary does that is NATS's server: the file says how.
func natsServer(config string) error {
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.Start()
	s.WaitForShutdown()
	return nil
}

// natsd is a server of NATS in a process of its own.
type natsd struct {
	t       *testing.T
	address string
	config  string
	command *exec.Cmd
}

// startNATSProcess starts one with more lines of configuration.
func startNATSProcess(t *testing.T, more string) *natsd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	n := &natsd{t: t, address: l.Addr().String(), config: filepath.Join(t.TempDir(), "nats.conf")}
	text := fmt.Sprintf("listen: %q\nserver_name: external\njetstream { store_dir: %q, max_file_store: 256MB, max_memory_store: 16MB }\n%s\n", n.address, t.TempDir(), more)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	return n
}

func (n *natsd) start() {
	n.t.Helper()
	n.command = exec.Command(os.Args[0], n.config)
	n.command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=nats")
	n.command.Stderr = n.t.Output()
	if err := n.command.Start(); err != nil {
		n.t.Fatal(err)
	}
	command := n.command
	n.t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	eventually(n.t, "NATS listens", func() bool {
		c, err := net.Dial("tcp", n.address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (n *natsd) kill() {
	n.t.Helper()
	if err := n.command.Process.Signal(syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	_ = n.command.Wait()
}

// secretFile writes one with a secret.
func secretFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// credentials are the configuration of a server that believes in an operator, and a user's file, signed by that operator's account.
func credentials(t *testing.T) (config string, creds []byte) {
	t.Helper()
	pair := func(kind nkeys.PrefixByte) (nkeys.KeyPair, string) {
		k, err := nkeys.CreatePair(kind)
		if err != nil {
			t.Fatal(err)
		}
		public, err := k.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return k, public
	}
	encode := func(claims jwt.Claims, by nkeys.KeyPair) string {
		text, err := claims.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	operator, operatorID := pair(nkeys.PrefixByteOperator)
	account, accountID := pair(nkeys.PrefixByteAccount)
	_, systemID := pair(nkeys.PrefixByteAccount)
	user, userID := pair(nkeys.PrefixByteUser)
	operatorClaims := jwt.NewOperatorClaims(operatorID)
	operatorClaims.SystemAccount = systemID
	accountClaims := jwt.NewAccountClaims(accountID)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: 16 << 20, DiskStorage: 1 << 28, Streams: -1, Consumer: -1}
	userClaims := jwt.NewUserClaims(userID)
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if creds, err = jwt.FormatUserConfig(encode(userClaims, account), seed); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(
		"operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }", encode(operatorClaims, operator), systemID,
		accountID, encode(accountClaims, operator), systemID, encode(jwt.NewAccountClaims(systemID), operator),
	), creds
}

// Two servers on an existing NATS, by each way to say who they are: NATS is killed, is away for a while, and comes back. Clients stay, publications are
// refused with that reason, and afterwards nothing that was acknowledged is lost. It is a minute with MILLPOND_LONG_FAULTS=1.
func TestExternalNATS(t *testing.T) {
	if testing.Short() {
		t.Skip("processes")
	}
	t.Parallel() // most of it is waiting
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := key.Seed()
	public, _ := key.PublicKey()
	authority := testcert.NewAuthority()
	certificate, certificateKey := testcert.PEM(authority.Issue("127.0.0.1"))
	mine, mineKey := testcert.PEM(authority.Issue("millpond"))
	config, creds := credentials(t)
	for _, c := range []struct {
		name, config, scheme string
		args                 []string
	}{
		{"nobody asks", "", "nats", nil},
		{"password", `authorization { user: u, password: "p w" }`, "nats", []string{"--nats-user=u", "--nats-password-file=" + secretFile(t, "password", []byte("p w\n"))}},
		{"token", `authorization { token: "t k" }`, "nats", []string{"--nats-token-file=" + secretFile(t, "token", []byte("t k\n"))}},
		{"nkey", `authorization { users: [ { nkey: ` + public + ` } ] }`, "nats", []string{"--nats-nkey-file=" + secretFile(t, "seed", seed)}},
		{"credentials", config, "nats", []string{"--nats-credentials-file=" + secretFile(t, "user.creds", creds)}},
		{
			"tls", fmt.Sprintf(
				"tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }",
				secretFile(t, "cert.pem", certificate), secretFile(t, "key.pem", certificateKey), secretFile(t, "ca.pem", authority.PEM()),
			), "tls",
			[]string{"--nats-tls-ca=" + secretFile(t, "ca.pem", authority.PEM()), "--nats-tls-cert=" + secretFile(t, "cert.pem", mine), "--nats-tls-key=" + secretFile(t, "key.pem", mineKey)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNATSProcess(t, c.config)
			p := &pond{t: t, nodes: make([]*process, 2), config: historyFile(t)}
			for i := range p.nodes {
				p.nodes[i] = startProcess(t, append([]string{
					"--dev", "--nats-url=" + c.scheme + "://" + n.address, fmt.Sprint("--node-name=n", i), "--nats-groups=4", "--nats-store-bytes=67108864",
					"--config=" + p.config, "--max-recovered=1000", "--nats-publish-timeout=2s", "--api-timeout=5s",
				}, c.args...)...)
			}
			l := startLoad(t, p, 4)
			for range 2 {
				l.goOn("NATS is there", 20)
				const attempts = "millpond_broker_reconnect_attempts_total"
				before := metricOf(p.at(0), attempts)
				n.kill()
				began := time.Now()
				for i := range p.nodes {
					eventually(t, "it is refused", func() bool { return l.isRefused(p.at(i)) })
				}
				if c.config == "" {
					if long() {
						time.Sleep(time.Minute) // how long it is away is what is tested
					}
					// Half of 250 ms, 500 ms, 1 s, … up to 5 s is the least that is between two attempts.
					eventually(t, "it tries again and again", func() bool { return metricOf(p.at(0), attempts) >= before+4 })
					if made, most := metricOf(p.at(0), attempts)-before, 5+time.Since(began).Seconds()/2.5; made > most {
						t.Errorf("%v attempts within %v", made, time.Since(began))
					}
				}
				for i := range p.nodes {
					if !l.isRefused(p.at(i)) {
						t.Error("a publication was acknowledged, and NATS is not there")
					}
				}
				n.start()
				l.goOn(fmt.Sprint("NATS is back, after ", time.Since(began).Round(time.Millisecond)), 20)
			}
			if n := l.comeback.Load(); n > 0 {
				t.Errorf("%d clients lost their connection", n)
			}
			l.finish()
		})
	}
}

// The connection to NATS loses what is said to it, and then its answers: publications of which nobody knows are refused, those that were
// stored come once when they are tried again, and those that were not come at all.
func TestExternalNATSUnheard(t *testing.T) {
	if testing.Short() {
		t.Skip("processes")
	}
	t.Parallel() // most of it is waiting
	n := startNATSProcess(t, "")
	w := newWire(t, n.address)
	p := &pond{t: t, nodes: make([]*process, 1), config: historyFile(t)}
	p.nodes[0] = startProcess(
		t, "--dev", "--nats-url=nats://"+w.address, "--nats-groups=4", "--nats-store-bytes=67108864", "--config="+p.config, "--max-recovered=1000",
		"--nats-publish-timeout=1s", "--api-timeout=5s",
	)
	l := startLoad(t, p, 4)
	for _, now := range []way{{silent: true}, {mute: true}, {silent: true}, {mute: true}} {
		l.goOn("NATS is heard", 10)
		refused := l.refused.Load()
		w.set(now)
		eventually(t, "publications are refused", func() bool { return l.refused.Load() >= refused+3 })
		w.set(way{cut: true}) // what was on the way is lost
		w.set(way{})
	}
	l.goOn("NATS is heard again", 20)
	if n := l.comeback.Load(); n > 0 {
		t.Errorf("%d clients lost their connection", n)
	}
	l.finish()
}

// What NATS refuses is said at the start.
func TestExternalNATSRefuses(t *testing.T) {
	n := startNATSProcess(t, `authorization { token: "right" }`)
	command := exec.Command(
		os.Args[0], "serve", "--dev", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--nats-url=nats://"+n.address,
		"--nats-token-file="+secretFile(t, "token", []byte("wrong")),
	)
	command.Env = append(os.Environ(), "MILLPOND_TEST_PROCESS=1")
	out, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nats-url") || !strings.Contains(strings.ToLower(string(out)), "authorization violation") || strings.Contains(string(out), "wrong") {
		t.Errorf("%v: %s", err, out)
	}
}

// joiner is a client that follows the joins and leaves of a channel.
func joiner(t *testing.T, node *process) (c *websocket.Conn, id string) {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws://"+node.public+"/connection/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	send := func(text string) {
		t.Helper()
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send(`{"id":1,"connect":{}}`)
	id = awaitEvent(t, c, "connect", "")
	send(`{"id":2,"subscribe":{"channel":"room:a","join_leave":true,"positioned":true,"recoverable":true}}`)
	awaitEvent(t, c, "subscribe", "")
	return c, id
}

// awaitEvent reads until something of a kind comes, about a client if one is named, and returns the client's id, or the data.
func awaitEvent(t *testing.T, c *websocket.Conn, kind, client string) string {
	t.Helper()
	type about struct{ Info struct{ Client string } }
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, data, err := c.Read(ctx)
		cancel()
		if err != nil {
			t.Fatalf("awaiting %s %s: %v", kind, client, err)
		}
		for line := range bytes.Lines(data) {
			var m struct {
				Error     *apiError
				Connect   *struct{ Client string }
				Subscribe *struct{}
				Push      struct {
					Join, Leave *about
					Pub         *struct{ Data string }
				}
			}
			if err := json.Unmarshal(line, &m); err != nil || m.Error != nil {
				t.Fatalf("%s: %v", line, err)
			}
			switch p := m.Push; {
			case kind == "connect" && m.Connect != nil:
				return m.Connect.Client
			case kind == "subscribe" && m.Subscribe != nil:
				return ""
			case kind == "join" && p.Join != nil && p.Join.Info.Client == client:
				return client
			case kind == "leave" && p.Leave != nil && p.Leave.Info.Client == client:
				return client
			case kind == "pub" && p.Pub != nil:
				return p.Pub.Data
			case kind != "connect" && kind != "subscribe" && (p.Pub != nil || p.Leave != nil):
				t.Errorf("awaiting %s %s: %s came before", kind, client, line)
			}
		}
	}
}

// Who comes to a channel on one node and goes is told on the other, in its place among the publications.
func TestJoinsAndLeavesOverNATS(t *testing.T) {
	n := startNATSProcess(t, "")
	for _, history := range []string{"", "\n    history_size: 10\n    history_ttl: 1h\n    force_recovery: true"} {
		config := secretFile(t, "millpond.yaml", []byte("namespaces:\n  - name: room\n    join_leave: true"+history+"\n"))
		var nodes [2]*process
		for i := range nodes {
			nodes[i] = startProcess(t, "--dev", "--nats-url=nats://"+n.address, fmt.Sprint("--nats-prefix=p", len(history)), fmt.Sprint("--node-name=n", i), "--nats-groups=2", "--nats-store-bytes=67108864", "--config="+config)
		}
		watcher, _ := joiner(t, nodes[0])
		for round := range 5 {
			other, id := joiner(t, nodes[1])
			awaitEvent(t, watcher, "join", id)
			text := fmt.Sprint("between ", round)
			publishTo(t, nodes[1], "room:a", text)
			if got := awaitEvent(t, watcher, "pub", ""); got != text {
				t.Errorf("%q came, and not %q", got, text)
			}
			_ = other.CloseNow()
			awaitEvent(t, watcher, "leave", id)
		}
	}
}

func publishTo(t *testing.T, node *process, channel, text string) {
	t.Helper()
	response, err := http.Post("http://"+node.internal+"/api/publish", "application/json", strings.NewReader(fmt.Sprintf(`{"channel":%q,"data":%q}`, channel, text)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}
