package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/millpond/millpond/push/hub"
)

// keys are hashes of the valid keys. Hashes are of one length, so comparing
// them takes one time.
type keys [][sha256.Size]byte

func newKeys(plain []string) keys {
	k := make(keys, 0, len(plain))
	for _, key := range plain {
		k = append(k, sha256.Sum256([]byte(key)))
	}
	return k
}

// match reports whether key is one of k. Its time tells nothing of which, or
// how much of it is right.
func (k keys) match(key string) bool {
	hash := sha256.Sum256([]byte(key))
	found := 0
	for i := range k {
		found |= subtle.ConstantTimeCompare(hash[:], k[i][:])
	}
	return found == 1
}

// HasKey reports whether r shows a valid key, for routes beside the API that want one too.
func (h *Handler) HasKey(r *http.Request) bool {
	key := requestKey(r)
	return key != "" && h.keys.match(key)
}

func (h *Handler) authorize(r *http.Request) error {
	if h.config.Insecure {
		if err := h.origins.Check(r); err != nil {
			return reject(http.StatusForbidden, hub.ErrPermissionDenied, "the request comes from a page of another origin")
		}
		return nil
	}
	if h.HasKey(r) {
		return nil
	}
	return reject(http.StatusUnauthorized, hub.ErrUnauthorized, `send a valid key as "X-API-Key: KEY" or "Authorization: apikey KEY"`)
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
	return ""
}
