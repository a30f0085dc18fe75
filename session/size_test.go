package session

import (
	"testing"
	"unsafe"
)

func TestSessionSize(t *testing.T) {
	if n := unsafe.Sizeof(Session{}); n > 160 {
		t.Errorf("a session takes %d bytes, want at most 160, a size class of the allocator", n)
	}
}
