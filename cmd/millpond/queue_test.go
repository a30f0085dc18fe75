package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startNATS starts a server of NATS, with JetStream on a directory, and returns its address and a connection to it.
func startNATS(t *testing.T) (address string, js jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server of NATS is not ready")
	}
	c, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if js, err = jetstream.New(c); err != nil {
		t.Fatal(err)
	}
	return s.ClientURL(), js
}

// metricOf returns the sum of a metric of a node's; 0 for a node that does not answer.
func metricOf(node *process, name string) (sum float64) {
	response, err := http.Get("http://" + node.internal + "/metrics")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllSubmatch(body, -1) {
		v, _ := strconv.ParseFloat(string(m[1]), 64)
		sum += v
	}
	return sum
}

// Of three nodes that read a queue, the one that has it is killed in mid-stream, again and again: what a backend has put into the queue comes to
// every subscriber, and into the histories, once and in order.
func TestQueueKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("four processes")
	}
	t.Parallel() // most of it is waiting for the servers to give a node up
	const channels, burst, kills = 3, 150, 3
	address, js := startNATS(t)
	for name, retention := range map[string]jetstream.RetentionPolicy{"work": jetstream.WorkQueuePolicy, "dead": jetstream.LimitsPolicy} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Retention: retention}); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "millpond.yaml")
	if err := os.WriteFile(config, []byte("channels:\n  history_size: 20000\n  history_ttl: 1h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(name string, more ...string) *process {
		return startProcess(t, append([]string{"--dev", "--nats-url=" + address, "--nats-groups=2", "--node-name=" + name, "--config=" + config, "--outbox-messages=100000"}, more...)...)
	}
	queued := func(name string) *process {
		return start(name, "--queue-stream=work", "--queue-ack-wait=2s", "--queue-dead-letter=dead.queue")
	}
	observer := start("observer")
	nodes := make([]*process, 3)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() { nodes[i] = queued(fmt.Sprint("n", i)) })
	}
	starting.Wait()
	came := follow(t, observer, channels)

	var put atomic.Int64
	var stop atomic.Bool
	var putting sync.WaitGroup
	defer putting.Wait()
	defer stop.Store(true)
	putting.Go(func() {
		for n := 0; !stop.Load(); time.Sleep(20 * time.Millisecond) { // so that there are times with nothing to do, too
			if int64(n)/channels-came[0].Load() > 10*burst {
				continue
			}
			for range burst {
				if _, err := js.Publish(t.Context(), "work.x", fmt.Appendf(nil, `{"channel":"c%d","data":%d}`, n%channels, n/channels)); err != nil {
					t.Errorf("putting %d into the queue: %v", n, err)
					return
				}
				n++
			}
			put.Store(int64(n))
		}
	})
	goOn := func(what string) {
		t.Helper()
		want := put.Load()/channels + burst
		eventually(t, what, func() bool { return came[0].Load() >= want && came[channels-1].Load() >= want })
	}
	goOn("publications come")
	for range kills {
		before := make([]float64, len(nodes))
		for i, n := range nodes {
			before[i] = metricOf(n, "millpond_queue_received_total")
		}
		active := -1
		eventually(t, "one node has the queue", func() bool {
			for i, n := range nodes {
				if metricOf(n, "millpond_queue_received_total") > before[i] {
					active = i
					return true
				}
			}
			return false
		})
		if err := nodes[active].command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		nodes[active].wait()
		goOn(fmt.Sprint("node ", active, " is dead, and another has the queue"))
		nodes[active] = queued(fmt.Sprint("n", active))
	}
	// An orderly end gives it back at once.
	if err := nodes[0].command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := nodes[0].wait(); code != 0 {
		t.Errorf("a node ended with code %d", code)
	}
	goOn("node 0 has ended")
	stop.Store(true)
	putting.Wait()
	total := put.Load()
	eventually(t, "the queue is empty, and everything has come", func() bool {
		s, err := js.Stream(t.Context(), "work")
		var sum int64
		for c := range came {
			sum += came[c].Load()
		}
		return err == nil && s.CachedInfo().State.Msgs == 0 && sum == total
	})
	for c := range channels {
		checkHistory(t, observer, fmt.Sprint("c", c), came[c].Load())
	}
	again := 0.0
	for _, n := range nodes[1:] {
		again += metricOf(n, `millpond_queue_received_total\{delivery="again"\}`)
	}
	t.Logf("proof: %d messages, %d kills; at least %v deliveries were of messages that a node had not done, or of which the queue did not know that", total, kills, again)
	if dead, err := js.Stream(t.Context(), "dead"); err != nil || dead.CachedInfo().State.Msgs != 0 {
		t.Errorf("some were refused: %v", err)
	}
}

// follow subscribes to the channels, and counts what comes; it has to be 0, 1, 2, and so on.
func follow(t *testing.T, node *process, channels int) []atomic.Int64 {
	t.Helper()
	came := make([]atomic.Int64, channels)
	var names []string
	for c := range channels {
		names = append(names, fmt.Sprint("c", c))
	}
	conn, _, err := websocket.Dial(t.Context(), "ws://"+node.public+"/push?channels="+strings.Join(names, ","), nil)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	t.Cleanup(func() { _ = conn.CloseNow(); reading.Wait() })
	ready := make(chan struct{})
	reading.Go(func() {
		for first := true; ; first = false {
			_, data, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			if first {
				close(ready)
			}
			var m struct {
				Type    string
				Payload struct {
					Channel string
					Data    int64
				}
				Channel string
				Data    int64
			}
			_ = json.Unmarshal(data, &m)
			if m.Type != "message" {
				continue
			}
			var c int
			_, _ = fmt.Sscanf(m.Channel+m.Payload.Channel, "c%d", &c)
			if want := came[c].Load(); m.Data+m.Payload.Data != want {
				t.Errorf("%s: want number %d", data, want)
				return
			}
			came[c].Add(1)
		}
	})
	<-ready
	return came
}

// checkHistory sees that a channel's history has the numbers from 0 on.
func checkHistory(t *testing.T, node *process, channel string, want int64) {
	t.Helper()
	response, err := http.Post("http://"+node.internal+"/api/history", "application/json", strings.NewReader(fmt.Sprintf(`{"channel":%q,"limit":-1}`, channel)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Result struct {
			Publications []struct{ Data, Offset int64 }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	list := answer.Result.Publications
	if int64(len(list)) != want && want < 20000 {
		t.Errorf("%s has %d publications, want %d", channel, len(list), want)
	}
	for i, p := range list {
		if p.Data != want-int64(len(list)-i) || i > 0 && p.Offset <= list[i-1].Offset {
			t.Fatalf("%s: number %d of %d is %d at %d", channel, i, len(list), p.Data, p.Offset)
		}
	}
}
