package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// beganAt is began by the kernel's monotonic clock.
var beganAt = func() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it is there since Linux 2.6
	return t.Nano() - int64(time.Since(began))
}()

// monotonic is the time of the kernel's monotonic clock in nanoseconds, which all processes of the machine share:
// what messages are stamped with.
func monotonic() int64 { return beganAt + int64(time.Since(began)) }

// sinceBegan is such a time as those of this process alone are given.
func sinceBegan(stamp int64) time.Duration { return time.Duration(stamp - beganAt) }
