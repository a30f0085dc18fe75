package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
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
	errHandshake = errors.New("the opening handshake was not answered as it must be")
	errContent   = errors.New("a message came back changed")
	errSurplus   = errors.New("a message came that nobody sent")
)

// load is what all connections of a run share.
type load struct {
	// Immutable after newLoad.
	poller  *poller.Poller
	target  netip.AddrPort
	request []byte
	accept  []byte // the Sec-WebSocket-Accept that proves it
	batch   []byte // masked frames, sent in one go
	payload []byte // what each must come back as
	depth   int    // frames in batch
	again   bool   // answer a whole batch with the next one
	options codec.Options
	lap     func(c *client, took time.Duration) // a batch has come back; the client's loop

	// Any goroutine (atomic).
	stopping atomic.Bool
	messages atomic.Int64 // that came back unchanged
	open     atomic.Int64

	// Guarded by mu.
	mu       sync.Mutex
	failures map[string]int

	settled chan *client // every client once: its first batch came back, or it failed
}

// clientKey is 16 bytes, as RFC 6455 §4.1 wants; it need not be secret for a benchmark.
var clientKey = base64.StdEncoding.EncodeToString([]byte("millpond's bench"))

func newLoad(p *poller.Poller, target netip.AddrPort, host, path string, messageBytes, depth int) *load {
	sum := sha1.Sum([]byte(clientKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	l := &load{
		poller: p, target: target, depth: depth,
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", path, host, clientKey),
		accept:   []byte(base64.StdEncoding.EncodeToString(sum[:])),
		payload:  bytes.Repeat([]byte("millpond"), messageBytes/8+1)[:messageBytes],
		options:  codec.Options{MaxMessageBytes: max(messageBytes, 1), Client: true},
		failures: map[string]int{},
		lap:      func(*client, time.Duration) {},
	}
	for range depth {
		l.batch = codec.AppendMaskedFrame(l.batch, codec.OpText, true, l.payload, [4]byte{0x6d, 0x70, 0x62, 0x21})
	}
	return l
}

// client is one connection of the load.
type client struct {
	conn poller.Conn

	// Immutable after open.
	load *load

	// Owned by the loop goroutine.
	decoder codec.Decoder
	header  *[]byte       // of the response, while it is incomplete
	sent    time.Duration // when the batch left, since the program began
	waiting int32         // messages of the batch that have not come back
	opened  bool
	settled bool
}

var began = time.Now()

// dial begins to open a connection.
func (l *load) dial(source netip.AddrPort) {
	c := &client{load: l}
	if err := l.poller.Dial(&c.conn, l.target, c, poller.DialOptions{Source: source}); err != nil {
		c.fail(err)
	}
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
	if !c.load.stopping.Load() {
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
		c.load.settled <- c
	}
}

// OnData implements poller.Events.
func (c *client) OnData(b []byte) {
	if !c.opened {
		if b = c.response(b); !c.opened {
			return
		}
		c.load.open.Add(1)
		c.send()
	}
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
	if c.header != nil {
		*c.header = append(*c.header, b...)
		b = *c.header
	}
	head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if !whole {
		if c.header == nil {
			c.header = &[]byte{}
			*c.header = append(*c.header, b...)
		}
		if len(b) > 16<<10 {
			c.conn.Close(errHandshake)
		}
		return nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, c.load.accept) {
		status, _, _ := bytes.Cut(head, []byte("\r\n"))
		c.conn.Close(fmt.Errorf("%w: %.60q", errHandshake, status))
		return nil
	}
	c.header = nil
	c.opened = true
	return rest
}

// send sends a batch.
func (c *client) send() {
	c.sent = time.Since(began)
	c.waiting = int32(c.load.depth)
	_, _ = c.conn.Send(c.load.batch, poller.Out{})
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
	if !bytes.Equal(m.Payload, c.load.payload) {
		return errContent
	}
	if c.waiting == 0 {
		return errSurplus
	}
	c.load.messages.Add(1)
	if c.waiting--; c.waiting == 0 {
		c.load.lap(c, time.Since(began)-c.sent)
		c.settle()
		if c.load.again && !c.load.stopping.Load() {
			c.send()
		}
	}
	return nil
}
