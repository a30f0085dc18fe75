package plain

import (
	"fmt"
	"sync"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// expiries has the clients whose logins end, by the second: no client has a timer, and one whose login does not end costs nothing.
type expiries[F any] struct {
	// Guarded by mu.
	mu      sync.Mutex
	clients map[uint32]map[*Client[F]]struct{} // by the handler's second at which they are closed
	done    uint32                             // the seconds up to it have been dealt with
}

func (e *expiries[F]) add(c *Client[F], second uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	second = max(second, e.done+1)
	if e.clients == nil {
		e.clients = make(map[uint32]map[*Client[F]]struct{})
	}
	if e.clients[second] == nil {
		e.clients[second] = make(map[*Client[F]]struct{})
	}
	e.clients[second][c] = struct{}{}
}

func (e *expiries[F]) remove(c *Client[F], second uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if delete(e.clients[second], c); len(e.clients[second]) == 0 {
		delete(e.clients, second)
	}
}

// due takes out those whose second has come.
func (e *expiries[F]) due(now uint32) (clients []*Client[F]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ; e.done < now; e.done++ {
		for c := range e.clients[e.done+1] {
			clients = append(clients, c)
		}
		delete(e.clients, e.done+1)
	}
	return clients
}

// now is in seconds since NewHandler, on the monotonic clock.
func (h *Handler[F]) now() uint32 { return uint32(time.Since(h.start) / time.Second) }

// end is the second at which a client with that identity is closed; 0 is never. It is always the same for the same identity.
func (h *Handler[F]) end(i *Identity) uint32 {
	if i == nil || i.Expires.IsZero() {
		return 0
	}
	const most = 1 << 30 * time.Second // as good as never
	return uint32(min(max(i.Expires.Sub(h.start)+h.config.ExpiredDelay, 0), most)/time.Second) + 1
}

// Tick does what is due; it is called about once a second.
func (h *Handler[F]) Tick() { h.tick(h.now()) }

func (h *Handler[F]) tick(now uint32) {
	for _, c := range h.expiries.due(now) {
		h.roster.Do(c, func() { c.onExpiry(now) })
	}
}

// onExpiry closes the connection, unless its client has brought another token meanwhile.
func (c *Client[F]) onExpiry(now uint32) {
	if end := c.handler.end(c.identity.Load()); !c.closed && end != 0 && end <= now {
		c.close(closePolicyViolation, "login expired: log in with a new token")
	}
}

// become makes the client the bearer of an identity; one that it had before is renewed by it.
func (c *Client[F]) become(i *Identity) error {
	if !i.Expires.IsZero() && time.Until(i.Expires) <= 0 {
		return fmt.Errorf("%w: the login", hub.ErrExpired)
	}
	if c.loggedIn && i.User != c.identity.Load().User {
		return fmt.Errorf("%w: already logged in as another user", hub.ErrBadRequest)
	}
	c.forgetExpiry()
	if !c.loggedIn {
		c.loggedIn = true
		c.handler.roster.Add(c, i.User, 0)
	}
	c.identity.Store(i)
	if end := c.handler.end(i); end != 0 {
		c.handler.expiries.add(c, end)
	}
	return nil
}

// forgetExpiry has the end of the client's login forgotten.
func (c *Client[F]) forgetExpiry() {
	if end := c.handler.end(c.identity.Load()); end != 0 {
		c.handler.expiries.remove(c, end)
	}
}
