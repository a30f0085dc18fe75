// Package names has a hash table of things that know their own names.
package names

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// Named is a pointer to a thing with a name, which does not change while the thing is in a Table.
type Named interface {
	comparable
	Name() string
}

// Table finds things by their names. It keeps no names, and it shrinks: an entry takes 9 bytes and room for growth, about 14, where
// one of a map with strings takes 40 to 50, for ever. There may be an entry for each connection.
//
// Collisions go to the next free slot. Most of those that must be passed by differ in a byte of the hash, and are not looked at.
//
// The zero value is empty. A Table has no lock.
type Table[T Named] struct {
	tags  []uint8 // one for each slot: 0 is a free one, else it is made of the thing's hash
	slots []T
	count int
}

const (
	minSlots = 8
	used     = 0x80 // in the tag of a slot that is not free
)

// seed is the same for all tables of the process, so that who has many may choose one by the hash.
var seed = maphash.MakeSeed()

// Hash returns the hash of a name, which the methods want to have. Another process has others. A Table uses its upper bits.
func Hash(name string) uint64 { return maphash.String(seed, name) }

// Len returns how many things there are.
func (t *Table[T]) Len() int { return t.count }

// Find returns the thing with a name, or nil.
func (t *Table[T]) Find(hash uint64, name string) (found T) {
	if t.count == 0 {
		return found
	}
	if i := t.look(hash, name); t.tags[i] != 0 {
		return t.slots[i]
	}
	return found
}

// Add adds a thing. There must be none with its name.
func (t *Table[T]) Add(hash uint64, thing T) {
	if (t.count+1)*5 > len(t.slots)*4 {
		t.resize(max(minSlots, len(t.slots)+len(t.slots)/2))
	}
	t.put(hash, thing)
	t.count++
}

// Remove removes the thing with a name, if there is one.
func (t *Table[T]) Remove(hash uint64, name string) {
	if t.count == 0 {
		return
	}
	hole := t.look(hash, name)
	if t.tags[hole] == 0 {
		return
	}
	t.count--
	if t.count*3 < len(t.slots) && len(t.slots) > minSlots {
		t.free(hole)
		t.resize(max(minSlots, t.count*2))
		return
	}
	t.close(hole)
}

// All returns the things, in no order. The table must not be changed meanwhile.
func (t *Table[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for i, tag := range t.tags {
			if tag != 0 && !yield(t.slots[i]) {
				return
			}
		}
	}
}

// home is the slot at which the search for a hash begins.
func (t *Table[T]) home(hash uint64) int {
	high, _ := bits.Mul64(hash, uint64(len(t.slots)))
	return int(high)
}

func (t *Table[T]) next(i int) int {
	if i++; i < len(t.slots) {
		return i
	}
	return 0
}

// tag is made of bits that choose neither the slot nor, most likely, the table.
func tag(hash uint64) uint8 { return uint8(hash>>20) | used }

// look returns the slot of a name, or the free one where it would be.
func (t *Table[T]) look(hash uint64, name string) int {
	want := tag(hash)
	for i := t.home(hash); ; i = t.next(i) {
		if t.tags[i] == 0 || t.tags[i] == want && t.slots[i].Name() == name {
			return i
		}
	}
}

func (t *Table[T]) put(hash uint64, thing T) {
	i := t.home(hash)
	for t.tags[i] != 0 {
		i = t.next(i)
	}
	t.tags[i], t.slots[i] = tag(hash), thing
}

func (t *Table[T]) free(i int) {
	var none T
	t.tags[i], t.slots[i] = 0, none
}

// close frees a slot and moves back what a search would not find any more.
func (t *Table[T]) close(hole int) {
	for i := t.next(hole); t.tags[i] != 0; i = t.next(i) {
		home := t.home(Hash(t.slots[i].Name()))
		if between(hole, home, i) {
			continue
		}
		t.tags[hole], t.slots[hole] = t.tags[i], t.slots[i]
		hole = i
	}
	t.free(hole)
}

// between reports whether home is after hole and not after i, in the circle of the slots.
func between(hole, home, i int) bool {
	if hole < i {
		return hole < home && home <= i
	}
	return hole < home || home <= i
}

func (t *Table[T]) resize(n int) {
	old := *t
	t.tags, t.slots = make([]uint8, n), make([]T, n)
	for thing := range old.All() {
		t.put(Hash(thing.Name()), thing)
	}
}
