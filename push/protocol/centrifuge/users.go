package centrifuge

import (
	"hash/maphash"
	"sync"
)

// users finds a user's clients. Anonymous ones are not in it.
type users[F comparable] struct {
	// Immutable after init.
	seed maphash.Seed

	// Guarded by mu. By the hash of the user, for that takes half of the memory; users that share one are told apart by their names.
	mu    sync.Mutex
	first map[uint64]*Client[F]
}

func (u *users[F]) init() {
	u.seed = maphash.MakeSeed()
	u.first = make(map[uint64]*Client[F])
}

// add adds c, unless its user has limit clients already. Zero is no limit.
func (u *users[F]) add(c *Client[F], limit int) bool {
	if c.user == "" {
		return true
	}
	hash := maphash.String(u.seed, c.user)
	u.mu.Lock()
	defer u.mu.Unlock()
	if limit > 0 && len(u.ofLocked(hash, c.user)) >= limit {
		return false
	}
	c.sibling = u.first[hash]
	u.first[hash] = c
	return true
}

// remove does nothing to a client that was not added.
func (u *users[F]) remove(c *Client[F]) {
	if c.user == "" {
		return
	}
	hash := maphash.String(u.seed, c.user)
	u.mu.Lock()
	defer u.mu.Unlock()
	var before *Client[F]
	for at := u.first[hash]; at != nil; before, at = at, at.sibling {
		switch {
		case at != c:
			continue
		case before != nil:
			before.sibling = c.sibling
		case c.sibling != nil:
			u.first[hash] = c.sibling
		default:
			delete(u.first, hash)
		}
		c.sibling = nil
		return
	}
}

// of returns a user's clients.
func (u *users[F]) of(user string) []*Client[F] {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ofLocked(maphash.String(u.seed, user), user)
}

func (u *users[F]) ofLocked(hash uint64, user string) (clients []*Client[F]) {
	for c := u.first[hash]; c != nil; c = c.sibling {
		if c.user == user {
			clients = append(clients, c)
		}
	}
	return clients
}

func (u *users[F]) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.first)
}
