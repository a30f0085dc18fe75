//go:build !race

package poller

import (
	"unsafe"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// setEventData stores what netpoll expects to find in a ready event: the
// operator's address (its poll_default_linux_norace.go). The operator is kept
// alive by netpoll's cache, which never gives one back.
func setEventData(ev *unix.EpollEvent, op *netpoll.FDOperator, _ int) {
	addr := uint64(uintptr(unsafe.Pointer(op)))
	ev.Fd, ev.Pad = int32(addr), int32(addr>>32)
}
