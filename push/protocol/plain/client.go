package plain

import (
	"slices"
	"strings"

	"github.com/millpond/millpond/push/hub"
)

// Close codes, RFC 6455 §7.4.1.
const (
	closeUnsupportedData uint16 = 1003
	closePolicyViolation uint16 = 1008
)

// Params are what the opening request says, /push?channels=a,b&token=….
type Params struct {
	Token    string
	Channels []string
}

// Client is one connection's end of the protocol. The engine calls OnOpen,
// then OnMessage for each message, then OnClose, one at a time.
//
// There is one per connection: keep it at 96 bytes.
type Client[F any] struct {
	// Immutable after NewClient.
	handler *Handler[F]
	conn    Conn[F]

	// Owned by the On… methods.
	params      *Params             // until OnOpen; nil if there are none
	subs        []*hub.Subscription // by channel name
	user        string
	permissions Permissions
	faults      uint8 // in a row
	loggedIn    bool
	closed      bool // Close was called, or OnClose came: nothing more is done
}

// NewClient returns the client of a connection that has just been upgraded.
// It keeps params.Channels until OnOpen.
func (h *Handler[F]) NewClient(conn Conn[F], params Params) *Client[F] {
	c := &Client[F]{handler: h, conn: conn, permissions: h.config.Anonymous}
	if params.Token != "" || len(params.Channels) > 0 {
		kept := params // a variable of its own: else every call would allocate
		c.params = &kept
	}
	return c
}

// OnOpen carries out what the opening request asked for: the login, then the
// subscriptions. A bad token closes with 1008, since such a client may never
// send anything; refused channels leave the connection open.
func (c *Client[F]) OnOpen() {
	params := c.params
	c.params = nil
	if params == nil {
		return
	}
	if params.Token != "" {
		if err := c.authenticate(Credentials{Token: params.Token}); err != nil {
			c.sendError(nil, err)
			c.close(closePolicyViolation, "login failed")
			return
		}
	}
	if len(params.Channels) > 0 {
		if err := c.subscribe(nil, channels{list: params.Channels, plural: true}); err != nil {
			c.sendError(nil, err)
		}
	}
}

// OnMessage carries out one command. payload is used during the call only; the
// engine has checked that text is UTF-8.
func (c *Client[F]) OnMessage(isText bool, payload []byte) {
	if c.closed {
		return
	}
	if !isText {
		c.close(closeUnsupportedData, "text messages only")
		return
	}
	c.handler.commands.Add(1)
	command, err := parseCommand(payload)
	if err == nil {
		err = c.run(command)
	}
	if err == nil {
		c.faults = 0
		return
	}
	c.sendError(command.ID, err)
	if !isFault(err) {
		c.faults = 0
		return
	}
	c.faults++
	if int(c.faults) >= c.handler.config.MaxFaults {
		c.close(closePolicyViolation, "too many bad messages")
	}
}

// OnClose gives up the subscriptions. Nothing is sent after it.
func (c *Client[F]) OnClose() {
	c.closed = true
	for _, s := range c.subs {
		s.Unsubscribe()
	}
	c.subs = nil
}

// Deliver sends publications; the hub calls it. All clients share the frames.
func (c *Client[F]) Deliver(b *hub.Batch) {
	_ = c.conn.SendBatch(b.Channel(), hub.Frames(b, hub.EncodingPlain, c.handler.message))
}

// User returns the name that the login gave, or "". It may be called from
// where the On… methods are.
func (c *Client[F]) User() string { return c.user }

func (c *Client[F]) close(code uint16, reason string) {
	c.closed = true
	c.conn.Close(code, reason)
}

func (c *Client[F]) send(text []byte) { _ = c.conn.Send(c.handler.frame(text)) }

func (c *Client[F]) sendError(id rawID, err error) {
	code, message := hub.Describe(err)
	if code == hub.ErrInternal.Code && c.handler.config.OnInternalError != nil {
		c.handler.config.OnInternalError(err)
	}
	c.handler.refused(code)
	c.send(appendError(nil, id, code, message))
}

// find returns the place of channel in subs and whether it is there.
func (c *Client[F]) find(channel string) (int, bool) {
	return slices.BinarySearchFunc(c.subs, channel, func(s *hub.Subscription, name string) int {
		return strings.Compare(s.Channel(), name)
	})
}
