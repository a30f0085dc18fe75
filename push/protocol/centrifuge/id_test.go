package centrifuge

import "testing"

// Ids are UUIDs of version 4, each another one, and another process has others.
func TestIDs(t *testing.T) {
	a, b := newIDs(), newIDs()
	seen := map[string]bool{}
	for n := range uint64(10_000) {
		for _, i := range []ids{a, b} {
			id := i.of(n)
			if id.Version() != 4 || id.Variant().String() != "RFC4122" || i.of(n) != id {
				t.Fatalf("%d: %s", n, id)
			}
			seen[id.String()] = true
		}
	}
	if len(seen) != 20_000 {
		t.Errorf("%d different ids, want 20000", len(seen))
	}
}
