package poller

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// echo answers with what it reads, in messages of size bytes; several at a time are
// corked.
type echo struct {
	conn Conn
	size int // zero means: whatever one read returned
}

func (e *echo) OnConnected()  {}
func (e *echo) OnDrained()    {}
func (e *echo) OnEOF()        { e.conn.Close(nil) }
func (e *echo) OnClose(error) {}

func (e *echo) OnData(b []byte) []byte {
	size := e.size
	if size == 0 || size > len(b) {
		size = len(b)
	}
	if size < len(b) {
		e.conn.Cork()
	}
	for len(b) > 0 {
		n := min(size, len(b))
		_, _ = e.conn.SendCopy(b[:n], nil, Out{})
		b = b[n:]
	}
	return nil
}

// rawPair makes a connected TCP pair of plain descriptors: fd is non-blocking, peer
// blocks, so that a benchmark's client costs its system calls and nothing more. The
// caller closes peer.
func rawPair(t testing.TB) (fd, peer int) {
	t.Helper()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if peer, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(peer, addr); err != nil {
		t.Fatal(err)
	}
	if fd, _, err = unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, s := range []int{fd, peer} {
		if err := unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			t.Fatal(err)
		}
	}
	return fd, peer
}

// roundTrip writes out and reads back as much into in.
func roundTrip(t testing.TB, peer int, out, in []byte) {
	if _, err := unix.Write(peer, out); err != nil {
		t.Fatal(err)
	}
	for len(in) > 0 {
		n, err := unix.Read(peer, in)
		if err != nil && err != unix.EINTR || n == 0 {
			t.Fatalf("read %d, %v", n, err)
		}
		in = in[max(n, 0):]
	}
}

// BenchmarkEcho is one client on one loop, 64 bytes a message. The client's own
// system calls are in the figure: about as much as the server's.
func BenchmarkEcho(b *testing.B) {
	for _, deep := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d deep", deep), func(b *testing.B) {
			p := newPoller(b, Config{Loops: 1})
			e := &echo{size: 64}
			fd, peer := rawPair(b)
			defer unix.Close(peer)
			if err := p.Attach(&e.conn, fd, e, nil); err != nil {
				b.Fatal(err)
			}
			out, in := bytes.Repeat([]byte("x"), 64*deep), make([]byte, 64*deep)
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, peer, out, in)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*deep), "ns/message")
		})
	}
}

// sink reads and forgets; the benchmark waits for the count before its timer stops.
type sink struct {
	conn Conn
	read atomic.Int64
}

func (s *sink) OnConnected() {}
func (s *sink) OnData(b []byte) []byte {
	s.read.Add(int64(len(b)))
	return nil
}
func (s *sink) OnDrained()    {}
func (s *sink) OnEOF()        { s.conn.Close(nil) }
func (s *sink) OnClose(error) {}

// BenchmarkSend sends 130-byte messages to a peer on another loop, in each form, and
// counts only what is taken at once; plain is the bare system call.
func BenchmarkSend(b *testing.B) {
	shared := make([]byte, 130)
	four := [][]byte{shared, shared, shared, shared}
	forms := []struct {
		name  string
		bytes int
		send  func(c *Conn) error
	}{
		{"plain", 130, func(c *Conn) error {
			if _, errno := send(int(c.fd), shared); errno != 0 && errno != unix.EAGAIN {
				return errno
			}
			return nil
		}},
		{"Send", 130, func(c *Conn) error { return second(c.Send(shared, Out{Policy: DropNewest})) }},
		{"SendCopy", 130, func(c *Conn) error { return second(c.SendCopy(shared[:4], shared[4:], Out{Policy: DropNewest})) }},
		{"SendAll-4", 520, func(c *Conn) error { return second(c.SendAll(four, Out{Policy: DropNewest})) }},
	}
	for _, f := range forms {
		b.Run(f.name, func(b *testing.B) {
			p := newPoller(b, Config{Loops: 2})
			from, to := &sink{}, &sink{}
			fd, peer := rawPair(b)
			if err := unix.SetNonblock(peer, true); err != nil {
				b.Fatal(err)
			}
			if err := p.Attach(&from.conn, fd, from, nil); err != nil {
				b.Fatal(err)
			}
			if err := p.Attach(&to.conn, peer, to, nil); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(f.bytes))
			b.ReportAllocs()
			for b.Loop() {
				if err := f.send(&from.conn); err != nil {
					b.Fatal(err)
				}
			}
			from.conn.Finish()
			from.conn.Close(nil)
		})
	}
}

// BenchmarkQueue pushes into a full queue of a stalled peer, as a broadcast does.
func BenchmarkQueue(b *testing.B) {
	shared := make([]byte, 130)
	for name, o := range map[string]Out{
		"Reject": {}, "DropOldest": {Policy: DropOldest}, "DropNewest": {Policy: DropNewest}, "Latest": {Policy: Latest, Key: 1},
	} {
		b.Run(name, func(b *testing.B) {
			lim := Limits{}.orDefault()
			q := &queue{}
			for q.fits(len(shared), lim) {
				_, _ = q.push(shared, Out{}, lim)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = q.push(shared, o, lim)
			}
		})
	}
}

// BenchmarkAttach opens and ends a connection: two registrations, one hang-up, one
// goroutine of netpoll's.
func BenchmarkAttach(b *testing.B) {
	p := newPoller(b, Config{Loops: 1})
	b.ReportAllocs()
	for b.Loop() {
		pr, err := newProbe(p)
		if err != nil {
			b.Fatal(err)
		}
		if err := pr.close(); err != nil {
			b.Fatal(err)
		}
	}
}
