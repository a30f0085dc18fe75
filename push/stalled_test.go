package push

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/session"
)

// stall connects and sends text; afterwards it reads nothing.
func stall(t *testing.T, address, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// A body that does not come holds no connection for ever, whether somebody wants it or not.
func TestBodiesThatDoNotCome(t *testing.T) {
	s := startServer(t, Config{
		TokenSecret: secret, APIKeys: []string{"key"}, API: APILimits{Timeout: 300 * time.Millisecond},
		Engine: session.Config{HandshakeTimeout: 300 * time.Millisecond},
	})
	for _, address := range []string{s.InternalAddr().String(), s.Addrs()[0].String()} {
		for _, path := range []string{"/healthz", "/nothing", "/metrics", "/api/publish", "/push"} {
			c := stall(t, address, "POST "+path+" HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nContent-Length: 1000\r\n\r\n")
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.ReadAll(c); err != nil {
				t.Errorf("%s of %s: %v", path, address, err)
			}
		}
	}
}

// Whoever sends request after request and reads no answer is cut off.
func TestAnswersThatAreNotRead(t *testing.T) {
	s := startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}, API: APILimits{Timeout: 300 * time.Millisecond}})
	requests := strings.Repeat("POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 1000) // without a key, even
	c := stall(t, s.InternalAddr().String(), "")
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for {
		_, err := io.WriteString(c, requests)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("still connected")
		}
		if err != nil {
			return
		}
	}
}
