package session

import (
	"net/netip"
	"sync"
)

// addresses counts the sessions of each client address, for Config.MaxPerAddress. The networks of IPv6 are given to
// customers in sizes of /64 and more, so that is what counts as an address there.
type addresses struct {
	// Immutable.
	limit int

	// Guarded by mu.
	mu    sync.Mutex
	count map[netip.Prefix]int
	of    map[uint64]netip.Prefix // by session
}

func newAddresses(limit int) *addresses {
	if limit == 0 {
		return nil
	}
	return &addresses{limit: limit, count: map[netip.Prefix]int{}, of: map[uint64]netip.Prefix{}}
}

// take counts the session with this id, or reports that its address has all it may have. The clients of a unix
// socket, whose address nobody tells, are not counted. a may be nil: no limit.
func (a *addresses) take(id uint64, addr netip.Addr) bool {
	if a == nil || !addr.IsValid() {
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
	if a.count[prefix] >= a.limit {
		return false
	}
	a.count[prefix]++
	a.of[id] = prefix
	return true
}

// give undoes take, if there was one.
func (a *addresses) give(id uint64) {
	if a == nil {
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
	if a == nil {
		return 0, 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.count), len(a.of)
}
