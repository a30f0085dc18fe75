package poller

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls below are made raw: their descriptors are non-blocking, so
// the scheduler need not prepare for a thread that sleeps, which is 10 % of the
// price of a small send.

// maxVec is how many buffers leave in one sendmsg.
const maxVec = 64

// read reads into b. It returns 0 and no error at the end of the stream.
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes b, which is not empty, and returns how many bytes the kernel took.
func send(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])),
		uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendVec writes vec[:n] in one call and returns how many bytes the kernel took.
func sendVec(fd int, vec *[maxVec]unix.Iovec, n int) (int, unix.Errno) {
	var msg unix.Msghdr
	msg.Iov = &vec[0]
	msg.SetIovlen(n)
	sent, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), 0
}

// accept accepts one connection, non-blocking and close-on-exec.
func accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	size := uint32(unix.SizeofSockaddrAny)
	conn, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(from)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(conn), 0
}
