package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Target is the server to load.
type Target struct {
	// URL is ws://HOST:PORT/PATH or wss://HOST:PORT/PATH. Without a path it is where millpond speaks the protocol. Empty
	// starts an own server.
	URL string
	// OwnTLS starts that with a certificate made for it.
	OwnTLS bool
	// TLS is for wss.
	TLS TLS
	// Flags are more for the own server, Config is its file.
	Flags  []string
	Config string
	// PID is the server's process, for its memory and CPU. Zero means unknown.
	PID int
	// Beside are its further processes, such as the other nodes of a cluster, whose memory and CPU are added.
	Beside []int
	// Metrics is the URL of the server's /metrics, for its goroutines. Empty means unknown.
	Metrics string
	// API is the URL of the server's API, which ends in /api/, for those who publish. APIKey is a key for it.
	API    string
	APIKey string

	// For the next process of an own server: where the first one listens, and its files.
	again            bool
	listen, internal string
	dir              string
}

// secure tells whether connections are made by TLS.
func (t Target) secure() bool { return strings.HasPrefix(t.URL, "wss:") }

// at is t with another path.
func (t Target) at(path string) Target {
	if u, err := url.Parse(t.URL); err == nil {
		u.Path, u.RawQuery = path, ""
		t.URL = u.String()
	}
	return t
}

// resolve returns the address, and the Host and request target of the handshake.
func (t Target) resolve(ctx context.Context) (addr netip.AddrPort, host, path string, err error) {
	u, err := url.Parse(t.URL)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Port() == "" {
		return addr, "", "", fmt.Errorf("--url %q: want ws://HOST:PORT/PATH or wss://…", t.URL)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return addr, "", "", fmt.Errorf("--url: %w", err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return addr, "", "", fmt.Errorf("--url: %w", err)
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), u.Host, u.RequestURI(), nil
}

// dialTLS is what connections to t need, nil for ws://.
func (t Target) dialTLS() (*tls.Config, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "wss" {
		return nil, err
	}
	return t.TLS.config(u.Hostname())
}

// awaitNone waits until a number of connections is 0: hang-ups come from the kernel, one loop turn later.
func awaitNone(connections func() int64) {
	for range 500 {
		if connections() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
