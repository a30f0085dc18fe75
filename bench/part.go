package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/bench/report"
	"github.com/millpond/millpond/poller"
)

// A load is made by one process or by several, each of which has a part of it. What a part does is a job: it is the
// same code in the process of the scenario and in others.

// began is when this process did: times are since then.
var began = time.Now()

// plan is what a process of the load is told first of all.
type plan struct {
	Job         string          `json:"job"`
	Target      Target          `json:"target"`
	Options     Options         `json:"options"`
	First       int             `json:"first"` // its connections have the numbers from First on
	Connections int             `json:"connections"`
	Share       float64         `json:"share"` // of all rates
	Nice        int             `json:"nice"`
	Config      json.RawMessage `json:"config"` // the job's
}

// job is what a part of a load does. Its methods may be called by several goroutines at once.
type job interface {
	// order carries out what the scenario asks for and returns what is to be told of it, which JSON must be able to say.
	// When ctx ends it returns what there is so far.
	order(ctx context.Context, name string, args json.RawMessage) (any, error)
	// close ends the connections and waits until they are closed.
	close()
}

// jobs are those that there are, by name.
var jobs = map[string]func(*part) (job, error){
	"load":   newLoad,
	crowdJob: newCrowd,
}

// part is the share of a load that one process has, and what it has counted.
type part struct {
	// Immutable after newPart.
	plan
	poller  *poller.Poller
	dialect *dialect
	fleet   *fleet

	faults faults

	// Guarded by mu.
	mu        sync.Mutex
	counters  map[string]*atomic.Int64
	latencies map[string]*latency
}

// newPart connects nothing yet.
func newPart(ctx context.Context, pl plan) (p *part, j job, err error) {
	begin, ok := jobs[pl.Job]
	if !ok {
		return nil, nil, fmt.Errorf("there is no job %q", pl.Job)
	}
	debug.SetGCPercent(gcPercent) // easeGarbage may have changed it
	p = &part{plan: pl, counters: map[string]*atomic.Int64{}, latencies: map[string]*latency{}}
	if p.poller, err = loops.enter(); err != nil {
		return nil, nil, err
	}
	if p.dialect, err = pl.Target.newDialect(ctx, p.poller, &pl.Options); err == nil {
		p.fleet, err = newFleet(p)
	}
	if err == nil {
		j, err = begin(p)
	}
	if err != nil {
		return nil, nil, errors.Join(err, loops.leave())
	}
	return p, j, nil
}

// counter returns the counter of that name: parts add theirs up.
func (p *part) counter(name string) *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters[name]
	if c == nil {
		c = new(atomic.Int64)
		p.counters[name] = c
	}
	return c
}

// latency returns the distribution of that name.
func (p *part) latency(name string) *latency {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.latencies[name]
	if l == nil {
		l = &latency{loops: make([]laps, p.poller.Loops())}
		for i := range l.loops {
			l.loops[i].d = report.NewDistribution(name, "ns")
		}
		p.latencies[name] = l
	}
	return l
}

// tally is what was counted.
type tally struct {
	Counts    map[string]int64                `json:"counts"`    // since the beginning, or as it is now: "open"
	Latencies map[string]*report.Distribution `json:"latencies"` // since the tally before
	Errors    map[string]uint64               `json:"errors"`    // since the beginning
}

// collect returns a tally, of latencies only if they are wanted.
func (p *part) collect(latencies bool) tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := newTally()
	t.Errors = p.faults.all()
	for name, c := range p.counters {
		t.Counts[name] = c.Load()
	}
	for name, l := range p.latencies {
		if !latencies {
			break
		}
		if d := l.drain(name); d != nil {
			t.Latencies[name] = d
		}
	}
	return t
}

func newTally() tally {
	return tally{Counts: map[string]int64{}, Latencies: map[string]*report.Distribution{}, Errors: map[string]uint64{}}
}

// add adds what another part, or phase, has counted. Distributions of o may become t's.
func (t tally) add(o tally) {
	for name, n := range o.Counts {
		t.Counts[name] += n
	}
	for name, n := range o.Errors {
		t.Errors[name] += n
	}
	for name, d := range o.Latencies {
		if t.Latencies[name] == nil {
			t.Latencies[name] = d
			continue
		}
		t.Latencies[name].Merge(d)
	}
}

// latency counts how long something took. Each loop has its own count, so that loops do not wait for each other.
type latency struct {
	from  atomic.Int64 // what was due before it, since began, is not counted
	loops []laps
}

type laps struct {
	mu sync.Mutex
	d  *report.Distribution
}

// record counts what was due at a time since began and is over now, on the loop.
func (l *latency) record(loop int, due time.Duration) {
	if int64(due) < l.from.Load() {
		return
	}
	own := &l.loops[loop]
	own.mu.Lock()
	own.d.Record(int64(time.Since(began) - due))
	own.mu.Unlock()
}

// drain returns what was counted since the last time, nil if nothing was.
func (l *latency) drain(name string) (all *report.Distribution) {
	for i := range l.loops {
		own := &l.loops[i]
		own.mu.Lock()
		switch {
		case own.d.Count() == 0:
		case all == nil: // a merge looks at all of its 300 KiB
			all, own.d = own.d, report.NewDistribution(name, "ns")
		default:
			all.Merge(own.d)
			own.d.Reset()
		}
		own.mu.Unlock()
	}
	return all
}

// faults counts what went wrong, by what it was.
type faults struct {
	mu    sync.Mutex
	kinds map[string]uint64
}

// maxFaultKinds is how many kinds are told apart, and faultBytes how long one may be: servers write into them.
const (
	maxFaultKinds = 32
	faultBytes    = 200
	otherFaults   = "other errors"
)

func (f *faults) add(err error) { f.addN(err, 1) }

func (f *faults) addN(err error, n uint64) {
	kind := "closed"
	if err != nil {
		kind = fmt.Sprintf("%.*s", faultBytes, err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kinds == nil {
		f.kinds = map[string]uint64{}
	}
	if _, ok := f.kinds[kind]; !ok && len(f.kinds) >= maxFaultKinds {
		kind = otherFaults
	}
	f.kinds[kind] += n
}

// all returns the counts so far.
func (f *faults) all() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.kinds)
}
