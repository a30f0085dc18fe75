package roster

import (
	"hash/maphash"
	"sync"
)

// Tokens finds clients by the ids of the tokens that they showed. Clients whose tokens have none are not in it. Its
// zero value cannot be used. The methods may be called by any goroutine.
type Tokens[C comparable] struct {
	// Immutable after NewTokens.
	seed maphash.Seed

	// Guarded by mu.
	mu    sync.Mutex
	first map[uint64]*Holder[C] // by the hash of the id: that two of a million share one is less likely than 1 in 10^7
}

// Holder is a client with a token.
type Holder[C comparable] struct {
	// Immutable after Add.
	hash   uint64
	client C

	// Guarded by Tokens.mu.
	next, previous *Holder[C] // of the same token; previous is the holder itself once it is removed
}

// NewTokens returns an empty one.
func NewTokens[C comparable]() *Tokens[C] {
	return &Tokens[C]{seed: maphash.MakeSeed(), first: map[uint64]*Holder[C]{}}
}

// Add notes that c has shown a token. It returns what Remove needs: nil if the token has no id.
func (t *Tokens[C]) Add(c C, id string) *Holder[C] {
	if id == "" {
		return nil
	}
	h := &Holder[C]{hash: maphash.String(t.seed, id), client: c}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.next = t.first[h.hash]; h.next != nil {
		h.next.previous = h
	}
	t.first[h.hash] = h
	return h
}

// Remove undoes Add. For nil, or for the second time, it does nothing.
func (t *Tokens[C]) Remove(h *Holder[C]) {
	if h == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case h.previous == h:
		return
	case h.previous != nil:
		h.previous.next = h.next
	case h.next != nil:
		t.first[h.hash] = h.next
	default:
		delete(t.first, h.hash)
	}
	if h.next != nil {
		h.next.previous = h.previous
	}
	h.next, h.previous = nil, h
}

// Of returns the clients that have shown the token with an id, some perhaps more than once.
func (t *Tokens[C]) Of(id string) (clients []C) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for h := t.first[maphash.String(t.seed, id)]; h != nil; h = h.next {
		clients = append(clients, h.client)
	}
	return clients
}

// Is reports whether h is of the token with an id. Nil is of none.
func (t *Tokens[C]) Is(h *Holder[C], id string) bool {
	return h != nil && h.hash == maphash.String(t.seed, id)
}

// Len returns how many different tokens there are.
func (t *Tokens[C]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.first)
}
