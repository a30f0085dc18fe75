package codec

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two, from 1<<minClass to 1<<maxClass bytes, one pool each.
const (
	minClass = 9
	maxClass = 31 // the largest message is 1<<30 bytes, and a little more while it is compressed
)

var buffers [maxClass - minClass + 1]sync.Pool

// buffer is a pooled byte slice. Pools hold *buffer, because a slice in an interface would be allocated each time.
type buffer struct {
	b []byte
}

// class returns the index of the smallest buffers of n bytes or more.
func class(n int) int {
	return max(bits.Len(uint(n-1)), minClass) - minClass
}

// takeBuffer returns an empty buffer with room for n bytes, 1 <= n <= 1<<maxClass.
func takeBuffer(n int) *buffer {
	c := class(n)
	if v := buffers[c].Get(); v != nil {
		return v.(*buffer)
	}
	return &buffer{b: make([]byte, 0, 1<<(c+minClass))}
}

// giveBuffer returns f to its pool. f may be nil.
func giveBuffer(f *buffer) {
	if f == nil {
		return
	}
	f.b = f.b[:0]
	buffers[class(cap(f.b))].Put(f)
}

// extend returns a buffer with the bytes of f and then those of b. f may be nil and is not used afterwards.
// The next buffer is the smallest that holds what is there, which is at least twice the last one.
func extend(f *buffer, b []byte) *buffer {
	if len(b) == 0 {
		return f
	}
	if f == nil {
		f = takeBuffer(len(b))
	} else if n := len(f.b) + len(b); n > cap(f.b) {
		larger := takeBuffer(n)
		larger.b = append(larger.b, f.b...)
		giveBuffer(f)
		f = larger
	}
	f.b = append(f.b, b...)
	return f
}
