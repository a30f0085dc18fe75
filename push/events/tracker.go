package events

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// shards is the number of parts of what is tracked.
const shards = 64

// tracker knows who is where, as far as somebody wants to hear of it, and makes events of who comes and goes.
type tracker struct {
	// Immutable after newTracker.
	record   func(tag uint8, b Body)
	debounce time.Duration
	seed     maphash.Seed
	start    time.Time
	shards   [shards]shard
}

// about says what a key is of.
type about uint8

const (
	aboutChannel about = iota // its subscribers, all together
	aboutMember               // a user's connections in it
	aboutMiss                 // that nothing was found in it
)

type key struct {
	channel, user string
	about         about
}

// entry is something of which the backend was told that it began.
type entry struct {
	count  int32  // subscribers; of a channel 1 or 0
	stamp  uint32 // of the departure that is held back; 0 if there is none
	wanted hub.Events
}

// departure is held back.
type departure struct {
	key   key
	at    time.Duration // since tracker.start
	stamp uint32
}

// shard is the part of some channels, or of some clients.
type shard struct {
	// Immutable after newTracker.
	tracker *tracker

	// Guarded by mu.
	mu      sync.Mutex
	entries map[key]entry
	held    []departure       // the first is the oldest; those whose entry has another stamp count no more
	absent  int               // entries with a stamp
	stamp   uint32            // the latest
	clients map[string]string // users by clients

	_ [64]byte // neighbours are busy on other cores
}

func newTracker(debounce time.Duration, record func(tag uint8, b Body)) *tracker {
	t := &tracker{record: record, debounce: debounce, seed: maphash.MakeSeed(), start: time.Now()}
	for i := range t.shards {
		t.shards[i] = shard{tracker: t, entries: map[key]entry{}, clients: map[string]string{}}
	}
	return t
}

func (t *tracker) shard(name string) *shard { return &t.shards[maphash.String(t.seed, name)%shards] }

func (t *tracker) now() time.Duration { return time.Since(t.start) }

const (
	ofChannels = hub.EventOccupied | hub.EventVacated
	ofMembers  = hub.EventJoined | hub.EventLeft
)

// subscribed implements hub.Observer's.
func (t *tracker) subscribed(channel, user string, first bool, wanted hub.Events) {
	s := t.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if first && wanted&ofChannels != 0 {
		s.comeLocked(key{channel: channel}, wanted)
	}
	if user != "" && wanted&ofMembers != 0 {
		s.comeLocked(key{channel, user, aboutMember}, wanted)
	}
}

// unsubscribed implements hub.Observer's. Members leave before the channel is vacated, also when both are held back.
func (t *tracker) unsubscribed(channel, user string, last bool, wanted hub.Events) {
	s := t.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if user != "" && wanted&ofMembers != 0 {
		s.goLocked(key{channel, user, aboutMember})
	}
	if last && wanted&ofChannels != 0 {
		s.goLocked(key{channel: channel})
	}
}

// missed records it, unless that was done a moment ago.
func (t *tracker) missed(channel string) {
	s := t.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{channel: channel, about: aboutMiss}
	if _, known := s.entries[k]; known {
		return
	}
	s.comeLocked(k, hub.EventCacheMiss)
	s.goLocked(k)
}

func (s *shard) comeLocked(k key, wanted hub.Events) {
	e, told := s.entries[k]
	if e.stamp != 0 { // back in time
		e.stamp = 0
		s.absent--
	}
	e.count++
	e.wanted = wanted
	s.entries[k] = e
	if told {
		return
	}
	switch k.about {
	case aboutChannel:
		s.openLocked(k, ChannelOccupied, hub.EventOccupied, hub.EventVacated, wanted)
	case aboutMember:
		s.openLocked(k, MemberJoined, hub.EventJoined, hub.EventLeft, wanted)
	case aboutMiss:
		s.tracker.record(0, Body{Type: CacheMiss, Channel: k.channel})
	}
}

func (s *shard) openLocked(k key, kind string, event, ending, wanted hub.Events) {
	if wanted&event == 0 {
		return
	}
	tag := uint8(0)
	if wanted&ending != 0 {
		tag = opens
	}
	s.tracker.record(tag, Body{Type: kind, Channel: k.channel, User: k.user})
}

func (s *shard) goLocked(k key) {
	e := s.entries[k]
	if e.count == 0 { // it has come without a user, or when nobody wanted to know
		return
	}
	if e.count--; e.count > 0 {
		s.entries[k] = e
		return
	}
	if s.tracker.debounce == 0 {
		s.closeLocked(k, e)
		return
	}
	if s.stamp++; s.stamp == 0 {
		s.stamp = 1
	}
	e.stamp = s.stamp
	s.entries[k] = e
	s.absent++
	s.held = append(s.held, departure{k, s.tracker.now(), e.stamp})
	if len(s.held) > 2*s.absent+1024 { // what flapping leaves
		s.held = slices.DeleteFunc(s.held, func(d departure) bool { return s.entries[d.key].stamp != d.stamp })
	}
}

// closeLocked records that it is over.
func (s *shard) closeLocked(k key, e entry) {
	if delete(s.entries, k); len(s.entries) == 0 {
		s.entries = map[key]entry{} // one that was large stays so
	}
	switch {
	case k.about == aboutChannel && e.wanted&hub.EventVacated != 0:
		s.tracker.record(0, Body{Type: ChannelVacated, Channel: k.channel})
	case k.about == aboutMember && e.wanted&hub.EventLeft != 0:
		s.tracker.record(0, Body{Type: MemberLeft, Channel: k.channel, User: k.user})
	}
}

// sweepAtOnce bounds how many departures are recorded under one hold of a lock.
const sweepAtOnce = 256

// sweep records the departures that have been held back long enough.
func (t *tracker) sweep(now time.Duration) {
	for i := range t.shards {
		for t.shards[i].sweep(now - t.debounce) {
		}
	}
}

// finish records all departures that are held back.
func (t *tracker) finish() {
	t.sweep(math.MaxInt64)
}

func (s *shard) sweep(upTo time.Duration) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for ; n < len(s.held) && n < sweepAtOnce && s.held[n].at <= upTo; n++ {
		d := s.held[n]
		if e, ok := s.entries[d.key]; ok && e.stamp == d.stamp {
			s.absent--
			s.closeLocked(d.key, e)
		}
	}
	more = n == sweepAtOnce
	if s.held = s.held[n:]; len(s.held) == 0 {
		s.held = nil
	}
	return more
}

// connected records it. With track it is remembered, for a checkpoint.
func (t *tracker) connected(client, user string, track bool) {
	b := Body{Type: ClientConnected, Client: client, User: user}
	if !track {
		t.record(0, b)
		return
	}
	s := t.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[client] = user
	t.record(opens, b)
}

func (t *tracker) disconnected(b Body) {
	s := t.shard(b.Client)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, b.Client)
	t.record(0, b)
}

// each calls f for every event that began something which is not over, one part after another.
func (t *tracker) each(f func(Body) error) error {
	for i := range t.shards {
		for _, b := range t.shards[i].open() {
			if err := f(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// open returns the events that began what is not over.
func (s *shard) open() (list []Body) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list = make([]Body, 0, len(s.entries)+len(s.clients))
	for k, e := range s.entries {
		switch {
		case k.about == aboutChannel && e.wanted&ofChannels == ofChannels:
			list = append(list, Body{Type: ChannelOccupied, Channel: k.channel})
		case k.about == aboutMember && e.wanted&ofMembers == ofMembers:
			list = append(list, Body{Type: MemberJoined, Channel: k.channel, User: k.user})
		}
	}
	for client, user := range s.clients {
		list = append(list, Body{Type: ClientConnected, Client: client, User: user})
	}
	return list
}

// tracked returns of how much the backend was told that it began, and how many departures are held back.
func (t *tracker) tracked() (entries, held int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		entries += len(s.entries) + len(s.clients)
		held += s.absent
		s.mu.Unlock()
	}
	return entries, held
}
