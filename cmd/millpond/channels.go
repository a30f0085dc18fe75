package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/millpond/millpond/push"
)

// channelOptions are push.ChannelOptions as the file has them.
type channelOptions struct {
	HistorySize         int           `yaml:"history_size" range:"0:65536" help:"Publications that are kept of a channel; history_ttl is needed too."`
	HistoryTTL          time.Duration `yaml:"history_ttl" range:"0:" help:"Time for which they are kept."`
	ForceRecovery       bool          `yaml:"force_recovery" help:"Subscribers that come back get what they missed."`
	ForceRecoveryMode   string        `yaml:"force_recovery_mode" enum:"stream,cache" help:"What that is: all of it, or cache, the latest publication alone." default:"stream"`
	AllowRecovery       bool          `yaml:"allow_recovery" help:"Subscribers that ask for it get what they missed."`
	ForcePositioning    bool          `yaml:"force_positioning" help:"Subscribers are told their position, and hear of it if it is lost."`
	AllowPositioning    bool          `yaml:"allow_positioning" help:"Subscribers that ask for it are."`
	Presence            bool          `yaml:"presence" help:"Who is subscribed can be asked for."`
	JoinLeave           bool          `yaml:"join_leave" help:"Subscribers that ask for it hear who comes and goes."`
	ForcePushJoinLeave  bool          `yaml:"force_push_join_leave" help:"All subscribers do."`
	AllowedDeltaTypes   []string      `yaml:"allowed_delta_types" enum:"fossil" help:"Kinds of differences that subscribers may have instead of whole publications: fossil."`
	DeltaPublish        bool          `yaml:"delta_publish" help:"Subscribers have differences of all publications, not of those alone that are published with delta."`
	AllowTagsFilter     bool          `yaml:"allow_tags_filter" help:"Subscribers may name the tags of the publications that they want."`
	SlowPolicy          string        `yaml:"slow_policy" enum:"disconnect,drop-oldest,drop-newest,latest" help:"What happens when a client is too slow for the channel: disconnect, drop-oldest, drop-newest or latest; default: as --slow-policy says."`
	MaxPublicationBytes int           `yaml:"max_publication_bytes" range:"0:" help:"Bytes of a publication; 0: as --max-message-bytes allows."`
	ChannelRegex        string        `yaml:"channel_regex" help:"Regular expression that a name must match behind the namespace; default: any."`
	DataFormat          string        `yaml:"publication_data_format" enum:"json,binary" help:"What clients may publish: json, or any bytes." default:"binary"`
	Events              []string      `yaml:"events" enum:"channel_occupied,channel_vacated,member_joined,member_left,cache_miss" help:"Events of the channels that the backend is told, beside those of --events."`

	SubscribeWebhook  string `yaml:"subscribe_webhook" help:"Webhook that says whether a client without a token for the channel may subscribe; default: none."`
	PublishWebhook    string `yaml:"publish_webhook" help:"Webhook that says whether a client may publish, and what; default: none."`
	SubRefreshWebhook string `yaml:"sub_refresh_webhook" help:"Webhook that says whether a subscription that expires may stay; default: none."`

	AllowSubscribeForClient    bool `yaml:"allow_subscribe_for_client" help:"Users may subscribe without a token for the channel."`
	AllowSubscribeForAnonymous bool `yaml:"allow_subscribe_for_anonymous" help:"Clients without a user may, too."`
	AllowPublishForClient      bool `yaml:"allow_publish_for_client" help:"Users may publish."`
	AllowPublishForAnonymous   bool `yaml:"allow_publish_for_anonymous" help:"Clients without a user may publish."`
	AllowPublishForSubscriber  bool `yaml:"allow_publish_for_subscriber" help:"Subscribers may publish."`
	AllowPresenceForClient     bool `yaml:"allow_presence_for_client" help:"Users may ask for the presence."`
	AllowPresenceForAnonymous  bool `yaml:"allow_presence_for_anonymous" help:"Clients without a user may ask for the presence."`
	AllowPresenceForSubscriber bool `yaml:"allow_presence_for_subscriber" help:"Subscribers may ask for the presence."`
	AllowHistoryForClient      bool `yaml:"allow_history_for_client" help:"Users may ask for the history."`
	AllowHistoryForAnonymous   bool `yaml:"allow_history_for_anonymous" help:"Clients without a user may ask for the history."`
	AllowHistoryForSubscriber  bool `yaml:"allow_history_for_subscriber" help:"Subscribers may ask for the history."`
	AllowUserLimitedChannels   bool `yaml:"allow_user_limited_channels" help:"A name such as deal#42,43 is for the users 42 and 43 alone."`
}

// options converts o; what it cannot say in another way is an error.
func (o channelOptions) options() (push.ChannelOptions, error) {
	out := push.ChannelOptions{
		HistorySize: o.HistorySize, HistoryTTL: o.HistoryTTL,
		ForceRecovery: o.ForceRecovery, AllowRecovery: o.AllowRecovery, RecoverLatest: o.ForceRecoveryMode == "cache",
		ForcePositioning: o.ForcePositioning, AllowPositioning: o.AllowPositioning,
		Presence: o.Presence, JoinLeave: o.JoinLeave, ForcePushJoinLeave: o.ForcePushJoinLeave,
		AllowFossilDelta: len(o.AllowedDeltaTypes) > 0, DeltaPublish: o.DeltaPublish, AllowTagsFilter: o.AllowTagsFilter,
		SlowPolicy: o.SlowPolicy, MaxPublicationBytes: o.MaxPublicationBytes, ChannelRegex: o.ChannelRegex, JSONData: o.DataFormat == "json",
		SubscribeWebhook: o.SubscribeWebhook, PublishWebhook: o.PublishWebhook, SubRefreshWebhook: o.SubRefreshWebhook,
		AllowSubscribeForClient: o.AllowSubscribeForClient, AllowSubscribeForAnonymous: o.AllowSubscribeForAnonymous,
		AllowPublishForClient: o.AllowPublishForClient, AllowPublishForAnonymous: o.AllowPublishForAnonymous,
		AllowPublishForSubscriber: o.AllowPublishForSubscriber,
		AllowPresenceForClient:    o.AllowPresenceForClient, AllowPresenceForAnonymous: o.AllowPresenceForAnonymous,
		AllowPresenceForSubscriber: o.AllowPresenceForSubscriber,
		AllowHistoryForClient:      o.AllowHistoryForClient, AllowHistoryForAnonymous: o.AllowHistoryForAnonymous,
		AllowHistoryForSubscriber: o.AllowHistoryForSubscriber,
		AllowUserLimitedChannels:  o.AllowUserLimitedChannels,
	}
	var errs []error
	switch o.ForceRecoveryMode {
	case "", "stream", "cache":
	default:
		errs = append(errs, fmt.Errorf(`force_recovery_mode: %q is not "stream" or "cache"`, o.ForceRecoveryMode))
	}
	switch o.DataFormat {
	case "", "json", "binary":
	default:
		errs = append(errs, fmt.Errorf(`publication_data_format: %q is not "json" or "binary"`, o.DataFormat))
	}
	for _, kind := range o.Events {
		event, ok := push.EventKinds[kind]
		if !ok {
			known := slices.Sorted(maps.Keys(push.EventKinds))
			errs = append(errs, fmt.Errorf("events: %q is not one of %s", kind, strings.Join(known, ", ")))
		}
		out.Events |= event
	}
	for _, kind := range o.AllowedDeltaTypes {
		if kind != "fossil" {
			errs = append(errs, fmt.Errorf(`allowed_delta_types: %q is not "fossil"`, kind))
		}
	}
	return out, errors.Join(errs...)
}

type namespaceOptions struct {
	Name    string         `yaml:"name" help:"What stands before the colon of its channels."`
	Options channelOptions `yaml:",inline"`
}

// loadChannels makes options of those keys.
func loadChannels(f file) (base push.ChannelOptions, list []push.Namespace, err error) {
	var options channelOptions
	var namespaces []namespaceOptions
	err = errors.Join(strictly(f, "channels", &options), strictly(f, "namespaces", &namespaces))
	for _, n := range namespaces {
		o, wrong := n.Options.options()
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("config: namespaces: %q: %w", n.Name, wrong))
		}
		list = append(list, push.Namespace{Name: n.Name, Options: o})
	}
	base, wrong := options.options()
	if wrong != nil {
		err = errors.Join(err, fmt.Errorf("config: channels: %w", wrong))
	}
	return base, list, err
}

// strictly decodes one key of the file into v, which must have a field for everything.
func strictly(f file, key string, v any) error {
	value, ok := f[key]
	if !ok || value == nil {
		return nil
	}
	b, err := yaml.Marshal(value)
	if err == nil {
		err = yaml.UnmarshalWithOptions(b, v, yaml.Strict())
	}
	if err != nil {
		return fmt.Errorf("config: %s: %s", key, yaml.FormatError(err, false, false))
	}
	return nil
}
