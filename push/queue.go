package push

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millpond/millpond/push/broker/nats"
	"github.com/millpond/millpond/push/queue"
)

// This file joins a queue of publications with the API's commands.

// Queue says from which stream of JetStream publications come, too. Its zero value is none.
type Queue struct {
	// Link says how its servers are reached, by its URLs. Without any it is the broker's connection to servers of others. Node, Prefix, Flags and Logger are set by New.
	Link NATSLink
	// NATSQueue has the stream and the bounds. Link and Logger are set by New.
	NATSQueue
}

// NATSQueue is another package's type under the name by which users of the product know it.
type NATSQueue = nats.QueueConfig

// Enabled reports whether there is a queue.
func (q Queue) Enabled() bool { return q.Stream != "" }

// queueConfig is c.Queue with what follows from the rest of the configuration.
func (c *Config) queueConfig() Queue {
	q := c.Queue
	n := c.NATS.Link
	q.Link.Flags, q.Link.Node, q.Link.Prefix = "queue", c.Cluster.Name, n.Prefix
	q.Link.ConnectTimeout, q.Link.ReconnectWait, q.Link.PingInterval = n.ConnectTimeout, n.ReconnectWait, n.PingInterval
	return q
}

// validateQueue reports what is wrong with it.
func (c *Config) validateQueue() error {
	q := c.queueConfig()
	switch {
	case !q.Enabled() && (len(q.Link.URLs) > 0 || q.Subject != "" || q.DeadLetter != "" || q.Consumer != ""):
		return errors.New("queue-stream: give the name of the stream that publications come from")
	case !q.Enabled():
		return nil
	case len(q.Link.URLs) > 0:
		return errors.Join(q.Validate(), q.Link.Validate())
	case c.NATS.Embedded:
		return errors.Join(q.Validate(), errors.New("queue-url: nobody else reaches the embedded server; give the address of the servers that have the stream"))
	case len(c.NATS.Link.URLs) == 0:
		return errors.Join(q.Validate(), errors.New("queue-url: give the address of the servers that have the stream, or a nats-url"))
	}
	return q.Validate()
}

// queueSide is the queue with what stands before and behind it.
type queueSide struct {
	// Immutable after newQueue.
	link   *nats.Link // nil for the broker's
	source *nats.Queue
	work   *queue.Queue[*nats.Queued]

	begun  sync.Once
	closed sync.Once
}

// newQueue prepares to read the queue, if there is one.
func (s *Server) newQueue() (err error) {
	c := s.config.queueConfig()
	if !c.Enabled() {
		return nil
	}
	c.Link.Logger, c.Logger = s.repeats.Logger(), s.repeats.Logger()
	side := &queueSide{}
	if len(c.Link.URLs) > 0 {
		if side.link, err = nats.Open(c.Link); err != nil {
			return err
		}
		c.NATSQueue.Link = side.link
	} else {
		c.NATSQueue.Link = s.nats.link
	}
	if side.source, err = nats.OpenQueue(c.NATSQueue); err != nil {
		return errors.Join(fmt.Errorf("push: %w", err), side.closeLink(context.Background()))
	}
	side.work = queue.New(queue.Config[*nats.Queued]{Logger: c.Logger, Decode: func(m *nats.Queued) (queue.Command, error) {
		return s.api.Command(m.Data(), m.Channel(), m.Key())
	}})
	s.queue = side
	return nil
}

// begin reads from now on.
func (q *queueSide) begin() {
	if q != nil {
		q.begun.Do(func() { q.source.Run(q.work.Take) })
	}
}

// close leaves what is not done to others.
func (q *queueSide) close(ctx context.Context) (err error) {
	if q == nil {
		return nil
	}
	q.closed.Do(func() {
		q.begun.Do(func() {}) // not any more
		q.source.Stop()
		q.work.Close(ctx)
		q.source.Close(ctx)
		err = q.closeLink(ctx)
	})
	return err
}

func (q *queueSide) closeLink(ctx context.Context) error {
	if q.link == nil {
		return nil
	}
	return q.link.Close(ctx)
}
