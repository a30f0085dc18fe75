package poller

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenAddresses reaches each kind of listener over each protocol that it should
// take, and no other.
func TestListenAddresses(t *testing.T) {
	if !haveIPv6() {
		t.Fatal("the tests need IPv6 on the loopback interface")
	}
	cases := []struct {
		address string
		v4, v6  bool
	}{
		{":0", true, true},
		{"127.0.0.1:0", true, false},
		{"localhost:0", true, false},
		{"0.0.0.0:0", true, false},
		{"[::1]:0", false, true},
		{"[::]:0", false, true},
	}
	for _, c := range cases {
		t.Run(c.address, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			peers := make(chan netip.AddrPort, 1)
			a := serve(t, p, c.address, SocketOptions{}, func(fd int, peer netip.AddrPort) {
				peers <- peer
				_ = unix.Close(fd)
			})
			_, port, err := net.SplitHostPort(a.Addr())
			if err != nil || port == "0" {
				t.Fatalf("address %q: %v", a.Addr(), err)
			}
			for host, want := range map[string]bool{"127.0.0.1": c.v4, "::1": c.v6} {
				conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
				if (err == nil) != want {
					t.Errorf("dial %s: %v, want success: %v", host, err, want)
				}
				if err == nil {
					if peer := await(t, peers, "the peer"); peer.String() != conn.LocalAddr().String() {
						t.Errorf("peer %v, want %v", peer, conn.LocalAddr())
					}
					conn.Close()
				}
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for address, want := range map[string]string{
		taken:                              "listen " + taken + ": bind: address already in use",
		"192.0.2.1:0":                      "listen 192.0.2.1:0: bind: cannot assign requested address",
		"127.0.0.1":                        "missing port",
		"127.0.0.1:99999":                  "invalid port",
		"unix:" + strings.Repeat("x", 200): "bind: invalid argument",
		"unix:/nonexistent/dir/sock":       "no such file or directory",
	} {
		before := openFDs(t)
		if l, err := Listen(address, SocketOptions{}); err == nil {
			l.Close()
			t.Errorf("%s: no error", address)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, want %q in it", address, err, want)
		}
		if after := openFDs(t); after != before {
			t.Errorf("%s: leaks %d descriptors", address, after-before)
		}
	}
	if _, err := Listen(taken, SocketOptions{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v is not EADDRINUSE", err)
	}
}

func TestListenReusePort(t *testing.T) {
	o := SocketOptions{ReusePort: true}
	a, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Listen(a.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}

// TestListenCloseTwice closes a listener again when its number is another file's.
func TestListenCloseTwice(t *testing.T) {
	l, err := Listen("127.0.0.1:0", SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var stranger [2]int
	if err := unix.Pipe2(stranger[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for _, fd := range stranger {
		if err := unix.Close(fd); err != nil {
			t.Errorf("a foreign descriptor was closed: %v", err)
		}
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	t.Run("stale", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		p := newPoller(t, Config{Loops: 1})
		a := serve(t, p, "unix:"+path, SocketOptions{}, func(fd int, peer netip.AddrPort) {
			if peer.IsValid() {
				t.Errorf("peer %v", peer)
			}
			Refuse(fd, []byte("hello"))
		})
		if a.Addr() != path {
			t.Errorf("address %q, want %q", a.Addr(), path)
		}
		readFull(t, dialAll(t, "unix", path, 1)[0], "hello")

		_, err = Listen("unix:"+path, SocketOptions{})
		if want := fmt.Sprintf("listen unix:%s: address already in use", path); err == nil || err.Error() != want {
			t.Errorf("a second one: %v, want %q", err, want)
		}
		dialAll(t, "unix", path, 1) // the first goes on
	})
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file is still there after Close (%v)", err)
	}
	t.Run("other file", func(t *testing.T) {
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen("unix:"+path, SocketOptions{}); err == nil || !strings.Contains(err.Error(), "the file exists and is no socket") {
			t.Errorf("%v", err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file is gone")
		}
	})
}
