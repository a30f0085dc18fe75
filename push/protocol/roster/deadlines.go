package roster

import (
	"container/heap"
	"sync"
	"time"
)

// Deadlines has the clients of which something is due, the next one first: no client has a timer. Seconds count from
// where the protocol begins to. The zero value is ready. The methods may be called by any goroutine.
type Deadlines[C Scheduled] struct {
	// Guarded by mu.
	mu    sync.Mutex
	queue deadlineQueue[C]
}

// Due is when something of a client is due. It is that of Deadlines alone, guarded by its mu. It takes 8 bytes.
type Due struct {
	at    uint32
	index int32 // in the heap, plus one; 0 if it is not there
}

// Due makes a Scheduled of whatever embeds one.
func (d *Due) due() *Due { return d }

// Scheduled is a pointer to something that embeds a Due: a client, or what leads to it.
type Scheduled interface {
	comparable
	due() *Due
}

// Set schedules c for the second at, instead of when it was before.
func (d *Deadlines[C]) Set(c C, at uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := c.due()
	due.at = at
	if due.index == 0 {
		heap.Push(&d.queue, c)
		return
	}
	heap.Fix(&d.queue, int(due.index-1))
}

// Remove takes c out, if it is there.
func (d *Deadlines[C]) Remove(c C) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if due := c.due(); due.index != 0 {
		heap.Remove(&d.queue, int(due.index-1))
	}
}

// Len returns how many there are.
func (d *Deadlines[C]) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// Take takes out those whose second has come.
func (d *Deadlines[C]) Take(now uint32) (clients []C) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) > 0 && d.queue[0].due().at <= now {
		clients = append(clients, heap.Pop(&d.queue).(C))
	}
	if c := cap(d.queue); c > 1024 && len(d.queue) < c/4 { // what a storm has left
		d.queue = append(make(deadlineQueue[C], 0, c/2), d.queue...)
	}
	return clients
}

// deadlineQueue is a heap.
type deadlineQueue[C Scheduled] []C

// Len implements heap.Interface.
func (q deadlineQueue[C]) Len() int { return len(q) }

// Less implements heap.Interface.
func (q deadlineQueue[C]) Less(i, j int) bool { return q[i].due().at < q[j].due().at }

// Swap implements heap.Interface.
func (q deadlineQueue[C]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].due().index, q[j].due().index = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (q *deadlineQueue[C]) Push(x any) {
	c := x.(C)
	*q = append(*q, c)
	c.due().index = int32(len(*q))
}

// Pop implements heap.Interface.
func (q *deadlineQueue[C]) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	var none C
	(*q)[last] = none
	*q = (*q)[:last]
	c.due().index = 0
	return c
}

// Seconds converts d, rounded up.
func Seconds(d time.Duration) uint32 {
	const most = 1 << 30 // as good as never
	if d > most*time.Second {
		return most
	}
	return uint32((max(d, 0) + time.Second - 1) / time.Second)
}
