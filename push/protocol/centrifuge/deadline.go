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
	first := uint32(0)
	if c.expires != 0 {
		first = c.expires + c.expiredDelay()
	}
	for i := range c.subs {
		if s := c.subscription(i); s.special != nil && s.special.expires != 0 {
			if due := s.special.expires + c.subscriptionDelay(s); first == 0 || due < first {
				first = due
			}
		}
	}
	if first == 0 {
		c.handler.deadlines.remove(c)
		return
	}
	c.handler.deadlines.set(c, first)
}

// subscriptionDelay is for how long a subscription outlives its end, in seconds.
func (c *Client[F]) subscriptionDelay(s subscription[F]) uint32 {
	if s.special.invited {
		return 0
	}
	return seconds(c.handler.config.ExpiredDelay)
}

// onDeadline ends what has expired.
func (c *Client[F]) onDeadline(now uint32) {
	switch c.state {
	case unconnected, refused:
		c.disconnect(DisconnectStale)
		return
	case ended, connecting: // the backend's answer decides
		return
	}
	if c.expires != 0 && c.expires+c.expiredDelay() <= now {
		if c.handler.config.Backend.Refresh == nil {
			c.disconnect(DisconnectExpired)
			return
		}
		c.renew()
	}
	for _, sub := range slices.Clone(c.subs) {
		s := subscriptionOf[F](sub)
		if s.special == nil || s.special.expires == 0 || s.special.expires+c.subscriptionDelay(s) > now {
			continue
		}
		if webhook := c.subRefreshWebhook(s.sub.Channel()); webhook != "" {
			c.renewSubscription(s, webhook)
		} else if c.expireSubscription(s); c.state == ended {
			return
		}
	}
	if c.state == connected {
		c.schedule()
	}
}

// expireSubscription ends a subscription whose time is over.
func (c *Client[F]) expireSubscription(s subscription[F]) {
	if s.sub.Tag&tagServerSide != 0 {
		c.disconnect(DisconnectSubscriptionExpired)
		return
	}
	c.expel(s.sub.Channel(), subscriptionExpired)
}

// subRefreshWebhook is who is asked whether subscriptions to a channel go on; empty is nobody.
func (c *Client[F]) subRefreshWebhook(channel string) string {
	if c.handler.config.Backend.SubRefresh == nil {
		return ""
	}
	o, err := c.handler.config.Hub.Options(channel)
	if err != nil {
		return ""
	}
	return o.SubRefreshWebhook
}
