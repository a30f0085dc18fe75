package poller

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// selfTest proves on each loop, with two socket pairs, what netpoll.go assumes: a
// registered connection is read, a paused one is not, a resumed one is read again,
// and a hang-up is reported. It takes well under a millisecond.
func (p *Poller) selfTest() error {
	for range p.loops {
		if err := p.selfTestNext(); err != nil {
			return err
		}
	}
	p.next.Store(0)
	for _, l := range p.loops {
		l.bytesRead.Store(0)
	}
	return nil
}

func (p *Poller) selfTestNext() error {
	turn := p.next.Load()
	a, err := newProbe(p)
	if err != nil {
		return err
	}
	p.next.Store(turn) // fence lives on the same loop
	fence, err := newProbe(p)
	if err != nil {
		return errors.Join(err, a.close())
	}
	err = a.echoPaused(fence)
	return errors.Join(err, a.close(), fence.close())
}

func (p *probe) echoPaused(fence *probe) error {
	steps := []func() error{
		func() error { return p.write("1") }, func() error { return p.expect("1") },
		p.pause, func() error { return p.write("2") },
		// The loop was there twice, so it would have read "2" by now.
		func() error { return fence.write("f") }, func() error { return fence.expect("f") },
		func() error { return fence.write("g") }, func() error { return fence.expect("g") },
		p.expectNothing,
		p.resume, func() error { return p.expect("2") },
	}
	for _, step := range steps { // the first fault ends it: each wait is long
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// probe is one end of a socket pair on a loop, and our hand on the other end.
type probe struct {
	conn   Conn
	peer   int
	data   chan string
	closed chan struct{}
}

func newProbe(p *Poller) (*probe, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, &OpError{Op: "socketpair", Err: err}
	}
	pr := &probe{peer: fds[1], data: make(chan string, 4), closed: make(chan struct{})}
	if err := p.Attach(&pr.conn, fds[0], pr, nil); err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	return pr, nil
}

// OnData implements Events; what does not fit is the test's to miss.
func (p *probe) OnData(b []byte) []byte {
	select {
	case p.data <- string(b):
	default:
	}
	return nil
}

// OnConnected implements Events.
func (p *probe) OnConnected() {}

// OnEOF implements Events.
func (p *probe) OnEOF() { p.conn.Close(nil) }

// OnDrained implements Events.
func (p *probe) OnDrained() {}

// OnClose implements Events.
func (p *probe) OnClose(error) { close(p.closed) }

func (p *probe) write(s string) error {
	_, err := unix.Write(p.peer, []byte(s))
	return err
}

func (p *probe) pause() error  { p.conn.PauseReading(); return nil }
func (p *probe) resume() error { p.conn.ResumeReading(); return nil }

// probeTimeout is generous: it is only waited for when netpoll has changed.
const probeTimeout = 5 * time.Second

func (p *probe) expect(want string) error {
	select {
	case got := <-p.data:
		if got != want {
			return fmt.Errorf("read %q, want %q", got, want)
		}
		return nil
	case <-time.After(probeTimeout):
		return fmt.Errorf("no read event for %q", want)
	}
}

func (p *probe) expectNothing() error {
	select {
	case got := <-p.data:
		return fmt.Errorf("read %q while reading was paused", got)
	default:
		return nil
	}
}

// close hangs up and waits for the hang-up to arrive.
func (p *probe) close() error {
	_ = unix.Close(p.peer)
	select {
	case <-p.closed:
		return nil
	case <-time.After(probeTimeout):
		return errors.New("no event for a hang-up")
	}
}
