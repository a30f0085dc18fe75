package report

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// sysctls are those that decide what many connections cost and may do.
var sysctls = []string{
	"fs.file-max", "fs.nr_open", "net.core.netdev_max_backlog", "net.core.rmem_max", "net.core.somaxconn", "net.core.wmem_max",
	"net.ipv4.ip_local_port_range", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	"net.netfilter.nf_conntrack_max",
}

// Here returns this machine and process. What the kernel does not tell is left out.
func Here(millpond string) Environment {
	e := Environment{Cores: runtime.NumCPU(), Go: runtime.Version(), Millpond: millpond, Sysctl: map[string]string{}, Limits: map[string]string{}}
	e.Kernel = proc("sys/kernel/ostype") + " " + proc("sys/kernel/osrelease") + " " + runtime.GOARCH
	e.CPU = field("cpuinfo", "model name")
	if kib, _, ok := strings.Cut(field("meminfo", "MemTotal"), " "); ok {
		n, _ := strconv.ParseUint(kib, 10, 54) // 0 is left out
		e.MemoryBytes = n << 10
	}
	for _, name := range sysctls {
		if v := proc("sys/" + strings.ReplaceAll(name, ".", "/")); v != "" {
			e.Sysctl[name] = strings.Join(strings.Fields(v), " ")
		}
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		e.Limits["nofile"] = fmt.Sprintf("%d, at most %d", files.Cur, files.Max)
	}
	return e
}

// proc returns a file of /proc, empty if there is none.
func proc(path string) string {
	b, err := os.ReadFile("/proc/" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// field returns what follows "name:" in a file of /proc, the first time.
func field(path, name string) string {
	b, err := os.ReadFile("/proc/" + path)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// String is one line for people.
func (e Environment) String() string {
	var parts []string
	add := func(format string, v any, there bool) {
		if there {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add("%s", e.Kernel, e.Kernel != "")
	add("%s", e.CPU, e.CPU != "")
	add("%d cores", e.Cores, e.Cores > 0)
	add("%s", humane(float64(e.MemoryBytes), "B"), e.MemoryBytes > 0)
	add("%s", e.Go, e.Go != "")
	add("millpond %s", e.Millpond, e.Millpond != "")
	return clean(strings.Join(parts, ", "))
}
