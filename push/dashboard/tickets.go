package dashboard

import (
	"crypto/rand"
	"sync"
	"time"
)

// tickets let a page's socket in: a browser shows no key with it, and one in the address would end up in logs. Each is good for one connection.
type tickets struct {
	// Guarded by mu.
	mu   sync.Mutex
	good map[string]time.Time // until when
}

const (
	ticketTime = time.Minute
	maxTickets = 1024
)

// give returns a new ticket. Of too many, another one is good no more.
func (t *tickets) give(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ticket, until := range t.good {
		if now.After(until) || len(t.good) >= maxTickets {
			delete(t.good, ticket)
		}
	}
	if t.good == nil {
		t.good = map[string]time.Time{}
	}
	ticket := rand.Text() // 128 bits: that a map is asked for it tells nobody anything of the others
	t.good[ticket] = now.Add(ticketTime)
	return ticket
}

// take reports whether a ticket is good, and has it be good no more.
func (t *tickets) take(ticket string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.good[ticket]
	delete(t.good, ticket)
	return ok && !now.After(until)
}
