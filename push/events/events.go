package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/millpond/millpond/push/events/journal"
	"github.com/millpond/millpond/push/hub"
)

// Events takes down what happens and sends it. Its methods may be called by any goroutine and, but for New and Close, do not block.
type Events struct {
	// Immutable after New.
	config  Config
	journal *journal.Journal
	tracker *tracker
	sender  *sender
	stop    chan struct{}
	running sync.WaitGroup
	closing sync.Once
}

var _ hub.Observer = (*Events)(nil)

// dirFormat is the name of a process's directory: its start, so that names sort by age, and its node's uid.
const dirFormat = "%020d-%s"

// New begins to take down events, and to send what other processes have left.
func New(c Config) (*Events, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := &Events{config: c.withDefaults(), stop: make(chan struct{})}
	own := journal.Config{MaxBytes: e.config.QueueBytes, SyncInterval: e.config.SyncInterval, Logger: e.config.Logger}
	dir := ""
	if c.Dir == "" {
		e.journal = journal.Memory(own)
	} else {
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("data-dir: %w", err)
		}
		dir = filepath.Join(c.Dir, fmt.Sprintf(dirFormat, time.Now().UnixNano(), c.Node))
		var err error
		if e.journal, err = journal.Create(dir, own); err != nil {
			return nil, fmt.Errorf("data-dir: %w", err)
		}
	}
	e.tracker = newTracker(e.config.Debounce, e.record)
	e.sender = newSender(e.config, source{journal: e.journal, node: c.Node, dir: dir})
	e.running.Go(e.sweep)
	e.running.Go(e.checkpoint)
	e.sender.running.Go(e.sender.run)
	return e, nil
}

// nodeOf returns the node of whose journal a directory has the name.
func nodeOf(dir string) string {
	_, node, _ := strings.Cut(filepath.Base(dir), "-")
	return node
}

func (e *Events) record(tag uint8, b Body) { e.journal.Append(time.Now().UnixNano(), tag, b.encode()) }

// Subscribed implements hub.Observer.
func (e *Events) Subscribed(channel, user string, first bool, wanted hub.Events) {
	e.tracker.subscribed(channel, user, first, wanted)
}

// Unsubscribed implements hub.Observer.
func (e *Events) Unsubscribed(channel, user string, last bool, wanted hub.Events) {
	e.tracker.unsubscribed(channel, user, last, wanted)
}

// Missed implements hub.Observer.
func (e *Events) Missed(channel string) { e.tracker.missed(channel) }

// Connected takes down that a client is connected, with its user or "".
func (e *Events) Connected(client, user string) {
	if e.config.Connects {
		e.tracker.connected(client, user, e.config.Disconnects)
	}
}

// Disconnected takes down that a client went which Connected was called for: with the code and the reason of the close frame, and the cause
// in a word.
func (e *Events) Disconnected(client, user string, code uint16, reason, cause string) {
	if e.config.Disconnects {
		e.tracker.disconnected(Body{Type: ClientDisconnected, Client: client, User: user, Code: code, Reason: reason, Cause: cause})
	}
}

// sweep records departures when their time has come.
func (e *Events) sweep() {
	if e.config.Debounce == 0 {
		return
	}
	ticker := time.NewTicker(min(max(e.config.Debounce/8, 5*time.Millisecond), 250*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
			e.tracker.sweep(e.tracker.now())
		}
	}
}

// checkpoint writes down what is open whenever enough has happened, so that the journal's past can go.
func (e *Events) checkpoint() {
	if e.config.Dir == "" {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
		}
		if !e.journal.CheckpointDue() {
			continue
		}
		if err := e.saveState(); err != nil {
			e.config.Logger.Warn("events: the journal keeps its past", "error", err)
		}
	}
}

// saveState writes the checkpoint. What happens meanwhile may be in it or not: its events come after it, and are applied to it.
func (e *Events) saveState() error {
	return e.journal.Checkpoint(e.journal.Last(), func(add func(uint8, []byte) error) error {
		return e.tracker.each(func(b Body) error { return add(opens, b.encode()) })
	})
}

// Close takes down nothing more, writes what there is to the disk, and tries once more to send it, until ctx ends or
// Config.ShutdownTimeout is over. It is called when all clients are gone. What is not sent stays for another process; without a
// directory it is lost, which is an error.
func (e *Events) Close(ctx context.Context) (err error) {
	e.closing.Do(func() { err = e.close(ctx) })
	return err
}

func (e *Events) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.ShutdownTimeout)
	defer cancel()
	close(e.stop)
	e.running.Wait()
	e.tracker.finish()
	errs := []error{e.journal.Sync()}
	e.sender.finish(ctx)
	st := e.journal.Stats()
	if e.journal.Empty() {
		return errors.Join(append(errs, e.journal.Remove())...)
	}
	if e.config.Dir == "" {
		errs = append(errs, fmt.Errorf("events: %d are lost, for the backend does not answer and there is no data-dir", st.Records))
	} else {
		e.config.Logger.Warn("events: some wait for the next process, for the backend does not answer", "events", st.Records)
	}
	return errors.Join(append(errs, e.journal.Close())...)
}

// Stats are the figures of events.
type Stats struct {
	journal.Stats           // of this process's journal
	Adopted       int       // journals of other processes that are being sent
	AdoptedEvents uint64    // that wait in them
	Inferred      uint64    // events that say what nobody saw
	Sent          uint64    // events that the backend has acknowledged
	Rejected      uint64    // events that were given up, for the backend rejects them
	Attempts      [5]uint64 // by Outcome
	Oldest        time.Time // when the event happened that is being sent; zero if none is
	Tracked       int       // channels, members and clients of which the backend was told that they are there
	Held          int       // departures that are held back
}

// Stats returns the present figures.
func (e *Events) Stats() Stats {
	s := e.sender.stats()
	damaged := s.Damaged // in the files of others
	s.Stats = e.journal.Stats()
	s.Damaged += damaged
	s.Tracked, s.Held = e.tracker.tracked()
	return s
}
