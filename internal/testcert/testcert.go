// Package testcert makes certificates for tests, and for the servers that bench starts.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"time"
)

// Authority signs certificates.
type Authority struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one with a key of its own.
func NewAuthority() *Authority {
	a := &Authority{key: newKey()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.leaf = a.sign(template, template, a.key)
	return a
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return leaf
}

// Pool trusts the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.leaf)
	return pool
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.leaf.Raw) }

// Issue makes a certificate for names, valid until an hour from now, for servers and clients.
func (a *Authority) Issue(names ...string) tls.Certificate {
	return a.IssueUntil(time.Now().Add(time.Hour), names...)
}

// IssueUntil is Issue with another end, which may have passed.
func (a *Authority) IssueUntil(end time.Time, names ...string) tls.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: end.Add(-12 * time.Hour), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newKey()
	leaf := a.sign(template, a.leaf, key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// PEM is the certificate and its key, as files have them.
func PEM(c tls.Certificate) (certificate, key []byte) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err)
	}
	return encode("CERTIFICATE", c.Certificate[0]), encode("PRIVATE KEY", der)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Client is a client of TLS that, unlike crypto/tls's, takes the end of TCP's stream without a close_notify for what it
// is: io.ErrUnexpectedEOF.
type Client struct {
	*tls.Conn
	Socket net.Conn
	watch  *watch
}

// NewClient makes one over a socket.
func NewClient(socket net.Conn, config *tls.Config) *Client {
	w := &watch{Conn: socket}
	return &Client{Conn: tls.Client(w, config), Socket: socket, watch: w}
}

// Read implements net.Conn.
func (c *Client) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF && c.watch.ended { //nolint:errorlint // crypto/tls's own
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// watch notes the end of the stream; it is read by one goroutine.
type watch struct {
	net.Conn
	ended bool
	out   net.Conn // written to, if not nil
}

func (w *watch) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.ended = w.ended || err == io.EOF //nolint:errorlint // net's own
	return n, err
}

// Reroute writes to another connection from now on.
func (c *Client) Reroute(to net.Conn) { c.watch.out = to }

func (w *watch) Write(b []byte) (int, error) {
	if w.out != nil {
		return w.out.Write(b)
	}
	return w.Conn.Write(b)
}
