package centrifuge

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/textproto"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/roster"
)

// This file has what the application's backend is asked. No goroutine waits for the answers: the client's further
// messages do, and the answer is a task in its turn.

// Ask asks the backend something on behalf of a client, and returns at once. done is called once with the answer, later
// and by another goroutine; its error is as those of Authenticator. An error of Ask says that the question was not
// asked, and done is not called.
type Ask[Q, A any] func(who Caller, question Q, done func(A, error)) error

// Backend is what the application's own program is asked; nil is never. The functions may be called by many goroutines
// and must not block.
type Backend struct {
	// Connect says who a client without a token is.
	Connect Ask[ConnectRequest, Identity]
	// Refresh says whether a connection that expires may stay, whatever let it in. Without it a client with a token
	// brings another one, and one that Connect let in has to connect again.
	Refresh Ask[struct{}, Renewal]
	// Subscribe decides in namespaces with a SubscribeWebhook, where a client shows no token.
	Subscribe Ask[SubscribeQuestion, Grant]
	// SubRefresh does in namespaces with a SubRefreshWebhook for subscriptions what Refresh does for connections.
	SubRefresh Ask[SubscribeQuestion, Renewal]
	// Publish decides in namespaces with a PublishWebhook.
	Publish Ask[PublishQuestion, Publishing]
	// RPC answers calls. Without it there are none.
	RPC Ask[RPCQuestion, []byte]
}

// Caller is the client on whose behalf a question is asked.
type Caller struct {
	Client   string // the connection's id
	User     string
	Protobuf bool
	Meta     json.RawMessage
	Headers  *Headers // nil is none
}

// Header is one of a request.
type Header struct{ Name, Value string }

// Headers are those that are kept of a client: of its opening request, and what its connect command calls so.
type Headers struct{ Connection, Emulated []Header }

// SubscribeQuestion is about one channel.
type SubscribeQuestion struct {
	Webhook string // of the namespace's options
	Channel string
	Data    []byte
}

// PublishQuestion is whether something may be published.
type PublishQuestion struct {
	Webhook string
	Channel string
	Data    []byte
}

// Publishing is what is published then. Nil data is what the client wanted.
type Publishing struct {
	Data    []byte
	Options hub.PublishOptions
}

// RPCQuestion is a client's call.
type RPCQuestion struct {
	Method string
	Data   []byte
}

// Renewal is until when something that expires goes on.
type Renewal struct {
	Expired bool            // it does not
	Expires time.Time       // zero is for ever
	Info    json.RawMessage // what others may see of a connection from now on; nil is what they see
}

func (r *Renewal) over() bool { return r.Expired || !r.Expires.IsZero() && time.Until(r.Expires) <= 0 }

// KeepHeaders keeps what was chosen of the opening request. It is called before OnOpen.
func (c *Client[F]) KeepHeaders(headers []Header) {
	if len(headers) > 0 {
		c.about.Store(newAbout[F](nil, nil, &Headers{Connection: headers}, nil))
	}
}

// emulate keeps what the connect command has of the headers that the backend may be sent.
func (c *Client[F]) emulate(headers map[string]string) {
	var list []Header
	for _, name := range c.handler.config.EmulatedHeaders {
		for key, value := range headers {
			if textproto.CanonicalMIMEHeaderKey(key) == name && value != "" {
				list = append(list, Header{name, value})
				break
			}
		}
	}
	if len(list) > 0 {
		h := Headers{Emulated: list}
		if before := c.headers(); before != nil {
			h.Connection = before.Connection
		}
		c.about.Store(newAbout(c.info(), c.Meta(), &h, c.token()))
	}
}

func (c *Client[F]) caller() Caller {
	return Caller{Client: c.ID(), User: c.User(), Protobuf: c.params&paramProtobuf != 0, Meta: c.Meta(), Headers: c.headers()}
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
func wait[F comparable, Q, A any](t *turn[F], ask Ask[Q, A], q Q, then func(t *turn[F], answer A) error) error {
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

// The backend is asked before a connection or a subscription expires, and asked again a while after it gave no answer:
// that it is gone for some time is no reason to lose the clients, and when it comes back not all of them ask at once.
const (
	renewBefore     = 5 // seconds, of longer times
	renewAgainAfter = 5 // seconds, and as many again by chance
)

// renewalDue is when the backend is to be asked about what expires in so many seconds.
func renewalDue(now, ttl uint32) uint32 { return now + ttl - min(renewBefore, ttl/2) }

func (c *Client[F]) renewAgain() uint32 {
	return c.handler.now() + renewAgainAfter + rand.Uint32N(renewAgainAfter+1)
}

// renew asks the backend whether the connection goes on.
func (c *Client[F]) renew() {
	c.expires = 0
	err := c.handler.config.Backend.Refresh(c.caller(), struct{}{}, func(r Renewal, err error) {
		c.handler.roster.Do(c, func() { c.renewed(r, err) })
	})
	if err != nil {
		c.renewed(Renewal{}, err)
	}
}

func (c *Client[F]) renewed(r Renewal, err error) {
	switch {
	case c.state != connected:
		return
	case err != nil:
		c.expires = c.renewAgain()
		c.schedule()
		return
	case r.Expired:
		c.disconnect(DisconnectExpired)
		return
	}
	if r.Info != nil {
		c.about.Store(newAbout(r.Info, c.Meta(), c.headers(), c.token()))
	}
	if _, _, err := c.expire(r.Expires); err != nil { // in the past
		c.disconnect(DisconnectExpired)
	}
}

// renewSubscription asks the backend whether a subscription goes on.
func (c *Client[F]) renewSubscription(s subscription[F], webhook string) {
	s.special.expires = 0
	done := func(r Renewal, err error) {
		i, found := c.find(s.sub.Channel())
		switch {
		case c.state != connected || !found || c.subs[i] != s.sub:
		case err != nil:
			s.special.expires = c.renewAgain()
			c.schedule()
		case r.over():
			c.expireSubscription(s)
		case !r.Expires.IsZero():
			s.special.expires = renewalDue(c.handler.now(), roster.Seconds(time.Until(r.Expires)))
			c.schedule()
		}
	}
	err := c.handler.config.Backend.SubRefresh(c.caller(), SubscribeQuestion{Webhook: webhook, Channel: s.sub.Channel()}, func(r Renewal, err error) {
		c.handler.roster.Do(c, func() { done(r, err) })
	})
	if err != nil {
		done(Renewal{}, err)
	}
}

// rpc asks the backend.
func (c *Client[F]) rpc(t *turn[F], m *wire.RPCRequest, reply *wire.Reply) error {
	ask := c.handler.config.Backend.RPC
	if ask == nil {
		return hub.ErrNotAvailable
	}
	return wait(t, ask, RPCQuestion{m.Method, m.Data}, func(_ *turn[F], data []byte) error {
		reply.Rpc = &wire.RPCResult{Data: data}
		return nil
	})
}
