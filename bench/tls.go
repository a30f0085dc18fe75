package bench

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millpond/millpond/internal/testcert"
)

// TLS says how a client of wss:// is sure of the server. The zero value asks the system's authorities.
type TLS struct {
	// CA is a file with the only authorities to trust, in PEM. Empty means the system's.
	CA string
	// Insecure trusts anybody.
	Insecure bool
}

// config is for connections to host.
func (t TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, InsecureSkipVerify: t.Insecure} // the user's choice
	if t.CA == "" {
		return c, nil
	}
	b, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM", t.CA)
	}
	return c, nil
}

// certificate makes files for an own server at 127.0.0.1 in a new directory: cert.pem, key.pem and ca.pem.
func certificate() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "millpond-bench-"); err != nil {
		return "", err
	}
	authority := testcert.NewAuthority()
	cert, key := testcert.PEM(authority.Issue("127.0.0.1"))
	for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": key, "ca.pem": authority.PEM()} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return dir, err
}
