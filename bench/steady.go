package bench

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// steady is a load of messages at a fixed rate, each of which waits for its echo. Latencies count from the time at which a
// message was due, so that a client that could not send for want of an answer does not hide it.
type steady struct {
	load    *load
	rate    int       // messages a second, in all
	clients []*client // that send, one after the other
	laps    []laps    // by loop
	next    int       // of clients, whose turn it is
}

func newSteady(l *load, rate int) *steady {
	s := &steady{load: l, rate: rate}
	for range l.poller.Loops() {
		s.laps = append(s.laps, laps{h: newHistogram()})
	}
	return s
}

// begin makes the clients of the load, which are all open, ready.
func (s *steady) begin() {
	s.load.lap = s.lap
	for _, c := range s.load.clients {
		c.idle.Store(true)
	}
}

// laps are the latencies that one loop has seen.
type laps struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
}

// lap takes note that a client's messages have come back.
func (s *steady) lap(c *client, took time.Duration) {
	l := &s.laps[c.conn.Loop()]
	l.mu.Lock()
	_ = l.h.RecordValue(took.Nanoseconds())
	l.mu.Unlock()
	c.idle.Store(true)
}

// reset returns what was seen since the last call.
func (s *steady) reset() *hdrhistogram.Histogram {
	all := newHistogram()
	for i := range s.laps {
		l := &s.laps[i]
		l.mu.Lock()
		all.Merge(l.h)
		l.h.Reset()
		l.mu.Unlock()
	}
	return all
}

// phaseOf is what a phase's latencies say.
func phaseOf(h *hdrhistogram.Histogram) (p StallPhase) {
	p.Messages = h.TotalCount()
	p.P50, p.P99, p.Max = time.Duration(h.ValueAtQuantile(50)), time.Duration(h.ValueAtQuantile(99)), time.Duration(h.Max())
	return p
}

// pace sends the messages that are due, every millisecond, for as long as d or until stop is closed.
func (s *steady) pace(ctx context.Context, d time.Duration, stop <-chan struct{}) error {
	begin := time.Since(began)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return nil
		case <-ticker.C:
		}
		elapsed := time.Since(began) - begin
		if elapsed >= d {
			return nil
		}
		for ; sent < int(elapsed.Seconds()*float64(s.rate)); sent++ {
			due := begin + time.Duration(float64(sent)/float64(s.rate)*float64(time.Second))
			s.sendOne(due)
		}
	}
}

// sendOne lets the next client whose answer is in send what was due.
func (s *steady) sendOne(due time.Duration) {
	for range s.clients {
		c := s.clients[s.next]
		s.next = (s.next + 1) % len(s.clients)
		if c.idle.CompareAndSwap(true, false) {
			c.turn = (c.turn + 1) % variants
			c.sendBatch(&c.load.batches[c.turn], due)
			return
		}
	}
}
