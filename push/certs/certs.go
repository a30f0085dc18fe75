// Package certs has the certificates of the public listeners: it loads them from files, again when those change, and
// gives crypto/tls what each handshake is to use. Of several certificates the one that fits the client's server name
// and algorithms is chosen, the first if none does.
package certs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/push/watch"
)

// Config says what files there are. The zero value is no TLS.
type Config struct {
	// Pairs are the certificates.
	Pairs []Pair
	// ClientCA is a file with the certificates of authorities, in PEM. Clients then must show a certificate that one of
	// them signed, or may with OptionalClientCert. Empty asks for none.
	ClientCA           string
	OptionalClientCert bool
	// MinVersion is the oldest version: tls.VersionTLS12 or tls.VersionTLS13. Zero means TLS 1.2.
	MinVersion uint16
	// TicketKeys is a file with the keys of session tickets, for several servers behind one name: a line of 64 hexadecimal
	// digits each. The first is for new tickets, the others still open old ones. Empty means keys of the server's own,
	// a new one each day.
	TicketKeys string
	// Logger gets what was loaded, and what could not be. Nil means slog.Default().
	Logger *slog.Logger
}

// Pair is a file with a certificate chain, in PEM, the leaf first, and one with its key.
type Pair struct{ Certificate, Key string }

// Enabled reports whether there is a certificate.
func (c Config) Enabled() bool { return len(c.Pairs) > 0 }

// Validate reports what makes no sense, each by the name of its flag. It reads no file.
func (c Config) Validate() error {
	var errs []error
	if c.MinVersion != 0 && c.MinVersion != tls.VersionTLS12 && c.MinVersion != tls.VersionTLS13 {
		errs = append(errs, fmt.Errorf("tls-min-version: %s is neither TLS 1.2 nor 1.3", tls.VersionName(c.MinVersion)))
	}
	if !c.Enabled() && (c.ClientCA != "" || c.TicketKeys != "") {
		errs = append(errs, errors.New("tls-cert: not given, but other flags of TLS are"))
	}
	return errors.Join(errs...)
}

// Store has what the files said last. Its methods may be called by any goroutine.
type Store struct {
	// Immutable after New.
	config  Config
	base    *tls.Config
	watcher *watch.Watcher
	stop    chan struct{}
	done    chan struct{}

	// Any goroutine (atomic).
	current atomic.Pointer[tls.Config]
	reloads atomic.Int64
	failed  atomic.Int64

	// Guarded by mu: one reload or rotation at a time.
	mu   sync.Mutex
	keys [][32]byte // of tickets; the first is for new ones
}

// New loads the files and watches them until Close. Any fault in them is an error.
func New(c Config) (*Store, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{config: c, stop: make(chan struct{}), done: make(chan struct{})}
	s.base = &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil },
	}
	s.keys = [][32]byte{newTicketKey()}
	var err error
	// Before they are loaded: what changes meanwhile is loaded again.
	if s.watcher, err = watch.New(watch.Config{Name: "certificates", Files: s.files(), Reload: s.Reload, Logger: c.Logger}); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.watcher.Close())
	}
	go s.run()
	return s, nil
}

// TLS is for the listeners. It changes with the files.
func (s *Store) TLS() *tls.Config { return s.base }

// Close ends the watching.
func (s *Store) Close() error {
	close(s.stop)
	<-s.done
	return s.watcher.Close()
}

// Reload reads the files again. What cannot be read or does not fit together changes nothing and is an error.
func (s *Store) Reload() error {
	err := s.load()
	if err != nil {
		s.failed.Add(1)
		s.config.Logger.Error("certificates not reloaded; the old ones stay in use", "error", err)
		return err
	}
	s.reloads.Add(1)
	return nil
}

// Stats tell about the certificates in use.
type Stats struct {
	Reloads  int64
	Failed   int64 // reloads that changed nothing
	NotAfter map[string]time.Time
}

// Stats returns them; the certificates by their files' names.
func (s *Store) Stats() Stats {
	st := Stats{Reloads: s.reloads.Load(), Failed: s.failed.Load(), NotAfter: map[string]time.Time{}}
	for i, c := range s.current.Load().Certificates {
		st.NotAfter[s.config.Pairs[i].Certificate] = c.Leaf.NotAfter
	}
	return st
}

// TicketKeys returns the keys of session tickets, the newest first, for a process that takes over.
func (s *Store) TicketKeys() [][32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][32]byte(nil), s.keys...)
}

// AdoptTicketKeys makes tickets of another process good here. It does nothing if the keys come from a file.
func (s *Store) AdoptTicketKeys(keys [][32]byte) {
	if s.config.TicketKeys != "" || len(keys) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setKeysLocked(append([][32]byte(nil), keys...))
}

// load makes what the files say current.
func (s *Store) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &tls.Config{
		MinVersion: max(s.config.MinVersion, tls.VersionTLS12), CipherSuites: cipherSuites,
		NextProtos: []string{"http/1.1"}, DynamicRecordSizingDisabled: true,
	}
	var errs []error
	for _, p := range s.config.Pairs {
		pair, err := files.KeyPair(p.Certificate, p.Key)
		if err != nil {
			errs = append(errs, fmt.Errorf("tls-cert %s, tls-key %s: %w", p.Certificate, p.Key, err))
			continue
		}
		c.Certificates = append(c.Certificates, pair)
	}
	if s.config.ClientCA != "" {
		var err error
		if c.ClientCAs, err = files.Authorities(s.config.ClientCA); err != nil {
			errs = append(errs, fmt.Errorf("tls-client-ca: %w", err))
		}
		if c.ClientAuth = tls.RequireAndVerifyClientCert; s.config.OptionalClientCert {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	keys := s.keys
	if s.config.TicketKeys != "" {
		var err error
		if keys, err = loadTicketKeys(s.config.TicketKeys); err != nil {
			errs = append(errs, fmt.Errorf("tls-ticket-keys-file: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.logChanges(c.Certificates)
	c.SetSessionTicketKeys(keys) // before anybody can use it without
	s.keys = keys
	s.current.Store(c)
	return nil
}

// setKeysLocked makes keys those of the current configuration.
func (s *Store) setKeysLocked(keys [][32]byte) {
	s.keys = keys
	s.current.Load().SetSessionTicketKeys(keys)
}

// cipherSuites are those of TLS 1.2 with forward secrecy and authenticated encryption; the suites of TLS 1.3 all have both.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// soon is when a certificate that is about to expire is worth a warning.
const soon = 14 * 24 * time.Hour

// logChanges tells of the certificates that were not in use before.
func (s *Store) logChanges(loaded []tls.Certificate) {
	var old []tls.Certificate
	if c := s.current.Load(); c != nil {
		old = c.Certificates
	}
	for i, c := range loaded {
		if i < len(old) && old[i].Leaf.Equal(c.Leaf) {
			continue
		}
		level := slog.LevelInfo
		if time.Until(c.Leaf.NotAfter) < soon {
			level = slog.LevelWarn
		}
		s.config.Logger.Log(context.Background(), level, "certificate loaded", "file", s.config.Pairs[i].Certificate,
			"names", c.Leaf.DNSNames, "not_after", c.Leaf.NotAfter)
	}
}

// rotation is how long a ticket key is used for new tickets, and maxTicketKeys how many are kept, so that a ticket is good
// for as long as a client may keep it: seven days (RFC 8446 §4.6.1).
const (
	rotation      = 24 * time.Hour
	maxTicketKeys = 8
)

// run rotates the ticket keys until Close.
func (s *Store) run() {
	defer close(s.done)
	daily := time.NewTicker(rotation)
	defer daily.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-daily.C:
			s.rotate()
		}
	}
}

// rotate makes a new ticket key, unless they come from a file.
func (s *Store) rotate() {
	if s.config.TicketKeys != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := append([][32]byte{newTicketKey()}, s.keys...)
	s.setKeysLocked(keys[:min(len(keys), maxTicketKeys)])
}

func newTicketKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

func (s *Store) files() []string {
	var files []string
	for _, p := range s.config.Pairs {
		files = append(files, p.Certificate, p.Key)
	}
	for _, f := range []string{s.config.ClientCA, s.config.TicketKeys} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// loadTicketKeys reads a file of session ticket keys: a line of 64 hexadecimal digits each, as "openssl rand -hex 32" prints
// them. The first is for new tickets; the others, of days before, still open old ones.
func loadTicketKeys(path string) ([][32]byte, error) {
	b, err := files.Read(path, files.MaxSecretBytes)
	if err != nil {
		return nil, err
	}
	var keys [][32]byte
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := hex.DecodeString(string(line))
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("%s: key %d is not 64 hexadecimal digits", path, len(keys)+1)
		}
		keys = append(keys, [32]byte(key))
	}
	if len(keys) == 0 || len(keys) > maxTicketKeys {
		return nil, fmt.Errorf("%s has %d keys, not 1 to %d", path, len(keys), maxTicketKeys)
	}
	return keys, nil
}
