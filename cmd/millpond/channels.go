package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/millpond/millpond/push"
)

// fileKeys are the keys of the file that are no flags: they say what channels and keys of the API can do, and what the application's
// backend is asked.
var fileKeys = []string{"channels", "namespaces", "webhooks", "rpc_namespaces", "api_keys"}

// channelOptions are push.ChannelOptions as the file has them.
type channelOptions struct {
	HistorySize         int           `yaml:"history_size"`
	HistoryTTL          time.Duration `yaml:"history_ttl"`
	ForceRecovery       bool          `yaml:"force_recovery"`
	ForceRecoveryMode   string        `yaml:"force_recovery_mode"`
	AllowRecovery       bool          `yaml:"allow_recovery"`
	ForcePositioning    bool          `yaml:"force_positioning"`
	AllowPositioning    bool          `yaml:"allow_positioning"`
	Presence            bool          `yaml:"presence"`
	JoinLeave           bool          `yaml:"join_leave"`
	ForcePushJoinLeave  bool          `yaml:"force_push_join_leave"`
	AllowedDeltaTypes   []string      `yaml:"allowed_delta_types"`
	DeltaPublish        bool          `yaml:"delta_publish"`
	AllowTagsFilter     bool          `yaml:"allow_tags_filter"`
	SlowPolicy          string        `yaml:"slow_policy"`
	MaxPublicationBytes int           `yaml:"max_publication_bytes"`
	ChannelRegex        string        `yaml:"channel_regex"`
	DataFormat          string        `yaml:"publication_data_format"`
	Events              []string      `yaml:"events"`

	SubscribeWebhook  string `yaml:"subscribe_webhook"`
	PublishWebhook    string `yaml:"publish_webhook"`
	SubRefreshWebhook string `yaml:"sub_refresh_webhook"`

	AllowSubscribeForClient    bool `yaml:"allow_subscribe_for_client"`
	AllowSubscribeForAnonymous bool `yaml:"allow_subscribe_for_anonymous"`
	AllowPublishForClient      bool `yaml:"allow_publish_for_client"`
	AllowPublishForAnonymous   bool `yaml:"allow_publish_for_anonymous"`
	AllowPublishForSubscriber  bool `yaml:"allow_publish_for_subscriber"`
	AllowPresenceForClient     bool `yaml:"allow_presence_for_client"`
	AllowPresenceForAnonymous  bool `yaml:"allow_presence_for_anonymous"`
	AllowPresenceForSubscriber bool `yaml:"allow_presence_for_subscriber"`
	AllowHistoryForClient      bool `yaml:"allow_history_for_client"`
	AllowHistoryForAnonymous   bool `yaml:"allow_history_for_anonymous"`
	AllowHistoryForSubscriber  bool `yaml:"allow_history_for_subscriber"`
	AllowUserLimitedChannels   bool `yaml:"allow_user_limited_channels"`
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
	Name    string         `yaml:"name"`
	Options channelOptions `yaml:",inline"`
}

// readFile reads the file at path; no path, nothing in it.
func readFile(path string) (f file, err error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(b, &f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return f, nil
}

// loadChannels reads those keys from the file at path; no path, no options.
func loadChannels(path string) (base push.ChannelOptions, list []push.Namespace, err error) {
	f, err := readFile(path)
	if err != nil {
		return base, nil, err
	}
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
