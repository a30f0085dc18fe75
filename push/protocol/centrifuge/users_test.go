package centrifuge

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"testing"
)

// The registry against a map of slices.
func TestUsers(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var u users[frame]
	u.init()
	naive := map[string][]*Client[frame]{}
	const limit = 4
	var clients []*Client[frame]
	for range 100 {
		clients = append(clients, &Client[frame]{user: fmt.Sprint("user", random.IntN(20))})
	}
	for range 10_000 {
		c := clients[random.IntN(len(clients))]
		here := naive[c.user]
		if i := slices.Index(here, c); i >= 0 {
			u.remove(c)
			if here = slices.Delete(here, i, i+1); len(here) == 0 {
				delete(naive, c.user)
			} else {
				naive[c.user] = here
			}
			u.remove(c) // the second time does nothing
		} else if added := u.add(c, limit); added != (len(here) < limit) {
			t.Fatalf("of %d, added %t", len(here), added)
		} else if added {
			naive[c.user] = append(here, c)
		}
		got := u.of(c.user)
		if len(got) != len(naive[c.user]) || slices.ContainsFunc(got, func(g *Client[frame]) bool { return !slices.Contains(naive[c.user], g) }) {
			t.Fatalf("%d connections of %s, want %d", len(got), c.user, len(naive[c.user]))
		}
		if u.len() != len(naive) {
			t.Fatalf("%d users, want %d", u.len(), len(naive))
		}
	}
	if !u.add(&Client[frame]{}, 1) || !u.add(&Client[frame]{}, 1) || len(u.of("")) != 0 {
		t.Error("anonymous clients are counted")
	}
}

// Users whose names have the same hash are told apart.
func TestUsersWithTheSameHash(t *testing.T) {
	var u users[frame]
	u.init()
	ann, ann2, bob := &Client[frame]{user: "ann"}, &Client[frame]{user: "ann"}, &Client[frame]{user: "bob"}
	u.add(ann, 2)
	hash := maphash.String(u.seed, "ann")
	bob.sibling, u.first[hash] = ann, bob // as if it were bob's as well
	if !u.add(ann2, 2) {
		t.Error("bob's connection counts as ann's")
	}
	if got := u.of("ann"); len(got) != 2 || slices.Contains(got, bob) {
		t.Errorf("%d connections of ann", len(got))
	}
	u.remove(ann)
	u.remove(ann2)
	if u.first[hash] != bob || bob.sibling != nil || len(u.of("ann")) != 0 {
		t.Error("bob is gone with ann")
	}
}
