package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// BroadcastConfig says what Broadcast does. The zero value works.
type BroadcastConfig struct {
	// Connections subscribe to one channel. Zero means 15,000.
	Connections int
	// Messages are published in each run. Zero means 50.
	Messages int
	// MessageBytes is the size of a publication's data. Zero means 64, which is the least.
	MessageBytes int
	// Protobuf instead of JSON.
	Protobuf bool
	// Pairs is how often either server is measured. Zero means 3.
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
// costs the yardstick, which sends the same bytes to as many sockets and knows nothing else, in turn.
func Broadcast(ctx context.Context, c BroadcastConfig) (r BroadcastReport, err error) {
	c.Connections, c.Messages = cmp.Or(c.Connections, 15000), cmp.Or(c.Messages, 50)
	c.MessageBytes, c.Pairs = max(c.MessageBytes, 64), cmp.Or(c.Pairs, 3)
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
	ratios := map[string][]float64{}
	for pair := range c.Pairs {
		channel := fmt.Sprintf("bench:pair-%d", pair)
		a, err := c.run(ctx, own.at(centrifugePath), channel, r.Failures)
		if err != nil {
			return r, err
		}
		b, err := c.run(ctx, bare, channel, r.Failures)
		if err != nil {
			return r, err
		}
		for _, kind := range broadcastKinds {
			r.Server[kind], r.Bare[kind] = append(r.Server[kind], a[kind]), append(r.Bare[kind], b[kind])
			ratios[kind] = append(ratios[kind], a[kind].perDelivery()/b[kind].perDelivery())
		}
	}
	for kind, list := range ratios {
		slices.Sort(list)
		r.Ratio[kind] = list[len(list)/2]
	}
	return r, nil
}

// broadcastRun is the subscribers of one server, and who publishes.
type broadcastRun struct {
	config   BroadcastConfig
	crowd    *crowd
	expected [][]byte // the messages, as the subscribers get them, in order
	next     int      // of them, that was not published yet
	publish  func(ctx context.Context, from, to int) error
}

// run does the runs of all kinds with one server; failures are added up. The server is the yardstick if it has no API.
func (c BroadcastConfig) run(ctx context.Context, t Target, channel string, failures map[string]int) (runs map[string]BroadcastRun, err error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	d, err := t.newDialect(ctx, p, c.Protobuf)
	if err != nil {
		return nil, err
	}
	b := &broadcastRun{config: c, crowd: newCrowd(d)}
	if err := b.prepare(channel); err != nil {
		return nil, err
	}
	b.crowd.check = b.check
	defer func() {
		b.crowd.leave()
		for what, n := range b.crowd.counts() {
			failures[what] += n
		}
	}()
	open := c.Connections
	if t.API == "" {
		d.hello, b.crowd.channels = nil, func(int) []string { return nil }
		b.publish = b.bySocket
		open++ // who publishes receives nothing
	} else {
		publisher, err := newAPI(t)
		if err != nil {
			return nil, err
		}
		defer publisher.close()
		b.crowd.channels = func(int) []string { return []string{channel} }
		b.publish = b.byAPI(publisher, channel)
	}
	if err := b.crowd.grow(ctx, open); err != nil {
		return nil, err
	}
	if err := b.send(ctx, broadcastWarmUp, 1); err != nil {
		return nil, err
	}
	runs = map[string]BroadcastRun{}
	for _, kind := range broadcastKinds {
		if runs[kind], err = b.measure(ctx, t.PID, kind); err != nil {
			return runs, fmt.Errorf("%s: %w", kind, err)
		}
	}
	return runs, nil
}

// prepare makes all messages of the run.
func (b *broadcastRun) prepare(channel string) error {
	for n := range broadcastWarmUp + len(broadcastKinds)*b.config.Messages {
		offset := uint64(n) + 1
		push := &wire.Push{Channel: channel, Pub: &wire.Publication{Data: numbered(offset, b.config.MessageBytes), Offset: offset}}
		payload, err := b.crowd.dialect.codec.AppendReply(nil, &wire.Reply{Push: push})
		if err != nil {
			return err
		}
		b.expected = append(b.expected, payload)
	}
	return nil
}

// byAPI publishes as a backend does.
func (b *broadcastRun) byAPI(publisher *api, channel string) func(ctx context.Context, from, to int) error {
	return func(ctx context.Context, from, to int) error {
		for n := from; n < to; n++ {
			offset := uint64(n) + 1
			got, err := publisher.publish(ctx, channel, numbered(offset, b.config.MessageBytes))
			if err == nil && got != offset {
				err = fmt.Errorf("publication %d has offset %d", offset, got)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// bySocket has the yardstick's first connection send what all others get.
func (b *broadcastRun) bySocket(_ context.Context, from, to int) error {
	var frames []byte
	for _, payload := range b.expected[from:to] {
		frames = append(frames, b.crowd.dialect.mask(payload)...)
	}
	b.crowd.members[0].send(frames)
	return nil
}

// send publishes messages, so many at once, each time when all have received those before.
func (b *broadcastRun) send(ctx context.Context, messages, atOnce int) error {
	for end := b.next + messages; b.next < end; {
		to := min(b.next+atOnce, end)
		b.crowd.expect((to - b.next) * b.config.Connections)
		if err := b.publish(ctx, b.next, to); err != nil {
			return err
		}
		b.next = to
		if err := b.crowd.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *broadcastRun) measure(ctx context.Context, pid int, kind string) (r BroadcastRun, err error) {
	atOnce := 1
	if kind == BroadcastQueued {
		atOnce = b.config.Messages
	}
	server, err := cpu(pid)
	if err != nil {
		return r, err
	}
	client, err := cpu(os.Getpid())
	if err != nil {
		return r, err
	}
	received, reads, begin := b.crowd.received.Load(), b.crowd.dialect.reads.Load(), time.Now()
	err = b.send(ctx, b.config.Messages, atOnce)
	r.Took = time.Since(begin)
	select {
	case <-time.After(20 * time.Millisecond): // for what the server does when all is sent
	case <-ctx.Done():
	}
	serverAfter, _ := cpu(pid)
	clientAfter, _ := cpu(os.Getpid())
	r.ServerCPU, r.ClientCPU = serverAfter-server, clientAfter-client
	r.Deliveries, r.Reads = b.crowd.received.Load()-received, b.crowd.dialect.reads.Load()-reads
	return r, err
}

// check is for messages to a subscriber: every one, in order, each once, to the byte.
func (b *broadcastRun) check(m *member, payload []byte) error {
	if int(m.next) == len(b.expected) {
		return errSurplus
	}
	if !bytes.Equal(payload, b.expected[m.next]) {
		return fmt.Errorf("%w: publication %d", errContent, m.next+1)
	}
	m.next++
	m.got()
	return nil
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
