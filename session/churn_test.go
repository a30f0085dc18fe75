package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/codec"
)

// In a churn every connection has a mark, and every byte of every message in either direction is checked against it:
// a byte that is another connection's is seen at once, wherever it comes from.

// markedBytes is the head of a marked message: mark, kind, sequence number. The rest repeats the mark.
const markedBytes = 9

// Kinds of marked messages.
const (
	kindEcho = 'e'
	kindPush = 'p'
)

func marked(mark uint32, kind byte, seq uint32, filling int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, mark)
	b = binary.LittleEndian.AppendUint32(append(b, kind), seq)
	for i := range filling {
		b = append(b, byte(mark>>(8*(i%4))))
	}
	return b
}

// checkMarked returns what a message says, if it is wholly of this mark.
func checkMarked(mark uint32, b []byte) (kind byte, seq uint32, err error) {
	if len(b) < markedBytes {
		return 0, 0, fmt.Errorf("mark %d: a message of %d bytes", mark, len(b))
	}
	kind, seq = b[4], binary.LittleEndian.Uint32(b[5:])
	if want := marked(mark, kind, seq, len(b)-markedBytes); !bytes.Equal(b, want) {
		return 0, 0, fmt.Errorf("mark %d: %.40x is not %.40x", mark, b, want)
	}
	return kind, seq, nil
}

// churn is what all connections of the test share.
type churn struct {
	t      *testing.T
	server *testServer
	opened atomic.Int64 // OnOpen
	closed atomic.Int64 // OnClose
	echoes atomic.Int64 // that came back right
	pushes atomic.Int64
	wrong  atomic.Int64
	later  chan func() // what other goroutines do to sessions
}

func (ch *churn) fail(err error) {
	if err != nil && ch.wrong.Add(1) < 10 {
		ch.t.Error(err)
	}
}

// churned is the handler's side of one session.
type churned struct {
	mark   uint32
	random *rand.Rand // of the calls alone

	running atomic.Bool // in a call
	state   int         // 0 new, 1 open, 2 closed; of the calls alone
	seq     uint32      // of the next message

	pushMu sync.Mutex // keeps pushes in order
	pushed uint32
}

// enter and leave hold the engine to its word: one call at a time, in the right state.
func (c *churned) enter(ch *churn, state int, what string) {
	if c.running.Swap(true) {
		ch.fail(fmt.Errorf("mark %d: %s while another call runs", c.mark, what))
	}
	if c.state != state {
		ch.fail(fmt.Errorf("mark %d: %s in state %d", c.mark, what, c.state))
	}
}

func (c *churned) leave() { c.running.Store(false) }

func (ch *churn) OnOpen(s *Session) {
	c := s.Data().(*churned)
	c.enter(ch, 0, "OnOpen")
	defer c.leave()
	c.state = 1
	ch.opened.Add(1)
}

func (ch *churn) OnClose(s *Session, why Status) {
	c := s.Data().(*churned)
	c.enter(ch, 1, "OnClose")
	defer c.leave()
	c.state = 2
	ch.closed.Add(1)
	if why.Reason == ReasonNone {
		ch.fail(fmt.Errorf("mark %d: ended for no reason", c.mark))
	}
}

func (ch *churn) OnMessage(s *Session, op Opcode, payload []byte) {
	c := s.Data().(*churned)
	c.enter(ch, 1, "OnMessage")
	defer c.leave()
	_, seq, err := checkMarked(c.mark, payload)
	ch.fail(err)
	if seq != c.seq {
		ch.fail(fmt.Errorf("mark %d: message %d, want %d", c.mark, seq, c.seq))
	}
	c.seq++
	_ = s.SendMessage(op, payload)
	switch c.random.IntN(60) {
	case 0:
		s.Close(4000, "churn")
	case 1:
		ch.later <- func() { s.Close(4001, "later") }
	case 2:
		panic("churn")
	case 3:
		time.Sleep(time.Millisecond) // the inbox fills, reading pauses
	case 4, 5, 6, 7, 8, 9:
		size := c.random.IntN(20_000)
		ch.later <- func() { ch.push(s, c, size) }
	}
}

// push sends a message that nobody asked for; any goroutine.
func (ch *churn) push(s *Session, c *churned, size int) {
	c.pushMu.Lock()
	defer c.pushMu.Unlock()
	if s.Send(NewFrame(OpBinary, marked(c.mark, kindPush, c.pushed, size))) == nil {
		c.pushed++
	}
}

// TestChurn opens and ends tens of thousands of connections in all ways, while other goroutines write to them and close
// them, so that every descriptor's number is used again and again. No byte may reach another connection, and each
// handler gets its calls in order.
func TestChurn(t *testing.T) {
	connections, clients := 20_000, 64
	if raceEnabled {
		connections = 3000
	}
	ch := &churn{t: t, later: make(chan func(), 1024)}
	path := filepath.Join(t.TempDir(), "socket")
	endpoint := func(path string, inline bool) Endpoint {
		return Endpoint{
			Path: path, Handler: ch, Inline: inline, Compression: &Compression{ContextTakeover: true}, MaxMessageBytes: 1 << 20,
			Accept: func(r *Request) (any, error) {
				mark, err := strconv.ParseUint(r.Query().Get("mark"), 10, 32)
				return &churned{mark: uint32(mark), random: rand.New(rand.NewPCG(mark, 1))}, err
			},
		}
	}
	ch.server = startServer(t, Config{
		InboxBytes: 20_000, OutboxBytes: 60_000, CloseTimeout: time.Second,
		Endpoints: []Endpoint{endpoint("/pooled", false), endpoint("/inline", true)},
	})
	ch.server.mayPanic = true
	l, err := Listen("unix:"+path, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = ch.server.Serve(l) }()

	var helpers, all sync.WaitGroup
	for range 4 {
		helpers.Go(func() {
			for f := range ch.later {
				f()
			}
		})
	}
	var next atomic.Uint32
	for range clients {
		all.Go(func() {
			for mark := next.Add(1); mark <= uint32(connections); mark = next.Add(1) {
				ch.visit(mark, path)
			}
		})
	}
	all.Wait()
	eventually(t, "all sessions are gone", func() bool { return ch.server.table.Len() == 0 })
	eventually(t, "all handlers know", func() bool { return ch.opened.Load() == ch.closed.Load() })
	close(ch.later)
	helpers.Wait()

	st := ch.server.Stats()
	ended := int64(0)
	for _, n := range st.Closed {
		ended += n
	}
	if st.Opened != ch.opened.Load() || ended != st.Accepted {
		t.Errorf("%d opened, %d told; %d accepted, %d ended", st.Opened, ch.opened.Load(), st.Accepted, ended)
	}
	if ch.echoes.Load() == 0 || ch.pushes.Load() == 0 || st.Panics == 0 || st.ReadPauses == 0 || st.Closed[ReasonSlowConsumer] == 0 {
		t.Errorf("not everything happened: %d echoes, %d pushes, %d panics, %d pauses, %v", ch.echoes.Load(), ch.pushes.Load(), st.Panics, st.ReadPauses, st.Closed)
	}
	t.Logf("%d connections, %d echoes and %d pushes checked, %d read pauses, ended: %v", connections, ch.echoes.Load(), ch.pushes.Load(), st.ReadPauses, st.Closed)
}

// visit is the life of one client.
func (ch *churn) visit(mark uint32, unixPath string) {
	random := rand.New(rand.NewPCG(uint64(mark), 2))
	c, err := ch.dial(random, unixPath)
	if err != nil {
		ch.fail(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	path, offer := "/pooled", "none"
	if random.IntN(2) == 0 {
		path = "/inline"
	}
	if random.IntN(2) == 0 {
		offer = "permessage-deflate"
	}
	request := strings.Replace(openingHandshake, "/echo", fmt.Sprintf("%s?mark=%d", path, mark), 1)
	request = strings.TrimSuffix(request, "\r\n") + "Sec-WebSocket-Extensions: " + offer + "\r\n\r\n"
	messages := random.IntN(30)
	out := []byte(request)
	for seq := range messages {
		size := random.IntN(200)
		if random.IntN(10) == 0 {
			size = random.IntN(50_000)
		}
		out = append(out, masked(OpBinary, true, string(marked(mark, kindEcho, uint32(seq), size)))...)
	}
	how := random.IntN(8)
	if how < 3 {
		out = append(out, closeFrame(1000, "")...)
	}
	var writing sync.WaitGroup
	writing.Go(func() { // it may not be read to its end
		_, _ = c.Write(out)
		if how == 3 {
			_ = closeWrite(c)
		}
	})
	defer writing.Wait()
	switch how {
	case 4: // goes without a word
		_ = c.Close()
	case 5: // is reset
		if _, ok := c.(*net.UnixConn); !ok {
			_ = tcp(c).SetLinger(0)
		}
		time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
		_ = c.Close()
	case 6: // does not read, until it is late
		for range 100 { // until it is open; it may be closed by now, too
			flooded := make(chan bool)
			ch.later <- func() { flooded <- ch.flood(mark) }
			if <-flooded {
				break
			}
			time.Sleep(time.Millisecond)
		}
		ch.read(c, mark, random.IntN(messages+1))
	case 7: // reads a part
		ch.read(c, mark, random.IntN(messages+1))
	default: // reads all
		ch.read(c, mark, messages)
	}
	_ = c.Close()
}

// flood sends more to one session than its outbox holds, and reports whether there is such a session.
func (ch *churn) flood(mark uint32) (found bool) {
	ch.server.Range(func(s *Session) {
		if c := s.Data().(*churned); c.mark == mark {
			found = true
			for range 60 {
				ch.push(s, c, 20_000)
			}
		}
	})
	return found
}

func (ch *churn) dial(random *rand.Rand, unixPath string) (net.Conn, error) {
	if random.IntN(2) == 0 {
		return net.Dial("unix", unixPath)
	}
	// Several source addresses, for ports rest for a minute after use.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+random.IntN(16)))}}
	return ch.server.dial(&d)
}

// read reads until there are as many echoes, or the end, and checks everything.
func (ch *churn) read(c net.Conn, mark uint32, echoes int) {
	in := make([]byte, 64<<10)
	var head []byte
	open := false
	var d codec.Decoder
	defer d.Release()
	o := &codec.Options{Client: true, Deflate: true, TakeoverBits: 15, MaxMessageBytes: 1 << 20}
	var nextEcho, nextPush uint32
	for int(nextEcho) < echoes {
		n, err := c.Read(in)
		if err != nil {
			return
		}
		b := in[:n]
		if !open {
			head = append(head, b...)
			_, rest, whole := bytes.Cut(head, []byte("\r\n\r\n"))
			if !whole {
				continue
			}
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
				ch.fail(fmt.Errorf("mark %d: %.60q", mark, head))
				return
			}
			open, b = true, rest
		}
		for {
			m, n, ok, err := d.Next(o, b)
			if err != nil {
				ch.fail(fmt.Errorf("mark %d: %w", mark, err))
				return
			}
			if !ok {
				break
			}
			b = b[n:]
			if m.Opcode != OpBinary {
				continue
			}
			kind, seq, err := checkMarked(mark, m.Payload)
			ch.fail(err)
			want, count := &nextEcho, &ch.echoes
			if kind == kindPush {
				want, count = &nextPush, &ch.pushes
			}
			if seq != *want {
				ch.fail(fmt.Errorf("mark %d: %c %d, want %d", mark, kind, seq, *want))
			}
			*want++
			count.Add(1)
		}
	}
}
