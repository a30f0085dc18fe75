package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// healthCommand asks a server of this host how it is, for a container's health check: there is no other program in its image.
type healthCommand struct {
	InternalListen string        `help:"The server's; default: what the file of --config has, or 127.0.0.1:8001." placeholder:"ADDR"`
	Config         string        `help:"The server's YAML file." placeholder:"FILE"`
	Timeout        time.Duration `help:"Time that the server has to answer." default:"2s"`
	Live           bool          `help:"Ask whether it is alive, not whether it is ready for clients, which it is not while it drains."`
}

// Run prints what the server says. The exit code is 0 if that is well, and 1 if not, or if it says nothing.
func (c *healthCommand) Run(ctx context.Context, s *streams) error {
	address, err := c.address()
	if err != nil {
		return err
	}
	path := "/readyz"
	if c.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	status, text, err := askHealth(ctx, "http", address, path)
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil {
		// It is one of the public addresses, perhaps, and those may speak TLS.
		if s, t, again := askHealth(ctx, "https", address, path); again == nil {
			status, text, err = s, t, nil
		}
	}
	if err != nil {
		return fmt.Errorf("health: %s: %w", address, err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("health: %s: %d %s", address, status, text)
	}
	_, err = fmt.Fprintln(s.out, text)
	return err
}

// address is where the server is asked: what it listens on, in the form of serve's flag. A file that has faults beside it says so all the same.
func (c *healthCommand) address() (string, error) {
	address := c.InternalListen
	if address == "" && c.Config != "" {
		d, err := readDocument(c.Config, newDocument)
		if err != nil {
			return "", err
		}
		address, _ = d.values["internal_listen"].(string)
	}
	address = strings.TrimPrefix(cmp.Or(address, "127.0.0.1:8001"), "plain:")
	if strings.HasPrefix(address, "unix:") {
		return address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return "", fmt.Errorf("health: internal-listen: %q is no address that can be asked", address)
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "":
		host = "localhost" // of either family
	case err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// askHealth asks without a proxy. Of TLS it believes any certificate: the name in it is that of the clients' address, and nothing secret is said.
func askHealth(ctx context.Context, scheme, address, path string) (status int, text string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	host := address
	if file, ok := strings.CutPrefix(address, "unix:"); ok {
		host = "localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", file)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, 1024))
	return response.StatusCode, strings.TrimSpace(string(b)), err
}
