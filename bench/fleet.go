package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fleet is the connections of a part.
type fleet struct {
	// Immutable after newFleet.
	part    *part
	sources []netip.Addr  // empty: the kernel chooses
	perOne  int           // connections from one of them
	opening *latency      // set by the job that has members
	open    *atomic.Int64 // that are ready

	// Owned by the goroutine that opens.
	members []*speaker
	settled chan struct{} // once for each member that is opened: it is ready, or it failed

	// Any goroutine (atomic).
	stopping atomic.Bool

	// Guarded by mu.
	mu      sync.Mutex
	waiting map[*speaker]time.Duration // those on their way, by when they were begun
}

var errTimeout = errors.New("no answer in time to the opening handshake, or to the first message")

// countOpen is how many members are ready, now.
const countOpen = "open"

// connecting is the latency from the time at which a connection was due until it was ready.
const connecting = "connect"

func newFleet(p *part) (*fleet, error) {
	f := &fleet{
		part: p, open: p.counter(countOpen), waiting: map[*speaker]time.Duration{}, perOne: localPorts(),
	}
	target := p.dialect.target.Addr()
	for _, a := range p.Options.Sources {
		if a.Is4() != target.Is4() {
			return nil, fmt.Errorf("--source %v: the server's address is %v", a, target)
		}
	}
	f.sources = p.Options.Sources
	switch last := (p.First + p.Connections - 1) / f.perOne; {
	case len(f.sources) > 0 && last >= len(f.sources):
		return nil, fmt.Errorf("--source: %d addresses have ports for %d connections: give more", len(f.sources), len(f.sources)*f.perOne)
	case len(f.sources) > 0 || last == 0:
	case target.Is4() && target.IsLoopback():
		for k := range last + 1 {
			f.sources = append(f.sources, netip.AddrFrom4([4]byte{127, 0, byte((k + 1) >> 8), byte(k + 1)}))
		}
	default:
		return nil, fmt.Errorf("one address has ports for %d connections to %v: give more with --source", f.perOne, p.dialect.target)
	}
	return f, nil
}

// localPorts is how many connections one source address opens to one target: half of the kernel's local ports.
// connect(2) tries the even ones first, one after the other: beyond half of the range it takes ten times as long.
func localPorts() int {
	const usual = 14_000
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var low, high int
	if _, err := fmt.Sscan(string(b), &low, &high); err != nil || high <= low {
		return usual
	}
	return max((high-low)/2, 1)
}

// source returns where connection n connects from.
func (f *fleet) source(n int) netip.AddrPort {
	if len(f.sources) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(f.sources[n/f.perOne], 0)
}

// maxDialing is how many connections may be on their way at once: a listen backlog holds more.
const maxDialing = 256

// grow opens connections until there are n, and returns when each is ready or has failed. one makes one and returns it
// with who listens to it. rate is how many are begun in a second, 0 for as many as window, which may be on their way at
// once; dialed is called when all are begun, and may be nil.
func (f *fleet) grow(ctx context.Context, n int, rate float64, window int, one func(number int) (*speaker, listener), dialed func()) error {
	begin, first := time.Since(began), len(f.members)
	f.settled = newSettled(n - first)
	f.members = slices.Grow(f.members, max(n-first, 0))
	done := 0
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	sweep := time.NewTicker(100 * time.Millisecond)
	defer sweep.Stop()
	for done < n-first {
		for len(f.members) < n && len(f.members)-first-done < window && ctx.Err() == nil {
			due := time.Since(began)
			if rate > 0 {
				at := begin + time.Duration(float64(len(f.members)-first)/rate*float64(time.Second))
				if at > due {
					break
				}
				due = at
			}
			f.dial(due, one)
			if len(f.members) == n && dialed != nil {
				dialed()
			}
		}
		tick := ticker.C
		if rate == 0 || len(f.members) == n {
			tick = nil
		}
		select {
		case <-f.settled:
			done++
		case <-tick:
		case <-sweep.C:
			f.giveUp()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func newSettled(n int) chan struct{} { return make(chan struct{}, max(n, 0)) }

// dial begins one that was due.
func (f *fleet) dial(due time.Duration, one func(number int) (*speaker, listener)) {
	number := f.part.First + len(f.members)
	s, l := one(number)
	s.number, s.due = int32(number), due
	f.members = append(f.members, s)
	f.mu.Lock()
	f.waiting[s] = time.Since(began)
	f.mu.Unlock()
	if err := s.dial(f.part.dialect, l, f.source(number)); err != nil {
		f.fail(s, err)
	}
}

// giveUp closes those that wait too long.
func (f *fleet) giveUp() {
	late := time.Since(began) - f.part.Options.timeout()
	f.mu.Lock()
	var out []*speaker
	for s, since := range f.waiting {
		if since < late && s.dialed {
			out = append(out, s)
		}
	}
	f.mu.Unlock()
	for _, s := range out {
		s.conn.Close(errTimeout)
	}
}

// opened notes that a member is ready: its listener says when, and then or later, when it has all that grow waits for,
// calls settle. The loop goroutine.
func (f *fleet) opened(s *speaker) {
	s.counted = true
	f.open.Add(1)
	f.opening.record(s.conn.Loop(), s.due)
}

// left notes that a member is closed: a cause that is not nil is a failure. Its listener calls it once.
func (f *fleet) left(s *speaker, cause error) {
	if s.counted {
		s.counted = false
		f.open.Add(-1)
	}
	f.fail(s, cause)
}

// fail counts why a member failed, unless err is nil or all are to leave.
func (f *fleet) fail(s *speaker, err error) {
	if err != nil && !f.stopping.Load() {
		f.part.faults.add(err)
	}
	f.settle(s)
}

// settle tells grow of a member, once.
func (f *fleet) settle(s *speaker) {
	f.mu.Lock()
	_, ok := f.waiting[s]
	delete(f.waiting, s)
	f.mu.Unlock()
	if ok {
		f.settled <- struct{}{}
	}
}

// close ends the connections and waits until they are closed.
func (f *fleet) close() {
	f.stopping.Store(true)
	for _, s := range f.members {
		if s.dialed {
			s.conn.Close(nil)
		}
	}
	awaitNone(f.part.dialect.wired.Load)
	f.members = f.members[:0]
	f.stopping.Store(false)
}
