package session_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/session"
)

// start serves one endpoint on a free port and returns its address and what ends it.
func start(e session.Endpoint) (addr string, stop func()) {
	server, err := session.New(session.Config{Endpoints: []session.Endpoint{e}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := session.Listen("127.0.0.1:0", session.SocketOptions{})
	if err != nil {
		log.Fatal(err)
	}
	addr = l.Addr().String()
	go func() { _ = server.Serve(l) }()
	return addr, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			log.Print(err)
		}
	}
}

// dial opens a WebSocket with an independent client library.
func dial(ctx context.Context, url string) *websocket.Conn {
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// read prints the next message.
func read(ctx context.Context, c *websocket.Conn) {
	_, message, err := c.Read(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("received:", string(message))
}

// write sends a text message.
func write(ctx context.Context, c *websocket.Conn, text string) {
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		log.Fatal(err)
	}
}

// The shortest server: every message goes back. The handler never blocks, so it
// runs on the event loop.
func ExampleServer_echo() {
	addr, stop := start(session.Endpoint{
		Path:   "/echo",
		Inline: true,
		Handler: session.Funcs{
			Message: func(s *session.Session, op session.Opcode, payload []byte) { _ = s.SendMessage(op, payload) },
		},
	})
	defer stop()

	ctx := context.Background()
	c := dial(ctx, "ws://"+addr+"/echo")
	write(ctx, c, "hello")
	read(ctx, c)
	_ = c.Close(websocket.StatusNormalClosure, "")
	// Output: received: hello
}

// An echo that answers pings with bytes of its own, and sees with which code and
// reason a client closed.
func ExampleServer_pingAndClose() {
	closed := make(chan session.Status, 1)
	addr, stop := start(session.Endpoint{
		Path: "/echo",
		Handler: session.FuncsWithPing{
			Funcs: session.Funcs{
				Message: func(s *session.Session, op session.Opcode, payload []byte) { _ = s.SendMessage(op, payload) },
				Close:   func(_ *session.Session, why session.Status) { closed <- why },
			},
			Ping: func(s *session.Session, payload []byte) {
				_ = s.Pong(append([]byte("got "), payload...))
				_ = s.Pong(payload) // which is what a client waits for
			},
		},
	})
	defer stop()

	ctx := context.Background()
	pongs := make(chan string, 2)
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/echo", &websocket.DialOptions{
		OnPongReceived: func(_ context.Context, payload []byte) { pongs <- string(payload) },
	})
	if err != nil {
		log.Fatal(err)
	}
	write(ctx, c, "hello")
	read(ctx, c)
	readDone := c.CloseRead(ctx) // without a reader this client sees no pong
	if err := c.Ping(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("pong:", <-pongs)
	fmt.Println("pong:", <-pongs)
	_ = c.Close(4000, "that's all")
	<-readDone.Done()

	why := <-closed
	fmt.Println("closed:", why.Reason, uint16(why.Code), why.Text)
	// Output:
	// received: hello
	// pong: got 1
	// pong: 1
	// closed: client_close 4000 that's all
}

// A greeting as soon as a client is there, and an answer to each of its messages.
func ExampleServer_greeting() {
	addr, stop := start(session.Endpoint{
		Path: "/greet",
		Handler: session.Funcs{
			Open: func(s *session.Session) { _ = s.SendMessage(session.OpText, []byte("welcome")) },
			Message: func(s *session.Session, _ session.Opcode, payload []byte) {
				_ = s.SendMessage(session.OpText, fmt.Appendf(nil, "you said %q", payload))
			},
		},
	})
	defer stop()

	ctx := context.Background()
	c := dial(ctx, "ws://"+addr+"/greet")
	read(ctx, c)
	write(ctx, c, "good morning")
	read(ctx, c)
	_ = c.Close(websocket.StatusNormalClosure, "")
	// Output:
	// received: welcome
	// received: you said "good morning"
}

// A login message, and then a push every second to everybody who is logged in, by
// one goroutine for all of them.
func ExampleServer_login() {
	type login struct {
		Type    string
		Payload struct{ Username, Password string }
	}
	joined, left := make(chan *session.Session), make(chan *session.Session)
	addr, stop := start(session.Endpoint{
		Path: "/ticker",
		Handler: session.Funcs{
			Message: func(s *session.Session, _ session.Opcode, payload []byte) {
				var m login
				if json.Unmarshal(payload, &m) != nil || m.Type != "login" || m.Payload.Password != "secret" {
					s.Close(codec.StatusPolicyViolation, "log in first")
					return
				}
				_ = s.SendMessage(session.OpText, []byte("hello "+m.Payload.Username))
				joined <- s
			},
			Close: func(s *session.Session, _ session.Status) { left <- s },
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		users := map[*session.Session]bool{}
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for n := 1; ; {
			select {
			case s := <-joined:
				users[s] = true
			case s := <-left:
				delete(users, s)
				return // with the only client of this example
			case <-ticker.C:
				tick := session.NewFrame(session.OpText, fmt.Appendf(nil, "tick %d", n)) // encoded once
				for s := range users {
					_ = s.Send(tick)
				}
				n++
			}
		}
	}()

	ctx := context.Background()
	c := dial(ctx, "ws://"+addr+"/ticker")
	write(ctx, c, `{"type":"login","payload":{"username":"ann","password":"secret"}}`)
	read(ctx, c)
	read(ctx, c)
	read(ctx, c)
	_ = c.Close(websocket.StatusNormalClosure, "")
	<-done
	stop()
	// Output:
	// received: hello ann
	// received: tick 1
	// received: tick 2
}

// A client by hand: what a WebSocket is on the wire.
func ExampleServer_bareClient() {
	addr, stop := start(session.Endpoint{
		Path:   "/echo",
		Inline: true,
		Handler: session.Funcs{
			Message: func(s *session.Session, op session.Opcode, payload []byte) { _ = s.SendMessage(op, payload) },
		},
	})
	defer stop()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	// The opening handshake. The server proves that it speaks WebSocket by hashing
	// the client's key with a fixed string (RFC 6455 §4.2.2).
	key := base64.StdEncoding.EncodeToString([]byte("sixteen bytes!!!"))
	fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", addr, key)
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	want := base64.StdEncoding.EncodeToString(sum[:])
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Status, response.Header.Get("Sec-WebSocket-Accept") == want)

	// One text frame: FIN and opcode 1; mask bit and length 2; the masking key; the payload,
	// each byte XORed with one of the key (RFC 6455 §5.2, §5.3).
	mask := [4]byte{0x11, 0x22, 0x33, 0x44}
	frame := []byte{0x81, 0x80 | 2, mask[0], mask[1], mask[2], mask[3], 'h' ^ mask[0], 'i' ^ mask[1]}
	if _, err := conn.Write(frame); err != nil {
		log.Fatal(err)
	}

	// The answer comes unmasked: two bytes of header, two of payload.
	for range 4 {
		b, err := in.ReadByte()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("byte %#02x\n", b)
	}

	// A close frame with code 1000, and the server's answer; then it closes TCP.
	if _, err := conn.Write([]byte{0x88, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xe8}); err != nil {
		log.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	fmt.Printf("% x %v\n", rest, err)
	// Output:
	// 101 Switching Protocols true
	// byte 0x81
	// byte 0x02
	// byte 0x68
	// byte 0x69
	// 88 02 03 e8 <nil>
}
