package centrifuge

import "github.com/millpond/millpond/push/hub"

var (
	_ hub.Identified = (*Client[*int])(nil)
	_ hub.Identified = (*specialSubscriber[*int])(nil)
)

// Is implements hub.Identified.
func (c *Client[F]) Is(id string) bool { return c.ID() == id }

// Is implements hub.Identified.
func (s *specialSubscriber[F]) Is(id string) bool { return s.client.Is(id) }
