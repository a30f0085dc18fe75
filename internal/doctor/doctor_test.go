package doctor

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// tuned is a large server that lacks nothing for a million connections.
func tuned() map[string]string {
	return map[string]string{
		"proc/self/cgroup":                                                "0::/system.slice/millpond.service\n",
		"proc/self/mountinfo":                                             "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"proc/self/limits":                                                "Limit                     Soft Limit           Hard Limit           Units     \nMax processes             96365                96365                processes \nMax open files            1024                 1100000              files     \n",
		"proc/meminfo":                                                    "MemTotal:       65803200 kB\nMemFree:        1 kB\nMemAvailable:   60000000 kB\n",
		"proc/sys/kernel/osrelease":                                       "6.12.9\n",
		"proc/sys/fs/nr_open":                                             "1073741816\n",
		"proc/sys/fs/file-max":                                            "9223372036854775807\n",
		"proc/sys/fs/file-nr":                                             "1184\t0\t9223372036854775807\n",
		"proc/sys/fs/epoll/max_user_watches":                              "14674534\n",
		"proc/sys/net/core/somaxconn":                                     "65535\n",
		"proc/sys/net/ipv4/tcp_max_syn_backlog":                           "65535\n",
		"proc/sys/net/ipv4/tcp_syncookies":                                "1\n",
		"proc/sys/net/ipv4/tcp_mem":                                       "770000\t1030000\t1540000\n",
		"proc/sys/net/ipv4/tcp_rmem":                                      "4096\t131072\t6291456\n",
		"proc/sys/net/ipv4/ip_local_port_range":                           "1024\t65535\n",
		"proc/sys/vm/overcommit_memory":                                   "0\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                      "always [madvise] never\n",
		"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
		"sys/fs/cgroup/system.slice/millpond.service/memory.max":          "max\n",
	}
}

// with returns files with some of them other, or none where the content is empty.
func with(files map[string]string, other map[string]string) map[string]string {
	for name, content := range other {
		if files[name] = content; content == "" {
			delete(files, name)
		}
	}
	return files
}

func machine(files map[string]string, env map[string]string) Machine {
	root := fstest.MapFS{}
	for name, content := range files {
		root[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return Machine{
		Root: root, Getenv: func(name string) string { return env[name] }, CPUs: 8, Page: 4096,
		FreeAt: func(dir string) (int64, int64, error) {
			switch dir {
			case "/memory":
				return 1 << 40, unix.TMPFS_MAGIC, nil
			case "/full":
				return 1 << 20, unix.EXT4_SUPER_MAGIC, nil
			case "/none":
				return 0, 0, os.ErrNotExist
			}
			return 1 << 40, unix.EXT4_SUPER_MAGIC, nil
		},
	}
}

// barely is what 10,000 connections need, of all that is counted, less some of each.
func barely(less int) map[string]string {
	const bytes = 64<<20 + 10_000*(5<<10)
	n := func(value int) string { return strconv.Itoa(value-less) + "\n" }
	return map[string]string{
		"proc/self/limits":                                       "Max open files            1024                 " + strings.TrimSpace(n(19216)) + "                files     \n",
		"proc/meminfo":                                           fmt.Sprintf("MemTotal:       %d kB\nMemAvailable:   %[1]d kB\n", bytes>>10-less),
		"proc/sys/fs/nr_open":                                    n(19216),
		"proc/sys/fs/file-nr":                                    "1184\t0\t" + n(20400),
		"proc/sys/fs/epoll/max_user_watches":                     n(19216),
		"proc/sys/net/core/somaxconn":                            n(4096),
		"proc/sys/net/ipv4/tcp_max_syn_backlog":                  n(4096),
		"proc/sys/net/ipv4/tcp_mem":                              "7500\t" + strings.TrimSpace(n(10000)) + "\t15000\n",
		"proc/sys/net/ipv4/ip_local_port_range":                  "1024\t65535\n",
		"proc/sys/net/netfilter/nf_conntrack_max":                n(13000),
		"proc/sys/net/netfilter/nf_conntrack_count":              "1000\n",
		"sys/fs/cgroup/system.slice/millpond.service/memory.max": n(bytes),
	}
}

func TestExamine(t *testing.T) {
	million := Plan{Connections: 1_000_000}
	systemd := map[string]string{"INVOCATION_ID": "x"}
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		plan  Plan
		place Place
		// want has what is not ok: name, verdict, and a part of what mends it.
		want map[string][2]string
	}{
		{"a tuned server", tuned(), systemd, million, Systemd, map[string][2]string{
			"net.ipv4.ip_local_port_range": {"note", ""},
		}},
		{"a laptop as it comes", with(tuned(), map[string]string{
			"proc/self/cgroup":                                                "0::/user.slice/session-2.scope\n",
			"proc/self/limits":                                                "Max open files            1024                 4096                 files     \n",
			"proc/meminfo":                                                    "MemTotal:       8000000 kB\nMemAvailable:   3000000 kB\n",
			"proc/sys/fs/nr_open":                                             "1000\n",
			"proc/sys/fs/file-nr":                                             "800000\t0\t805000\n",
			"proc/sys/fs/epoll/max_user_watches":                              "9000\n",
			"proc/sys/net/core/somaxconn":                                     "128\n",
			"proc/sys/net/ipv4/tcp_max_syn_backlog":                           "512\n",
			"proc/sys/net/ipv4/tcp_syncookies":                                "0\n",
			"proc/sys/net/ipv4/tcp_rmem":                                      "4096\t4194304\t33554432\n",
			"proc/sys/net/netfilter/nf_conntrack_max":                         "10000\n",
			"proc/sys/net/netfilter/nf_conntrack_count":                       "1000\n",
			"proc/sys/vm/overcommit_memory":                                   "2\n",
			"sys/kernel/mm/transparent_hugepage/enabled":                      "[always] madvise never\n",
			"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
		}), nil, Plan{Connections: 10_000, TLS: true, DataDir: "/full"}, Shell, map[string][2]string{
			"nofile": {"fault", "ulimit -n 19216"}, "fs.nr_open": {"fault", "sysctl -w 'fs.nr_open=19216'"},
			"fs.file-max": {"fault", "fs.file-max=901137"}, "fs.epoll.max_user_watches": {"fault", "19216"},
			"net.core.somaxconn": {"warn", "sysctl -w 'net.core.somaxconn=4096'"}, "net.ipv4.tcp_max_syn_backlog": {"warn", "4096"},
			"net.ipv4.tcp_syncookies": {"warn", "=1"}, "net.ipv4.tcp_rmem": {"warn", "4096 131072 33554432"},
			"net.netfilter.nf_conntrack_max": {"warn", "13000"}, "vm.overcommit_memory": {"warn", "=0"},
			"transparent huge pages": {"note", "echo madvise"}, "clock source": {"warn", "tsc"}, "data directory": {"warn", "larger disk"},
		}},
		{"a container with limits of version 2", with(tuned(), map[string]string{
			"proc/self/cgroup":            "0::/\n",
			".dockerenv":                  "x",
			"sys/fs/cgroup/memory.max":    "268435456\n",
			"sys/fs/cgroup/memory.high":   "200000000\n",
			"sys/fs/cgroup/cpu.max":       "50000 100000\n",
			"sys/fs/cgroup/pids.max":      "10\n",
			"proc/sys/net/core/somaxconn": "4096\n", "proc/sys/net/ipv4/tcp_mem": "1\t2\t3\n",
			"proc/self/limits": "Max open files            1024                 1024                 files     \n",
		}), map[string]string{"GOMEMLIMIT": "100MiB"}, Plan{Connections: 100_000}, Container, map[string][2]string{
			"nofile": {"fault", "docker run --ulimit nofile=109216:109216"}, "cgroup memory": {"fault", "docker run --memory 69"},
			"cgroup memory.high": {"warn", "memory.high above"}, "cgroup pids": {"warn", "--pids-limit 128"}, "cpu": {"warn", "--cpus 1"},
			"net.core.somaxconn": {"warn", "docker run --sysctl 'net.core.somaxconn=10000'"},
			"net.ipv4.tcp_mem":   {"warn", "on the host: sysctl -w 'net.ipv4.tcp_mem=75000 100000 150000'"},
			"GOMEMLIMIT":         {"warn", "GOMEMLIMIT=203MiB"}, "net.ipv4.ip_local_port_range": {"note", ""},
		}},
		{"a pod of Kubernetes", with(tuned(), map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n", "sys/fs/cgroup/cpu.max": "150000 100000\n",
			"proc/sys/net/core/somaxconn": "4096\n", "proc/sys/fs/nr_open": "1048576\n",
			"proc/self/limits": "Max open files            1024                 1048576              files     \n",
		}), map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "GOMEMLIMIT": "lots"}, Plan{Connections: 50_000}, Kubernetes, map[string][2]string{
			"cgroup memory": {"fault", "resources.limits.memory of the container: 386Mi"}, "cpu": {"note", "resources.limits.cpu of the container: 2"},
			"net.core.somaxconn": {"warn", `securityContext.sysctls of the pod: {name: net.core.somaxconn, value: "5000"}`},
			"GOMEMLIMIT":         {"fault", "MiB"},
		}},
		{"a container of version 1", with(tuned(), map[string]string{
			"proc/self/cgroup":                           "4:memory:/docker/abc\n",
			"proc/self/mountinfo":                        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
		}), nil, Plan{Connections: 500_000, DataDir: "/memory"}, Container, map[string][2]string{
			"cgroup memory": {"fault", "--max-connections 196608"}, "data directory": {"warn", "outlives"}, "net.ipv4.ip_local_port_range": {"note", ""},
		}},
		{"a machine that is too small", with(tuned(), map[string]string{
			"proc/meminfo": "MemTotal:       2000000 kB\nMemAvailable:   1500000 kB\n",
		}), systemd, Plan{Connections: 1_000_000, DataDir: "/none"}, Systemd, map[string][2]string{
			"memory": {"fault", "--max-connections 386"}, "data directory": {"fault", "mkdir -p /none"}, "net.ipv4.ip_local_port_range": {"note", ""},
		}},
		{"a firewall that tracks nothing, and memory that others hold", with(tuned(), map[string]string{
			"proc/sys/net/netfilter/nf_conntrack_max": "262144\n", "proc/sys/net/netfilter/nf_conntrack_count": "0\n",
			"proc/meminfo": "MemTotal:       8000000 kB\nMemAvailable:   1500000 kB\n",
		}), systemd, million, Systemd, map[string][2]string{
			"net.netfilter.nf_conntrack_max": {"note", "1200000"}, "memory": {"warn", "--max-connections"}, "net.ipv4.ip_local_port_range": {"note", ""},
		}},
		{"just enough", with(tuned(), barely(0)), systemd, Plan{Connections: 10_000}, Systemd, nil},
		{"one too few of each", with(tuned(), barely(1)), systemd, Plan{Connections: 10_000}, Systemd, map[string][2]string{
			"nofile": {"fault", "19216"}, "fs.nr_open": {"fault", "19216"}, "fs.file-max": {"fault", "22440"}, "fs.epoll.max_user_watches": {"fault", "19216"},
			"net.core.somaxconn": {"warn", "4096"}, "net.ipv4.tcp_max_syn_backlog": {"warn", "4096"}, "net.ipv4.tcp_mem": {"warn", "10000"},
			"net.netfilter.nf_conntrack_max": {"warn", "13000"}, "memory": {"fault", "--max-connections 9999"}, "cgroup memory": {"fault", "--max-connections 9999"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Examine(machine(tt.files, tt.env), tt.plan)
			if r.Place != tt.place {
				t.Errorf("place %s, want %s", r.Place, tt.place)
			}
			worst := OK
			for _, f := range r.Findings {
				want, listed := tt.want[f.Name]
				if !listed {
					want[0] = "ok"
				}
				delete(tt.want, f.Name)
				if string(f.Verdict) != want[0] || !strings.Contains(f.Fix, want[1]) {
					t.Errorf("%s: %s, %q; want %s, %q", f.Name, f.Verdict, f.Fix, want[0], want[1])
				}
				if f.Verdict != OK && f.Verdict != Note && f.Fix == "" {
					t.Errorf("%s: nothing mends it", f.Name)
				}
				if f.Verdict == Fault || f.Verdict == Warn && worst == OK {
					worst = f.Verdict
				}
			}
			for name := range tt.want {
				t.Errorf("%s is not there", name)
			}
			if r.Verdict != worst {
				t.Errorf("verdict %s, want %s", r.Verdict, worst)
			}
		})
	}
}

// Where nothing can be read, all is unknown, and nothing breaks.
func TestExamineNothing(t *testing.T) {
	m := machine(nil, nil)
	for _, f := range Examine(m, Plan{Connections: 1}).Findings {
		if f.Verdict != Unknown && f.Name != "cpu" {
			t.Errorf("%s: %s", f.Name, f.Verdict)
		}
	}
}

// What doctor writes for sysctl leaves nothing of the kernel to be mended, and lowers nothing.
func TestSysctls(t *testing.T) {
	files := with(tuned(), map[string]string{
		"proc/sys/fs/nr_open": "1000\n", "proc/sys/net/core/somaxconn": "128\n", "proc/sys/net/ipv4/tcp_mem": "10\t20\t99999999\n",
		"proc/sys/fs/epoll/max_user_watches": "1\n", "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
	})
	plan := Plan{Connections: 1_000_000}
	written := Examine(machine(files, nil), plan).Sysctls()
	if !strings.Contains(written, "net.ipv4.tcp_mem = 750000 1000000 99999999\n") {
		t.Errorf("tcp_mem: %s", written)
	}
	for line := range strings.Lines(written) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "#") {
			files[procfs(key)] = value
		}
	}
	if again := Examine(machine(files, nil), plan).Sysctls(); again != "" {
		t.Errorf("still wanting:\n%s", again)
	}
	if s := Examine(machine(tuned(), nil), plan).Sysctls(); s != "" {
		t.Errorf("a tuned machine: %s", s)
	}
}

// The file of deploy/ is enough for a million connections, for what it names.
func TestDeployedSysctls(t *testing.T) {
	b, err := os.ReadFile("../../deploy/sysctl/90-millpond.conf")
	if err != nil {
		t.Fatal(err)
	}
	files, named := tuned(), 0
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "#") {
			if files[procfs(key)] == "" {
				t.Errorf("%s is nothing that doctor looks at", key)
			}
			files[procfs(key)] = value
			named++
		}
	}
	if named == 0 {
		t.Error("the file names nothing")
	}
	if s := Examine(machine(files, nil), Plan{Connections: 1_000_000}).Sysctls(); s != "" {
		t.Errorf("wanting:\n%s", s)
	}
}

// What is read here is what the kernel says to others who ask.
func TestExamineHere(t *testing.T) {
	m := Here()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if hard, ok := m.hardLimit("Max open files"); !ok || uint64(hard) != min(limit.Max, math.MaxInt64) { //nolint:gosec // not negative
		t.Errorf("nofile: %d, %v, want %d", hard, ok, limit.Max)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	if total, available, ok := m.meminfo(); !ok || uint64(total) != info.Totalram*uint64(info.Unit) || available <= 0 || available > total { //nolint:gosec // not negative
		t.Errorf("memory: %d, %d, %v, want %d", total, available, ok, info.Totalram*uint64(info.Unit))
	}
	if _, _, err := m.FreeAt("/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if free, _, err := m.FreeAt(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("a directory: %d, %v", free, err)
	}
	if allocated := testing.AllocsPerRun(3, func() { Examine(m, Plan{Connections: 1}) }); allocated > 2000 {
		t.Errorf("%v allocations at each start", allocated)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64
		ok   bool
	}{
		{"0", 0, true},
		{"1048576", 1 << 20, true},
		{"unlimited", math.MaxInt64, true},
		{"9223372036854775807", math.MaxInt64, true},
		{"18446744073709551615", math.MaxInt64, true},
		{"99999999999999999999999", math.MaxInt64, true},
		{"", 0, false},
		{"-1", 0, false},
		{"1k", 0, false},
	} {
		if got, ok := parse(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("parse(%q): %d, %v, want %d, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
	for _, tt := range []struct {
		in   string
		want int64
		ok   bool
	}{{"5", 5, true}, {"5B", 5, true}, {"3KiB", 3 << 10, true}, {"2GiB", 2 << 30, true}, {"1TiB", 1 << 40, true}, {"GiB", 0, false}, {"1GB", 0, false}, {"9999999999TiB", 0, false}} {
		if got, ok := parseGoBytes(tt.in); ok != tt.ok || ok && got != tt.want {
			t.Errorf("parseGoBytes(%q): %d, %v, want %d, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestPrint(t *testing.T) {
	r := Report{Connections: 1_000_000, TLS: true, Kernel: "6.12", Place: Shell, Findings: []Finding{
		{Name: "good", Verdict: OK, What: "what it is", Have: "5", Need: "4", Why: "why."},
		{Name: "bad", Verdict: Fault, What: "what it is", Have: "5", Need: "6", Why: "Why.", Fix: "do this"},
	}}
	var b strings.Builder
	if err := r.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "1,000,000 connections with TLS, Linux 6.12, shell\n\n" +
		"✓ good                           5; wanted: 4\n" +
		"✗ bad                            5; wanted: 6\n    What it is. Why.\n    → do this\n" +
		"\nFaults: 1, warnings: 0.\n"
	if b.String() != want {
		t.Errorf("printed:\n%s\nwant:\n%s", b.String(), want)
	}
	b.Reset()
	if err := r.Print(&b, true); err != nil || strings.Count(b.String(), "\x1b[31m") != 2 {
		t.Errorf("colors: %q, %v", b.String(), err)
	}
}

// FuzzExamine feeds any text to every file.
func FuzzExamine(f *testing.F) {
	f.Add("max", "0::/\n", 1)
	f.Add("1 2 3", "4:memory:/\n", 1_000_000)
	f.Add("Max open files 1 unlimited\nMemTotal: 99999999999999999 kB\n[always] never", "", 0)
	f.Fuzz(func(t *testing.T, content, groups string, connections int) {
		files := tuned()
		for name := range files {
			files[name] = content
		}
		files["proc/self/cgroup"] = groups
		files["proc/sys/net/netfilter/nf_conntrack_max"] = content
		r := Examine(machine(files, map[string]string{"GOMEMLIMIT": content}), Plan{Connections: max(0, min(connections, 1<<32)), TLS: true})
		var b strings.Builder
		if err := r.Print(&b, true); err != nil {
			t.Fatal(err)
		}
		_ = r.Sysctls()
	})
}
