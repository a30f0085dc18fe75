package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/internal/files"
)

// Signer signs tokens, for tools; a backend has a library of its own.
type Signer struct {
	key  any
	algs []string // of the key; the first is the usual one
}

// NewSigner reads a secret from a file, or a private key in PEM (RSA, EC or Ed25519).
func NewSigner(secretFile, privateKeyFile string) (*Signer, error) {
	switch {
	case (secretFile == "") == (privateKeyFile == ""):
		return nil, errors.New("one file is needed, with a secret or with a private key")
	case secretFile != "":
		keys, err := loadSecret(secretFile, time.Time{})
		if err != nil {
			return nil, err
		}
		return &Signer{keys[0].value, keys[0].algs}, nil
	}
	b, err := files.Secret(privateKeyFile)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivate(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", privateKeyFile, err)
	}
	k, err := newKey("", private.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", privateKeyFile, err)
	}
	return &Signer{private, k.algs}, nil
}

// parsePrivate reads the first private key; others, such as the parameters of a curve, may stand before it.
func parsePrivate(b []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("%T does not sign", key)
	}
	return nil, errors.New("it has no private key in PEM that is not encrypted")
}

// Sign returns the token with claims. alg is one of the key's algorithms, or empty for the usual one; kid goes into the
// header if it is not empty.
func (s *Signer) Sign(alg, kid string, claims map[string]any) (string, error) {
	if alg == "" {
		alg = s.algs[0]
	}
	if !slices.Contains(s.algs, alg) {
		return "", fmt.Errorf("the key is not for %s, but for %v", alg, s.algs)
	}
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims))
	if kid != "" {
		token.Header["kid"] = kid
	}
	return token.SignedString(s.key)
}

// Inspect returns what a token says, which is not verified.
func Inspect(token string) (header, claims map[string]any, err error) {
	c := jwt.MapClaims{}
	t, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(token, c)
	if t == nil || t.Header == nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrToken, refusedMalformed)
	}
	if errors.Is(err, jwt.ErrTokenMalformed) {
		return t.Header, c, fmt.Errorf("%w: %w", ErrToken, refusedMalformed)
	}
	return t.Header, c, nil
}

// Time reads a claim that is one.
func Time(claim any) (time.Time, bool) {
	n, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || seconds < -1e11 || seconds > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}
