package poller

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A churned connection is one pair of marked ends. Every byte that the client sends is its mark,
// every byte that the server answers is the mark that it has read first: so either side
// sees at once when a byte is another connection's.

// markBytes makes n bytes that a mark fills: one byte is not enough to tell 10,000
// connections apart, so the mark's two bytes alternate, low one first.
func markBytes(mark uint16, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(mark >> (8 * (i & 1)))
	}
	return b
}

// wrongMark reports the first byte of b, the at-th of its stream, that is not the
// mark's.
func wrongMark(mark uint16, at int, b []byte) error {
	for i, c := range b {
		if want := byte(mark >> (8 * ((at + i) & 1))); c != want {
			return fmt.Errorf("byte %d is %#x, not %#x of mark %#x", at+i, c, want, mark)
		}
	}
	return nil
}

// churn is what all connections of the test share.
type churn struct {
	p      *Poller
	to     netip.AddrPort
	opened atomic.Int64
	closed atomic.Int64
	wrong  atomic.Int64
	first  atomic.Pointer[error]
	live   chan struct{} // one token for each client
	wg     sync.WaitGroup
	helper chan func() // what other goroutines do to connections
}

func (ch *churn) report(err error) {
	ch.wrong.Add(1)
	ch.first.CompareAndSwap(nil, &err)
}

// churnServer answers with its client's mark.
type churnServer struct {
	conn  Conn
	churn *churn
	rand  *rand.Rand // the events' alone

	// Owned by the goroutine of the events.
	known bool
	mark  uint16
	head  []byte
	read  int

	// Guarded by mu: the answers' order.
	mu   sync.Mutex
	sent int
}

func (s *churnServer) OnConnected() {}
func (s *churnServer) OnDrained()   {}
func (s *churnServer) OnEOF()       { s.conn.Finish(); s.conn.Close(nil) }
func (s *churnServer) OnClose(error) {
	s.churn.closed.Add(1)
}

func (s *churnServer) OnData(b []byte) (rest []byte) {
	if !s.known {
		if s.head = append(s.head, b...); len(s.head) < 2 {
			return nil
		}
		s.mark, s.known = uint16(s.head[0])|uint16(s.head[1])<<8, true
		b = s.head
	}
	if len(b) > 1 && s.rand.IntN(8) == 0 { // leave some, and have it again
		n := 1 + s.rand.IntN(len(b)-1)
		b, rest = b[:n], b[n:]
		s.conn.PauseReading()
		s.churn.helper <- s.conn.ResumeReading
	}
	if err := wrongMark(s.mark, s.read, b); err != nil {
		s.churn.report(fmt.Errorf("server: %w", err))
	}
	s.read += len(b)
	if s.rand.IntN(3) == 0 {
		s.conn.Cork()
	}
	s.answer(1 + s.rand.IntN(3000))
	switch s.rand.IntN(12) {
	case 0:
		s.conn.Close(nil)
	case 1:
		s.conn.Abort(nil)
	case 2:
		s.conn.PauseReading()
		s.churn.helper <- s.conn.ResumeReading
	case 3:
		s.churn.helper <- func() { s.conn.Close(nil) }
	case 4:
		s.churn.helper <- func() { s.conn.PauseReading(); s.conn.Abort(nil) }
	default:
		size := 1 + s.rand.IntN(20_000)
		s.churn.helper <- func() { s.answer(size) }
	}
	return rest
}

// answer sends n bytes of the mark; any goroutine.
func (s *churnServer) answer(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := markBytes(s.mark, s.sent+n)[s.sent:]
	if _, err := s.conn.Send(b, Out{}); err == nil {
		s.sent += n
	}
}

// churnClient sends its mark, reads some of it back, and goes in one of several ways.
type churnClient struct {
	conn  Conn
	churn *churn
	mark  uint16
	rand  *rand.Rand
	read  int
	sent  int
}

func (c *churnClient) OnDrained() {}
func (c *churnClient) OnEOF()     { c.conn.Close(nil) }
func (c *churnClient) OnClose(error) {
	<-c.churn.live
	c.churn.wg.Done()
}

func (c *churnClient) OnConnected() { c.say(2 + c.rand.IntN(500)) }

func (c *churnClient) say(n int) {
	if _, err := c.conn.Send(markBytes(c.mark, c.sent+n)[c.sent:], Out{}); err == nil {
		c.sent += n
	}
}

func (c *churnClient) OnData(b []byte) (rest []byte) {
	if len(b) > 1 && c.rand.IntN(8) == 0 { // leave some, and have it again
		n := 1 + c.rand.IntN(len(b)-1)
		b, rest = b[:n], b[n:]
		c.conn.PauseReading()
		c.churn.helper <- c.conn.ResumeReading
	}
	if err := wrongMark(c.mark, c.read, b); err != nil {
		c.churn.report(fmt.Errorf("client: %w", err))
	}
	c.read += len(b)
	switch c.rand.IntN(8) {
	case 0:
		c.conn.Close(nil)
	case 1:
		c.conn.Abort(nil) // a reset
	case 2:
		c.conn.Finish()
	case 3:
		c.churn.helper <- func() { c.conn.Close(nil) }
	case 4:
		c.say(1)
		c.conn.PauseReading()
		c.churn.helper <- c.conn.ResumeReading
	default: // each answer has its question, or both sides would fall silent
		c.say(1 + c.rand.IntN(2000))
	}
	return rest
}

// TestChurn opens and ends many connections in every way, while other goroutines
// send, close, reset and pause, and descriptor numbers are used again and again: no
// byte reaches another connection, and nothing is left in the end.
func TestChurn(t *testing.T) {
	total := 10_000
	if raceEnabled {
		total = 2_000
	}
	p := newPoller(t, Config{Loops: 2})
	ch := &churn{p: p, live: make(chan struct{}, 200), helper: make(chan func(), 1<<17)}
	a := serve(t, p, "127.0.0.1:0", SocketOptions{SendBuffer: 4096}, func(fd int, peer netip.AddrPort) {
		s := &churnServer{churn: ch, rand: rand.New(rand.NewPCG(uint64(peer.Port()), 1))}
		ch.opened.Add(1)
		if err := p.Attach(&s.conn, fd, s, nil); err != nil {
			t.Error(err)
		}
	})
	ch.to = netip.MustParseAddrPort(a.Addr())
	stop := make(chan struct{})
	var helpers sync.WaitGroup
	for range 3 {
		helpers.Go(func() {
			for {
				select {
				case f := <-ch.helper:
					f()
				case <-stop:
					return
				}
			}
		})
	}
	for i := range total {
		ch.live <- struct{}{}
		ch.wg.Add(1)
		mark := uint16(i)
		c := &churnClient{churn: ch, mark: mark, rand: rand.New(rand.NewPCG(uint64(i), 2))}
		o := DialOptions{Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%8)}), 0), ReceiveBuffer: 4096}
		if err := p.Dial(&c.conn, ch.to, c, o); err != nil {
			t.Fatal(err)
		}
		if i%64 == 0 && ch.wrong.Load() > 0 {
			break
		}
	}
	done := make(chan struct{})
	go func() { ch.wg.Wait(); close(done) }()
	await(t, done, "the clients to end")
	if !until(func() bool { return ch.closed.Load() == ch.opened.Load() && p.Stats().Conns == 0 }) {
		t.Errorf("%d of %d servers closed, %d connections", ch.closed.Load(), ch.opened.Load(), p.Stats().Conns)
	}
	close(stop)
	helpers.Wait()
	if n := ch.wrong.Load(); n > 0 {
		t.Errorf("%d reads with another's bytes; the first: %v", n, *ch.first.Load())
	}
	s := p.Stats()
	t.Logf("%d accepted, %d bytes read, %d sent", ch.opened.Load(), s.BytesRead, s.BytesSent)
	if int(ch.opened.Load()) < total/2 {
		t.Error("most connections never stood: the test has no point")
	}
}

// TestDescriptorReuse sends from another goroutine without a pause while a connection
// ends and its number becomes a stranger's: not one byte arrives there.
func TestDescriptorReuse(t *testing.T) {
	rounds := 1500
	if raceEnabled {
		rounds = 300
	}
	p := newPoller(t, Config{Loops: 1})
	for range rounds {
		e := &tape{}
		fd, peer := rawPair(t)
		if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for {
				if _, err := e.Send([]byte("mine"), Out{Policy: DropNewest}); err != nil {
					return
				}
			}
		}()
		go e.Close(nil)
		e.waitClosed(t)
		// The lowest free number is the one just closed, or the peer's.
		stranger, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		await(t, sent, "the sender")
		var b [16]byte
		for _, s := range stranger {
			if n, err := unix.Read(s, b[:]); !errors.Is(err, unix.EAGAIN) {
				t.Fatalf("a stranger read %q (%v)", b[:max(n, 0)], err)
			}
		}
		_ = unix.Close(stranger[0])
		_ = unix.Close(stranger[1])
		_ = unix.Close(peer)
	}
}
