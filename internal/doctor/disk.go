package doctor

import "golang.org/x/sys/unix"

// leastFree is what a data directory should have left.
const leastFree = 1 << 30

func (e *examination) disk() {
	if e.plan.DataDir == "" {
		return
	}
	f := Finding{
		Name: "data directory", Verdict: OK, What: "the disk of " + e.plan.DataDir, Have: "unknown", Need: size(leastFree) + " free, on a disk",
		Why: "When it is full, publications and events are refused.",
	}
	free, kind, err := e.FreeAt(e.plan.DataDir)
	switch {
	case err != nil:
		f.Verdict, f.Have, f.Fix = Fault, err.Error(), "mkdir -p "+e.plan.DataDir
	case kind == unix.TMPFS_MAGIC:
		f.Verdict, f.Have, f.Fix = Warn, size(free)+" free, in memory (tmpfs)", "a directory that outlives a restart of the machine"
	case free < leastFree:
		f.Verdict, f.Have, f.Fix = Warn, size(free)+" free", "a larger disk"
	default:
		f.Have = size(free) + " free"
	}
	e.add(f)
}

// freeAt asks statfs(2).
func freeAt(dir string) (bytes, kind int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, st.Type, nil //nolint:gosec // beyond 8 EiB there is no disk
}
