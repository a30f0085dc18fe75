package pool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
)

// ants has a pool of its own from the start, with two goroutines.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

type task func()

func (f task) Run() { f() }

func newPool(t testing.TB, workers int) *Pool {
	t.Helper()
	p, err := New(Config{Workers: workers, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return p
}

// With all workers busy, Go returns at once, and what waits runs in the order in which it came.
func TestGoNeverBlocks(t *testing.T) {
	p := newPool(t, 1)
	release, done := make(chan struct{}), make(chan struct{})
	p.Go(task(func() { <-release }))
	var order []int
	const n = 1000
	for i := range n {
		p.Go(task(func() {
			if order = append(order, i); i == n-1 {
				close(done)
			}
		}))
	}
	if st := p.Stats(); st.Running != 1 || st.Waiting != n {
		t.Errorf("%+v", st)
	}
	close(release)
	<-done
	for i, got := range order {
		if got != i {
			t.Fatalf("task %d ran as number %d", got, i)
		}
	}
}

// Probe tells how long a task waits, before it has begun and after.
func TestProbe(t *testing.T) {
	p := newPool(t, 1)
	release := make(chan struct{})
	p.Go(task(func() { <-release }))
	p.Probe()
	p.Probe() // one at a time
	if n := p.Stats().Waiting; n != 1 {
		t.Errorf("%d wait", n)
	}
	var waited time.Duration
	for deadline := time.Now().Add(time.Minute); waited < 10*time.Millisecond; waited = p.Stats().Wait {
		if time.Now().After(deadline) {
			t.Fatal("it never waits")
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	done := make(chan struct{})
	p.Go(task(func() { close(done) }))
	<-done
	if st := p.Stats(); st.Wait < waited {
		t.Errorf("it waited %v, %v at least", st.Wait, waited)
	}
	p.Probe()
	for st := p.Stats(); st.Done < 4; st = p.Stats() {
		time.Sleep(time.Millisecond)
	}
}

func TestBound(t *testing.T) {
	p := newPool(t, 4)
	var running, most atomic.Int64
	var all sync.WaitGroup
	all.Add(500)
	for range 500 {
		p.Go(task(func() {
			defer all.Done()
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			running.Add(-1)
		}))
	}
	all.Wait()
	if most.Load() > 4 {
		t.Errorf("%d tasks at the same time", most.Load())
	}
}

// Tasks that do not block share a few workers, however many come at once. The bubble's clock stands while one of them runs, so that
// nothing else that the machine has to do makes them look blocked.
func TestQuickTasksShareWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 512)
		var mu sync.Mutex
		var all sync.WaitGroup
		most := 0
		all.Add(20_000)
		for range 20_000 {
			p.Go(task(func() {
				mu.Lock()
				most = max(most, p.Stats().Running)
				mu.Unlock()
				all.Done()
			}))
		}
		all.Wait()
		if most > p.eager {
			t.Errorf("%d workers at the same time for tasks that take no time", most)
		}
	})
}

// While tasks wait and others end, there is one more worker now and then; while none ends, there are twice as many.
func TestRelief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 512)
		end := make(chan struct{})
		for range 500 {
			p.Go(task(func() { <-end }))
		}
		interval := func(ends, want int) {
			t.Helper()
			for range ends {
				end <- struct{}{}
			}
			time.Sleep(reliefInterval)
			synctest.Wait()
			if n := p.Stats().Running; n != want {
				t.Errorf("%d workers, want %d", n, want)
			}
		}
		for range patience {
			interval(1, p.eager)
		}
		interval(1, p.eager+1)
		for range patience {
			interval(1, p.eager+1)
		}
		interval(1, p.eager+2)
		interval(0, 2*(p.eager+2))
		interval(1, 2*(p.eager+2))
		interval(0, 4*(p.eager+2))
		for range patience { // what was noted of slowness is forgotten after that
			interval(1, 4*(p.eager+2))
		}
		close(end)
	})
}

// Tasks behind blocked ones get workers of their own, up to the bound.
func TestBlockedTasksDoNotHoldOthersUp(t *testing.T) {
	p := newPool(t, 200)
	release := make(chan struct{})
	var started sync.WaitGroup
	started.Add(200)
	for range 300 {
		p.Go(task(func() {
			select {
			case <-release:
			default:
				started.Done()
				<-release
			}
		}))
	}
	started.Wait() // 200 are blocked at the same time
	if st := p.Stats(); st.Running != 200 || st.Waiting != 100 {
		t.Errorf("%+v", st)
	}
	close(release)
}

// A panic is counted and logged with its stack, and what waits behind it runs.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	p, err := New(Config{Workers: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	p.Go(task(func() { panic("oops") }))
	p.Go(task(func() { close(done) }))
	<-done
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Stats().Panics != 1 || !strings.Contains(log.String(), "oops") || !strings.Contains(log.String(), "pool_test.go") {
		t.Errorf("%+v %s", p.Stats(), log.String())
	}
}

func TestClose(t *testing.T) {
	p := newPool(t, 2)
	release := make(chan struct{})
	var ran atomic.Int64
	for range 10 {
		p.Go(task(func() { <-release; ran.Add(1) }))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if err := p.Close(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("second: %v", err)
	}
	p.Go(task(func() { ran.Add(1) })) // still runs
	close(release)
	<-p.idle
	for ran.Load() != 11 {
		time.Sleep(time.Millisecond) // the one given after Close may have come after idle
	}
	// Tasks that come and go after all were done must not signal it twice.
	last := make(chan struct{})
	p.Go(task(func() { close(last) }))
	<-last
}

func TestConfigValidate(t *testing.T) {
	if _, err := New(Config{Workers: -1}); err == nil || !strings.Contains(err.Error(), "workers") {
		t.Error(err)
	}
}

// The ring against its naive twin, a slice.
func TestRing(t *testing.T) {
	var r ring
	var twin []int
	got := 0
	for i := range 5000 {
		for range i % 7 {
			n := len(twin)*3 + i
			twin = append(twin, n)
			r.push(task(func() { got = n }))
		}
		for range i % 5 {
			item, ok := r.pop()
			if ok != (len(twin) > 0) {
				t.Fatalf("step %d: pop %v with %d waiting", i, ok, len(twin))
			}
			if ok {
				if item.Run(); got != twin[0] {
					t.Fatalf("step %d: got %d, want %d", i, got, twin[0])
				}
				twin = twin[1:]
			}
		}
		if r.len() != len(twin) {
			t.Fatalf("step %d: length %d, want %d", i, r.len(), len(twin))
		}
	}
	for r.n > 0 {
		r.pop()
	}
	if len(r.tasks) > minRing {
		t.Errorf("room for %d tasks is kept", len(r.tasks))
	}
}

// owner counts what its inbox brings, and whether it ever runs twice at once.
type owner struct {
	inbox Inbox
	pool  *Pool
	busy  atomic.Int32
	twice atomic.Int32
	got   [4]uint32 // next number of each pusher
	wrong int
	done  sync.WaitGroup
}

func (o *owner) Run() {
	if o.busy.Add(1) != 1 {
		o.twice.Add(1)
	}
	if batch := o.inbox.Take(); batch != nil {
		for kind, payload, ok := batch.Next(); ok; kind, payload, ok = batch.Next() {
			if binary.LittleEndian.Uint32(payload) != o.got[kind] || len(payload) != 4+int(o.got[kind])%50 {
				o.wrong++
			}
			o.got[kind]++
			o.done.Done()
		}
		batch.Release()
	}
	o.busy.Add(-1)
	if o.inbox.Done() {
		o.pool.Go(o)
	}
}

// Nothing is lost or reordered, and an owner never runs twice at once, with several pushers.
func TestInbox(t *testing.T) {
	p := newPool(t, 8)
	const owners, pushers, each = 5, 4, 3000
	var all sync.WaitGroup
	for range owners {
		o := &owner{pool: p}
		o.done.Add(pushers * each)
		for k := range pushers {
			all.Go(func() {
				payload := make([]byte, 64)
				for i := range uint32(each) {
					binary.LittleEndian.PutUint32(payload, i)
					if schedule, _ := o.inbox.Push(byte(k), payload[:4+i%50]); schedule {
						p.Go(o)
					}
				}
			})
		}
		all.Go(func() {
			o.done.Wait()
			if o.wrong > 0 || o.twice.Load() > 0 {
				t.Errorf("%d records wrong, %d runs at once", o.wrong, o.twice.Load())
			}
		})
	}
	all.Wait()
}

func TestInboxRecords(t *testing.T) {
	var in Inbox
	large := bytes.Repeat([]byte("x"), 200<<10)
	for _, tt := range []struct {
		kind    byte
		payload []byte
	}{{1, nil}, {2, []byte("a")}, {255, large}} {
		in.Push(tt.kind, tt.payload)
	}
	if want := 3*recordHeader + 1 + len(large); in.Waiting() != want {
		t.Errorf("%d bytes wait, want %d", in.Waiting(), want)
	}
	b := in.Take()
	for _, want := range [][]byte{nil, []byte("a"), large} {
		if _, payload, ok := b.Next(); !ok || !bytes.Equal(payload, want) {
			t.Fatalf("%d bytes, want %d", len(payload), len(want))
		}
	}
	if _, _, ok := b.Next(); ok {
		t.Error("one too many")
	}
	b.Release()
	if in.Take() != nil || in.Waiting() != 0 || in.Done() {
		t.Error("something is left")
	}
}

// A held inbox lets urgent records through at once, and has all others in their order when it is resumed.
func TestInboxHold(t *testing.T) {
	const a, b, wake, end = 1, 2, Urgent | 1, Urgent | 2
	var in Inbox
	push := func(schedule bool, kinds ...byte) {
		t.Helper()
		for _, kind := range kinds {
			if s, _ := in.Push(kind, nil); s != schedule {
				t.Errorf("%#x: schedule is %t", kind, s)
			}
		}
	}
	take := func(hold int, want ...byte) { // hold: after so many records
		t.Helper()
		var got []byte
		batch := in.Take()
		if batch != nil {
			for kind, _, ok := batch.Next(); ok; kind, _, ok = batch.Next() {
				if got = append(got, kind); len(got) == hold {
					in.Hold(batch)
					break
				}
			}
			batch.Release()
		}
		if !bytes.Equal(got, want) {
			t.Errorf("took %x, want %x", got, want)
		}
	}
	done := func(want bool) {
		t.Helper()
		if in.Done() != want {
			t.Errorf("scheduled again: %t", !want)
		}
	}
	push(true, a)
	push(false, b, wake, a)
	take(1, a) // and holds: b waits, the wake does not
	push(false, b)
	done(true)
	take(0, wake)
	done(false)
	push(false, a, b)
	push(true, wake)
	push(false, a, wake)
	take(1, wake) // holds again
	done(true)
	take(0, wake)
	in.Resume()
	push(false, wake, a)
	done(true)
	take(2, b, a)
	done(true)
	push(false, end)
	take(0, wake, end)
	done(false)
	in.Resume()
	done(true)
	take(0, b, a, b, a, a)
	done(false)
	in.Resume()
	if in.waiting != nil {
		t.Error("an empty inbox has a batch")
	}
	push(true, a)
	take(1, a) // holds, with nothing left
	done(false)
	in.Resume()
	done(false)
	push(true, b)
	take(0, b)
	done(false)
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Inbox{}); n > 24 {
		t.Errorf("an Inbox has %d bytes", n)
	}
}

type nothing struct{ _ int }

func (*nothing) Run() {}

func BenchmarkGo(b *testing.B) {
	p := newPool(b, 2)
	b.ReportAllocs()
	t := &nothing{}
	for b.Loop() {
		p.Go(t)
	}
}
