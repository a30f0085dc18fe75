// Package roster knows the clients of a protocol by their users, and has done in a client's own turn what others want
// of it: the API, the clock, the hub.
package roster

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/millpond/millpond/push/hub"
)

// Entry is what a Roster notes in a client, which embeds it: no map has an entry for each client. It takes 24 bytes.
type Entry[C any] struct {
	// Guarded by Roster.mu; changed in the client's turn alone.
	user string

	// Guarded by Roster.mu.
	sibling C // the next of the same user, or of one with the same hash; the client itself once it is gone
}

// User returns the name that Add was given, or "" before and after. It is called in the client's turn.
func (e *Entry[C]) User() string { return e.user }

// entry makes a Client of whatever embeds an Entry.
func (e *Entry[C]) entry() *Entry[C] { return e }

// Client is a pointer to a client that embeds an Entry.
type Client[C any] interface {
	comparable
	entry() *Entry[C]
	// Wake has the client's protocol call Roster.Run in its turn. False says that the connection is closed.
	Wake() bool
}

// Roster has the clients of a protocol. The methods may be called by any goroutine, unless they say something else.
type Roster[C Client[C]] struct {
	// Immutable after New.
	seed maphash.Seed

	// Guarded by mu.
	mu    sync.Mutex
	first map[uint64]C // by the hash of the user: half of the memory that names would take
	tasks map[C][]func()
}

// New returns an empty roster.
func New[C Client[C]]() *Roster[C] {
	return &Roster[C]{seed: maphash.MakeSeed(), first: map[uint64]C{}, tasks: map[C][]func(){}}
}

// Add notes that c is a user's, unless that one has limit clients already; zero is no limit. A client without a user
// cannot be found. It is called once for a client, in its turn.
func (r *Roster[C]) Add(c C, user string, limit int) bool {
	if user == "" {
		return true
	}
	hash := maphash.String(r.seed, user)
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit > 0 && len(r.ofLocked(hash, user)) >= limit {
		return false
	}
	e := c.entry()
	e.user, e.sibling = user, r.first[hash]
	r.first[hash] = c
	return true
}

// Remove takes c out of its user's clients, before Close does: its login failed after all.
func (r *Roster[C]) Remove(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(c)
}

// Of returns a user's clients.
func (r *Roster[C]) Of(user string) []C {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ofLocked(maphash.String(r.seed, user), user)
}

func (r *Roster[C]) ofLocked(hash uint64, user string) (clients []C) {
	var none C
	for c := r.first[hash]; c != none; c = c.entry().sibling {
		if c.entry().user == user {
			clients = append(clients, c)
		}
	}
	return clients
}

// UserOf returns a client's user, or "", for those that are not in its turn.
func (r *Roster[C]) UserOf(c C) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.entry().user
}

// Users returns how many different users there are, but for some that share a hash.
func (r *Roster[C]) Users() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.first)
}

// Waiting returns for how many clients tasks wait.
func (r *Roster[C]) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tasks)
}

// removeLocked takes c out of its user's clients.
func (r *Roster[C]) removeLocked(c C) {
	var none C
	e := c.entry()
	if e.user == "" {
		return
	}
	hash := maphash.String(r.seed, e.user)
	link := r.first[hash]
	if link == c {
		if r.first[hash] = e.sibling; e.sibling == none {
			delete(r.first, hash)
		}
	}
	for link != none && link.entry().sibling != c {
		link = link.entry().sibling
	}
	if link != none {
		link.entry().sibling = e.sibling
	}
	e.user, e.sibling = "", none
}

// Queue is Do without a Wake: the caller knows when one comes.
func (r *Roster[C]) Queue(c C, task func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.entry().sibling == c { // no more tasks are taken on
		return false
	}
	r.tasks[c] = append(r.tasks[c], task)
	return true
}

// Do has a task carried out in the client's turn, at the latest by Close. It reports false if that is over.
func (r *Roster[C]) Do(c C, task func()) bool {
	if !r.Queue(c, task) {
		return false
	}
	c.Wake()
	return true
}

// Run carries out what waits; it is called in the client's turn.
func (r *Roster[C]) Run(c C) { run(r.take(c, false)) }

// Close forgets the client. What waits is carried out, so that nobody waits in vain: the client says that it is gone.
// It is called in the client's turn, as the last.
func (r *Roster[C]) Close(c C) { run(r.take(c, true)) }

func run(tasks []func()) {
	for _, task := range tasks {
		task()
	}
}

func (r *Roster[C]) take(c C, last bool) []func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last && c.entry().sibling != c {
		r.removeLocked(c)
		c.entry().sibling = c
	}
	tasks := r.tasks[c]
	delete(r.tasks, c)
	return tasks
}

// Each carries out a task in the turn of each client, and returns when all of them did, or when ctx ends; of several
// errors the first. For a client that goes meanwhile task may be called all the same, or not.
//
// Several tasks may run at the same time, each in its client's turn, and may go on after Each has returned. A task may
// use the roster and the hub. It must not wait for another client's turn, so it must not call Each; nor must whatever
// else runs in a client's turn: with every worker waiting so, no turn would come.
func (r *Roster[C]) Each(ctx context.Context, clients []C, task func(c C) error) error {
	results := make(chan error, len(clients))
	for _, c := range clients {
		if !r.Do(c, func() { results <- task(c) }) {
			results <- nil
		}
	}
	var first error
	for range clients {
		select {
		case err := <-results:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", hub.ErrTooManyRequests, ctx.Err())
		}
	}
	return first
}
