// Package pace bounds what waits for a client that asks for more than it reads, and does not take one that reads a long
// answer for such a client.
package pace

import (
	"fmt"
	"math"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/roster"
)

// StartBelow is how many bytes may wait for a client when the messages of its new subscriptions begin. More is an answer on
// its way to a slow client, and if it did not get there first, the client would be closed as slow, come back, and ask for the
// same again.
const StartBelow = 32 << 10

// Conn is a client's connection.
type Conn interface {
	// Waiting returns how many bytes wait for the client.
	Waiting() int

	// WakeWhenDrained gives the client a turn when nothing waits any more. It reports false if nothing does.
	WakeWhenDrained() bool
}

// Answers is what there is to know of a client's answers that are on their way. The zero value is ready and takes 4 bytes. It
// is the client's turn's.
type Answers struct {
	large uint32 // bytes on their way that may exceed the bound
}

// Admit reports whether another answer, of n bytes, may be sent while some wait. False is for a client that asks and asks, and
// does not read: more than twice the bound wait beside what is long by itself.
func (a *Answers) Admit(waiting, n, bound int) bool {
	if waiting <= bound {
		a.large = 0
	}
	if waiting-int(a.large) > 2*bound {
		return false
	}
	if n > bound {
		a.Long(n)
	}
	return true
}

// Long notes that n bytes are on their way which must not make the client a slow one.
func (a *Answers) Long(n int) { a.large = uint32(min(n, math.MaxInt32)) }

// CheckRoom refuses commands whose answers have messages of the past while more than the bound waits already. SDKs try again a
// little later.
func CheckRoom(waiting, bound int) error {
	if waiting > bound {
		return fmt.Errorf("%w: %d bytes wait for you", hub.ErrTooManyRequests, waiting)
	}
	return nil
}

// WhenSent calls f in the client's turn: now, or when no more than StartBelow waits, or when the client goes. It is called in
// that turn too.
func WhenSent[C roster.Client[C]](r *roster.Roster[C], c C, conn Conn, f func()) {
	if conn.Waiting() <= StartBelow || !r.Queue(c, func() { WhenSent(r, c, conn, f) }) {
		f()
		return
	}
	if !conn.WakeWhenDrained() {
		c.Wake()
	}
}
