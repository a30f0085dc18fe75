package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config bounds a Broker and says what its streams are. All nodes should have the same, but for Renew, Renewed, Member and Trouble.
type Config struct {
	// Link is the connection. It must be set, and outlive the Broker.
	Link *Link

	// Groups is the number of streams, among which channels with history are spread. It is fixed when the streams are made. Zero means 32.
	Groups int
	// Partitions is the number of subjects among which channels without history are spread. It is fixed like Groups. Zero means 4096.
	Partitions int
	// Replicas is the number of servers that have each stream: 1, 3 or 5. Zero means 1.
	Replicas int
	// MaxHistorySize is the largest history_size of any channel. Zero means 100.
	MaxHistorySize int
	// ChannelMessages is the number of publications of a channel that the log has at least, though its history may be smaller: so far a node may
	// fall behind without a subscriber losing something. Zero means 1000.
	ChannelMessages int
	// MaxAge is for how long a publication, and with it the channel's position, is in the log: the longest history TTL at least. Zero means 24 h.
	MaxAge time.Duration
	// StoreBytes bounds the streams on disk, all together; of more the oldest publications go. Zero means 4 GiB.
	StoreBytes int64

	// RingBytes bounds what this node keeps in memory of the channels' publications; of more the oldest go. Zero means 256 MiB.
	RingBytes int
	// RingChannels bounds the channels of whose positions this node knows more than of the others in their group. Zero means 1,048,576.
	RingChannels int
	// CatchUpBytes bounds what is held while a node that was away finds out whether it missed too much. Zero means 64 MiB.
	CatchUpBytes int

	// Recalls bounds the requests that wait for a channel to be read from the log, because memory has let go what they
	// are about; of more it is said to be missing. Zero means 32. RecallBytes bounds what is read for one of them; a
	// channel of which that is more is said to be missing, too. Zero means 2 MiB.
	Recalls     int
	RecallBytes int

	// FetchBytes bounds what waits in this node of each group that is read; a publication that is larger is alone. Zero means 4 MiB.
	FetchBytes int

	// PublishTimeout bounds a publication. Zero means 5 s.
	PublishTimeout time.Duration
	// MaxPending bounds the publications that wait for the log's answer, and those in channels without history of which
	// is known that they were claimed in the log and not sent. Zero means 16,384.
	MaxPending int
	// IdleTimeout is for how long this node reads a group, or partition, that nobody is subscribed to any more. Zero means 60 s.
	IdleTimeout time.Duration
	// ResetRate bounds the subscriptions of this node that are told in a second that they have to begin anew. Zero means 5000.
	ResetRate int
	// StartTimeout is how long New waits for the servers; afterwards it goes on in the background. Zero means 15 s.
	StartTimeout time.Duration

	// Renew, if not empty, says why the log may have lost its end, or is another: the positions of before mean nothing then. Renewed is called
	// when that is done, or when it needs not be done.
	Renew   string
	Renewed func() error
	// Member is the name of the server in this process that is one of a cluster's; empty for none. What it lost, most of the others may have; then nothing is renewed.
	Member string

	// Trouble, if not nil, says why the log can take nothing just now. It is called for each publication with history.
	Trouble func() error
	// Follow, if set, is called with what a publication's trace is known by, when it is here and has subscribers. What it returns is called when they
	// were handed it. It must not block.
	Follow func(carrier, channel string) (delivered func())

	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (c Config) Validate() error {
	var errs []error
	for name, n := range map[string]int64{
		"nats-groups": int64(c.Groups), "nats-partitions": int64(c.Partitions), "nats-store-bytes": c.StoreBytes,
		"history-bytes": int64(c.RingBytes), "history-channels": int64(c.RingChannels), "nats-catch-up-bytes": int64(c.CatchUpBytes), "nats-fetch-bytes": int64(c.FetchBytes),
		"nats-recalls": int64(c.Recalls), "nats-recall-bytes": int64(c.RecallBytes),
		"nats-max-pending": int64(c.MaxPending), "nats-reset-rate": int64(c.ResetRate),
		"history_size": int64(c.MaxHistorySize), "nats-channel-messages": int64(c.ChannelMessages),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, n))
		}
	}
	for name, d := range map[string]time.Duration{
		"nats-publish-timeout": c.PublishTimeout, "nats-idle-timeout": c.IdleTimeout, "nats-start-timeout": c.StartTimeout, "history-position-ttl": c.MaxAge,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is negative", name, d))
		}
	}
	for name, bound := range map[string][2]int{"nats-groups": {c.Groups, 1024}, "nats-partitions": {c.Partitions, 65536}} {
		if bound[0] > bound[1] {
			errs = append(errs, fmt.Errorf("%s: %d is more than %d", name, bound[0], bound[1]))
		}
	}
	switch c.Replicas {
	case 0, 1, 3, 5:
	default:
		errs = append(errs, fmt.Errorf("replicas: %d is not 1, 3 or 5", c.Replicas))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	for _, field := range []struct {
		value *int
		zero  int
	}{
		{&c.Groups, 32},
		{&c.Partitions, 4096},
		{&c.Replicas, 1},
		{&c.MaxHistorySize, 100},
		{&c.ChannelMessages, 1000},
		{&c.RingBytes, 256 << 20},
		{&c.RingChannels, 1 << 20},
		{&c.CatchUpBytes, 64 << 20},
		{&c.Recalls, 32},
		{&c.RecallBytes, 2 << 20},
		{&c.FetchBytes, 4 << 20},
		{&c.MaxPending, 16 << 10},
		{&c.ResetRate, 5000},
	} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	for _, field := range []struct {
		value *time.Duration
		zero  time.Duration
	}{
		{&c.MaxAge, 24 * time.Hour},
		{&c.PublishTimeout, 5 * time.Second},
		{&c.IdleTimeout, time.Minute},
		{&c.StartTimeout, 15 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	if c.StoreBytes == 0 {
		c.StoreBytes = 4 << 30
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
