package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// apiConns are connections to the API's server. net/http's client hands each request to two goroutines and back, which
// costs the load more than many a publication costs the server; here who calls writes and reads by itself.
type apiConns struct {
	// Immutable after newAPIConns.
	url     *url.URL
	address string
	tls     *tls.Config // nil for http
	head    string      // of all requests: header lines
	timeout time.Duration

	// Guarded by mu.
	mu   sync.Mutex
	kept []*apiConn
}

// apiConn is one of them. Owned by who calls.
type apiConn struct {
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	unused time.Time // since when
}

const (
	// keptFor is how long a connection may wait for another request: a server may end one that waits for longer.
	keptFor = time.Second
	// maxAnswerBytes is what one answer may have.
	maxAnswerBytes = 64 << 20
)

func newAPIConns(t Target, timeout time.Duration) (*apiConns, error) {
	u, err := url.Parse(t.API)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("--api: want http://HOST:PORT/api/ or https://…") // whatever was given instead may be secret
	}
	a := &apiConns{url: u, address: u.Host, timeout: timeout, head: " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: application/json\r\n"}
	port := "80"
	if u.Scheme == "https" {
		port, a.tls = "443", &tls.Config{ServerName: u.Hostname()}
	}
	if u.Port() == "" {
		a.address = net.JoinHostPort(u.Hostname(), port)
	}
	if password, ok := u.User.Password(); ok || u.User != nil {
		a.head += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	if t.APIKey != "" {
		a.head += "X-API-Key: " + t.APIKey + "\r\n"
	}
	return a, nil
}

// post posts JSON to a method's path and returns the body of the answer, of which the status must be 200.
func (a *apiConns) post(ctx context.Context, method string, body []byte) (answer []byte, err error) {
	c, err := a.take(ctx)
	if err == nil {
		answer, err = a.exchange(ctx, c, method, body)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("POST %s%s: %w", a.url.Redacted(), method, err)
	}
	return answer, err
}

// exchange sends a request and reads the answer. The connection is kept if it can have another, and closed else.
func (a *apiConns) exchange(ctx context.Context, c *apiConn, method string, body []byte) (answer []byte, err error) {
	keep := false
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() && keep {
			a.keep(c)
			return
		}
		_ = c.conn.Close()
	}()
	_ = c.conn.SetDeadline(time.Now().Add(a.timeout))
	if ctx.Err() != nil { // it may have ended before the deadline was set
		return nil, ctx.Err()
	}
	b := append(append(append(append(c.out[:0], "POST "...), a.url.EscapedPath()...), method...), a.head...)
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
	c.out = append(append(b, "\r\n\r\n"...), body...)
	if _, err = c.conn.Write(c.out); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > maxAnswerBytes:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswerBytes)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d: %.100s", response.StatusCode, answer)
	}
	keep = !response.Close
	return answer, nil
}

// take returns a connection that waits, or a new one.
func (a *apiConns) take(ctx context.Context) (*apiConn, error) {
	if c := a.waiting(); c != nil {
		return c, nil
	}
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &apiConn{conn: conn, in: bufio.NewReader(conn)}, nil
}

// waiting returns the connection that waits for the least time, nil if none does, and closes those that wait for too
// long.
func (a *apiConns) waiting() *apiConn {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.kept)
	if n == 0 {
		return nil
	}
	if c := a.kept[n-1]; time.Since(c.unused) < keptFor {
		a.kept = a.kept[:n-1]
		return c
	}
	for _, c := range a.kept { // they wait for longer still
		_ = c.conn.Close()
	}
	a.kept = nil
	return nil
}

func (a *apiConns) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if a.tls != nil {
		return (&tls.Dialer{Config: a.tls}).DialContext(ctx, "tcp", a.address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", a.address)
}

// keep keeps a connection for another request.
func (a *apiConns) keep(c *apiConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.unused = time.Now()
	a.kept = append(a.kept, c)
}

// close closes the connections that wait for another request.
func (a *apiConns) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.kept {
		_ = c.conn.Close()
	}
	a.kept = nil
}
