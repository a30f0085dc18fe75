package doctor

import "strings"

// descriptors looks at what bounds open files, of which each connection is one.
func (e *examination) descriptors() {
	need := e.plan.descriptors()
	f := Finding{
		Name: "nofile", What: "descriptors that this process may open (RLIMIT_NOFILE)", Need: count(need), Have: "unknown", Verdict: Unknown,
		Why: "Each connection is one. The soft limit is raised to the hard one at the start, so only that counts. Without one, accepting pauses.",
	}
	if hard, ok := e.hardLimit("Max open files"); ok {
		f.Have, f.Verdict = count(hard), OK
		if hard < need {
			f.Verdict, f.Fix = Fault, e.place.descriptors(need)
		}
	}
	e.add(f)
	e.least("fs.nr_open", need, Fault, "what RLIMIT_NOFILE can be raised to", "A higher LimitNOFILE or ulimit fails.")
	e.fileMax(need)
	e.least("fs.epoll.max_user_watches", need, Fault, "descriptors that one user may have in epoll",
		"Each connection is watched by it. The kernel's default is 4 % of the memory, at about 170 bytes each.")
}

// fileMax looks at what all processes may open, less what others have open.
func (e *examination) fileMax(need int64) {
	f := Finding{
		Name: "fs.file-max", What: "descriptors that all processes may open", Have: "unknown", Need: count(need), Verdict: Unknown,
		Why: "Beyond it everybody's accept, open and socket fail, not only this process's.",
	}
	if state := e.numbers("proc/sys/fs/file-nr"); len(state) == 3 { // open, free, most (proc_sys_fs(5))
		need += state[0]
		f.Need, f.Have, f.Verdict = count(need), count(state[2]), OK
		if state[2] < need {
			f.Verdict = Fault
			e.sysctl(&f, "fs.file-max", decimal(need+need/10))
		}
	}
	e.add(f)
}

// hardLimit reads the hard limit of a line of /proc/self/limits.
func (m Machine) hardLimit(name string) (int64, bool) {
	for line := range strings.Lines(m.text("proc/self/limits")) {
		if rest, found := strings.CutPrefix(line, name); found {
			if fields := strings.Fields(rest); len(fields) >= 2 { // soft, hard, and the unit
				return parse(fields[1])
			}
		}
	}
	return 0, false
}
