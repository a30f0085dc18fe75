package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millpond/millpond/bench"
)

// This file has the scenarios of the product: channels and what goes through them.

type channelsCommand struct {
	Presence     bool          `help:"With presence in the channels."`
	Protobuf     bool          `help:"Protobuf instead of JSON."`
	MessageBytes int           `help:"Bytes of a publication's data, at least 64." default:"64"`
	Hold         time.Duration `help:"Time for memory to settle before it is read." default:"5s"`
}

// Run measures subscribed connections.
func (c *channelsCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Channels(ctx, bench.ChannelsConfig{
		Target: b.Bench.target(), Connections: b.Bench.Connections, Presence: c.Presence, Protobuf: c.Protobuf,
		MessageBytes: c.MessageBytes, Hold: c.Hold,
	})
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}

type broadcastCommand struct {
	Messages     int  `help:"Messages of a run." default:"20"`
	MessageBytes int  `help:"Bytes of a publication's data, at least 64." default:"64"`
	Protobuf     bool `help:"Protobuf instead of JSON."`
	Pairs        int  `help:"Times to measure the server and the bare loop." default:"7"`
}

// Run measures deliveries.
func (c *broadcastCommand) Run(ctx context.Context, s *streams, b *cli) error {
	if b.Bench.URL != "" {
		return errors.New("bench broadcast: not with --url, it starts both servers itself")
	}
	report, err := bench.Broadcast(ctx, c.config(b))
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}

func (c *broadcastCommand) config(b *cli) bench.BroadcastConfig {
	return bench.BroadcastConfig{
		Connections: b.Bench.Connections, Messages: c.Messages, MessageBytes: c.MessageBytes, Protobuf: c.Protobuf, Pairs: c.Pairs,
	}
}

type broadcastClientsCommand struct{ broadcastCommand }

// Run is the subscribers of one server.
func (c broadcastClientsCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return bench.BroadcastClients(ctx, b.Bench.target(), c.config(b), os.Stdin, s.out)
}

type lossCommand struct {
	Publishers    int           `help:"Publishers, which share the channels." default:"4"`
	Channels      int           `help:"Channels." default:"20"`
	Subscribers   int           `help:"Clients." default:"300"`
	Subscriptions int           `help:"Subscriptions of each." default:"2"`
	Deliveries    int64         `help:"Deliveries that must have been checked." default:"1000000"`
	Stay          time.Duration `help:"Time that a client stays as it is, on average." default:"5s"`
	Away          time.Duration `help:"Time that it is gone, at most." default:"500ms"`
	Slow          time.Duration `help:"Time for which one stops reading." default:"3s"`
	MessageBytes  int           `help:"Bytes of a publication's data." default:"256"`
	Protobuf      bool          `help:"Protobuf instead of JSON."`
}

// Run looks for losses.
func (c *lossCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Loss(ctx, bench.LossConfig{
		Target: b.Bench.target(), Publishers: c.Publishers, Channels: c.Channels, Rate: int(b.Bench.Rate), Subscribers: c.Subscribers,
		Subscriptions: c.Subscriptions, Duration: b.Bench.Duration, Deliveries: c.Deliveries, Stay: c.Stay, Away: c.Away, Slow: c.Slow,
		MessageBytes: c.MessageBytes, Protobuf: c.Protobuf,
	})
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d failures", n))
	}
	return b.Bench.print(s, report, errors.Join(err, report.Err()))
}

type apiBenchCommand struct {
	Together     int `help:"Publications of one batch or broadcast." default:"100"`
	MessageBytes int `help:"Bytes of a publication's data." default:"64"`
}

// Run measures publications over the API.
func (c *apiBenchCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Publishing(ctx, bench.PublishingConfig{
		Target: b.Bench.target(), Connections: b.Bench.Connections, Together: c.Together, MessageBytes: c.MessageBytes, Duration: b.Bench.Duration,
	})
	return b.Bench.print(s, report, err)
}
