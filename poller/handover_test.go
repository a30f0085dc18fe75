package poller

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// serveInto serves l and hands the descriptors over.
func serveInto(t *testing.T, p *Poller, l *Listener) (*Acceptor, chan int) {
	t.Helper()
	accepted := make(chan int, 100)
	a, err := p.Serve(l, func(fd int, _ netip.AddrPort) { accepted <- fd })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a, accepted
}

// TestShare hands a listening socket over: who waits in its queue is accepted by the other, who comes later too, and
// nothing of it is closed or removed when the first one stops.
func TestShare(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = "unix:" + filepath.Join(t.TempDir(), "s")
			}
			old, next := newPoller(t, Config{Loops: 1}), newPoller(t, Config{Loops: 1})
			l, err := Listen(address, SocketOptions{})
			if err != nil {
				t.Fatal(err)
			}
			a, first := serveInto(t, old, l)
			dial := func() {
				t.Helper()
				conn, err := net.Dial(network, l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
			}
			dial()
			_ = unix.Close(await(t, first, "the first"))
			f, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			taken, err := ListenFile(f, SocketOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if taken.Addr().String() != l.Addr().String() {
				t.Errorf("the address is %v, was %v", taken.Addr(), l.Addr())
			}
			l.Share()
			a.Pause(testTimeout)
			for range 10 {
				dial() // they wait in the queue
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if len(first) > 0 {
				t.Error("the queue was emptied")
			}
			b, second := serveInto(t, next, taken)
			dial()
			for range 11 {
				_ = unix.Close(await(t, second, "those that waited"))
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if network == "unix" {
				if _, err := os.Stat(l.path); !os.IsNotExist(err) {
					t.Errorf("the last one left the file: %v", err)
				}
			}
		})
	}
}

func TestListenFileFaults(t *testing.T) {
	before := openFDs(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, f := range []*os.File{os.NewFile(uintptr(fds[0]), "connected"), pipe} {
		if _, err := ListenFile(f, SocketOptions{}); err == nil {
			t.Errorf("%s is taken for a listening socket", f.Name())
		}
	}
	if n := openFDs(t); n != before+2 {
		t.Errorf("%d descriptors open, want %d", n, before+2)
	}
}
