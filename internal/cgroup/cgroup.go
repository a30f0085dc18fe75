// Package cgroup tells what the control groups that this process is in allow it to use, of version 1 and 2 and in
// containers of both kinds.
package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Limits are the lowest bounds on the way from this process's group up to the mount. Zero means none is known.
type Limits struct {
	// Version is 1 or 2: what holds the memory controller.
	Version int
	// MemoryBytes is where the kernel ends processes; memory of sockets counts.
	MemoryBytes int64
	// MemoryHighBytes is where it slows them, of version 2 only.
	MemoryHighBytes int64
	// CPUs is how many may be used, as quota over period.
	CPUs float64
	// PIDs is how many processes and threads there may be.
	PIDs int64
	// MemoryDir is the directory of the group that MemoryBytes is of, without the leading slash.
	MemoryDir string
}

// Read reads the limits from the files of /proc and /sys below root, whose paths have no leading slash. Files that are not there or make no
// sense say nothing: a container may show any part of them. The error is that of /proc/self/cgroup, if that cannot be read.
func Read(root fs.FS) (Limits, error) {
	var l Limits
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return l, err
	}
	mounts, err := mounted(root)
	if err != nil {
		return l, err
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path; version 2 has neither number nor controllers (cgroups(7)).
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if fields[0] == "0" && fields[1] == "" {
			for dir := range mounts.of("").ancestors(fields[2]) {
				l.version2(root, dir)
			}
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			for dir := range mounts.of(controller).ancestors(fields[2]) {
				l.version1(root, dir, controller)
			}
		}
	}
	return l, nil
}

// MemoryUsed is what the group of MemoryBytes holds, in bytes, without what the kernel keeps of files and gives back when it must. It reports
// false if there is no limit, or the group's files cannot be read. With less than floor used by all, files are not told apart.
func (l Limits) MemoryUsed(root fs.FS, floor int64) (int64, bool) {
	name, prefix := "memory.current", ""
	if l.Version == 1 {
		name, prefix = "memory.usage_in_bytes", "total_" // of the groups below, too
	}
	used, ok := number(root, path.Join(l.MemoryDir, name))
	if l.MemoryBytes == 0 || !ok || used < floor {
		return used, ok && l.MemoryBytes != 0
	}
	for line := range strings.Lines(text(root, path.Join(l.MemoryDir, "memory.stat"))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == prefix+"inactive_file" || key == prefix+"active_file" {
			n, _ := strconv.ParseInt(value, 10, 64)
			used -= n
		}
	}
	return max(used, 0), true
}

func (l *Limits) version2(root fs.FS, dir string) {
	if n, ok := number(root, path.Join(dir, "memory.max")); ok {
		l.Version = 2
		l.memory(n, dir)
	}
	if n, ok := number(root, path.Join(dir, "memory.high")); ok {
		l.MemoryHighBytes = lower(l.MemoryHighBytes, n)
	}
	if n, ok := number(root, path.Join(dir, "pids.max")); ok {
		l.PIDs = lower(l.PIDs, n)
	}
	// "$QUOTA $PERIOD", or "max $PERIOD".
	if fields := strings.Fields(text(root, path.Join(dir, "cpu.max"))); len(fields) == 2 {
		quota, err := strconv.ParseInt(fields[0], 10, 64)
		period, err2 := strconv.ParseInt(fields[1], 10, 64)
		if errors.Join(err, err2) == nil {
			l.cpu(quota, period)
		}
	}
}

func (l *Limits) version1(root fs.FS, dir, controller string) {
	switch controller {
	case "memory":
		if n, ok := number(root, path.Join(dir, "memory.limit_in_bytes")); ok {
			l.Version = 1
			l.memory(n, dir)
		}
	case "pids":
		if n, ok := number(root, path.Join(dir, "pids.max")); ok {
			l.PIDs = lower(l.PIDs, n)
		}
	case "cpu":
		quota, ok := number(root, path.Join(dir, "cpu.cfs_quota_us"))
		period, ok2 := number(root, path.Join(dir, "cpu.cfs_period_us"))
		if ok && ok2 {
			l.cpu(quota, period)
		}
	}
}

// unlimited is beyond what any machine has: version 1 says "none" by the largest multiple of a page.
const unlimited = math.MaxInt64 / 2

func (l *Limits) memory(n int64, dir string) {
	if n <= 0 || n >= unlimited || l.MemoryBytes != 0 && l.MemoryBytes <= n {
		return
	}
	l.MemoryBytes, l.MemoryDir = n, dir
}

func (l *Limits) cpu(quota, period int64) {
	if quota <= 0 || period <= 0 {
		return
	}
	if cpus := float64(quota) / float64(period); l.CPUs == 0 || cpus < l.CPUs {
		l.CPUs = cpus
	}
}

func lower(old, n int64) int64 {
	if n <= 0 || n >= unlimited || old != 0 && old <= n {
		return old
	}
	return n
}

func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number reads a file of one number; "max" is none.
func number(root fs.FS, name string) (int64, bool) {
	s := text(root, name)
	if s == "max" {
		return math.MaxInt64, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
