package session

import (
	"math"
	"runtime"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/handshake"
	"github.com/millpond/millpond/poller"
)

// tickInterval is the unit of the server's clock: how exact its deadlines are.
const tickInterval = 100 * time.Millisecond

const ticksPerSecond = uint32(time.Second / tickInterval)

// maxCatchUp is how many ticks the clock takes at once when the process was held up.
// It counts the time in which the server could have listened: after a freeze
// of a minute, nobody is thrown out for a pong that nobody read.
const maxCatchUp = 2

// runClock advances the clock until stop is closed.
func (srv *Server) runClock() {
	defer close(srv.clockDone)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-srv.stopClock:
			return
		case now := <-ticker.C:
			ticks := int(now.Sub(last) / tickInterval) // on the monotonic clock
			last = last.Add(time.Duration(ticks) * tickInterval)
			for range min(ticks, maxCatchUp) {
				srv.tick()
			}
		}
	}
}

// stopTicking ends runClock.
func (srv *Server) stopTicking() {
	srv.stopOnce.Do(func() { close(srv.stopClock) })
	<-srv.clockDone
}

// tick is one step of the clock: it ends what is overdue, and sends the pings of one phase.
func (srv *Server) tick() {
	now := srv.clock.Add(1)
	if now%ticksPerSecond == 0 {
		srv.poller.Probe()
		srv.pool.Probe()
		srv.tasks.Probe()
		srv.ages.note(&srv.table, time.Now())
	}
	srv.handshakes.settle(srv.isHandshaking)
	for id, ok := srv.handshakes.expired(now); ok; id, ok = srv.handshakes.expired(now) {
		if s := srv.table.Get(id); s != nil {
			s.refuse(handshake.ErrHeaderTimeout) // does nothing to those that are through
		}
	}
	for id, ok := srv.closings.expired(now); ok; id, ok = srv.closings.expired(now) {
		if s := srv.table.Get(id); s != nil {
			srv.closeTimeouts.Add(1)
			s.conn.Abort(nil)
		}
	}
	srv.drainSome()
	if srv.pingTicks > 0 {
		srv.sendPings(now)
		pinged := (now - srv.pongTicks) % srv.pingTicks
		srv.table.phase(pinged, srv.pingTicks, func(s *Session) { s.checkPong(now) })
	}
}

// minBurst is how many pings are sent in one go, and maxAhead for how many ticks ahead of their time, so that few sessions
// do not wake the process for a handful each: with 15,000 of them on 2 cores, heartbeats take 1.1 % of a core instead
// of 2.4 % (millpond bench idle --hold 25s).
const (
	minBurst = 2048
	maxAhead = 10

	// yieldAfter pings, half a millisecond, others may run.
	yieldAfter = 64
)

// sendPings sends the pings of the phase now and, if these are few, of those that follow. A session's next one comes
// an interval later all the same, and its answer has a little more time.
func (srv *Server) sendPings(now uint32) {
	if int32(now-srv.pinged) <= 0 {
		return
	}
	last := now + srv.ahead()
	for sent := 0; sent < minBurst && int32(last-now) >= 0; now++ {
		srv.table.phase(now%srv.pingTicks, srv.pingTicks, func(s *Session) {
			s.ping()
			if sent++; sent%yieldAfter == 0 {
				runtime.Gosched() // so that no loop waits for the rest of a burst
			}
		})
		srv.pinged = now
	}
}

// ahead is by how many ticks a ping may come before its time.
func (srv *Server) ahead() uint32 {
	return min(maxAhead, srv.pongTicks/8, srv.pingTicks-srv.pongTicks-1)
}

func (srv *Server) isHandshaking(id uint64) bool {
	s := srv.table.Get(id)
	return s != nil && s.state.Load() == handshaking
}

// ping sends the heartbeat.
func (s *Session) ping() {
	if s.state.Load() != open {
		return
	}
	frame := codec.Ping
	if pings := s.endpoint.pings; pings != nil {
		choice := byte(s.flags.Load() >> heartbeatShift)
		if choice == 0 {
			return
		}
		frame = pings[choice-1]
		s.awaitPong() // before it leaves
	}
	_, err := s.conn.Send(frame.Bytes(), poller.Out{Pinned: true, Key: keyPing})
	if err == nil {
		s.srv.pings.Add(1)
		return
	}
	_ = s.sendError(err)
}

// checkPong ends a session that was sent a ping pongTicks ago, or a little more, and of which nothing
// was received since. While we do not read, its silence says nothing.
func (s *Session) checkPong(now uint32) {
	silent := now - s.lastSeen.Load()
	if s.state.Load() != open || silent <= s.srv.pongTicks+s.srv.ahead() || s.readingPaused() {
		return
	}
	if s.endpoint.pings != nil && s.flags.Load()>>unansweredShift == 0 {
		return
	}
	s.fail(s.ending(ReasonPongTimeout), true)
}

// BeginHeartbeat lets the protocol's own heartbeats begin, with the message i of Endpoint.Pings; once for a session.
func (s *Session) BeginHeartbeat(i int) {
	s.flags.Or(uint32(i+1) << heartbeatShift)
}

// awaitPong notes that a heartbeat of Endpoint.Pings is sent.
func (s *Session) awaitPong() {
	for f := s.flags.Load(); f <= math.MaxUint32-oneUnanswered && !s.flags.CompareAndSwap(f, f+oneUnanswered); {
		f = s.flags.Load()
	}
}

// Answered notes that the client has answered a heartbeat, in the protocol's own way, and reports whether
// one was unanswered. There may be several: the answers of a client whose messages wait, too.
func (s *Session) Answered() bool {
	for {
		f := s.flags.Load()
		if f>>unansweredShift == 0 {
			return false
		}
		if s.flags.CompareAndSwap(f, f-oneUnanswered) {
			s.srv.counter(s).pongs.Add(1)
			return true
		}
	}
}

// maxTicks is as good as never, three years, and far from where the clock's arithmetic wraps.
const maxTicks = 1 << 30

// ticks converts d, rounded up.
func ticks(d time.Duration) uint32 {
	d = min(max(d, 0), maxTicks*tickInterval)
	return uint32((d + tickInterval - 1) / tickInterval)
}
