package poller

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twin is the queue as one would write it without a thought for speed: a new slice at
// each step, every sum counted afresh.
type twin struct {
	items []twinItem
	sent  int
}

type twinItem struct {
	b      []byte
	key    uint64
	pinned bool
}

func (q *twin) bytes() int {
	n := -q.sent
	for _, w := range q.items {
		n += len(w.b)
	}
	return n
}

// whole tells whether the kernel has taken nothing of item i.
func (q *twin) whole(i int) bool { return i > 0 || q.sent == 0 }

func (q *twin) without(i int) *twin {
	return &twin{items: append(append([]twinItem(nil), q.items[:i]...), q.items[i+1:]...), sent: q.sent}
}

func (q *twin) fits(b []byte, lim Limits) bool {
	return len(q.items) == 0 || q.bytes()+len(b) <= lim.Bytes && len(q.items)+1 <= lim.Buffers
}

// push returns the queue after it, so that a step that comes to nothing leaves no trace.
func (q *twin) push(b []byte, o Out, lim Limits) (after *twin, dropped int, err error) {
	item := twinItem{b, o.Key, o.Pinned}
	if o.Key != 0 && (o.Pinned || o.Policy == Latest) {
		for i := len(q.items) - 1; i >= 0; i-- { // the newest, should there be several
			w := q.items[i]
			if w.key != o.Key || w.pinned != o.Pinned || !q.whole(i) {
				continue
			}
			rest := q.without(i)
			if !o.Pinned && len(b) > len(w.b) && len(rest.items) > 0 && rest.bytes()+len(b) > lim.Bytes {
				return q, 0, ErrQueueFull
			}
			rest.items = append(rest.items[:i:i], append([]twinItem{item}, rest.items[i:]...)...)
			return rest, 1, nil
		}
	}
	after = q
	if !o.Pinned && !q.fits(b, lim) {
		switch o.Policy {
		case DropNewest:
			return q, 1, nil
		case DropOldest:
			for i := 0; i < len(after.items) && !after.fits(b, lim); {
				if after.items[i].pinned || !after.whole(i) {
					i++
					continue
				}
				after = after.without(i)
				dropped++
			}
			if !after.fits(b, lim) {
				return q, 1, nil // it can't fit: nothing else is given up for it
			}
		default:
			return q, 0, ErrQueueFull
		}
	}
	return &twin{items: append(append([]twinItem(nil), after.items...), item), sent: after.sent}, dropped, nil
}

func (q *twin) advance(n int) *twin {
	items, sent := append([]twinItem(nil), q.items...), q.sent
	for ; n > 0; n-- {
		if sent++; sent == len(items[0].b) {
			items, sent = items[1:], 0
		}
	}
	return &twin{items, sent}
}

// dropWhole is what SendLast does to make room.
func (q *twin) dropWhole() *twin {
	kept := &twin{sent: q.sent}
	if q.sent > 0 {
		kept.items = q.items[:1]
	}
	return kept
}

// compare checks that the queue is its twin.
func compare(q *queue, want *twin) error {
	if len(q.items()) != len(want.items) || q.sent != want.sent || q.bytes != want.bytes() {
		return fmt.Errorf("%d items, %d sent, %d bytes; want %d, %d, %d",
			len(q.items()), q.sent, q.bytes, len(want.items), want.sent, want.bytes())
	}
	for i, w := range want.items {
		got := q.items()[i]
		if !bytes.Equal(got.b, w.b) || got.key != w.key || got.pinned != w.pinned {
			return fmt.Errorf("item %d is %q key %d pinned %v, want %q key %d pinned %v", i, got.b, got.key, got.pinned, w.b, w.key, w.pinned)
		}
		if i > 0 && got.since < q.items()[i-1].since {
			return fmt.Errorf("item %d is older than the one before it", i)
		}
	}
	for i, w := range slices.Concat(q.buf[:q.head], q.buf[len(q.buf):cap(q.buf)]) {
		if w.b != nil {
			return fmt.Errorf("a place that is free, %d, keeps %q alive", i, w.b)
		}
	}
	pinned, fixed := 0, 0
	for _, w := range want.items {
		if w.pinned {
			pinned += len(w.b)
			fixed++
		}
	}
	if q.pinned != pinned || q.fixed != fixed {
		return fmt.Errorf("%d bytes of %d are pinned, want %d of %d", q.pinned, q.fixed, pinned, fixed)
	}
	return nil
}

// runQueue replays a program, three bytes a step, on a queue and on its twin.
func runQueue(program []byte) error {
	lim := Limits{Bytes: 60, Buffers: 6}
	q, want := &queue{buf: make([]waiting, 0, 8)}, &twin{}
	for step := 0; len(program) >= 3; step++ {
		op, size, key := program[0], int(program[1]), uint64(program[2]%4)
		program = program[3:]
		what := ""
		switch {
		case op < 40 && q.bytes > 0:
			n := size % (q.bytes + 1)
			q.advance(n)
			want, what = want.advance(n), fmt.Sprintf("advance %d", n)
		case op < 44:
			q.dropWhole()
			want, what = want.dropWhole(), "dropWhole"
		default:
			o := Out{Policy: Policy(op % 4), Key: key, Pinned: op%16 == 0}
			if len(want.items) > 40 {
				o.Pinned = false
			}
			b := bytes.Repeat([]byte{byte('a' + step%26)}, 1+size%70)
			dropped, err := q.push(b, o, lim)
			after, wantDropped, wantErr := want.push(b, o, lim)
			want, what = after, fmt.Sprintf("push %d bytes %+v", len(b), o)
			if dropped != wantDropped || !errors.Is(err, wantErr) {
				return fmt.Errorf("step %d: %s: dropped %d, %v; want %d, %v", step, what, dropped, err, wantDropped, wantErr)
			}
		}
		if err := compare(q, want); err != nil {
			return fmt.Errorf("step %d: %s: %w", step, what, err)
		}
		if err := checkVec(q); err != nil {
			return fmt.Errorf("step %d: %s: %w", step, what, err)
		}
	}
	return nil
}

// checkVec checks that the vector holds the stream's next bytes.
func checkVec(q *queue) error {
	var v [maxVec]unix.Iovec
	total := 0
	n := q.vec(&v)
	for i := range n {
		total += int(v[i].Len)
	}
	if n == len(q.items()) && total != q.bytes || n > len(q.items()) || n < min(len(q.items()), maxVec) {
		return fmt.Errorf("vec has %d entries with %d bytes of %d items with %d", n, total, len(q.items()), q.bytes)
	}
	if n > 0 && v[0].Base != &q.items()[0].b[q.sent] {
		return errors.New("vec does not begin where the kernel left off")
	}
	return nil
}

func TestQueueAgainstTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		program := make([]byte, 3*(1+r.IntN(60)))
		for i := range program {
			program[i] = byte(r.Uint32())
		}
		if err := runQueue(program); err != nil {
			t.Fatalf("%v\nprogram %q", err, program)
		}
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte("zzzaaa\x00\x05zzzzz\x20\x10a\x2b  "))
	f.Fuzz(func(t *testing.T, program []byte) {
		if err := runQueue(program[:min(len(program), 600)]); err != nil {
			t.Fatal(err)
		}
	})
}

// TestQueuePolicies tells in words what the twin tells in code.
func TestQueuePolicies(t *testing.T) {
	key := func(p Policy, k uint64) Out { return Out{Policy: p, Key: k} }
	pinned := func(k uint64) Out { return Out{Pinned: true, Key: k} }
	type push struct {
		b       string
		o       Out
		dropped int
		err     error
	}
	cases := []struct {
		name   string
		sent   int // of the first buffer, before the others come
		pushes []push
		want   string
	}{
		{"an empty queue takes any size", 0, []push{{"0123456789abcdef", Out{}, 0, nil}}, "0123456789abcdef"},
		{"reject by bytes", 0, []push{{"12345", Out{}, 0, nil}, {"123456", Out{}, 0, ErrQueueFull}, {"12345", Out{}, 0, nil}}, "12345 12345"},
		{"reject by buffers", 0, []push{{"a", Out{}, 0, nil}, {"b", Out{}, 0, nil}, {"c", Out{}, 0, nil}, {"d", Out{}, 0, ErrQueueFull}}, "a b c"},
		{"what has left makes room", 4, []push{{"12345", Out{}, 0, nil}, {"123456789", Out{}, 0, nil}}, "12345 123456789"},
		{"drop the newest", 0, []push{{"123456", Out{}, 0, nil}, {"abcdef", key(DropNewest, 0), 1, nil}, {"z", key(DropNewest, 0), 0, nil}}, "123456 z"},
		{"drop the oldest, as many as needed", 0, []push{{"123", Out{}, 0, nil}, {"456", Out{}, 0, nil}, {"789", Out{}, 0, nil}, {"abcdef", key(DropOldest, 0), 2, nil}}, "789 abcdef"},
		{"the half sent stays", 1, []push{{"123", Out{}, 0, nil}, {"456", Out{}, 0, nil}, {"789", Out{}, 0, nil}, {"abcd", key(DropOldest, 0), 1, nil}}, "123 789 abcd"},
		{"the pinned stays", 0, []push{{"123", pinned(0), 0, nil}, {"456", Out{}, 0, nil}, {"789", Out{}, 0, nil}, {"abcd", key(DropOldest, 0), 1, nil}}, "123 789 abcd"},
		{"nothing is given up for what can't fit", 1, []push{{"123", Out{}, 0, nil}, {"456", Out{}, 0, nil}, {"0123456789", key(DropOldest, 0), 1, nil}}, "123 456"},
		{"pinned find room", 0, []push{{"1234567890", Out{}, 0, nil}, {"a", pinned(0), 0, nil}, {"b", pinned(0), 0, nil}, {"c", pinned(0), 0, nil}}, "1234567890 a b c"},
		{"of a pinned key only the newest waits", 0, []push{{"x", Out{}, 0, nil}, {"pong1", pinned(9), 0, nil}, {"pong22", pinned(9), 1, nil}}, "x pong22"},
		{"latest replaces in its place", 0, []push{{"a1", key(Latest, 1), 0, nil}, {"b1", key(Latest, 2), 0, nil}, {"a22", key(Latest, 1), 1, nil}}, "a22 b1"},
		{"latest replaces in a full queue", 0, []push{{"a1", key(Latest, 1), 0, nil}, {"12345678", Out{}, 0, nil}, {"a2", key(Latest, 1), 1, nil}}, "a2 12345678"},
		{"latest keeps the bound", 0, []push{{"a1", key(Latest, 1), 0, nil}, {"12345678", Out{}, 0, nil}, {"a22", key(Latest, 1), 0, ErrQueueFull}}, "a1 12345678"},
		{"latest without namesake and room", 0, []push{{"a1", key(Latest, 1), 0, nil}, {"12345678", Out{}, 0, nil}, {"b", key(Latest, 2), 0, ErrQueueFull}}, "a1 12345678"},
		{"latest beside the half sent", 1, []push{{"a1", key(Latest, 1), 0, nil}, {"a2", key(Latest, 1), 0, nil}, {"a3", key(Latest, 1), 1, nil}}, "a1 a3"},
		{"key 0 is none", 0, []push{{"a1", key(Latest, 0), 0, nil}, {"a2", key(Latest, 0), 0, nil}}, "a1 a2"},
		{"a pinned one is not replaced by one that is not", 0, []push{{"p1", pinned(1), 0, nil}, {"a1", key(Latest, 1), 0, nil}, {"p2", pinned(1), 1, nil}}, "p2 a1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			q := &queue{}
			for i, s := range c.pushes {
				dropped, err := q.push([]byte(s.b), s.o, Limits{Bytes: 10, Buffers: 3})
				if dropped != s.dropped || err != s.err {
					t.Errorf("push %q: dropped %d, %v; want %d, %v", s.b, dropped, err, s.dropped, s.err)
				}
				if i == 0 && c.sent > 0 {
					q.advance(c.sent)
				}
			}
			var all [][]byte
			for _, w := range q.items() {
				all = append(all, w.b)
			}
			if got := string(bytes.Join(all, []byte(" "))); got != c.want {
				t.Errorf("waits %q, want %q", got, c.want)
			}
		})
	}
}

// TestQueueAge waits for the clock of now, which is real, but for no more than a millisecond.
func TestQueueAge(t *testing.T) {
	q := &queue{}
	lim := Limits{Bytes: 100, Buffers: 10, Age: time.Millisecond}
	for _, b := range []string{"a", "b"} {
		if _, err := q.push([]byte(b), Out{}, Limits{Bytes: 100, Buffers: 10}); err != nil {
			t.Fatal(err)
		}
	}
	for begin := now(); now()-begin <= lim.Age; {
		runtime.Gosched()
	}
	for _, o := range []Out{{}, {Pinned: true}, {Policy: DropOldest}, {Policy: DropNewest}, {Policy: Latest, Key: 1}} {
		if n, err := q.push([]byte("c"), o, lim); n != 0 || err != ErrQueueStale {
			t.Errorf("%+v: %d dropped, %v", o, n, err)
		}
	}
	q.advance(2)
	if _, err := q.push([]byte("c"), Out{}, lim); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// TestQueueRelease checks that a queue in the pool refers to no buffer, and that one
// that was long is not kept.
func TestQueueRelease(t *testing.T) {
	q := &queue{}
	for range 10 {
		_, _ = q.push([]byte("x"), Out{Pinned: true}, Limits{})
	}
	q.release()
	if err := compare(q, &twin{}); err != nil {
		t.Error(err)
	}
	long := &queue{}
	for range maxPooledItems + 1 {
		_, _ = long.push([]byte("x"), Out{Pinned: true}, Limits{})
	}
	long.release()
	for range 100 {
		if queues.Get().(*queue) == long {
			t.Fatal("a long queue came out of the pool")
		}
	}
}

// TestQueueOnTheWire runs the policies against a stalled peer: what arrives is whole
// messages, the first one too, of which the kernel had taken a part.
func TestQueueOnTheWire(t *testing.T) {
	for name, o := range map[string]Out{
		"oldest": {Policy: DropOldest}, "newest": {Policy: DropNewest}, "latest": {Policy: Latest, Key: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 20_000, Buffers: 10}})
			e := &tape{}
			peer := stalled(t, p, e)
			dropped, sent := 0, 0
			for ; dropped < 200; sent++ {
				n, err := e.Send(frame(0, uint32(sent), 3000), o)
				if err != nil {
					t.Fatal(err)
				}
				dropped += n
			}
			e.Finish()
			arrived, last := 0, int64(-1)
			err := readFrames(peer, func(number uint32) error {
				if int64(number) <= last {
					return fmt.Errorf("message %d after %d", number, last)
				}
				arrived, last = arrived+1, int64(number)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if arrived+dropped != sent {
				t.Errorf("%d arrived and %d dropped of %d", arrived, dropped, sent)
			}
			if o.Policy != DropNewest && last != int64(sent-1) {
				t.Errorf("the last to arrive was %d, want %d", last, sent-1)
			}
		})
	}
}
