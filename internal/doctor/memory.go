package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// memory looks at what there is, for the process and for the kernel's part of its sockets.
func (e *examination) memory() {
	user, kernel := e.plan.userBytes(), e.plan.kernelBytes()
	need := fmt.Sprintf("%s: %s of the process, %s of the kernel for its sockets", size(user+kernel), size(user), size(kernel))
	e.host(user+kernel, need)
	e.group(user+kernel, need)
	e.goLimit(user)
	e.overcommit()
	e.hugePages()
}

func (e *examination) host(bytes int64, need string) {
	f := Finding{
		Name: "memory", What: "memory of this machine", Have: "unknown", Need: need, Verdict: Unknown,
		Why: "Idle connections, without what waits for slow clients (--outbox-bytes) and histories (--history-bytes).",
	}
	if total, available, ok := e.meminfo(); ok {
		f.Have, f.Verdict = fmt.Sprintf("%s, %s available", size(total), size(available)), OK
		switch {
		case total < bytes:
			f.Verdict, f.Fix = Fault, "a machine with more memory, or --max-connections "+strconv.FormatInt(e.fitting(total), 10)
		case available < bytes:
			f.Verdict, f.Fix = Warn, "other processes hold the difference: end them, or --max-connections "+strconv.FormatInt(e.fitting(available), 10)
		}
	}
	e.add(f)
}

// fitting is how many connections so many bytes carry.
func (e *examination) fitting(bytes int64) int64 {
	each := int64(plainBytes + kernelBytes)
	if e.plan.TLS {
		each = tlsBytes + kernelBytes
	}
	return max(0, (bytes-baseBytes)/each)
}

// meminfo reads the machine's memory in bytes (proc_meminfo(5)).
func (m Machine) meminfo() (total, available int64, ok bool) {
	for line := range strings.Lines(m.text("proc/meminfo")) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, valid := parse(fields[1])
		if !valid || kib > 1<<52 {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available, total > 0
}

// group looks at the control group's limit, which counts the kernel's part too.
func (e *examination) group(bytes int64, need string) {
	if limit := e.groups.MemoryBytes; limit > 0 {
		f := Finding{
			Name: "cgroup memory", Verdict: OK, What: "memory that the control group may have (" + e.groups.MemoryDir + ")", Have: size(limit), Need: need,
			Why: "At the limit the kernel ends a process of the group. What it keeps for sockets counts.",
		}
		if limit < bytes {
			f.Verdict, f.Fix = Fault, fmt.Sprintf("%s; or --max-connections %d", e.place.memory(bytes+bytes/4), e.fitting(limit))
		}
		e.add(f)
	}
	if high := e.groups.MemoryHighBytes; high > 0 && high < bytes {
		e.add(Finding{
			Name: "cgroup memory.high", Verdict: Warn, What: "memory beyond which the control group is slowed", Have: size(high), Need: need,
			Why: "Beyond it every allocation waits for memory to be given back, and so does every client.", Fix: "memory.high above " + size(bytes) + ", or max",
		})
	}
	threads := int64(64 + 8*e.CPUs)
	if e.groups.PIDs > 0 && e.groups.PIDs < threads {
		e.add(Finding{
			Name: "cgroup pids", Verdict: Warn, What: "threads and processes that the control group may have", Have: count(e.groups.PIDs), Need: count(threads),
			Why: "Go ends the process when it cannot start a thread.", Fix: e.place.pids(threads),
		})
	}
}

// goLimit looks at GOMEMLIMIT, below which Go collects garbage ever more often.
func (e *examination) goLimit(user int64) {
	s := e.Getenv("GOMEMLIMIT")
	if s == "" || s == "off" {
		return
	}
	f := Finding{
		Name: "GOMEMLIMIT", Verdict: OK, What: "memory that Go tries to stay below", Have: s, Need: size(user + user/4),
		Why: "When what is in use comes near it, the collector takes up to half of all CPU time.",
	}
	if limit, ok := parseGoBytes(s); !ok {
		f.Verdict, f.Fix = Fault, "a number with B, KiB, MiB, GiB or TiB: Go refuses to start otherwise"
	} else if limit < user+user/4 {
		f.Verdict, f.Fix = Warn, fmt.Sprintf("GOMEMLIMIT=%dMiB", (user+user/4)>>20+1)
	}
	e.add(f)
}

// parseGoBytes reads a size as Go's runtime does.
func parseGoBytes(s string) (int64, bool) {
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, valid := parse(number)
			shift := 10 * (i + 1)
			return n << shift, valid && n < 1<<(62-shift)
		}
	}
	return parse(strings.TrimSuffix(s, "B"))
}

func (e *examination) overcommit() {
	if n, ok := e.number("proc/sys/vm/overcommit_memory"); ok && n == 2 {
		f := Finding{
			Name: "vm.overcommit_memory", Verdict: Warn, What: "whether memory may be reserved before it is there", Have: "2: never", Need: "0 or 1",
			Why: "Go reserves address space far beyond what it uses, and ends when it is refused.",
		}
		e.sysctl(&f, "vm.overcommit_memory", "0")
		e.add(f)
	}
}

func (e *examination) hugePages() {
	const file = "sys/kernel/mm/transparent_hugepage/enabled"
	f := Finding{
		Name: "transparent huge pages", What: "whether the kernel backs memory by pages of 2 MiB", Have: "unknown", Verdict: Unknown,
		Why: "With always, a page of which one connection is left stays whole, so that memory comes back late after a peak.",
	}
	if _, after, ok := strings.Cut(e.text(file), "["); ok {
		f.Have, _, _ = strings.Cut(after, "]")
		f.Verdict = OK
		if f.Have == "always" {
			f.Verdict, f.Need, f.Fix = Note, "madvise", "echo madvise > /"+file
		}
	}
	e.add(f)
}
