package bench

import (
	"bufio"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// TestBareFanSendsToAllOthers holds the yardstick of broadcast to doing all of the work.
func TestBareFanSendsToAllOthers(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := ServeBareFan(ctx, out); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer cancel()
	target, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var clients []*websocket.Conn
	for range 5 {
		c, _, err := websocket.Dial(t.Context(), strings.TrimSpace(target), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.CloseNow() }()
		clients = append(clients, c)
	}
	messages := []string{"one", "", strings.Repeat("three", 1000)}
	for from, sender := range clients[:2] {
		for _, message := range messages {
			if err := sender.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		for to, c := range clients {
			for _, message := range messages {
				if to == from {
					continue // what it gets next is the other's, as the next round shows
				}
				if _, b, err := c.Read(t.Context()); err != nil || string(b) != message {
					t.Fatalf("client %d of sender %d: %.20q, %v, want %.20q", to, from, b, err, message)
				}
			}
		}
	}
}
