package session

import (
	"math/rand/v2"
	"strconv"

	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// maxRetryAfter is up to how many seconds later the refused are told to come again, each another time.
const maxRetryAfter = 10

// overloaded is the answer to one connection too many.
func overloaded() *handshake.Fault {
	f := *handshake.ErrOverloaded
	f.Header = []handshake.Field{{Name: "Retry-After", Value: strconv.Itoa(1 + rand.IntN(maxRetryAfter))}}
	return &f
}

// crowded reports, and counts, that too many connections have not yet shown an opening handshake. What is accepted
// then is refused before it has been read, so that its client may see a reset instead of the answer; a client of TLS
// gets none.
func (srv *Server) crowded(fd int, secured bool) bool {
	if int64(srv.table.Len())-srv.admitted.Load() < int64(srv.config.MaxHandshakes) {
		return false
	}
	srv.crowdedOut.Add(1)
	var response []byte
	if !secured {
		response = overloaded().AppendResponse(nil)
	}
	poller.Refuse(fd, response)
	return true
}

// admit takes one of the places of MaxConnections, or reports, and counts, that there is none.
func (srv *Server) admit() bool {
	limit := int64(srv.config.MaxConnections)
	for {
		n := srv.admitted.Load()
		if limit > 0 && n >= limit {
			srv.refused.Add(1)
			return false
		}
		if srv.admitted.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
