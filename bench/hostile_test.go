package bench

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// accepting is a server of TCP whose connections are handled so.
func accepting(t *testing.T, handle func(c net.Conn)) Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var open []net.Conn
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, c)
			go handle(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-over
		for _, c := range open {
			_ = c.Close()
		}
	})
	return Target{URL: "ws://" + l.Addr().String() + "/"}
}

// A server that refuses, hangs, answers garbage or hangs up is counted by what it does, and the run ends.
func TestHostileServers(t *testing.T) {
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
	answer := func(s string) func(c net.Conn) {
		return func(c net.Conn) {
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, s)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	for name, tt := range map[string]struct {
		handle func(c net.Conn)
		want   string
	}{
		"says nothing":         {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, errTimeout.Error()},
		"hangs up at once":     {func(c net.Conn) { _ = c.Close() }, ""},
		"garbage":              {answer("\x00\x01garbage\r\n\r\n"), "answered as it must be"},
		"a header without end": {answer("HTTP/1.1 101 x\r\n" + strings.Repeat("x: y\r\n", 4000)), "answered as it must be"},
		"half a header":        {answer(upgraded), errTimeout.Error()},
		"a wrong accept":       {answer(upgraded + "AAAA\r\n\r\n"), "Sec-WebSocket-Accept is wrong"},
		"the accept elsewhere": {answer(upgraded + "AAAA\r\nX: " + string(acceptKey()) + "\r\n\r\n"), "Sec-WebSocket-Accept is wrong"},
		"no upgrade":           {answer("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: " + string(acceptKey()) + "\r\n\r\n"), "Upgrade is not websocket"},
		"an extension": {
			answer(upgraded + string(acceptKey()) + "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "an extension that nobody asked for",
		},
		"a status":               {answer("HTTP/1.1 429 x\r\nRetry-After: 1\r\n\r\n"), "refused with 429 Too Many Requests, with Retry-After"},
		"no status":              {answer("HTTP/1.1 abc\r\n\r\n"), "answered as it must be"},
		"upgraded, then silence": {answer(upgraded + string(acceptKey()) + "\r\n\r\n"), errTimeout.Error()},
		"upgraded, then garbage": {answer(upgraded + string(acceptKey()) + "\r\n\r\n\xff\xff\xff\xff"), ""},
		"a huge frame":           {answer(upgraded + string(acceptKey()) + "\r\n\r\n\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), ""},
		"a compressed frame":     {answer(upgraded + string(acceptKey()) + "\r\n\r\n\xc2\x05\xca\x48\xcd\xc9\x01"), ""}, // nobody asked for it
		"a masked frame":         {answer(upgraded + string(acceptKey()) + "\r\n\r\n\x82\x81aaaa\x00"), ""},
		"a byte at a time": {func(c net.Conn) {
			for _, b := range []byte(strings.Repeat(upgraded, 100)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // the slowness of this server is what is tested
			}
		}, errTimeout.Error()},
		"a reset within a frame": {func(c net.Conn) {
			answer := []byte(upgraded + string(acceptKey()) + "\r\n\r\n\x82\x7d")
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write(answer)
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, ""},
		"pings without end, whose answers it does not read": {func(c net.Conn) {
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, err := io.WriteString(c, upgraded+string(acceptKey())+"\r\n\r\n")
			for pings := []byte(strings.Repeat("\x89\x7d"+strings.Repeat("p", 125), 100)); err == nil; {
				_, err = c.Write(pings)
			}
		}, errTimeout.Error()},
		"says goodbye": {answer(upgraded + string(acceptKey()) + "\r\n\r\n\x88\x06\x03\xf3nono"), "close frame with 1011 nono"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := measure(t, Echo{NoBare: true}, Options{
				Target: accepting(t, tt.handle), Connections: 3, Duration: 10 * time.Millisecond, Warmup: time.Millisecond, Timeout: 400 * time.Millisecond,
			})
			var n uint64
			for what, of := range r.Errors {
				if strings.Contains(what, tt.want) {
					n += of
				}
			}
			if err == nil || n != 3 {
				t.Errorf("%v: %v", err, r.Errors)
			}
		})
	}
}

// However many things a server thinks of, they are counted as a bounded number of kinds.
func TestKindsOfErrorsAreBounded(t *testing.T) {
	var f faults
	for n := range 1000 {
		f.add(&closedByServer{reason: strings.Repeat("x", n)})
		f.add(io.ErrClosedPipe)
	}
	all := f.all()
	var sum uint64
	for what, n := range all {
		if len(what) > faultBytes {
			t.Errorf("%d bytes", len(what))
		}
		sum += n
	}
	if len(all) != maxFaultKinds+1 || sum != 2000 || all[io.ErrClosedPipe.Error()] != 1000 {
		t.Errorf("%d kinds, %d errors: %v", len(all), sum, all)
	}
}
