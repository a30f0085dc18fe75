package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// figures are what the machine says at one moment. Memory is in bytes.
type figures struct {
	Seconds float64 `json:"seconds"` // since the machine's init began
	Sockets int     `json:"tcp_sockets"`

	ServerRSS  int64   `json:"server_rss"`
	ServerPeak int64   `json:"server_rss_peak"` // so far
	ServerCPU  float64 `json:"server_cpu_seconds"`
	ClientRSS  int64   `json:"client_rss"`
	ClientCPU  float64 `json:"client_cpu_seconds"`

	Slab         int64 `json:"slab"`          // the kernel's objects: sockets, files, epoll items of both ends
	SocketMemory int64 `json:"socket_memory"` // what waits in buffers of TCP, as /proc/net/sockstat has it
	Vmalloc      int64 `json:"vmalloc"`       // the kernel's large tables: descriptors
	PageTables   int64 `json:"page_tables"`
	Free         int64 `json:"free"`
	Available    int64 `json:"available"`
}

// probe reads figures.
type probe struct {
	started time.Time
	fs      procfs.FS
	server  int // process ids, 0 while there is none
	client  int
}

func (p *probe) read() (f figures, err error) {
	f.Seconds = time.Since(p.started).Seconds()
	sockets, err := p.fs.NetSockstat()
	if err != nil {
		return f, err
	}
	for _, s := range sockets.Protocols {
		if s.Protocol == "TCP" {
			f.Sockets = s.InUse
			if s.Mem != nil {
				f.SocketMemory = int64(*s.Mem) * 4096
			}
		}
	}
	info, err := p.fs.Meminfo()
	if err != nil {
		return f, err
	}
	for to, from := range map[*int64]*uint64{
		&f.Slab: info.SlabBytes, &f.Vmalloc: info.VmallocUsedBytes, &f.PageTables: info.PageTablesBytes,
		&f.Free: info.MemFreeBytes, &f.Available: info.MemAvailableBytes,
	} {
		if from != nil {
			*to = int64(*from)
		}
	}
	if f.ServerRSS, f.ServerPeak, f.ServerCPU, err = p.process(p.server); err != nil {
		return f, err
	}
	f.ClientRSS, _, f.ClientCPU, err = p.process(p.client)
	return f, err
}

// process returns a process's resident memory, how much that was at most, and its CPU time in seconds: zeros if there
// is none, or if it has just ended.
func (p *probe) process(pid int) (rss, peak int64, cpu float64, err error) {
	if pid == 0 {
		return 0, 0, 0, nil
	}
	var status procfs.ProcStatus
	var stat procfs.ProcStat
	proc, err := p.fs.Proc(pid)
	if err == nil {
		status, err = proc.NewStatus()
	}
	if err == nil {
		stat, err = proc.Stat()
	}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH):
		return 0, 0, 0, nil
	case err != nil:
		return 0, 0, 0, err
	}
	return int64(status.VmRSS), int64(status.VmHWM), stat.CPUTime(), nil
}

// fetch reads a page of the server's internal port.
func fetch(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+internalAddress+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	client := http.Client{Timeout: 5 * time.Minute}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

// metric is the sum of the metric's series on a page of Prometheus's.
func metric(page []byte, series string) (sum float64) {
	for lines := bufio.NewScanner(bytes.NewReader(page)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), series)
		if !ok || !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "{") {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return sum
}
