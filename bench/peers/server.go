package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// peer is an echo server. It sends every message back as it came, refuses pages of other sites, messages over
// maxMessage bytes with 1009 and what breaks the protocol, answers pings, and compresses nothing. TCP_NODELAY is Go's
// default. Each is as its library's documentation advises, with the settings for little memory where there are any.
type peer struct {
	name   string
	module string // whose version is shown
	about  string
	serve  func(l net.Listener) error // until l is closed
	lacks  []string                   // what the library does not do
}

// What a library may lack.
const (
	emptyMessages = "empty messages are dropped"
	maskCheck     = "frames without a mask are taken"
)

var peers = []peer{
	{"gorilla", "github.com/gorilla/websocket", "net/http, a goroutine for each connection", serveGorilla, nil},
	{"coder", "github.com/coder/websocket", "net/http, a goroutine for each connection", serveCoder, nil},
	{"gws", "github.com/lxzan/gws", "net/http for the handshake, then a goroutine for each connection", serveGWS, nil},
	{"gobwas", "github.com/gobwas/ws", "no net/http; a goroutine with 512 B of buffer for each connection, which answers in one write what came in one read", serveGobwas, nil},
	{"nbio", "github.com/lesismal/nbio", "epoll, no goroutine for each connection", serveNBIO, []string{emptyMessages, maskCheck}},
}

// maxMessage is how many bytes a message may have, handshakeTimeout how long an opening handshake may take.
const (
	maxMessage       = 64 << 10
	handshakeTimeout = 10 * time.Second
)

func named(name string) (peer, error) {
	names := make([]string, len(peers))
	for i, p := range peers {
		if p.name == name {
			return p, nil
		}
		names[i] = p.name
	}
	return peer{}, fmt.Errorf("no server %q; there are %s", name, strings.Join(names, ", "))
}

// serve runs a peer on a free port of loopback until ctx ends. It writes two lines to out: its URL, and that of a page
// with the number of goroutines.
func serve(ctx context.Context, name string, out io.Writer) error {
	p, err := named(name)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	figures, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer figures.Close()
	go func() {
		page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "go_goroutines %d\n", runtime.NumGoroutine())
		})
		_ = (&http.Server{Handler: page, ReadHeaderTimeout: handshakeTimeout}).Serve(figures)
	}()
	if _, err := fmt.Fprintf(out, "ws://%s/\nhttp://%s/metrics\n", l.Addr(), figures.Addr()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	if err := p.serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// serveHTTP is for those that take their connections from net/http.
func serveHTTP(l net.Listener, upgrade http.HandlerFunc) error {
	return (&http.Server{Handler: upgrade, ReadHeaderTimeout: handshakeTimeout}).Serve(l)
}

// version returns a module's, of this binary.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return "unknown"
}
