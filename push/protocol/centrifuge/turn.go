package centrifuge

import (
	"sync"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// maxReplies bounds the replies in one frame, as maxReplyBytes does, for clients that have a bound of their own for messages.
const (
	maxReplies    = 16
	maxReplyBytes = 32 << 10
)

// turn is what the commands of one message have led to and is not sent yet.
type turn[F comparable] struct {
	client  *Client[F]
	buf     *[]byte // the replies' frame; nil while there is none
	replies int
	after   []func() // what is to be done when they are sent
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// reply adds a reply.
func (t *turn[F]) reply(r *wire.Reply) {
	if t.buf == nil {
		t.buf = buffers.Get().(*[]byte)
		*t.buf = (*t.buf)[:0]
	}
	b, err := t.client.codec().AppendReply(*t.buf, r)
	if err != nil { // data of others that is not JSON
		t.send()
		t.client.disconnect(DisconnectInappropriateProtocol)
		return
	}
	*t.buf = b
	if t.replies++; t.replies >= maxReplies || len(b) >= maxReplyBytes {
		t.flush()
	}
}

// then has f called when the replies so far are sent.
func (t *turn[F]) then(f func()) { t.after = append(t.after, f) }

// send sends the replies.
func (t *turn[F]) send() {
	if t.replies == 0 {
		return
	}
	frame := append([]byte(nil), *t.buf...)
	*t.buf, t.replies = (*t.buf)[:0], 0
	_ = t.client.conn.Send(t.client.handler.frame(t.client.codec() == wire.JSON, frame))
}

// flush sends the replies, and does what was to be done then.
func (t *turn[F]) flush() {
	t.send()
	for len(t.after) > 0 {
		after := t.after
		t.after = nil
		for _, f := range after {
			f()
		}
	}
}

// maxPooledBuffer keeps one large reply from being held for ever.
const maxPooledBuffer = 64 << 10

func (t *turn[F]) release() {
	if t.buf != nil && cap(*t.buf) <= maxPooledBuffer {
		buffers.Put(t.buf)
	}
	t.buf = nil
}

// push sends an asynchronous message of the server's.
func (c *Client[F]) push(p *wire.Push) {
	b, err := c.codec().AppendReply(nil, &wire.Reply{Push: p})
	if err != nil {
		c.disconnect(DisconnectInappropriateProtocol)
		return
	}
	_ = c.conn.Send(c.handler.frame(c.codec() == wire.JSON, b))
}
