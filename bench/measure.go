package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// This file reads what processes and the kernel take.

// gauge is a server as it can be seen from here: by the PIDs of its processes, or if they are not known, by its metrics.
type gauge struct {
	pid     int
	metrics string // URL; empty without
	beside  []int  // more processes of it, with a pid
}

func (t Target) gauge() gauge { return gauge{t.PID, t.Metrics, t.Beside} }

// visible tells whether anything is known of it.
func (g gauge) visible() bool { return g.pid != 0 || g.metrics != "" }

// usage is what a process has used up to now, or uses.
type usage struct {
	CPU        time.Duration
	RSS        int64 // bytes
	Goroutines int   // from its metrics, 0 without
}

// use reads it; all is 0 if nothing is known.
func (g gauge) use(ctx context.Context) (u usage, err error) {
	if g.pid != 0 {
		for _, pid := range append([]int{g.pid}, g.beside...) {
			cpu, err1 := cpu(pid)
			rss, err2 := rss(pid)
			u.CPU, u.RSS, err = u.CPU+cpu, u.RSS+rss, errors.Join(err, err1, err2)
		}
		return u, err
	}
	if g.metrics == "" {
		return u, nil
	}
	values, err := scrape(ctx, g.metrics, "process_cpu_seconds_total", "process_resident_memory_bytes", "go_goroutines")
	if err != nil {
		return u, err
	}
	return usage{
		CPU: time.Duration(values["process_cpu_seconds_total"] * float64(time.Second)), RSS: int64(values["process_resident_memory_bytes"]),
		Goroutines: int(values["go_goroutines"]),
	}, nil
}

// rss returns a process's resident memory in bytes, 0 if pid is 0.
func rss(pid int) (int64, error) {
	if pid == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, errors.New("/proc: statm has no second field")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// cpu returns the CPU time that a process's threads have used, 0 if pid is 0. /proc/PID/schedstat has nanoseconds, but
// of the first thread alone; threads of Go's runtime do not end while the process lives. Without schedstat it is in
// hundredths of a second.
func cpu(pid int) (sum time.Duration, err error) {
	if pid == 0 {
		return 0, nil
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return cpuTicks(pid)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) {
			continue // another program's threads may end
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// cpuTicks is utime and stime of /proc/PID/stat, proc(5), in USER_HZ, which is 100 on all of Go's Linux.
func cpuTicks(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// goroutines reads the gauge from a Prometheus page, 0 if url is empty.
func goroutines(ctx context.Context, url string) (int, error) {
	if url == "" {
		return 0, nil
	}
	values, err := scrape(ctx, url, "go_goroutines")
	return int(values["go_goroutines"]), err
}

// scrape reads metrics without labels from a Prometheus page. One that is not there is an error.
func scrape(ctx context.Context, url string, names ...string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("--metrics %s: %s", url, response.Status)
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		for _, wanted := range names {
			if name == wanted {
				if values[name], err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					return nil, fmt.Errorf("--metrics %s: %s: %w", url, name, err)
				}
			}
		}
	}
	for _, name := range names {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("--metrics: %s has no %s", url, name)
		}
	}
	return values, nil
}

// kernel is what the kernel has for sockets and more, in bytes.
type kernel struct {
	TCP  int64 // buffers of TCP sockets, of the network namespace: "mem" of /proc/net/sockstat, sockstat in proc_net(5)
	Slab int64 // what it can't take back of its own objects, sockets and epoll entries among them, of the machine
}

// kernelUse reads it. pid's network namespace counts, this one's if it is 0.
func kernelUse(pid int) (k kernel, err error) {
	of := "self"
	if pid != 0 {
		of = strconv.Itoa(pid)
	}
	stat, err := os.ReadFile("/proc/" + of + "/net/sockstat")
	if err != nil {
		return k, err
	}
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		for i := 1; len(fields) > 0 && fields[0] == "TCP:" && i+1 < len(fields); i += 2 {
			if fields[i] == "mem" {
				pages, err := strconv.ParseInt(fields[i+1], 10, 64)
				if err != nil {
					return k, err
				}
				k.TCP = pages * int64(os.Getpagesize())
			}
		}
	}
	k.Slab, err = meminfo("SUnreclaim")
	return k, err
}

// overflows is how many packets of connects the kernel has dropped since it started because a listener's backlog was
// full: ListenOverflows of /proc/net/netstat, in the network namespace of process pid, this one's if it is 0.
func overflows(pid int) (float64, error) {
	if pid == 0 {
		pid = os.Getpid()
	}
	process, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := process.Netstat()
	if err == nil && stat.ListenOverflows == nil {
		err = errors.New("/proc/net/netstat has no ListenOverflows")
	}
	if err != nil {
		return 0, err
	}
	return *stat.ListenOverflows, nil
}

// meminfo returns a line of /proc/meminfo in bytes.
func meminfo(name string) (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name+":" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}
