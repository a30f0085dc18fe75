package push

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"
)

// This file has what the kernel says of the process, at a cost that does not grow with its connections. The names are those that Prometheus's
// own collector has; that one lists the descriptors where the kernel does not count them: at a million, a gigabyte of the kernel's memory.

var (
	descCPU       = processDesc("cpu_seconds_total", "CPU time of the process, its own and the kernel's for it.")
	descResident  = processDesc("resident_memory_bytes", "Memory of the process that is in RAM.")
	descVirtual   = processDesc("virtual_memory_bytes", "Addresses that the process has taken.")
	descStart     = processDesc("start_time_seconds", "When the process began.")
	descOpenFiles = processDesc("open_fds", "Open file descriptors; absent where they are many and the kernel, before Linux 6.2, does not count them.")
	descMostFiles = processDesc("max_fds", "File descriptors that may be open, by RLIMIT_NOFILE.")
)

func processDesc(name, help string) *prometheus.Desc {
	catalog = append(catalog, metric{name: "process_" + name, help: help})
	return prometheus.NewDesc("process_"+name, help, nil, nil)
}

// processCollector is a prometheus.Collector of what is known of it. What cannot be read is absent.
type processCollector struct{}

var _ prometheus.Collector = processCollector{}

// Describe implements prometheus.Collector; the set depends on what can be read.
func (processCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (processCollector) Collect(out chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		out <- prometheus.MustNewConstMetric(d, kind, v)
	}
	if st, err := processStat(); err == nil {
		emit(descCPU, prometheus.CounterValue, st.CPUTime())
		emit(descResident, prometheus.GaugeValue, float64(st.ResidentMemory()))
		emit(descVirtual, prometheus.GaugeValue, float64(st.VirtualMemory()))
		if start, err := st.StartTime(); err == nil {
			emit(descStart, prometheus.GaugeValue, start)
		}
	}
	if n, ok := openFiles("/proc/self/fd", "/proc/self/status"); ok {
		emit(descOpenFiles, prometheus.GaugeValue, float64(n))
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		emit(descMostFiles, prometheus.GaugeValue, float64(limit.Cur))
	}
}

func processStat() (procfs.ProcStat, error) {
	self, err := procfs.Self()
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return self.Stat()
}

// usage is what this process has used: seconds of CPU, bytes of memory; zeros where /proc cannot be read.
func usage() (cpu float64, resident int) {
	st, err := processStat()
	if err != nil {
		return 0, 0
	}
	return st.CPUTime(), st.ResidentMemory()
}

// maxListed bounds the table of descriptors that is listed to count them: each costs about a kilobyte of the kernel's memory.
const maxListed = 16 << 10

// openFiles counts the entries of /proc/self/fd, of which status tells the size of the table; ok is false if that would be costly, or cannot be done.
func openFiles(fd, status string) (n int, ok bool) {
	info, err := os.Stat(fd)
	if err != nil {
		return 0, false
	}
	if n := info.Size(); n > 0 { // since Linux 6.2 their number
		return int(n), true
	}
	if size, ok := tableSize(status); !ok || size > maxListed {
		return 0, false
	}
	dir, err := os.Open(fd)
	if err != nil {
		return 0, false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return len(names) - 1, err == nil // without dir itself
}

// tableSize reads how many descriptors there is room for until the table grows; it never shrinks.
func tableSize(status string) (n int, ok bool) {
	b, err := os.ReadFile(status)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if value, found := bytes.CutPrefix(line, []byte("FDSize:")); found {
			n, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			return n, err == nil
		}
	}
	return 0, false
}
