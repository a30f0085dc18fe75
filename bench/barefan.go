package bench

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/millpond/millpond/codec"
)

// This file is the yardstick of broadcast: what one connection sends goes to all others, by a plain send for each. It
// knows no channels, and queues nothing for anybody.

// ServeBareFan is ServeBare for that.
func ServeBareFan(ctx context.Context, out io.Writer) error { return serveBare(ctx, out, &fan{}) }

// fan is what the loops of such a server share.
type fan struct {
	// Immutable after serveBare has made them.
	loops []*bareLoop

	// Any goroutine (atomic).
	stopping atomic.Bool
}

// fanned is a loop's part.
type fanned struct {
	// Owned by the loop goroutine.
	members []int32 // who is upgraded

	// Guarded by mu.
	mu     sync.Mutex
	frames []fanFrame // not sent yet
}

// fanFrame is one message for all but the connection that sent it.
type fanFrame struct {
	b    []byte
	from int32
	loop *bareLoop
}

// post hands the frames in b to all loops.
func (f *fan) post(b []byte, from int32, loop *bareLoop) {
	b = slices.Clone(b)
	for len(b) > 0 {
		h, n, _ := codec.ParseHeader(b) // our own: it is right
		whole := n + int(h.Length)
		for _, l := range f.loops {
			l.fanned.mu.Lock()
			l.fanned.frames = append(l.fanned.frames, fanFrame{b[:whole], from, loop})
			l.fanned.mu.Unlock()
		}
		b = b[whole:]
	}
	for _, l := range f.loops {
		l.rouse()
	}
}

// spread sends what waits to the loop's connections.
func (l *bareLoop) spread() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	l.fanned.mu.Lock()
	frames := l.fanned.frames
	l.fanned.frames = nil
	l.fanned.mu.Unlock()
	for _, f := range frames {
		for _, fd := range l.fanned.members {
			if fd != f.from || l != f.loop {
				sendWhole(fd, f.b)
			}
		}
		runtime.Gosched()
	}
}

// sendWhole waits where the kernel has no room, which the load sees to that it always has.
func sendWhole(fd int32, b []byte) {
	for len(b) > 0 {
		n, errno := send(fd, b)
		switch errno {
		case 0:
			b = b[n:]
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}, 1000)
		default:
			return // gone
		}
	}
}
