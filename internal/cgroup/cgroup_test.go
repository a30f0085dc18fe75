package cgroup

import (
	"os"
	"testing"
	"testing/fstest"
)

// machine makes a file system of names and contents.
func machine(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, content := range files {
		out[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return out
}

const (
	mount2      = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	mountMemory = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	mountCPU    = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)

func TestRead(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  Limits
	}{
		{"nothing but a process", map[string]string{"proc/self/cgroup": "", "proc/self/mountinfo": ""}, Limits{}},
		{
			"version 2, a service below a slice with less",
			map[string]string{
				"proc/self/cgroup": "0::/app.slice/millpond.service\n", "proc/self/mountinfo": mount2,
				"sys/fs/cgroup/app.slice/millpond.service/memory.max":  "2147483648\n",
				"sys/fs/cgroup/app.slice/millpond.service/memory.high": "max\n",
				"sys/fs/cgroup/app.slice/millpond.service/pids.max":    "4915\n",
				"sys/fs/cgroup/app.slice/millpond.service/cpu.max":     "max 100000\n",
				"sys/fs/cgroup/app.slice/memory.max":                   "1073741824\n",
				"sys/fs/cgroup/app.slice/memory.high":                  "1000000000\n",
				"sys/fs/cgroup/app.slice/cpu.max":                      "150000 100000\n",
			},
			Limits{2, 1 << 30, 1_000_000_000, 1.5, 4915, "sys/fs/cgroup/app.slice"},
		},
		{
			"version 2, a container with a namespace of its own",
			map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mount2,
				"sys/fs/cgroup/memory.max": "268435456\n", "sys/fs/cgroup/cpu.max": "50000 100000\n",
			},
			Limits{2, 256 << 20, 0, 0.5, 0, "sys/fs/cgroup"},
		},
		{
			"version 2, a path of another namespace",
			map[string]string{
				"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": "31 23 0:28 /pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/memory.max": "1000000\n",
			},
			Limits{2, 1_000_000, 0, 0, 0, "sys/fs/cgroup"},
		},
		{
			"version 2, a group whose name begins as that which is seen",
			map[string]string{
				"proc/self/cgroup": "0::/pod12\n", "proc/self/mountinfo": "31 23 0:28 /pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/memory.max": "1000000\n", "sys/fs/cgroup/2/memory.max": "5\n",
			},
			Limits{2, 1_000_000, 0, 0, 0, "sys/fs/cgroup"},
		},
		{
			"version 1, a container that shows its part",
			map[string]string{
				"proc/self/cgroup":                                           "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n",
				"proc/self/mountinfo":                                        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" + mountCPU,
				"sys/fs/cgroup/memory/memory.limit_in_bytes":                 "536870912\n",
				"sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us":      "200000\n",
				"sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us":     "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/docker/memory.limit_in_bytes":     "1\n", // not that controller's
				"sys/fs/cgroup/cpu,cpuacct/docker/abc/memory.limit_in_bytes": "1\n",
			},
			Limits{1, 512 << 20, 0, 2, 0, "sys/fs/cgroup/memory"},
		},
		{
			"version 1, no limits",
			map[string]string{
				"proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/\n", "proc/self/mountinfo": mountMemory + mountCPU,
				"sys/fs/cgroup/memory/memory.limit_in_bytes":       "9223372036854771712\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":       "-1\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":      "100000\n",
				"sys/fs/cgroup/memory/child/memory.limit_in_bytes": "1\n",
			},
			Limits{Version: 1},
		},
		{
			"both, of which version 1 has the controllers (systemd's hybrid)",
			map[string]string{
				"proc/self/cgroup":    "12:pids:/system.slice/millpond.service\n9:name=systemd:/system.slice/millpond.service\n4:memory:/system.slice/millpond.service\n0::/system.slice/millpond.service\n",
				"proc/self/mountinfo": mountMemory + "40 31 0:40 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" + "41 31 0:41 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" + "42 31 0:42 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw,nsdelegate\n",
				"sys/fs/cgroup/unified/system.slice/millpond.service/cgroup.procs":         "77\n",
				"sys/fs/cgroup/memory/system.slice/millpond.service/memory.limit_in_bytes": "9223372036854771712\n",
				"sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes":                  "1073741824\n", // around it
				"sys/fs/cgroup/memory/memory.limit_in_bytes":                               "9223372036854771712\n",
				"sys/fs/cgroup/pids/system.slice/millpond.service/pids.max":                "max\n",
				"sys/fs/cgroup/pids/system.slice/pids.max":                                 "100\n",
			},
			Limits{1, 1 << 30, 0, 0, 100, "sys/fs/cgroup/memory/system.slice"},
		},
		{
			"both, of which version 2 has the memory and version 1 the processors",
			map[string]string{
				"proc/self/cgroup": "3:cpu,cpuacct:/a/b\n0::/a/b\n", "proc/self/mountinfo": mountCPU + "42 31 0:42 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/unified/a/b/memory.max": "max\n", "sys/fs/cgroup/unified/a/memory.max": "5000000000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "350000\n", "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
			},
			Limits{2, 5_000_000_000, 0, 3.5, 0, "sys/fs/cgroup/unified/a"},
		},
		{
			"version 2, nothing delegated to the group itself",
			map[string]string{
				"proc/self/cgroup": "0::/kubepods.slice/pod1.slice/c1.scope\n", "proc/self/mountinfo": mount2,
				"sys/fs/cgroup/kubepods.slice/pod1.slice/memory.max": "67108864\n", "sys/fs/cgroup/kubepods.slice/memory.max": "max\n",
				"sys/fs/cgroup/kubepods.slice/pod1.slice/cpu.max": "25000 100000\n",
			},
			Limits{2, 64 << 20, 0, 0.25, 0, "sys/fs/cgroup/kubepods.slice/pod1.slice"},
		},
		{
			"files that make no sense",
			map[string]string{
				"proc/self/cgroup": "0::/\n::\n\n4:memory\nx", "proc/self/mountinfo": "- - -\n\n1 2\n" + mount2,
				"sys/fs/cgroup/memory.max": "-5\n", "sys/fs/cgroup/cpu.max": "100000 0\n", "sys/fs/cgroup/pids.max": "many\n",
			},
			Limits{Version: 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Read(machine(tt.files))
			if err != nil || got != tt.want {
				t.Errorf("Read: %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestReadWithoutProc(t *testing.T) {
	if _, err := Read(machine(nil)); err == nil {
		t.Error("Read: no error without /proc/self/cgroup")
	}
	if _, err := Read(machine(map[string]string{"proc/self/cgroup": "0::/\n"})); err == nil {
		t.Error("Read: no error without /proc/self/mountinfo")
	}
}

// What this machine has is read without an error, whatever it is.
func TestReadHere(t *testing.T) {
	l, err := Read(os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", l)
}

func FuzzRead(f *testing.F) {
	f.Add("0::/a/b\n", mount2, "max\n")
	f.Add("4:memory:/docker/abc\n", mountMemory, "9223372036854771712\n")
	f.Add("4:memory:/../..\n", "35 31 0:32 /../x /.. ro - cgroup cgroup rw,memory\n", "12\n")
	f.Fuzz(func(t *testing.T, groups, mountinfo, value string) {
		files := map[string]string{"proc/self/cgroup": groups, "proc/self/mountinfo": mountinfo}
		for _, name := range []string{"memory.max", "memory.high", "pids.max", "cpu.max", "memory/memory.limit_in_bytes"} {
			files["sys/fs/cgroup/"+name] = value
		}
		l, err := Read(machine(files))
		if err != nil {
			t.Fatal(err)
		}
		if l.MemoryBytes < 0 || l.MemoryHighBytes < 0 || l.CPUs < 0 || l.PIDs < 0 {
			t.Errorf("negative: %+v", l)
		}
	})
}
