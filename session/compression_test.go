package session

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/codec"
)

func compressingServer(t *testing.T, inline bool, c Compression) (*testServer, chan Status) {
	closed := make(chan Status, 5000)
	return startServer(t, Config{Endpoints: []Endpoint{{
		Path: "/echo", Inline: inline, Handler: echoHandler{closed}, Compression: &c, MaxMessageBytes: 1 << 20,
	}}}), closed
}

// openDeflate connects with an offer and returns the answer's extensions.
func (s *testServer) openDeflate(offer string) (*raw, string) {
	s.t.Helper()
	c := s.connect()
	c.write([]byte(strings.TrimSuffix(openingHandshake, "\r\n") + "Sec-WebSocket-Extensions: " + offer + "\r\n\r\n"))
	_, extensions, _ := strings.Cut(c.response("101"), "Sec-WebSocket-Extensions: ")
	extensions, _, _ = strings.Cut(extensions, "\r\n")
	return c, extensions
}

// deflatedFrame is a client's message, compressed by another implementation.
func deflatedFrame(op Opcode, message string) []byte {
	b := masked(op, true, stdDeflate(message))
	b[0] |= 0x40
	return b
}

func stdDeflate(message string) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, 6)
	_, _ = io.WriteString(w, message)
	_ = w.Flush()
	return strings.TrimSuffix(out.String(), "\x00\x00\xff\xff")
}

// nextInflated reads a frame, which must be compressed, and inflates it.
func (c *raw) nextInflated(window []byte) string {
	c.t.Helper()
	first, err := c.in.Peek(1)
	if err != nil || first[0]&0x70 != 0x40 {
		c.t.Fatalf("first byte %x, %v: not compressed", first, err)
	}
	_, payload := c.next()
	r := flate.NewReaderDict(strings.NewReader(payload+"\x00\x00\xff\xff\x01\x00\x00\xff\xff"), window)
	message, err := io.ReadAll(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(message)
}

// TestCompression is each thing that a client with permessage-deflate may do, and the server's answer.
func TestCompression(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := compressingServer(t, inline, Compression{})
		long := strings.Repeat("a message that gets shorter ", 20)

		c, agreed := s.openDeflate("permessage-deflate; client_max_window_bits")
		if want := "permessage-deflate; server_no_context_takeover; client_no_context_takeover"; agreed != want {
			t.Fatalf("agreed on %q, want %q", agreed, want)
		}
		c.write(join(deflatedFrame(OpText, "short"), deflatedFrame(OpText, long), text(long), deflatedFrame(OpBinary, "\x00\xff")))
		c.expect("text short")
		for range 2 {
			if got := c.nextInflated(nil); got != long {
				t.Fatalf("got %q", got)
			}
		}
		c.expect("binary \x00\xff")

		// In fragments, with a ping between.
		whole := stdDeflate(long)
		first := masked(OpText, false, whole[:7])
		first[0] |= 0x40
		c.write(join(first, masked(codec.OpPing, true, "now"), masked(codec.OpContinuation, true, whole[7:])))
		c.expect("pong now")
		if got := c.nextInflated(nil); got != long {
			t.Fatalf("got %q", got)
		}
		eventually(t, "all is counted", func() bool {
			st := s.Stats()
			return st.Deflating == 1 && st.DeflatedOut == 3 && st.DeflateSaved > 3*400
		})
		c.write(closeFrame(1000, ""))
		c.expectClose(1000)
		_ = c.Close()
		receive(t, closed)

		for _, fault := range []struct {
			name string
			send []byte
			code CloseCode
			kind string
			why  Reason
		}{
			{"corrupt", func() []byte { b := text("no deflate"); b[0] |= 0x40; return b }(), 1007, "deflate_corrupt", ReasonInvalidData},
			{"no UTF-8", deflatedFrame(OpText, "\xc3\x28"), 1007, "invalid_utf8", ReasonInvalidData},
			{"bomb", bomb(), 1009, "deflate_too_big", ReasonMessageTooBig},
			{"compressed ping", func() []byte { b := masked(codec.OpPing, true, "x"); b[0] |= 0x40; return b }(), 1002, "reserved_bits", ReasonProtocolError},
			{"RSV2", func() []byte { b := text("x"); b[0] |= 0x20; return b }(), 1002, "reserved_bits", ReasonProtocolError},
		} {
			c, _ := s.openDeflate("permessage-deflate")
			before := s.Stats().Faults[fault.kind]
			c.write(join(deflatedFrame(OpText, "first"), fault.send))
			c.expect("text first")
			c.expectClose(fault.code)
			_ = c.Close()
			if why := receive(t, closed); why.Reason != fault.why {
				t.Errorf("%s: ended for %v", fault.name, why)
			}
			if s.Stats().Faults[fault.kind] != before+1 {
				t.Errorf("%s: %q is not counted", fault.name, fault.kind)
			}
		}

		// Without an offer there is no compression.
		c = s.open()
		c.write(deflatedFrame(OpText, "x"))
		c.expectClose(1002)
	})
}

// smallBombs are messages of 64 KiB, each with its number, as frames of a hundred bytes, all of which one read brings.
func smallBombs(n int) []byte {
	var out []byte
	zeros := strings.Repeat("\x00", 64<<10-4)
	for i := range n {
		out = append(out, deflatedFrame(OpBinary, string(binary.BigEndian.AppendUint32(nil, uint32(i)))+zeros)...)
	}
	return out
}

// What waits for a handler is bounded also when 20 KB from the socket are 13 MiB of messages; nothing is lost.
func TestManySmallBombs(t *testing.T) {
	const bombs = 200
	release := make(chan struct{})
	got := make(chan uint32, bombs)
	s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Compression: &Compression{}, Handler: Funcs{
		Message: func(_ *Session, _ Opcode, payload []byte) {
			<-release
			got <- binary.BigEndian.Uint32(payload)
		},
	}}}})
	c, _ := s.openDeflate("permessage-deflate")
	c.write(smallBombs(bombs))
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	time.Sleep(20 * time.Millisecond) // in which all of them would be inflated
	s.Range(func(session *Session) {
		if waiting, most := session.inbox.Waiting(), s.config.InboxBytes+64<<10+16; waiting > most {
			t.Errorf("%d bytes wait in the inbox, want %d at most", waiting, most)
		}
	})
	close(release)
	for i := range uint32(bombs) {
		if n := receive(t, got); n != i {
			t.Fatalf("message %d came in place of %d", n, i)
		}
	}
}

// The same for what waits for a client that sends them and does not read the answers.
func TestManySmallBombsUnread(t *testing.T) {
	const bombs = 200
	s := startServer(t, Config{Endpoints: []Endpoint{{
		Path: "/echo", Inline: true, PauseOnBacklog: true, Handler: echoHandler{}, Compression: &Compression{MinBytes: 1 << 20},
	}}})
	c, _ := s.openDeflate("permessage-deflate")
	c.write(smallBombs(bombs))
	eventually(t, "reading is paused", func() bool { return s.Stats().ReadPauses > 0 })
	time.Sleep(20 * time.Millisecond) // in which all of them would be answered
	s.Range(func(session *Session) {
		waiting, _, _ := session.conn.Waiting()
		if most := s.config.OutboxBytes/2 + 3*(64<<10); waiting > most {
			t.Errorf("%d bytes wait in the outbox, want %d at most", waiting, most)
		}
	})
	for i := range uint32(bombs) {
		if _, payload := c.next(); len(payload) != 64<<10 || binary.BigEndian.Uint32([]byte(payload)) != i {
			t.Fatalf("answer %d is wrong", i)
		}
	}
}

// bomb is 64 MiB in 64 KiB.
var bomb = sync.OnceValue(func() []byte { return deflatedFrame(OpBinary, strings.Repeat("\x00", 64<<20)) })

// TestDeclined shows an offer that can't be accepted: the session goes on without.
func TestDeclined(t *testing.T) {
	s, _ := compressingServer(t, true, Compression{})
	c, agreed := s.openDeflate("permessage-deflate; server_max_window_bits=16")
	if agreed != "" {
		t.Fatalf("agreed on %q", agreed)
	}
	long := strings.Repeat("x", 1000)
	c.write(text(long))
	c.expect("text " + long)
	c.write(deflatedFrame(OpText, "x"))
	c.expectClose(1002)
}

// TestSharedDeflated sends one frame to sessions of all kinds: those that agreed on the same get the same bytes.
func TestSharedDeflated(t *testing.T) {
	s, _ := compressingServer(t, true, Compression{ContextTakeover: true})
	payload := strings.Repeat("shared by all that want it ", 40)
	var clients []*raw
	for _, offer := range []string{
		"permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover",
		"permessage-deflate", "permessage-deflate; server_max_window_bits=8; server_no_context_takeover", "none",
	} {
		c, _ := s.openDeflate(offer)
		clients = append(clients, c)
	}
	frames := []*Frame{NewFrame(OpText, []byte(payload)), NewFrame(OpText, []byte("short")), NewFrame(OpText, []byte(payload))}
	eventually(t, "all are open", func() bool {
		n := 0
		s.Range(func(*Session) { n++ })
		return n == len(clients)
	})
	s.Range(func(s *Session) {
		if err := s.Send(frames[0]); err != nil {
			t.Error(err)
		}
		if err := s.SendAll(frames[1:]); err != nil {
			t.Error(err)
		}
	})
	for i, c := range clients {
		if i == len(clients)-1 {
			c.expect("text "+payload, "text short", "text "+payload)
			continue
		}
		if got := c.nextInflated(nil); got != payload {
			t.Errorf("client %d: %q", i, got)
		}
		c.expect("text short")
		if got := c.nextInflated(nil); got != payload {
			t.Errorf("client %d: %q", i, got)
		}
	}
}

// TestContextTakeover sends messages that refer to those before, while others are shared or plain.
func TestContextTakeover(t *testing.T) {
	s, _ := compressingServer(t, true, Compression{ContextTakeover: true, MinBytes: 1})
	c, agreed := s.openDeflate("permessage-deflate; client_no_context_takeover")
	if want := "permessage-deflate; client_no_context_takeover"; agreed != want {
		t.Fatalf("agreed on %q", agreed)
	}
	var session *Session
	eventually(t, "the session is open", func() bool {
		s.Range(func(s *Session) { session = s })
		return session != nil
	})
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	var window []byte
	for round := range 200 {
		message := fmt.Sprintf(`{"round":%d,"same":%q,"noise":"%x"}`, round, strings.Repeat("same ", 40), noise[:100+round%50])
		send := func() error { return session.SendMessage(OpText, []byte(message)) }
		if round%3 == 1 {
			if round%6 == 1 {
				message = fmt.Sprint(round)
			} else {
				message += strings.Repeat(" shared", 50)
			}
			send = func() error { return session.Send(NewFrame(OpText, []byte(message))) }
		}
		before := s.Stats().BytesOut
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if round%6 == 1 { // a frame that can't be made shorter
			c.expect("text " + message)
			continue
		}
		if got := c.nextInflated(window); got != message {
			t.Fatalf("round %d: %q, want %q", round, got, message)
		}
		if window = append(window, message...); len(window) > 32768 {
			window = window[len(window)-32768:]
		}
		if size := s.Stats().BytesOut - before; round%3 != 1 && round > 0 && size > 60 {
			t.Fatalf("round %d: %d bytes for %d that are known", round, size, len(message))
		}
	}
}

// TestContextSurvivesDrops drops messages that were compressed already: what comes later must not refer to them.
func TestContextSurvivesDrops(t *testing.T) {
	for _, policy := range []Policy{PolicyDropOldest, PolicyDropNewest} {
		s := startServerOn(t, SocketOptions{SendBuffer: 4096}, Config{
			OutboxMessages: 4, OutboxBytes: 1 << 20,
			Endpoints: []Endpoint{{Path: "/echo", Handler: Funcs{}, SlowPolicy: policy, Compression: &Compression{ContextTakeover: true}}},
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, _, err := websocket.Dial(ctx, s.websocketURL("/echo"), dialOptions(websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		var session *Session
		eventually(t, "the session is open", func() bool {
			s.Range(func(s *Session) { session = s })
			return session != nil
		})
		var dropped int64
		for round := 0; dropped < 20 && round < 100_000; round++ {
			message := fmt.Sprintf("%08d %s", round, strings.Repeat(fmt.Sprintf("%x", rand.Uint64()), 400))
			if err := session.SendMessage(OpText, []byte(message)); err != nil {
				t.Fatal(err)
			}
			dropped = s.Stats().Dropped[policyNames[policy]]
		}
		if dropped < 20 {
			t.Fatal("nothing was dropped")
		}
		session.Close(4000, "done")
		last := -1
		for {
			_, b, err := c.Read(ctx)
			if websocket.CloseStatus(err) == 4000 {
				break
			}
			if err != nil {
				t.Fatalf("after message %d: %v", last, err)
			}
			round := 0
			if _, err := fmt.Sscanf(string(b[:8]), "%d", &round); err != nil || round <= last {
				t.Fatalf("message %d after %d, %v", round, last, err)
			}
			last = round
		}
	}
}

// TestCompressionWithAnotherClient lets an independent client speak in each of its modes, many at a time.
func TestCompressionWithAnotherClient(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		each(t, func(t *testing.T, inline bool) {
			s, _ := compressingServer(t, inline, Compression{ContextTakeover: takeover, MinBytes: 20})
			var clients sync.WaitGroup
			for i := range 8 {
				mode := websocket.CompressionContextTakeover
				if i%2 == 0 {
					mode = websocket.CompressionNoContextTakeover
				}
				clients.Go(func() { converseDeflated(s, mode, rand.New(rand.NewPCG(uint64(i), 7))) })
			}
			clients.Wait()
		})
	}
}

func converseDeflated(s *testServer, mode websocket.CompressionMode, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, s.websocketURL("/echo"), dialOptions(websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 16}))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for range 60 {
		message := strings.Repeat(fmt.Sprint("again and again ", random.IntN(10)), random.IntN(1000))
		if random.IntN(10) == 0 {
			message = strings.Repeat(message, 3)
		}
		if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			s.t.Error(err)
			return
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != message {
			s.t.Errorf("%d bytes came back as %d, %v", len(message), len(b), err)
			return
		}
	}
	_ = c.Close(websocket.StatusNormalClosure, "")
}

func TestCompressionIsValidated(t *testing.T) {
	err := Config{Endpoints: []Endpoint{{Path: "/", Handler: Funcs{}, Compression: &Compression{Level: 9}}}}.Validate()
	if err == nil || !strings.Contains(err.Error(), "--compression-level") {
		t.Errorf("got %v", err)
	}
}
