package session

import (
	"fmt"
	"runtime"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/pool"
)

// Stats are the figures of a server since New. Any of them may be a moment older
// than another.
type Stats struct {
	Connections    int   // now: sessions, handshakes included
	HTTPConns      int   // now: plain HTTP connections
	MaxConnections int   // now, by Config or SetMaxConnections
	Opened         int64 // handshakes answered with 101
	Accepted       int64
	AcceptPauses   int64 // for lack of descriptors or memory
	AcceptPaced    int64 // pauses for the sake of AcceptRate
	AcceptLagged   int64 // pauses because a loop was late
	AcceptCrowded  int64 // pauses because many TLS handshakes waited
	LoopLag        time.Duration
	RefusedFull    int64 // by MaxConnections
	RefusedCrowd   int64 // by MaxHandshakes
	RefusedAddress int64 // by MaxPerAddress
	RefusedMemory  int64 // by Pressure
	Handshaking    int   // of Connections
	HandedToHTTP   int64
	TLS            TLSStats
	MessagesIn     int64 // control frames included
	MessagesOut    int64 // taken by the socket or the outbox; control frames and heartbeats included
	BytesIn        int64
	BytesOut       int64
	Deflating      int64 // of Opened: with permessage-deflate
	DeflatedOut    int64 // of MessagesOut: compressed
	DeflateSaved   int64 // bytes that compressing them saved
	Pings          int64
	Pongs          int64              // and answers in the protocol's own way
	Handled        histogram.Snapshot // how long handlers that do not run inline took for a message; of one turn in 16
	ReadPauses     int64              // for a full inbox or outbox
	CloseTimeouts  int64              // peers that did not close in time
	Panics         int64
	Closed         map[Reason]int64
	Refusals       map[string]int64 // by handshake.Kind
	Dropped        map[string]int64 // by policy
	Faults         map[string]int64 // by codec.FaultKind
	Pool           pool.Stats       // of handlers
	Tasks          pool.Stats       // of what is given to Server.Go
	Loops          int
}

// PoolStats is another package's type under the name by which users of the engine know it.
type PoolStats = pool.Stats

// TLSStats is another package's type under the name by which users of the engine know it.
type TLSStats = poller.TLSStats

var policyNames = [...]string{
	PolicyDisconnect: "disconnect", PolicyDropOldest: "drop_oldest", PolicyDropNewest: "drop_newest", PolicyLatest: "latest",
}

// Stats returns the figures.
func (srv *Server) Stats() Stats {
	p := srv.poller.Stats()
	st := Stats{
		Connections: srv.table.Len(), MaxConnections: int(srv.maxConnections.Load()), HTTPConns: int(srv.http.open.Load()),
		Opened: srv.opened.Load(), Deflating: srv.deflating.Load(), RefusedFull: srv.refused.Load(), RefusedCrowd: srv.crowdedOut.Load(), RefusedAddress: srv.addressFull.Load(), RefusedMemory: srv.pressedOut.Load(), HandedToHTTP: srv.handedOver.Load(),
		TLS:     srv.poller.TLSStats(),
		LoopLag: srv.poller.Lag(),
		BytesIn: p.BytesRead, BytesOut: p.BytesSent, Pings: srv.pings.Load(), ReadPauses: srv.pauses.Load(),
		CloseTimeouts: srv.closeTimeouts.Load(), Panics: srv.panics.Load(),
		Closed: make(map[Reason]int64, numReasons), Dropped: make(map[string]int64, len(srv.dropped)),
		Refusals: srv.refusalCounts(),
		Faults:   make(map[string]int64, codec.NumFaultKinds),
		Handled:  srv.handled.Snapshot(),
		Pool:     srv.pool.Stats(), Tasks: srv.tasks.Stats(), Loops: srv.poller.Loops(),
	}
	st.MessagesOut = st.Pings // counted apart
	st.Handshaking = max(st.Connections-int(srv.admitted.Load()), 0)
	for i := range srv.counters {
		st.MessagesIn += srv.counters[i].messagesIn.Load()
		st.Pongs += srv.counters[i].pongs.Load()
		st.MessagesOut += srv.counters[i].messagesOut.Load()
		st.DeflatedOut += srv.counters[i].deflatedOut.Load()
		st.DeflateSaved += srv.counters[i].deflateSaved.Load()
	}
	for _, r := range Reasons() {
		st.Closed[r] = srv.closed[r].Load()
	}
	for i := range srv.dropped {
		st.Dropped[policyNames[i]] = srv.dropped[i].Load()
	}
	for i := range srv.faults {
		st.Faults[codec.FaultKind(i).String()] = srv.faults[i].Load()
	}
	for _, a := range srv.listening() {
		s := a.Stats()
		st.Accepted += s.Accepted
		st.AcceptPauses += s.Backoffs
		st.AcceptPaced += s.Paced
		st.AcceptLagged += s.Lagged
		st.AcceptCrowded += s.Crowded
	}
	return st
}

// OutboxStats tell what waits for clients.
type OutboxStats struct {
	Sessions int // for which anything waits
	Messages int
	Bytes    int
	Oldest   time.Duration // how long the oldest message has waited
}

// Outboxes adds up what waits for clients. It looks at every session, unless nothing waits for any: a tenth of a second at a million.
func (srv *Server) Outboxes() (st OutboxStats) {
	if srv.poller.Stats().Queues == 0 {
		return st
	}
	looked := 0
	srv.table.Range(func(s *Session) {
		if looked++; looked%yieldAfter == 0 {
			runtime.Gosched() // so that no loop waits for the rest
		}
		bytes, messages, age := s.conn.Waiting()
		if messages == 0 {
			return
		}
		st.Sessions++
		st.Messages += messages
		st.Bytes += bytes
		st.Oldest = max(st.Oldest, age)
	})
	return st
}

func (srv *Server) refusalCounts() map[string]int64 {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	counts := make(map[string]int64, len(srv.refusals))
	for kind, n := range srv.refusals {
		counts[string(kind)] = n
	}
	return counts
}

func (srv *Server) listening() []*poller.Acceptor {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.acceptors
}

// ConsistencyCheck compares what is counted twice; it holds while nothing changes.
func (srv *Server) ConsistencyCheck() error {
	n := int64(0)
	srv.table.Range(func(*Session) { n++ })
	if length, conns := int64(srv.table.Len()), srv.poller.Stats().Conns; n != length || n != conns {
		return fmt.Errorf("session: %d in slots, %d counted, %d registered", n, length, conns)
	}
	if _, counted := srv.addresses.len(); int64(counted) > n {
		return fmt.Errorf("session: %d counted by address, %d in slots", counted, n)
	}
	if admitted := srv.admitted.Load(); admitted < 0 || admitted > n {
		return fmt.Errorf("session: %d of %d admitted", admitted, n)
	}
	return nil
}
