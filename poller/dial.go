package poller

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// DialOptions say how a client connection is made. The zero value works.
type DialOptions struct {
	// Source is the address to connect from, with port 0 for any. The zero value leaves it to
	// the kernel. One source address has about 28,000 ports to one target.
	Source netip.AddrPort
	// TLS secures the connection before OnConnected; see AttachTLS. Nil means without.
	TLS *tls.Config
	// SendBuffer and ReceiveBuffer are SO_SNDBUF and SO_RCVBUF in bytes. Zero leaves them to the kernel.
	SendBuffer    int
	ReceiveBuffer int
}

// Dial connects c to a TCP address without blocking. OnConnected or OnClose tells
// how it ended; the cause of a failed connect is an *OpError with Op "connect". The error
// returned is of what failed at once: then no event follows.
func (p *Poller) Dial(c *Conn, to netip.AddrPort, ev Events, o DialOptions) error {
	family := unix.AF_INET
	if to.Addr().Is6() && !to.Addr().Is4In6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &OpError{Op: "socket", Err: err}
	}
	if err := o.prepare(fd); err != nil {
		_ = unix.Close(fd)
		return err
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return &OpError{Op: "connect", Err: err}
	}
	if o.TLS == nil {
		return p.attach(c, fd, ev, dialing, nil)
	}
	c.secure(o.TLS, true)
	return p.attach(c, fd, ev, dialing|shaking, nil)
}

func (o DialOptions) prepare(fd int) error {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if o.SendBuffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer)
	}
	if o.ReceiveBuffer > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.ReceiveBuffer)
	}
	if !o.Source.IsValid() {
		return nil
	}
	// The port is then chosen at connect, so that one port serves several targets.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, sockaddr(o.Source)); err != nil {
		return &OpError{Op: "bind", Err: err}
	}
	return nil
}
