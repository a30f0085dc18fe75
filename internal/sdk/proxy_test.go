package sdk

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy carries TCP connections to a server. It is the network that breaks.
type proxy struct {
	// Immutable after newProxy.
	listener net.Listener

	running sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	backend string // the server's address; empty refuses everybody
	refuse  bool   // whoever comes
	stalled chan struct{}
	links   map[*link]struct{}

	// Any goroutine (atomic).
	sent atomic.Int64 // bytes that the server sent
}

// link is one client's connection and the one to the server that goes with it.
type link struct {
	client, server *net.TCPConn
	left           atomic.Int64 // how many more bytes the client gets before it is cut off
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	return p
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.setRefuse(true)
	p.setStalled(false)
	p.cut(true)
	p.running.Wait()
}

func (p *proxy) setBackend(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backend = address
}

func (p *proxy) setRefuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// setStalled has nothing arrive any more, in neither direction; nobody is told.
func (p *proxy) setStalled(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.stalled == nil:
		p.stalled = make(chan struct{})
	case !on && p.stalled != nil:
		close(p.stalled)
		p.stalled = nil
	}
}

// cut ends all connections, by a reset or as if both sides had closed them.
func (p *proxy) cut(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close(reset)
	}
}

// cutAfter ends each connection when its client has had so many bytes more, in the middle of a message or not.
func (p *proxy) cutAfter(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.left.Store(bytes)
	}
}

func (l *link) close(reset bool) {
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if l := p.connect(client.(*net.TCPConn)); l != nil {
			p.running.Go(func() { p.carry(l, true) })
			p.running.Go(func() { p.carry(l, false) })
		}
	}
}

func (p *proxy) connect(client *net.TCPConn) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &link{client: client}
	l.left.Store(1 << 60)
	if !p.refuse && p.backend != "" {
		if server, err := net.Dial("tcp", p.backend); err == nil {
			l.server = server.(*net.TCPConn)
			p.links[l] = struct{}{}
			return l
		}
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	return nil
}

// carry carries one direction, until it is at its end.
func (p *proxy) carry(l *link, down bool) {
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
		l.close(false)
	}()
	from, to := l.client, l.server
	if down {
		from, to = to, from
	}
	for b := make([]byte, 16<<10); ; {
		n, err := from.Read(b)
		p.mu.Lock()
		stalled := p.stalled
		p.mu.Unlock()
		if stalled != nil {
			<-stalled
		}
		if down {
			p.sent.Add(int64(n))
			left := l.left.Add(-int64(n))
			if left < 0 {
				n, err = max(0, n+int(left)), io.EOF
			}
		}
		if _, failed := to.Write(b[:n]); failed != nil || err != nil {
			return
		}
	}
}
