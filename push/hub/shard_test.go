package hub

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Subscription{}); n > 48 {
		t.Errorf("Subscription has %d bytes, budget 48", n)
	}
	if n := unsafe.Sizeof(channel{}); n > 128 {
		t.Errorf("channel has %d bytes, budget 128", n)
	}
}

type tally int

func (n *tally) Deliver(b *Batch) { *n += tally(len(b.Publications())) }

// TestRemovalDuringDelivery removes and adds at random between the holds of the
// lock. Whoever was there at the beginning and still is at the end must have
// been served once; the others at most once, newcomers never.
func TestRemovalDuringDelivery(t *testing.T) {
	for range 300 {
		b := &bucket{hub: &Hub{config: Config{}.withDefaults()}}
		s := &newChannel(b, "c").first
		var old, added []*Subscription
		join := func() *Subscription {
			sub := &Subscription{subscriber: new(tally), shard: s, state: live}
			s.add(sub)
			return sub
		}
		for range 1 + rand.IntN(200) {
			old = append(old, join())
		}
		s.queueMu.Lock()
		s.queue = newBatch()
		s.queue.add(new(Publication))
		s.end++
		s.running = true
		s.queueMu.Unlock()
		batch, first := s.take()
		gone := map[*Subscription]bool{}
		for s.deliverSome(batch, first) {
			for range rand.IntN(20) {
				victim := old[rand.IntN(len(old))]
				s.remove(victim)
				gone[victim] = true
			}
			for range rand.IntN(10) {
				added = append(added, join())
			}
		}
		for i, sub := range old {
			n := int(*sub.subscriber.(*tally))
			if n > 1 || n == 0 && !gone[sub] {
				t.Fatalf("subscriber %d of %d got the publication %d times, gone %t", i, len(old), n, gone[sub])
			}
		}
		for _, sub := range added {
			if n := *sub.subscriber.(*tally); n != 0 {
				t.Fatalf("a newcomer got %d publications", n)
			}
		}
	}
}

func TestShardGivesMemoryBack(t *testing.T) {
	b := &bucket{hub: &Hub{config: Config{}.withDefaults()}}
	s := &newChannel(b, "c").first
	var subs []*Subscription
	for range 1024 {
		sub := &Subscription{subscriber: new(tally), shard: s}
		subs = append(subs, sub)
		s.add(sub)
	}
	for i, sub := range subs {
		s.remove(sub)
		if left := len(subs) - i - 1; cap(s.subs) > max(32, 4*left+8) {
			t.Fatalf("capacity %d for %d subscribers", cap(s.subs), left)
		}
	}
	if s.subs != nil {
		t.Errorf("capacity %d for nobody", cap(s.subs))
	}
}
