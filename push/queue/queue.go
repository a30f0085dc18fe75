package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/push/hub"
)

// Message is one that has come from a queue. Its methods may be called by any goroutine.
type Message interface {
	// Held reports whether the message is this process's still. If not, another one may have it, and nothing must be done.
	Held() bool
	// Done takes it out of the queue: what it says is done.
	Done()
	// Refuse takes it out of the queue for good, to where such go. An error says that this is to be tried again.
	Refuse(ctx context.Context, why error) error
}

// Command is what a message says.
type Command interface {
	// Channels are those that it publishes to, each of which is waited for.
	Channels() []string
	// Do publishes what has not been published. An error that is temporary asks for another call.
	Do(ctx context.Context) error
}

// Config says how messages are carried out. Decode must be set.
type Config[M Message] struct {
	// Decode returns what a message says. An error says that it is malformed, and will never be right.
	Decode func(m M) (Command, error)
	// Logger gets what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// Queue carries out messages. Make it with New, give it messages with Take, and end it with Close.
type Queue[M Message] struct {
	// Immutable after New.
	config  Config[M]
	ctx     context.Context // ends when Close begins: then nothing is tried again
	cancel  func()
	work    context.Context // ends when Close does not wait any more
	hurry   func()
	running sync.WaitGroup
	lines   rate.Sometimes // of the log, about what is tried again

	// Guarded by mu.
	mu    sync.Mutex
	tails map[string]*job[M] // by channel, the job that came last, if it is not done

	// Any goroutine (atomic).
	retried, malformed atomic.Int64
}

// job is a message on its way.
type job[M Message] struct {
	// Immutable after Take.
	message M
	command Command

	// Guarded by the queue's mu.
	waits  int       // jobs before it, in its channels
	behind []*job[M] // those that wait for it
}

// New returns a queue in which nothing is.
func New[M Message](c Config[M]) *Queue[M] {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	q := &Queue[M]{config: c, tails: map[string]*job[M]{}, lines: rate.Sometimes{First: 3, Interval: 5 * time.Second}}
	q.work, q.hurry = context.WithCancel(context.Background())
	q.ctx, q.cancel = context.WithCancel(q.work)
	return q
}

// Take begins to carry a message out, or lets it wait for those before it. It does not block; how many there may be is the caller's to bound. It is called by one goroutine, and not after Close.
func (q *Queue[M]) Take(m M) {
	command, err := q.config.Decode(m)
	if err != nil {
		q.malformed.Add(1)
		q.running.Go(func() { q.refuse(m, err) })
		return
	}
	j := &job[M]{message: m, command: command}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, channel := range command.Channels() {
		if before := q.tails[channel]; before != nil && before != j {
			before.behind = append(before.behind, j)
			j.waits++
		}
		q.tails[channel] = j
	}
	if j.waits == 0 {
		q.running.Go(func() { q.run(j) })
	}
}

// run carries a job out, and then those that waited for it alone.
func (q *Queue[M]) run(j *job[M]) {
	q.do(j)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, channel := range j.command.Channels() {
		if q.tails[channel] == j {
			delete(q.tails, channel)
		}
	}
	for _, next := range j.behind {
		if next.waits--; next.waits == 0 {
			q.running.Go(func() { q.run(next) })
		}
	}
}

// The times between two attempts.
const (
	shortest = 20 * time.Millisecond
	longest  = 5 * time.Second
)

// do tries until the message is done, or refused, or not ours any more.
func (q *Queue[M]) do(j *job[M]) {
	for wait := shortest; q.ctx.Err() == nil && j.message.Held(); wait = min(2*wait, longest) {
		err := q.attempt(j.command)
		switch {
		case err == nil:
			j.message.Done()
			return
		case !temporary(err):
			q.refuse(j.message, err)
			return
		}
		if !q.again(wait, err) {
			return
		}
	}
}

// attempt makes of a panic an error: one message must not end the process, and come again to end the next one.
func (q *Queue[M]) attempt(c Command) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%w: it panicked: %v", hub.ErrBadRequest, value)
		}
	}()
	return c.Do(q.work)
}

// again waits before another attempt, and reports whether there is to be one.
func (q *Queue[M]) again(wait time.Duration, err error) bool {
	if q.ctx.Err() != nil {
		return false
	}
	q.retried.Add(1)
	q.lines.Do(func() {
		q.config.Logger.Warn("queue: a message is tried again, and those behind it in its channels wait", "error", err)
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.ctx.Done():
		return false
	}
}

// refuse puts a message away.
func (q *Queue[M]) refuse(m M, why error) {
	for wait := shortest; q.ctx.Err() == nil && m.Held(); wait = min(2*wait, longest) {
		err := m.Refuse(q.work, why)
		if err == nil || !q.again(wait, err) {
			return
		}
	}
}

// temporary reports whether the same may be accepted later. What is not a refusal is something of ours that does not work.
func temporary(err error) bool {
	var refusal *hub.Error
	return !errors.As(err, &refusal) || refusal.Temporary
}

// Close begins no more attempts, and returns when none is under way; those that are when ctx ends are cut short. What is not done then stays in the queue.
func (q *Queue[M]) Close(ctx context.Context) {
	q.cancel()
	defer context.AfterFunc(ctx, q.hurry)()
	q.running.Wait()
	q.hurry()
}

// Stats are the figures of a Queue.
type Stats struct {
	Retried   int64 // attempts that were refused for now
	Malformed int64 // messages that say nothing that can be done
	Waiting   int   // channels in which a message is, or waits
}

// Stats returns them.
func (q *Queue[M]) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{q.retried.Load(), q.malformed.Load(), len(q.tails)}
}
