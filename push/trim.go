package push

import (
	"runtime/debug"
	"time"
)

const (
	trimInterval = time.Second
	// trimAfter is how many connections must have come or gone until it is worth a
	// collection: the garbage of about that many handshakes is a megabyte.
	trimAfter = 1000
	// trimQuiet is how many may come and go in an interval that counts as quiet.
	trimQuiet = 50
)

// trim gives memory back to the kernel once a storm of connects or disconnects is over:
// Go would keep the garbage of the handshakes for minutes, and at hundreds of bytes per idle
// connection that is as much as the connections themselves.
//
// It costs one collection for each storm: about 0.1 s of CPU per million connections.
func (s *Server) trim(stop <-chan struct{}) {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	last, trimmed := s.churn(), int64(0)
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		now := s.churn()
		if now-trimmed >= trimAfter && now-last <= trimQuiet {
			debug.FreeOSMemory()
			trimmed = now
		}
		last = now
	}
}

// churn counts the connections that came or went.
func (s *Server) churn() int64 {
	st := s.engine.Stats()
	n := st.Accepted
	for _, closed := range st.Closed {
		n += closed
	}
	return n
}
