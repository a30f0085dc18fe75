package hub

import (
	"context"
	"time"
)

// Position is a place in a channel's stream. Offsets rise strictly within one
// epoch; a new epoch says that the stream began anew and that offsets of the
// old one mean nothing.
type Position struct {
	Offset uint64
	Epoch  string
}

// PublishOptions are what a publisher may add to a publication's data.
type PublishOptions struct {
	// Tags travel with the publication to its subscribers. The map is kept:
	// it must not be changed after the call.
	Tags map[string]string
	// Info is the client that published. Nil for a backend.
	Info *ClientInfo

	// Delta lets subscribers that want so have the difference to the message before instead of the whole.
	Delta bool
	// Kind is that of the publication; an event has no data, and no place in the history.
	Kind Kind

	// SkipHistory leaves the publication out of the channel's history: it has no offset.
	SkipHistory bool
	// Retention is set by the hub: how much of the channel's past is kept. Its zero value keeps nothing.
	Retention Retention
	// IdempotencyKey, if not empty, makes a second publication to the channel with the same key within five minutes
	// one that is not made: its position is that of the first.
	IdempotencyKey string
	// Version, if not zero, makes the publication one that is not made unless it is higher than that of the last which
	// had one, with the same VersionEpoch. The position is then that of the channel's latest.
	Version      uint64
	VersionEpoch string
	// ExcludeClient, if not empty, is the id of a connection that is not sent the publication as it comes. Its history has it, and whoever
	// recovers gets it from there: one that has come back is another connection.
	ExcludeClient string
	// Trace is what Config.Tracer knows by what the publication belongs to; nil is the context.
	Trace any
	// Delivered is set by the hub: what a broker of one node gives to [Publication.Notify].
	Delivered func()
	// TraceCarrier is set by the hub, if somebody follows the publication: what other nodes know its trace by. A broker of several nodes brings it to
	// them; Delivered is then for none.
	TraceCarrier string
	// TTL, if not zero, is how long the publication is worth something: after that it is in no answer of the history, no recovery, and is
	// not handed to a subscriber any more. Its offset stays taken.
	TTL time.Duration
}

// ClientInfo is a client as others may see it.
type ClientInfo struct {
	User     string
	Client   string // the connection's id
	ConnInfo []byte // from the connection's credentials
	ChanInfo []byte // from the subscription's
}

// Retention is how much of a channel's past is kept: so many publications, none older than TTL. Without both nothing is.
type Retention struct {
	Size int
	TTL  time.Duration
}

// Enabled reports whether anything is kept.
func (r Retention) Enabled() bool { return r.Size > 0 && r.TTL > 0 }

// HistoryQuery says what of a channel's past is wanted.
type HistoryQuery struct {
	// Since is where to begin, itself excluded. Nil is the beginning, or with Reverse the end. The epoch is the caller's to compare.
	Since *Position
	// Limit bounds the number of publications; zero wants none but the position, negative all.
	Limit int
	// Reverse wants the newest first.
	Reverse bool
	// Following says that the caller is subscribed, so that whatever is beyond History.Top comes to it by the Sink. Then what this node has
	// read of the channel is answer enough, unless Since is beyond it; else the answer has all that was acknowledged before, on any node.
	Following bool
}

// History is a part of a channel's past.
type History struct {
	Publications []*Publication // the slice is the caller's; without those of which the time is over, see [Publication.Over]
	// Top is where the answer stands: at the latest publication, in what is returned or not, or beyond it, and before the next one.
	Top Position
	// Floor is the offset from which on nothing is missing: who has everything up to it, or up to a later offset, can have all the rest.
	Floor uint64
}

// Broker orders the publications of each channel and brings them to the hubs
// of all nodes that subscribe to it. All methods may be called concurrently. Where a method has a Retention, it is that of the channel, which
// stays the same.
//
// It may keep the names of channels: they are not cut out of something larger that would be kept with them.
type Broker interface {
	// Attach names the hub that publications are handed to. New calls it
	// once, before any other method.
	Attach(sink Sink)

	// Publish appends data to the channel and returns its position. It must
	// hand the publication to the sink of every subscribed node, in the order
	// of the positions; it need not have done so when it returns. data is kept.
	// When ctx ends first the outcome is unknown, unless the error says otherwise.
	Publish(ctx context.Context, channel string, data []byte, options PublishOptions) (Position, error)

	// Subscribe is called when a channel gets its first subscriber on this
	// node. Publications accepted after it returned nil must reach the sink.
	Subscribe(ctx context.Context, channel string, retention Retention) error

	// Unsubscribe is called after the last subscriber has gone. It must not
	// wait for a network. For one channel, Subscribe and Unsubscribe alternate
	// and never overlap.
	Unsubscribe(channel string, retention Retention)

	// History returns what is kept of the channel's past, as far as q wants it. It is asked only where something is kept. A channel that was never published to
	// gets its epoch by it.
	History(ctx context.Context, channel string, q HistoryQuery) (History, error)

	// RemoveHistory forgets the publications, not the position.
	RemoveHistory(ctx context.Context, channel string) error
}

// Sink is where a broker hands publications over: the Hub.
type Sink interface {
	// Deliver queues p for the channel's local subscribers and reports
	// whether there are any. The broker must not overlap calls for one
	// channel; their order is the order that subscribers see. It never
	// blocks, so it may be called under a lock of the broker's.
	Deliver(channel string, p *Publication) (subscribed bool)

	// Subscribed reports whether the channel has subscribers on this node. It never blocks, like Deliver.
	Subscribed(channel string) bool

	// Channels calls f for each channel that has subscribers on this node, with their number, until it returns false. Those that come or go
	// meanwhile may be left out.
	Channels(f func(name string, subscribers int) bool)

	// Admit waits until the channel's queues have room. A broker that reads
	// from a log calls it before Deliver, holding no lock.
	// Publications that came through Hub.Publish have been admitted.
	Admit(ctx context.Context, channel string) error

	// Flush delivers what the executor had no worker for. A broker that reads
	// from a log calls it after Deliver, holding no lock. Hub.Publish does so
	// by itself.
	Flush(channel string)
}

// Task is a piece of work for an Executor.
type Task interface{ Run() }

// Executor runs tasks on other goroutines.
type Executor interface {
	// Submit hands t to a worker, now or later, and returns true; or it
	// returns false at once and drops t, because no worker is free. The
	// publisher then does the work. Submit must not block and must not call
	// t.Run itself, since the caller may hold a broker's lock.
	Submit(t Task) bool
}
