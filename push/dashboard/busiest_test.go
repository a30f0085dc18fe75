package dashboard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// A few channels have much to do among very many that have little: they are found, with about their rates, at any load, and with bounded memory.
func TestBusiest(t *testing.T) {
	for _, perSecond := range []int{100, 5000, 50_000, 200_000} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			t.Parallel()
			var b Busiest
			random := rand.New(rand.NewPCG(1, 2))
			var list []Channel
			for range 10 {
				for range perSecond {
					switch n := random.IntN(100); {
					case n < 20:
						b.Published("a", 10, 100)
					case n < 30:
						b.Published("b", 10, 50)
					default:
						b.Published(fmt.Sprint("rare:", random.IntN(1_000_000)), 1, 10)
					}
				}
				if list = b.Tick(3); len(list) > 3 || len(b.known) > maxBusy || len(b.known) != len(b.order) {
					t.Fatalf("%d listed, %d known, %d in order", len(list), len(b.known), len(b.order))
				}
			}
			if len(list) < 2 || list[0].Name != "a" || list[1].Name != "b" {
				t.Fatalf("found %+v", list)
			}
			near := func(what string, got, want float64) {
				// In a window of five seconds so many were counted; each of a sample is off by its root.
				if math.Abs(got-want) > want*.5 {
					t.Errorf("%s: %.1f, want about %.1f", what, got, want)
				}
			}
			rate := float64(perSecond) / 5
			near("messages", list[0].Messages, rate)
			near("deliveries", list[0].Deliveries, 10*rate)
			near("bytes", list[0].Bytes, 100*rate)
			near("messages of the second", list[1].Messages, rate/2)
		})
	}
}

// One that becomes busy when all places are taken, among others that are there once each, is not given up for the next of them.
func TestBusiestComesLate(t *testing.T) {
	var b Busiest
	for i := range 4 * maxBusy { // few enough that each counts
		b.Published(fmt.Sprint("old:", i%maxBusy), 0, 1)
	}
	for i := range 300 {
		b.Published("late", 0, 1)
		b.Published(fmt.Sprint("once:", i), 0, 1)
	}
	if list := b.Tick(1); list[0].Name != "late" || list[0].Messages < 250 {
		t.Errorf("the busiest is %+v", list)
	}
}

func TestBusiestFades(t *testing.T) {
	var b Busiest
	name := strings.Repeat("x", 10)
	for range 1000 {
		b.Published(name, 5, 1)
	}
	if list := b.Tick(5); len(list) != 1 || list[0].Messages != 1000 || list[0].Deliveries != 5000 {
		t.Fatalf("after a second: %+v", list)
	}
	// Nothing in the second after: of a window of both that is 1000 × 0.8 / (1 + 0.8) in each.
	if list := b.Tick(5); len(list) != 1 || math.Abs(list[0].Messages-444.4) > 1 || math.Abs(list[0].Deliveries-2222.2) > 1 {
		t.Fatalf("after another: %+v", list)
	}
	seconds := 1
	for ; len(b.Tick(5)) > 0; seconds++ {
		if seconds > 100 {
			t.Fatal("it never goes")
		}
	}
	if len(b.known) != 0 || seconds < 10 {
		t.Errorf("gone after %d s, %d known", seconds, len(b.known))
	}
	b.Published("y", 1, 1)
	b.Reset()
	if list := b.Tick(5); len(list) != 0 {
		t.Errorf("after a reset: %+v", list)
	}
}

func TestBusiestAtOnce(t *testing.T) {
	var b Busiest
	var running sync.WaitGroup
	for g := range 8 {
		running.Go(func() {
			for i := range 5000 {
				b.Published(fmt.Sprint(g, i%700), i%3, i)
				if i%1000 == 0 {
					b.Tick(10)
				}
			}
		})
	}
	running.Wait()
	for i, c := range b.order {
		if c.place != i || b.known[c.name] != c {
			t.Fatalf("the heap has %q at %d, which says %d", c.name, i, c.place)
		}
	}
}

func BenchmarkPublished(b *testing.B) {
	for _, channels := range []int{10, 1_000_000} {
		b.Run(fmt.Sprint("channels=", channels), func(b *testing.B) {
			names := make([]string, min(channels, 1<<16))
			for i := range names {
				names[i] = fmt.Sprint("channel:", i)
			}
			var busiest Busiest
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%200_000 == 0 { // as at so many a second
					busiest.Tick(20)
				}
				busiest.Published(names[i%len(names)], 10, 100)
			}
		})
	}
}
