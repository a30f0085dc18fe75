package bench

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
)

// Faults that a server can show.
var (
	errContent = errors.New("a message came back changed, twice or out of order")
	errRefused = errors.New("refused with 503")
	errSurplus = errors.New("a message came that nobody sent")
)

// load is what all connections of a run share.
type load struct {
	// Immutable after newLoad.
	poller  *poller.Poller
	target  netip.AddrPort
	tls     *tls.Config // nil without
	request []byte
	accept  []byte // the Sec-WebSocket-Accept that proves it
	batches [variants]batch
	again   bool // answer a whole batch with the next one

	refusable  bool   // a 503 with Retry-After is no failure
	maxDialing int    // connections that may be on their way at once
	dialed     func() // called when all are on their way

	options codec.Options
	lap     func(c *client, took time.Duration) // a batch has come back; the client's loop

	// Owned by the goroutine that runs the load.
	clients []*client

	// Any goroutine (atomic).
	stopping atomic.Bool
	messages atomic.Int64 // that came back unchanged
	open     atomic.Int64
	refused  atomic.Int64 // if refusable

	// Guarded by mu.
	mu       sync.Mutex
	failures map[string]int

	settled chan struct{} // once for every client: its first batch came back, or it failed
}

// batch is what a client sends in one go.
type batch struct {
	frames   []byte   // masked
	payloads [][]byte // what must come back, in this order
}

// variants is after how many batches their contents repeat: a message that a server sends twice,
// late or in the wrong place is then not the one that is expected.
const variants = 8

func newBatch(variant, messageBytes, depth int) batch {
	var b batch
	for i := range depth {
		p := bytes.Repeat([]byte("millpond"), messageBytes/8+1)[:messageBytes]
		copy(p, fmt.Sprintf("%c%d.", 'a'+variant, i))
		b.payloads = append(b.payloads, p)
		b.frames = codec.AppendMaskedFrame(b.frames, codec.OpText, true, p, [4]byte{0x6d, 0x70, 0x62, 0x21})
	}
	return b
}

func newLoad(p *poller.Poller, target netip.AddrPort, host, path string, messageBytes, depth int) *load {
	l := &load{
		poller: p, target: target, request: appendRequest(nil, host, path, ""), accept: acceptKey(),
		options:  codec.Options{MaxMessageBytes: max(messageBytes, 1), Client: true},
		failures: map[string]int{}, maxDialing: maxDialing, dialed: func() {},
		lap: func(*client, time.Duration) {},
	}
	for i := range l.batches {
		l.batches[i] = newBatch(i, messageBytes, depth)
	}
	return l
}

// client is one connection of the load.
type client struct {
	conn poller.Conn

	// Immutable after dial.
	load   *load
	dialed bool // conn was given to the poller

	// Owned by the loop goroutine.
	decoder codec.Decoder
	opening opening
	opened  bool
	settled bool

	// Owned by whoever sends, until the batch has come back.
	batch   *batch
	due     time.Duration // when it left, or should have, since the program began
	waiting int32         // messages of it that have not come back
	turn    uint8         // which of load.batches was sent last

	// Any goroutine (atomic).
	idle atomic.Bool // with Stall: the batch has come back
}

var began = time.Now()

// dial begins to open a connection.
func (l *load) dial(source netip.AddrPort) {
	c := &client{load: l}
	l.clients = append(l.clients, c)
	if err := l.poller.Dial(&c.conn, l.target, c, poller.DialOptions{Source: source, TLS: l.tls}); err != nil {
		c.fail(err)
		return
	}
	c.dialed = true
}

// OnConnected implements poller.Events.
func (c *client) OnConnected() { _, _ = c.conn.Send(c.load.request, poller.Out{}) }

// OnDrained implements poller.Events.
func (c *client) OnDrained() {}

// OnEOF implements poller.Events.
func (c *client) OnEOF() { c.conn.Close(errors.New("closed by the server")) }

// OnClose implements poller.Events.
func (c *client) OnClose(cause error) {
	c.decoder.Release()
	if c.opened {
		c.load.open.Add(-1)
	}
	switch {
	case cause == errRefused: //nolint:errorlint // our own
		c.load.refused.Add(1)
		c.settle()
	case !c.load.stopping.Load():
		c.fail(cause)
	}
}

// fail notes why a connection failed, once for each.
func (c *client) fail(err error) {
	if err == nil {
		err = errors.New("closed")
	}
	c.load.mu.Lock()
	c.load.failures[err.Error()]++
	c.load.mu.Unlock()
	c.settle()
}

func (c *client) settle() {
	if !c.settled {
		c.settled = true
		c.load.settled <- struct{}{}
	}
}

// OnData implements poller.Events.
func (c *client) OnData(b []byte) (rest []byte) {
	if !c.opened {
		if b = c.response(b); !c.opened {
			return nil
		}
		c.load.open.Add(1)
		c.send()
	}
	c.receive(b)
	return nil
}

// receive takes the frames in b.
func (c *client) receive(b []byte) {
	for {
		m, n, ok, err := c.decoder.Next(&c.load.options, b)
		if err != nil {
			c.conn.Close(err)
			return
		}
		if !ok {
			return
		}
		b = b[n:]
		if err := c.message(m); err != nil {
			c.conn.Close(err)
			return
		}
	}
}

// response reads the answer to the opening handshake and returns what follows it.
func (c *client) response(b []byte) []byte {
	head, rest, err := c.opening.take(b)
	if err == nil && head == nil {
		return nil
	}
	if err == nil {
		err = accepted(head, c.load.accept)
	}
	if err != nil {
		if c.load.refusable && bytes.HasPrefix(head, []byte("HTTP/1.1 503 ")) && bytes.Contains(head, []byte("\r\nRetry-After: ")) {
			err = errRefused
		}
		c.conn.Close(err)
		return nil
	}
	c.opened = true
	return rest
}

// send sends the next batch.
func (c *client) send() {
	c.turn = (c.turn + 1) % variants
	c.sendBatch(&c.load.batches[c.turn], time.Since(began))
}

func (c *client) sendBatch(b *batch, due time.Duration) {
	c.batch, c.due, c.waiting = b, due, int32(len(b.payloads))
	_, _ = c.conn.Send(b.frames, poller.Out{})
}

// message handles what came back.
func (c *client) message(m codec.Message) error {
	switch m.Opcode {
	case codec.OpPing:
		_, _ = c.conn.SendCopy(codec.AppendMaskedFrame(nil, codec.OpPong, true, m.Payload, [4]byte{}), nil, poller.Out{})
		return nil
	case codec.OpPong:
		return nil
	case codec.OpClose:
		code, _, _ := codec.ParseClose(m.Payload)
		return fmt.Errorf("close frame with %d", code)
	}
	if c.waiting == 0 {
		return errSurplus
	}
	if want := c.batch.payloads[len(c.batch.payloads)-int(c.waiting)]; !bytes.Equal(m.Payload, want) {
		return errContent
	}
	c.load.messages.Add(1)
	if c.waiting--; c.waiting == 0 {
		c.load.lap(c, time.Since(began)-c.due)
		c.settle()
		if c.load.again && !c.load.stopping.Load() {
			c.send()
		}
	}
	return nil
}
