package poller

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readFull reads len(want) bytes and compares.
func readFull(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("read %d of %d bytes: %v", n, len(want), err)
	}
	if string(got) != want {
		if len(want) < 100 {
			t.Fatalf("read %q, want %q", got, want)
		}
		at := 0
		for got[at] == want[at] {
			at++
		}
		t.Fatalf("read other bytes from %d of %d on", at, len(want))
	}
}

// TestSendForms sends through each entry, with bodies below and above each
// border, to a socket that takes everything.
func TestSendForms(t *testing.T) {
	sizes := []int{1, 2, 14, smallSend - 14, smallSend - 1, smallSend, smallSend + 1, 4096, 70_000}
	b := randomBytes(1, 70_000)
	type form struct {
		name string
		send func(e *tape, n int) error
	}
	forms := []form{
		{"Send", func(e *tape, n int) error { _, err := e.Send(b[:n], Out{}); return err }},
		{"SendCopy/body", func(e *tape, n int) error { _, err := e.SendCopy(nil, b[:n], Out{}); return err }},
		{"SendCopy/head", func(e *tape, n int) error { _, err := e.SendCopy(b[:n], nil, Out{}); return err }},
		{"SendCopy/both", func(e *tape, n int) error { _, err := e.SendCopy(b[:n/2], b[n/2:n], Out{}); return err }},
		{"SendAll/1", func(e *tape, n int) error { _, err := e.SendAll([][]byte{b[:n]}, Out{}); return err }},
		{"SendAll/bytes", func(e *tape, n int) error {
			var bs [][]byte
			for i := range min(n, 3*maxVec+1) {
				bs = append(bs, b[i:i+1])
			}
			if n > len(bs) {
				bs = append(bs, b[len(bs):n])
			}
			_, err := e.SendAll(bs, Out{})
			return err
		}},
		{"SendLast", func(e *tape, n int) error { return e.SendLast(b[:n], false) }},
	}
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 1 << 20}})
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			for _, n := range sizes {
				e := &tape{}
				peer := attach(t, p, "tcp", e)
				before := p.Stats().BytesSent
				if err := f.send(e, n); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				readFull(t, peer, string(b[:n]))
				if got := p.Stats().BytesSent - before; got != int64(n) {
					t.Errorf("%d bytes: Stats count %d", n, got)
				}
				peer.Close()
			}
		})
	}
}

// TestSendAllEmpty sends no buffer at all.
func TestSendAllEmpty(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	attach(t, p, "tcp", e)
	if dropped, err := e.SendAll(nil, Out{}); dropped != 0 || err != nil {
		t.Errorf("dropped %d, %v", dropped, err)
	}
}

// stalled attaches a connection whose peer does not read, with buffers as small as the
// kernel allows, and returns it with the peer.
func stalled(t testing.TB, p *Poller, e *tape) net.Conn {
	t.Helper()
	fd, peer := tcpPair(t, 4096, 4096)
	if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	return peer
}

// fill sends until the kernel has taken all it will and something waits; it returns
// what was sent.
func fill(t testing.TB, e *tape) string {
	t.Helper()
	var sent strings.Builder
	for i := uint64(0); ; i++ {
		b := randomBytes(i, 5000)
		if _, err := e.Send(b, Out{Pinned: true}); err != nil {
			t.Fatal(err)
		}
		sent.Write(b)
		if _, buffers, _ := e.Waiting(); buffers > 1 {
			return sent.String()
		}
	}
}

// TestSendFormsStalled sends through each entry while the queue is empty and
// the kernel has room for a part, and again while something waits: no byte is lost,
// doubled or moved.
func TestSendFormsStalled(t *testing.T) {
	b := randomBytes(7, 300_000)
	forms := map[string]func(e *tape) error{
		"Send":     func(e *tape) error { _, err := e.Send(b, Out{}); return err },
		"SendCopy": func(e *tape) error { _, err := e.SendCopy(b[:100_000], b[100_000:], Out{}); return err },
		"SendCopy/body": func(e *tape) error {
			_, err := e.SendCopy(b[:3], b[3:], Out{})
			return err
		},
		"SendAll": func(e *tape) error {
			var bs [][]byte
			for rest := b; len(rest) > 0; {
				n := min(len(rest), 1777)
				bs, rest = append(bs, rest[:n]), rest[n:]
			}
			_, err := e.SendAll(bs, Out{})
			return err
		},
		"SendLast": func(e *tape) error { return e.SendLast(b, false) },
	}
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 1 << 20}})
	for name, send := range forms {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/queued=%v", name, queued), func(t *testing.T) {
				e := &tape{}
				peer := stalled(t, p, e)
				want := ""
				if queued {
					want = fill(t, e)
				}
				if err := send(e); err != nil {
					t.Fatal(err)
				}
				if bytes, _, _ := e.Waiting(); bytes == 0 {
					t.Fatal("nothing waits: the test has no point")
				}
				want += string(b)
				if !e.NotifyDrained() {
					t.Fatal("NotifyDrained: nothing waits")
				}
				readFull(t, peer, want)
				e.wait(t, "OnDrained", func() bool { return e.drains == 1 })
				if e.NotifyDrained() {
					t.Error("NotifyDrained on an empty queue asks for an event")
				}
				wantDisarmed(t, e)
			})
		}
	}
}

// wantDisarmed checks that nothing waits and that epoll no longer reports writability.
func wantDisarmed(t testing.TB, e *tape) {
	t.Helper()
	if bytes, buffers, age := e.Waiting(); bytes != 0 || buffers != 0 || age != 0 {
		t.Errorf("%d bytes in %d buffers wait, %v old", bytes, buffers, age)
	}
	e.mu.Lock()
	interest := e.interest
	e.mu.Unlock()
	if interest&unix.EPOLLOUT != 0 {
		t.Error("EPOLLOUT is still armed")
	}
	wantIdle(t)
}

// TestSendBorrowed changes what SendCopy and SendLast borrowed as soon as they
// return.
func TestSendBorrowed(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := stalled(t, p, e)
	head, body := []byte("head"), randomBytes(3, 200_000)
	want := string(head) + string(body)
	if _, err := e.SendCopy(head, body, Out{}); err != nil {
		t.Fatal(err)
	}
	clear(head)
	clear(body)
	last := []byte("last")
	if err := e.SendLast(last, false); err != nil {
		t.Fatal(err)
	}
	clear(last)
	readFull(t, peer, want+"last")
}

// TestSendLast refuses everything after it, drops what waits when told so, and never
// what has left in part.
func TestSendLast(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprintf("drop=%v", drop), func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1})
			e := &tape{}
			peer := stalled(t, p, e)
			sent := fill(t, e)
			if err := e.SendLast([]byte("bye"), drop); err != nil {
				t.Fatal(err)
			}
			for name, err := range map[string]error{
				"Send":     second(e.Send([]byte("x"), Out{})),
				"SendAll":  second(e.SendAll([][]byte{[]byte("x")}, Out{})),
				"SendCopy": second(e.SendCopy([]byte("x"), nil, Out{})),
				"SendLast": e.SendLast([]byte("x"), false),
			} {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("%s after SendLast: %v, want ErrClosed", name, err)
				}
			}
			e.Finish()
			got, err := io.ReadAll(peer)
			if err != nil {
				t.Fatal(err)
			}
			body, ok := strings.CutSuffix(string(got), "bye")
			if !ok {
				t.Fatal("the last message did not arrive last")
			}
			switch {
			case !drop && body != sent:
				t.Errorf("%d bytes before it, want all %d", len(body), len(sent))
			case drop && (!strings.HasPrefix(sent, body) || len(body) == len(sent) || len(body)%5000 != 0):
				t.Errorf("%d of %d bytes before it, want whole buffers only, and not all", len(body), len(sent))
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// frame is a message that carries its origin: goroutine, number, length, then
// bytes that these determine.
func frame(writer, number uint32, size int) []byte {
	b := make([]byte, 12, 12+size)
	binary.BigEndian.PutUint32(b, writer)
	binary.BigEndian.PutUint32(b[4:], number)
	binary.BigEndian.PutUint32(b[8:], uint32(size))
	for i := range size {
		b = append(b, byte(writer*31+number*7+uint32(i)))
	}
	return b
}

// readFrame reads one frame and checks that its bytes are its own.
func readFrame(r io.Reader) (writer, number uint32, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	w, n, size := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if size > 1<<20 {
		return 0, 0, fmt.Errorf("no header: % x", head)
	}
	got := make([]byte, size)
	if _, err := io.ReadFull(r, got); err != nil {
		return 0, 0, fmt.Errorf("writer %d, message %d: %w", w, n, err)
	}
	if want := frame(w, n, int(size)); !bytes.Equal(got, want[12:]) {
		return 0, 0, fmt.Errorf("writer %d, message %d: other bytes", w, n)
	}
	return w, n, nil
}

// readFrames gives the number of each frame of writer 0 to f until the end.
func readFrames(r io.Reader, f func(number uint32) error) error {
	for {
		w, n, err := readFrame(r)
		if err == io.EOF {
			return nil
		}
		if err != nil || w != 0 {
			return errors.Join(err, fmt.Errorf("writer %d", w))
		}
		if err := f(n); err != nil {
			return err
		}
	}
}

// checkFrames reads frames until the end, checks that each writer's come in order,
// and counts them.
func checkFrames(r io.Reader, writers int) ([]uint32, error) {
	counts := make([]uint32, writers)
	for {
		w, n, err := readFrame(r)
		if err == io.EOF {
			return counts, nil
		}
		if err != nil {
			return counts, err
		}
		if int(w) >= writers || n != counts[w] {
			return counts, fmt.Errorf("writer %d: message %d, want %d", w, n, counts[min(int(w), writers-1)])
		}
		counts[w]++
	}
}

// TestSendConcurrently lets several goroutines send 4 MB of random frames, in every
// form, to a slow reader behind the smallest buffers, some of it corked by the loop
// meanwhile.
func TestSendConcurrently(t *testing.T) {
	const writers = 5 // the last is the loop, inside OnData
	limits := Limits{Bytes: 64 << 10, Buffers: 50}
	p := newPoller(t, Config{Loops: 1, Limits: limits})
	e := &tape{discard: true}
	var loopNumber uint32
	e.onData = func(b []byte) {
		e.Cork()
		for range b {
			if _, err := e.SendCopy(frame(writers-1, loopNumber, int(loopNumber*37%900)), nil, Out{Pinned: true}); err != nil {
				t.Error(err)
			}
			loopNumber++
		}
	}
	peer := stalled(t, p, e)

	var wg sync.WaitGroup
	var sent [writers]uint32
	for w := range uint32(writers - 1) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			total := 0
			for n := uint32(0); total < 1<<20; {
				count := 1
				if w == 2 {
					count = 1 + r.IntN(6)
				}
				var bs [][]byte
				for i := range uint32(count) {
					bs = append(bs, frame(w, n+i, r.IntN(4000)))
				}
				var err error
				switch w {
				case 0:
					_, err = e.Send(bs[0], Out{})
				case 1:
					k := r.IntN(len(bs[0]) + 1)
					_, err = e.SendCopy(bs[0][:k], bs[0][k:], Out{})
				case 2:
					_, err = e.SendAll(bs, Out{Pinned: true})
				default:
					_, err = e.Send(bs[0], Out{Policy: Latest})
				}
				if errors.Is(err, ErrQueueFull) {
					waitRoom(e)
					continue
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				if bytes, _, _ := e.Waiting(); w == 2 && bytes > limits.Bytes {
					waitRoom(e)
				}
				for _, b := range bs {
					total += len(b)
				}
				n += uint32(count)
				sent[w] = n
			}
		})
	}
	wg.Go(func() {
		for range 300 {
			if _, err := peer.Write([]byte("many")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		wg.Wait()
		until(func() bool { _, total := e.counts(); return total == 4*300 })
		e.Finish()
	}()
	got, err := checkFrames(slowReader{peer}, writers)
	if err != nil {
		t.Fatal(err)
	}
	<-finished
	sent[writers-1] = 4 * 300
	for w, n := range got {
		if n != sent[w] {
			t.Errorf("writer %d: %d messages arrived, %d sent", w, n, sent[w])
		}
	}
	wantDisarmed(t, e)
}

// waitRoom lets the others run until less than half a queue waits.
func waitRoom(e *tape) {
	until(func() bool { _, buffers, _ := e.Waiting(); return buffers < 25 })
}

// slowReader reads little at a time.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(b []byte) (int, error) { return s.r.Read(b[:min(len(b), 1000)]) }

// TestQueueBounds sends until the queue refuses: it holds no more than its bounds say.
func TestQueueBounds(t *testing.T) {
	for _, lim := range []Limits{{Bytes: 10_000, Buffers: 1000}, {Bytes: 1 << 20, Buffers: 7}} {
		p := newPoller(t, Config{Loops: 1, Limits: lim})
		e := &tape{}
		peer := stalled(t, p, e)
		var sent strings.Builder
		var err error
		for i := uint64(0); err == nil; i++ {
			b := randomBytes(i, 1000)
			if _, err = e.Send(b, Out{}); err == nil {
				sent.Write(b)
			}
			if bytes, buffers, _ := e.Waiting(); bytes > lim.Bytes || buffers > lim.Buffers {
				t.Fatalf("%d bytes in %d buffers wait, limits %+v", bytes, buffers, lim)
			}
		}
		if !errors.Is(err, ErrQueueFull) {
			t.Fatalf("%v, want ErrQueueFull", err)
		}
		e.Finish()
		readFull(t, peer, sent.String())
	}
}

// TestWaitingAge checks that the age is the oldest buffer's.
func TestWaitingAge(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	stalled(t, p, e)
	fill(t, e)
	_, _, before := e.Waiting()
	if !until(func() bool { _, _, age := e.Waiting(); return age > before+5*time.Millisecond }) {
		t.Error("the age does not grow")
	}
	if _, err := e.Send([]byte("younger"), Out{Pinned: true}); err != nil {
		t.Fatal(err)
	}
	if _, _, age := e.Waiting(); age < 5*time.Millisecond {
		t.Errorf("age %v after a younger buffer", age)
	}
}

// TestSendToReset sends to a peer that is gone: an error with the errno, and the
// connection ends with it.
func TestSendToReset(t *testing.T) {
	p := newPoller(t, Config{Loops: 1})
	e := &tape{}
	peer := attach(t, p, "unix", e)
	e.PauseReading()
	peer.Close()
	var op *OpError
	if _, err := e.Send([]byte("x"), Out{}); !errors.As(err, &op) || op.Op != "send" || !errors.Is(err, unix.EPIPE) {
		t.Fatalf("Send: %v, want an OpError with EPIPE", err)
	}
	if _, err := e.Send([]byte("x"), Out{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Send again: %v, want ErrClosed", err)
	}
	if cause := e.waitClosed(t); !errors.Is(cause, unix.EPIPE) {
		t.Errorf("cause %v", cause)
	}
}
