package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// HandshakesConfig says what Handshakes does. The zero value works.
type HandshakesConfig struct {
	// Connections are opened in each run. Zero means 2,000.
	Connections int
	// AtOnce of them are under way. Zero means 32.
	AtOnce int
	// Pairs is how often either server is measured. Zero means 3.
	Pairs int
}

// HandshakesReport is what Handshakes found.
type HandshakesReport struct {
	Connections int                        `json:"connections"`
	Server      map[string][]HandshakesRun `json:"server"` // by kind: "full" or "resumed"
	NetHTTP     map[string][]HandshakesRun `json:"net_http"`
	Ratio       map[string]float64         `json:"ratio"` // the server's handshakes per CPU-second over net/http's: the median of the pairs
}

// HandshakesRun is one run against one server.
type HandshakesRun struct {
	Took time.Duration `json:"took_ns"`
	CPU  time.Duration `json:"server_cpu_ns"`
}

// handshakeKinds are measured one after the other.
var handshakeKinds = []string{"full", "resumed"}

// Handshakes measures what TLS handshakes cost the own server and one of net/http with crypto/tls, in turn.
func Handshakes(ctx context.Context, c HandshakesConfig) (r HandshakesReport, err error) {
	c.Connections, c.AtOnce, c.Pairs = cmp.Or(c.Connections, 2000), cmp.Or(c.AtOnce, 32), cmp.Or(c.Pairs, 3)
	r = HandshakesReport{
		Connections: c.Connections, Ratio: map[string]float64{},
		Server: map[string][]HandshakesRun{}, NetHTTP: map[string][]HandshakesRun{},
	}
	own, stop, err := start(ctx, Target{OwnTLS: true})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	other, stopOther, err := startNetHTTP(ctx, filepath.Dir(own.TLS.CA))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stopOther()) }()
	other.TLS = own.TLS
	for _, kind := range handshakeKinds {
		var ratios []float64
		for range c.Pairs {
			a, err := c.run(ctx, own, kind)
			if err != nil {
				return r, err
			}
			b, err := c.run(ctx, other, kind)
			if err != nil {
				return r, err
			}
			r.Server[kind], r.NetHTTP[kind] = append(r.Server[kind], a), append(r.NetHTTP[kind], b)
			ratios = append(ratios, b.CPU.Seconds()/a.CPU.Seconds())
		}
		slices.Sort(ratios)
		r.Ratio[kind] = ratios[len(ratios)/2]
	}
	return r, nil
}

// run opens and closes the connections, and returns what that took.
func (c HandshakesConfig) run(ctx context.Context, t Target, kind string) (r HandshakesRun, err error) {
	addr, _, _, err := t.resolve(ctx)
	if err != nil {
		return r, err
	}
	config, err := t.dialTLS()
	if err != nil {
		return r, err
	}
	resumed := kind == "resumed"
	if resumed {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	for range 3 { // the first one gets the ticket; nothing that is needed once is counted
		if _, err := shakeOnce(ctx, addr.String(), config); err != nil {
			return r, err
		}
	}
	begin := time.Now()
	before, err := cpu(t.PID)
	if err != nil {
		return r, err
	}
	var left, wrong atomic.Int64
	var failure atomic.Value
	left.Store(int64(c.Connections))
	var clients sync.WaitGroup
	for range c.AtOnce {
		clients.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				did, err := shakeOnce(ctx, addr.String(), config)
				if err != nil {
					failure.Store(err)
					return
				}
				if did != resumed {
					wrong.Add(1)
				}
			}
		})
	}
	clients.Wait()
	r.Took = time.Since(begin)
	after, err := cpu(t.PID)
	r.CPU = after - before
	if e, ok := failure.Load().(error); ok {
		err = errors.Join(err, e)
	}
	if n := wrong.Load(); n > 0 && err == nil {
		err = fmt.Errorf("%d of %d handshakes were not %s", n, c.Connections, kind)
	}
	return r, errors.Join(err, ctx.Err())
}

// shakeOnce connects, shakes hands, says goodbye and waits for the server's.
func shakeOnce(ctx context.Context, addr string, config *tls.Config) (resumed bool, err error) {
	d := tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: 30 * time.Second}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	c := conn.(*tls.Conn)
	defer func() { _ = c.NetConn().Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if err := c.CloseWrite(); err != nil {
		return false, err
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // with TLS 1.3 the ticket comes here
		return false, err
	}
	return c.ConnectionState().DidResume, nil
}

// ServeNetHTTP serves nothing by net/http over TLS, on a free port of loopback, with the certificate in dir, until ctx
// ends: what Handshakes compares with. It writes its URL to out.
func ServeNetHTTP(ctx context.Context, dir string, out io.Writer) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: http.NotFoundHandler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{NextProtos: []string{"http/1.1"}}, // without HTTP/2, which our server has not either
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	_, _ = fmt.Fprintf(out, "wss://%s/\n", l.Addr())
	err = s.ServeTLS(l, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// startNetHTTP starts the own binary as ServeNetHTTP.
func startNetHTTP(ctx context.Context, dir string) (Target, func() error, error) {
	return startPrinting(ctx, "net/http", "bench", "net-http-server", dir)
}

// String is the report for people.
func (r HandshakesReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "TLS 1.3 handshakes: %d connections a run\n", r.Connections)
	for _, kind := range handshakeKinds {
		for i, own := range r.Server[kind] {
			other := r.NetHTTP[kind][i]
			fmt.Fprintf(&b, "  %-8s %6.0f per CPU-second (%5.0f/s), net/http %6.0f (%5.0f/s)\n", kind,
				float64(r.Connections)/own.CPU.Seconds(), float64(r.Connections)/own.Took.Seconds(),
				float64(r.Connections)/other.CPU.Seconds(), float64(r.Connections)/other.Took.Seconds())
		}
		fmt.Fprintf(&b, "  %-8s %6.2f times net/http's, the median\n", kind, r.Ratio[kind])
	}
	return b.String()
}
