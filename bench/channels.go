package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// ChannelsConfig says what Channels does. The zero value works.
type ChannelsConfig struct {
	// Target is a server with recovery in the channels of namespace bench, where anybody may subscribe and publish. An
	// empty URL starts the own binary's with them.
	Target Target
	// Connections subscribe to two channels each. Zero means 15,000.
	Connections int
	// Presence turns it on in the own server's channels.
	Presence bool
	// Protobuf instead of JSON.
	Protobuf bool
	// MessageBytes is the size of a publication's data. Zero means 64, which is the least.
	MessageBytes int
	// Hold is how long the server's memory may settle before it is read. Zero means 5 s.
	Hold time.Duration
}

// ChannelsReport is what Channels found. The figures of the server are 0 when its process is not known.
type ChannelsReport struct {
	Connections  int            `json:"connections"`
	Presence     bool           `json:"presence"`
	Protobuf     bool           `json:"protobuf"`
	MessageBytes int            `json:"message_bytes"`
	Subscribed   int            `json:"subscribed"` // connections, to all of their channels
	Received     int            `json:"received"`   // publications that were right
	Present      int            `json:"present"`    // in the shared channel, by the server's count; 0 without presence
	Failures     map[string]int `json:"failures"`

	Subscribing time.Duration `json:"subscribing_ns"` // until the last was subscribed
	Personal    time.Duration `json:"personal_ns"`    // from publishing the personal messages until all were there
	Shared      time.Duration `json:"shared_ns"`

	Base               int64 `json:"base_rss_bytes"` // after one connection has done all of it and left
	BytesSubscribed    int64 `json:"rss_bytes_per_connection_subscribed"`
	BytesAfterMessages int64 `json:"rss_bytes_per_connection_after_messages"`
	BytesAfterwards    int64 `json:"rss_bytes_over_base_afterwards"` // of the whole server, after all have left
	GoroutinesWith     int   `json:"goroutines_with"`
	GoroutinesWithout  int   `json:"goroutines_without"`
	ClientBytes        int64 `json:"client_rss_bytes_per_connection"`
}

// benchNamespace is the server's file: channels that recover.
func benchNamespace(history int, presence bool) string {
	return fmt.Sprintf("namespaces:\n  - name: bench\n    history_size: %d\n    history_ttl: 300s\n    force_recovery: true\n    presence: %t\n",
		history, presence)
}

// Channels measures what a connection costs the server that is subscribed to a channel of its own and to one that all
// share, both with recovery: when it is subscribed, and when a message has come through each.
func Channels(ctx context.Context, c ChannelsConfig) (r ChannelsReport, err error) {
	c.Connections, c.MessageBytes = cmp.Or(c.Connections, 15000), max(c.MessageBytes, 64)
	c.Hold = cmp.Or(c.Hold, 5*time.Second)
	c.Target.Config = benchNamespace(100, c.Presence)
	var stop func() error
	if c.Target, stop, err = c.Target.orOwn(ctx, centrifugePath); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	publisher, err := newAPI(c.Target)
	if err != nil {
		return r, err
	}
	defer publisher.close()
	r = ChannelsReport{Connections: c.Connections, Presence: c.Presence, Protobuf: c.Protobuf, MessageBytes: c.MessageBytes}
	// One connection does it all first, so that what is needed once is not counted.
	name := fmt.Sprintf("bench:%x-", time.Now().UnixNano())
	first := channelsRun{config: c, api: publisher, prefix: name + "first-", report: &ChannelsReport{}}
	if err = first.run(ctx, 1, func(context.Context) error { return nil }); err != nil {
		return r, err
	}
	if r.Base, err = rss(c.Target.PID); err != nil {
		return r, err
	}
	all := channelsRun{config: c, api: publisher, prefix: name, report: &r}
	if err = all.run(ctx, c.Connections, all.settle); err != nil {
		return r, err
	}
	if err = all.settle(ctx); err != nil {
		return r, err
	}
	now, err := rss(c.Target.PID)
	r.BytesAfterwards = now - r.Base
	if err == nil {
		r.GoroutinesWithout, err = goroutines(ctx, c.Target.Metrics)
	}
	return r, err
}

// channelsRun is connections that come, get their messages and leave.
type channelsRun struct {
	config ChannelsConfig
	api    *api
	prefix string // of the channels
	report *ChannelsReport

	crowd   *crowd
	data    []byte
	present atomic.Int64 // what the server answered
}

// settle lets the server give back what it gives back.
func (c *channelsRun) settle(ctx context.Context) error {
	select {
	case <-time.After(c.config.Hold):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *channelsRun) personal(number int) string { return fmt.Sprintf("%s%d", c.prefix, number) }

func (c *channelsRun) shared() string { return c.prefix + "all" }

// run is for n connections; settle is called before memory is read.
func (c *channelsRun) run(ctx context.Context, n int, settle func(context.Context) error) (err error) {
	r := c.report
	p, err := newPoller()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	own, _ := rss(os.Getpid())
	d, err := c.config.Target.newDialect(ctx, p, inOptions(c.config.Protobuf))
	if err != nil {
		return err
	}
	c.crowd, c.data = newCrowd(d), numbered(1, c.config.MessageBytes)
	c.crowd.channels = func(number int) []string { return []string{c.personal(number), c.shared()} }
	c.crowd.check = c.check
	begin := time.Now()
	defer func() {
		c.crowd.leave()
		r.Subscribed, r.Received = int(c.crowd.subscribed.Load()), int(c.crowd.received.Load())
		r.Present, r.Failures = int(c.present.Load()), c.crowd.counts()
	}()
	if err := c.crowd.grow(ctx, n); err != nil {
		return err
	}
	r.Subscribing = time.Since(begin)
	if err := settle(ctx); err != nil {
		return err
	}
	if r.BytesSubscribed, err = c.growth(n); err != nil {
		return err
	}
	if err := c.publish(ctx, n); err != nil {
		return err
	}
	if err := settle(ctx); err != nil {
		return err
	}
	if r.BytesAfterMessages, err = c.growth(n); err != nil {
		return err
	}
	if now, err := rss(os.Getpid()); err == nil {
		r.ClientBytes = (now - own) / int64(n)
	}
	// Asking for the metrics costs the server megabytes: so only when its memory is measured.
	r.GoroutinesWith, err = goroutines(ctx, c.config.Target.Metrics)
	return err
}

func (c *channelsRun) growth(n int) (int64, error) {
	now, err := rss(c.config.Target.PID)
	return (now - c.report.Base) / int64(n), err
}

// publish sends a message through every channel and waits until all are where they belong.
func (c *channelsRun) publish(ctx context.Context, n int) error {
	var channels []string
	for number := range n {
		channels = append(channels, c.personal(number))
	}
	begin := time.Now()
	c.crowd.expect(n)
	if err := c.api.broadcast(ctx, channels, c.data); err != nil {
		return err
	}
	if err := c.crowd.await(ctx); err != nil {
		return err
	}
	c.report.Personal = time.Since(begin)
	begin = time.Now()
	c.crowd.expect(n)
	if _, err := c.api.publish(ctx, c.shared(), c.data); err != nil {
		return err
	}
	if err := c.crowd.await(ctx); err != nil {
		return err
	}
	c.report.Shared = time.Since(begin)
	if !c.config.Presence {
		return nil
	}
	c.crowd.expect(1)
	m := c.crowd.members[0]
	if err := m.command(&wire.Command{Id: presenceID, PresenceStats: &wire.PresenceStatsRequest{Channel: c.shared()}}); err != nil {
		return err
	}
	err := c.crowd.await(ctx)
	c.crowd.received.Add(-1) // that was no publication
	return err
}

// presenceID is the command's that asks how many there are.
const presenceID = 100

// check is for messages to a subscriber: first its own one, then the shared one.
func (c *channelsRun) check(m *member, payload []byte) error {
	for reply, err := range m.dialect.codec.Replies(payload) {
		switch {
		case err != nil:
			return err
		case reply.Id == presenceID && reply.PresenceStats != nil:
			c.present.Store(int64(reply.PresenceStats.NumClients))
			m.got()
			continue
		case reply.Error != nil:
			return fmt.Errorf("error %d %s", reply.Error.Code, reply.Error.Message)
		case reply.Push == nil || reply.Push.Pub == nil || m.next > 1:
			return errSurplus
		}
		want := c.shared()
		if m.next == 0 {
			want = c.personal(m.index)
		}
		if p := reply.Push; p.Channel != want || p.Pub.Offset != 1 || !bytes.Equal(p.Pub.Data, c.data) {
			return errContent
		}
		m.next++
		m.got()
	}
	return nil
}

// numbered is data with a number, of so many bytes if that is enough for it.
func numbered(n uint64, size int) []byte {
	b := fmt.Appendf(nil, `{"n":%d,"pad":"`, n)
	b = append(b, bytes.Repeat([]byte("m"), max(size-len(b)-2, 0))...)
	return append(b, `"}`...)
}

// Failed returns how many connections failed.
func (r ChannelsReport) Failed() (n int) {
	for _, failures := range r.Failures {
		n += failures
	}
	return n
}

// String is the report for people.
func (r ChannelsReport) String() string {
	var b strings.Builder
	codec, presence := "JSON", ""
	if r.Protobuf {
		codec = "Protobuf"
	}
	if r.Presence {
		presence = fmt.Sprintf(", presence (%d present)", r.Present)
	}
	fmt.Fprintf(&b, "channels: %d connections by %s, each with a channel of its own and a shared one, recovery%s; server at %.1f MB before\n",
		r.Connections, codec, presence, float64(r.Base)/1e6)
	fmt.Fprintf(&b, "  subscribed          %6d in %.1fs (%.0f/s)\n", r.Subscribed, r.Subscribing.Seconds(), float64(r.Subscribed)/r.Subscribing.Seconds())
	fmt.Fprintf(&b, "  received            %6d publications of %d B: personal ones after %v, the shared one after %v\n",
		r.Received, r.MessageBytes, r.Personal.Round(time.Millisecond), r.Shared.Round(time.Millisecond))
	fmt.Fprintf(&b, "  server memory       %6d B of RSS growth per connection when subscribed, %d B after the messages\n",
		r.BytesSubscribed, r.BytesAfterMessages)
	fmt.Fprintf(&b, "  server goroutines   %6d with them, %d without\n", r.GoroutinesWith, r.GoroutinesWithout)
	fmt.Fprintf(&b, "  after they left     %6.1f MB over the beginning\n", float64(r.BytesAfterwards)/1e6)
	fmt.Fprintf(&b, "  client memory       %6d B of RSS growth per connection\n", r.ClientBytes)
	writeFailures(&b, r.Failures)
	return b.String()
}
