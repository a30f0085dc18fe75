package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// minSecretBytes is the shortest secret: RFC 7518 §3.2 wants a key of at least the size of the hash for HS256.
const minSecretBytes = 32

// minRSABits is the smallest RSA key, by RFC 7518 §3.3.
const minRSABits = 2048

// maxKeys bounds the keys of one source, and with it what a token without a kid can cost.
const maxKeys = 32

// key is one that verifies signatures. It is bound to its algorithms: no other may be tried with it.
type key struct {
	id    string // the kid; empty has none
	algs  []string
	value jwt.VerificationKey
	until time.Time // zero is for ever
}

var (
	hmacAlgs = []string{"HS256", "HS384", "HS512"}
	rsaAlgs  = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
)

// newKey binds a public key to the algorithms of its type.
func newKey(id string, public any) (key, error) {
	k := key{id: id, value: public}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < minRSABits {
			return key{}, fmt.Errorf("RSA key of %d bits, want at least %d", n, minRSABits)
		}
		k.algs = rsaAlgs
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.algs = []string{"ES256"}
		case elliptic.P384():
			k.algs = []string{"ES384"}
		case elliptic.P521():
			k.algs = []string{"ES512"}
		default:
			return key{}, errors.New("EC key on a curve that is not P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
		k.algs = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("%T is not a public key of RSA, ECDSA or Ed25519", public)
	}
	return k, nil
}

// newSecret binds a secret to the HMACs.
func newSecret(secret []byte, until time.Time) (key, error) {
	if len(secret) < minSecretBytes {
		return key{}, fmt.Errorf("%d bytes, want at least %d (openssl rand -base64 32)", len(secret), minSecretBytes)
	}
	return key{algs: hmacAlgs, value: secret, until: until}, nil
}

// ring is the keys that a token may have been signed with.
type ring []key

// find appends those that may verify a token to found: those with its kid, or else those without one; of a token
// without a kid all. named says that the kid is there, whatever its algorithms.
func (r ring) find(found []jwt.VerificationKey, id, alg string, now time.Time) (keys []jwt.VerificationKey, named bool) {
	keys = found
	if id != "" {
		named = slices.ContainsFunc(r, func(k key) bool { return k.id == id })
	}
	for _, k := range r {
		over := !k.until.IsZero() && !now.Before(k.until)
		if over || !slices.Contains(k.algs, alg) || id != "" && k.id != id && (named || k.id != "") {
			continue
		}
		keys = append(keys, k.value)
	}
	return keys, named
}
