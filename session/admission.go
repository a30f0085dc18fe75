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

// Pressure says how short memory is. Those who are in stay.
type Pressure int

// The levels of pressure.
const (
	PressureNone   Pressure = iota
	PressureHigh            // opening handshakes are answered 503 with a Retry-After; plain HTTP is served
	PressureSevere          // connections are refused before they are read
)

// pressed reports whether memory is as short as that.
func (srv *Server) pressed(level Pressure) bool {
	if srv.config.Pressure == nil || srv.config.Pressure() < level {
		return false
	}
	srv.pressedOut.Add(1)
	return true
}

// crowded reports, and counts, that there is no room for a connection that has not shown its opening handshake: too many
// others have not, or memory is all but gone. What is accepted then is refused before it has been read, so that its client may see a
// reset instead of the answer; a client of TLS gets none.
func (srv *Server) crowded(fd int, secured bool) bool {
	switch {
	case srv.pressed(PressureSevere):
	case int64(srv.table.Len())-srv.admitted.Load() >= int64(srv.config.MaxHandshakes):
		srv.crowdedOut.Add(1)
	default:
		return false
	}
	var response []byte
	if !secured {
		response = overloaded().AppendResponse(nil)
	}
	poller.Refuse(fd, response)
	return true
}

// SetMaxConnections sets Config.MaxConnections anew. Those who are in stay, though they be more.
func (srv *Server) SetMaxConnections(n int) { srv.maxConnections.Store(int64(max(n, 0))) }

// SetMaxPerAddress sets Config.MaxPerAddress anew. Those who are in stay, though they be more; those who came while there was no bound do not
// count.
func (srv *Server) SetMaxPerAddress(n int) { srv.addresses.bound(n) }

// SetAcceptRate sets Config.AcceptRate anew.
func (srv *Server) SetAcceptRate(perSecond float64) { srv.poller.SetAcceptRate(perSecond) }

// SetAllowedOrigins sets Endpoint.AllowedOrigins anew, of the endpoint with this path, for those who come from now on. The error is that of
// ValidateOrigins, and nothing has changed then.
func (srv *Server) SetAllowedOrigins(path string, patterns []string) error {
	return srv.upgrader.SetAllowedOrigins(path, patterns)
}

// ValidateOrigins reports every pattern of an Endpoint's AllowedOrigins that could never match.
func ValidateOrigins(patterns []string) error { return handshake.ValidateOrigins(patterns) }

// admit takes one of the places of MaxConnections, or reports, and counts, that there is none, or no memory for it.
func (srv *Server) admit() bool {
	if srv.pressed(PressureHigh) {
		return false
	}
	limit := srv.maxConnections.Load()
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
