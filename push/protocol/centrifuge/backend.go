package centrifuge

import (
	"errors"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// This file has what the application's backend is asked. No goroutine waits for the answers: the client's further
// messages do, and the answer is a task in its turn.

// Backend is what the application's own program is asked; nil is never. The functions may be called by many goroutines
// and must not block.
type Backend struct {
	inquiry.Functions

	// Connect says who a client without a token is.
	Connect inquiry.Ask[ConnectRequest, Identity]
	// RPC answers calls. Without it there are none.
	RPC inquiry.Ask[inquiry.RPCQuestion, []byte]
}

// KeepHeaders keeps what was chosen of the opening request. It is called before OnOpen.
func (c *Client[F]) KeepHeaders(headers []inquiry.Header) {
	if len(headers) > 0 {
		c.about.Store(newAbout[F](nil, nil, &inquiry.Headers{Connection: headers}, nil, nil))
	}
}

// emulate keeps what the connect command has of the headers that the backend may be sent.
func (c *Client[F]) emulate(headers map[string]string) {
	list := inquiry.Emulated(c.handler.config.EmulatedHeaders, headers)
	if len(list) > 0 {
		h := inquiry.Headers{Emulated: list}
		if before := c.headers(); before != nil {
			h.Connection = before.Connection
		}
		c.about.Store(newAbout(c.info(), c.Meta(), &h, c.token(), c.caps()))
	}
}

func (c *Client[F]) caller() inquiry.Caller {
	return inquiry.Caller{Client: c.ID(), User: c.User(), Protobuf: c.params&paramProtobuf != 0, Meta: c.Meta(), Headers: c.headers()}
}

// errWaiting is the error of a command that is not carried out yet: the turn has its question.
var errWaiting = errors.New("waiting for the backend")

// question is what a command has asked the backend.
type question[F comparable] struct {
	// Owned by the client's turn.
	finish  func(t *turn[F], err error) // replies
	rest    []byte                      // of the command's frame
	outlive bool                        // what follows from the answer follows also when the client has gone
}

// wait asks for a command. It returns errWaiting, or an error at once. then is called in a later turn with the answer.
func wait[F comparable, Q, A any](t *turn[F], ask inquiry.Ask[Q, A], q Q, then func(t *turn[F], answer A) error) error {
	c, asked := t.client, &question[F]{}
	err := ask(c.caller(), q, func(answer A, err error) {
		c.whenever(func() {
			c.answered(asked, func(t *turn[F]) error {
				if err != nil {
					return err
				}
				return then(t, answer)
			})
		})
	})
	if err != nil {
		return err
	}
	t.question = asked
	return errWaiting
}

// whenever carries out a task in the client's turn, or, when there is none any more, at once.
func (c *Client[F]) whenever(task func()) {
	if !c.handler.roster.Do(c, task) {
		task()
	}
}

// answered goes on where a command has waited.
func (c *Client[F]) answered(q *question[F], then func(t *turn[F]) error) {
	if c.state == ended {
		if q.outlive {
			if err := then(nil); err != nil {
				_, _ = c.refusal(err) // it is counted, and nobody is there to read it
			}
		}
		return
	}
	t := c.newTurn()
	defer t.release()
	q.finish(t, then(t))
	if c.state == connected && len(q.rest) > 0 {
		c.carryOutAll(t, q.rest)
	}
	t.flush()
	if t.question == nil {
		c.conn.Resume()
	}
}

// renew asks the backend whether the connection goes on.
func (c *Client[F]) renew() {
	c.expires = 0
	err := c.handler.config.Backend.Refresh(c.caller(), struct{}{}, func(r inquiry.Renewal, err error) {
		c.handler.roster.Do(c, func() { c.renewed(r, err) })
	})
	if err != nil {
		c.renewed(inquiry.Renewal{}, err)
	}
}

func (c *Client[F]) renewed(r inquiry.Renewal, err error) {
	switch {
	case c.state != connected:
		return
	case err != nil:
		c.expires = c.handler.now() + inquiry.RenewAgainIn()
		c.schedule()
		return
	case r.Expired:
		c.disconnect(DisconnectExpired)
		return
	}
	info, caps := c.info(), c.caps()
	if r.Info != nil {
		info = r.Info
	}
	if r.Caps != nil {
		caps = r.Caps
	}
	if r.Info != nil || r.Caps != nil {
		c.about.Store(newAbout(info, c.Meta(), c.headers(), c.token(), caps))
		c.recheckCaps()
	}
	if _, _, err := c.expire(r.Expires); err != nil { // in the past
		c.disconnect(DisconnectExpired)
	}
}

// renewSubscription asks the backend whether a subscription goes on.
func (c *Client[F]) renewSubscription(s subscription[F], webhook string) {
	s.special.expires = 0
	done := func(r inquiry.Renewal, err error) {
		i, found := c.find(s.sub.Channel())
		switch {
		case c.state != connected || !found || c.subs[i] != s.sub:
		case err != nil:
			s.special.expires = c.handler.now() + inquiry.RenewAgainIn()
			c.schedule()
		case r.Over():
			c.expireSubscription(s)
		default:
			s.special.setInfo(r.Info)
			if !r.Expires.IsZero() {
				s.special.expires = c.handler.now() + inquiry.RenewIn(roster.Seconds(time.Until(r.Expires)))
				c.schedule()
			}
		}
	}
	err := c.handler.config.Backend.SubRefresh(c.caller(), inquiry.SubscribeQuestion{Webhook: webhook, Channel: s.sub.Channel()}, func(r inquiry.Renewal, err error) {
		c.handler.roster.Do(c, func() { done(r, err) })
	})
	if err != nil {
		done(inquiry.Renewal{}, err)
	}
}

// rpc asks the backend.
func (c *Client[F]) rpc(t *turn[F], m *wire.RPCRequest, reply *wire.Reply) error {
	ask := c.handler.config.Backend.RPC
	if ask == nil {
		return hub.ErrNotAvailable
	}
	return wait(t, ask, inquiry.RPCQuestion{Method: m.Method, Data: m.Data}, func(_ *turn[F], data []byte) error {
		reply.Rpc = &wire.RPCResult{Data: data}
		return nil
	})
}
