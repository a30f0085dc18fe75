package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millpond/millpond/internal/files"
)

// NamedKey is a key as the configuration has it: by a file with the key alone, or by its SHA-256 in hexadecimal digits.
type NamedKey struct {
	Name              string
	KeyFile           string
	SHA256            string
	Scopes            []string // of ScopeNames; none is all
	Channels          []string
	Namespaces        []string
	RequestsPerSecond float64
	BytesPerSecond    float64
}

// Read makes a Key of it; the error names it.
func (n NamedKey) Read() (Key, error) {
	k := Key{
		Name: n.Name, Channels: n.Channels, Namespaces: n.Namespaces, RequestsPerSecond: n.RequestsPerSecond, BytesPerSecond: n.BytesPerSecond,
	}
	var errs []error
	for _, scope := range n.Scopes {
		if ScopeNames[scope] == 0 {
			errs = append(errs, fmt.Errorf("scopes: %q is none of publish, read, manage, debug, tap, tap_payload and dashboard", scope))
		}
		k.Scopes |= ScopeNames[scope]
	}
	switch {
	case (n.KeyFile == "") == (n.SHA256 == ""):
		errs = append(errs, errors.New("it needs one of key_file and sha256"))
	case n.KeyFile != "":
		key, err := files.Read(n.KeyFile, files.MaxSecretBytes)
		if key = bytes.TrimSpace(key); err == nil && (len(key) == 0 || bytes.ContainsAny(key, "\r\n")) {
			err = fmt.Errorf("%s: it is not one line", n.KeyFile)
		}
		k.Hash, errs = sha256.Sum256(key), append(errs, err)
	default:
		hash, err := hex.DecodeString(n.SHA256)
		if err != nil || len(hash) != len(k.Hash) {
			errs = append(errs, errors.New("sha256: it is not 64 hexadecimal digits"))
			break
		}
		k.Hash = [sha256.Size]byte(hash)
	}
	if err := errors.Join(errs...); err != nil {
		return k, fmt.Errorf("api_keys: %.64q: %w", n.Name, err)
	}
	return k, nil
}

// ReadKeyFile reads a file with a key a line. Keys of such a file are named line1, line2 and so on, and are good for
// everything.
func ReadKeyFile(path string) (keys []Key, err error) {
	b, err := files.Read(path, files.MaxSecretBytes)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		key := strings.TrimSpace(line)
		if key == "" {
			continue
		}
		k := Key{Name: fmt.Sprintf("line%d", number), Hash: sha256.Sum256([]byte(key))}
		if !slices.ContainsFunc(keys, func(other Key) bool { return other.Hash == k.Hash }) { // twice the same was never wrong
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("api-key-file: %s is empty", path)
	}
	return keys, nil
}
