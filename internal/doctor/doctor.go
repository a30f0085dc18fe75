// Package doctor compares what the kernel and the control groups allow with what a number of connections needs. It reads
// files of /proc and /sys and changes nothing. A file that is not there says that a limit is unknown: containers hide some.
package doctor

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strings"

	"github.com/millpond/millpond/internal/cgroup"
)

// Verdict says how a finding is to be taken.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Note    Verdict = "note"    // good for some, to be known by all
	Warn    Verdict = "warn"    // it works, and worse than it could
	Fault   Verdict = "fault"   // so many connections do not get in, or end the process
	Unknown Verdict = "unknown" // it cannot be read here
)

// Finding is one limit.
type Finding struct {
	Name    string   `json:"name"`
	Verdict Verdict  `json:"verdict"`
	What    string   `json:"what"`           // what it is
	Have    string   `json:"have"`           // what is there
	Need    string   `json:"need,omitempty"` // what so many connections need
	Why     string   `json:"why"`
	Fix     string   `json:"fix,omitempty"`    // the line that mends it, where this process runs
	Sysctl  *Setting `json:"sysctl,omitempty"` // the same for a file of /etc/sysctl.d
}

// Setting is a value of sysctl(8).
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Plan is what the machine is to carry.
type Plan struct {
	Connections int
	TLS         bool   // the server itself speaks it
	DataDir     string // empty: nothing is kept on a disk
}

// What one connection takes, in bytes: README, "Figures". The kernel's part is the same for all servers.
const (
	plainBytes  = 1 << 10
	tlsBytes    = 6 << 10
	kernelBytes = 4 << 10
	baseBytes   = 64 << 20
)

// spareDescriptors are those of files, listeners, the API, and connections that have not finished their opening handshake.
const spareDescriptors = 9216

// userBytes is the memory of the process itself.
func (p Plan) userBytes() int64 {
	if p.TLS {
		return baseBytes + int64(p.Connections)*tlsBytes
	}
	return baseBytes + int64(p.Connections)*plainBytes
}

func (p Plan) kernelBytes() int64 { return int64(p.Connections) * kernelBytes }

// descriptors is what the process opens.
func (p Plan) descriptors() int64 { return int64(p.Connections) + spareDescriptors }

// burst is how many connects a storm brings at once: a tenth of all in a second, as far as listen(2) can hold them.
func (p Plan) burst() int64 { return int64(min(max(4096, p.Connections/10), 65535)) }

// Machine is where the doctor looks.
type Machine struct {
	Root   fs.FS                                               // of /proc and /sys, whose paths have no leading slash
	Getenv func(string) string                                 // of this process
	FreeAt func(dir string) (bytes int64, kind int64, e error) // of the file system that holds a directory, and its magic number
	CPUs   int                                                 // that this process may run on
	Page   int64                                               // bytes
}

// Here is this machine.
func Here() Machine {
	return Machine{os.DirFS("/"), os.Getenv, freeAt, runtime.NumCPU(), int64(os.Getpagesize())}
}

// Report is what was found.
type Report struct {
	Connections int       `json:"connections"`
	TLS         bool      `json:"tls"`
	Kernel      string    `json:"kernel,omitempty"`
	Place       Place     `json:"place"`
	Verdict     Verdict   `json:"verdict"` // the worst
	Findings    []Finding `json:"findings"`
}

// Examine looks at everything. It takes less than a millisecond and starts no process.
func Examine(m Machine, p Plan) Report {
	groups, _ := cgroup.Read(m.Root) // what cannot be read is no limit
	e := examination{Machine: m, plan: p, groups: groups, place: m.place()}
	e.descriptors()
	e.tcp()
	e.memory()
	e.processors()
	e.disk()
	r := Report{Connections: p.Connections, TLS: p.TLS, Kernel: m.text("proc/sys/kernel/osrelease"), Place: e.place, Verdict: OK, Findings: e.findings}
	for _, f := range r.Findings {
		if f.Verdict == Fault || f.Verdict == Warn && r.Verdict == OK {
			r.Verdict = f.Verdict
		}
	}
	return r
}

// examination is one under way.
type examination struct {
	Machine
	plan     Plan
	groups   cgroup.Limits
	place    Place
	findings []Finding
}

func (e *examination) add(f Finding) { e.findings = append(e.findings, f) }

// least adds a finding for a sysctl of one number that must be so high.
func (e *examination) least(key string, need int64, bad Verdict, what, why string) {
	f := Finding{Name: key, Verdict: OK, What: what, Need: count(need), Why: why, Have: "unknown"}
	have, ok := e.number(procfs(key))
	switch {
	case !ok:
		f.Verdict = Unknown
	case have < need:
		f.Verdict, f.Have = bad, count(have)
		e.sysctl(&f, key, decimal(need))
	default:
		f.Have = count(have)
	}
	e.add(f)
}

// sysctl gives f the line that sets a value.
func (e *examination) sysctl(f *Finding, key, value string) {
	f.Sysctl = &Setting{key, value}
	f.Fix = e.place.sysctl(key, value)
}

// procfs is where a sysctl is read.
func procfs(key string) string { return "proc/sys/" + strings.ReplaceAll(key, ".", "/") }

// text reads a file, "" if there is none.
func (m Machine) text(name string) string {
	b, err := fs.ReadFile(m.Root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number reads the first number of a file.
func (m Machine) number(name string) (int64, bool) {
	all := m.numbers(name)
	if len(all) == 0 {
		return 0, false
	}
	return all[0], true
}

// numbers reads a file of numbers; none if any is none.
func (m Machine) numbers(name string) []int64 {
	var out []int64
	for field := range strings.FieldsSeq(m.text(name)) {
		n, ok := parse(field)
		if !ok {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// parse reads a number of the kernel's; what is larger than any other is "unlimited", as some write it.
func parse(s string) (int64, bool) {
	if s == "unlimited" {
		return math.MaxInt64, true
	}
	var n int64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			return math.MaxInt64, true
		}
		n = n*10 + int64(c-'0')
	}
	return n, s != ""
}

// count writes a number so that it can be read.
func count(n int64) string {
	if n >= math.MaxInt64/2 {
		return "no limit"
	}
	s := decimal(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes bytes so that they can be read.
func size(n int64) string {
	switch {
	case n >= math.MaxInt64/2:
		return "no limit"
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
