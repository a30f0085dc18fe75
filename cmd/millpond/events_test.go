package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/internal/eventsink"
	"github.com/millpond/millpond/push/events"
)

const eventsSecret = "0123456789abcdef0123456789abcdef"

// allEvents are the types of events that the tests want.
const allEvents = "channel_occupied,channel_vacated,member_joined,member_left,client_connected,client_disconnected"

// churn is clients that come and go, at whatever process is there.
type churn struct {
	t       *testing.T
	stopped chan struct{}
	group   sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	address string
	process int
	visits  map[string]visit // by channel, each of which is visited once
}

// visit is a subscription that was answered.
type visit struct {
	process int
	at      time.Time
}

func (c *churn) move(p *process, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.address, c.process = p.public, n
}

func (c *churn) start(clients int) {
	for g := range clients {
		c.group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-c.stopped:
					return
				default:
				}
				c.visit(g, i)
			}
		})
	}
}

// visit is one client's. Its errors are those of processes that are killed.
func (c *churn) visit(g, i int) {
	c.mu.Lock()
	address, process := c.address, c.process
	c.mu.Unlock()
	own := fmt.Sprintf("own-%d-%d", g, i)
	conn, err := subscribed(c.t.Context(), address, fmt.Sprintf("u%d", g%7), own, fmt.Sprintf("shared%d", i%5))
	if err != nil {
		return
	}
	c.mu.Lock()
	c.visits[own] = visit{process, time.Now()}
	c.mu.Unlock()
	if i%2 == 0 {
		_ = conn.Close(websocket.StatusNormalClosure, "bye")
	} else {
		_ = conn.CloseNow()
	}
}

// subscribed returns the connection of a user that is subscribed to channels.
func subscribed(ctx context.Context, address, user string, channels ...string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+address+"/push", nil)
	if err != nil {
		return nil, err
	}
	for _, command := range []string{
		fmt.Sprintf(`{"type":"login","id":1,"payload":{"username":%q}}`, user),
		fmt.Sprintf(`{"type":"subscribe","id":2,"payload":{"channels":["%s"]}}`, strings.Join(channels, `","`)),
	} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(command)); err != nil {
			return nil, errors.Join(err, conn.CloseNow())
		}
		_, answer, err := conn.Read(ctx)
		if err == nil && bytes.Contains(answer, []byte(`"error"`)) {
			err = fmt.Errorf("answer %s", answer)
		}
		if err != nil {
			return nil, errors.Join(err, conn.CloseNow())
		}
	}
	return conn, nil
}

// The server is killed twice under churn, while the backend is away and while it takes the backlog: nothing that was recorded is lost,
// what comes twice is the same, in the same order, and at the end the backend knows the truth. MILLPOND_EVENTS_AWAY=1m
// keeps the backend away for longer than the 5 s of every day.
func TestEventsThroughKill(t *testing.T) {
	away := 5 * time.Second
	if v := os.Getenv("MILLPOND_EVENTS_AWAY"); v != "" {
		var err error
		if away, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	sink := eventsink.Start(t, []byte(eventsSecret))
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte(eventsSecret+"\n"+strings.Repeat("x", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func() *process {
		return startProcess(t, "--dev", "--data-dir="+dir, "--events="+allEvents, "--events-url="+sink.URL, "--events-secret-file="+secretFile,
			"--events-debounce=100ms", "--events-backoff=500ms", "--events-batch=200", "--events-queue-bytes=536870912")
	}
	c := &churn{t: t, stopped: make(chan struct{}), visits: map[string]visit{}}
	processes := []*process{serve()}
	c.move(processes[0], 0)
	c.start(8)
	sink.Wait(t, "events", func() bool { n, _, _ := sink.Counts(); return n > 500 })

	killed := []time.Time{}
	kill := func() {
		killed = append(killed, time.Now())
		_ = processes[len(processes)-1].command.Process.Kill()
		processes[len(processes)-1].wait()
		processes = append(processes, serve())
		c.move(processes[len(processes)-1], len(processes)-1)
	}
	sink.SetMood(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	gone := time.Now()
	<-time.After(away / 2) // how long the backend is away is what this is about
	kill()
	<-time.After(away - time.Since(gone))
	before, _, _ := sink.Counts()
	sink.SetMood(nil)
	back := time.Now()
	sink.Wait(t, "the backlog to come", func() bool { n, _, _ := sink.Counts(); return n > before+1000 })
	kill()

	close(c.stopped)
	c.group.Wait()
	last := processes[len(processes)-1]
	want := []string{`channel shared0`, `channel stays`}
	for i := range 10 {
		user := fmt.Sprintf("stays%d", i)
		conn, err := subscribed(t.Context(), last.public, user, "stays", "shared0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		want = append(want, fmt.Sprintf("member %q of %q", user, "stays"), fmt.Sprintf("member %q of %q", user, "shared0"))
	}
	slices.Sort(want)
	sink.Wait(t, "the truth", func() bool {
		open := slices.DeleteFunc(sink.Open(), func(name string) bool { return strings.HasPrefix(name, "client ") })
		return slices.Equal(open, want)
	})
	clients := slices.DeleteFunc(sink.Open(), func(name string) bool { return !strings.HasPrefix(name, "client ") })
	caughtUp := time.Since(back)
	if len(clients) != 10 {
		t.Errorf("%d clients are connected by the events, want 10", len(clients))
	}
	endEvents(t, last, sink, dir)
	if err := sink.Faults(); err != nil {
		t.Error(err)
	}
	names, lost := sink.Nodes()
	if len(names) != 3 || lost != 0 {
		t.Errorf("events of %v, %d lost", names, lost)
	}
	c.check(sink.Events(), killed)
	distinct, duplicates, attempts := sink.Counts()
	inferred := 0
	for _, e := range sink.Events() {
		if e.Inferred {
			inferred++
		}
	}
	t.Logf("backend away for %v, 2 kills: %d visits, %d events, 0 lost, %d came again with the same ids, %d inferred, %d requests; all there %v after it was back",
		away, len(c.visits), distinct, duplicates, inferred, attempts, caughtUp.Round(time.Millisecond))
}

// check wants each visit to have been told, except those of the moments before their process was killed.
func (c *churn) check(all []events.Event, killed []time.Time) {
	const window = 2 * time.Second // far more than it takes to sync
	told := map[string]int{}
	for _, e := range all {
		if e.Type == events.ChannelOccupied || e.Type == events.ChannelVacated {
			told[e.Channel]++
		}
	}
	missing := 0
	for channel, v := range c.visits {
		sure := v.process >= len(killed) || v.at.Before(killed[v.process].Add(-window))
		if n := told[channel]; n != 2 && (sure || n != 0) {
			missing++
		}
	}
	if missing > 0 {
		c.t.Errorf("of %d visits %d are not told by two events", len(c.visits), missing)
	}
}

// endEvents ends the last process that sends to a sink: all that was there is said to have gone, and nothing is left in its data directory.
func endEvents(t *testing.T, last *process, sink *eventsink.Sink, dir string) {
	t.Helper()
	if err := last.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := last.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if open := sink.Open(); len(open) > 0 {
		t.Errorf("after the end still open: %v", open)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "events")); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}
