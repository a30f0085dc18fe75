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
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Handshakes measures what TLS handshakes cost the own server and one of net/http with crypto/tls, in turn.
type Handshakes struct {
	// AtOnce of the connections are under way. Zero means 32.
	AtOnce int
}

// handshakes is one run against one server.
type handshakes struct {
	took, cpu time.Duration
}

// handshakeKinds are measured one after the other.
var handshakeKinds = []string{"full", "resumed"}

// Name implements Scenario.
func (Handshakes) Name() string { return "handshakes" }

// Prepare implements Scenario.
func (h Handshakes) Prepare(o *Options) error {
	o.Connections, o.Compare, o.Target.OwnTLS = cmp.Or(o.Connections, 2000), cmp.Or(o.Compare, 3), true
	err := errors.Join(o.Speak(h.Name(), ProtocolEcho), o.Allow(h.Name(), "compare"))
	if o.Target.URL != "" {
		err = errors.Join(err, errors.New("--url: bench handshakes starts both servers itself"))
	}
	if h.AtOnce < 0 || h.AtOnce > 10_000 {
		err = errors.Join(err, fmt.Errorf("--at-once %d: want 1 to 10,000", h.AtOnce))
	}
	return err
}

// Run implements Scenario.
func (h Handshakes) Run(ctx context.Context, r *Run) error {
	other, stop, err := startNetHTTP(ctx, filepath.Dir(r.Target.TLS.CA))
	if err != nil {
		return err
	}
	other.TLS = r.Target.TLS
	r.recording()
	for _, kind := range handshakeKinds {
		if err = h.pairs(ctx, r, other, kind); err != nil {
			break
		}
	}
	return errors.Join(err, stop())
}

// pairs measures both servers in turn.
func (h Handshakes) pairs(ctx context.Context, r *Run, other Target, kind string) (err error) {
	var own, theirs, rates, ratios []float64
	n := float64(r.Options.Connections)
	for i := range r.Options.Compare {
		r.stage("%s handshakes, pair %d of %d", kind, i+1, r.Options.Compare)
		var a, b handshakes
		if a, err = h.run(ctx, r.Target, kind, r.Options.Connections); err != nil {
			break
		}
		if b, err = h.run(ctx, other, kind, r.Options.Connections); err != nil {
			break
		}
		own, theirs = append(own, n/a.cpu.Seconds()), append(theirs, n/b.cpu.Seconds())
		rates, ratios = append(rates, n/a.took.Seconds()), append(ratios, b.cpu.Seconds()/a.cpu.Seconds())
	}
	r.addMedian(report.Figure{Name: kind + "/cpu-s", Unit: "/s", Higher: true, Samples: own, Text: "TLS 1.3 handshakes, " + kind + ", in a second of the server's CPU"})
	r.addMedian(report.Figure{Name: kind + "/s", Unit: "/s", Higher: true, Samples: rates, Text: "of them in a second"})
	r.addMedian(report.Figure{Name: "net-http-" + kind + "/cpu-s", Unit: "/s", Higher: true, Samples: theirs, Text: "by net/http, in a second of its CPU"})
	r.addMedian(report.Figure{Name: kind + "-x-of-net-http", Unit: "x", Higher: true, Samples: ratios, Text: "the server's handshakes per CPU-second over net/http's: the median of the pairs"})
	return err
}

// run opens and closes the connections, and returns what that took.
func (h Handshakes) run(ctx context.Context, t Target, kind string, connections int) (r handshakes, err error) {
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
	left.Store(int64(connections))
	var clients sync.WaitGroup
	for range cmp.Or(h.AtOnce, 32) {
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
	r.took = time.Since(begin)
	after, err := cpu(t.PID)
	r.cpu = after - before
	if e, ok := failure.Load().(error); ok {
		err = errors.Join(err, e)
	}
	if n := wrong.Load(); n > 0 && err == nil {
		err = fmt.Errorf("%d of %d handshakes were not %s", n, connections, kind)
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
