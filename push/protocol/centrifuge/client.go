package centrifuge

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/pace"
	"github.com/millpond/millpond/push/protocol/roster"
)

// Params are what the opening request says.
type Params struct {
	// Protobuf asks for that instead of JSON.
	Protobuf bool
	// FramePing asks for the WebSocket's own pings instead of the protocol's.
	FramePing bool
}

// paramBits are Params in a byte.
type paramBits uint8

const (
	paramProtobuf paramBits = 1 << iota
	paramFramePing
)

func (p Params) bits() (b paramBits) {
	if p.Protobuf {
		b |= paramProtobuf
	}
	if p.FramePing {
		b |= paramFramePing
	}
	return b
}

// Client is one connection's end of the protocol. The engine calls OnOpen, then OnMessage for each message and
// OnWake for each Conn.Wake, then OnClose, one at a time.
//
// There is one per connection: keep it at 112 bytes.
type Client[F comparable] struct {
	// The roster's; it knows the user.
	roster.Entry[*Client[F]]

	// Immutable after NewClient.
	handler *Handler[F]
	conn    Conn[F]
	number  uint64 // of which the id is made

	// Any goroutine (atomic).
	about  atomic.Pointer[about[F]] // nil for nearly all
	issued atomic.Uint32            // when the connection's token was, in Unix seconds; 0 is without one

	// Immutable after NewClient; here, where there is room.
	params paramBits

	// Owned by the On… methods.
	state     state
	standing  standing
	badTokens uint8               // of channels, in a row
	subs      []*hub.Subscription // by channel name
	expires   uint32              // when the token does, in the handler's seconds; 0 is never
	answers   pace.Answers        // that are on their way

	// The deadlines'.
	roster.Due
}

// state is where a client is. It only moves forward.
type state uint8

const (
	unconnected state = iota
	connecting        // the backend is asked
	connected
	refused // its connect command was answered with an error: it may only go
	ended   // disconnected, or gone
)

// standing is what a client's identity makes of it.
type standing uint8

const (
	everything standing = 1 << iota // it may do all there is
	invited                         // the backend has let it in, not a token
	welcomed                        // its connect command was carried out
)

func (s *standing) set(which standing, on bool) {
	if *s &^= which; on {
		*s |= which
	}
}

// NewClient returns the client of a connection that has just been upgraded.
func (h *Handler[F]) NewClient(conn Conn[F], params Params) *Client[F] {
	return &Client[F]{handler: h, conn: conn, number: h.number.Add(1), params: params.bits()}
}

// ID returns the connection's id.
func (c *Client[F]) ID() string { return c.handler.ids.of(c.number).String() }

func (c *Client[F]) codec() wire.Codec {
	if c.params&paramProtobuf != 0 {
		return wire.Protobuf
	}
	return wire.JSON
}

// OnOpen waits for the connect command, not too long.
func (c *Client[F]) OnOpen() {
	// One more, for now is rounded down.
	c.handler.deadlines.Set(c, c.handler.now()+roster.Seconds(c.handler.config.ConnectTimeout)+1)
}

// OnMessage carries out the commands of one message. payload is used during the call only; the engine has checked that
// text is UTF-8.
func (c *Client[F]) OnMessage(isText bool, payload []byte) {
	if c.state == ended {
		return
	}
	wrong := c.codec() == wire.Protobuf && isText || c.codec() == wire.JSON && !isText && !utf8.Valid(payload)
	if wrong || c.state == refused {
		c.disconnect(DisconnectBadRequest)
		return
	}
	t := c.newTurn()
	defer t.release()
	c.carryOutAll(t, payload)
	t.flush()
	if t.question != nil && c.state != ended {
		t.question.rest = slices.Clone(t.question.rest)
		c.conn.Hold()
	}
}

// carryOutAll carries out the commands of a frame, until one of them has to wait.
func (c *Client[F]) carryOutAll(t *turn[F], frame []byte) {
	t.question = nil
	for more := true; more; more = len(frame) > 0 && c.state == connected {
		command, rest, err := c.codec().Command(frame)
		c.handler.commands.Add(1)
		if err != nil {
			t.flush()
			c.disconnect(DisconnectBadRequest)
			return
		}
		frame = rest
		c.run(t, command)
		if t.question != nil {
			t.question.rest = frame
			return
		}
	}
}

// OnWake carries out what others want of the client.
func (c *Client[F]) OnWake() {
	c.handler.roster.Run(c)
	c.recheckIfDue()
}

// Wake implements roster.Client.
func (c *Client[F]) Wake() bool { return c.conn.Wake() }

// Connected reports whether the client's connect command was carried out, as long as it is there and afterwards.
func (c *Client[F]) Connected() bool { return c.standing&welcomed != 0 }

// OnClose gives up what the connection had. Nothing is sent after it.
func (c *Client[F]) OnClose() {
	c.end()
	c.handler.deadlines.Remove(c)
	for _, s := range c.subs { // all of them before others are told, which may take a while
		s.Unsubscribe()
	}
	for _, s := range c.subs {
		c.leave(subscriptionOf[F](s))
	}
	c.subs = nil
	c.handler.tokens.Remove(c.token())
	c.handler.roster.Close(c) // who waits for a task learns that it is too late
}

// disconnect ends the connection. The engine calls OnClose.
func (c *Client[F]) disconnect(d *Disconnect) {
	if c.state == ended {
		return
	}
	c.end()
	c.close(d)
	c.conn.Resume() // the client's own close frame must not wait for the backend
}

func (c *Client[F]) end() {
	if c.state == connected {
		c.handler.connected.Add(-1)
	}
	c.state = ended
}

// close closes the connection; it may be called by any goroutine.
func (c *Client[F]) close(d *Disconnect) {
	if i := int(d.Code) - firstDisconnect; i >= 0 && i < disconnectCodes {
		c.handler.disconnects[i].Add(1)
	}
	c.conn.Close(d.Code, d.Reason)
}

// actor is the client as the permissions of a channel see it.
func (c *Client[F]) actor(channel string) hub.Actor {
	a := hub.Actor{User: c.User(), Everything: c.standing&everything != 0, Granted: c.caps().Of(channel)}
	i, subscribed := c.find(channel)
	if a.Subscribed = subscribed; subscribed {
		if special := c.subscription(i).special; special != nil {
			a.Granted |= special.rights
		}
	}
	return a
}

// find returns the place of channel in subs and whether it is there.
func (c *Client[F]) find(channel string) (int, bool) {
	return slices.BinarySearchFunc(c.subs, channel, func(s *hub.Subscription, name string) int {
		return strings.Compare(s.Channel(), name)
	})
}

// clientInfo is the client as others see it in a channel.
func (c *Client[F]) clientInfo(chanInfo json.RawMessage) *hub.ClientInfo {
	return &hub.ClientInfo{User: c.User(), Client: c.ID(), ConnInfo: c.info(), ChanInfo: chanInfo}
}

// Presence implements hub.Presenter.
func (c *Client[F]) Presence() *hub.ClientInfo { return c.clientInfo(nil) }

// refusal turns an error into that of a reply, or into a disconnect.
func (c *Client[F]) refusal(err error) (*wire.Error, *Disconnect) {
	var d *Disconnect
	if errors.As(err, &d) {
		return nil, d
	}
	var refusal *hub.Error
	if !errors.As(err, &refusal) {
		c.handler.internal(err)
		refusal = hub.ErrInternal
	}
	c.handler.refusals.Count(refusal.Code)
	// The message is the one that belongs to the code: SDKs compare it. What is particular about the case is for other protocols.
	return &wire.Error{Code: refusal.Code, Message: refusal.Message, Temporary: refusal.Temporary}, nil
}
