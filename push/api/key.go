package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/millpond/millpond/push/hub"
)

// Scope is what a key is good for; several are or-ed.
type Scope uint8

// The scopes.
const (
	ScopePublish    Scope = 1 << iota // publish, broadcast, bulk
	ScopeRead                         // history, presence, presence_stats, channels, info
	ScopeManage                       // what is done to clients and histories, and all other methods
	ScopeDebug                        // beside the API: metrics and pprof, where they want a key
	ScopeTap                          // beside the API: the frames of connections, without their payloads
	ScopeTapPayload                   // with ScopeTap: their payloads, and what is secret in opening requests
	ScopeDashboard                    // beside the API: the dashboard's figures, and who is connected

	// ScopeAll is what a key without scopes is good for. What clients say to each other has to be asked for by name.
	ScopeAll = ScopePublish | ScopeRead | ScopeManage | ScopeDebug | ScopeTap | ScopeDashboard
)

// ScopeNames are the scopes by the names that the file has.
var ScopeNames = map[string]Scope{"publish": ScopePublish, "read": ScopeRead, "manage": ScopeManage, "debug": ScopeDebug, "tap": ScopeTap, "tap_payload": ScopeTapPayload, "dashboard": ScopeDashboard}

// Key is one that opens the API, or a part of it.
type Key struct {
	// Name stands for the key in logs and metrics: letters, digits and any of -_. up to 64.
	Name string
	// Hash is the SHA-256 of the key: it is nowhere kept itself.
	Hash [sha256.Size]byte
	// Scopes are what it is good for. Zero means ScopeAll.
	Scopes Scope
	// Channels are patterns, as of the method channels, and Namespaces are those whose channels it may name, "" for
	// channels without one. With either, the key is good for those channels alone, and for no method that concerns
	// more.
	Channels   []string
	Namespaces []string
	// RequestsPerSecond and BytesPerSecond bound what is done with the key. Zero means the Config's.
	RequestsPerSecond float64
	BytesPerSecond    float64
}

// PlainKeys makes keys without a bound, named key1, key2 and so on.
func PlainKeys(plain ...string) []Key {
	var keys []Key
	for i, key := range plain {
		keys = append(keys, Key{Name: fmt.Sprintf("key%d", i+1), Hash: sha256.Sum256([]byte(key))})
	}
	return keys
}

var keyName = regexp.MustCompile(`^[-a-zA-Z0-9_.]{1,64}$`)

// ValidateKeys reports everything that is wrong with a list, by the names of the keys.
func ValidateKeys(keys []Key) error {
	var errs []error
	names, hashes := map[string]bool{}, map[[sha256.Size]byte]string{}
	for _, k := range keys {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("key %.64q: "+format, append([]any{k.Name}, args...)...))
		}
		if !keyName.MatchString(k.Name) {
			wrong("a name has 1 to 64 letters, digits or any of -_.")
		}
		if names[k.Name] {
			wrong("there are two of that name")
		}
		if other, ok := hashes[k.Hash]; ok {
			wrong("it is the same key as %q", other)
		}
		if k.Hash == sha256.Sum256(nil) {
			wrong("it is empty")
		}
		for _, pattern := range k.Channels {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				wrong("%.40q is no pattern", pattern)
			}
		}
		if !isRate(k.RequestsPerSecond) || !isRate(k.BytesPerSecond) {
			wrong("a rate is negative, or no number")
		}
		names[k.Name], hashes[k.Hash] = true, k.Name
	}
	return errors.Join(errs...)
}

// limited reports whether k is good for some channels only.
func (k *Key) limited() bool { return k.Channels != nil || k.Namespaces != nil }

// permits reports whether k is good for a channel.
func (k *Key) permits(channel string) bool {
	if !k.limited() {
		return true
	}
	for _, pattern := range k.Channels {
		if match, _ := path.Match(pattern, channel); match {
			return true
		}
	}
	namespace, _, found := strings.Cut(strings.TrimPrefix(channel, hub.PrivatePrefix), hub.NamespaceBoundary)
	if !found {
		namespace = ""
	}
	return slices.Contains(k.Namespaces, namespace)
}

// heldKey is a Key in use.
type heldKey struct {
	Key
	*account
}

// find returns the key that was shown, or nil. Its time tells nothing of which key it is, how much of it is right, or
// whether it is one at all: all are compared, by their hashes.
func find(keys []heldKey, shown string) *heldKey {
	hash := sha256.Sum256([]byte(shown))
	place := -1
	for i := range keys {
		place = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], keys[i].Hash[:]), i, place)
	}
	if place < 0 {
		return nil
	}
	return &keys[place]
}

// SetKeys replaces the keys: requests under way end with the old ones. Names that stay keep their figures.
func (h *Handler) SetKeys(keys []Key) error {
	if err := ValidateKeys(keys); err != nil {
		return err
	}
	h.accountsMu.Lock()
	defer h.accountsMu.Unlock()
	h.setKeysLocked(keys)
	return nil
}

// Reconfigure is SetKeys and sets Limits.RequestsPerSecond and Limits.BytesPerSecond anew.
func (h *Handler) Reconfigure(keys []Key, requestsPerSecond, bytesPerSecond float64) error {
	if err := errors.Join(ValidateKeys(keys), Limits{RequestsPerSecond: requestsPerSecond, BytesPerSecond: bytesPerSecond}.Validate()); err != nil {
		return err
	}
	h.accountsMu.Lock()
	defer h.accountsMu.Unlock()
	h.requestsPerSec, h.bytesPerSec = requestsPerSecond, bytesPerSecond
	if h.open != nil {
		h.accountLocked(h.open.Key)
	}
	h.accountLocked(Key{}) // of those without one
	h.setKeysLocked(keys)
	return nil
}

// setKeysLocked stores them. accountsMu is held.
func (h *Handler) setKeysLocked(keys []Key) {
	held := make([]heldKey, len(keys))
	for i, k := range keys {
		if k.Scopes == 0 {
			k.Scopes = ScopeAll
		}
		held[i] = heldKey{k, h.accountLocked(k)}
	}
	h.keys.Store(&held)
}

// HasKey reports whether r shows a key that is good for ScopeDebug, for routes beside the API that want one too.
func (h *Handler) HasKey(r *http.Request) bool {
	key := h.key(r)
	return key != nil && key.Scopes&ScopeDebug != 0
}

// Caller returns the name of the key that r shows, and its scopes, or an error that says what is wrong with r and the status of
// HTTP that goes with it: for routes beside the API. A key that is good for some channels only has no scopes there.
func (h *Handler) Caller(r *http.Request) (name string, scopes Scope, status int, err error) {
	key, err := h.authenticate(r)
	if err != nil {
		status = http.StatusUnauthorized
		var refused *rejection
		if errors.As(err, &refused) {
			status = refused.status
		}
		return "", 0, status, err
	}
	if key.limited() {
		return key.Name, 0, 0, nil
	}
	return key.Name, key.Scopes, 0, nil
}

// key returns the valid key that r shows, or nil.
func (h *Handler) key(r *http.Request) *heldKey {
	shown := requestKey(r)
	if shown == "" {
		return nil
	}
	return find(*h.keys.Load(), shown)
}

func (h *Handler) authenticate(r *http.Request) (*heldKey, error) {
	if h.config.Insecure {
		if err := h.origins.Check(r); err != nil {
			return nil, reject(http.StatusForbidden, hub.ErrPermissionDenied, "the request comes from a page of another origin")
		}
		if r.Header.Get("Origin") != "" && !isLoopback(r.Host) { // its page's name may lead here since a moment ago
			return nil, reject(http.StatusForbidden, hub.ErrPermissionDenied, "without a key pages can use the API of localhost alone, not of %.60q", r.Host)
		}
		return h.open, nil
	}
	if key := h.key(r); key != nil {
		return key, nil
	}
	return nil, reject(http.StatusUnauthorized, hub.ErrUnauthorized, `send a valid key as "X-API-Key: KEY" or "Authorization: apikey KEY"`)
}

// isLoopback reports whether host, of a request, is this one's name or address for itself.
func isLoopback(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	address, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && address.IsLoopback()
}

// requestKey returns the key that a request shows, or "".
func requestKey(r *http.Request) string {
	if key := r.Header.Get("X-API-Key"); key != "" {
		return key
	}
	// RFC 9110 §11.1: the scheme is case-insensitive.
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "apikey") {
		return strings.TrimSpace(key)
	}
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get("api_key")
}

// trait is what keys and bounds have to know of a method.
type trait struct {
	scope Scope
	named bool // it concerns no more than the channels that the request names
	large bool // its body may have MaxBatchBytes
}

// traits are those of methods that are not as most: for ScopeManage, and of concern to more than some channels.
var traits = map[string]trait{
	"publish":        {ScopePublish, true, false},
	"broadcast":      {ScopePublish, true, true},
	"bulk":           {ScopePublish, true, false},
	"history":        {ScopeRead, true, false},
	"history_remove": {ScopeManage, true, false},
	"presence":       {ScopeRead, true, false},
	"presence_stats": {ScopeRead, true, false},
	"channels":       {ScopeRead, true, false}, // it leaves out the others
	"info":           {ScopeRead, false, false},
	"subscribe":      {ScopeManage, true, false},
	"unsubscribe":    {ScopeManage, true, false},
	"batch":          {0, true, true}, // its commands are looked at one by one
	"":               {0, true, true}, // so are those of a pipe
}

func traitOf(method string) trait {
	if t, ok := traits[method]; ok {
		return t
	}
	return trait{scope: ScopeManage}
}

// permit reports why the caller may not use a method.
func (c *call) permit(method string) error {
	t := traitOf(method)
	switch {
	case t.scope&^c.key.Scopes != 0:
		return reject(http.StatusForbidden, hub.ErrPermissionDenied, "the key %q is not good for the scope that %s needs", c.key.Name, method)
	case !t.named && c.key.limited():
		return reject(http.StatusForbidden, hub.ErrPermissionDenied, "the key %q is good for some channels only, and %s concerns more", c.key.Name, method)
	}
	return nil
}

// permitChannel reports why the caller of the request that ctx belongs to may not name a channel.
func permitChannel(ctx context.Context, field, channel string) error {
	c := callOf(ctx)
	if channel == "" {
		return missing(field)
	}
	if !c.key.permits(channel) {
		return &rejection{http.StatusForbidden, &fieldError{hub.ErrPermissionDenied, field, fmt.Sprintf("the key %q is not good for this channel", c.key.Name)}}
	}
	return nil
}
