package session

import (
	"testing"

	"github.com/millpond/millpond/codec"
)

// heartbeatServer pings every 50 ticks and wants an answer within 20. Its clock stands:
// these tests tick by hand.
func heartbeatServer(t *testing.T, h Handler) *testServer {
	s := startServer(t, Config{
		PingInterval: 50 * tickInterval, PongTimeout: 20 * tickInterval,
		Endpoints: []Endpoint{{Path: "/echo", Inline: true, Handler: h}},
	})
	s.stopTicking()
	return s
}

// Every open session gets one ping in an interval, and they are spread evenly over it, in bursts of a few ticks.
func TestPingsAreSpread(t *testing.T) {
	s := heartbeatServer(t, echoHandler{})
	const sessions, intervals = 500, 3
	var clients []*raw
	for range sessions {
		clients = append(clients, s.open())
	}
	burst := int64(s.ahead()+1) * (sessions/50 + tableShards)
	most := int64(0)
	for range intervals*s.pingTicks + s.ahead() { // the clock had begun before it was stopped, some phases ahead
		before := s.pings.Load()
		s.table.Range(func(s *Session) { s.lastSeen.Store(s.srv.clock.Load()) }) // everybody answers
		s.tick()
		most = max(most, s.pings.Load()-before)
	}
	if n := s.pings.Load(); n < intervals*sessions || n > intervals*sessions+2*burst {
		t.Errorf("%d pings in %d intervals, want one in each for each of %d sessions", n, intervals, sessions)
	}
	if most > burst {
		t.Errorf("%d pings in a tick, want %d at most", most, burst)
	}
	for _, c := range clients {
		c.expect("ping ", "ping ", "ping ")
	}
}

// A client that says nothing but its pongs, at once, is alive, though its pings may come before their time.
func TestPongsSuffice(t *testing.T) {
	s := heartbeatServer(t, echoHandler{})
	c := s.open()
	for range 4 * s.pingTicks {
		before := s.pings.Load()
		s.tick()
		if s.pings.Load() == before {
			continue
		}
		now := s.clock.Load()
		c.expect("ping ")
		c.write(masked(codec.OpPong, true, ""))
		eventually(t, "the pong is seen", func() bool {
			seen := false
			s.Range(func(s *Session) { seen = s.lastSeen.Load() == now })
			return seen
		})
	}
	c.write(text("alive"))
	c.expect("text alive")
}

func TestPongTimeout(t *testing.T) {
	closed := make(chan Status, 10)
	s := heartbeatServer(t, echoHandler{closed})
	dead, alive := s.open(), s.open()
	for i := range 75 {
		if i%10 == 0 { // any byte counts, a pong or not
			alive.write(masked(codec.OpPong, true, ""))
			id := s.clock.Load()
			eventually(t, "the byte is seen", func() bool {
				seen := 0
				s.Range(func(s *Session) {
					if s.lastSeen.Load() >= id {
						seen++
					}
				})
				return seen > 0
			})
		}
		s.tick()
	}
	if op, _ := dead.next(); op != codec.OpPing {
		t.Errorf("got %v, want a ping", op)
	}
	dead.expectClose(1011)
	_ = dead.Close()
	if why := receive(t, closed); why.Reason != ReasonPongTimeout {
		t.Errorf("closed with %+v", why)
	}
	if len(closed) > 0 {
		t.Errorf("the living was closed with %+v", <-closed)
	}
}

// While we do not read, a client's silence says nothing.
func TestPongTimeoutSparesThePaused(t *testing.T) {
	sessions := make(chan *Session, 1)
	s := heartbeatServer(t, Funcs{Open: func(s *Session) { sessions <- s }})
	s.open()
	session := receive(t, sessions)
	session.pauseReading(inboxFull)
	for range 200 {
		s.tick()
	}
	if s.Session(session.ID()) == nil {
		t.Error("the paused session was closed")
	}
	session.resumeReading(inboxFull)
}

// A frozen process comes back and throws nobody out: the clock counts the time it lived.
func TestClockAfterAFreeze(t *testing.T) {
	if maxCatchUp > 2 {
		t.Errorf("the clock catches up by %d ticks at once", maxCatchUp)
	}
}

func TestTable(t *testing.T) {
	var table Table
	all := map[uint64]*Session{}
	var ids []uint64
	for range 5000 {
		s := &Session{}
		table.add(s)
		if all[s.ID()] != nil {
			t.Fatalf("id %d twice", s.ID())
		}
		all[s.ID()] = s
		ids = append(ids, s.ID())
	}
	for i, id := range ids {
		if i%3 == 0 {
			table.remove(all[id])
			delete(all, id)
		}
	}
	for range 500 { // into the free slots
		s := &Session{}
		table.add(s)
		if all[s.ID()] != nil {
			t.Fatalf("id %d twice", s.ID())
		}
		all[s.ID()] = s
	}
	for _, id := range ids {
		if got := table.Get(id); got != all[id] {
			t.Fatalf("Get(%d) = %p, want %p", id, got, all[id])
		}
	}
	for _, count := range []uint32{1, 2, 7, 250, 6000} {
		seen := map[*Session]int{}
		for n := range count {
			table.phase(n, count, func(s *Session) { seen[s]++ })
		}
		for _, s := range all {
			if seen[s] != 1 {
				t.Fatalf("%d phases: a session was touched %d times", count, seen[s])
			}
		}
		if len(seen) != len(all) || table.Len() != len(all) {
			t.Fatalf("%d phases: %d sessions, %d counted, want %d", count, len(seen), table.Len(), len(all))
		}
	}
	if table.Get(1<<63) != nil || table.Get(0) != nil {
		t.Error("found a session that never was")
	}
}

func TestDeadlines(t *testing.T) {
	var d deadlines
	for i := range 10000 {
		d.add(uint64(i), uint32(i/10))
	}
	d.settle(func(id uint64) bool { return id%2 == 0 })
	d.add(10001, 1000)
	next := uint64(0)
	for now := range uint32(1000) {
		for id, ok := d.expired(now); ok; id, ok = d.expired(now) {
			if id != next || uint32(id/10) > now {
				t.Fatalf("tick %d: %d expired, want %d", now, id, next)
			}
			next += 2
		}
		if want := uint64(now+1) * 10; next != want {
			t.Fatalf("tick %d: up to %d expired, want %d", now, next, want)
		}
	}
	if id, ok := d.expired(1000); id != 10001 || !ok {
		t.Errorf("%d %v", id, ok)
	}
	if _, ok := d.expired(1001); ok || cap(d.entries) > minDeadlines {
		t.Errorf("room for %d entries is kept", cap(d.entries))
	}
}
