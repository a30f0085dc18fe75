package hub

import (
	"context"
	"fmt"
)

// Announce tells the channel's subscribers on all nodes that asked for it that a client came, KindJoin, or went, KindLeave. Its
// place among the channel's messages is the same for all of them.
//
// It doesn't wait for room in the channel's queues, so that no leave is lost whose join was told, however many clients come and go.
// The queues are bounded all the same: in one that is longer than Config.MaxWaiting, a client's leave takes its join out that waits, and
// neither is told; so of each client at most a leave and a join wait besides.
func (h *Hub) Announce(ctx context.Context, channel string, kind Kind, info *ClientInfo) error {
	options := PublishOptions{Kind: kind, Info: info, Retention: h.namespaces.Load().find(channel).retention()}
	_, err := h.config.Broker.Publish(ctx, channel, nil, options)
	h.Flush(channel)
	if err != nil {
		return fmt.Errorf("announce in %q: %w", clip(channel), err)
	}
	return nil
}

// noteBaseLocked gives a message for which deltas are wanted the data of the one before, and remembers its own. Deliver
// calls it, in the channel's order. mu is held.
func (b *bucket) noteBaseLocked(channel string, p *Publication) {
	o, err := b.hub.Options(channel)
	if err != nil || p.Kind != KindMessage {
		return
	}
	if !o.AllowFossilDelta { // any more: its subscribers have newer messages than the one that is noted
		delete(b.bases, channel)
		return
	}
	if p.Delta && !p.bounded { // a delta takes longer to make than a frame
		p.derived.Store(&derived{base: b.bases[channel]})
	}
	if b.bases == nil {
		b.bases = make(map[string][]byte)
	}
	b.bases[channel] = p.Data
}
