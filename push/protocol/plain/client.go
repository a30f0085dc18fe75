package plain

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/pace"
	"github.com/millpond/millpond/push/protocol/roster"
)

// Close codes: RFC 6455 §7.4.1, and one of those for libraries.
const (
	closeUnsupportedData uint16 = 1003
	closePolicyViolation uint16 = 1008
)

// Params are what the opening request says, /push?channels=a,b&since=7.epoch,&token=….
type Params struct {
	Token    string
	Channels []string
	Since    []string // for the channel at the same place, "OFFSET.EPOCH" or empty
	// Headers are those of the opening request that the backend may be sent.
	Headers []inquiry.Header
}

// Client is one connection's end of the protocol. The engine calls OnOpen,
// then OnMessage for each message and OnWake for each Conn.Wake, then OnClose, one at a time.
//
// There is one per connection: keep it at 112 bytes.
type Client[F any] struct {
	// The roster's.
	roster.Entry[*Client[F]]

	// Immutable after NewClient.
	handler *Handler[F]
	conn    Conn[F]

	// Owned by the On… methods.
	params   *Params             // until OnOpen; nil if there are none
	subs     []*hub.Subscription // by channel name
	faults   uint8               // in a row
	loggedIn bool
	told     bool         // Config.OnConnect was called
	closed   bool         // Close was called, or OnClose came: nothing more is done
	waiting  bool         // for the backend, before its next message
	answers  pace.Answers // that are on their way

	about *about // nil for nearly all

	// Any goroutine (atomic).
	login atomic.Pointer[login[F]] // nil until the login, unless anonymous clients have one
}

// The bits of a subscription's Tag.
const (
	tagPositioned uint8 = 1 << iota // the client was told a position
	tagAnnounced                    // others were told that the client came
	tagCapable                      // it was made by the connection's capabilities alone
)

// NewClient returns the client of a connection that has just been upgraded.
// It keeps params' lists until OnOpen.
func (h *Handler[F]) NewClient(conn Conn[F], params Params) *Client[F] {
	c := &Client[F]{handler: h, conn: conn}
	c.login.Store(h.anonymous)
	if len(params.Headers) > 0 {
		c.about = &about{headers: &inquiry.Headers{Connection: params.Headers}}
	}
	if params.Token != "" || len(params.Channels) > 0 {
		kept := params // a variable of its own: else every call would allocate
		c.params = &kept
	}
	return c
}

// Wake implements roster.Client.
func (c *Client[F]) Wake() bool { return c.conn.Wake() }

// OnOpen carries out what the opening request asked for: the login, then the subscriptions. It asks for channels without
// a token: that is a login too, if the backend decides on those. A bad token closes with 1008, since such a client may
// never send anything; refused channels leave the connection open.
func (c *Client[F]) OnOpen() {
	params := c.params
	c.params = nil
	switch {
	case params != nil && params.Token != "":
		c.opened(params, c.authenticate(Credentials{Token: params.Token}))
	case params != nil && c.handler.config.Backend.Connect != nil:
		opened := func(err error) { c.opened(params, err) }
		opened(c.invite(ConnectRequest{Channels: params.Channels}, opened, nil))
	default:
		if c.login.Load() != nil {
			c.connected()
		}
		if params != nil {
			c.opened(params, nil)
		}
	}
}

// opened goes on after the login of the opening request, err, with its subscriptions.
func (c *Client[F]) opened(params *Params, err error) {
	switch {
	case errors.Is(err, errWaiting):
		return
	case err != nil:
		c.refuse(nil, err)
		c.close(closePolicyViolation, "login failed")
		return
	}
	if len(params.Channels) > 0 {
		list, err := params.channels()
		if err == nil {
			err = c.subscribe(nil, list)
		}
		c.finish(nil, err)
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
	c.finish(command.ID, err)
}

// finish ends a command that was carried out, or was not because of err.
func (c *Client[F]) finish(id rawID, err error) {
	switch {
	case errors.Is(err, errWaiting):
		return
	case err != nil:
		c.refuse(id, err)
	}
	if !isFault(err) {
		c.faults = 0
		return
	}
	c.faults++
	if int(c.faults) >= c.handler.config.MaxFaults {
		c.close(closePolicyViolation, "too many bad messages")
	}
}

// connected tells that the client is there.
func (c *Client[F]) connected() {
	if !c.told && c.handler.config.OnConnect != nil {
		c.handler.config.OnConnect(c.ID(), c.User())
	}
	c.told = true
}

// Connected reports whether Config.OnConnect was called, as long as the client is there and afterwards.
func (c *Client[F]) Connected() bool { return c.told }

// OnWake carries out what others want of the client.
func (c *Client[F]) OnWake() {
	c.handler.roster.Run(c)
	c.recheckIfDue()
}

// OnClose gives up the subscriptions. Nothing is sent after it.
func (c *Client[F]) OnClose() {
	c.closed = true
	for _, s := range c.subs { // all of them before others are told, which may take a while
		s.Unsubscribe()
	}
	for _, s := range c.subs {
		c.leave(s)
	}
	c.subs = nil
	c.forgetLogin()
	c.handler.roster.Close(c)
}

// Deliver sends publications; the hub calls it. All clients share the frames.
func (c *Client[F]) Deliver(b *hub.Batch) { c.deliver(b, "") }

func (c *Client[F]) deliver(b *hub.Batch, policy string) {
	if b.IsReset() {
		sub := b.Subscription()
		c.handler.roster.Do(c, func() { c.lost(sub) })
		return
	}
	_ = c.conn.SendBatch(b.Channel(), policy, hub.Frames(b, hub.EncodingPlain, c.handler.message))
}

// ID names the connection.
func (c *Client[F]) ID() string { return c.handler.config.IDPrefix + c.conn.ID() }

// Is implements hub.Identified.
func (c *Client[F]) Is(id string) bool { return c.ID() == id }

// Presence implements hub.Presenter.
func (c *Client[F]) Presence() *hub.ClientInfo {
	if l := c.login.Load(); l != nil {
		return l.clientInfo(c.ID())
	}
	return &hub.ClientInfo{Client: c.ID()}
}

func (c *Client[F]) close(code uint16, reason string) {
	c.closed = true
	c.conn.Close(code, reason)
	c.conn.Resume() // the client's own close frame must not wait for the backend
}

// send sends an answer. A client that asks and asks, and does not read the answers, is closed.
func (c *Client[F]) send(text []byte) {
	if !c.answers.Admit(c.conn.Waiting(), len(text), c.handler.config.MaxAnswerBytes) {
		c.close(closePolicyViolation, "slow consumer")
		return
	}
	_ = c.conn.Send(c.handler.frame(text))
}

// checkRoom refuses commands that are answered with messages of the past while much waits already.
func (c *Client[F]) checkRoom() error {
	return pace.CheckRoom(c.conn.Waiting(), c.handler.config.MaxAnswerBytes)
}

// refuse tells the client of an error, or ends the connection if the backend wants that.
func (c *Client[F]) refuse(id rawID, err error) {
	var d *inquiry.Disconnect
	if errors.As(err, &d) {
		c.close(d.Code, d.Reason)
		return
	}
	c.sendError(id, err)
}

func (c *Client[F]) sendError(id rawID, err error) {
	code, message := hub.Describe(err)
	if code == hub.ErrInternal.Code && c.handler.config.OnInternalError != nil {
		c.handler.config.OnInternalError(err)
	}
	c.handler.refusals.Count(code)
	c.send(appendError(nil, id, code, message))
}

// find returns the place of channel in subs and whether it is there.
func (c *Client[F]) find(channel string) (int, bool) {
	return slices.BinarySearchFunc(c.subs, channel, func(s *hub.Subscription, name string) int {
		return strings.Compare(s.Channel(), name)
	})
}
