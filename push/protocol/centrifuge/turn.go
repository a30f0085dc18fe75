package centrifuge

import (
	"slices"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
	"github.com/millpond/millpond/push/protocol/pace"
)

// maxReplies bounds the replies in one frame, as maxReplyBytes does, for clients that have a bound of their own for messages.
const (
	maxReplies    = 16
	maxReplyBytes = 32 << 10
)

// turn is what the commands of one message have led to and is not sent yet. Turns are used again.
type turn[F comparable] struct {
	client  *Client[F]
	buf     []byte // the replies' frame
	replies int
	pending int         // bytes of publications in replies that are not sent
	after   []beginning // what begins when they are sent

	question *question[F] // that the last command has asked; nil if it is carried out
}

// newTurn returns an empty one; release gives it back.
func (c *Client[F]) newTurn() *turn[F] {
	t, _ := c.handler.turns.Get().(*turn[F])
	if t == nil {
		t = new(turn[F])
	}
	t.client = c
	return t
}

// reply adds a reply.
func (t *turn[F]) reply(r *wire.Reply) {
	b, err := t.client.codec().AppendReply(t.buf, r)
	if err != nil { // data of others that is not JSON
		strip(r)
		b, err = t.client.codec().AppendReply(t.buf, r)
	}
	if err != nil {
		t.send()
		t.client.disconnect(DisconnectInappropriateProtocol)
		return
	}
	t.buf = b
	if t.replies++; t.replies >= maxReplies || len(b) >= maxReplyBytes {
		t.flush()
	}
}

// beginning is what begins when a reply is sent: a subscription, or the heartbeat.
type beginning struct {
	sub       *hub.Subscription // nil for the heartbeat
	from      uint64            // the offset after which publications are wanted
	placed    bool              // from counts
	announced bool              // others are told
}

// then has b begin when the replies so far are sent.
func (t *turn[F]) then(b beginning) { t.after = append(t.after, b) }

// send sends the replies.
func (t *turn[F]) send() {
	if t.replies == 0 {
		return
	}
	t.client.send(t.buf)
	t.buf, t.replies = t.buf[:0], 0
}

// send sends a message of the client's own, which is borrowed. A client that asks and asks, and does not read the answers, is disconnected.
func (c *Client[F]) send(message []byte) {
	if !c.answers.Admit(c.conn.Waiting(), len(message), c.handler.config.MaxAnswerBytes) {
		c.disconnect(DisconnectSlow)
		return
	}
	_ = c.conn.Send(c.handler.frame(c.codec() == wire.JSON, message))
}

// checkRoom refuses commands whose answers have publications while much waits already.
func (t *turn[F]) checkRoom() error {
	return pace.CheckRoom(t.pending+t.client.conn.Waiting(), t.client.handler.config.MaxAnswerBytes)
}

// flush sends the replies, and does what was to be done then.
func (t *turn[F]) flush() {
	t.send()
	t.pending = 0
	if len(t.after) == 0 {
		return
	}
	if c := t.client; c.conn.Waiting() > pace.StartBelow {
		after := slices.Clone(t.after) // in this branch alone, since it costs an allocation
		pace.WhenSent(c.handler.roster, c, c.conn, func() { c.begin(after) })
	} else {
		c.begin(t.after)
	}
	t.after = cleared(t.after)
}

// begin lets things begin, none of which adds another.
func (c *Client[F]) begin(list []beginning) {
	for _, b := range list {
		if b.sub == nil {
			c.conn.BeginHeartbeat(c.heartbeat())
		} else {
			c.start(b)
		}
	}
}

func cleared[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// maxPooledBuffer keeps one large reply from being held for ever.
const maxPooledBuffer = 64 << 10

func (t *turn[F]) release() {
	h := t.client.handler
	*t = turn[F]{buf: t.buf[:0], after: cleared(t.after)}
	if cap(t.buf) <= maxPooledBuffer {
		h.turns.Put(t)
	}
}

// push sends an asynchronous message of the server's.
func (c *Client[F]) push(p *wire.Push) {
	b, err := c.codec().AppendReply(nil, &wire.Reply{Push: p})
	if err != nil {
		c.disconnect(DisconnectInappropriateProtocol)
		return
	}
	c.send(b)
}
