package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/codec"
)

// conversation is what a client sends after its handshake, what it must get, and with which
// code the server closes; 0 leaves the connection open.
type conversation struct {
	name  string
	send  []byte
	want  []string
	close CloseCode
	why   Reason
}

func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

// conversations are the rules of RFC 6455 as a client sees them. codec has them all; these show
// that each answer gets onto the wire, in its place.
var conversations = []conversation{
	{"text", text("hello"), []string{"text hello"}, 0, 0},
	{"empty text", text(""), []string{"text "}, 0, 0},
	{"binary", masked(OpBinary, true, "\x00\xff"), []string{"binary \x00\xff"}, 0, 0},
	{"fragments", join(masked(OpText, false, "a"), masked(codec.OpContinuation, false, "b"), masked(codec.OpContinuation, true, "c")), []string{"text abc"}, 0, 0},
	{"ping", masked(codec.OpPing, true, "p"), []string{"pong p"}, 0, 0},
	{"ping between fragments", join(masked(OpText, false, "a"), masked(codec.OpPing, true, "now"), masked(codec.OpContinuation, true, "b")), []string{"pong now", "text ab"}, 0, 0},
	{"pong that nobody asked for", join(masked(codec.OpPong, true, "x"), text("y")), []string{"text y"}, 0, 0},
	{"two messages at once", join(text("one"), text("two")), []string{"text one", "text two"}, 0, 0},
	{"close", closeFrame(1000, "bye"), nil, 1000, ReasonClientClose},
	{"close without a code", masked(codec.OpClose, true, ""), nil, codec.StatusNoStatus, ReasonClientClose},
	{"close of the application", closeFrame(4999, ""), nil, 4999, ReasonClientClose},
	{"message, then close", join(text("last"), closeFrame(1001, "")), []string{"text last"}, 1001, ReasonClientClose},
	{"after a close nothing counts", join(closeFrame(1000, ""), text("late"), []byte{0xff, 0xff}), nil, 1000, ReasonClientClose},
	{"unmasked", codec.AppendFrame(nil, OpText, []byte("x")), nil, 1002, ReasonProtocolError},
	{"reserved bit", []byte{0xc1, 0x80, 0, 0, 0, 0}, nil, 1002, ReasonProtocolError},
	{"reserved opcode", []byte{0x83, 0x80, 0, 0, 0, 0}, nil, 1002, ReasonProtocolError},
	{"fragmented ping", []byte{0x09, 0x80, 0, 0, 0, 0}, nil, 1002, ReasonProtocolError},
	{"continuation of nothing", masked(codec.OpContinuation, true, "x"), nil, 1002, ReasonProtocolError},
	{"text inside of a text", join(masked(OpText, false, "a"), text("b")), nil, 1002, ReasonProtocolError},
	{"length not minimal", []byte{0x81, 0xfe, 0, 5, 0, 0, 0, 0}, nil, 1002, ReasonProtocolError},
	{"length of 2^63", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 1002, ReasonProtocolError},
	{"length over the limit", []byte{0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0}, nil, 1009, ReasonMessageTooBig},
	{"not UTF-8", text("\xff"), nil, 1007, ReasonInvalidData},
	{"not UTF-8, in an unfinished message", masked(OpText, false, "ok\xed\xa0\x80"), nil, 1007, ReasonInvalidData},
	{"close with half a code", masked(codec.OpClose, true, "\x03"), nil, 1002, ReasonProtocolError},
	{"close with a forbidden code", masked(codec.OpClose, true, "\x03\xed"), nil, 1002, ReasonProtocolError},
	{"close with a bad reason", masked(codec.OpClose, true, "\x03\xe8\xff"), nil, 1007, ReasonInvalidData},
	{"message, then a fault", join(text("good"), []byte{0x83, 0x80, 0, 0, 0, 0}, text("late")), []string{"text good"}, 1002, ReasonProtocolError},
}

func TestConversations(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := echoServer(t, inline)
		for _, c := range conversations {
			t.Run(c.name, func(t *testing.T) {
				for cut := range len(c.send) {
					converse(t, s, c, [][]byte{c.send[:cut], c.send[cut:]})
				}
				var bytes [][]byte
				for i := range c.send {
					bytes = append(bytes, c.send[i:i+1])
				}
				converse(t, s, c, bytes)
				for range len(c.send) + 1 {
					why := receive(t, closed)
					if c.close != 0 && (why.Reason != c.why || why.Code != c.close) {
						t.Fatalf("closed with %+v, want %v %d", why, c.why, c.close)
					}
				}
			})
		}
	})
}

// converse has one conversation. The handshake and the first part leave in one segment.
func converse(t *testing.T, s *testServer, c conversation, parts [][]byte) {
	t.Helper()
	client := s.connect()
	client.t = t
	client.write(append([]byte(openingHandshake), parts[0]...))
	client.response("101")
	for _, part := range parts[1:] {
		if _, err := client.Write(part); err != nil {
			break // the server may have closed already
		}
	}
	client.expect(c.want...)
	if c.close != 0 {
		client.expectClose(c.close)
	} else {
		client.write(masked(codec.OpPing, true, "still there?"))
		client.expect("pong still there?")
	}
	_ = client.Close()
}

func TestEchoSizes(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s := startServer(t, Config{Endpoints: []Endpoint{{Path: "/echo", Inline: inline, Handler: echoHandler{}, MaxMessageBytes: 1 << 20}}})
		c := s.open()
		for _, n := range []int{0, 1, 125, 126, 127, 1000, 65535, 65536, 65537, 300000, 1 << 20} {
			c.pour(text(strings.Repeat("x", n)))
			if op, got := c.next(); op != OpText || len(got) != n || strings.Trim(got, "x") != "" {
				t.Fatalf("%d bytes came back as %d", n, len(got))
			}
		}
		c.pour(text(strings.Repeat("x", 1<<20+1)))
		c.expectClose(1009)
	})
}

// Many small messages in one segment: all are answered, in order.
func TestPipelined(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, _ := echoServer(t, inline)
		c := s.open()
		var all []byte
		const n = 5000
		for i := range n {
			all = append(all, text(fmt.Sprint(i))...)
		}
		c.pour(all)
		for i := range n {
			c.expect(fmt.Sprint("text ", i))
		}
	})
}

// A client that has said everything and shuts down its sending side still gets its answers.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := echoServer(t, inline)
		c := s.open()
		c.write(join(text("one"), text("two")))
		if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.expect("text one", "text two")
		c.expectEOF()
		if why := receive(t, closed); why.Reason != ReasonPeerGone || why.Code != codec.StatusAbnormal {
			t.Errorf("closed with %+v", why)
		}
	})
}
