package hub

// Meter is told how busy channels are.
type Meter interface {
	// Published is called for each message that the broker hands over, with how many subscribers the channel has on this node. channel is borrowed. It
	// must not block, and must not call the hub.
	Published(channel string, subscribers, bytes int)
}

// SetMeter has m told of the messages from now on, and nobody else; nil is nobody, which costs a message one load.
func (h *Hub) SetMeter(m Meter) {
	if m == nil {
		h.meter.Store(nil)
		return
	}
	h.meter.Store(&m)
}

// measure tells the meter of p, if there is one.
func (h *Hub) measure(channel string, p *Publication, subscribers int32) {
	if m := h.meter.Load(); m != nil && p.Kind == KindMessage {
		(*m).Published(channel, int(subscribers), len(p.Data))
	}
}

// Subscribers returns how many the channel has on this node.
func (h *Hub) Subscribers(channel string) int {
	b, hash := h.bucket(channel)
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.channels.Find(hash, channel); c != nil {
		return int(c.count)
	}
	return 0
}
