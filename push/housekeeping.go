package push

import "time"

// keepHouse does what has to be done once a second, until stop is closed.
func (s *Server) keepHouse(stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	t := newTrimmer()
	for {
		select {
		case <-stop:
			return
		case <-sweep.C:
			if err := s.revocations.Sweep(); err != nil {
				s.config.Logger.Error("revocations that other nodes have told are not in this one's file", "error", err)
			}
		case now := <-ticker.C:
			s.broker.Expire()
			s.centrifuge.Tick()
			s.plain.Tick()
			s.watchAPIKeys()
			s.memoryWatch.Tick(now)
			t.trim(allocated(), now)
		}
	}
}
