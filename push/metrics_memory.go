package push

import (
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"

	"github.com/millpond/millpond/push/pressure"
	"github.com/millpond/millpond/session"
)

// This file has what the kernel says of memory.

var (
	descConnMemory  = desc("connection_memory_bytes", "Resident memory of the process above that of its start, for each open connection; absent without any. It means something from some thousand on.")
	descTCPMemory   = desc("kernel_tcp_memory_bytes", "What the kernel has taken for the buffers of all TCP sockets of the host, or of the container's network.")
	descTCPPressure = desc("kernel_tcp_memory_pressure_bytes", "At how much the kernel begins to save, the second figure of net.ipv4.tcp_mem.")
	descTCPMost     = desc("kernel_tcp_memory_limit_bytes", "At how much it gives up, the third one.")
	descMemoryLimit = desc("memory_limit_bytes", "Memory that the process (--memory-limit) or the control group may have; absent without a limit.", "scope")
	descMemoryUsed  = desc("memory_used_bytes", "How much of it is taken, without what the kernel keeps of files; from --memory-high-water on, new clients are refused.", "scope")
	descSockets     = desc("kernel_tcp_sockets", "TCP sockets of the host, or of the container's network.", "state")
)

// watchMemory begins to watch how much is left.
func (s *Server) watchMemory() (*pressure.Watch, error) {
	c := s.config.Memory
	c.Logger = s.config.Logger
	return pressure.New(c)
}

// pressure implements session.Config.Pressure.
func (s *Server) pressure() session.Pressure {
	switch s.memoryWatch.Level() {
	case pressure.Severe:
		return session.PressureSevere
	case pressure.High:
		return session.PressureHigh
	}
	return session.PressureNone
}

func (c *collector) collectMemory(st session.Stats, gauge emitInt) {
	for _, r := range c.server.memoryWatch.Readings() {
		gauge(descMemoryLimit, int(r.Limit), r.Scope)
		gauge(descMemoryUsed, int(r.Used), r.Scope)
	}
	if _, resident := usage(); st.Connections > 0 {
		gauge(descConnMemory, max(resident-c.server.baseline, 0)/st.Connections)
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return
	}
	if limits := tcpMemory(); len(limits) == 3 {
		gauge(descTCPPressure, limits[1])
		gauge(descTCPMost, limits[2])
	}
	v4, err := fs.NetSockstat()
	if err != nil {
		return
	}
	v6, _ := fs.NetSockstat6() // nil without IPv6
	inUse := 0
	for _, sockets := range []*procfs.NetSockstat{v4, v6} {
		if sockets == nil {
			continue
		}
		for _, p := range sockets.Protocols {
			switch p.Protocol {
			case "TCP": // save inuse, of both versions of IP
				collectTCP(p, gauge)
				inUse += p.InUse
			case "TCP6":
				inUse += p.InUse
			}
		}
	}
	gauge(descSockets, inUse, "inuse")
}

func collectTCP(p procfs.NetSockstatProtocol, gauge emitInt) {
	emit := func(d *prometheus.Desc, v *int, unit int, labels ...string) {
		if v != nil {
			gauge(d, *v*unit, labels...)
		}
	}
	emit(descTCPMemory, p.Mem, os.Getpagesize())
	emit(descSockets, p.Orphan, 1, "orphan")
	emit(descSockets, p.TW, 1, "timewait")
	emit(descSockets, p.Alloc, 1, "alloc")
}

// tcpMemory are the bounds of the memory of all TCP sockets, in bytes: low, pressure, high. Nil where they are not told, as in most containers.
func tcpMemory() (limits []int) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		return nil
	}
	for _, field := range strings.Fields(string(b)) {
		pages, err := strconv.Atoi(field)
		if err != nil {
			return nil
		}
		limits = append(limits, pages*os.Getpagesize())
	}
	return limits
}
