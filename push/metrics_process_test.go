package push

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

func TestOpenFiles(t *testing.T) {
	statusOf := func(text string) string {
		path := filepath.Join(t.TempDir(), "status")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// fdinfo has the same entries as fd, and no kernel tells their number: so is fd before Linux 6.2.
	const before62 = "/proc/self/fdinfo"
	for _, tt := range []struct {
		name, fd, status string
		ok               bool
	}{
		{"as it is here", "/proc/self/fd", "/proc/self/status", true},
		{"an older kernel, a small table", before62, statusOf("Name:\tx\nFDSize:\t16384\nGroups:\t0\n"), true},
		{"an older kernel, a large table", before62, statusOf("Name:\tx\nFDSize:\t32768\nGroups:\t0\n"), false},
		{"a status without a table", before62, statusOf("Name:\tx\n"), false},
		{"a status that is none", before62, statusOf("FDSize:\tmany\n"), false},
		{"no status", before62, "/nowhere", false},
		{"no /proc", "/nowhere", "/proc/self/status", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			few, ok := openFiles(tt.fd, tt.status)
			if ok != tt.ok || !ok && few != 0 {
				t.Fatalf("%d, %t", few, ok)
			}
			const more = 500
			for range more {
				fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = unix.Close(fd) }()
			}
			many, _ := openFiles(tt.fd, tt.status)
			if grown := many - few; ok && (grown < more*9/10 || grown > more*11/10) { // others open and close some, too
				t.Errorf("%d, and %d with %d more", few, many, more)
			}
		})
	}
}

func TestProcessMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(processCollector{})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	now := float64(time.Now().Unix())
	want := map[string]func(v float64) bool{
		"process_cpu_seconds_total":     func(v float64) bool { return v > 0 && v < 1e6 },
		"process_resident_memory_bytes": func(v float64) bool { return v > 1<<20 && v < 1<<36 },
		"process_virtual_memory_bytes":  func(v float64) bool { return v > got["process_resident_memory_bytes"] },
		"process_start_time_seconds":    func(v float64) bool { return v > now-24*3600 && v <= now+1 },
		"process_open_fds":              func(v float64) bool { return v > 2 && v < got["process_max_fds"] },
		"process_max_fds":               func(v float64) bool { return v == float64(limit.Cur) },
	}
	for name, is := range want {
		if v, ok := got[name]; !ok || !is(v) {
			t.Errorf("%s is %v, %t", name, v, ok)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %v", got)
	}
}
