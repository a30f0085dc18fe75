package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has what the tests of the Centrifuge protocol share: a client, and conversations in it.
//
// A conversation is lines. What they begin with says what they are:
//
//	>   the client sends a frame with this command
//	+   as well, in the same frame as the command before
//	<   the client receives this reply, and no other before it
//	~   as well; replies with it that follow one another may come in any order
//	x   the client receives a close frame with this code and reason, and no reply before it
//	!   the backend publishes: channel, data and tags
//	&   the backend publishes for deltas
//	?   nothing has come that the lines before do not have
//
// Both sides are written in JSON; with Protobuf they are translated. In them, <name> is the token of that name, <client> the id of the connection
// and <epoch> the last one that was received. A client's lines may begin with the client's name and a colon, else they are of "a".

// conversation is one, and the server that it is had with.
type conversation struct {
	name   string
	config Config
	tokens map[string]jwt.MapClaims
	lines  string
	codecs []wire.Codec // nil is both
}

// in returns the claim of a time so far from now.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// haveAll has all conversations, each with a server of its own and in each codec.
func haveAll(t *testing.T, table []conversation) {
	for _, tt := range table {
		codecs := tt.codecs
		if codecs == nil {
			codecs = []wire.Codec{wire.JSON, wire.Protobuf}
		}
		for _, codec := range codecs {
			t.Run(tt.name+"/"+codecName(codec), func(t *testing.T) {
				t.Parallel()
				newStage(t, tt.config, codec, tt.tokens).play(tt.lines)
			})
		}
	}
}

func codecName(c wire.Codec) string {
	if c == wire.Protobuf {
		return "protobuf"
	}
	return "json"
}

// stage is a server with its clients.
type stage struct {
	t       *testing.T
	server  *Server
	codec   wire.Codec
	tokens  map[string]jwt.MapClaims
	clients map[string]*sdk
	query   string
	header  http.Header // of the opening requests
}

func newStage(t *testing.T, c Config, codec wire.Codec, tokens map[string]jwt.MapClaims) *stage {
	return &stage{t: t, server: startServer(t, c), codec: codec, tokens: tokens, clients: map[string]*sdk{}}
}

var clientLine = regexp.MustCompile(`^([a-z]):(.*)$`)

// play has a conversation.
func (s *stage) play(lines string) {
	s.t.Helper()
	var frame, unordered []string
	speaker := "a"
	for line := range strings.Lines(lines + "\n.") {
		line = strings.TrimSpace(line)
		who := "a"
		if m := clientLine.FindStringSubmatch(line); m != nil {
			who, line = m[1], m[2]
		}
		kind, text, _ := strings.Cut(line, " ")
		if kind == "" {
			continue
		}
		if len(frame) > 0 && kind != "+" {
			s.client(speaker).send(frame...)
			frame = nil
		}
		if len(unordered) > 0 && (kind != "~" || who != speaker) {
			s.client(speaker).expectAll(unordered)
			unordered = nil
		}
		speaker = who
		switch kind {
		case ">", "+":
			frame = append(frame, text)
		case "<":
			s.client(who).expect(text)
		case "~":
			unordered = append(unordered, text)
		case "x":
			s.client(who).expectClose(text)
		case "!", "&":
			s.publish(text, kind == "&")
		case "?":
			s.client(who).expectNothing()
		case ".":
		default:
			s.t.Fatalf("what is %q?", line)
		}
	}
}

// publish does it as a backend: channel, data, and tags in the form a=b.
func (s *stage) publish(text string, delta bool) {
	s.t.Helper()
	words := strings.Fields(text)
	o := hub.PublishOptions{Delta: delta}
	for _, word := range words[2:] {
		k, v, _ := strings.Cut(word, "=")
		if o.Tags == nil {
			o.Tags = map[string]string{}
		}
		o.Tags[k] = v
	}
	if _, err := s.server.hub.Publish(s.t.Context(), words[0], []byte(words[1]), o); err != nil {
		s.t.Fatal(err)
	}
}

// client returns the one of that name, which connects if it is new.
func (s *stage) client(name string) *sdk {
	s.t.Helper()
	c := s.clients[name]
	if c == nil {
		c = dialSDKWith(s.t, s.server, s.codec, s.query, s.header)
		c.tokens = s.tokens
		s.clients[name] = c
	}
	return c
}

// sdk is a client of the protocol.
type sdk struct {
	t         testing.TB
	conn      *websocket.Conn
	codec     wire.Codec
	tokens    map[string]jwt.MapClaims
	received  []*wire.Reply // that nobody looked at yet
	frames    []int         // how many replies each frame had
	id, epoch string
}

func dialSDK(t testing.TB, s *Server, codec wire.Codec, query string) *sdk {
	t.Helper()
	return dialSDKWith(t, s, codec, query, nil)
}

func dialSDKWith(t testing.TB, s *Server, codec wire.Codec, query string, header http.Header) *sdk {
	t.Helper()
	o := &websocket.DialOptions{HTTPHeader: header}
	if codec == wire.Protobuf {
		o.Subprotocols = []string{centrifugeProtobuf}
	}
	conn, response, err := websocket.Dial(t.Context(), s.ws("/connection/websocket"+query), o)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || (codec == wire.Protobuf) != (conn.Subprotocol() == centrifugeProtobuf) {
		t.Fatalf("%d with subprotocol %q", response.StatusCode, conn.Subprotocol())
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(-1)
	return &sdk{t: t, conn: conn, codec: codec}
}

var placeholder = regexp.MustCompile(`<([a-z]+)>`)

// fill puts what the placeholders stand for in their places.
func (c *sdk) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		switch name = strings.Trim(name, "<>"); name {
		case "client":
			return c.id
		case "epoch":
			return c.epoch
		case "forged":
			return "a.b.c"
		case "long":
			return strings.Repeat("x", 256)
		}
		claims := c.tokens[name]
		if claims == nil {
			c.t.Fatalf("there is no token %q", name)
		}
		if claims["client"] == "<client>" {
			claims = jwt.MapClaims{"sub": claims["sub"], "channel": claims["channel"], "client": c.id}
		}
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			c.t.Fatal(err)
		}
		return signed
	})
}

// send sends commands, written in JSON, in one frame. What is no JSON is sent as it is.
func (c *sdk) send(commands ...string) {
	c.t.Helper()
	text := c.fill(strings.Join(commands, "\n"))
	if c.codec == wire.JSON {
		c.write(websocket.MessageText, []byte(text))
		return
	}
	var frame []byte
	for command, err := range wire.JSON.Commands([]byte(text)) {
		if err != nil {
			frame = append(frame, 0x7f) // the length of a message that is not there
			break
		}
		if frame, err = wire.Protobuf.AppendCommand(frame, command); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(websocket.MessageBinary, frame)
}

func (c *sdk) write(kind websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.conn.Write(ctx, kind, b); err != nil {
		c.t.Fatal(err)
	}
}

// read reads a frame, or how the connection ended.
func (c *sdk) read() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kind, frame, err := c.conn.Read(ctx)
	if err != nil {
		return err
	}
	if (kind == websocket.MessageText) != (c.codec == wire.JSON) {
		return fmt.Errorf("a frame of type %v", kind)
	}
	before := len(c.received)
	for reply, err := range c.codec.Replies(frame) {
		if err != nil {
			return fmt.Errorf("%w: %q", err, frame)
		}
		c.received = append(c.received, reply)
	}
	c.frames = append(c.frames, len(c.received)-before)
	if c.codec == wire.JSON && len(c.received)-before != strings.Count(strings.TrimSpace(string(frame)), "\n")+1 {
		return fmt.Errorf("a line feed within a reply: %q", frame)
	}
	return nil
}

// reply returns the next one.
func (c *sdk) reply() (*wire.Reply, error) {
	for len(c.received) == 0 {
		if err := c.read(); err != nil {
			return nil, err
		}
	}
	r := c.received[0]
	c.received = c.received[1:]
	if r.Connect != nil {
		c.id = r.Connect.Client
	}
	return r, nil
}

// ping is the server's, and the answer to it.
const ping = "{}"

// answer returns the next reply. A ping before it is answered, as SDKs do, for a test under load may last until one is due;
// with pings it is a reply like others.
func (c *sdk) answer(pings bool) (*wire.Reply, error) {
	c.t.Helper()
	for {
		r, err := c.reply()
		if err != nil || pings || c.text(r) != ping {
			return r, err
		}
		c.send(ping)
	}
}

func (c *sdk) mustReply() *wire.Reply {
	c.t.Helper()
	r, err := c.reply()
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

var anyEpoch = regexp.MustCompile(`"epoch":"([a-zA-F]{8})"`)

// text returns a reply in JSON, with placeholders in the place of what differs from run to run.
func (c *sdk) text(r *wire.Reply) string {
	b, err := wire.JSON.AppendReply(nil, r)
	if err != nil {
		return err.Error()
	}
	text := string(b)
	if m := anyEpoch.FindStringSubmatch(text); m != nil {
		c.epoch = m[1]
		text = strings.ReplaceAll(text, m[1], "<epoch>")
	}
	if c.id != "" {
		text = strings.ReplaceAll(text, c.id, "<client>")
	}
	return text
}

func (c *sdk) expect(want string) {
	c.t.Helper()
	r, err := c.answer(want == ping)
	if err != nil {
		c.t.Fatalf("%v, want %s", err, want)
	}
	if got := c.text(r); !same(got, want) {
		c.t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// same compares a reply with what is expected of it: <any> is any word of letters, digits and hyphens.
func same(got, want string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "<any>", "[-a-zA-Z0-9]+")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}

// expectAll waits for as many replies as are expected, in any order.
func (c *sdk) expectAll(want []string) {
	c.t.Helper()
	var got []string
	for range want {
		r, err := c.answer(slices.Contains(want, ping))
		if err != nil {
			c.t.Fatalf("after %q: %v, want %q", got, err, want)
		}
		got = append(got, c.text(r))
	}
	rest := slices.Clone(want)
	for _, text := range got {
		i := slices.IndexFunc(rest, func(w string) bool { return same(text, w) })
		if i < 0 {
			c.t.Fatalf("got  %q\nwant %q", got, want)
		}
		rest = slices.Delete(rest, i, i+1)
	}
}

func (c *sdk) expectClose(want string) {
	c.t.Helper()
	r, err := c.reply()
	if err == nil {
		c.t.Fatalf("got %s, want the end with %s", c.text(r), want)
	}
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		c.t.Fatalf("%v, want the end with %s", err, want)
	}
	if got := strconv.Itoa(int(closed.Code)) + " " + closed.Reason; got != want {
		c.t.Fatalf("ended with %q, want %q", got, want)
	}
}

// expectNothing asks something that has nothing to do with the rest: its answer comes next.
func (c *sdk) expectNothing() {
	c.t.Helper()
	c.send(`{"id":4000000000,"rpc":{}}`)
	c.expect(`{"id":4000000000,"error":{"code":108,"message":"not available"}}`)
}

// connect is the beginning of most conversations.
func (c *sdk) connect(token string) {
	c.t.Helper()
	c.send(`{"id":1,"connect":{"token":"` + token + `"}}`)
	if r := c.mustReply(); r.Connect == nil {
		c.t.Fatalf("connect: %s", c.text(r))
	}
}
