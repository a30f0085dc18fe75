package poller

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// testCertificate is for "test", and its own authority.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}, DynamicRecordSizingDisabled: true}
}

func clientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(testCertificate().Leaf)
	return &tls.Config{RootCAs: roots, ServerName: "test"}
}

// tlsPeer is the other end of a connection with TLS.
type tlsPeer struct {
	*tls.Conn
	tcp net.Conn
}

func (p tlsPeer) SetReadBuffer(n int) error  { return p.tcp.(halfCloser).SetReadBuffer(n) }
func (p tlsPeer) SetWriteBuffer(n int) error { return p.tcp.(halfCloser).SetWriteBuffer(n) }

// shakeHands makes a client of TLS on the other end of a connection that was given to AttachTLS, and waits until both are
// through.
func shakeHands(t testing.TB, e *tape, tcp net.Conn, config *tls.Config) net.Conn {
	t.Helper()
	client := tls.Client(tcp, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if !until(func() bool { _, ok := e.TLS(); return ok }) {
		t.Fatal("the server's handshake has not ended")
	}
	return tlsPeer{client, tcp}
}
