package session

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// addresses counts the sessions of each client address, for Config.MaxPerAddress. The networks of IPv6 are given to
// customers in sizes of /64 and more, so that is what counts as an address there.
type addresses struct {
	// Any goroutine (atomic).
	limit atomic.Int64 // 0 is none
	used  atomic.Bool  // there is a limit, or was one

	// Guarded by mu.
	mu    sync.Mutex
	count map[netip.Prefix]int
	of    map[uint64]netip.Prefix // by session
}

func newAddresses(limit int) *addresses {
	a := &addresses{count: map[netip.Prefix]int{}, of: map[uint64]netip.Prefix{}}
	a.bound(limit)
	return a
}

// bound sets the limit.
func (a *addresses) bound(limit int) {
	if limit > 0 {
		a.used.Store(true)
	}
	a.limit.Store(int64(max(limit, 0)))
}

// take counts the session with this id, or reports that its address has all it may have. The clients of a unix
// socket, whose address nobody tells, are not counted, and nobody is without a limit.
func (a *addresses) take(id uint64, addr netip.Addr) bool {
	limit := a.limit.Load()
	if limit == 0 || !addr.IsValid() {
		return true
	}
	bits := 32
	if addr = addr.Unmap(); addr.Is6() {
		bits = 64
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return true // an address is as long as its family's prefixes allow
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if int64(a.count[prefix]) >= limit {
		return false
	}
	a.count[prefix]++
	a.of[id] = prefix
	return true
}

// give undoes take, if there was one.
func (a *addresses) give(id uint64) {
	if !a.used.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	prefix, ok := a.of[id]
	if !ok {
		return
	}
	delete(a.of, id)
	if a.count[prefix]--; a.count[prefix] == 0 {
		delete(a.count, prefix)
	}
}

// len returns how many addresses there are, and how many sessions they have.
func (a *addresses) len() (addresses, sessions int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.count), len(a.of)
}
