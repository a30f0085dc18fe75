package push

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/millpond/millpond/push/web"
)

// publicRoutes answers plain HTTP on the public listeners.
func (s *Server) publicRoutes() http.Handler {
	mux := http.NewServeMux()
	if s.config.Playground {
		mux.Handle("/", web.Playground())
		mux.Handle("/playground/tap", s.taps.Inspector())
	}
	if s.config.shared() {
		s.addInternal(mux)
	}
	return mux
}

// addInternal adds the routes of the internal listener.
func (s *Server) addInternal(mux *http.ServeMux) {
	mux.Handle("/api/", s.guardAPI(s.api))
	mux.Handle("/api", s.guardAPI(s.api)) // older libraries
	mux.Handle("/tap", s.taps)
	if s.dashboard != nil {
		mux.Handle(dashboardPath, web.Dashboard())
		s.dashboard.Routes(mux, dashboardPath)
		if !s.config.shared() || !s.config.Playground {
			mux.HandleFunc("/{$}", toDashboard)
		}
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("/readyz", s.readyz)
	mux.Handle("/metrics", s.guard(promhttp.HandlerFor(s.registry(), promhttp.HandlerOpts{})))
	for path, h := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.Handle(path, s.guard(h))
	}
}

// toDashboard leads to it, by an address that is right behind a proxy with a prefix, too.
func toDashboard(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", dashboardPath[1:])
	w.WriteHeader(http.StatusFound)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// readyz tells a load balancer whether to send clients here.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		answer(w, http.StatusServiceUnavailable, "draining\n")
		return
	}
	answer(w, http.StatusOK, "ready\n")
}

// guardAPI lets programs on this host use the API without a key in development.
func (s *Server) guardAPI(h http.Handler) http.Handler {
	if s.openAPI == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromThisHost(r) {
			s.openAPI.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// fromThisHost reports whether r came over loopback, no proxy passed it on, and it asks for this host.
func fromThisHost(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
	return err == nil && peer.Addr().Unmap().IsLoopback() && !forwarded && asksForThisHost(r)
}

// asksForThisHost reports whether r names the host by an address, or as localhost. A page of another's, whose name leads here since a
// moment ago (DNS rebinding), asks by that name, and to the browser it is of the same origin.
func asksForThisHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// guard keeps what tells about the server's insides from strangers: on an internal listener on loopback it is open to whoever asks for this
// host, and wants a key anywhere else.
func (s *Server) guard(h http.Handler) http.Handler {
	loopback := !s.config.shared() && isLoopback(s.config.InternalListen)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopback && asksForThisHost(r) || s.config.Dev && fromThisHost(r) || s.api.HasKey(r) {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", "apikey")
		text := "an X-API-Key is needed\n"
		if loopback {
			text = "without an X-API-Key, ask for this host by its address, or as localhost\n"
		}
		answer(w, http.StatusUnauthorized, text)
	})
}

// maxInternalHeader bounds the header of a request there, but for net/http's own allowance of 4 KiB.
const maxInternalHeader = 32 << 10

// internalSide is the listener of the internal routes, by net/http.
type internalSide struct {
	server   *http.Server
	listener *tcpListener
}

// newInternalSide listens, or takes a socket that listens already.
func (s *Server) newInternalSide(file *os.File) (*internalSide, error) {
	mux, timeout := http.NewServeMux(), cmp.Or(s.config.Engine.HandshakeTimeout, 10*time.Second)
	s.addInternal(mux)
	l, err := listenInternal(s.config.InternalListen, file)
	if err != nil {
		return nil, err
	}
	return &internalSide{
		listener: &tcpListener{TCPListener: l, over: make(chan struct{})},
		server: &http.Server{
			Handler: boundBodies(mux, timeout), ReadHeaderTimeout: timeout, MaxHeaderBytes: maxInternalHeader, IdleTimeout: 2 * time.Minute, WriteTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
		},
	}, nil
}

// boundBodies bounds the time for bodies: net/http reads those that no handler wants before the next request.
// ReadTimeout would cancel requests that take long without one, such as profiles.
func boundBodies(h http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		}
		h.ServeHTTP(w, r)
	})
}

func listenInternal(address string, file *os.File) (*net.TCPListener, error) {
	var config net.ListenConfig
	var l net.Listener
	var err error
	if file == nil {
		config.SetMultipathTCP(false) // a socket like the public ones
		l, err = config.Listen(context.Background(), "tcp", address)
	} else {
		l, err = net.FileListener(file)
		_ = file.Close()
	}
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

func (i *internalSide) serve() error { return i.server.Serve(i.listener) }

// stopAccepting leaves new connections to another process. Those that are here end with their request.
func (i *internalSide) stopAccepting() {
	i.listener.shared.Store(true)
	_ = i.listener.TCPListener.Close()
	i.server.SetKeepAlivesEnabled(false)
}

// shutdown waits for running requests and cuts them when ctx ends.
func (i *internalSide) shutdown(ctx context.Context) error {
	err := i.server.Shutdown(ctx)
	_ = i.server.Close()
	return err
}

// tcpListener is one that may stop accepting without ending the server.
type tcpListener struct {
	*net.TCPListener
	shared atomic.Bool
	once   sync.Once
	over   chan struct{} // closed by Close
}

// Accept implements net.Listener.
func (l *tcpListener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil && l.shared.Load() {
		<-l.over
	}
	return c, err
}

// Close implements net.Listener.
func (l *tcpListener) Close() error {
	l.once.Do(func() { close(l.over) })
	err := l.TCPListener.Close()
	if l.shared.Load() {
		return nil // it was closed before
	}
	return err
}
