package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/millpond/millpond/push"
)

// channelKeys are the keys of the file that are no flags: they say what channels can do.
var channelKeys = []string{"channels", "namespaces"}

// channelOptions are push.ChannelOptions as the file has them.
type channelOptions struct {
	HistorySize               int           `yaml:"history_size"`
	HistoryTTL                time.Duration `yaml:"history_ttl"`
	ForceRecovery             bool          `yaml:"force_recovery"`
	AllowHistoryForSubscriber bool          `yaml:"allow_history_for_subscriber"`
	AllowHistoryForClient     bool          `yaml:"allow_history_for_client"`
	ChannelRegex              string        `yaml:"channel_regex"`
}

func (o channelOptions) options() push.ChannelOptions {
	return push.ChannelOptions{
		HistorySize: o.HistorySize, HistoryTTL: o.HistoryTTL, ForceRecovery: o.ForceRecovery,
		AllowHistoryForSubscriber: o.AllowHistoryForSubscriber, AllowHistoryForClient: o.AllowHistoryForClient,
		ChannelRegex: o.ChannelRegex,
	}
}

type namespaceOptions struct {
	Name    string         `yaml:"name"`
	Options channelOptions `yaml:",inline"`
}

// loadChannels reads those keys from the file at path; no path, no options.
func loadChannels(path string) (base push.ChannelOptions, list []push.Namespace, err error) {
	if path == "" {
		return base, nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return base, nil, err
	}
	var f file
	if err := yaml.Unmarshal(b, &f); err != nil && !errors.Is(err, io.EOF) {
		return base, nil, err
	}
	var options channelOptions
	var namespaces []namespaceOptions
	err = errors.Join(strictly(f, "channels", &options), strictly(f, "namespaces", &namespaces))
	for _, n := range namespaces {
		list = append(list, push.Namespace{Name: n.Name, Options: n.Options.options()})
	}
	return options.options(), list, err
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

func isChannelKey(name string) bool { return slices.Contains(channelKeys, name) }
