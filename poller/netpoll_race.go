//go:build race

package poller

import (
	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// setEventData stores what netpoll expects to find in a ready event when it is
// built for the race detector: the descriptor (its poll_default_linux_race.go).
func setEventData(ev *unix.EpollEvent, _ *netpoll.FDOperator, fd int) {
	ev.Fd, ev.Pad = int32(fd), 0
}
