package hub

import (
	"context"
	"fmt"
)

// Announce tells the channel's subscribers on all nodes that asked for it that a client came, KindJoin, or went, KindLeave. Its
// place among the channel's messages is the same for all of them.
func (h *Hub) Announce(ctx context.Context, channel string, kind Kind, info *ClientInfo) error {
	if err := h.Admit(ctx, channel); err != nil {
		return err
	}
	_, err := h.config.Broker.Publish(ctx, channel, nil, PublishOptions{Kind: kind, Info: info})
	h.Flush(channel)
	if err != nil {
		return fmt.Errorf("announce in %q: %w", clip(channel), err)
	}
	return nil
}

// noteBaseLocked gives a message for which deltas are wanted the data of the one before, and remembers its own. Deliver
// calls it, in the channel's order. mu is held.
func (b *bucket) noteBaseLocked(p *Publication) {
	o, err := b.hub.Options(p.Channel)
	if err != nil || !o.AllowFossilDelta || p.Kind != KindMessage {
		return
	}
	if p.Delta {
		p.shared = true // a delta takes longer to make than a frame
		if base := b.bases[p.Channel]; base != nil {
			p.derived.Store(&derived{base: base})
		}
	}
	if b.bases == nil {
		b.bases = make(map[string][]byte)
	}
	b.bases[p.Channel] = p.Data
}
