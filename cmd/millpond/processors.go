package main

import (
	"log/slog"
	"math"
	"os"
	"runtime"

	"github.com/millpond/millpond/internal/cgroup"
)

// followQuota keeps GOMAXPROCS within the CPU quota of all control groups that the process is in. Go does so with the innermost one alone, and goes on
// with it while the program runs; a slice, or a pod of several containers, has its quota further out.
func followQuota(logger *slog.Logger) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	limits, err := cgroup.Read(os.DirFS("/"))
	if err != nil {
		return
	}
	if now, want := runtime.GOMAXPROCS(0), processors(limits.CPUs); want > 0 && want < now {
		runtime.GOMAXPROCS(want)
		logger.Info("CPUs are limited", "limit", "cgroup", "quota", limits.CPUs, "gomaxprocs", want)
	}
}

// processors is what Go makes of a quota: no less than two, for one would stop all else while it collects garbage. Zero is no quota.
func processors(quota float64) int {
	if quota <= 0 {
		return 0
	}
	return max(2, int(math.Ceil(quota)))
}
