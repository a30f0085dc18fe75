package nats

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// feed has the messages of a consumer, of which so many, and so many bytes, wait in this node: a log of which the reader is slow stays on the server.
//
// The client's own iterators bound either the one or the other.
type feed struct {
	// Immutable.
	ctx      context.Context //nolint:containedctx // the session's, which the requests end with
	consumer jetstream.Consumer
	bytes    int

	// Owned by the reader.
	batch jetstream.MessageBatch // nil if nothing was asked for
	any   bool                   // something came of it
	began time.Time
	limit int // bytes of the present request: more than bytes when a message was larger
}

const (
	feedMessages = 2048
	// A request waits for feedWait, and is given up when there is no sign of life for twice feedHeartbeat.
	feedWait      = 30 * time.Second
	feedHeartbeat = 2 * time.Second
)

// next returns the next message.
func (f *feed) next(ctx context.Context) (jetstream.Msg, error) {
	for {
		if f.batch == nil {
			if err := f.ask(); err != nil {
				return nil, err
			}
		}
		select {
		case m, ok := <-f.batch.Messages():
			if ok {
				f.any = true
				return m, nil
			}
			err := f.batch.Error()
			f.batch = nil
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask asks for what there is room for. When nothing came, and not for want of time, the next message is larger than that: then it is asked for alone.
func (f *feed) ask() (err error) {
	if !f.any && f.limit > 0 && time.Since(f.began) < feedWait/2 {
		f.limit *= 2
	} else {
		f.limit = f.bytes
	}
	f.any, f.began = false, time.Now()
	f.batch, err = f.consumer.Fetch(feedMessages, jetstream.FetchMaxBytes(f.limit), jetstream.FetchContext(f.ctx), jetstream.FetchHeartbeat(feedHeartbeat))
	return err
}
