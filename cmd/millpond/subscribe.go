package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/internal/files"
)

// subscribeCommand prints what arrives in channels, over the plain protocol. It comes back after a disconnect, and then
// asks for what it missed.
type subscribeCommand struct {
	URL       string `name:"url" help:"The server's public address." default:"ws://127.0.0.1:8000"`
	TokenFile string `help:"File with a token." type:"existingfile" placeholder:"FILE"`
	CA        string `name:"ca" help:"File with the certificates of the authorities to trust." type:"existingfile" placeholder:"FILE"`
	Count     int    `help:"End after so many messages; 0: never."`
	JoinLeave bool   `help:"Print also who comes and goes."`

	Channels []string `arg:"" help:"The channels."`
}

// follower is the command while it runs.
type follower struct {
	*subscribeCommand
	streams   *streams
	client    *http.Client
	positions map[string]place // of what was printed, by channel
	left      int              // messages to print; negative is no bound
}

// place is where the command stands in a channel.
type place struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// How long it waits until it comes back, at random up to.
const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 20 * time.Second
)

// errEnough ends the command.
var errEnough = errors.New("enough")

// Run prints one message a line until ctx ends.
func (c *subscribeCommand) Run(ctx context.Context, s *streams) error {
	client, err := httpClient(c.CA)
	if err != nil {
		return err
	}
	f := &follower{subscribeCommand: c, streams: s, client: client, positions: map[string]place{}, left: c.Count}
	if c.Count == 0 {
		f.left = -1
	}
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		printed := f.left
		err := f.follow(ctx)
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if fatal := (*refusal)(nil); errors.As(err, &fatal) {
			return err
		}
		if f.left != printed {
			backoff = minBackoff
		}
		fmt.Fprintf(s.err, "millpond: %v; coming back\n", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(backoff)):
		}
	}
}

// httpClient trusts the authorities in a file, or the system's.
func httpClient(ca string) (*http.Client, error) {
	if ca == "" {
		return http.DefaultClient, nil
	}
	pool, err := files.Authorities(ca)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}, nil
}

// refusal is an error that would be the same the next time.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

// follow is one connection.
func (f *follower) follow(ctx context.Context) error {
	address, err := url.Parse(f.URL)
	if err != nil {
		return &refusal{err.Error()}
	}
	conn, response, err := websocket.Dial(ctx, address.JoinPath("push").String(), &websocket.DialOptions{HTTPClient: f.client}) //nolint:bodyclose // Dial's doc: never needed
	if err != nil {
		if response != nil && response.StatusCode >= 400 && response.StatusCode < 500 {
			return &refusal{err.Error()}
		}
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1) // a publication is as large as the server allows
	if err := f.hello(ctx, conn); err != nil {
		return err
	}
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if err := f.handle(message); err != nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
			return err
		}
	}
}

// hello logs in and subscribes.
func (f *follower) hello(ctx context.Context, conn *websocket.Conn) error {
	token, err := readSecret(f.TokenFile)
	if err != nil {
		return &refusal{fmt.Sprintf("token-file: %v", err)}
	}
	if token != nil {
		if err := send(ctx, conn, "login", map[string]any{"token": string(token)}); err != nil {
			return err
		}
	}
	return send(ctx, conn, "subscribe", map[string]any{"channels": f.Channels, "since": f.positions, "join_leave": f.JoinLeave})
}

func send(ctx context.Context, conn *websocket.Conn, kind string, payload any) error {
	b, err := json.Marshal(map[string]any{"type": kind, "id": kind, "payload": payload})
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, b)
}

// handle prints a message and notes where it stands.
func (f *follower) handle(message []byte) error {
	var m struct {
		Type      string           `json:"type"`
		ID        string           `json:"id"`
		Channel   string           `json:"channel"`
		Offset    uint64           `json:"offset"`
		Code      int              `json:"code"`
		Message   string           `json:"message"`
		Positions map[string]where `json:"positions"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return fmt.Errorf("the server sent %.100q: %w", message, err)
	}
	switch m.Type {
	case "error":
		if m.Code == 100 || m.Code == 111 { // it may be otherwise the next time
			return fmt.Errorf("%s (code %d)", m.Message, m.Code)
		}
		return &refusal{fmt.Sprintf("%s (code %d)", m.Message, m.Code)}
	case "reply":
		f.settle(m.Positions)
		return nil
	case "unsubscribed":
		if m.Code >= 2500 {
			return fmt.Errorf("%s: %s (code %d)", m.Channel, m.Message, m.Code)
		}
		return &refusal{fmt.Sprintf("%s: %s (code %d)", m.Channel, m.Message, m.Code)}
	}
	if _, err := fmt.Fprintf(f.streams.out, "%s\n", message); err != nil {
		return &refusal{err.Error()}
	}
	if p, ok := f.positions[m.Channel]; ok && m.Type == "message" && m.Offset > 0 {
		f.positions[m.Channel] = place{m.Offset, p.Epoch}
	}
	if f.left--; f.left == 0 {
		return errEnough
	}
	return nil
}

// where is what a reply says of a channel.
type where struct {
	place
	Recovered *bool `json:"recovered"`
}

// settle notes where the channels stand. What was recovered is on its way, and counts from where the command stood.
func (f *follower) settle(positions map[string]where) {
	for channel, w := range positions {
		stood, ok := f.positions[channel]
		switch {
		case ok && w.Recovered != nil && *w.Recovered:
			f.positions[channel] = place{stood.Offset, w.Epoch}
			continue
		case ok && w.Recovered != nil:
			fmt.Fprintf(f.streams.err, "millpond: %s: messages after %d were missed and are no longer kept\n", channel, stood.Offset)
		}
		f.positions[channel] = w.place
	}
}
