package tap

import (
	"context"
	"errors"
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/session"
)

// Request says what a capture is of, and how much it shows.
type Request struct {
	Filter
	Redaction
	// Token, if set, chooses the connections whose opening request has it in its query, as inspectParam; no other condition
	// counts.
	Token string
	// Duration and Count end the capture; Count is of frames. Zero is the server's bound, and none.
	Duration time.Duration
	Count    int64
	// MaxConnections bounds the connections at a time. Zero is the server's bound.
	MaxConnections int
}

// words says which connections are chosen.
func (r *Request) words() string {
	if r.Token != "" {
		return "own connection"
	}
	return r.Filter.String()
}

// Event is what a capture shows: something that a session.Tap saw, of a connection that was chosen. Payloads are as the
// Redaction says only where the Writer makes them so.
type Event struct {
	session.TapEvent
	Who Who
	// Known says that Who has changed; it comes apart, with an Opening first.
	Known bool
}

// Writer shows events. It is called by one goroutine.
type Writer interface {
	Write(e *Event) error
	// Flush sends what was written.
	Flush() error
	// End says why there is no more.
	End(s Summary) error
}

// Summary is what became of a capture.
type Summary struct {
	Reason      string // "duration", "count", "reader", "shutdown", "closed"
	Connections int64  // chosen
	Frames      int64  // shown
	Dropped     int64  // frames left out
}

// How often connections are looked for, and how long one that has just opened may wait to be known.
const (
	scanInterval = 500 * time.Millisecond
	maxPending   = 10 * time.Second
	// maxPendingConns and maxPendingEvents bound what is kept of connections that are not known yet.
	maxPendingConns  = 64
	maxPendingEvents = 64
	// scanShare bounds the part of its time that a capture spends on looking for connections.
	scanShare = 50
)

// capture is a Request while it runs.
type capture struct {
	// Immutable after run.
	taps     *Taps
	request  Request
	writer   Writer
	tap      *session.Tap
	seed     maphash.Seed
	budget   *rate.Limiter
	maxConns int

	// Owned by the reader.
	conns   map[uint64]*connection
	chosen  int // of conns
	scans   int
	summary Summary
}

// connection is one that is looked on at.
type connection struct {
	session *session.Session
	who     Who
	chosen  bool
	opened  time.Time
	pending []session.TapEvent // until it is chosen
	kept    int                // bytes of pending
	lost    [2]session.TapGap  // what did not fit into the budget, by direction
}

// errEnough ends a capture that has shown what it was asked for.
var errEnough = errors.New("enough")

// run shows what a request asks for until ctx ends, or it has enough; the error is the Writer's.
func (t *Taps) run(ctx context.Context, r Request, w Writer) (Summary, error) {
	limit := t.config.MaxDuration
	if r.Duration > 0 {
		limit = min(limit, r.Duration)
	}
	c := &capture{
		taps: t, request: r, writer: w, seed: maphash.MakeSeed(), conns: map[uint64]*connection{},
		budget:   rate.NewLimiter(rate.Limit(t.config.BytesPerSecond), t.config.BytesPerSecond+3*t.config.FrameBytes),
		maxConns: t.config.MaxConnections,
	}
	if r.MaxConnections > 0 {
		c.maxConns = min(c.maxConns, r.MaxConnections)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errDuration)
	defer cancel()
	defer context.AfterFunc(t.stopped, cancel)()
	c.tap = t.config.Engine().NewTap(session.TapConfig{
		BufferBytes: t.config.BufferBytes, FrameBytes: t.config.FrameBytes, OnOpening: c.onOpening,
	})
	defer c.end()
	err := c.follow(ctx)
	switch {
	case errors.Is(err, errEnough):
		c.summary.Reason, err = "count", nil
	case t.stopped.Err() != nil:
		c.summary.Reason, err = "shutdown", nil
	case errors.Is(context.Cause(ctx), errDuration):
		c.summary.Reason, err = "duration", nil
	case ctx.Err() != nil:
		c.summary.Reason, err = "closed", nil
	case err != nil:
		c.summary.Reason = "reader"
	}
	if err == nil {
		err = w.End(c.summary)
	}
	return c.summary, err
}

var errDuration = errors.New("the time is over")

// end gives everything back.
func (c *capture) end() {
	c.tap.Close()
	c.taps.connections.Add(-int64(c.chosen))
}

// follow shows events until ctx ends, or there is an error.
func (c *capture) follow(ctx context.Context) error {
	if err := c.writer.Flush(); err != nil {
		return err
	}
	for next := time.Now(); ; {
		if now := time.Now(); !now.Before(next) {
			if err := c.scan(now); err != nil {
				return err
			}
			next = now.Add(max(scanInterval, scanShare*time.Since(now)))
		}
		turn, cancel := context.WithDeadline(ctx, next)
		events, err := c.tap.Next(turn)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && turn.Err() == nil {
			return err
		}
		for i := range events {
			if err := c.see(&events[i]); err != nil {
				return errors.Join(err, c.writer.Flush())
			}
		}
		if len(events) > 0 {
			if err := c.writer.Flush(); err != nil {
				return err
			}
		}
	}
}

// onOpening chooses connections that open; loop goroutine.
func (c *capture) onOpening(tap *session.Tap, s *session.Session, o *session.TapOpening) bool {
	limit := c.maxConns
	switch {
	case c.request.Token != "":
		return tap.Attached() < limit && hasToken(o.Request, c.request.Token)
	case c.request.ID != "":
		return false // nobody knows one before
	case c.request.later():
		limit += maxPendingConns
	}
	return tap.Attached() < limit && c.request.fits(s, func() netip.Addr { return clientOf(o) }, c.seed)
}

func clientOf(o *session.TapOpening) netip.Addr {
	if o.Client.IsValid() {
		return o.Client
	}
	return o.Remote.Addr()
}

// scan looks for connections, and gives up those that nobody knows.
func (c *capture) scan(now time.Time) error {
	if c.due() {
		for _, s := range c.request.find(c.taps.config.Connections, c.maxConns, c.seed) {
			conn := c.conns[s.ID()]
			if c.chosen >= c.maxConns || conn != nil && conn.chosen {
				continue
			}
			if conn == nil {
				if !c.tap.Attach(s) {
					continue // it has ended, or its opening is on its way to us
				}
				conn = &connection{session: s, opened: now}
				c.conns[s.ID()] = conn
			}
			if err := c.choose(conn); err != nil {
				return err
			}
		}
	}
	for id, conn := range c.conns {
		switch {
		case conn.chosen:
			if err := c.know(conn, now); err != nil {
				return err
			}
		case now.Sub(conn.opened) > maxPending:
			c.drop(id)
		}
	}
	return nil
}

// due reports whether connections have to be looked for: those of a user and of a channel change all the time, others are
// there, or open, which onOpening sees, if there is room. Who goes by an id is not looked for in all connections that often.
func (c *capture) due() bool {
	c.scans++
	switch {
	case c.request.Token != "":
		return false
	case c.request.ID != "":
		return c.chosen == 0 && c.scans%10 == 1
	}
	return c.tap.Missed() || c.scans == 1 || c.request.later()
}

// drop forgets a connection.
func (c *capture) drop(id uint64) {
	c.tap.Detach(id)
	c.tap.Forget(id)
	c.release(id)
}

func (c *capture) release(id uint64) {
	conn := c.conns[id]
	if conn == nil {
		return
	}
	delete(c.conns, id)
	if conn.chosen {
		c.chosen--
		c.taps.connections.Add(-1)
	}
}

// choose shows a connection from now on, and what is known of it so far.
func (c *capture) choose(conn *connection) error {
	conn.chosen = true
	c.chosen++
	c.summary.Connections++
	c.taps.connections.Add(1)
	conn.who = c.taps.config.Connections.Who(conn.session)
	pending := conn.pending
	conn.pending = nil
	for i := range pending {
		if err := c.show(conn, &pending[i]); err != nil {
			return err
		}
	}
	if pending == nil {
		return nil
	}
	return c.writer.Flush()
}

// know tells when it becomes known who is behind a connection.
func (c *capture) know(conn *connection, now time.Time) error {
	who := c.taps.config.Connections.Who(conn.session)
	if who == conn.who || who == (Who{}) {
		return nil
	}
	conn.who = who
	e := &Event{Who: who, Known: true}
	e.Time, e.Session = now, conn.session.ID()
	if err := c.writer.Write(e); err != nil {
		return err
	}
	return c.writer.Flush()
}

// see handles an event of any connection.
func (c *capture) see(e *session.TapEvent) error {
	conn := c.conns[e.Session]
	if conn == nil {
		if e.Opening == nil {
			return nil
		}
		conn = &connection{session: e.Opening.Session(), opened: e.Time}
		c.conns[e.Session] = conn
		if !c.request.later() {
			if c.chosen >= c.maxConns {
				c.drop(e.Session)
				return nil
			}
			conn.pending = append(conn.pending, *e)
			return c.choose(conn)
		}
	}
	if !conn.chosen {
		conn.kept += bytesOf(e)
		if e.End != nil || len(conn.pending) >= maxPendingEvents || conn.kept > c.taps.config.BufferBytes/maxPendingConns {
			c.drop(e.Session)
			return nil
		}
		conn.pending = append(conn.pending, *e)
		return nil
	}
	err := c.show(conn, e)
	if e.End != nil {
		c.release(e.Session)
	}
	return err
}

// show writes an event of a connection that is chosen, if there is room.
func (c *capture) show(conn *connection, e *session.TapEvent) error {
	if f := e.Frame; f != nil {
		side := 0
		if f.FromClient {
			side = 1
		}
		lost := &conn.lost[side]
		if !c.budget.AllowN(time.Now(), bytesOf(e)) {
			lost.FromClient = f.FromClient
			lost.Frames++
			lost.Bytes += int64(len(f.Wire)) + f.Header.Length
			c.count(0, 0, 1)
			return nil
		}
		if lost.Frames > 0 {
			gap := *lost
			*lost = session.TapGap{}
			if err := c.write(conn, &session.TapEvent{Time: e.Time, Session: e.Session, Gap: &gap}); err != nil {
				return err
			}
		}
		c.count(1, int64(len(f.Wire)+len(f.Payload)), 0)
	}
	if e.Gap != nil {
		c.count(0, 0, e.Gap.Frames)
	}
	if e.End != nil {
		for i := range conn.lost {
			if gap := conn.lost[i]; gap.Frames > 0 {
				if err := c.write(conn, &session.TapEvent{Time: e.Time, Session: e.Session, Gap: &gap}); err != nil {
					return err
				}
			}
		}
	}
	if err := c.write(conn, e); err != nil {
		return err
	}
	if e.Frame != nil && c.request.Count > 0 && c.summary.Frames >= c.request.Count {
		return errEnough
	}
	return nil
}

// bytesOf are those of a frame.
func bytesOf(e *session.TapEvent) (n int) {
	if f := e.Frame; f != nil {
		n = len(f.Wire) + len(f.Payload)
		if f.Message != nil {
			n += len(f.Message.Inflated)
		}
	}
	return n
}

func (c *capture) write(conn *connection, e *session.TapEvent) error {
	return c.writer.Write(&Event{TapEvent: *e, Who: conn.who})
}

func (c *capture) count(frames, bytes, dropped int64) {
	c.summary.Frames += frames
	c.summary.Dropped += dropped
	c.taps.frames.Add(frames)
	c.taps.bytes.Add(bytes)
	c.taps.dropped.Add(dropped)
}
