package push

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/millpond/millpond/push/api"
)

// apiKeys has what is known of the files that the API's keys come from.
type apiKeys struct {
	// Guarded by mu.
	mu      sync.Mutex
	seen    string // what the files looked like when they were read
	changed string // what they looked like a second ago, if that is something else

	// Any goroutine (atomic).
	reloads atomic.Int64
	failed  atomic.Int64
}

// load reads the keys.
func (k *apiKeys) load(c Config) ([]api.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = look(c)
	return loadAPIKeys(c)
}

func loadAPIKeys(c Config) ([]api.Key, error) {
	keys := api.PlainKeys(c.APIKeys...)
	var errs []error
	if c.APIKeyFile != "" {
		inFile, err := api.ReadKeyFile(c.APIKeyFile)
		keys, errs = append(keys, inFile...), append(errs, err)
	}
	for _, n := range c.NamedAPIKeys {
		key, err := n.Read()
		keys, errs = append(keys, key), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return keys, api.ValidateKeys(keys)
}

// look returns something that differs when a file does. It reads none: it is called once a second.
func look(c Config) string {
	files := []string{c.APIKeyFile}
	for _, n := range c.NamedAPIKeys {
		files = append(files, n.KeyFile)
	}
	var b strings.Builder
	for _, f := range files {
		if f == "" {
			continue
		}
		info, err := os.Stat(f)                     // of what a link leads to
		if err != nil || !info.Mode().IsRegular() { // what comes out of a pipe is read when there is reason to, not when it moves
			b.WriteString("-\n")
			continue
		}
		b.WriteString(fileMark(info))
	}
	return b.String()
}

// reloadAPIKeys replaces the keys by what the files say now.
func (s *Server) reloadAPIKeys() error {
	s.reconfiguring.Lock() // so that keys that Reconfigure has just replaced don't come back
	defer s.reconfiguring.Unlock()
	keys, err := s.apiKeys.load(*s.live.Load())
	if err == nil {
		err = s.api.SetKeys(keys)
	}
	s.audited("api_keys_reload", err, slog.Int("keys", len(keys)))
	if err != nil {
		s.apiKeys.failed.Add(1)
		s.config.Logger.Error("the API's keys were not read again; the old ones stay in use", "error", err)
		return err
	}
	s.apiKeys.reloads.Add(1)
	if s.dashboard != nil {
		s.dashboard.Recheck()
	}
	s.config.Logger.Info("the API's keys were read again", "keys", len(keys))
	return nil
}

// watchAPIKeys reads the files again once they have changed, and then stayed as they are for a second: they may be
// being written.
func (s *Server) watchAPIKeys() {
	k := &s.apiKeys
	now := look(*s.live.Load())
	k.mu.Lock()
	calm := now != k.seen && now == k.changed
	k.changed = now
	k.mu.Unlock()
	if calm {
		_ = s.reloadAPIKeys() // it is logged
	}
}

// fileMark differs when another file has the name, or the file was written.
func fileMark(info os.FileInfo) string {
	mark := fmt.Sprintf("%d %d", info.ModTime().UnixNano(), info.Size())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		mark += fmt.Sprintf(" %d", st.Ino)
	}
	return mark + "\n"
}

// stopStreams ends what Shutdown would wait for.
func (s *Server) stopStreams() {
	s.api.Stop()
	s.taps.Stop()
	if s.openAPI != nil {
		s.openAPI.Stop()
	}
}
