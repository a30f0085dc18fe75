package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
)

// Task is something to run once. A pointer type makes Go free of allocations.
type Task interface{ Run() }

// Config says how a Pool is to be made. The zero value works.
type Config struct {
	// Workers is how many tasks run at the same time; a handler that waits for a
	// database holds one. An idle worker is gone after two seconds. Zero means 512.
	Workers int
	// Logger gets the panics of tasks. Nil means slog.Default().
	Logger *slog.Logger
}

const defaultWorkers = 512

// Validate reports every value that makes no sense.
func (c Config) Validate() error {
	if c.Workers < 0 {
		return fmt.Errorf("workers: %d is negative", c.Workers)
	}
	return nil
}

// ErrClosed is returned by Close when it is called twice.
var ErrClosed = errors.New("pool: closed")

// Pool runs tasks in the order in which they were given, as many at a time as it
// has workers. Every method may be called by any goroutine.
type Pool struct {
	// Immutable after New.
	workers int
	eager   int // so many workers are started at once, more only for tasks that would wait behind blocked ones
	ants    *ants.PoolWithFuncGeneric[Task]
	logger  *slog.Logger

	// Guarded by mu.
	mu        sync.Mutex
	waiting   ring
	running   int
	closed    bool
	idle      chan struct{} // closed when running is 0 after closed
	signalled bool          // idle is closed
	stats     Stats
	relief    *time.Timer // runs relieve; nil before it is needed
	relieving bool        // relief is armed
	seen      int64       // stats.Done when it was
	slow      int         // how often in a row it found tasks waiting, though others ended

	// Any goroutine (atomic).
	probed atomic.Int64 // when the task of Probe that has not begun was given to Go, as the time since start; 0 for none
	wait   atomic.Int64 // how long the last one waited, in ns
}

// Stats tell how busy a Pool is.
type Stats struct {
	Workers int // the bound
	Running int // tasks that run now
	Waiting int // tasks for which no worker was free
	Done    int64
	Panics  int64
	Wait    time.Duration // from Go to the beginning of a task, when Probe last asked
}

// expiry is how long an idle worker keeps its goroutine. A storm leaves hundreds behind, whose stacks are as much as a
// hundred bytes for each of 15,000 connections; starting one again takes a microsecond.
const expiry = 2 * time.Second

// New makes a Pool. It costs two goroutines of ants and no worker yet.
func New(c Config) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{workers: c.Workers, logger: c.Logger, idle: make(chan struct{})}
	if p.workers == 0 {
		p.workers = defaultWorkers
	}
	p.eager = min(p.workers, eagerPerCore*runtime.GOMAXPROCS(0))
	if p.logger == nil {
		p.logger = slog.Default()
	}
	var err error
	// The bound is kept here, not by ants: it has no queue, and refuses a task while
	// a worker that has just finished is not back yet.
	p.ants, err = ants.NewPoolWithFuncGeneric(-1, p.work, ants.WithExpiryDuration(expiry), ants.WithNonblocking(true))
	if err != nil {
		return nil, fmt.Errorf("ants: %w", err)
	}
	return p, nil
}

// Go runs t on a worker, at once or when one is free. It never blocks and never runs
// t itself. A Pool that is closed still runs it: what is under way has to end.
func (p *Pool) Go(t Task) {
	p.mu.Lock()
	if p.running >= p.eager {
		p.waiting.push(t)
		p.armLocked()
		p.mu.Unlock()
		return
	}
	p.running++
	p.mu.Unlock()
	p.start(t)
}

// start gives t to a worker, which the caller has counted.
func (p *Pool) start(t Task) {
	if err := p.ants.Invoke(t); err != nil {
		go p.work(t) // ants is released already
	}
}

const (
	// eagerPerCore workers for each core take all tasks that do not block. A worker for each of a thousand tasks of
	// microseconds would be a thousand stacks and switches for nothing.
	eagerPerCore = 4
	// reliefInterval is how long tasks wait until somebody looks whether the workers are blocked.
	reliefInterval = time.Millisecond
	// patience is how many such intervals tasks may wait behind workers that do get on, until there is one more.
	patience = 5
)

// armLocked has relieve called, unless all workers are there or it will be.
func (p *Pool) armLocked() {
	if p.relieving || p.running >= p.workers {
		return
	}
	p.relieving, p.seen = true, p.stats.Done
	if p.relief == nil {
		p.relief = time.AfterFunc(reliefInterval, p.relieve)
		return
	}
	p.relief.Reset(reliefInterval)
}

// relieve starts more workers for the tasks that wait: twice as many if not one task has ended meanwhile, for
// then the workers are blocked; and one if they get on, but too slowly.
func (p *Pool) relieve() {
	p.mu.Lock()
	p.relieving = false
	n := 0
	switch {
	case p.stats.Done == p.seen:
		n, p.slow = p.running, 0
	case p.slow >= patience:
		n, p.slow = 1, 0
	default:
		p.slow++
	}
	var tasks []Task
	for range min(n, p.workers-p.running) {
		t, ok := p.waiting.pop()
		if !ok {
			break
		}
		tasks = append(tasks, t)
	}
	p.running += len(tasks)
	if p.waiting.len() > 0 {
		p.armLocked()
	} else {
		p.slow = 0
	}
	p.mu.Unlock()
	for _, t := range tasks {
		p.start(t)
	}
}

// work runs t and then what waits; worker goroutine.
func (p *Pool) work(t Task) {
	for ok := true; ok; t, ok = p.next() {
		p.run(t)
	}
}

// next returns the task that has waited longest, or takes this worker off duty.
func (p *Pool) next() (Task, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Done++
	if t, ok := p.waiting.pop(); ok {
		return t, true
	}
	p.running--
	p.signalIdleLocked()
	return nil, false
}

// signalIdleLocked tells Close that nothing runs. Tasks may still come and go after it.
func (p *Pool) signalIdleLocked() {
	if p.closed && p.running == 0 && !p.signalled {
		p.signalled = true
		close(p.idle)
	}
}

// run keeps a panic from taking a worker, and all that waits behind it, along.
func (p *Pool) run(t Task) {
	defer func() {
		if v := recover(); v != nil {
			p.mu.Lock()
			p.stats.Panics++
			p.mu.Unlock()
			p.logger.Error("pool: task panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	t.Run()
}

// Stats returns the figures.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Workers, s.Running, s.Waiting, s.Wait = p.workers, p.running, p.waiting.len(), time.Duration(p.wait.Load())
	if at := p.probed.Load(); at != 0 {
		s.Wait = max(s.Wait, time.Since(start)-time.Duration(at))
	}
	return s
}

// Probe asks how long a task waits for its worker, by giving Go one that does nothing else; Stats has the answer. While one
// waits it does nothing.
func (p *Pool) Probe() {
	if p.probed.CompareAndSwap(0, int64(time.Since(start))) {
		p.Go((*probe)(p))
	}
}

// probe is a Pool as its own task.
type probe Pool

// Run implements Task.
func (p *probe) Run() {
	p.wait.Store(int64(time.Since(start)) - p.probed.Swap(0))
}

var start = time.Now()

// Close waits until every task is done and then ends the workers' goroutines. When
// ctx ends first, it returns its error and leaves the workers that are still busy.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.closed = true
	p.signalIdleLocked()
	p.mu.Unlock()
	var err error
	select {
	case <-p.idle:
	case <-ctx.Done():
		if p.Stats().Running == 0 { // both were ready
			break
		}
		err = fmt.Errorf("pool: tasks still run: %w", ctx.Err())
	}
	p.ants.Release()
	return err
}
