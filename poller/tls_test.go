package poller

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/millpond/millpond/internal/testcert"
)

var authority = testcert.NewAuthority()

var testCertificate = authority.Issue("test")

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate}, DynamicRecordSizingDisabled: true}
}

func clientTLS() *tls.Config { return &tls.Config{RootCAs: authority.Pool(), ServerName: "test"} }

// tlsPeer is the other end of a connection with TLS.
type tlsPeer struct{ *testcert.Client }

func (p tlsPeer) SetReadBuffer(n int) error  { return p.Socket.(halfCloser).SetReadBuffer(n) }
func (p tlsPeer) SetWriteBuffer(n int) error { return p.Socket.(halfCloser).SetWriteBuffer(n) }

// shakeHands makes a client of TLS on the other end of a connection that was given to AttachTLS, and waits until both are
// through.
func shakeHands(t testing.TB, e *tape, socket net.Conn, config *tls.Config) tlsPeer {
	t.Helper()
	client := testcert.NewClient(socket, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if !until(func() bool { _, ok := e.TLS(); return ok }) {
		t.Fatal("the server's handshake has not ended")
	}
	return tlsPeer{client}
}
