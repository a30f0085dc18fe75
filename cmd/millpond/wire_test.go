package main

import (
	"net"
	"sync"
	"testing"
	"time"
)

// wire is a way to a server that a test can cut, silence, or slow down: what is between two hosts.
type wire struct {
	address  string // where it listens
	to       string
	listener net.Listener
	running  sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	changed *sync.Cond
	way     way
	closed  bool
	conns   map[net.Conn]bool
}

// way is what a wire does to what is sent.
type way struct {
	cut    bool          // connections are closed, and none are made
	silent bool          // nothing arrives, and nobody is told; what was sent comes when this is over, as with TCP
	mute   bool          // what the server says does not arrive, as with silent
	delay  time.Duration // of each piece of up to pieceBytes, one after the other: it bounds the rate, too
}

const pieceBytes = 16 << 10

// newWire listens on a port of 127.0.0.1 and carries what comes to a server, which may come later.
func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]bool{}}
	w.changed = sync.NewCond(&w.mu)
	w.running.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.set(way{cut: true})
		w.running.Wait()
	})
	return w
}

// set changes what the wire does, also to the connections that there are.
func (w *wire) set(now way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.way = now
	if now.cut {
		for c := range w.conns {
			_ = c.Close()
		}
	}
	w.changed.Broadcast()
}

func (w *wire) accept() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.running.Go(func() { w.carry(in) })
	}
}

// carry carries a connection until one side ends it.
func (w *wire) carry(in net.Conn) {
	defer w.forget(in)
	if !w.admit(in) {
		return
	}
	out, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer w.forget(out)
	if !w.admit(out) {
		return
	}
	var both sync.WaitGroup
	for i, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			w.copy(pair[0], pair[1], i == 1)
			_ = in.Close()
			_ = out.Close()
		})
	}
	both.Wait()
}

// admit notes a connection, when the wire is not silent any more, and reports whether it may be.
func (w *wire) admit(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaitVoiceLocked(false)
	if w.way.cut {
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) awaitVoiceLocked(server bool) {
	for (w.way.silent || w.way.mute && server) && !w.way.cut {
		w.changed.Wait()
	}
}

func (w *wire) forget(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *wire) copy(from, to net.Conn, server bool) {
	piece := make([]byte, pieceBytes)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			w.mu.Lock()
			w.awaitVoiceLocked(server)
			delay := w.way.delay
			w.mu.Unlock()
			time.Sleep(delay) // the slowness of the wire is what is tested
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
