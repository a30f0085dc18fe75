package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/codec"
)

// watched is a tap and what it has told so far.
type watched struct {
	*Tap
	t   testing.TB
	got []TapEvent
}

func (s *testServer) tap(c TapConfig) *watched {
	s.t.Helper()
	w := &watched{Tap: s.NewTap(c), t: s.t}
	s.t.Cleanup(w.Close)
	return w
}

// until reads until ok.
func (w *watched) until(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ok() {
		events, err := w.Next(ctx)
		if err != nil {
			w.t.Fatalf("%v before %s; got\n%s", err, what, strings.Join(w.lines(), "\n"))
		}
		w.got = append(w.got, events...)
	}
}

// lines are the events in words.
func (w *watched) lines() (list []string) {
	for _, e := range w.got {
		list = append(list, line(e))
	}
	return list
}

func line(e TapEvent) string {
	side := func(fromClient bool) string {
		if fromClient {
			return ">"
		}
		return "<"
	}
	switch {
	case e.Opening != nil:
		return "opening " + e.Opening.Path
	case e.Gap != nil:
		return fmt.Sprintf("gap %s %d frames", side(e.Gap.FromClient), e.Gap.Frames)
	case e.Fault != nil:
		return "fault " + e.Fault.Kind
	case e.End != nil:
		return "end " + e.End.Reason.String()
	}
	f := e.Frame
	b := fmt.Sprintf("%s fin=%v rsv=%d %v %.60q", side(f.FromClient), f.Header.Fin, f.Header.RSV, f.Header.Opcode, f.Data())
	if f.Header.RSV == 4 || f.Message != nil {
		b = fmt.Sprintf("%s fin=%v rsv=%d %v", side(f.FromClient), f.Header.Fin, f.Header.RSV, f.Header.Opcode)
	}
	if f.Joined {
		b += " joined"
	}
	if f.Cut {
		b += " cut"
	}
	if f.Message != nil {
		b += fmt.Sprintf(" message %.60q %s", f.Message.Inflated, f.Message.Err)
	}
	return b
}

// expect reads until there are as many events as lines, which it wants to be these.
func (w *watched) expect(want ...string) {
	w.t.Helper()
	w.until("all events", func() bool { return len(w.got) >= len(want) })
	for i, l := range w.lines() {
		if i >= len(want) || l != want[i] {
			w.t.Fatalf("events\n%s\nwant\n%s", strings.Join(w.lines(), "\n"), strings.Join(want, "\n"))
		}
	}
	w.got = nil
}

// the is the only open session.
func (s *testServer) the() (the *Session) {
	s.t.Helper()
	eventually(s.t, "one session is open", func() bool {
		n := 0
		s.Range(func(one *Session) { the = one; n++ })
		return n == 1
	})
	return the
}

// A tap that is there from the opening on sees everything, as it is on the wire.
func TestTapFromTheOpening(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := echoServer(t, inline)
		w := s.tap(TapConfig{OnOpening: func(*Tap, *Session, *TapOpening) bool { return true }})
		c := s.connect()
		c.write(join([]byte(openingHandshake), text("with the opening")))
		c.response("101")
		c.expect("text with the opening")
		w.expect("opening /echo", `> fin=true rsv=0 text "with the opening"`, `< fin=true rsv=0 text "with the opening"`)

		c.write(join(masked(OpText, false, "fr"), masked(codec.OpPing, true, "p"), masked(codec.OpContinuation, true, "ag"), text("more")))
		c.expect("pong p", "text frag", "text more")
		w.until("the last echo", func() bool { return len(w.got) >= 7 })
		w.got = w.got[:4]
		w.expect(`> fin=false rsv=0 text "fr"`, `> fin=true rsv=0 ping "p"`, `> fin=true rsv=0 continuation "ag"`, `> fin=true rsv=0 text "more"`)

		c.write(closeFrame(1000, "bye"))
		c.expectClose(1000)
		_ = c.Close()
		receive(t, closed)
		w.expect(`> fin=true rsv=0 close "\x03\xe8bye"`, `< fin=true rsv=0 close "\x03\xe8"`, "end client_close")
		if w.Attached() != 0 || s.Server.taps.probe(0) != nil {
			t.Errorf("%d sessions attached", w.Attached())
		}
	})
}

// The opening is that of the connection, with the accept value that belongs to its key.
func TestTapOpening(t *testing.T) {
	s, _ := echoServer(t, true)
	w := s.tap(TapConfig{OnOpening: func(_ *Tap, _ *Session, o *TapOpening) bool { return strings.Contains(string(o.Request), "yes") }})
	other := s.open()
	c := s.connect()
	request := strings.Replace(openingHandshake, "/echo", "/echo?yes", 1)
	c.write([]byte(request))
	response := c.response("101")
	w.expect("opening /echo")
	other.write(text("not tapped"))
	other.expect("text not tapped")
	c.write(text("tapped"))
	c.expect("text tapped")
	w.expect(`> fin=true rsv=0 text "tapped"`, `< fin=true rsv=0 text "tapped"`)

	w = s.tap(TapConfig{OnOpening: func(*Tap, *Session, *TapOpening) bool { return true }})
	c = s.connect()
	c.write([]byte(openingHandshake))
	c.response("101")
	w.until("the opening", func() bool { return len(w.got) > 0 })
	o := w.got[0].Opening
	if o.Synthesised || string(o.Request) != openingHandshake || string(o.Response) != response {
		t.Errorf("%+v\n%s\n%s", o, o.Request, o.Response)
	}
	if local := c.LocalAddr().String(); o.Remote.String() != local || o.Client.String() != "127.0.0.1" || o.Local.String() != s.addr || o.TLS != overTLS {
		t.Errorf("%+v, want from %s to %s", o, local, s.addr)
	}
	if AcceptKey("dGhlIHNhbXBsZSBub25jZQ==") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error("not the accept value of RFC 6455 §1.3")
	}
}

// accepted reports whether the answer of an opening has the accept value of its key.
func accepted(o *TapOpening) bool {
	_, key, _ := bytes.Cut(o.Request, []byte("Sec-WebSocket-Key: "))
	key, _, _ = bytes.Cut(key, []byte("\r\n"))
	return len(key) == 24 && bytes.Contains(o.Response, []byte("Sec-WebSocket-Accept: "+AcceptKey(string(key))+"\r\n"))
}

// pieces is a client's stream with all that can be unfinished in it.
func pieces() []byte {
	return join(masked(OpText, false, "first "), masked(codec.OpPing, true, "ping"), masked(codec.OpContinuation, false, "second "),
		masked(codec.OpContinuation, true, "third"), masked(OpBinary, true, strings.Repeat("b", 200)), text(""), text("end"))
}

// A tap that comes in mid-stream, after any byte, has the frame that is under way whole, and what the message had before.
func TestTapAtAnyByte(t *testing.T) {
	s, _ := echoServer(t, true)
	var want string // what the data frames bring
	for _, f := range []string{"first ", "second ", "third", strings.Repeat("b", 200), "", "end"} {
		want += f
	}
	stream := pieces()
	for i := range len(stream) + 1 {
		c := s.open()
		session := s.the()
		before := s.Stats().BytesIn
		if i > 0 {
			c.write(stream[:i])
			received := int64(i)
			if overTLS {
				received += 22 // what a record adds
			}
			eventually(t, "the bytes are read", func() bool { return s.Stats().BytesIn-before == received })
		}
		w := s.tap(TapConfig{})
		if !w.Attach(session) || w.Attach(session) {
			t.Fatal("not attached, or twice")
		}
		c.write(join(stream[i:], text("mark")))
		w.until("the mark", func() bool {
			return len(w.got) > 0 && line(w.got[len(w.got)-1]) == `< fin=true rsv=0 text "mark"`
		})
		if o := w.got[0].Opening; o == nil || !o.Synthesised || !accepted(o) {
			t.Fatalf("first came %+v", w.got[0])
		}
		got, wire := "", []byte(nil)
		for _, e := range w.got[1:] {
			if e.Frame == nil {
				t.Fatalf("after %d bytes: %s", i, line(e))
			}
			if f := e.Frame; f.FromClient {
				if !f.Header.Opcode.IsControl() {
					got += string(f.Data())
				}
				if !f.Joined {
					wire = append(append(wire, f.Wire...), f.Payload...)
				}
			}
		}
		if !strings.HasSuffix(want+"mark", got) || !bytes.HasSuffix(join(stream, text("mark")), wire) || !bytes.HasSuffix(wire, join(stream[i:], text("mark"))) {
			t.Fatalf("after %d bytes: %q\n%s", i, got, strings.Join(w.lines(), "\n"))
		}
		w.Close()
		_ = c.Close()
		eventually(t, "the session is gone", func() bool { return s.table.Len() == 0 })
	}
}

// A fault is told after the frame that shows it.
func TestTapFault(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.open()
	w := s.tap(TapConfig{})
	w.Attach(s.the())
	c.write(codec.AppendFrame(nil, OpText, []byte("no mask")))
	c.expectClose(1002)
	_ = c.Close()
	w.until("the end", func() bool { return len(w.got) > 0 && w.got[len(w.got)-1].End != nil })
	want := []string{
		"opening /echo", `> fin=true rsv=0 text "no mask"`, "fault mask_missing",
		`< fin=true rsv=0 close "\x03\xeaframe from a client is not masked"`, "end protocol_error",
	}
	got := w.lines()
	if len(got) != len(want) || got[1] != want[1] || got[2] != want[2] || !strings.HasPrefix(got[3], `< fin=true rsv=0 close "\x03\xea`) || got[4] != want[4] {
		t.Errorf("events\n%s", strings.Join(got, "\n"))
	}
}

// Compressed messages are inflated, with and without context takeover, also when the tap comes when there is a context.
func TestTapInflates(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("takeover=%v/late=%v", takeover, late), func(t *testing.T) {
				s, _ := compressingServer(t, true, Compression{ContextTakeover: takeover, MinBytes: 1})
				w := s.tap(TapConfig{OnOpening: func(*Tap, *Session, *TapOpening) bool { return !late }})
				message := strings.Repeat("once more unto the breach, ", 20)
				c, _ := s.openDeflate("permessage-deflate")
				c.write(deflatedFrame(OpText, message))
				c.next()
				if late {
					w.Attach(s.the())
				}
				c.write(deflatedFrame(OpText, message))
				c.next()
				c.write(join(split(deflatedFrame(OpText, message), 10)...))
				c.next()
				var inflated []string
				w.until("the last echo", func() bool {
					inflated = nil
					for _, e := range w.got {
						if e.Frame != nil && e.Frame.Message != nil {
							if e.Frame.Message.Err != "" || string(e.Frame.Message.Inflated) != message {
								t.Fatalf("%s", line(e))
							}
							inflated = append(inflated, "x")
						}
					}
					return len(inflated) == 4 || len(inflated) == 6 && !late
				})
				if o := w.got[0].Opening; !o.Deflate || o.ClientTakeover != takeover || o.ServerTakeover != takeover || o.Synthesised != late {
					t.Errorf("%+v", o)
				}
				if o := w.got[0].Opening; late && strings.Contains(string(o.Response), "no_context_takeover") == takeover {
					t.Errorf("%s", o.Response)
				}
			})
		}
	}
}

// split makes fragments of a masked frame: the first has n bytes of its payload.
func split(frame []byte, n int) [][]byte {
	size := codec.HeaderBytes(frame)
	h := codec.ReadHeader(frame[:size])
	payload := bytes.Clone(frame[size:])
	codec.Mask(payload, h.Mask)
	first := codec.AppendMaskedFrame(nil, h.Opcode, false, payload[:n], h.Mask)
	first[0] |= 0x40
	return [][]byte{first, masked(codec.OpContinuation, true, string(payload[n:]))}
}

// A client of messages that are still waiting for it: those cannot be inflated, later ones can.
func TestTapWhileWaiting(t *testing.T) {
	s := startServerOn(t, SocketOptions{SendBuffer: 4096}, Config{
		OutboxBytes: 1 << 22, Endpoints: []Endpoint{{
			Path: "/echo", Handler: echoHandler{}, MaxMessageBytes: 1 << 22, Compression: &Compression{ContextTakeover: true, MinBytes: 1},
		}},
	})
	c, _ := s.openDeflate("permessage-deflate")
	one := s.the()
	noise := strings.Repeat("0123456789abcdef", 1<<16)
	big := []byte(noise)
	for i := range big {
		big[i] ^= byte(i * i >> 7)
	}
	if err := one.SendMessage(codec.OpBinary, big); err != nil { // more than the kernel takes
		t.Fatal(err)
	}
	for range 300 {
		_ = one.SendMessage(codec.OpBinary, big[:1<<12])
	}
	if one.Waiting() == 0 {
		t.Fatal("nothing waits")
	}
	w := s.tap(TapConfig{BufferBytes: 1 << 24, FrameBytes: 1 << 22})
	w.Attach(one)
	after := strings.Repeat("after those ", 20)
	if err := one.SendMessage(OpText, []byte(after)); err != nil {
		t.Fatal(err)
	}
	for range 302 {
		c.next()
	}
	waited := 0
	w.until("the last message", func() bool {
		waited = 0
		for _, e := range w.got {
			if e.Frame == nil || e.Frame.Message == nil {
				continue
			}
			if string(e.Frame.Message.Inflated) == after {
				return true
			}
			if e.Frame.Message.Err != whyWaiting || e.Frame.Cut {
				t.Fatal(line(e))
			}
			waited++
		}
		return false
	})
	if waited == 0 {
		t.Error("no message was on its way")
	}
}

// What does not fit is counted, and the next frame that does is whole.
func TestTapGap(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.open()
	w := s.tap(TapConfig{BufferBytes: 2000})
	w.Attach(s.the())
	const n = 500
	for i := range n {
		c.write(text(fmt.Sprintf("message %d", i)))
		c.expect(fmt.Sprintf("text message %d", i))
	}
	w.until("the first events", func() bool { return len(w.got) > 0 })
	c.write(text("mark"))
	c.expect("text mark")
	w.until("the mark", func() bool {
		return line(w.got[len(w.got)-1]) == `< fin=true rsv=0 text "mark"`
	})
	frames, lost := map[bool]int64{}, map[bool]int64{}
	for _, e := range w.got {
		switch {
		case e.Gap != nil:
			lost[e.Gap.FromClient] += e.Gap.Frames
		case e.Frame != nil:
			if e.Frame.Cut {
				t.Error(line(e))
			}
			frames[e.Frame.FromClient]++
		}
	}
	for _, fromClient := range []bool{false, true} {
		if lost[fromClient] == 0 || frames[fromClient]+lost[fromClient] != n+1 {
			t.Errorf("from the client %v: %d frames, %d lost, want %d together", fromClient, frames[fromClient], lost[fromClient], n+1)
		}
	}
}

// A frame in pieces of which the middle is lost is cut, and the next is whole.
func TestTapGapInAFrame(t *testing.T) {
	tap := &Tap{config: TapConfig{BufferBytes: 3 * recordCost, FrameBytes: 100}, ready: make(chan struct{}, 1), wires: map[uint64]*wires{}}
	o := &outlet{tap: tap}
	tap.push(tapRecord{opening: &TapOpening{Path: "/"}, begin: &tapBegin{}}, always)
	stream := join(text(strings.Repeat("x", 1000)), text("two"), masked(OpText, true, strings.Repeat("y", 101)))
	o.tell(&o.in, true, time.Time{}, stream[:10])
	o.tell(&o.in, true, time.Time{}, stream[10:900])
	w := &watched{Tap: tap, t: t}
	w.expect("opening /")
	o.tell(&o.in, true, time.Time{}, stream[900:])
	w.expect(`> fin=true rsv=0 text "xx" cut`, "gap > 0 frames", `> fin=true rsv=0 text "two"`,
		fmt.Sprintf("> fin=true rsv=0 text %.60q cut", strings.Repeat("y", 100)))
}

// Where a frame begins is known, too, when the tap came in the middle of one: of its rest, which is lost, none is counted.
func TestTapGapAfterAnUnfinishedFrame(t *testing.T) {
	for _, rest := range []string{"", strings.Repeat("x", 30)} {
		tap := &Tap{config: TapConfig{BufferBytes: 1000}, ready: make(chan struct{}, 1)}
		o := &outlet{tap: tap}
		stream := join(text(strings.Repeat("x", 70)+rest), text("two"), text("three"))
		o.in.resume(&codec.Unfinished{InFrame: true, Frame: codec.ReadHeader(stream[:6]), Payload: make([]byte, 70)})
		tap.bytes = 1000 // full
		o.tell(&o.in, true, time.Time{}, stream[6+70:])
		if o.in.lostFrames != 2 {
			t.Errorf("%d frames are lost, want 2", o.in.lostFrames)
		}
	}
}

// Several taps look on at a session; each can leave, and none sees more than its part.
func TestTapsTogether(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.open()
	session := s.the()
	first, second := s.tap(TapConfig{}), s.tap(TapConfig{})
	first.Attach(session)
	c.write(text("one"))
	c.expect("text one")
	second.Attach(session)
	c.write(text("two"))
	c.expect("text two")
	first.expect("opening /echo", `> fin=true rsv=0 text "one"`, `< fin=true rsv=0 text "one"`, `> fin=true rsv=0 text "two"`, `< fin=true rsv=0 text "two"`)
	first.Detach(session.ID())
	c.write(text("three"))
	c.expect("text three")
	second.expect("opening /echo", `> fin=true rsv=0 text "two"`, `< fin=true rsv=0 text "two"`, `> fin=true rsv=0 text "three"`, `< fin=true rsv=0 text "three"`)
	if events, _ := first.take(); len(events) > 0 {
		t.Errorf("%d records after Detach", len(events))
	}
	second.Close()
	if _, err := second.Next(t.Context()); !errors.Is(err, ErrTapClosed) {
		t.Errorf("Next after Close: %v", err)
	}
	if session.tapped() || second.Attach(session) || session.tapped() {
		t.Error("the session is still tapped, or a closed tap attaches")
	}
	c.write(text("four"))
	c.expect("text four")
}

// A session that is paused, because its handler is busy, gives what it reads later once only.
func TestTapWhilePaused(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	var once sync.Once
	s := startServer(t, Config{InboxBytes: 1000, Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{
		Message: func(s *Session, op Opcode, payload []byte) {
			once.Do(func() { entered <- struct{}{}; <-release })
			_ = s.SendMessage(op, payload)
		},
	}}}})
	c := s.open()
	w := s.tap(TapConfig{BufferBytes: 1 << 22})
	w.Attach(s.the())
	const n = 300
	var all []byte
	message := func(i int) string { return fmt.Sprintf("%03d %s", i, strings.Repeat("x", 100)) }
	for i := range n {
		all = append(all, text(message(i))...)
	}
	c.pour(all)
	receive(t, entered)
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	late := s.tap(TapConfig{BufferBytes: 1 << 22})
	late.Attach(s.the())
	close(release)
	for range n {
		c.next()
	}
	c.write(text("after the pause"))
	c.expect("text after the pause")
	all = append(all, text("after the pause")...)
	// sent are the bytes of the client's frames that a tap has seen, once the last is among them.
	sent := func(w *watched) (wire []byte) {
		w.until("the last frame", func() bool {
			wire = nil
			for _, e := range w.got {
				if e.Frame != nil && e.Frame.FromClient {
					wire = append(append(wire, e.Frame.Wire...), e.Frame.Payload...)
				}
			}
			return bytes.HasSuffix(wire, text("after the pause"))
		})
		return wire
	}
	if got := sent(w); !bytes.Equal(got, all) {
		t.Errorf("of %d bytes the tap has %d, or others", len(all), len(got))
	}
	// What the handler had got before is not seen any more; from there on nothing is missing, and nothing is there twice.
	if got := sent(late); !bytes.HasSuffix(all, got) || len(got) < len(all)/2 {
		t.Errorf("the late tap has %d bytes of %d, or others", len(got), len(all))
	}
}

// A tap that comes in the middle of a frame, and loses the rest of that, goes on with the next frame that it has whole.
func TestTapGapAfterTheMiddle(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.open()
	long := masked(OpBinary, true, strings.Repeat("\xb6\x7b", 50)) // masked, of many a header
	c.write(join(masked(codec.OpPing, true, ""), long[:50]))
	c.expect("pong ") // the server has all that was sent
	w, session := s.tap(TapConfig{BufferBytes: 300}), s.the()
	w.Attach(session) // which takes all of the buffer
	c.write(join(long[50:], text("lost")))
	c.next()
	c.expect("text lost")
	session.Outbox() // waits for the lock under which what was sent is told
	w.until("the opening", func() bool { return len(w.got) > 0 })
	c.write(text("seen"))
	c.expect("text seen")
	w.until("the echo", func() bool { return line(w.got[len(w.got)-1]) == `< fin=true rsv=0 text "seen"` })
	for i, want := range []string{"opening /echo", `> fin=true rsv=0 binary "`, "gap > 1 frames", `> fin=true rsv=0 text "seen"`, "gap < 2 frames", `< fin=true rsv=0 text "seen"`} {
		if i >= len(w.got) || !strings.HasPrefix(w.lines()[i], want) || (i == 1) != strings.HasSuffix(w.lines()[i], " cut") {
			t.Fatalf("events\n%s", strings.Join(w.lines(), "\n"))
		}
	}
}

// Shared frames, batches and heartbeats are seen as well.
func TestTapSends(t *testing.T) {
	s, _ := echoServer(t, true)
	c := s.open()
	session := s.the()
	w := s.tap(TapConfig{})
	w.Attach(session)
	shared := NewFrame(OpText, []byte("shared"))
	_ = session.Send(shared)
	_ = session.SendAll([]*Frame{shared, NewFrame(OpBinary, []byte("second")), shared})
	_ = session.SendAnswers(shared)
	_ = session.Ping([]byte("?"))
	c.expect("text shared", "text shared", "binary second", "text shared", "text shared", "ping ?")
	w.expect("opening /echo", `< fin=true rsv=0 text "shared"`, `< fin=true rsv=0 text "shared"`, `< fin=true rsv=0 binary "second"`,
		`< fin=true rsv=0 text "shared"`, `< fin=true rsv=0 text "shared"`, `< fin=true rsv=0 ping "?"`)
	session.Close(1001, "go")
	w.expect(`< fin=true rsv=0 close "\x03\xe9go"`)
}

// Taps come and go while sessions do, and while they talk.
func TestTapStorm(t *testing.T) {
	s, _ := echoServer(t, false)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := s.dial(&net.Dialer{})
				if err != nil {
					continue
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				r := newRaw(t, c)
				_, _ = c.Write(join([]byte(openingHandshake), pieces()))
				for range 5 {
					_, _ = r.in.ReadByte()
				}
				_ = c.Close()
			}
		})
	}
	for i := range 50 {
		tap := s.NewTap(TapConfig{BufferBytes: 10_000, OnOpening: func(*Tap, *Session, *TapOpening) bool { return i%2 == 0 }})
		for range 5 {
			s.Range(func(session *Session) { tap.Attach(session) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			events, _ := tap.Next(ctx)
			cancel()
			for _, e := range events {
				if e.Frame != nil && e.Frame.FromClient && e.Frame.Header.Opcode == codec.OpPing && string(e.Frame.Data()) != "ping" {
					t.Errorf("%s", line(e))
				}
			}
			s.Range(func(session *Session) { tap.Detach(session.ID()) })
		}
		tap.Close()
		if n := tap.Attached(); n != 0 {
			t.Fatalf("%d sessions are attached to a closed tap", n)
		}
	}
	close(stop)
	running.Wait()
	eventually(t, "no session is tapped", func() bool {
		n := 0
		s.taps.probes.Range(func(any, any) bool { n++; return true })
		return n == 0
	})
}

// Of connections that come and go faster than anybody reads no more is kept than fits, and when there is room again they are seen.
func TestTapWithoutAReader(t *testing.T) {
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}}})
	const room = 32 << 10
	w := s.tap(TapConfig{BufferBytes: room, OnOpening: func(*Tap, *Session, *TapOpening) bool { return true }})
	const n = 200
	for range n {
		c := s.open()
		c.write(text("a"))
		c.expect("text a")
		_ = c.Close()
	}
	eventually(t, "all are gone", func() bool { return s.Stats().Connections == 0 })
	w.mu.Lock()
	kept, records := w.bytes, len(w.records)
	w.mu.Unlock()
	if kept > 2*room || records > 2*room/recordCost || !w.Missed() || w.Missed() || w.Attached() != 0 {
		t.Errorf("%d bytes in %d records are kept, %d attached", kept, records, w.Attached())
	}
	c := s.open()
	w.until("those that fitted have ended", func() bool { return len(w.got) > 0 && w.got[len(w.got)-1].End != nil })
	openings := 0
	for _, e := range w.got {
		if e.Opening != nil {
			openings++
		}
	}
	if openings < 10 || openings >= n {
		t.Errorf("%d of %d were seen", openings, n)
	}
	_ = c.Close()
	c = s.open()
	c.write(text("mark"))
	c.expect("text mark")
	w.until("the next one", func() bool { return strings.Contains(strings.Join(w.lines(), "\n"), `"mark"`) })
}
