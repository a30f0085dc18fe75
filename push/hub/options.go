package hub

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Options say what the channels of a namespace can do.
type Options struct {
	// HistorySize and HistoryTTL are how much of a channel's past is kept: so many publications, none older. Without both
	// nothing is.
	HistorySize int
	HistoryTTL  time.Duration

	// ForceRecovery lets every subscriber that comes back have what it missed, AllowRecovery those that ask for it; it needs a
	// history. RecoverLatest gives them the latest publication alone, whatever they missed.
	ForceRecovery bool
	AllowRecovery bool
	RecoverLatest bool
	// ForcePositioning tells every subscriber its position, and ends its subscription if it cannot be kept;
	// AllowPositioning does so for those that ask for it. It needs a history.
	ForcePositioning bool
	AllowPositioning bool

	// Presence lets those who may know who is subscribed. JoinLeave tells those who ask for it when somebody comes and goes,
	// ForcePushJoinLeave all subscribers.
	Presence           bool
	JoinLeave          bool
	ForcePushJoinLeave bool

	// What clients may do: those that are logged in ("Client"), also those without a user ("Anonymous"), or those that are
	// subscribed to the channel in question ("Subscriber").
	AllowSubscribeForClient    bool
	AllowSubscribeForAnonymous bool
	AllowPublishForClient      bool
	AllowPublishForAnonymous   bool
	AllowPublishForSubscriber  bool
	AllowPresenceForClient     bool
	AllowPresenceForAnonymous  bool
	AllowPresenceForSubscriber bool
	AllowHistoryForClient      bool
	AllowHistoryForAnonymous   bool
	AllowHistoryForSubscriber  bool

	// SubscribeWebhook, PublishWebhook and SubRefreshWebhook name who is asked instead: whether a client may subscribe
	// that shows no token, may publish, and may stay subscribed where that has an end. Empty is nobody.
	SubscribeWebhook  string
	PublishWebhook    string
	SubRefreshWebhook string

	// AllowUserLimitedChannels lets the users that a channel's name lists subscribe to it, and nobody else.
	AllowUserLimitedChannels bool

	// AllowFossilDelta lets subscribers ask for differences in Fossil's delta format; DeltaPublish makes them of all publications, not of
	// those alone for which the publisher asked.
	AllowFossilDelta bool
	DeltaPublish     bool

	// AllowTagsFilter lets subscribers name the tags of the publications that they want.
	AllowTagsFilter bool

	// SlowPolicy is what happens when a client's outbox is full, one of Slow…; empty is the server's, or SlowDisconnect where
	// nothing may be lost: in channels with recovery, positioning or deltas, which may have no other.
	SlowPolicy string

	// MaxPublicationBytes bounds a publication's data. Zero means no bound but that of a message.
	MaxPublicationBytes int

	// JSONData refuses what clients publish that is not JSON, and so could be sent to clients of Protobuf only.
	JSONData bool

	// ChannelRegex is what a channel's name, behind the namespace, must match. Empty allows all.
	ChannelRegex string

	// Events are those of which Config.Observer is told.
	Events Events

	regex *regexp.Regexp // of ChannelRegex
}

func (o *Options) retention() Retention { return Retention{Size: o.HistorySize, TTL: o.HistoryTTL} }

// HasHistory reports whether something of a channel's past is kept, so that it has positions that mean something later.
func (o *Options) HasHistory() bool { return o.retention().Enabled() }

// Lossless reports whether a subscriber may rely on missing nothing without hearing of it.
func (o *Options) Lossless() bool {
	return o.ForceRecovery || o.AllowRecovery || o.ForcePositioning || o.AllowPositioning || o.AllowFossilDelta
}

// PolicyBeside returns what happens to publications when the outbox of a client is full, empty if that is what the server
// does anyway. None may be dropped where the client relies on its position.
func (o *Options) PolicyBeside(server string) string {
	policy := o.SlowPolicy
	if o.Lossless() { // be it by an Override, beside a policy that is not
		policy = SlowDisconnect
	}
	if policy == server {
		return ""
	}
	return policy
}

// What may happen when a client's outbox is full.
const (
	SlowDisconnect = "disconnect"
	SlowDropOldest = "drop-oldest"
	SlowDropNewest = "drop-newest"
	SlowLatest     = "latest"
)

// maxHistorySize bounds one channel's history in publications.
const maxHistorySize = 1 << 16

// compile reports everything that is wrong with o, by the names that the file has, and makes it ready.
func (o *Options) compile() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.HistorySize >= 0 && o.HistorySize <= maxHistorySize, "history_size: %d is not between 0 and %d", o.HistorySize, maxHistorySize)
	check(o.HistoryTTL >= 0, "history_ttl: %v is negative", o.HistoryTTL)
	check((o.HistorySize > 0) == (o.HistoryTTL > 0), "history_size and history_ttl: a history needs both")
	switch o.SlowPolicy {
	case "", SlowDisconnect:
	case SlowDropOldest, SlowDropNewest, SlowLatest:
		check(!o.Lossless(), "slow_policy: %s loses publications, which recovery, positioning and deltas must not", o.SlowPolicy)
	default:
		check(false, "slow_policy: %q is not one of %s, %s, %s, %s", o.SlowPolicy, SlowDisconnect, SlowDropOldest, SlowDropNewest, SlowLatest)
	}
	check(o.MaxPublicationBytes >= 0, "max_publication_bytes: %d is negative", o.MaxPublicationBytes)
	for _, need := range []struct {
		name   string
		set    bool
		met    bool
		wanted string
	}{
		{"force_recovery", o.ForceRecovery, o.HasHistory(), "history_size and history_ttl"},
		{"allow_recovery", o.AllowRecovery, o.HasHistory(), "history_size and history_ttl"},
		{"force_recovery_mode", o.RecoverLatest, o.ForceRecovery || o.AllowRecovery, "force_recovery or allow_recovery"},
		{"allow_positioning", o.AllowPositioning, o.HasHistory(), "history_size and history_ttl"},
		{"force_positioning", o.ForcePositioning, o.HasHistory(), "history_size and history_ttl"},
		{"allow_history_for_client", o.AllowHistoryForClient, o.HasHistory(), "history_size and history_ttl"},
		{"allow_history_for_anonymous", o.AllowHistoryForAnonymous, o.HasHistory(), "history_size and history_ttl"},
		{"allow_history_for_subscriber", o.AllowHistoryForSubscriber, o.HasHistory(), "history_size and history_ttl"},
		{"allow_presence_for_client", o.AllowPresenceForClient, o.Presence, "presence"},
		{"allow_presence_for_anonymous", o.AllowPresenceForAnonymous, o.Presence, "presence"},
		{"allow_presence_for_subscriber", o.AllowPresenceForSubscriber, o.Presence, "presence"},
		{"events", o.Events&EventCacheMiss != 0, o.RecoverLatest, "for cache_miss force_recovery_mode: cache"},
		{"force_push_join_leave", o.ForcePushJoinLeave, o.JoinLeave, "join_leave"},
		{"delta_publish", o.DeltaPublish, o.AllowFossilDelta, "allowed_delta_types"},
	} {
		check(!need.set || need.met, "%s: it needs %s", need.name, need.wanted)
	}
	if o.ChannelRegex != "" {
		var err error
		o.regex, err = regexp.Compile("^(?:" + o.ChannelRegex + ")$")
		check(err == nil, "channel_regex: %w", err)
	}
	return errors.Join(errs...)
}
