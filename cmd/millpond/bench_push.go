package main

import (
	"context"
	"time"

	"github.com/millpond/millpond/bench"
)

// This file has the scenarios of the product: channels and what goes through them.

type fanoutCommand struct {
	Channels   int  `help:"Channels that the subscribers share." default:"1"`
	Publishers int  `help:"Publishers that publish at the same time." default:"1"`
	Queue      int  `help:"Publish so many in each channel at once, wait until all have them, and again; instead of --rate." placeholder:"N"`
	Bare       bool `help:"Compare with a bare send(2) loop." default:"true" negatable:""`
	Messages   int  `help:"Messages of a run beside that." default:"20"`
}

// Help is kong's.
func (fanoutCommand) Help() string {
	return "15,000 subscribers, 64 bytes, 10s at 2 publications in a second for each channel; then 7 pairs beside the bare loop. With --url, --api is needed."
}

// Run measures deliveries.
func (c *fanoutCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Fanout{
		Channels: c.Channels, Publishers: c.Publishers, Queue: c.Queue, NoBare: !c.Bare, Messages: c.Messages,
	})
}

type personalCommand struct {
	Presence   bool          `help:"With presence in the own server's channels."`
	Publishers int           `help:"Publishers that publish at the same time." default:"8"`
	Settle     time.Duration `help:"Time for memory to settle before it is read." default:"5s"`
}

// Help is kong's.
func (personalCommand) Help() string {
	return "15,000 connections, each with a channel of its own and one that all share, 64 bytes, 1,000 publications in a second."
}

// Run measures users with channels of their own.
func (c *personalCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Personal{Presence: c.Presence, Publishers: c.Publishers, Settle: c.Settle})
}

type churnCommand struct {
	Channels int           `help:"Channels that all share." default:"20"`
	Visits   float64       `help:"Visits that begin in a second." default:"200"`
	Stay     time.Duration `help:"Time that a visitor stays, on average." default:"2s"`
	Settle   time.Duration `help:"Time for memory to settle before it is read." default:"4s"`
}

// Help is kong's.
func (churnCommand) Help() string {
	return "2,000 connections that stay, 100 publications of 64 bytes in a second; 20s without visitors and 20s with them."
}

// Run measures what visitors do to those who stay.
func (c *churnCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Churn{Channels: c.Channels, Visits: c.Visits, Stay: c.Stay, Settle: c.Settle})
}

type recoverCommand struct {
	Publishers    int           `help:"Publishers, which share the channels." default:"4"`
	Channels      int           `help:"Channels." default:"20"`
	Subscriptions int           `help:"Subscriptions of each client." default:"2"`
	Deliveries    int64         `help:"Deliveries that must have been checked: for want of them it goes on up to five times as long." default:"1000000"`
	Stay          time.Duration `help:"Time that a client stays as it is, on average." default:"5s"`
	Away          time.Duration `help:"Time that it is gone, at most." default:"500ms"`
	Slow          time.Duration `help:"Time for which one stops reading." default:"3s"`
	Overdue       time.Duration `help:"How late a publication may come to a client that is there and reads." default:"3s"`
}

// Help is kong's.
func (recoverCommand) Help() string {
	return "300 connections for 60s, 1,000 publications of 256 bytes in a second."
}

// Run looks for losses.
func (c *recoverCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Recover{
		Publishers: c.Publishers, Channels: c.Channels, Subscriptions: c.Subscriptions, Deliveries: c.Deliveries,
		Stay: c.Stay, Away: c.Away, Slow: c.Slow, Overdue: c.Overdue,
	})
}

type drainCommand struct {
	How      string `help:"restart: SIGTERM, and the next process when the first has ended; takeover: the next one takes the listening sockets over." enum:"restart,takeover" default:"restart"`
	Channels int    `help:"Channels that the clients share." default:"20"`
}

// Help is kong's.
func (drainCommand) Help() string {
	return "2,000 connections, 100 publications of 64 bytes in a second, for 5s before and after. Not with --url: it restarts the server."
}

// Run restarts the server.
func (c *drainCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, &bench.Drain{How: c.How, Channels: c.Channels})
}

type mixedCommand struct {
	Channels int           `help:"Channels that users and visitors share." default:"50"`
	Visits   float64       `help:"Visits that begin in a second; default: a fiftieth of the connections." placeholder:"N"`
	Overdue  time.Duration `help:"How late a publication may come to a user that is there and reads." default:"5s"`
}

// Help is kong's.
func (mixedCommand) Help() string {
	return "3,000 connections for 60s, at most 300 publications of 256 bytes in a second."
}

// Run measures a day.
func (c *mixedCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Mixed{Channels: c.Channels, Visits: c.Visits, Overdue: c.Overdue})
}

type apiBenchCommand struct {
	Together int `help:"Publications of one batch or broadcast." default:"100"`
}

// Help is kong's.
func (apiBenchCommand) Help() string {
	return "8 connections that publish 64 bytes, 5s in each way. Nobody subscribes."
}

// Run measures publications over the API.
func (c *apiBenchCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Publishing{Together: c.Together})
}
