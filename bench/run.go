package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/millpond/millpond/poller"
)

// Target is the server to load.
type Target struct {
	// URL is ws://HOST:PORT/PATH or wss://HOST:PORT/PATH of an echo. Empty starts the own binary's.
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
	// Metrics is the URL of the server's /metrics, for its goroutines. Empty means unknown.
	Metrics string
	// API is the URL of the server's API, which ends in /api/, for those who publish.
	API string
}

// at is t with another path.
func (t Target) at(path string) Target {
	if u, err := url.Parse(t.URL); err == nil {
		u.Path, u.RawQuery = path, ""
		t.URL = u.String()
	}
	return t
}

// portsPerSource is how many connections one source address opens to one target: the kernel's
// range of local ports has 28,232 by default.
const portsPerSource = 25000

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

// newLoad makes a load for the target.
func (t Target) newLoad(ctx context.Context, p *poller.Poller, messageBytes, depth int) (*load, error) {
	addr, host, path, err := t.resolve(ctx)
	if err != nil {
		return nil, err
	}
	l := newLoad(p, addr, host, path, messageBytes, depth)
	l.tls, err = t.dialTLS()
	return l, err
}

// source returns where connection n connects from: on loopback several addresses share the
// load, else the kernel chooses.
func source(target netip.AddrPort, n int) netip.AddrPort {
	if k := n / portsPerSource; k > 0 && target.Addr().Is4() && target.Addr().IsLoopback() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(k >> 8), byte(k + 1)}), 0)
	}
	return netip.AddrPort{}
}

// maxDialing is how many connections may be on their way at once: a listen backlog holds more.
const maxDialing = 256

// openAll opens n connections, each of which sends its first batch, and returns when every one
// has come back or failed. Its clients keep running.
func (l *load) openAll(ctx context.Context, n int) error {
	l.settled = make(chan struct{}, n)
	timeout := time.NewTimer(time.Minute + time.Duration(n)*time.Millisecond)
	defer timeout.Stop()
	for settled := 0; settled < n; {
		for len(l.clients) < n && ctx.Err() == nil && len(l.clients)-settled < l.maxDialing {
			l.dial(source(l.target, len(l.clients)))
			if len(l.clients) == n {
				l.dialed()
			}
		}
		select {
		case <-l.settled:
			settled++
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("%d of %d connections did not get their first answer", n-settled, n)
		}
	}
	return nil
}

// closeAll ends the connections and waits until the poller has none.
func (l *load) closeAll() {
	l.stopping.Store(true)
	for _, c := range l.clients {
		if c.dialed {
			c.conn.Close(nil)
		}
	}
	awaitEmpty(l.poller)
}

// awaitEmpty waits until the poller has no connection.
func awaitEmpty(p *poller.Poller) {
	for range 500 {
		if p.Stats().Conns == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond) // hang-ups come from the kernel, one loop turn later
	}
}

func (l *load) failed() bool { return len(l.counts()) > 0 }

// counts returns the failures so far.
func (l *load) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int, len(l.failures))
	for k, v := range l.failures {
		out[k] = v
	}
	return out
}

// newPoller is the client's.
func newPoller() (*poller.Poller, error) { return poller.New(poller.Config{}) }
