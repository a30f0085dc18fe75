package centrifuge

// This file is for those who look on. The methods may be called by any goroutine.

// ClientsOf returns a user's clients.
func (h *Handler[F]) ClientsOf(user string) []*Client[F] { return h.roster.Of(user) }

// Who returns the client's user, "" while it has none, and its id.
func (c *Client[F]) Who() (user, id string) { return c.handler.roster.UserOf(c), c.ID() }

// Conn returns the connection that NewClient was given.
func (c *Client[F]) Conn() Conn[F] { return c.conn }

// Conn is Client.Conn.
func (s *specialSubscriber[F]) Conn() Conn[F] { return s.client.conn }
