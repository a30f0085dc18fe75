package roster

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// The chains against a map of lists.
func TestTokens(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tokens := NewTokens[*int]()
	naive := map[string][]*int{}
	type held struct {
		id     string
		client *int
		holder *Holder[*int]
	}
	var all []held
	for range 20_000 {
		if random.IntN(2) == 0 || len(all) == 0 {
			h := held{id: strconv.Itoa(random.IntN(20)), client: new(int)}
			h.holder = tokens.Add(h.client, h.id)
			all, naive[h.id] = append(all, h), append(naive[h.id], h.client)
			continue
		}
		i := random.IntN(len(all))
		h := all[i]
		all = slices.Delete(all, i, i+1)
		tokens.Remove(h.holder)
		tokens.Remove(h.holder) // the second time does nothing
		naive[h.id] = slices.DeleteFunc(naive[h.id], func(c *int) bool { return c == h.client })
		if len(naive[h.id]) == 0 {
			delete(naive, h.id)
		}
		if !tokens.Is(h.holder, h.id) || tokens.Is(h.holder, "other") {
			t.Fatal("a holder is of another token")
		}
		if got := tokens.Of(h.id); len(got) != len(naive[h.id]) || slices.ContainsFunc(got, func(c *int) bool { return !slices.Contains(naive[h.id], c) }) {
			t.Fatalf("%d clients, want %d", len(got), len(naive[h.id]))
		}
		if tokens.Len() != len(naive) {
			t.Fatalf("%d tokens, want %d", tokens.Len(), len(naive))
		}
	}
	if tokens.Add(new(int), "") != nil || tokens.Is(nil, "") {
		t.Error("a token without an id is held")
	}
	tokens.Remove(nil)
}
