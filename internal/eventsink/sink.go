// Package eventsink is a backend for tests: it takes batches of events as a careful receiver does, and checks all that is promised of
// them.
package eventsink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/webhook/sign"
)

// Sink is the backend.
type Sink struct {
	URL    string
	secret []byte
	server *httptest.Server

	// Guarded by mu.
	mu         sync.Mutex
	mood       http.HandlerFunc // answers instead; nil for a backend that takes what comes
	nodes      []*Node          // in the order in which they were heard of
	faults     []error
	duplicates int
	attempts   int
	changed    chan struct{} // closed when something came
}

// Node has the events of one process.
type Node struct {
	Name   string
	Events []events.Event // each once
	Lost   uint64

	byID map[string]events.Event
	open map[string]bool // what is going on by the events
}

// Start listens on a port of its own until the test ends.
func Start(t testing.TB, secret []byte) *Sink {
	s := &Sink{secret: secret, changed: make(chan struct{})}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL + "/events"
	t.Cleanup(s.server.Close)
	return s
}

// SetMood has all requests answered by f; nil is a backend that takes what comes.
func (s *Sink) SetMood(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = f
}

// ServeHTTP implements http.Handler.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	mood := s.mood
	s.attempts++
	s.mu.Unlock()
	if mood != nil {
		mood(w, r)
		return
	}
	s.Take(w, r)
}

// Take takes a batch, as a backend does that is well.
func (s *Sink) Take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut: there is nobody to answer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.take(r, body); err != nil {
		s.faults = append(s.faults, err)
		w.WriteHeader(http.StatusBadRequest)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Sink) take(r *http.Request, body []byte) error {
	if s.secret != nil {
		if err := sign.Verify(s.secret, r.Header.Get(sign.Header), body, time.Now(), time.Minute); err != nil {
			return fmt.Errorf("signature: %w", err)
		}
	}
	var batch events.Batch
	if err := json.Unmarshal(body, &batch); err != nil {
		return err
	}
	if batch.ID == "" || batch.ID != r.Header.Get(events.HeaderBatch) || len(batch.Events) == 0 {
		return fmt.Errorf("batch %q, header %q, %d events", batch.ID, r.Header.Get(events.HeaderBatch), len(batch.Events))
	}
	i := slices.IndexFunc(s.nodes, func(n *Node) bool { return n.Name == batch.Node })
	if i < 0 {
		i = len(s.nodes)
		s.nodes = append(s.nodes, &Node{Name: batch.Node, byID: map[string]events.Event{}, open: map[string]bool{}})
	}
	n := s.nodes[i]
	n.Lost += batch.Lost
	for _, e := range batch.Events {
		if before, known := n.byID[e.ID]; known {
			s.duplicates++
			if !reflect.DeepEqual(before, e) {
				s.faults = append(s.faults, fmt.Errorf("%s is %+v, and was %+v", e.ID, e, before))
			}
			continue
		}
		n.byID[e.ID] = e
		if err := n.add(e); err != nil {
			s.faults = append(s.faults, fmt.Errorf("%s: %w", e.ID, err))
		}
	}
	return nil
}

// add checks the order of the node's events.
func (n *Node) add(e events.Event) error {
	last := uint64(0)
	if len(n.Events) > 0 {
		last = n.Events[len(n.Events)-1].Seq
	}
	n.Events = append(n.Events, e)
	var errs []error
	if e.Seq != last+1 && n.Lost == 0 {
		errs = append(errs, fmt.Errorf("number %d after %d", e.Seq, last))
	}
	return errors.Join(append(errs, n.turn(e))...)
}

// turn checks that what begins and what ends take turns.
func (n *Node) turn(e events.Event) error {
	channel := "channel " + e.Channel
	var name string
	var begins bool
	switch e.Type {
	case events.ChannelOccupied, events.ChannelVacated:
		name, begins = channel, e.Type == events.ChannelOccupied
	case events.MemberJoined, events.MemberLeft:
		name, begins = fmt.Sprintf("member %q of %q", e.User, e.Channel), e.Type == events.MemberJoined
	case events.ClientConnected, events.ClientDisconnected:
		name, begins = "client "+e.Client, e.Type == events.ClientConnected
	default:
		return nil
	}
	if n.open[name] == begins && n.Lost == 0 {
		return fmt.Errorf("%s of what was so already: %s", e.Type, name)
	}
	if n.open[name] = begins; !begins {
		delete(n.open, name)
	}
	return nil
}

// Faults returns what was wrong with what came.
func (s *Sink) Faults() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.faults...)
}

// Counts returns how many different events came, how many of those that came were known, and how many requests there were.
func (s *Sink) Counts() (distinct, duplicates, attempts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		distinct += len(n.Events)
	}
	return distinct, s.duplicates, s.attempts
}

// Events returns all different events, those of one node after another.
func (s *Sink) Events() (list []events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		list = append(list, n.Events...)
	}
	return list
}

// Nodes returns the names of the processes that were heard of, and how many of their events were said to be lost.
func (s *Sink) Nodes() (names []string, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		names = append(names, n.Name)
		lost += n.Lost
	}
	return names, lost
}

// Open lists what is going on by the events, sorted: of all nodes together.
func (s *Sink) Open() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		for name := range n.open {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Wait waits until ok holds, which is asked whenever something came; it fails the test after a long time.
func (s *Sink) Wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s: faults %v, open %v", what, s.Faults(), s.Open())
		}
	}
}
