package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Records is a log of records that all nodes have to know, in a stream with one message for each. It is a cluster.Log.
type Records struct {
	js       jetstream.JetStream
	stream   string
	prefix   string // of subjects
	replicas int
	max      int64 // records
}

// NewRecords returns the log with a name, of at most so many records, on so many servers. The first who uses it makes it.
func NewRecords(l *Link, name string, replicas, maxRecords int) (*Records, error) {
	js, err := jetstream.New(l.conn)
	if err != nil {
		return nil, err
	}
	prefix := l.Prefix()
	return &Records{js: js, stream: prefix + "-" + name, prefix: prefix + ".records." + name + ".", replicas: max(replicas, 1), max: int64(maxRecords)}, nil
}

// open returns the stream, and makes it if it is not there. One that is has the settings of the node that came last, as far as the servers agree.
func (r *Records) open(ctx context.Context) (jetstream.Stream, error) {
	config := jetstream.StreamConfig{
		Name: r.stream, Subjects: []string{r.prefix + "*"}, Storage: jetstream.FileStorage, Replicas: r.replicas,
		MaxMsgsPerSubject: 1, MaxMsgs: r.max, Discard: jetstream.DiscardNew, AllowMsgTTL: true,
	}
	s, err := r.js.Stream(ctx, r.stream)
	if err == nil && (s.CachedInfo().Config.Replicas != r.replicas || s.CachedInfo().Config.MaxMsgs != r.max) {
		if changed, err := r.js.UpdateStream(ctx, config); err == nil {
			return changed, nil
		}
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, err
	}
	s, err = r.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another node, meanwhile
		return r.js.Stream(ctx, r.stream)
	}
	return s, err
}

// Put does what cluster.Log says.
func (r *Records) Put(ctx context.Context, key string, record []byte, until time.Time) error {
	var options []jetstream.PublishOpt
	if !until.IsZero() {
		ttl := time.Until(until).Truncate(time.Second) + time.Second // NATS has no fractions of it
		if ttl < time.Second {
			return nil // it is over
		}
		options = append(options, jetstream.WithMsgTTL(ttl))
	}
	_, err := r.js.Publish(ctx, r.prefix+key, record, options...)
	if errors.Is(err, jetstream.ErrNoStreamResponse) { // there is none yet
		if _, err := r.open(ctx); err != nil {
			return err
		}
		_, err = r.js.Publish(ctx, r.prefix+key, record, options...)
	}
	return err
}

// Follow does what cluster.Log says.
func (r *Records) Follow(ctx context.Context, f func(record []byte), synced func()) error {
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, MaxResetAttempts: maxResets})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	last, isSynced := info.State.LastSeq, info.State.Msgs == 0
	if isSynced {
		synced()
	}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("stream %s: %w", r.stream, err)
		}
		f(m.Data())
		if !isSynced && (meta.Sequence.Stream >= last || meta.NumPending == 0) {
			isSynced = true
			synced()
		}
	}
}

// maxResets bounds the attempts to go on with a consumer that is lost; after them it is begun anew.
const maxResets = 1
