package roster

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The heap against a map that is looked through.
func TestDeadlines(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var d Deadlines[*Due]
	naive := map[*Due]uint32{}
	clients := make([]*Due, 200)
	for i := range clients {
		clients[i] = new(Due)
	}
	now := uint32(0)
	for range 20_000 {
		c := clients[random.IntN(len(clients))]
		switch random.IntN(10) {
		case 0, 1, 2, 3, 4:
			at := now + uint32(random.IntN(50))
			d.Set(c, at)
			naive[c] = at
		case 5, 6, 7:
			d.Remove(c)
			delete(naive, c)
		default:
			now += uint32(random.IntN(4))
			got := d.Take(now)
			var want []*Due
			for c, at := range naive {
				if at <= now {
					want = append(want, c)
				}
			}
			for i, c := range got {
				if i > 0 && got[i-1].at > c.at {
					t.Fatal("not in the order of time")
				}
				if !slices.Contains(want, c) {
					t.Fatalf("%d is not due at %d", naive[c], now)
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d are due, want %d", len(got), len(want))
			}
			maps.DeleteFunc(naive, func(_ *Due, at uint32) bool { return at <= now })
		}
		if len(d.queue) != len(naive) {
			t.Fatalf("%d are in the heap, want %d", len(d.queue), len(naive))
		}
		for i, c := range d.queue {
			if int(c.index) != i+1 {
				t.Fatalf("number %d says that it is %d", i+1, c.index)
			}
		}
	}
}

// Seconds are rounded up, and none but those that are over are nothing.
func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		math.MinInt64: 0, -1: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, time.Hour: 3600,
		1 << 30 * time.Second: 1 << 30, (1<<30 + 1) * time.Second: 1 << 30, math.MaxInt64 - 1: 1 << 30, math.MaxInt64: 1 << 30,
	} {
		if got := Seconds(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}

// What a storm has left is given back.
func TestDeadlinesShrink(t *testing.T) {
	var d Deadlines[*Due]
	for range 10_000 {
		d.Set(new(Due), 1)
	}
	last := new(Due)
	d.Set(last, 3)
	d.Take(1)
	d.Take(2)
	d.Take(2)
	d.Take(2)
	if c := cap(d.queue); c > 2048 {
		t.Errorf("there is room for %d", c)
	}
	if got := d.Take(3); len(got) != 1 || got[0] != last {
		t.Errorf("%v are due", got)
	}
}
