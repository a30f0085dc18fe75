package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// BroadcastConfig says what Broadcast does. The zero value works.
type BroadcastConfig struct {
	// Connections subscribe to one channel. Zero means 15,000.
	Connections int
	// Messages are published in each run. Zero means 20.
	Messages int
	// MessageBytes is the size of a publication's data. Zero means 64, which is the least.
	MessageBytes int
	// Protobuf instead of JSON.
	Protobuf bool
	// Pairs is how often either server is measured, in turn. Zero means 7.
	Pairs int
}

// The kinds of runs of Broadcast.
const (
	// BroadcastSingle publishes a message when all have received the one before.
	BroadcastSingle = "single"
	// BroadcastQueued publishes all of them as fast as the server takes them.
	BroadcastQueued = "queued"
)

var broadcastKinds = []string{BroadcastSingle, BroadcastQueued}

// BroadcastReport is what Broadcast found.
type BroadcastReport struct {
	Connections  int                       `json:"connections"`
	Messages     int                       `json:"messages"`
	MessageBytes int                       `json:"message_bytes"`
	Protobuf     bool                      `json:"protobuf"`
	Server       map[string][]BroadcastRun `json:"server"` // by kind: "single" or "queued"
	Bare         map[string][]BroadcastRun `json:"bare"`
	Ratio        map[string]float64        `json:"ratio"` // the server's CPU per delivery over the bare loop's: the median of the pairs
	Failures     map[string]int            `json:"failures"`
}

// BroadcastRun is one run against one server.
type BroadcastRun struct {
	Deliveries int64         `json:"deliveries"` // that were right
	Took       time.Duration `json:"took_ns"`
	ServerCPU  time.Duration `json:"server_cpu_ns"`
	ClientCPU  time.Duration `json:"client_cpu_ns"`
	Reads      int64         `json:"client_reads"` // system calls that brought them
}

// broadcastWarmUp is how many messages come first, and are not counted.
const broadcastWarmUp = 5

// Broadcast measures what it costs the own server to deliver a message to each of many subscribers of a channel, and what it
// costs the yardstick, which sends the same bytes to as many sockets and knows nothing else, in turn. The subscribers
// of either are a process of their own.
func Broadcast(ctx context.Context, c BroadcastConfig) (r BroadcastReport, err error) {
	c = c.withDefaults()
	r = BroadcastReport{
		Connections: c.Connections, Messages: c.Messages, MessageBytes: c.MessageBytes, Protobuf: c.Protobuf,
		Server: map[string][]BroadcastRun{}, Bare: map[string][]BroadcastRun{}, Ratio: map[string]float64{}, Failures: map[string]int{},
	}
	own, stop, err := start(ctx, Target{Config: benchNamespace(100, false), Flags: []string{"--ping-interval=-1s"}}) // the yardstick has no heartbeats
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	bare, stopBare, err := startPrinting(ctx, "the bare loop", "bench", "bare-fan-server")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stopBare()) }()
	ours, err := c.startClients(ctx, own.at(centrifugePath), r.Failures)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	theirs, err := c.startClients(ctx, bare, r.Failures)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	for _, kind := range broadcastKinds {
		var ratios []float64
		for range c.Pairs {
			a, err := ours.run(kind)
			if err != nil {
				return r, err
			}
			b, err := theirs.run(kind)
			if err != nil {
				return r, err
			}
			r.Server[kind], r.Bare[kind] = append(r.Server[kind], a), append(r.Bare[kind], b)
			ratios = append(ratios, a.perDelivery()/b.perDelivery())
		}
		slices.Sort(ratios)
		r.Ratio[kind] = ratios[len(ratios)/2]
	}
	return r, nil
}

func (c BroadcastConfig) withDefaults() BroadcastConfig {
	c.Connections, c.Messages = cmp.Or(c.Connections, 15000), cmp.Or(c.Messages, 20)
	c.MessageBytes, c.Pairs = max(c.MessageBytes, 64), cmp.Or(c.Pairs, 7)
	return c
}

// perDelivery is the server's CPU time for a delivery, in seconds.
func (r BroadcastRun) perDelivery() float64 {
	return r.ServerCPU.Seconds() / float64(max(r.Deliveries, 1))
}

// Failed returns how many connections failed.
func (r BroadcastReport) Failed() (n int) {
	for _, failures := range r.Failures {
		n += failures
	}
	return n
}

// String is the report for people.
func (r BroadcastReport) String() string {
	var b strings.Builder
	codec := "JSON"
	if r.Protobuf {
		codec = "Protobuf"
	}
	fmt.Fprintf(&b, "broadcast: %d subscribers by %s, %d messages of %d B; server CPU per million deliveries (the client's), deliveries per read of a client\n",
		r.Connections, codec, r.Messages, r.MessageBytes)
	titles := map[string]string{BroadcastSingle: "one at a time", BroadcastQueued: "queued"}
	for _, kind := range broadcastKinds {
		for i, server := range r.Server[kind] {
			bare := r.Bare[kind][i]
			fmt.Fprintf(&b, "  %-13s  %s   bare loop %s   ratio %.3f\n", titles[kind], server, bare, server.perDelivery()/bare.perDelivery())
		}
		if len(r.Server[kind]) > 0 {
			fmt.Fprintf(&b, "  %-13s  median of %d pairs: %.3f x the bare loop\n", titles[kind], len(r.Server[kind]), r.Ratio[kind])
		}
	}
	writeFailures(&b, r.Failures)
	return b.String()
}

// String is a part of a line.
func (r BroadcastRun) String() string {
	n := float64(max(r.Deliveries, 1))
	return fmt.Sprintf("%6.3f s (%.3f s) %5.2f /read %7.0f/s", r.ServerCPU.Seconds()/n*1e6, r.ClientCPU.Seconds()/n*1e6,
		n/float64(max(r.Reads, 1)), n/r.Took.Seconds())
}
