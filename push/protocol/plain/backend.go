package plain

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// This file has what the application's backend is asked. No goroutine waits for the answers: the client's further
// messages do, and the answer is a task in its turn.

// Backend is what the application's own program is asked; nil is never. The functions may be called by many goroutines
// and must not block.
type Backend struct {
	inquiry.Functions

	// Connect says who a client is that logs in without showing anything.
	Connect inquiry.Ask[ConnectRequest, *Identity]
}

// ConnectRequest is what a client says of itself.
type ConnectRequest struct {
	Data     json.RawMessage // of its login
	Channels []string        // that its opening request asks for
}

// about is what there is to know of a client that is not shown to anybody. It is immutable.
type about struct {
	headers *inquiry.Headers // nil is none
	meta    string
	caps    *hub.Capabilities // what it may do beside what the options of channels say; nil is nothing
}

func (c *Client[F]) caller() inquiry.Caller {
	who := inquiry.Caller{Client: c.ID(), User: c.User()}
	if c.about != nil {
		who.Headers = c.about.headers
		if c.about.meta != "" {
			who.Meta = json.RawMessage(c.about.meta)
		}
	}
	return who
}

// know notes what there is to know of the client. What is nil changes nothing.
func (c *Client[F]) know(emulated []inquiry.Header, meta json.RawMessage) {
	if len(emulated) == 0 && meta == nil {
		return
	}
	var next about
	if c.about != nil {
		next = *c.about
	}
	if len(emulated) > 0 {
		h := inquiry.Headers{Emulated: emulated}
		if next.headers != nil {
			h.Connection = next.headers.Connection
		}
		next.headers = &h
	}
	if meta != nil {
		next.meta = string(meta)
	}
	c.about = &next
}

// empower notes what the client may do beside what the options of channels say; what it has by what it had is ended.
func (c *Client[F]) empower(caps *hub.Capabilities) {
	if caps == c.caps() {
		return
	}
	var next about
	if c.about != nil {
		next = *c.about
	}
	next.caps = caps
	c.about = &next
	for _, sub := range slices.Clone(c.subs) {
		channel := sub.Channel()
		o, err := c.handler.config.Hub.Options(channel)
		if sub.Tag&tagCapable != 0 && (err != nil || !o.MaySubscribe(channel, c.actor(c.login.Load(), channel))) {
			c.expel(channel, expired)
		}
	}
}

// caps are what the client may do beside what the options of channels say.
func (c *Client[F]) caps() *hub.Capabilities {
	if c.about == nil {
		return nil
	}
	return c.about.caps
}

// errWaiting is the error of a command that is not carried out yet.
var errWaiting = errors.New("waiting for the backend")

// inquired is a command that asks the backend.
type inquired struct {
	finish  func(err error) // ends the command
	outlive bool            // what follows from the answer follows also when the client has gone
}

// wait asks for a command, and keeps the client's messages from it until then was called in a later turn with the answer.
// It returns errWaiting, or the error for which nothing was asked.
func wait[F, Q, A any](c *Client[F], command inquired, ask inquiry.Ask[Q, A], q Q, then func(answer A) error) error {
	err := ask(c.caller(), q, func(answer A, err error) {
		task := func() {
			c.answered(command, func() error {
				if err != nil {
					return err
				}
				return then(answer)
			})
		}
		if !c.handler.roster.Do(c, task) { // there is no turn any more
			task()
		}
	})
	if err != nil {
		return err
	}
	c.waiting = true
	c.conn.Hold()
	return errWaiting
}

// answered goes on where a command has waited.
func (c *Client[F]) answered(command inquired, then func() error) {
	if c.closed && !command.outlive {
		return
	}
	c.waiting = false
	if err := then(); c.closed {
		c.internal(err) // nobody is there to read it
	} else {
		command.finish(err)
	}
	if !c.waiting {
		c.conn.Resume()
	}
}

// internal reports an error of which clients are told nothing.
func (c *Client[F]) internal(err error) {
	if err == nil || c.handler.config.OnInternalError == nil {
		return
	}
	if code, _ := hub.Describe(err); code == hub.ErrInternal.Code {
		c.handler.config.OnInternalError(err)
	}
}

// invite asks the backend who the client is. then is called when it is logged in; nil is nothing.
func (c *Client[F]) invite(r ConnectRequest, finish func(err error), then func(i *Identity)) error {
	if c.loggedIn {
		return fmt.Errorf("%w: already logged in", hub.ErrBadRequest)
	}
	return wait(c, inquired{finish: finish}, c.handler.config.Backend.Connect, r, func(i *Identity) error {
		if err := c.enter(i, true); err != nil {
			return err
		}
		if then != nil {
			then(i)
		}
		return nil
	})
}

// renew asks the backend whether the connection goes on.
func (c *Client[F]) renew(l *login[F]) {
	h := c.handler
	done := func(r inquiry.Renewal, err error) {
		switch {
		case c.closed || c.login.Load() != l: // or another login has come meanwhile
		case err != nil:
			h.deadlines.Set(l, h.now()+inquiry.RenewAgainIn())
		case r.Over():
			c.close(closePolicyViolation, "login expired")
		default:
			next := l.renewed(r.Info)
			c.login.Store(next)
			if r.Caps != nil {
				c.empower(r.Caps)
			}
			next.endAt(r.Expires)
		}
	}
	err := h.config.Backend.Refresh(c.caller(), struct{}{}, func(r inquiry.Renewal, err error) {
		h.roster.Do(c, func() { done(r, err) })
	})
	if err != nil {
		done(inquiry.Renewal{}, err)
	}
}

// renewSubscription asks the backend whether a subscription goes on.
func (c *Client[F]) renewSubscription(s *special[F], webhook string) {
	h := c.handler
	channel := s.sub.Channel()
	done := func(r inquiry.Renewal, err error) {
		switch {
		case c.closed || !c.has(s.sub):
		case err != nil:
			h.ends.Set(s, h.now()+inquiry.RenewAgainIn())
		case r.Over():
			c.expel(channel, expired)
		default:
			s.setInfo(r.Info)
			s.endAt(r.Expires)
		}
	}
	err := h.config.Backend.SubRefresh(c.caller(), inquiry.SubscribeQuestion{Webhook: webhook, Channel: channel}, func(r inquiry.Renewal, err error) {
		h.roster.Do(c, func() { done(r, err) })
	})
	if err != nil {
		done(inquiry.Renewal{}, err)
	}
}
