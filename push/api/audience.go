package api

import (
	"context"
	"fmt"
	"path"

	"github.com/millpond/millpond/push/hub"
)

// Audience says who is subscribed to what, on all nodes.
type Audience interface {
	Presence(ctx context.Context, channel string) ([]*hub.ClientInfo, error)
	PresenceStats(ctx context.Context, channel string) (hub.PresenceStats, error)
	// Channels returns the channels that q wants, with their subscribers. The error wraps hub.ErrLimitExceeded if there are more than q.Max.
	Channels(ctx context.Context, q ChannelsQuery) (map[string]int, error)
}

// ChannelsQuery says which channels are wanted.
type ChannelsQuery struct {
	Pattern string // of path.Match; empty is all
	// Channels and Namespaces bound them as those of a Key do.
	Channels   []string
	Namespaces []string
	Max        int
}

// ErrTooManyChannels is the error for more than Max.
func (q *ChannelsQuery) ErrTooManyChannels() error {
	return fmt.Errorf(`%w: there are more than %d; ask with a "pattern"`, hub.ErrLimitExceeded, q.Max)
}

// wants reports whether a channel is.
func (q *ChannelsQuery) wants(channel string) bool {
	if q.Pattern != "" {
		if match, _ := path.Match(q.Pattern, channel); !match {
			return false
		}
	}
	key := Key{Channels: q.Channels, Namespaces: q.Namespaces}
	return key.permits(channel)
}

// Local is the Audience of one node alone.
type Local struct{ Hub *hub.Hub }

var _ Audience = Local{}

// Presence implements Audience.
func (l Local) Presence(_ context.Context, channel string) ([]*hub.ClientInfo, error) {
	return l.Hub.Presence(channel)
}

// PresenceStats implements Audience.
func (l Local) PresenceStats(_ context.Context, channel string) (hub.PresenceStats, error) {
	return l.Hub.PresenceStats(channel)
}

// Channels implements Audience.
func (l Local) Channels(_ context.Context, q ChannelsQuery) (map[string]int, error) {
	channels := map[string]int{}
	l.Hub.Channels(func(name string, subscribers int) bool {
		if q.wants(name) {
			channels[name] = subscribers
		}
		return len(channels) <= q.Max
	})
	if len(channels) > q.Max {
		return nil, q.ErrTooManyChannels()
	}
	return channels, nil
}
