package roster

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is a client whose turns are goroutines that hold its lock.
type member struct {
	Entry[*member]
	roster *Roster[*member]
	turn   sync.Mutex
	idle   bool // nobody gives it a turn
	turns  sync.WaitGroup
}

func (m *member) Wake() bool {
	if !m.idle {
		m.turns.Go(func() {
			m.turn.Lock()
			defer m.turn.Unlock()
			m.roster.Run(m)
		})
	}
	return true
}

// The roster finds what a plain map would, also of users that share a hash.
func TestUsers(t *testing.T) {
	r := New[*member]()
	naive := map[string][]*member{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		user := strconv.Itoa(rng.IntN(50))
		if list := naive[user]; len(list) > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(len(list))
			r.Close(list[i])
			r.Close(list[i]) // the second time does nothing
			naive[user] = slices.Delete(slices.Clone(list), i, i+1)
		} else {
			m := &member{roster: r}
			if added := r.Add(m, user, 4); added != (len(list) < 4) {
				t.Fatalf("added %v to %d", added, len(list))
			} else if added {
				naive[user] = append(list, m)
			}
		}
		got := r.Of(user)
		if len(got) != len(naive[user]) || slices.ContainsFunc(got, func(m *member) bool { return !slices.Contains(naive[user], m) }) {
			t.Fatalf("of %s: %d, want %d", user, len(got), len(naive[user]))
		}
	}
	left := 0
	for user, list := range naive {
		left += min(len(list), 1)
		for _, m := range list {
			if m.User() != user {
				t.Errorf("%q is %q's", user, m.User())
			}
		}
	}
	if r.Users() != left {
		t.Errorf("%d users, want %d", r.Users(), left)
	}
	nobody := &member{roster: r}
	if !r.Add(nobody, "", 1) || len(r.Of("")) != 0 {
		t.Error("who has no user cannot be found")
	}
	r.Close(nobody)
}

func TestUsersThatShareAHash(t *testing.T) {
	r := New[*member]()
	a, b, c := &member{roster: r}, &member{roster: r}, &member{roster: r}
	r.Add(a, "a", 0)
	for _, m := range []*member{b, c} { // as if their users had a's hash
		m.user, m.sibling = "other", a.sibling
		a.sibling = m
	}
	if got := r.Of("a"); len(got) != 1 || got[0] != a {
		t.Errorf("%d of a", len(got))
	}
	r.Close(a)
	for hash, first := range r.first {
		if first != c || first.sibling != b || b.sibling != nil {
			t.Errorf("%x: %p %p", hash, first, first.sibling)
		}
	}
}

// Every task is carried out once, in order, one at a time, and none is lost when the client goes.
func TestTasks(t *testing.T) {
	r := New[*member]()
	m := &member{roster: r}
	running, did := false, 0
	task := func() {
		if running {
			t.Error("two at a time")
		}
		running = true
		did++
		running = false
	}
	var group sync.WaitGroup
	accepted := make(chan int, 8)
	for range 8 {
		group.Go(func() {
			n := 0
			for range 500 {
				if r.Do(m, task) {
					n++
				}
			}
			accepted <- n
		})
	}
	for closed := false; !closed; runtime.Gosched() { // in the midst of them
		m.turn.Lock()
		if closed = did >= 1000; closed {
			r.Close(m)
		}
		m.turn.Unlock()
	}
	group.Wait()
	m.turns.Wait()
	want := 0
	for range 8 {
		want += <-accepted
	}
	if did != want || r.Waiting() != 0 {
		t.Errorf("%d carried out of %d, %d left", did, want, r.Waiting())
	}
	if r.Do(m, task) {
		t.Error("a task for one that is gone")
	}
	idle, late := &member{roster: r, idle: true}, false
	r.Do(idle, func() { late = true })
	if r.Close(idle); !late {
		t.Error("a task that waited was forgotten by Close")
	}
}

func TestEach(t *testing.T) {
	r := New[*member]()
	gone := &member{roster: r}
	r.Close(gone)
	members := []*member{{roster: r}, gone, {roster: r}}
	wrong := errors.New("wrong")
	err := r.Each(t.Context(), members, func(m *member) error {
		if m == members[2] {
			return wrong
		}
		return nil
	})
	if !errors.Is(err, wrong) {
		t.Error(err)
	}
	if err := r.Each(t.Context(), members[:2], func(*member) error { return nil }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	idle := &member{roster: r, idle: true}
	if err := r.Each(ctx, []*member{idle}, func(*member) error { return nil }); !errors.Is(err, hub.ErrTooManyRequests) {
		t.Error(err)
	}
	r.Close(idle)
	for _, m := range members {
		m.turns.Wait()
	}
}

func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(Entry[*member]{}); n > 24 {
		t.Errorf("an entry takes %d bytes", n)
	}
}
