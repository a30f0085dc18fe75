package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a stream's metadata says.
const (
	metaGroups     = "millpond_groups"
	metaPartitions = "millpond_partitions" // nodes with different ones would not hear each other
	metaEpoch      = "millpond_epoch"      // another one says that the positions of before mean nothing
	metaFloor      = "millpond_floor"      // of channels whose subjects have been at a smaller bound: nothing after it is missing
)

// pendingFloor is a floor that is not known yet: that of the end.
const pendingFloor = "end"

// dedupWindow is for how long idempotency keys are known.
const dedupWindow = 5 * time.Minute

// errMisfit says that what is there cannot be used with this configuration, ever.
var errMisfit = errors.New("the streams do not fit")

// state is what a node has to know of a stream.
type state struct {
	epoch       string
	floor       uint64 // of channels of which nothing else is known
	first, last uint64
	limit       int      // messages of a subject
	servers     []string // that have it; nil for a server alone
}

// evicted reports whether messages after what was read may have left the stream by age, or for its bytes. Others leave it one by one, each for
// later ones of its subject; anchors keep those from looking alike.
func (s state) evicted(read uint64) bool { return s.first > read+1 && s.last > read }

func (b *Broker) streamName(n int) string { return b.config.Link.Prefix() + "-h" + strconv.Itoa(n) }

// stream asks for a group's stream, and makes it, or changes it, if need be.
func (b *Broker) stream(ctx context.Context, n int) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, b.streamName(n))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.js.CreateStream(ctx, b.streamConfig(n))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was first
			s, err = b.js.Stream(ctx, b.streamName(n))
		}
	}
	if err != nil {
		return state{}, fmt.Errorf("stream %s: %w", b.streamName(n), err)
	}
	info := s.CachedInfo()
	for _, fixed := range []struct {
		key, what string
		want      int
	}{{metaGroups, "groups", b.config.Groups}, {metaPartitions, "partitions", b.config.Partitions}} {
		if is := info.Config.Metadata[fixed.key]; is != strconv.Itoa(fixed.want) {
			return state{}, fmt.Errorf("%w: nats-%s: stream %s was made for %q %[2]s, not for %[5]d; give that number, or another nats-prefix", errMisfit, fixed.what, b.streamName(n), is, fixed.want)
		}
	}
	if info, err = b.adapt(ctx, info); err != nil {
		return state{}, fmt.Errorf("stream %s: %w", b.streamName(n), err)
	}
	return stateOf(info), nil
}

func stateOf(info *jetstream.StreamInfo) state {
	st := state{
		epoch: info.Config.Metadata[metaEpoch], first: max(info.State.FirstSeq, 1), last: info.State.LastSeq,
		limit: int(info.Config.MaxMsgsPerSubject),
	}
	if c := info.Cluster; c != nil {
		st.servers = append(st.servers, c.Leader)
		for _, r := range c.Replicas {
			st.servers = append(st.servers, r.Name)
		}
	}
	st.floor = st.first - 1
	switch text := info.Config.Metadata[metaFloor]; text {
	case "":
	case pendingFloor:
		st.floor = st.last
	default:
		if floor, err := strconv.ParseUint(text, 10, 64); err == nil {
			st.floor = max(st.floor, floor)
		}
	}
	return st
}

func (b *Broker) streamConfig(n int) jetstream.StreamConfig {
	c := b.config
	prefix := c.Link.Prefix()
	return jetstream.StreamConfig{
		Name: b.streamName(n), Description: "millpond: channels with history",
		Subjects: []string{subjectOf(prefix, kindHistory, n, "*"), subjectOf(prefix, kindTransient, n, "*"), subjectOf(prefix, kindVersion, n, "*")},
		Storage:  jetstream.FileStorage, Replicas: c.Replicas, Discard: jetstream.DiscardOld, AllowDirect: true,
		MaxMsgsPerSubject: int64(max(c.ChannelMessages, c.MaxHistorySize+1)), MaxAge: c.MaxAge, MaxBytes: c.StoreBytes / int64(c.Groups), Duplicates: min(dedupWindow, c.MaxAge),
		Metadata: map[string]string{metaGroups: strconv.Itoa(c.Groups), metaPartitions: strconv.Itoa(c.Partitions), metaEpoch: newEpoch()},
	}
}

// newEpoch returns the letters that tell one life of a stream from the others.
func newEpoch() string { return rand.Text()[:8] }

// adapt brings a stream's bounds to those of the configuration. Those that more than one node decides on are only ever raised, so that nodes
// with different ones do not undo each other's.
func (b *Broker) adapt(ctx context.Context, info *jetstream.StreamInfo) (*jetstream.StreamInfo, error) {
	c, want := info.Config, b.streamConfig(0)
	deeper := c.MaxMsgsPerSubject < want.MaxMsgsPerSubject
	if !deeper && c.MaxAge >= want.MaxAge && c.MaxBytes == want.MaxBytes && c.Replicas == want.Replicas {
		return info, nil
	}
	c.MaxMsgsPerSubject, c.MaxAge = max(c.MaxMsgsPerSubject, want.MaxMsgsPerSubject), max(c.MaxAge, want.MaxAge)
	c.MaxBytes, c.Replicas = want.MaxBytes, want.Replicas
	if !deeper {
		return b.update(ctx, c)
	}
	// What went before for the smaller bound is not known any more.
	c.Metadata = maps.Clone(c.Metadata)
	c.Metadata[metaFloor] = pendingFloor
	info, err := b.update(ctx, c)
	if err != nil {
		return nil, err
	}
	c = info.Config
	c.Metadata = maps.Clone(c.Metadata)
	c.Metadata[metaFloor] = strconv.FormatUint(info.State.LastSeq, 10)
	return b.update(ctx, c)
}

func (b *Broker) update(ctx context.Context, c jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	s, err := b.js.UpdateStream(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.Info(ctx)
}

// renew gives a stream another epoch, unless it has got one since it had this.
func (b *Broker) renew(ctx context.Context, n int, epoch string) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, b.streamName(n))
	if err != nil {
		return state{}, err
	}
	c := s.CachedInfo().Config
	if c.Metadata[metaEpoch] != epoch {
		return stateOf(s.CachedInfo()), nil
	}
	c.Metadata = maps.Clone(c.Metadata)
	c.Metadata[metaEpoch] = newEpoch()
	info, err := b.update(ctx, c)
	if err != nil {
		return state{}, err
	}
	b.renewals.Add(1)
	return stateOf(info), nil
}

// mark is the last token of the subject of what present puts at the end.
const mark = "mark"

// present returns what a group's stream is, as it is after the call began. Of several servers one that was cut off may still take itself for the one that
// leads the stream, and say what it was: so something is put at the end first, which most servers must have, and has to be in what is said.
func (g *group) present(ctx context.Context) (state, error) {
	st, err := g.broker.stream(ctx, g.n)
	if err != nil || !g.isReplicated() {
		return st, err
	}
	e := envelope{kind: kindClaim}
	body, err := e.encode()
	if err != nil {
		return state{}, err
	}
	ack, err := g.append(ctx, &gonats.Msg{Subject: g.subject(kindTransient, mark), Data: body})
	if err != nil {
		return state{}, err
	}
	if st, err = g.broker.ask(g.n); err == nil && st.last < ack.Sequence {
		err = errors.New("a server that is behind said where the stream ends")
	}
	st.last = ack.Sequence // it will come, whatever else leaves the stream: see isLast
	return st, err
}

// Anchors are messages that nothing but age, and the bytes of a stream, takes out of it. While one is there, a stream's first sequence tells how
// far those have come; without, it would also move on with a busy channel that is alone at the beginning, and quiet ones would seem to have lost something.
const (
	anchors     = 24 // in the time for which a publication is kept
	anchorSlots = 32 // subjects of them
)

// anchorTime is the number of the present anchor, and when it began.
func (b *Broker) anchorTime() (n int64, began time.Time) {
	every := max(b.config.MaxAge/anchors, time.Second)
	n = time.Now().UnixNano() / int64(every)
	return n, time.Unix(0, n*int64(every))
}

// needsAnchor reports whether the group is read, and its stream may have no anchor of the present.
func (g *group) needsAnchor() bool {
	n, _ := g.broker.anchorTime()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cancel != nil && g.anchored.Load() != n
}

// anchor puts one into the stream, unless a node has. If that fails there is another time.
func (g *group) anchor(ctx context.Context) {
	n, began := g.broker.anchorTime()
	if g.anchored.Swap(n) == n {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.broker.config.PublishTimeout)
	defer cancel()
	subject := g.subject(kindTransient, "anchor-"+strconv.FormatInt(n%anchorSlots, 10))
	s, err := g.broker.js.Stream(ctx, g.broker.streamName(g.n))
	if err == nil {
		var last *jetstream.RawStreamMsg
		last, err = s.GetLastMsgForSubject(ctx, subject)
		if err == nil && !last.Time.Before(began) {
			return
		}
	}
	if err == nil || errors.Is(err, jetstream.ErrMsgNotFound) {
		e := envelope{kind: kindClaim}
		var body []byte
		if body, err = e.encode(); err == nil {
			_, err = g.append(ctx, &gonats.Msg{Subject: subject, Data: body})
		}
	}
	if err != nil {
		g.anchored.CompareAndSwap(n, 0)
	}
}
