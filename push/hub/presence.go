package hub

import "fmt"

// Presenter is a Subscriber that others may see.
type Presenter interface {
	// Presence returns the client, which must not be changed. It is called under a lock of the hub, like Deliver.
	Presence() *ClientInfo
}

// Presence returns who is subscribed to the channel on this node, in no order; a client with several connections has
// one entry for each. It is made of the subscriptions themselves: nothing is kept for it. The error wraps ErrNotAvailable if the
// namespace has no presence, ErrLimitExceeded if there are more than Config.MaxPresence.
func (h *Hub) Presence(channel string) ([]*ClientInfo, error) {
	if err := h.CheckPresence(channel); err != nil {
		return nil, err
	}
	var list []*ClientInfo
	h.eachPresent(channel, func(info *ClientInfo) bool {
		list = append(list, info)
		return len(list) <= h.config.MaxPresence
	})
	if len(list) > h.config.MaxPresence {
		return nil, fmt.Errorf("%w: more than %d clients are in channel %q", ErrLimitExceeded, h.config.MaxPresence, clip(channel))
	}
	return list, nil
}

// PresenceStats are figures of a channel's presence.
type PresenceStats struct {
	Clients int
	Users   int // different ones; all anonymous clients are one
}

// PresenceStats returns how many are subscribed to the channel on this node; see Presence.
func (h *Hub) PresenceStats(channel string) (PresenceStats, error) {
	if err := h.CheckPresence(channel); err != nil {
		return PresenceStats{}, err
	}
	var stats PresenceStats
	users := make(map[string]struct{})
	h.eachPresent(channel, func(info *ClientInfo) bool {
		stats.Clients++
		users[info.User] = struct{}{}
		return true
	})
	stats.Users = len(users)
	return stats, nil
}

// EachPresent calls f for each client that is subscribed to the channel on this node, whatever the channel's options say, until it returns false. It
// is called under a lock of the hub, like Deliver.
func (h *Hub) EachPresent(channel string, f func(*ClientInfo) bool) { h.eachPresent(channel, f) }

// MaxPresence returns how many clients a presence may list.
func (h *Hub) MaxPresence() int { return h.config.MaxPresence }

// CheckPresence returns the error of Presence for a channel that has none.
func (h *Hub) CheckPresence(channel string) error {
	o, err := h.Options(channel)
	if err == nil && !o.Presence {
		err = fmt.Errorf("%w: channel %q has no presence", ErrNotAvailable, clip(channel))
	}
	return err
}

// eachPresent calls f for the channel's subscribers until it returns false.
func (h *Hub) eachPresent(channel string, f func(*ClientInfo) bool) {
	b, hash := h.bucket(channel)
	first, more := b.find(hash, channel)
	if first == nil || !first.eachPresent(f) {
		return
	}
	for _, s := range more {
		if !s.eachPresent(f) {
			return
		}
	}
}

// EachSubscriber calls f for the channel's subscribers until it returns false. f runs under a lock of the hub: it must not
// block, and must not call the hub.
func (h *Hub) EachSubscriber(channel string, f func(Subscriber) bool) {
	b, hash := h.bucket(channel)
	first, more := b.find(hash, channel)
	if first == nil || !first.eachSubscriber(f) {
		return
	}
	for _, s := range more {
		if !s.eachSubscriber(f) {
			return
		}
	}
}

func (s *shard) eachSubscriber(f func(Subscriber) bool) (goOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if !f(sub.subscriber) {
			return false
		}
	}
	return true
}

func (s *shard) eachPresent(f func(*ClientInfo) bool) (goOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if p, ok := sub.subscriber.(Presenter); ok {
			if info := p.Presence(); info != nil && !f(info) {
				return false
			}
		}
	}
	return true
}
