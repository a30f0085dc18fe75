package doctor

import (
	"fmt"
	"strconv"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// tcp looks at queues and buffers of the network.
func (e *examination) tcp() {
	burst := e.plan.burst()
	e.least("net.core.somaxconn", burst, Warn, "finished TCP handshakes that wait for accept(2), for each listening socket",
		"When it is full, clients that reconnect all at once wait for a retransmission: 1 s, 3 s, 7 s.")
	e.least("net.ipv4.tcp_max_syn_backlog", burst, Warn, "unfinished TCP handshakes",
		"A storm of connects must fit in; beyond it, cookies take over, and options of TCP are lost with them.")
	e.least("net.ipv4.tcp_syncookies", 1, Warn, "answers to connects that need no memory", "Without them a flood of SYN keeps everybody out.")
	e.tcpMem()
	e.receiveBuffer()
	e.ports()
	e.conntrack()
}

// tcpMem looks at the pages that all sockets together may hold.
func (e *examination) tcpMem() {
	need := int64(e.plan.Connections) // a page each: one message that is on its way to everybody
	f := Finding{
		Name: "net.ipv4.tcp_mem", What: "pages that all TCP sockets may hold: at ease, under pressure, most", Have: "unknown", Verdict: Unknown,
		Need: count(need) + " before pressure",
		Why:  "Idle sockets hold none. A message to all is a page in each until it is acknowledged; under pressure windows shrink, beyond the most, data is dropped.",
	}
	if have := e.numbers("proc/sys/net/ipv4/tcp_mem"); len(have) == 3 {
		f.Have, f.Verdict = fmt.Sprintf("%d %d %d (%s)", have[0], have[1], have[2], size(have[2]*e.Page)), OK
		if have[1] < need {
			f.Verdict = Warn
			e.sysctl(&f, "net.ipv4.tcp_mem", fmt.Sprintf("%d %d %d", max(have[0], need*3/4), need, max(have[2], need*3/2)))
		}
	}
	e.add(f)
}

// largeBuffer is what no socket needs at its beginning.
const largeBuffer = 1 << 20

// receiveBuffer looks at what a client can make the kernel keep. What is sent is bounded by --send-buffer-bytes.
func (e *examination) receiveBuffer() {
	f := Finding{
		Name: "net.ipv4.tcp_rmem", What: "bytes of a socket's receive buffer: least, at first, most", Have: "unknown", Verdict: Unknown,
		Need: "at most " + size(largeBuffer) + " at first",
		Why:  "It is not allocated before data comes. While a handler is behind, what its client sends waits here. What waits to be sent is bounded by --send-buffer-bytes.",
	}
	if have := e.numbers("proc/sys/net/ipv4/tcp_rmem"); len(have) == 3 {
		f.Have, f.Verdict = fmt.Sprintf("%d %d %d", have[0], have[1], have[2]), OK
		if have[1] > largeBuffer {
			f.Verdict = Warn
			e.sysctl(&f, "net.ipv4.tcp_rmem", fmt.Sprintf("%d 131072 %d", have[0], have[2]))
		}
	}
	e.add(f)
}

// ports looks at what a proxy or a load generator on this host can open. The server itself needs but one.
func (e *examination) ports() {
	f := Finding{
		Name: "net.ipv4.ip_local_port_range", What: "local ports of connections that this host opens", Have: "unknown", Verdict: Unknown,
		Why: "The server needs none of them. A proxy before it, and a load generator, reach so many connections from one of their addresses to one of the server's.",
	}
	if have := e.numbers("proc/sys/net/ipv4/ip_local_port_range"); len(have) == 2 && have[1] >= have[0] {
		n := have[1] - have[0] + 1
		f.Have, f.Verdict = fmt.Sprintf("%d to %d: %s", have[0], have[1], count(n)), OK
		if int64(e.plan.Connections) > n {
			f.Verdict = Note
			f.Need = fmt.Sprintf("%d source addresses, or as many of the server's, for %s", (int64(e.plan.Connections)+n-1)/n, count(int64(e.plan.Connections)))
			if have[0] > 1024 {
				e.sysctl(&f, "net.ipv4.ip_local_port_range", "1024 65535")
			}
		}
	}
	e.add(f)
}

// conntrack looks at the firewall's table, if it is there.
func (e *examination) conntrack() {
	most, ok := e.number("proc/sys/net/netfilter/nf_conntrack_max")
	if !ok {
		return // not loaded, so there is no table to fill
	}
	used, _ := e.number("proc/sys/net/netfilter/nf_conntrack_count")
	need := used + int64(e.plan.Connections) + int64(e.plan.Connections)/5
	f := Finding{
		Name: "net.netfilter.nf_conntrack_max", Verdict: OK, What: "connections that the firewall keeps in mind", Have: fmt.Sprintf("%s, %s in use", count(most), count(used)), Need: count(need),
		Why: "When the table is full, packets of new connections are dropped without a word to anyone but the kernel's log. Rules that do not track the server's port need none of it.",
	}
	switch {
	case most >= need:
	case used == 0: // it is loaded, and no rule makes it work
		f.Verdict = Note
		e.sysctl(&f, "net.netfilter.nf_conntrack_max", decimal(need))
	default:
		f.Verdict = Warn
		e.sysctl(&f, "net.netfilter.nf_conntrack_max", decimal(need))
	}
	e.add(f)
}
