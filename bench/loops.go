package bench

import (
	"runtime"
	"sync"

	"github.com/millpond/millpond/poller"
)

// loops is the event loops of this process, which all its parts share.
//
// They leave those that publish a P: a loop that waits in epoll_wait keeps one, and where all are kept so, Go's monitor
// wakes every 20 µs to take one away, which is a third of the CPU of a load that is seldom woken.
var loops shared

type shared struct {
	// Guarded by mu.
	mu     sync.Mutex
	users  int
	poller *poller.Poller // nil without users
}

// enter returns the poller, until as many have left as have entered.
func (s *shared) enter() (*poller.Poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		p, err := poller.New(poller.Config{Loops: max(1, runtime.GOMAXPROCS(0)-1)})
		if err != nil {
			return nil, err
		}
		s.poller = p
	}
	s.users++
	return s.poller, nil
}

// leave is for a part whose connections are closed.
func (s *shared) leave() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	p := s.poller
	s.poller = nil
	awaitNone(func() int64 { return p.Stats().Conns })
	return p.Close()
}
