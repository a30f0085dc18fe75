package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/bench"
)

// This file has the scenarios of the product: channels and what goes through them.

type channelsCommand struct {
	Connections  int           `help:"Connections, each subscribed to a channel of its own and to a shared one." default:"15000"`
	Presence     bool          `help:"With presence in the channels."`
	Protobuf     bool          `help:"Protobuf instead of JSON."`
	MessageBytes int           `help:"Bytes of a publication's data, at least 64." default:"64"`
	Hold         time.Duration `help:"Time for memory to settle before it is read." default:"5s"`
}

// Run measures subscribed connections.
func (c *channelsCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Channels(ctx, bench.ChannelsConfig{
		Target: b.Bench.target(), Connections: c.Connections, Presence: c.Presence, Protobuf: c.Protobuf,
		MessageBytes: c.MessageBytes, Hold: c.Hold,
	})
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}

type broadcastCommand struct {
	Connections  int  `help:"Subscribers of the one channel." default:"15000"`
	Messages     int  `help:"Messages of a run." default:"50"`
	MessageBytes int  `help:"Bytes of a publication's data, at least 64." default:"64"`
	Protobuf     bool `help:"Protobuf instead of JSON."`
	Pairs        int  `help:"Times to measure the server and the bare loop." default:"3"`
}

// Run measures deliveries.
func (c *broadcastCommand) Run(ctx context.Context, s *streams, b *cli) error {
	if b.Bench.URL != "" {
		return errors.New("bench broadcast: not with --url, it starts both servers itself")
	}
	report, err := bench.Broadcast(ctx, bench.BroadcastConfig{
		Connections: c.Connections, Messages: c.Messages, MessageBytes: c.MessageBytes, Protobuf: c.Protobuf, Pairs: c.Pairs,
	})
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}
