package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millpond/millpond/bench/verify"
)

// crowdConfig is what the parts of a crowd are told.
type crowdConfig struct {
	Prefix     string // of the channels' names, which are unique to the run
	Channels   int
	Each       int     // channels that a subscriber has
	Publishers int     // of each channel
	Personal   bool    // its first channel is its own: Channels is how many there are of those and of shared ones together
	Shared     int     // of them, the last ones
	OnlyShared bool    // it has none of its own, and shared ones
	Everywhere int     // channels, the first ones, in which messages to several are published, too
	Positions  bool    // channels must have recovery
	Bare       bool    // the server is the yardstick
	Visitors   bool    // they come one by one, when they are ordered to
	Apart      bool    // latencies of personal, shared and announced publications are counted apart
	VisitRate  float64 // so many in a second

	Behaviour  Behaviour
	Patience   time.Duration // how long nothing may come while something is expected
	Overdue    time.Duration // how late it may come
	ReadBuffer int           // SO_RCVBUF; 0 leaves it to the kernel
}

// crowdJob is its name.
const crowdJob = "crowd"

// Names of what a crowd counts, beside those of load.
const (
	countOverdue   = "overdue"       // publications that came too late
	countVisits    = "visits"        // that visitors have begun and subscribed in
	countMissed    = "missed visits" // for which no connection was free
	countUnreached = "refused connects"
	countAsked     = "answers"         // to clients that asked who is there
	countUntold    = "refused answers" // to those
)

// crowd is a part of the subscribers.
type crowd struct {
	// Immutable after newCrowd.
	part               *part
	config             crowdConfig
	starts             []uint64 // as many zeros as there are publishers
	desks              []desk
	latencies          [kinds]*latency // of publications, by kind; all the same unless they are counted apart
	late               *atomic.Int64
	visits, turnedAway *atomic.Int64 // of visitors: those who came, and those for whom no connection was free
	refused            *atomic.Int64 // connects
	received           *atomic.Int64 // publications that were right, each once
	present            *atomic.Int64 // subscribers that have all their subscriptions
	asked, untold      *atomic.Int64 // answers to who is there, and refusals of one
	members            []subscriber
	subs               []subscription // of all members, Each of one after those of the one before

	// Any goroutine (atomic).
	expected  atomic.Int64 // of those that do not leave
	published atomic.Bool  // something was, or is about to be
	stopping  atomic.Bool
	coming    atomic.Bool // those whose connection ends come back
	gaps      atomic.Bool // the server's offsets rise, but not by one

	reached chan struct{} // received came to expected
	settles chan struct{} // a subscriber is present, or its first visit failed

	// Guarded by mu.
	mu     sync.Mutex
	epochs map[string]string        // to keep one of each
	causes map[string]int64         // why connections and subscriptions had to be made again
	asking map[*visit]time.Duration // when each has asked who is there, since began
	begins sync.WaitGroup           // what later has begun
}

func newCrowd(p *part) (job, error) {
	c := &crowd{
		part: p, desks: make([]desk, p.poller.Loops()), late: p.counter(countOverdue),
		visits: p.counter(countVisits), turnedAway: p.counter(countMissed), refused: p.counter(countUnreached),
		present: p.counter(countOpen), received: p.counter(countBack),
		asked: p.counter(countAsked), untold: p.counter(countUntold),
		reached: make(chan struct{}, 1), epochs: map[string]string{}, causes: map[string]int64{}, asking: map[*visit]time.Duration{},
	}
	if err := json.Unmarshal(p.Config, &c.config); err != nil {
		return nil, err
	}
	if c.config.Each > maxSubs || c.config.Each > c.config.Channels {
		return nil, fmt.Errorf("--subscriptions %d: want at most %d, and no more than there are channels", c.config.Each, maxSubs)
	}
	if c.config.Bare { // it answers nothing
		p.dialect.hello, p.dialect.helloOf, p.dialect.greeted = nil, nil, false
	}
	for kind := range c.latencies {
		name := delivering
		if c.config.Apart {
			name = apart(kindNames[kind])
		}
		c.latencies[kind] = p.latency(name)
	}
	p.dialect.receiveBuffer = c.config.ReadBuffer
	for i := range c.desks {
		c.desks[i].prefix = c.config.Prefix
	}
	c.starts = make([]uint64, c.config.Publishers)
	c.settles = make(chan struct{}, p.Connections)
	c.members, c.subs = make([]subscriber, p.Connections), make([]subscription, p.Connections*c.config.Each)
	for n := range c.members {
		s := &c.members[n]
		s.crowd, s.number = c, int32(p.First+n)
		s.absent.Store(true)
	}
	return c, nil
}

// delivering is the latency from the time at which a publication was due until a subscriber got it.
const delivering = "delivery"

// Kinds of publications.
const (
	kindPersonal  = iota // in a channel that one has
	kindShared           // in one that several have
	kindAnnounced        // in many channels at once
	kinds
)

// kindNames are in figures and latencies.
var kindNames = [kinds]string{"personal", "shared", "announced"}

// apart is the latency of one kind.
func apart(kind string) string { return delivering + ", " + kind }

// kind is that of a publication in channel k.
func (c *crowd) kind(k int, s verify.Stamp) int {
	switch {
	case s.Channel == verify.Everywhere:
		return kindAnnounced
	case k < c.config.Channels-c.config.Shared:
		return kindPersonal
	}
	return kindShared
}

func channelName(prefix string, k int) string { return prefix + strconv.Itoa(k) }

// channelNumber returns the k of which name is the channelName, -1 if there is none.
func channelNumber(prefix, name string) int {
	digits, ok := strings.CutPrefix(name, prefix)
	k, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || channelName(prefix, int(k)) != name {
		return -1
	}
	return int(k)
}

// assigned is the channel of a subscriber's subscription i. Neighbours have different ones.
func (c *crowdConfig) assigned(number, i int) int {
	own := c.Channels - c.Shared
	switch {
	case c.Personal && i == 0:
		return number % own
	case c.Personal, c.OnlyShared:
		return own + (number+i)%c.Shared
	}
	return (number + i) % c.Channels
}

// intern keeps one string of each epoch: a crowd has few, and its subscriptions many.
func (c *crowd) intern(epoch string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.epochs[epoch]
	if !ok && len(c.epochs) < 1<<16 {
		c.epochs[epoch] = epoch
		known = epoch
	} else if !ok {
		known = epoch
	}
	return known
}

// known is with which numbers publishers begin for who subscribes now, nil if that is not known any more.
func (c *crowd) known() []uint64 {
	if c.published.Load() {
		return nil
	}
	return c.starts
}

// delivered counts the time that a publication of channel k took.
func (c *crowd) delivered(loop, k int, s verify.Stamp) {
	if monotonic()-s.Sent() > int64(c.config.Overdue) {
		c.late.Add(1)
	}
	c.latencies[c.kind(k, s)].record(loop, sinceBegan(s.Time))
}

// channel is what tracks have to know of channel k, whose name has that sum.
func (c *crowd) channel(k int, sum uint32) verify.Channel {
	return verify.Channel{Sum: sum, Publishers: c.config.Publishers, Gaps: c.gaps.Load(), Everywhere: k < c.config.Everywhere}
}

// got takes note of a publication that was right.
func (c *crowd) got() {
	if c.received.Add(1) >= c.expected.Load() {
		select {
		case c.reached <- struct{}{}:
		default:
		}
	}
}

// arrived takes note of a subscriber that has all its subscriptions. Its loop.
func (c *crowd) arrived(v *visit) {
	c.present.Add(1)
	if c.config.Visitors {
		c.visits.Add(1)
		c.part.latency(subscribing).record(v.conn.Loop(), v.due)
		c.later(between(c.config.Behaviour.Stay), func() { v.conn.Close(errLeft) })
	}
	c.settle()
}

// subscribing is the latency from the beginning of a visit until all is subscribed.
const subscribing = "subscribe"

func (c *crowd) settle() {
	select {
	case c.settles <- struct{}{}:
	default: // nobody waits
	}
}

// note counts why a connection, or a subscription, had to be made again.
func (c *crowd) note(cause string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.causes[cause]; known || len(c.causes) < maxFaultKinds {
		c.causes[cause]++
	}
}

// parted takes note of the end of a subscriber's visit, and has it come back if it is to. Nothing else of it runs
// meanwhile.
func (c *crowd) parted(v *visit, was visitState, cause error) {
	s := v.subscriber
	if was != visitOpening {
		c.present.Add(-1)
	}
	if c.stopping.Load() {
		return
	}
	ok := c.explain(v, was, cause)
	if was == visitOpening {
		if errors.Is(cause, syscall.ECONNREFUSED) {
			c.refused.Add(1)
		}
		s.attempts++
		c.settle()
	}
	if c.config.Visitors {
		c.farewell(s)
		return
	}
	if !c.coming.Load() || (!ok && s.attempts > maxAttempts) {
		return
	}
	c.later(c.config.Behaviour.pause(int(s.attempts)), s.begin)
}

// maxAttempts is how often a connection may fail one after the other.
const maxAttempts = 50

// explain counts why a visit ended, and reports whether it may.
func (c *crowd) explain(v *visit, was visitState, cause error) bool {
	var byServer *closedByServer
	switch {
	case errors.Is(cause, errCutReset), errors.Is(cause, errCutFIN):
		c.note(cause.Error())
	case errors.Is(cause, errLeft):
	case was == visitEnds && errors.As(cause, &byServer):
		c.note(errCutClose.Error())
	case v.is(visitSlowed):
		c.note("being cut off while it did not read")
	case errors.As(cause, &byServer) && byServer.mayReturn() && c.coming.Load():
		c.note("the server's " + byServer.Error())
	case c.coming.Load() && c.config.Behaviour.Restart:
		c.note(fmt.Sprint(cause))
	default:
		c.part.faults.add(cause)
		return false
	}
	return true
}

// mayReturn reports whether a client is to connect again, as the SDKs understand the code.
func (e *closedByServer) mayReturn() bool {
	return e.code < 3500 && e.code != 1009 || e.code >= 4000 && e.code < 4500 || e.code >= 5000
}

// later runs f after d, unless the crowd stops before.
func (c *crowd) later(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		c.mu.Lock()
		stopping := c.stopping.Load()
		if !stopping {
			c.begins.Add(1)
		}
		c.mu.Unlock()
		if !stopping {
			defer c.begins.Done()
			f()
		}
	})
}

// farewell judges the subscriptions of a visitor that is gone.
func (c *crowd) farewell(s *subscriber) {
	d := &c.desks[0]
	d.mu.Lock()
	defer d.mu.Unlock()
	subs := s.subs()
	for i := range subs {
		subs[i].track.Settle(&d.counts, 0)
		subs[i] = subscription{}
	}
	s.absent.Store(true)
}
