package centrifuge

import (
	"container/heap"
	"slices"
	"sync"
)

// deadlines has the clients of which something is due, the next one first: no client has a timer.
type deadlines[F comparable] struct {
	// Guarded by mu.
	mu    sync.Mutex
	queue deadlineQueue[F]
}

// set schedules c for the second at, instead of when it was before.
func (d *deadlines[F]) set(c *Client[F], at uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.deadline = at
	if c.index == 0 {
		heap.Push(&d.queue, c)
		return
	}
	heap.Fix(&d.queue, int(c.index-1))
}

func (d *deadlines[F]) remove(c *Client[F]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.index != 0 {
		heap.Remove(&d.queue, int(c.index-1))
	}
}

// due takes out those whose second has come.
func (d *deadlines[F]) due(now uint32) (clients []*Client[F]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) > 0 && d.queue[0].deadline <= now {
		clients = append(clients, heap.Pop(&d.queue).(*Client[F]))
	}
	if c := cap(d.queue); c > 1024 && len(d.queue) < c/4 { // what a storm has left
		d.queue = append(make(deadlineQueue[F], 0, c/2), d.queue...)
	}
	return clients
}

// deadlineQueue is a heap.
type deadlineQueue[F comparable] []*Client[F]

// Len implements heap.Interface.
func (q deadlineQueue[F]) Len() int { return len(q) }

// Less implements heap.Interface.
func (q deadlineQueue[F]) Less(i, j int) bool { return q[i].deadline < q[j].deadline }

// Swap implements heap.Interface.
func (q deadlineQueue[F]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (q *deadlineQueue[F]) Push(x any) {
	c := x.(*Client[F])
	*q = append(*q, c)
	c.index = int32(len(*q))
}

// Pop implements heap.Interface.
func (q *deadlineQueue[F]) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	c.index = 0
	return c
}

// schedule sets the deadline to what comes first: the end of the connection's token or of a subscription's.
func (c *Client[F]) schedule() {
	first := c.expires
	for i := range c.subs {
		s := c.subscription(i)
		if s.special != nil && s.special.expires != 0 && (first == 0 || s.special.expires < first) {
			first = s.special.expires
		}
	}
	if first == 0 {
		c.handler.deadlines.remove(c)
		return
	}
	c.handler.deadlines.set(c, first+seconds(c.handler.config.ExpiredDelay))
}

// onDeadline ends what has expired.
func (c *Client[F]) onDeadline(now uint32) {
	switch c.state {
	case unconnected, refused:
		c.disconnect(DisconnectStale)
		return
	case ended:
		return
	}
	late := now - min(now, seconds(c.handler.config.ExpiredDelay)) // tokens that ended up to then are over
	if c.expires != 0 && c.expires <= late {
		c.disconnect(DisconnectExpired)
		return
	}
	for _, sub := range slices.Clone(c.subs) {
		s := subscriptionOf[F](sub)
		if s.special == nil || s.special.expires == 0 || s.special.expires > late {
			continue
		}
		if s.sub.Tag&tagServerSide != 0 {
			c.disconnect(DisconnectSubscriptionExpired)
			return
		}
		c.expel(s.sub.Channel(), subscriptionExpired)
	}
	c.schedule()
}
