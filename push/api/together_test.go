package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// distant is a hub whose broker takes a while.
type distant struct {
	Hub // what is not here is not called

	mu            sync.Mutex
	at, most, all int
}

func (d *distant) Publish(_ context.Context, channel string, _ []byte, _ hub.PublishOptions) (hub.Position, error) {
	d.mu.Lock()
	d.at++
	d.all++
	d.most = max(d.most, d.at)
	d.mu.Unlock()
	time.Sleep(time.Second) // of the synctest clock
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at--
	switch channel {
	case "bad":
		return hub.Position{}, hub.ErrUnknownChannel
	case "worse":
		panic("worse")
	}
	return hub.Position{Offset: uint64(len(channel))}, nil
}

// A broadcast waits for as many channels at a time as it may, and the answers are in the places of the channels.
func TestBroadcastTogether(t *testing.T) {
	for _, tt := range []struct{ together, most, seconds int }{{0, 1, 6}, {4, 4, 2}, {64, 6, 1}} {
		t.Run(fmt.Sprint(tt.together), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &distant{}
				h := newHandler(t, Config{Hub: d, Insecure: true, Together: tt.together})
				begin := time.Now()
				_, body, _ := do(h, request("POST", prefix+"broadcast", `{"channels":["a","ab","bad","abcd","abcde","abcdef"],"data":1}`))
				if took := int(time.Since(begin) / time.Second); d.most != tt.most || took != tt.seconds || d.all != 6 {
					t.Errorf("%d at a time, %d in all, in %d s", d.most, d.all, took)
				}
				for i, want := range []string{`"offset":1`, `"offset":2`, `"code":102`, `"offset":4`, `"offset":5`, `"offset":6`} {
					if parts := strings.SplitAfter(body, "}}"); i >= len(parts) || !strings.Contains(parts[i], want) {
						t.Errorf("%d is not %s: %s", i, want, body)
					}
				}
			})
		})
	}
}

// What one of those that are done together panics with, the caller panics with, when all have ended.
func TestTogetherPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &distant{}
		defer func() {
			if value := recover(); value != "worse" || d.at != 0 {
				t.Errorf("%v with %d under way", value, d.at)
			}
		}()
		channels := []string{"a", "b", "worse", "c"}
		together(len(channels), 4, func(i int) { _, _ = d.Publish(t.Context(), channels[i], nil, hub.PublishOptions{}) })
	})
}
