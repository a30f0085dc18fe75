package poller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SocketOptions are set once on a listening socket; every accepted one inherits
// them, so that a connection costs no setsockopt. The zero value works.
type SocketOptions struct {
	// Backlog is how many finished handshakes the kernel holds. Zero means
	// 65535, which the kernel cuts to net.core.somaxconn.
	Backlog int
	// SendBuffer is SO_SNDBUF in bytes, which the kernel doubles. It bounds what a
	// stalled peer costs in kernel memory; without it the kernel lets one grow to
	// 4 MiB. Zero means 64 KiB.
	SendBuffer int
	// UserTimeout is TCP_USER_TIMEOUT: how long sent data may stay unacknowledged
	// until the kernel gives the peer up. Zero means 30 s.
	UserTimeout time.Duration
	// KeepAlive is how long a connection may be silent until the kernel probes it
	// (three probes, a sixth of it apart). Zero means 2 min, negative means never.
	KeepAlive time.Duration
	// ReusePort lets several processes, or several listeners of one, share the port.
	ReusePort bool
}

// maxBacklog is what is asked for; the kernel cuts it to net.core.somaxconn.
const maxBacklog = 65535

// Listener is a listening socket. It accepts nothing until it is given to Serve.
type Listener struct {
	fd   int
	addr net.Addr
	path string // of a unix socket, to be removed on Close

	closed atomic.Bool // so that the number is never closed again when it is another's
	shared atomic.Bool // another process has the socket too: see Share
}

// Listen opens a listening socket. address is "host:port", ":port" (all addresses,
// IPv6 and IPv4), or "unix:PATH". Port 0 takes a free one. A stale unix socket
// that nobody listens on is replaced; any other existing file is an error.
func Listen(address string, o SocketOptions) (*Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, o)
	}
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", address, err)
	}
	l, err := listenTCP(tcp, o)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", address, err)
	}
	return l, nil
}

// ListenFile makes a Listener of a listening socket that another process has opened, and closes f. Its options are
// set anew, save Backlog and ReusePort, which are the other's.
func ListenFile(f *os.File, o SocketOptions) (*Listener, error) {
	l, err := listenFile(f, o)
	if err != nil {
		return nil, fmt.Errorf("inherited socket %s: %w", f.Name(), errors.Join(err, f.Close()))
	}
	return l, f.Close()
}

func listenFile(f *os.File, o SocketOptions) (*Listener, error) {
	raw, err := f.SyscallConn() // Fd would make the socket blocking, the other process's too
	if err != nil {
		return nil, err
	}
	fd := -1
	control := raw.Control(func(old uintptr) {
		var listening int
		if listening, err = unix.GetsockoptInt(int(old), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listening == 0 {
			err = errors.New("it does not listen")
		}
		if err == nil {
			fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		}
	})
	if err := errors.Join(control, err); err != nil {
		return nil, err
	}
	l := &Listener{fd: fd}
	if l.addr, err = o.adopt(fd, &l.path); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return l, nil
}

// adopt sets the options of a listening socket, and returns its address. path gets that of a unix socket's file.
func (o SocketOptions) adopt(fd int, path *string) (net.Addr, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, &OpError{Op: "getsockname", Err: err}
	}
	if sa, ok := sa.(*unix.SockaddrUnix); ok {
		*path = sa.Name
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}, nil
	}
	o.ReusePort = false // it is too late for that
	err = o.applyTCP(fd, false)
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = nil // a socket of multipath TCP has not all of them
	}
	return net.TCPAddrFromAddrPort(sockName(unix.SYS_GETSOCKNAME, fd)), err
}

// File returns a duplicate of the listening socket, for another process.
func (l *Listener) File() (*os.File, error) {
	if l.closed.Load() {
		return nil, net.ErrClosed
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &OpError{Op: "dup", Err: err}
	}
	return os.NewFile(uintptr(fd), l.addr.String()), nil
}

// Share says that another process accepts from the same socket: Close then leaves it what waits, and the file of a unix socket.
func (l *Listener) Share() { l.shared.Store(true) }

func listenTCP(tcp *net.TCPAddr, o SocketOptions) (*Listener, error) {
	bind := tcp.AddrPort()
	family := unix.AF_INET
	switch {
	case tcp.IP == nil && haveIPv6():
		bind = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(tcp.Port))
		family = unix.AF_INET6
	case tcp.IP == nil:
		bind = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(tcp.Port))
	case tcp.IP.To4() == nil:
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, &OpError{Op: "socket", Err: err}
	}
	err = errors.Join(o.applyTCP(fd, family == unix.AF_INET6 && tcp.IP != nil), bindListen(fd, sockaddr(bind), o))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Listener{fd: fd, addr: net.TCPAddrFromAddrPort(sockName(unix.SYS_GETSOCKNAME, fd))}, nil
}

func bindListen(fd int, a unix.Sockaddr, o SocketOptions) error {
	if err := unix.Bind(fd, a); err != nil {
		return &OpError{Op: "bind", Err: err}
	}
	backlog := o.Backlog
	if backlog <= 0 {
		backlog = maxBacklog
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return &OpError{Op: "listen", Err: err}
	}
	return nil
}

// haveIPv6 reports whether this host can open an IPv6 socket at all.
func haveIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) == nil
}

// applyTCP sets the options. v6only keeps an explicit IPv6 address from taking IPv4 as well.
func (o SocketOptions) applyTCP(fd int, v6only bool) error {
	var errs []error
	set := func(level, name, value int) {
		if err := unix.SetsockoptInt(fd, level, name, value); err != nil {
			errs = append(errs, fmt.Errorf("setsockopt(%d, %d, %d): %w", level, name, value, err))
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if o.ReusePort {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if v6only {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	set(unix.SOL_SOCKET, unix.SO_SNDBUF, o.sendBuffer())
	timeout := o.UserTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	if o.KeepAlive >= 0 {
		idle := o.KeepAlive
		if idle == 0 {
			idle = 2 * time.Minute
		}
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, max(1, int(idle.Seconds())))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(1, int(idle.Seconds())/6))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
	}
	return errors.Join(errs...)
}

func (o SocketOptions) sendBuffer() int {
	if o.SendBuffer <= 0 {
		return 64 << 10
	}
	return o.SendBuffer
}

func listenUnix(path string, o SocketOptions) (*Listener, error) {
	fail := func(err error) (*Listener, error) { return nil, fmt.Errorf("listen unix:%s: %w", path, err) }
	if err := removeStale(path); err != nil {
		return fail(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(&OpError{Op: "socket", Err: err})
	}
	if err := bindListen(fd, &unix.SockaddrUnix{Name: path}, o); err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	return &Listener{fd: fd, path: path, addr: &net.UnixAddr{Name: path, Net: "unix"}}, nil
}

// removeStale removes a socket file left by a process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("the file exists and is no socket")
	}
	d := net.Dialer{Timeout: time.Second}
	if c, err := d.DialContext(context.Background(), "unix", path); err == nil {
		_ = c.Close()
		return unix.EADDRINUSE
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Addr returns the address in use, with the port that the kernel chose for port 0.
func (l *Listener) Addr() net.Addr { return l.addr }

// close closes the socket, which nobody may be using any more.
func (l *Listener) close() error {
	if l.closed.Swap(true) {
		return nil
	}
	err := unix.Close(l.fd)
	if l.path != "" && !l.shared.Load() {
		err = errors.Join(err, os.Remove(l.path))
	}
	return err
}

// Close closes a listener that was never given to Serve.
func (l *Listener) Close() error { return l.close() }
