package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What a stream's metadata says.
const (
	metaGroups = "millpond_groups"
	metaEpoch  = "millpond_epoch" // another one says that the positions of before mean nothing
	metaFloor  = "millpond_floor" // of channels whose subjects have been at a smaller bound: nothing after it is missing
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
	limit       int // messages of a subject
}

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
	if groups := info.Config.Metadata[metaGroups]; groups != strconv.Itoa(b.config.Groups) {
		return state{}, fmt.Errorf("%w: nats-groups: stream %s was made for %q groups, not for %d; give that number, or another nats-prefix", errMisfit, b.streamName(n), groups, b.config.Groups)
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
		MaxMsgsPerSubject: int64(c.MaxHistorySize) + 1, MaxAge: c.MaxAge, MaxBytes: c.StoreBytes / int64(c.Groups), Duplicates: min(dedupWindow, c.MaxAge),
		Metadata: map[string]string{metaGroups: strconv.Itoa(c.Groups), metaEpoch: newEpoch()},
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
