package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// crowd is connections that subscribe, stay, and check what they get.
type crowd struct {
	// Immutable once it grows.
	dialect  *dialect
	channels func(number int) []string // what a member subscribes to; they must have positions
	check    func(m *member, payload []byte) error

	settled chan struct{} // once for every member: it is subscribed, or it failed
	reached chan struct{} // received came to goal

	// Owned by the goroutine that runs it.
	members []*member

	// Any goroutine (atomic).
	stopping   atomic.Bool
	subscribed atomic.Int64 // members
	received   atomic.Int64 // publications that were right
	goal       atomic.Int64

	// Guarded by mu.
	mu       sync.Mutex
	failures map[string]int
}

func newCrowd(d *dialect) *crowd {
	return &crowd{dialect: d, reached: make(chan struct{}, 1), failures: map[string]int{}}
}

// member is one connection of a crowd.
type member struct {
	speaker

	// Immutable after grow.
	crowd *crowd
	index int

	// Owned by the loop goroutine.
	settled bool
	awaited uint16 // answers to subscribe commands
	next    int32  // check's own
}

var _ listener = (*member)(nil)

// onReady implements listener.
func (m *member) onReady() {
	channels := m.crowd.channels(m.index)
	if m.awaited = uint16(len(channels)); m.awaited == 0 {
		m.crowd.subscribed.Add(1)
		m.settle()
		return
	}
	commands := make([]*wire.Command, 0, len(channels))
	for i, channel := range channels {
		commands = append(commands, &wire.Command{Id: helloID + 1 + uint32(i), Subscribe: &wire.SubscribeRequest{Channel: channel}})
	}
	if err := m.command(commands...); err != nil {
		m.conn.Close(err)
	}
}

// onMessage implements listener.
func (m *member) onMessage(payload []byte) error {
	if m.awaited == 0 {
		return m.crowd.check(m, payload)
	}
	for r, err := range m.dialect.codec.Replies(payload) {
		switch {
		case err != nil:
			return err
		case r.Error != nil:
			return fmt.Errorf("subscribe: error %d %s", r.Error.Code, r.Error.Message)
		case r.Subscribe == nil || m.awaited == 0:
			return errSurplus
		case !r.Subscribe.Recoverable || !r.Subscribe.Positioned:
			return errors.New("subscribe: the channel has no recovery")
		}
		if m.awaited--; m.awaited == 0 {
			m.crowd.subscribed.Add(1)
			m.settle()
		}
	}
	return nil
}

// onClosed implements listener.
func (m *member) onClosed(cause error) {
	if !m.crowd.stopping.Load() {
		m.fail(cause)
	}
}

func (m *member) fail(err error) {
	if err == nil {
		err = errors.New("closed")
	}
	m.crowd.mu.Lock()
	m.crowd.failures[err.Error()]++
	m.crowd.mu.Unlock()
	m.settle()
}

func (m *member) settle() {
	if !m.settled {
		m.settled = true
		m.crowd.settled <- struct{}{}
	}
}

// got takes note of a publication that was right.
func (m *member) got() {
	if m.crowd.received.Add(1) == m.crowd.goal.Load() {
		m.crowd.reached <- struct{}{}
	}
}

// grow opens n connections and returns when each is subscribed or has failed.
func (c *crowd) grow(ctx context.Context, n int) error {
	c.settled = make(chan struct{}, n)
	timeout := time.NewTimer(time.Minute + time.Duration(n)*time.Millisecond)
	defer timeout.Stop()
	for settled := 0; settled < n; {
		for len(c.members) < n && len(c.members)-settled < maxDialing && ctx.Err() == nil {
			m := &member{crowd: c, index: len(c.members)}
			c.members = append(c.members, m)
			if err := m.dial(c.dialect, m, source(c.dialect.target, m.index)); err != nil {
				m.fail(err)
				continue
			}
		}
		select {
		case <-c.settled:
			settled++
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("%d of %d connections are not subscribed", n-settled, n)
		}
	}
	if c.failed() {
		return errors.New("not all could subscribe")
	}
	return nil
}

// expect says how many more publications must come. It is called before they are published.
func (c *crowd) expect(n int) {
	select {
	case <-c.reached:
	default:
	}
	c.goal.Store(c.received.Load() + int64(n))
}

// stillness is how long nothing may come while something is expected.
const stillness = 15 * time.Second

// await returns when what was expected has come.
func (c *crowd) await(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	last, since := c.received.Load(), time.Now()
	for {
		select {
		case <-c.reached:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		now := c.received.Load()
		if missing := c.goal.Load() - now; c.failed() {
			return fmt.Errorf("%d publications are missing: connections failed", missing)
		} else if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > stillness {
			return fmt.Errorf("%d publications did not come", missing)
		}
	}
}

// leave ends the connections and waits until they are closed.
func (c *crowd) leave() {
	c.stopping.Store(true)
	for _, m := range c.members {
		if m.dialed {
			m.conn.Close(nil)
		}
	}
	awaitEmpty(c.dialect.poller)
}

func (c *crowd) failed() bool { return len(c.counts()) > 0 }

// counts returns the failures so far.
func (c *crowd) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.failures)
}
