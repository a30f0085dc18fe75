package dashboard

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Busiest finds the channels with the most work, by the algorithm Space-Saving (Metwally, Agrawal, El Abbadi, 2005) over a window that fades: however
// many channels there are it knows a few hundred, and of many messages a second it counts a share. The methods may be called by any goroutine.
type Busiest struct {
	// Any goroutine (atomic).
	seen atomic.Uint64 // messages since the last Tick

	// Guarded by mu.
	mu    sync.Mutex
	known map[string]*busy
	order byWeight
}

const (
	maxBusy = 512
	// fading is what is left of a count after a second: it stands for the last five.
	fading = 0.8
	// Of the messages of one second all count up to the first bound, one of 16 up to the second, and one of 256 then: some ten thousand at most, for
	// up to a million messages.
	countAll, countSome = 4096, 65536
)

// busy is one of the channels.
type busy struct {
	name                        string
	weight                      float64 // by which it is kept: never below what it deserves
	messages, deliveries, bytes float64 // that fade
	age                         float64 // what a count of 1 for each second would have faded to
	place                       int     // in the heap
}

// Published counts a message.
func (b *Busiest) Published(channel string, subscribers, bytes int) {
	times := 1.0
	switch n := b.seen.Add(1); {
	case n > countSome:
		if n%256 != 0 {
			return
		}
		times = 256
	case n > countAll:
		if n%16 != 0 {
			return
		}
		times = 16
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.known[channel]
	if c == nil {
		c = b.admitLocked(channel)
	}
	c.weight += times * float64(1+subscribers)
	c.messages += times
	c.deliveries += times * float64(subscribers)
	c.bytes += times * float64(bytes)
	heap.Fix(&b.order, c.place)
}

// admitLocked makes room for a channel, that of the one with the least weight, which it inherits: it may have been here before.
func (b *Busiest) admitLocked(channel string) *busy {
	c := &busy{name: strings.Clone(channel)}
	if b.known == nil {
		b.known = map[string]*busy{}
	}
	if len(b.known) == maxBusy {
		least := heap.Pop(&b.order).(*busy)
		delete(b.known, least.name)
		c.weight = least.weight
	}
	b.known[c.name] = c
	heap.Push(&b.order, c)
	return c
}

// Channel is how busy one is, in a second.
type Channel struct {
	Name        string  `json:"name"`
	Subscribers int     `json:"subscribers"` // on this node
	Messages    float64 `json:"messages"`
	Deliveries  float64 `json:"deliveries"`
	Bytes       float64 `json:"bytes"` // of its messages' data
}

// Tick ends a second, and returns at most n channels, the busiest first.
func (b *Busiest) Tick(n int) []Channel {
	b.seen.Store(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Channel, 0, len(b.order))
	for _, c := range b.order {
		c.age = c.age*fading + 1
		list = append(list, Channel{Name: c.name, Messages: c.messages / c.age, Deliveries: c.deliveries / c.age, Bytes: c.bytes / c.age})
		c.weight *= fading
		c.messages *= fading
		c.deliveries *= fading
		c.bytes *= fading
	}
	for len(b.order) > 0 && b.order[0].weight < 0.05 { // nothing for a quarter of a minute
		delete(b.known, heap.Pop(&b.order).(*busy).name)
	}
	slices.SortFunc(list, func(a, b Channel) int {
		return cmp.Or(cmp.Compare(b.Messages+b.Deliveries, a.Messages+a.Deliveries), strings.Compare(a.Name, b.Name))
	})
	return list[:min(n, len(list))]
}

// Reset forgets all.
func (b *Busiest) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.order = nil, nil
}

// byWeight is a heap with the least on top.
type byWeight []*busy

// Len implements heap.Interface.
func (h byWeight) Len() int { return len(h) }

// Less implements heap.Interface.
func (h byWeight) Less(i, j int) bool { return h[i].weight < h[j].weight }

// Swap implements heap.Interface.
func (h byWeight) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *byWeight) Push(x any) {
	c := x.(*busy)
	c.place = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *byWeight) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}
