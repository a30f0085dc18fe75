package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// httpSide serves the connections whose first request is no opening handshake, by
// net/http, on the same port. They cost a goroutine each and are bounded in number.
type httpSide struct {
	// Immutable after newHTTPSide.
	server *http.Server
	owner  *Server
	conns  chan net.Conn
	closed chan struct{}
	served chan struct{} // closed when server.Serve has returned

	// Guarded by mu: whoever hands over a connection holds it for reading, so that none
	// comes after shutdown.
	mu         sync.RWMutex
	down       bool
	noUpgrades bool
	upgrades   sync.WaitGroup // those under way; Add only under mu, while noUpgrades is false

	// Any goroutine (atomic).
	open atomic.Int64
}

func newHTTPSide(srv *Server) *httpSide {
	h := &httpSide{
		owner: srv, conns: make(chan net.Conn), closed: make(chan struct{}), served: make(chan struct{}),
	}
	h.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: srv.config.HandshakeTimeout,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    srv.config.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(srv.config.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	go func() {
		defer close(h.served)
		_ = h.server.Serve(h)
	}()
	return h
}

// handToHTTP takes the socket out of the poller and gives it to net/http, with the
// bytes that were read; loop goroutine.
func (s *Session) handToHTTP(head, rest []byte) {
	srv := s.srv
	if srv.stopping.Load() || srv.http.open.Load() >= int64(srv.config.MaxHTTPConns) {
		s.refuse(overloaded())
		return
	}
	input, client := bytes.Join([][]byte{head, rest}, nil), s.clientAddr()
	srv.http.open.Add(1)
	given := s.conn.GiveAway(func(fd int, t *poller.TLS) {
		s.state.Store(gone)
		srv.forget(s)
		srv.handedOver.Add(1)
		srv.http.give(fd, t, input, client)
	})
	if !given {
		srv.http.open.Add(-1)
	}
}

// give makes a net.Conn of fd and queues it for net/http.
func (h *httpSide) give(fd int, t *poller.TLS, input []byte, client netip.AddrPort) {
	f := os.NewFile(uintptr(fd), "http")
	socket, err := net.FileConn(f) // duplicates the descriptor
	_ = f.Close()
	conn := socket
	if t != nil && err == nil {
		conn = t.Over(socket)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err != nil || h.down {
		h.open.Add(-1)
		if err == nil {
			_ = conn.Close()
		}
		return
	}
	c := &httpConn{Conn: conn, socket: socket, tls: t, input: input, client: client, side: h}
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *httpSide) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *httpSide) Close() error {
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	return nil
}

// Addr implements net.Listener.
func (h *httpSide) Addr() net.Addr { return &net.UnixAddr{Name: "handed over", Net: "unix"} }

// ServeHTTP hands an opening handshake on a kept-alive connection back to the
// poller: a proxy may reuse one for it. All else is Config.HTTP's.
func (h *httpSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.TLS = r.Context().Value(connKey{}).(*httpConn).state()
	if r.ContentLength != 0 { // net/http reads bodies that nobody wants, too
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.owner.config.HandshakeTimeout))
	}
	if head := requestHead(r); handshake.IsUpgrade(head) {
		h.takeBack(w, head)
		return
	}
	for i := range h.owner.config.Endpoints {
		if h.owner.config.Endpoints[i].Path == r.URL.Path {
			w.Header().Set("Connection", "Upgrade")
			writeFault(w, handshake.ErrUpgradeMissing)
			return
		}
	}
	if h.owner.config.HTTP == nil {
		http.NotFound(w, r)
		return
	}
	h.owner.config.HTTP.ServeHTTP(w, r)
}

// writeFault answers with f through net/http.
func writeFault(w http.ResponseWriter, f *handshake.Fault) {
	for _, field := range f.Header {
		w.Header().Set(field.Name, field.Value)
	}
	http.Error(w, f.Reason, f.Status)
}

// requestHead is r's header as it may have been on the wire.
func requestHead(r *http.Request) []byte {
	var head bytes.Buffer
	head.WriteString(r.Method + " " + r.RequestURI + " " + r.Proto + "\r\nHost: " + r.Host + "\r\n")
	if r.ContentLength != 0 {
		head.WriteString("Transfer-Encoding: chunked\r\n") // for the refusal that it deserves
	}
	_ = r.Header.Write(&head)
	head.WriteString("\r\n")
	return head.Bytes()
}

// takeBack makes a session of the connection that r came on.
func (h *httpSide) takeBack(w http.ResponseWriter, head []byte) {
	h.take(w, func(conn net.Conn, rest []byte) {
		c := conn.(*httpConn)
		fd, err := duplicate(c.socket)
		if err != nil {
			return
		}
		input := bytes.Join([][]byte{head, rest, c.input}, nil) // net/http's buffer may not have had room for all
		h.owner.adopt(&opening{client: c.client}, func(s *Session) error {
			return h.owner.poller.Reattach(&s.conn, fd, c.tls, (*wire)(s), input)
		})
		c.tookBack()
	})
}

// Upgrade makes a session of the connection that r came on, an opening handshake that another net/http server has read; it answers r, also one that
// is none. The connection must be TCP without TLS, or of a unix socket. The bounds on connections do not hold for it: the caller has its own.
func (srv *Server) Upgrade(w http.ResponseWriter, r *http.Request) {
	head := requestHead(r)
	if !handshake.IsUpgrade(head) {
		w.Header().Set("Connection", "Upgrade")
		writeFault(w, handshake.ErrUpgradeMissing)
		return
	}
	srv.http.take(w, func(conn net.Conn, rest []byte) {
		fd, err := duplicate(conn)
		if err != nil {
			return
		}
		input := append(head, rest...)
		srv.adopt(&opening{inside: true}, func(s *Session) error {
			return srv.poller.Reattach(&s.conn, fd, nil, (*wire)(s), input)
		})
	})
}

// take gives use the connection that w answers on, and what net/http has read of it behind the request. It is closed afterwards: use duplicates its
// descriptor.
func (h *httpSide) take(w http.ResponseWriter, use func(conn net.Conn, rest []byte)) {
	if !h.beginUpgrade() {
		http.Error(w, "server is shutting down", http.StatusServiceUnavailable)
		return
	}
	defer h.upgrades.Done()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	rest, _ := buffered.Peek(buffered.Reader.Buffered())
	use(conn, rest)
}

// duplicate returns a second descriptor of the socket under c; closing c does not
// end the connection then.
func duplicate(c net.Conn) (fd int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, errors.New("no socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = errors.Join(err, raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}))
	return fd, err
}

func (h *httpSide) beginUpgrade() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.noUpgrades {
		h.upgrades.Add(1)
	}
	return !h.noUpgrades
}

// stopUpgrades refuses those to come and waits for those under way: a session that is in the Table
// but not in the poller yet must not meet Shutdown. They run inline handlers at most, which do not block.
func (h *httpSide) stopUpgrades() {
	h.mu.Lock()
	h.noUpgrades = true
	h.mu.Unlock()
	h.upgrades.Wait()
}

// shutdown waits for running requests and, when ctx ends, cuts them.
func (h *httpSide) shutdown(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	h.mu.Lock()
	h.down = true
	h.mu.Unlock()
	<-h.served // else it may hold a connection that Close does not know yet
	_ = h.server.Close()
	return err
}

// httpConn is a connection that was handed over, with the bytes read before.
type httpConn struct {
	net.Conn // with TLS, if the client came so
	side     *httpSide
	socket   net.Conn
	tls      *poller.TLS // nil without
	input    []byte      // owned by whoever reads
	client   netip.AddrPort
	once     sync.Once
}

// tookBack leaves Close nothing but this descriptor: no close_notify, for the connection goes on.
func (c *httpConn) tookBack() { c.Conn = c.socket }

// state is what the client's TLS agreed on, or nil.
func (c *httpConn) state() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	state := c.Conn.(*tls.Conn).ConnectionState()
	return &state
}

// RemoteAddr is the client's, also behind a proxy that tells it by the PROXY protocol.
func (c *httpConn) RemoteAddr() net.Addr {
	if !c.client.IsValid() {
		return c.Conn.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(c.client)
}

// connKey is under which a request's context has its httpConn.
type connKey struct{}

// Read reads what was read before, and then the socket.
func (c *httpConn) Read(b []byte) (int, error) {
	if len(c.input) > 0 {
		n := copy(b, c.input)
		if c.input = c.input[n:]; len(c.input) == 0 {
			c.input = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close closes the socket and makes room for another connection.
func (c *httpConn) Close() error {
	c.once.Do(func() { c.side.open.Add(-1) })
	return c.Conn.Close()
}
