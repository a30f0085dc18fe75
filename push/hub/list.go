package hub

// Channels calls f for each channel that has subscribers on this node, with their number, until it returns false; see [Sink].
func (h *Hub) Channels(f func(name string, subscribers int) bool) {
	type entry struct {
		name        string
		subscribers int
	}
	var entries []entry
	for i := range h.buckets {
		b := &h.buckets[i]
		entries = entries[:0]
		b.mu.Lock()
		for c := range b.channels.All() {
			if c.count > 0 {
				entries = append(entries, entry{c.name, int(c.count)})
			}
		}
		b.mu.Unlock()
		for _, e := range entries {
			if !f(e.name, e.subscribers) {
				return
			}
		}
	}
}
