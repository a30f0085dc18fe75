package bench

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the yardstick: an echo that reads, unmasks, writes back, and has nothing above it (or, with what is in
// barefan.go, sends to all others). No locks, no
// limits, no checks, no heartbeats; it must not be used for anything else.

// ServeBare serves the yardstick on a free port of loopback until ctx ends, with one loop per core. It writes its URL
// to out.
func ServeBare(ctx context.Context, out io.Writer) error { return serveBare(ctx, out, nil) }

func serveBare(ctx context.Context, out io.Writer, f *fan) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var loops []*bareLoop
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		loop, err := newBareLoop()
		if err != nil {
			return errors.Join(err, l.Close())
		}
		loop.fan = f
		loops = append(loops, loop)
	}
	if f != nil {
		f.loops = loops
	}
	for _, loop := range loops {
		running.Go(loop.run)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	_, _ = fmt.Fprintf(out, "ws://%s/\n", l.Addr())
	for n := 0; ; n++ {
		c, err := l.Accept()
		if err != nil {
			break
		}
		if err := loops[n%len(loops)].adopt(c.(*net.TCPConn)); err != nil {
			return err
		}
	}
	if f != nil {
		f.stopping.Store(true)
	}
	for _, loop := range loops {
		loop.rouse()
	}
	running.Wait()
	return nil
}

// bareLoop is one epoll instance and the goroutine that waits on it.
type bareLoop struct {
	epfd, wake int
	scratch    []byte
	out        []byte
	rest       map[int32][]byte // by fd: what is unfinished; the key alone says that it is upgraded

	fan    *fan // nil for an echo
	fanned fanned
}

func newBareLoop() (*bareLoop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &bareLoop{epfd: epfd, wake: wake, scratch: make([]byte, 64<<10), rest: map[int32][]byte{}}
	return l, l.add(wake)
}

func (l *bareLoop) add(fd int) error {
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// rouse ends its wait.
func (l *bareLoop) rouse() { _, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// adopt takes a copy of the connection's descriptor, which net knows nothing of.
func (l *bareLoop) adopt(c *net.TCPConn) (err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if e := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	return errors.Join(c.Close(), l.add(fd))
}

func (l *bareLoop) run() {
	events := make([]unix.EpollEvent, 512)
	for wait := -1; ; {
		n := epollWait(l.epfd, events, wait)
		if n <= 0 {
			wait = -1
			runtime.Gosched()
			continue
		}
		wait = 0
		for _, e := range events[:n] {
			if int(e.Fd) == l.wake && l.fan != nil && !l.fan.stopping.Load() {
				l.spread()
				continue
			}
			if int(e.Fd) == l.wake {
				_, _ = unix.Close(l.epfd), unix.Close(l.wake)
				return
			}
			l.ready(e.Fd)
		}
	}
}

// epollWait prepares the scheduler for a sleep only if there may be one.
func epollWait(epfd int, events []unix.EpollEvent, wait int) int {
	if wait != 0 {
		n, _ := unix.EpollWait(epfd, events, wait)
		return n
	}
	n, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_WAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	return int(n)
}

// ready reads once, and answers all that is whole with one send.
func (l *bareLoop) ready(fd int32) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&l.scratch[0])), uintptr(len(l.scratch)))
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 || n == 0 {
		delete(l.rest, fd)
		l.fanned.members = slices.DeleteFunc(l.fanned.members, func(m int32) bool { return m == fd })
		_ = unix.Close(int(fd))
		return
	}
	b := l.scratch[:n]
	rest, upgraded := l.rest[fd]
	if len(rest) > 0 {
		b = append(rest, b...)
	}
	l.out = l.out[:0]
	if !upgraded {
		head, tail, whole := bytes.Cut(b, []byte("\r\n\r\n"))
		if !whole {
			return // the load sends it in one piece
		}
		l.out = appendAccept(l.out, head)
		l.rest[fd] = nil
		b = tail
		if l.fan != nil {
			_, _ = send(fd, l.out)
			l.out = l.out[:0]
			l.fanned.members = append(l.fanned.members, fd)
		}
	}
	if tail := l.frames(b); len(tail) > 0 {
		l.rest[fd] = append([]byte(nil), tail...)
	} else if len(rest) > 0 {
		l.rest[fd] = nil
	}
	switch {
	case len(l.out) == 0:
	case l.fan != nil:
		l.fan.post(l.out, fd, l)
	default:
		// What the kernel does not take is lost: the load waits for its answers, so it takes all.
		_, _ = send(fd, l.out)
	}
}

func send(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// frames appends the answers to the whole frames of b, and returns what is left.
func (l *bareLoop) frames(b []byte) []byte {
	for len(b) >= 6 {
		size, start := int(b[1]&127), 2
		switch size {
		case 126:
			if len(b) < 8 {
				return b
			}
			size, start = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			if len(b) < 14 {
				return b
			}
			size, start = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		end := start + 4 + size
		if end > len(b) {
			return b
		}
		payload := b[start+4 : end]
		unmask(payload, binary.LittleEndian.Uint32(b[start:]))
		l.out = append(l.out, b[0], b[1]&127)
		l.out = append(append(l.out, b[2:start]...), payload...)
		b = b[end:]
	}
	return b
}

// unmask is eight bytes at a time.
func unmask(b []byte, key uint32) {
	wide := uint64(key) | uint64(key)<<32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
}

func appendAccept(b, head []byte) []byte {
	const field = "\r\nsec-websocket-key: "
	at := bytes.Index(bytes.ToLower(head), []byte(field)) + len(field)
	key, _, _ := bytes.Cut(head[min(at, len(head)):], []byte("\r\n"))
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	return append(base64.StdEncoding.AppendEncode(b, sum[:]), "\r\n\r\n"...)
}
