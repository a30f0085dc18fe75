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
	if n := unsafe.Sizeof(Publication{}); n > 64 {
		t.Errorf("a publication takes %d bytes, want at most 64: there may be one for each connection", n)
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
		s.queue.push(new(Publication), s.end)
		s.end++
		s.running = true
		s.queueMu.Unlock()
		batch := s.take()
		gone := map[*Subscription]bool{}
		for s.deliverSome(batch) {
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

// claim has nobody else take what waits.
func (s *shard) claim() {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	s.running = true
}

// A queue that is taken in pieces stays what it is: joins that were taken cannot be taken out, those that wait can.
func TestQueueIsTakenInPieces(t *testing.T) {
	const most, clients = 4, 10
	b := &bucket{hub: &Hub{config: Config{MaxWaiting: most}.withDefaults()}}
	for range 200 {
		s := &newChannel(b, "c").first
		sub := &Subscription{subscriber: new(tally), shard: s, state: live}
		s.add(sub)
		s.reserved = 1
		sub.ReceiveEvents()
		s.claim()
		here, told := [clients]bool{}, [clients]bool{}
		take := func() bool {
			batch := s.take()
			defer s.claim()
			if batch == nil {
				return false
			}
			if n := len(batch.publications); n > most {
				t.Fatalf("%d were taken", n)
			}
			for _, p := range batch.publications {
				if p.Kind == KindMessage {
					continue
				}
				client := p.Info.Client[0] - 'a'
				if told[client] == (p.Kind == KindJoin) {
					t.Fatalf("%s: %d, which is told already", p.Info.Client, p.Kind)
				}
				told[client] = p.Kind == KindJoin
			}
			batch.done(nil)
			return true
		}
		for range 300 {
			client := rand.IntN(clients)
			p := &Publication{Kind: KindJoin, Info: &ClientInfo{Client: string(rune('a' + client))}}
			if here[client] {
				p.Kind = KindLeave
			}
			here[client] = !here[client]
			s.enqueue(p)
			if rand.IntN(5) == 0 {
				s.enqueue(new(Publication))
			}
			waiting, refused := 0, 0
			if rand.IntN(8) == 0 {
				take()
			}
			if err := s.check(&waiting, &refused); err != nil {
				t.Fatal(err)
			}
			if n := b.waiting.Load(); n != int64(waiting) {
				t.Fatalf("the gauge says %d, %d wait", n, waiting)
			}
		}
		for take() {
		}
		if told != here {
			t.Fatalf("told %v, here %v", told, here)
		}
	}
}
