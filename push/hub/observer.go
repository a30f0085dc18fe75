package hub

// Events are kinds of events of channels that an Observer wants to hear of.
type Events uint8

// The kinds of events.
const (
	EventOccupied  Events = 1 << iota // a channel got its first subscriber
	EventVacated                      // it lost its last
	EventJoined                       // a user's first connection came into a channel
	EventLeft                         // the user's last has left it
	EventCacheMiss                    // a subscriber wanted a channel's latest publication, and there was none

	eventsOfChannels = EventOccupied | EventVacated
	eventsOfMembers  = EventJoined | EventLeft
)

// Observer learns who comes and goes on this node, in channels whose Options.Events say so; wanted are these. Calls for one channel
// come one at a time, in the order in which it happened. They are made under a lock of the hub: they must not block, and must not
// call the hub or a Subscription.
type Observer interface {
	// Subscribed says that a subscriber came, a user's or with user == "" somebody's; first, that it is the only one.
	Subscribed(channel, user string, first bool, wanted Events)
	// Unsubscribed says that it went; last, that nobody is left. After Hub.Reconfigure it may be about somebody of whose coming nobody wanted to
	// hear.
	Unsubscribed(channel, user string, last bool, wanted Events)
	// Missed says that a subscriber wanted the channel's latest publication, and there was none. It is called without a lock.
	Missed(channel string)
}

// Member is a Subscriber that is a user's. User is called when it subscribes and unsubscribes; it must say the same both times.
type Member interface {
	User() string
}

func userOf(s Subscriber) string {
	if m, ok := s.(Member); ok {
		return m.User()
	}
	return ""
}

// cameLocked tells the observer that s came to c. bucket.mu is held.
func (b *bucket) cameLocked(c *channel, s Subscriber) {
	o := b.hub.config.Observer
	if o == nil {
		return
	}
	wanted, first := b.hub.namespaces.Load().find(c.name).Events, c.count == 1
	if first && wanted&eventsOfChannels != 0 || wanted&eventsOfMembers != 0 {
		o.Subscribed(c.name, userOf(s), first, wanted)
	}
}

// wentLocked tells the observer that s went from c. bucket.mu is held.
func (b *bucket) wentLocked(c *channel, s Subscriber) {
	o := b.hub.config.Observer
	if o == nil {
		return
	}
	all, last := b.hub.namespaces.Load(), c.count == 0
	wanted := all.find(c.name).Events | all.formerly // who was told to have come goes, too
	if last && wanted&eventsOfChannels != 0 || wanted&eventsOfMembers != 0 {
		o.Unsubscribed(c.name, userOf(s), last, wanted)
	}
}

// missed tells the observer that the channel has no latest publication.
func (h *Hub) missed(channel string, o *Options) {
	if h.config.Observer != nil && o.Events&EventCacheMiss != 0 {
		h.config.Observer.Missed(channel)
	}
}

// Identified tells the observer the user of a subscriber that had none when it subscribed.
func (s *Subscription) Identified() {
	b, c := s.shard.channel.bucket, s.shard.channel
	o := b.hub.config.Observer
	if o == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if wanted := b.hub.namespaces.Load().find(c.name).Events & eventsOfMembers; wanted != 0 {
		o.Subscribed(c.name, userOf(s.subscriber), false, wanted)
	}
}
