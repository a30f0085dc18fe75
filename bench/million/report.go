package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// report is what came out of the machine.
type report struct {
	Connections   int      `json:"connections"`
	PingInterval  float64  `json:"ping_interval_seconds"`
	Machine       machine  `json:"machine"`
	Sysctls       []string `json:"sysctls"`
	ServerCommand []string `json:"server_command"`
	ClientCommand []string `json:"client_command"`
	Failed        string   `json:"failed,omitempty"`

	Base    figures `json:"base"`    // before the connections
	Opened  figures `json:"opened"`  // all connections are open
	Settled figures `json:"settled"` // held
	Left    figures `json:"left"`    // nobody is there again

	Metrics  counts          `json:"metrics"` // when settled
	Client   json.RawMessage `json:"client"`  // its own report
	Timeline []figures       `json:"timeline"`
}

// machine is where it was measured.
type machine struct {
	Kernel    string `json:"kernel"`
	Processor string `json:"processor"`
	CPUs      int    `json:"cpus"`
	Memory    int64  `json:"memory"`
	Clock     string `json:"clock_source"`
	HugePages string `json:"transparent_huge_pages"`
}

// counts are the server's own.
type counts struct {
	Connections float64 `json:"connections"`
	Goroutines  float64 `json:"goroutines"`
	Echoes      float64 `json:"messages_out"` // without heartbeats
	Pings       float64 `json:"pings"`
	Pongs       float64 `json:"pongs"`
	Closed      float64 `json:"closed"`
}

func serverMetrics(page []byte) counts {
	pings := metric(page, "millpond_pings_total")
	return counts{
		Connections: metric(page, "millpond_connections"), Goroutines: metric(page, "go_goroutines"),
		Echoes: metric(page, `millpond_messages_total{direction="out"}`) - pings,
		Pings:  pings, Pongs: metric(page, "millpond_pongs_total"), Closed: metric(page, "millpond_closed_total"),
	}
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }
func gigabytes(n int64) float64 { return float64(n) / 1e9 }

// each is the growth of a figure per connection.
func (r *report) each(now, base int64) int64 { return (now - base) / int64(max(r.Connections, 1)) }

// fault says what is not as it must be.
func (r *report) fault() error {
	switch c := r.Metrics; {
	case r.Failed != "":
		return errors.New(r.Failed)
	case int(c.Connections) != r.Connections:
		return fmt.Errorf("the server had %.0f connections when settled", c.Connections)
	case int(c.Echoes) < r.Connections:
		return fmt.Errorf("the server echoed %.0f messages", c.Echoes)
	}
	return nil
}

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	line := func(what, format string, a ...any) {
		fmt.Fprintf(&b, "  %-24s", what)
		fmt.Fprintf(&b, format+"\n", a...)
	}
	fmt.Fprintf(&b, "million: %d connections, a message echoed on each, heartbeats every %.0f s\n", r.Connections, r.PingInterval)
	line("machine", "Linux %s; %s; %d CPUs, %.1f GB; huge pages %s", r.Machine.Kernel, r.Machine.Processor, r.Machine.CPUs, gigabytes(r.Machine.Memory), r.Machine.HugePages)
	opening := r.Opened.Seconds - r.Base.Seconds
	line("open", "%d TCP sockets of both ends after %.0f s: %.0f connections/s", r.Opened.Sockets, opening, float64(r.Connections)/opening)
	memory := func(what string, f figures) {
		line(what, "%8.1f MB: %d B a connection", megabytes(f.ServerRSS), r.each(f.ServerRSS, r.Base.ServerRSS))
	}
	memory("server RSS, just opened", r.Opened)
	memory("server RSS, settled", r.Settled)
	line("server RSS, peak", "%8.1f MB", megabytes(r.Settled.ServerPeak))
	line("server RSS, all gone", "%8.1f MB; %.1f MB before", megabytes(r.Left.ServerRSS), megabytes(r.Base.ServerRSS))
	line("client RSS, settled", "%8.1f MB: %d B a connection", megabytes(r.Settled.ClientRSS), r.each(r.Settled.ClientRSS, r.Base.ClientRSS))
	line("kernel slab", "%8.1f MB: %d B a connection, both ends of it", megabytes(r.Settled.Slab), r.each(r.Settled.Slab, r.Base.Slab))
	line("descriptor tables", "%8.1f MB; page tables %.1f MB; buffers of TCP %.1f MB", megabytes(r.Settled.Vmalloc), megabytes(r.Settled.PageTables), megabytes(r.Settled.SocketMemory))
	line("goroutines", "%8.0f", r.Metrics.Goroutines)
	line("heartbeats", "%8.0f pings, %.0f pongs; %.0f connections closed", r.Metrics.Pings, r.Metrics.Pongs, r.Metrics.Closed)
	line("CPU, while it opened", "server %.1f s, client %.1f s", r.Opened.ServerCPU-r.Base.ServerCPU, r.Opened.ClientCPU-r.Base.ClientCPU)
	held := r.Settled.Seconds - r.Opened.Seconds
	line("CPU, while it was held", "server %.1f %% of a core, client %.1f %%, for %.0f s",
		100*(r.Settled.ServerCPU-r.Opened.ServerCPU)/held, 100*(r.Settled.ClientCPU-r.Opened.ClientCPU)/held, held)
	return b.String()
}
