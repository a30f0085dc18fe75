package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is one node's view of all. The methods may be called by any goroutine.
type Cluster struct {
	// Immutable after New.
	config  Config
	started time.Time
	stops   []func() // of subscriptions
	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup // the loop, the questions of others, and what Go began
	serving chan struct{}  // a place for each question of others

	// Owned by the goroutine of loop.
	alike     time.Time // since when there are nodes with the same name; zero without
	toldAlike bool      // the log has it

	// Guarded by mu.
	mu        sync.Mutex
	nodes     map[string]*Node // the others
	crowded   time.Time        // when a node was not taken in because there were too many
	questions map[uint64]*Question
	lastID    uint64
	closed    bool

	// Any goroutine (atomic).
	counts counts
}

// New joins the cluster. It does not wait for the others: those that are there become known as they answer.
func New(c Config) (*Cluster, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.Limits = c.Limits.WithDefaults()
	k := &Cluster{
		config: c, started: time.Now(), nodes: map[string]*Node{}, questions: map[uint64]*Question{},
		serving: make(chan struct{}, c.MaxServed),
	}
	k.stopped, k.stop = context.WithCancel(context.Background())
	for subject, f := range map[string]func(message){
		subjectBeats: k.onBeat, subjectAsks: k.onAsk, subjectNode + c.UID: k.onOwn,
	} {
		stop, err := c.Bus.Subscribe(subject, func(data []byte) { k.receive(data, f) })
		if err != nil {
			k.end()
			return nil, fmt.Errorf("cluster: subscribe to %s: %w", subject, err)
		}
		k.stops = append(k.stops, stop)
	}
	k.beat(subjectBeats, true)
	k.running.Go(k.loop)
	return k, nil
}

// Close leaves the cluster, and waits for what is under way.
func (k *Cluster) Close() error {
	k.mu.Lock()
	closed := k.closed
	k.closed = true
	k.mu.Unlock()
	if closed {
		return nil
	}
	err := k.publish(subjectBeats, &message{Kind: kindLeave})
	k.end()
	if err != nil {
		return fmt.Errorf("cluster: the others were not told that this node leaves: %w", err)
	}
	return nil
}

// Go runs f in a goroutine that Close waits for. It reports false if the cluster was left.
func (k *Cluster) Go(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.running.Go(f)
	}
	return !k.closed
}

func (k *Cluster) end() {
	k.stop()
	for _, stop := range k.stops {
		stop()
	}
	k.running.Wait()
}

// loop beats, and forgets the nodes that do not.
func (k *Cluster) loop() {
	ticker := time.NewTicker(k.config.Heartbeat)
	defer ticker.Stop()
	before := time.Now()
	for {
		select {
		case <-k.stopped.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if paused := now.Sub(before); paused > k.config.Timeout/2 { // the process stood still: that the others were not heard says nothing of them
			k.config.Logger.Warn("the node stood still", "for", paused)
			k.allSeen(now)
		}
		before = now
		k.beat(subjectBeats, false)
		k.sweep(now)
		if names := k.lastingNamesakes(now); names != nil {
			k.config.Logger.Error("nodes of the cluster have the same name: give each a node-name of its own", "names", strings.Join(names, ","))
		}
	}
}

// ErrClosed says that the cluster was left.
var ErrClosed = errors.New("cluster: closed")

// publish sends a message of this node's.
func (k *Cluster) publish(subject string, m *message) error {
	m.Version, m.From = protocolVersion, k.config.UID
	b, err := m.encode()
	if err == nil {
		err = k.config.Bus.Publish(subject, b)
	}
	if err != nil {
		k.counts.unsent.Add(1)
		return err
	}
	k.counts.kind(&k.counts.sent, m.Kind)
	return nil
}

// receive reads a message and hands it on, unless it is not for us.
func (k *Cluster) receive(data []byte, f func(message)) {
	m, err := parse(data)
	switch {
	case m.From == k.config.UID: // our own
		return
	case err != nil:
		if reasonOf(err) == ignoredVersion && m.Kind != kindLeave {
			k.foreign(m)
		}
		k.ignore(reasonOf(err))
		return
	}
	k.counts.kind(&k.counts.received, m.Kind)
	f(m)
}

func (k *Cluster) ignore(reason string) {
	for i, r := range ignoredReasons {
		if r == reason {
			k.counts.ignored[i].Add(1)
		}
	}
}

// counts are what a Cluster has counted.
type counts struct {
	sent, received [len(kinds)]atomic.Uint64
	ignored        [len(ignoredReasons)]atomic.Uint64
	unsent         atomic.Uint64
	asked          atomic.Uint64
	answered       atomic.Uint64
	timeouts       atomic.Uint64
	incomplete     atomic.Uint64
	tooLarge       atomic.Uint64
	busy           atomic.Uint64
	served         atomic.Uint64
	turnedAway     atomic.Uint64
	panics         atomic.Uint64
	lost           atomic.Uint64
}

var kinds = [...]string{kindBeat, kindLeave, kindAsk, kindAnswer}

func (*counts) kind(of *[len(kinds)]atomic.Uint64, kind string) {
	for i, name := range kinds {
		if name == kind {
			of[i].Add(1)
		}
	}
}

// Stats are a Cluster's figures since New.
type Stats struct {
	Nodes      int               // known at present, this one among them
	Foreign    int               // of them those whose messages cannot be read
	Namesakes  int               // of them those with a name that another has, too, but for one of each name
	Lost       uint64            // nodes that were not heard of any more
	Sent       map[string]uint64 // messages, by their kind
	Received   map[string]uint64
	Ignored    map[string]uint64 // by the reason
	Unsent     uint64            // messages that the bus did not take
	Asked      uint64            // questions
	Answered   uint64            // of them by all nodes
	TimedOut   uint64            // not by all in time
	Incomplete uint64            // not by all for another reason
	TooLarge   uint64            // by too many bytes
	Busy       uint64            // not asked, for as many as may be were under way
	Asking     int               // under way
	Served     uint64            // questions of others
	TurnedAway uint64            // of others, for as many as may be were under way
	Serving    int               // of others under way
	Panics     uint64            // of methods
}

// Stats returns the present figures.
func (k *Cluster) Stats() Stats {
	c := &k.counts
	s := Stats{
		Nodes: 1, Lost: c.lost.Load(), Sent: map[string]uint64{}, Received: map[string]uint64{}, Ignored: map[string]uint64{},
		Unsent: c.unsent.Load(), Asked: c.asked.Load(), Answered: c.answered.Load(), TimedOut: c.timeouts.Load(),
		Incomplete: c.incomplete.Load(), TooLarge: c.tooLarge.Load(), Busy: c.busy.Load(),
		Served: c.served.Load(), TurnedAway: c.turnedAway.Load(), Serving: len(k.serving), Panics: c.panics.Load(),
	}
	for i, kind := range kinds {
		s.Sent[kind], s.Received[kind] = c.sent[i].Load(), c.received[i].Load()
	}
	for i, reason := range ignoredReasons {
		s.Ignored[reason] = c.ignored[i].Load()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.Nodes += len(k.nodes)
	s.Namesakes = len(k.namesakesLocked())
	s.Asking = len(k.questions)
	for _, n := range k.nodes {
		if n.Foreign {
			s.Foreign++
		}
	}
	return s
}
