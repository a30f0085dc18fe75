package names

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

type thing struct{ name string }

func (t *thing) Name() string { return t.name }

// A table does what a map does, whatever is added and removed, at any size.
func TestTableIsLikeAMap(t *testing.T) {
	for _, names := range []int{1, 7, 40, 3000} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(names)))
			var table Table[*thing]
			twin := map[string]*thing{}
			for step := range 20 * names {
				// The share of additions swings, so that the table grows, shrinks, and is empty at times.
				name, adds := fmt.Sprint("n", r.IntN(names)), (step/(2*names+1))%2 == 0
				hash := Hash(name)
				switch there := twin[name] != nil; {
				case !there && (adds || r.IntN(4) == 0):
					twin[name] = &thing{name}
					table.Add(hash, twin[name])
				case !adds || r.IntN(4) == 0:
					delete(twin, name)
					table.Remove(hash, name)
				}
				other := fmt.Sprint("n", r.IntN(names))
				if got := table.Find(Hash(other), other); got != twin[other] || table.Len() != len(twin) {
					t.Fatalf("step %d: found %v of %d, want %v of %d", step, got, table.Len(), twin[other], len(twin))
				}
			}
			check(t, &table, twin)
			for name := range twin {
				table.Remove(Hash(name), name)
			}
			check(t, &table, nil)
			if len(table.slots) > minSlots {
				t.Errorf("an empty table has %d slots", len(table.slots))
			}
		})
	}
}

// check compares all there is.
func check(t *testing.T, table *Table[*thing], twin map[string]*thing) {
	t.Helper()
	for name, want := range twin {
		if got := table.Find(Hash(name), name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	all := slices.Collect(table.All())
	seen := map[*thing]bool{}
	for _, x := range all {
		seen[x] = true
	}
	want := map[*thing]bool{}
	for _, x := range twin {
		want[x] = true
	}
	if len(all) != len(seen) || !maps.Equal(seen, want) {
		t.Errorf("All has %d, %d different ones, want %d", len(all), len(seen), len(want))
	}
	slots := 0
	for i, tag := range table.tags {
		if (tag == 0) != (table.slots[i] == nil) {
			t.Errorf("slot %d: tag %d and %v", i, tag, table.slots[i])
		}
		if tag != 0 {
			slots++
		}
	}
	if slots != len(twin) || slots*5 > len(table.slots)*4 {
		t.Errorf("%d of %d slots are used, want %d and at most 80 percent", slots, len(table.slots), len(twin))
	}
}

// Names that all begin at the same slot, at the end of the table and around it, are found and removed.
func TestTableCollisions(t *testing.T) {
	var table Table[*thing]
	var names []string
	for i := 0; len(names) < 5; i++ {
		if name := fmt.Sprint(i); Hash(name)>>61 == 7 { // of 8 slots the last
			names = append(names, name)
			table.Add(Hash(name), &thing{name})
		}
	}
	for len(names) > 0 {
		table.Remove(Hash(names[0]), names[0])
		table.Remove(Hash(names[0]), names[0]) // has no effect
		names = names[1:]
		for _, name := range names {
			if x := table.Find(Hash(name), name); x == nil || x.name != name {
				t.Errorf("%q: %v", name, x)
			}
		}
	}
}

// What is not in use takes no memory, and an entry takes what the comment says.
func TestTableSize(t *testing.T) {
	var table Table[*thing]
	most := 0
	for i := range 100_000 {
		name := fmt.Sprint(i)
		table.Add(Hash(name), &thing{name})
		if i > 100 {
			most = max(most, 9*len(table.slots)*10/table.Len())
		}
	}
	if most > 180 {
		t.Errorf("%d tenths of a byte for an entry", most)
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		var table Table[*thing]
		m := map[string]*thing{}
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint("bench:personal-", i)
			m[names[i]] = &thing{names[i]}
			table.Add(Hash(names[i]), m[names[i]])
		}
		rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		b.Run(fmt.Sprint("table/", n), func(b *testing.B) {
			for i := range b.N {
				name := names[i%n]
				if table.Find(Hash(name), name) == nil {
					b.Fatal(name)
				}
			}
		})
		b.Run(fmt.Sprint("map/", n), func(b *testing.B) {
			for i := range b.N {
				if m[names[i%n]] == nil {
					b.Fatal()
				}
			}
		})
	}
}
