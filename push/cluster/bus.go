package cluster

import (
	"context"
	"time"
)

// Bus carries messages between nodes, each at most once, and those of one node to a subject in their order. The methods may
// be called by any goroutine.
type Bus interface {
	// Publish sends a message to whoever subscribes to the subject now, the sender too. It does not wait for the network; an
	// error says that the message was not sent. data is not kept.
	Publish(subject string, data []byte) error

	// Subscribe has f called for each message to the subject, one at a time, until stop has returned. f must not
	// block; data is valid during the call only.
	Subscribe(subject string, f func(data []byte)) (stop func(), err error)
}

// Log has records that outlive all nodes. The methods may be called by any goroutine.
type Log interface {
	// Put adds a record, under a key that is made of its content: to put it twice is no error. It may be forgotten at a
	// time, zero is never. When it returns without an error, the record lasts.
	Put(ctx context.Context, key string, record []byte, until time.Time) error

	// Follow calls f for each record there is, then calls synced, and f for each that is added, one at a time. It returns
	// when ctx ends, or with an error when it cannot go on; nothing that was put before a later call is missing then. A record may
	// come more than once, and is valid during the call only.
	Follow(ctx context.Context, f func(record []byte), synced func()) error
}
