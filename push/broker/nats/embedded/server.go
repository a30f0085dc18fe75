package embedded

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says what the server is. Dir must be set; what begins with Cluster is for one of several.
type Config struct {
	// Dir is the server's directory.
	Dir string
	// Node is the server's name in the cluster. Empty means a random one, which Dir keeps.
	Node string

	// StoreBytes bounds the data on disk. Zero means 4 GiB.
	StoreBytes int64
	// SyncInterval is the time between two fsyncs, within which a loss of power loses data. Zero means 5 s.
	SyncInterval time.Duration
	// SyncAlways is an fsync before each acknowledgement; it costs a write to the disk for each burst of publications.
	SyncAlways bool
	// ReserveBytes have to be free on the disk beside the data: with less, nothing should be published. Zero means 64 MiB.
	ReserveBytes int64

	// ClusterName is the same on all of the cluster's servers. Empty means no cluster.
	ClusterName string
	// ClusterListen is where the other servers connect to. Empty means "127.0.0.1:6222".
	ClusterListen string
	// ClusterAdvertise is HOST:PORT by which the others reach ClusterListen, if that is not its own.
	ClusterAdvertise string
	// ClusterRoutes are addresses of others of the cluster, HOST:PORT; one that is up suffices, itself may be among them.
	ClusterRoutes []string
	// ClusterUser and ClusterPassword are shown by every server of the cluster to the others.
	ClusterUser, ClusterPassword string
	// ClusterTLS, if set, is asked for from both sides: it has the authorities as ClientCAs and RootCAs, and a certificate.
	ClusterTLS *tls.Config

	// StartTimeout is how long the server may take to be ready. Zero means 60 s.
	StartTimeout time.Duration
	// Logger gets the server's warnings and errors; with debug its notices. Nil means slog.Default().
	Logger *slog.Logger
}

const defaultClusterListen = "127.0.0.1:6222"

func (c Config) withDefaults() Config {
	if c.StoreBytes == 0 {
		c.StoreBytes = 4 << 30
	}
	if c.SyncInterval == 0 {
		c.SyncInterval = 5 * time.Second
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 64 << 20
	}
	if c.ClusterListen == "" {
		c.ClusterListen = defaultClusterListen
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 60 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("nats-embedded: it needs a data-dir"))
	}
	if c.StoreBytes < 0 {
		errs = append(errs, fmt.Errorf("nats-store-bytes: %d is negative", c.StoreBytes))
	}
	if c.ReserveBytes < 0 {
		errs = append(errs, fmt.Errorf("nats-reserve-bytes: %d is negative", c.ReserveBytes))
	}
	if c.SyncInterval < 0 {
		errs = append(errs, fmt.Errorf("nats-sync-interval: %v is negative", c.SyncInterval))
	}
	if strings.ContainsAny(c.Node, " .*>\t\r\n/\\") {
		errs = append(errs, fmt.Errorf("node-name: %q has spaces or one of . * > / \\ in it", c.Node))
	}
	if strings.ContainsAny(c.ClusterName, " \t\r\n") {
		errs = append(errs, fmt.Errorf("cluster-name: %q has spaces in it", c.ClusterName))
	}
	return errors.Join(append(errs, c.validateCluster())...)
}

func (c Config) validateCluster() error {
	var errs []error
	if c.ClusterName == "" {
		for name, given := range map[string]bool{
			"cluster-listen": c.ClusterListen != "", "cluster-advertise": c.ClusterAdvertise != "", "cluster-routes": len(c.ClusterRoutes) > 0,
			"cluster-credentials-file": c.ClusterUser != "", "cluster-tls-cert": c.ClusterTLS != nil,
		} {
			if given {
				errs = append(errs, fmt.Errorf("%s: it needs a cluster-name", name))
			}
		}
		return errors.Join(errs...)
	}
	if len(c.ClusterRoutes) == 0 {
		errs = append(errs, errors.New("cluster-routes: give the address of another of the cluster's servers at least"))
	}
	host, _, err := hostPort(c.withDefaults().ClusterListen)
	if err != nil {
		errs = append(errs, fmt.Errorf("cluster-listen: %w", err))
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && c.ClusterUser == "" && c.ClusterTLS == nil {
		errs = append(errs, fmt.Errorf("cluster-listen: %s is not loopback, and whoever reaches it would be one of the cluster; give a cluster-credentials-file, or cluster-tls-ca, -cert and -key", c.ClusterListen))
	}
	if (c.ClusterUser == "") != (c.ClusterPassword == "") {
		errs = append(errs, errors.New("cluster-credentials-file: it has USER:PASSWORD in it"))
	}
	for _, r := range c.ClusterRoutes {
		if _, _, err := hostPort(r); err != nil {
			errs = append(errs, fmt.Errorf("cluster-routes: %w", err))
		}
	}
	if c.ClusterAdvertise != "" {
		if _, _, err := hostPort(c.ClusterAdvertise); err != nil {
			errs = append(errs, fmt.Errorf("cluster-advertise: %w", err))
		}
	}
	return errors.Join(errs...)
}

func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not like HOST:PORT", address)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port from 1 to 65535", address)
	}
	return host, port, nil
}

// Server is one that runs. Its methods may be called by any goroutine.
type Server struct {
	// Immutable after Start.
	config   Config
	lock     *os.File
	stop     func() // ends the watching
	watching sync.WaitGroup

	closing sync.Once

	// Guarded by mu.
	mu     sync.Mutex
	id     identity
	server *server.Server // another one after a restart
	log    *logger        // that of server

	// Any goroutine (atomic).
	trouble  atomic.Pointer[error] // nil while what is published can be stored
	free     atomic.Int64          // bytes on the disk
	restarts atomic.Int64
}

// Start starts a server; it must be shut down. A directory that another process uses, that belongs to another server, or that cannot be read is an error.
func Start(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c.withDefaults()}
	var err error
	if s.lock, err = lock(c.Dir); err != nil {
		return nil, err
	}
	if err = s.start(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.watching.Go(func() { s.watch(ctx) })
	return s, nil
}

func (s *Server) start() (err error) {
	c := s.config
	if err := s.checkRoom(); err != nil {
		return err
	}
	var left past
	if s.id, left, err = claim(c.Dir, c.Node, c.ClusterName); err != nil {
		return err
	}
	if err := s.lookForNamesake(); err != nil {
		return err
	}
	if err := s.examine(left); err != nil {
		return err
	}
	if err := writeIdentity(c.Dir, s.id); err != nil {
		return err
	}
	if s.id.Suspect != "" {
		c.Logger.Warn("broker: the newest publications may be missing: streams begin anew for whoever had them, unless most servers of a cluster have them", "directory", c.Dir, "because", s.id.Suspect)
	}
	return s.launch()
}

// launch starts the server of NATS.
func (s *Server) launch() error {
	c := s.config
	options, err := s.options()
	if err != nil {
		return err
	}
	n, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("nats-embedded: %w", err)
	}
	log := &logger{to: c.Logger}
	n.SetLoggerV2(log, false, false, false)
	n.Start()
	ready := false
	for end := time.Now().Add(c.StartTimeout); !ready && log.firstFatal() == "" && time.Now().Before(end); {
		ready = n.ReadyForConnections(100 * time.Millisecond)
	}
	if fatal := log.firstFatal(); fatal != "" || !ready || !n.JetStreamEnabled() {
		n.Shutdown()
		n.WaitForShutdown()
		if fatal == "" {
			fatal = "it was not ready after " + c.StartTimeout.String()
		}
		return fmt.Errorf("nats-embedded: the server does not start in %s: %s", c.Dir, fatal)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.log = n, log
	return nil
}

// current returns the server of NATS.
func (s *Server) current() (*server.Server, *logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server, s.log
}

// checkRoom compares the bound of the data with the room that there is for it.
func (s *Server) checkRoom() error {
	free, err := freeBytes(s.config.Dir)
	if err != nil {
		return err
	}
	used, err := treeBytes(filepath.Join(s.config.Dir, storeDir))
	if err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if need, room := s.config.StoreBytes+s.config.ReserveBytes, free+used; room < need {
		return fmt.Errorf(
			"nats-store-bytes: %d, and nats-reserve-bytes, %d, are more than the %d that there are for %s; nothing can be stored on a disk that is full, so give less",
			s.config.StoreBytes, s.config.ReserveBytes, room, s.config.Dir,
		)
	}
	return nil
}

func treeBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	return sum, err
}

// storeSlack is what the server may need beside the streams' bound.
const storeSlack = 64 << 20

func (s *Server) options() (*server.Options, error) {
	c := s.config
	o := &server.Options{
		ServerName: s.id.Node, DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(c.Dir, storeDir),
		JetStreamMaxStore: c.StoreBytes + storeSlack, JetStreamMaxMemory: 64 << 20,
		SyncInterval: c.SyncInterval, SyncAlways: c.SyncAlways,
		DisableJetStreamBanner: true, MaxPayload: 8 << 20,
	}
	if c.ClusterName == "" {
		return o, nil
	}
	host, port, err := hostPort(c.ClusterListen)
	if err != nil {
		return nil, err
	}
	// The server opens its port for other servers only behind one for clients: that is on this host, tells nobody, and lets nobody in.
	o.DontListen, o.Host, o.Port, o.CustomClientAuthentication = false, "127.0.0.1", server.RANDOM_PORT, inProcess{}
	o.Cluster = server.ClusterOpts{
		Name: c.ClusterName, Host: host, Port: port, Advertise: c.ClusterAdvertise, NoAdvertise: true,
		Username: c.ClusterUser, Password: c.ClusterPassword,
		// Two servers that come up together must find each other soon.
		ConnectBackoff: true, PingInterval: 10 * time.Second,
	}
	if c.ClusterTLS != nil {
		t := c.ClusterTLS.Clone()
		if t.ClientAuth = tls.RequireAndVerifyClientCert; t.ClientCAs == nil {
			t.ClientCAs = t.RootCAs
		}
		o.Cluster.TLSConfig, o.Cluster.TLSTimeout = t, 5
	}
	for _, r := range c.ClusterRoutes {
		u := &url.URL{Scheme: "nats", Host: r}
		if c.ClusterUser != "" {
			u.User = url.UserPassword(c.ClusterUser, c.ClusterPassword)
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

// inProcess lets those in that are in this process.
type inProcess struct{}

// Check implements server.Authentication.
func (inProcess) Check(c server.ClientAuthentication) bool {
	a := c.RemoteAddress()
	return a != nil && a.Network() == "pipe"
}

// newName returns a server's.
func newName() string { return "n" + strings.ToLower(rand.Text()[:12]) }

// InProcessConn returns a new connection to the server.
func (s *Server) InProcessConn() (net.Conn, error) {
	n, _ := s.current()
	return n.InProcessConn()
}

// Node returns the server's name.
func (s *Server) Node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.Node
}

// Suspect says why the newest of the data may be missing, or be other data than before; empty if it is what was acknowledged, or Settled was
// called since.
func (s *Server) Suspect() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id.Suspect
}

// Settled says that whoever relies on the data has drawn the consequences of Suspect.
func (s *Server) Settled() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Suspect == "" {
		return nil
	}
	s.id.Suspect = ""
	return writeIdentity(s.config.Dir, s.id)
}

// ClusterAddr returns where the other servers connect to; nil without a cluster.
func (s *Server) ClusterAddr() net.Addr {
	n, _ := s.current()
	if a := n.ClusterAddr(); a != nil {
		return a
	}
	return nil
}

// Stats are the figures of a Server.
type Stats struct {
	Peers      int   // other servers of the cluster that are connected
	StoreBytes int64 // data on disk
	Streams    int
	Failed     bool  // the storage takes nothing: Trouble says why
	FreeBytes  int64 // on the disk
	Restarts   int64 // of the server of NATS, after its storage had failed
	Interest   int   // subscriptions that it knows, its own and what the cluster's other servers have told it of theirs
}

// Stats returns them.
func (s *Server) Stats() Stats {
	st := Stats{Failed: s.Trouble() != nil, FreeBytes: s.free.Load(), Restarts: s.restarts.Load()}
	n, _ := s.current()
	st.Interest = int(n.NumSubscriptions())
	if z, err := n.Jsz(nil); err == nil {
		st.StoreBytes, st.Streams = int64(z.Store), z.Streams
	}
	seen := map[string]bool{}
	if z, err := n.Routez(nil); err == nil {
		for _, r := range z.Routes {
			seen[r.RemoteID] = true
		}
	}
	st.Peers = len(seen)
	return st
}

// Shutdown ends the server in an orderly way: it hands on what it leads, and its data is on disk. When ctx ends first, that is an error, and
// the rest goes on in the background.
func (s *Server) Shutdown(ctx context.Context) error {
	var err error
	s.closing.Do(func() { err = s.shutdown(ctx) })
	return err
}

func (s *Server) shutdown(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		s.stop()
		s.watching.Wait()
		n, _ := s.current()
		n.Shutdown()
		n.WaitForShutdown()
		s.mu.Lock()
		defer s.mu.Unlock()
		done <- errors.Join(release(s.config.Dir, s.id), s.lock.Close())
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("nats-embedded: the server has not ended: %w", ctx.Err())
	}
}
