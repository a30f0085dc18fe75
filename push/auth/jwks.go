package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/millpond/millpond/internal/files"
)

// loadJWKS reads a key set from a file.
func loadJWKS(path string) ([]key, error) {
	b, err := files.Secret(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseJWKS(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// parseJWKS reads the public keys of a set that sign. Others are left out, as RFC 7517 §5 wants it: those for
// encryption, of other types, on other curves. A set of which nothing is left is an error.
func parseJWKS(b []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New("it is not a JSON Web Key Set") // of what is not even that, nothing is quoted
	}
	var keys []key
	var last error
	for _, raw := range set.Keys {
		k, err := parseJWK(raw)
		if err != nil {
			last = err
			continue
		}
		if keys = append(keys, k); len(keys) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case last != nil:
		return nil, fmt.Errorf("none of %d keys can verify tokens, the last since: %w", len(set.Keys), last)
	}
	return nil, errors.New("it has no keys")
}

func parseJWK(raw []byte) (key, error) {
	// Secrets do not belong in a set that others may read, and parsing private keys takes long.
	var secret struct {
		K json.RawMessage `json:"k"`
		D json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(raw, &secret); err != nil {
		return key{}, errors.New("it is not an object")
	}
	if secret.K != nil || secret.D != nil {
		return key{}, errors.New("it is not public")
	}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(raw, &jwk); err != nil {
		return key{}, err
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return key{}, fmt.Errorf("its use is %.20q", jwk.Use)
	}
	k, err := newKey(jwk.KeyID, jwk.Key)
	if err != nil {
		return key{}, err
	}
	if jwk.Algorithm != "" {
		if !slices.Contains(k.algs, jwk.Algorithm) {
			return key{}, fmt.Errorf("its algorithm is %.20q", jwk.Algorithm)
		}
		k.algs = []string{jwk.Algorithm}
	}
	return k, nil
}
