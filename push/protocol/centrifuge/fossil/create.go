package fossil

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"unicode/utf8"
)

const (
	// block is the unit in which the source is indexed, in bytes: a run that
	// both sides have in common is found if it covers one of the source's
	// blocks, hence always if it has 2*block-1 bytes.
	block = 16

	// maxTries bounds how many of the blocks with one hash are compared. More
	// would find longer matches in repetitive documents; without a bound a
	// publisher could make Create take quadratic time: BenchmarkCreate shows what
	// the worst still costs (64KiB_of_one_hash).
	maxTries = 8

	// maxDigits is the most digits that a number of 32 bits takes.
	maxDigits = 6

	// maxIdle is the largest index that is kept for the next call, in blocks: of
	// a source of 1 MiB.
	maxIdle = 1 << 16

	// odd is 2^64 divided by the golden ratio, a usual multiplier for hashes.
	odd = 0x9e3779b97f4a7c15
)

// segment says that target[at:at+n] equals source[from:from+n].
type segment struct{ from, at, n int }

// Create returns a delta that turns source into target, for Apply. It is never
// more than 21 bytes longer than the target; if that is UTF-8, so is the delta.
// The caller owns the result. Both arguments must be below 4 GiB, the format's limit.
//
// The time is linear in the arguments' lengths, whatever they hold. If only one
// place of the target is new, nothing but the result is allocated.
func Create(source, target []byte) []byte {
	var few [8]segment
	return encode(target, plan(few[:0], source, target))
}

// plan appends what target has in common with source to copies, which is empty:
// in the target's order, without overlaps, each worth its bytes and bounded by
// whole characters of the target.
//
// What the two begin and end with is most of two versions of one document, and
// needs no index (BenchmarkCreate/one_number: twice as fast as by index).
func plan(copies []segment, source, target []byte) []segment {
	from, to := 0, len(target)
	head := segment{0, 0, commonPrefix(source, target)}.trim(target)
	if head.n > head.cost() {
		copies = append(copies, head)
		from = head.n
	}
	n := commonSuffix(source[from:], target[from:])
	tail := segment{len(source) - n, len(target) - n, n}.trim(target)
	if tail.n > tail.cost() {
		to = tail.at
	}
	if len(source) >= block && to-from >= block {
		copies = appendMatches(copies, source, target[:to], from)
	}
	if to < len(target) {
		copies = append(copies, tail)
	}
	return copies
}

// appendMatches adds the copies that make up target from byte from on.
func appendMatches(copies []segment, source, target []byte, from int) []segment {
	x := indexes.Get().(*index)
	x.build(source)
	// A copy in the middle of a literal costs the second literal's header too.
	header := digits(uint(len(target))) + 1
	for at := from; at+block <= len(target); {
		s := x.longest(source, target, from, at).trim(target)
		if s.n <= s.cost()+header {
			at++
			continue
		}
		copies = append(copies, s)
		from = s.at + s.n
		at = from
	}
	if len(x.next) <= maxIdle {
		indexes.Put(x)
	}
	return copies
}

// index finds the source's blocks by their hash. A block's number is that of
// its first byte divided by block, plus one; zero is none.
type index struct {
	first []uint32 // hash → the first block with it; a power of two of them
	next  []uint32 // block - 1 → the next one with its hash
}

var indexes = sync.Pool{New: func() any { return new(index) }}

// build indexes source. Blocks of one hash are chained in their order, so that
// in a run of equal ones the first, which can be followed longest, comes first.
func (x *index) build(source []byte) {
	blocks := len(source) / block
	x.next = slices.Grow(x.next[:0], blocks)[:blocks]
	size := 2 << bits.Len(uint(blocks)) // sparse, for most lookups in vain to end at once
	x.first = slices.Grow(x.first[:0], size)[:size]
	clear(x.first)
	for i := blocks - 1; i >= 0; i-- {
		h := x.hash(source[i*block:])
		x.next[i] = x.first[h]
		x.first[h] = uint32(i + 1)
	}
}

// hash returns the place in x.first of b's first block. The format's reference
// rolls a hash from byte to byte; a block of two machine words is hashed afresh
// in less time than that takes, and with fewer collisions.
func (x *index) hash(b []byte) uint32 {
	h := binary.LittleEndian.Uint64(b)*odd ^ binary.LittleEndian.Uint64(b[8:])
	h = (h ^ h>>29) * odd
	return uint32(h>>32) & uint32(len(x.first)-1)
}

// longest returns the longest match of those that share a block of the source
// with target[at:at+block]. It is prolonged to both sides, but to the left not
// beyond from. Without a match its n is 0.
//
// All that is compared is within maxTries times the match that comes back, and
// the caller goes on behind it: that makes Create linear.
func (x *index) longest(source, target []byte, from, at int) segment {
	best := segment{}
	i := x.first[x.hash(target[at:])]
	for range maxTries {
		if i == 0 {
			break
		}
		begin := int(i-1) * block
		if n := commonPrefix(source[begin:], target[at:]); n >= block {
			back := commonSuffix(source[:begin], target[from:at])
			if back+n > best.n {
				best = segment{begin - back, at - back, back + n}
			}
		}
		i = x.next[i-1]
	}
	return best
}

// trim returns s without the parts of characters at its begin and end, where
// the rest of the character would be left to a literal.
func (s segment) trim(target []byte) segment {
	begin, end := s.at, s.at+s.n
	for i := begin; i < begin+utf8.UTFMax; i++ {
		if boundary(target, i) {
			s.at, s.from = i, s.from+i-begin
			break
		}
	}
	for i := end; i > end-utf8.UTFMax; i-- {
		if boundary(target, i) {
			end = i
			break
		}
	}
	s.n = end - s.at
	return s
}

// boundary reports whether a character may begin or end before b[i]. In UTF-8
// every fourth byte or more does; where none of four does, there is nothing to
// keep whole.
func boundary(b []byte, i int) bool {
	return i <= 0 || i >= len(b) || utf8.RuneStart(b[i])
}

// cost returns how many bytes s takes in the delta.
func (s segment) cost() int { return digits(uint(s.n)) + digits(uint(s.from)) + len("@,") }

// encode returns the delta of target in which copies are copied and the rest is
// literal.
func encode(target []byte, copies []segment) []byte {
	size := len(target) + 3*(maxDigits+1)
	for _, s := range copies {
		size += s.cost() + maxDigits + 1 - s.n // plan saw to it that this is small
	}
	b := make([]byte, 0, size)
	b = append(appendNumber(b, uint(len(target))), '\n')
	done := 0
	for _, s := range copies {
		b = appendLiteral(b, target[done:s.at])
		b = append(appendNumber(b, uint(s.n)), '@')
		b = append(appendNumber(b, uint(s.from)), ',')
		done = s.at + s.n
	}
	b = appendLiteral(b, target[done:])
	return append(appendNumber(b, uint(checksum(target))), ';')
}

func appendLiteral(b, literal []byte) []byte {
	if len(literal) == 0 {
		return b
	}
	b = append(appendNumber(b, uint(len(literal))), ':')
	return append(b, literal...)
}

// appendNumber adds n in Fossil's base 64.
func appendNumber(b []byte, n uint) []byte {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
	for i := digits(n) - 1; i >= 0; i-- {
		b = append(b, alphabet[n>>(6*i)&63])
	}
	return b
}

// digits returns the length of n as appendNumber writes it.
func digits(n uint) int { return max(1, (bits.Len(n)+5)/6) }

// commonPrefix returns how many bytes a and b begin with in common. It compares
// eight at a time (BenchmarkCreate/64KiB: more than twice as fast as one by one).
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// commonSuffix returns how many bytes a and b end with in common.
func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[len(a)-n:], b[len(b)-n:]
	i := n
	for ; i >= 8; i -= 8 {
		if x := binary.LittleEndian.Uint64(a[i-8:]) ^ binary.LittleEndian.Uint64(b[i-8:]); x != 0 {
			return n - i + bits.LeadingZeros64(x)/8
		}
	}
	for i > 0 && a[i-1] == b[i-1] {
		i--
	}
	return n - i
}
