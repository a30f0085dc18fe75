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

// keepHouse does what has to be done once a second, until stop is closed.
func (s *Server) keepHouse(stop <-chan struct{}) {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	t := trimmer{last: s.churn()}
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		s.broker.Expire()
		s.centrifuge.Tick()
		t.trim(s.churn())
	}
}

// trimmer gives memory back to the kernel once a storm of connects or disconnects is over:
// Go would keep the garbage of the handshakes for minutes, and at hundreds of bytes per idle
// connection that is as much as the connections themselves.
//
// It costs one collection for each storm: about 0.1 s of CPU per million connections.
type trimmer struct {
	last, trimmed int64 // what churn was a second ago, and at the last collection
}

func (t *trimmer) trim(now int64) {
	if now-t.trimmed >= trimAfter && now-t.last <= trimQuiet {
		debug.FreeOSMemory()
		t.trimmed = now
	}
	t.last = now
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
