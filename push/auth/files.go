package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millpond/millpond/internal/files"
)

// Keys says where the keys are that sign tokens. Those of several sources count side by side. The zero value has none.
type Keys struct {
	// Secret is that of HS256, HS384 and HS512: at least 32 bytes. SecretFile has it in a file; white space around it
	// does not count.
	Secret     []byte
	SecretFile string
	// PreviousSecretFile has the secret before, good until PreviousUntil, so that tokens which are on their way stay
	// good.
	PreviousSecretFile string
	PreviousUntil      time.Time
	// PublicKeyFiles have public keys, or certificates, in PEM: "FILE", or "KID=FILE" for a key that only tokens with
	// this kid, or without one, are tried with.
	PublicKeyFiles []string
	// JWKSFile is a JSON Web Key Set (RFC 7517) with public keys, JWKSURL is where one is fetched: https, or http on
	// this host.
	JWKSFile string
	JWKSURL  string
}

// Enabled reports whether there are any.
func (k *Keys) Enabled() bool {
	return k != nil && (len(k.Secret) > 0 || k.JWKSURL != "" || len(k.files()) > 0)
}

func (k *Keys) files() []string {
	var files []string
	for _, f := range []string{k.SecretFile, k.PreviousSecretFile, k.JWKSFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	for _, f := range k.PublicKeyFiles {
		_, path := splitID(f)
		files = append(files, path)
	}
	return files
}

// splitID splits "KID=FILE".
func splitID(s string) (id, path string) {
	if id, path, ok := strings.Cut(s, "="); ok {
		return id, path
	}
	return "", s
}

// load reads the keys that are in files. Errors name flags by their end, behind "token-" or "subscription-token-".
func (k *Keys) load() (ring, error) {
	return k.read(func(_ string, load func() ([]key, error)) ([]key, error) { return load() })
}

// check reports what load would not like. Out of pipes it takes nothing, for load to find it.
func (k *Keys) check() error {
	_, err := k.read(func(path string, load func() ([]key, error)) ([]key, error) {
		if files.Check(path, files.MaxSecretBytes) == nil && !files.Watchable(path) {
			return nil, nil
		}
		return load()
	})
	return err
}

// read has visit called for each source of keys, with its path if it is a file.
func (k *Keys) read(visit func(path string, load func() ([]key, error)) ([]key, error)) (ring, error) {
	var keys ring
	var errs []error
	add := func(flag, path string, load func() ([]key, error)) {
		more, err := visit(path, load)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
		keys = append(keys, more...)
	}
	if len(k.Secret) > 0 {
		add("hmac-secret", "", func() ([]key, error) { return one(newSecret(k.Secret, time.Time{})) })
	}
	if k.SecretFile != "" {
		add("hmac-secret-file", k.SecretFile, func() ([]key, error) { return loadSecret(k.SecretFile, time.Time{}) })
	}
	if k.PreviousSecretFile != "" {
		add("hmac-previous-secret-file", k.PreviousSecretFile, func() ([]key, error) { return loadSecret(k.PreviousSecretFile, k.PreviousUntil) })
	}
	for _, f := range k.PublicKeyFiles {
		id, path := splitID(f)
		add("public-key-file", path, func() ([]key, error) { return loadPublic(id, path) })
	}
	if k.JWKSFile != "" {
		add("jwks-file", k.JWKSFile, func() ([]key, error) { return loadJWKS(k.JWKSFile) })
	}
	if len(keys) > maxKeys {
		errs = append(errs, fmt.Errorf("public-key-file: %d keys, at most %d are allowed", len(keys), maxKeys))
	}
	return keys, errors.Join(errs...)
}

func one(k key, err error) ([]key, error) {
	if err != nil {
		return nil, err
	}
	return []key{k}, nil
}

func loadSecret(path string, until time.Time) ([]key, error) {
	b, err := files.Secret(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte("-----BEGIN ")) { // public keys are no secret: whoever has one could sign
		return nil, fmt.Errorf("%s has a key in PEM, not a secret", path)
	}
	k, err := one(newSecret(b, until))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// loadPublic reads all the keys of a PEM file.
func loadPublic(id, path string) ([]key, error) {
	b, err := files.Secret(path)
	if err != nil {
		return nil, err
	}
	var keys []key
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		public, err := parsePublic(block)
		if err == nil {
			var k key
			if k, err = newKey(id, public); err == nil {
				keys = append(keys, k)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no public key in PEM", path)
	}
	return keys, nil
}

func parsePublic(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, fmt.Errorf("%q is not a public key; the server needs no private ones", block.Type)
}
