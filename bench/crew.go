package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// crew is the parts of one load, as the scenario sees them.
type crew struct {
	// Immutable after newCrew.
	parts       []hand
	first       int // the number of the first connection
	connections int

	// Guarded by mu.
	mu      sync.Mutex
	latest  tally // of the last time that all parts answered: counts and errors
	taken   tally // the same at the last take
	waiting tally // latencies since then
}

// hand is one part.
type hand interface {
	order(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error)
	collect(latencies bool) (tally, error)
	process() int
	close() error
}

// crewPlan says what a crew is to be.
type crewPlan struct {
	job         string
	target      Target
	connections int
	config      any  // of the job, as JSON
	apart       bool // not in this process, also if all connections fit
	nice        int  // of other processes
}

// keptFiles is how many descriptors a process keeps for all but its connections.
const keptFiles = 256

// fitting is how many connections one process may hold.
func fitting() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	if l.Cur < 2*keptFiles { // few are allowed: keep an eighth
		return int(l.Cur - l.Cur/8 - 32), nil
	}
	return int(min(l.Cur-keptFiles, maxConnections)), nil
}

// newCrew starts the processes of a load, or makes it here if it is to be one. They connect when they are ordered to.
func (r *Run) newCrew(ctx context.Context, p crewPlan) (*crew, error) {
	most, err := fitting()
	if err != nil {
		return nil, err
	}
	if most < 1 {
		return nil, errors.New("the limit on open files leaves none for connections: ulimit -n")
	}
	config, err := json.Marshal(p.config)
	if err != nil {
		return nil, err
	}
	here, first := r.occupied()
	local := !p.apart && r.Options.Processes == 0 && here+p.connections <= most
	n := max(r.Options.Processes, (p.connections+most-1)/most, 1)
	c := &crew{first: first, connections: p.connections, latest: newTally(), taken: newTally(), waiting: newTally()}
	for i := range n {
		from, to := p.connections*i/n, p.connections*(i+1)/n
		pl := plan{
			Job: p.job, Target: p.target, Options: r.Options, First: first + from, Connections: to - from,
			Share: float64(to-from) / float64(p.connections), Nice: p.nice, Config: config,
		}
		pl.Target.Flags, pl.Target.Config = nil, ""
		var h hand
		if local {
			h, err = newLocal(ctx, pl)
		} else {
			h, err = startRemote(ctx, pl)
		}
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.parts = append(c.parts, h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crews = append(r.crews, c)
	return c, nil
}

// occupied is how many connections this process may have, and the first number that none has.
func (r *Run) occupied() (here, first int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.crews {
		first = max(first, c.first+c.connections)
		for _, h := range c.parts {
			if l, ok := h.(*local); ok {
				here += l.part.Connections
			}
		}
	}
	return here, first
}

// order has all parts carry out what their job calls name, and returns what each has to say, in their order.
func (c *crew) order(ctx context.Context, name string, args any) ([]json.RawMessage, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	answers, errs := make([]json.RawMessage, len(c.parts)), make([]error, len(c.parts))
	var under sync.WaitGroup
	for i, h := range c.parts {
		under.Go(func() { answers[i], errs[i] = h.order(ctx, name, raw) })
	}
	under.Wait()
	return answers, errors.Join(errs...)
}

// collect asks all parts for what they have counted. Latencies, if they are wanted, are those since the last time; they
// are kept for take.
func (c *crew) collect(latencies bool) (now tally, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = newTally()
	for _, h := range c.parts {
		t, e := h.collect(latencies)
		now.add(t)
		err = errors.Join(err, e)
	}
	kept := tally{Latencies: maps.Clone(now.Latencies)}
	for name, d := range kept.Latencies {
		if c.waiting.Latencies[name] == nil {
			kept.Latencies[name] = d.Clone()
		}
	}
	c.waiting.add(kept)
	if err == nil { // else counts of a part are missing
		c.latest = now
	}
	return now, err
}

// take returns what was counted since the last take. Counts are differences but for "open", which is what is now.
func (c *crew) take() (t tally, err error) {
	_, err = c.collect(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	t = newTally()
	t.Latencies = c.waiting.Latencies
	for name, n := range c.latest.Counts {
		if t.Counts[name] = n - c.taken.Counts[name]; name == countOpen {
			t.Counts[name] = n
		}
	}
	for what, n := range c.latest.Errors {
		if n > c.taken.Errors[what] {
			t.Errors[what] = n - c.taken.Errors[what]
		}
	}
	c.taken, c.waiting = c.latest, newTally()
	return t, err
}

// close ends all connections and processes.
func (c *crew) close() error {
	errs := make([]error, len(c.parts))
	var under sync.WaitGroup
	for i, h := range c.parts {
		under.Go(func() { errs[i] = h.close() })
	}
	under.Wait()
	return errors.Join(errs...)
}

// processes returns those that are not this one.
func (c *crew) processes() (pids []int) {
	for _, h := range c.parts {
		if pid := h.process(); pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// local is a part in this process.
type local struct {
	part *part
	job  job
	orders
}

// orders are those of a part that are under way.
type orders struct {
	mu     sync.Mutex
	closed bool
	under  sync.WaitGroup
	cancel map[int]context.CancelFunc
	last   int
}

var errClosing = errors.New("the load ends")

// begin notes one, of which the context ends when the part does.
func (o *orders) begin(ctx context.Context) (context.Context, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, errClosing
	}
	if o.cancel == nil {
		o.cancel = map[int]context.CancelFunc{}
	}
	ctx, cancel := context.WithCancel(ctx)
	o.last++
	id := o.last
	o.cancel[id] = cancel
	o.under.Add(1)
	return ctx, func() {
		cancel()
		o.mu.Lock()
		delete(o.cancel, id)
		o.mu.Unlock()
		o.under.Done()
	}, nil
}

// interrupt ends all that are under way; with closing there will be no others.
func (o *orders) interrupt(closing bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = o.closed || closing
	for _, cancel := range o.cancel {
		cancel()
	}
}

func newLocal(ctx context.Context, pl plan) (*local, error) {
	p, j, err := newPart(ctx, pl)
	if err != nil {
		return nil, err
	}
	return &local{part: p, job: j}, nil
}

func (l *local) order(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	ctx, end, err := l.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	answer, err := l.job.order(ctx, name, args)
	if err != nil || answer == nil {
		return nothing, err
	}
	return json.Marshal(answer)
}

func (l *local) collect(latencies bool) (tally, error) { return l.part.collect(latencies), nil }

func (l *local) process() int { return os.Getpid() }

func (l *local) close() error {
	l.interrupt(true)
	l.under.Wait()
	l.job.close()
	return loops.leave()
}

// patience is how long a part may take for an order that it was told to end, or for an answer that needs no waiting.
const patience = 30 * time.Second

var errSilent = fmt.Errorf("a process of the load does not answer within %v", patience)
