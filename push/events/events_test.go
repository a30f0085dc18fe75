package events_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/internal/eventsink"
	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = []byte("0123456789abcdef0123456789abcdef")

const all = hub.EventOccupied | hub.EventVacated | hub.EventJoined | hub.EventLeft | hub.EventCacheMiss

// config is for a backend at url; what a test waits for comes soon.
func config(t testing.TB, url string) events.Config {
	return events.Config{
		URL: url, Secrets: [][]byte{secret}, Connects: true, Disconnects: true, Node: "node" + strconv.FormatUint(rand.Uint64(), 36),
		Delay: -1, Debounce: 10 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, Timeout: 10 * time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func start(t testing.TB, c events.Config) *events.Events {
	t.Helper()
	e, err := events.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

type nobody struct{}

func (nobody) Submit(hub.Task) bool { return true }

func newHub(t testing.TB, e hub.Observer) *hub.Hub {
	t.Helper()
	h, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: nobody{}, Observer: e, AnyNamespace: true,
		Channels: hub.Options{Events: all, ForceRecovery: true, RecoverLatest: true, HistorySize: 1, HistoryTTL: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// member is a user's subscriber.
type member string

// Deliver implements hub.Subscriber.
func (member) Deliver(*hub.Batch) {}

// User implements hub.Member.
func (m member) User() string { return string(m) }

func subscribe(t testing.TB, h *hub.Hub, channel, user string) *hub.Subscription {
	t.Helper()
	s, err := h.Subscribe(context.Background(), channel, member(user))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever goroutines do, at the end the backend has been told the truth, each event once and in turn.
func TestChurn(t *testing.T) {
	for _, place := range []string{"disk", "memory"} {
		for _, debounce := range []time.Duration{-1, 5 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/debounce %v", place, debounce), func(t *testing.T) {
				sink := eventsink.Start(t, secret)
				c := config(t, sink.URL)
				if c.Debounce = debounce; place == "disk" {
					c.Dir = t.TempDir()
				}
				e := start(t, c)
				h := newHub(t, e)
				kept := make([]*hub.Subscription, 8)
				var group sync.WaitGroup
				for g := range kept {
					group.Go(func() {
						for i := range 200 {
							s := subscribe(t, h, fmt.Sprintf("c%d", rand.N(10)), fmt.Sprintf("u%d", rand.N(5)))
							e.Connected(fmt.Sprintf("%d-%d", g, i), "u")
							e.Disconnected(fmt.Sprintf("%d-%d", g, i), "u", 1000, "", "")
							s.Unsubscribe()
						}
						e.Connected(strconv.Itoa(g), "u")
						kept[g] = subscribe(t, h, fmt.Sprintf("kept%d", g%3), fmt.Sprintf("u%d", g))
					})
				}
				group.Wait()
				want := []string{"channel kept0", "channel kept1", "channel kept2"}
				for g := range kept {
					want = append(want, "client "+strconv.Itoa(g), fmt.Sprintf("member \"u%d\" of \"kept%d\"", g, g%3))
				}
				slices.Sort(want)
				sink.Wait(t, "the truth", func() bool { return slices.Equal(sink.Open(), want) && e.Stats().Records == 0 })
				for _, s := range kept {
					s.Unsubscribe()
				}
				for g := range kept {
					e.Disconnected(strconv.Itoa(g), "u", 1001, "", "")
				}
				if err := e.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if open, fault := sink.Open(), sink.Faults(); len(open) > 0 || fault != nil {
					t.Errorf("still open: %v, faults: %v", open, fault)
				}
				if left := journals(t, c.Dir); len(left) > 0 {
					t.Errorf("%v is left although everything was sent", left)
				}
				distinct, duplicates, attempts := sink.Counts()
				t.Logf("%d events in %d batches, %d again", distinct, attempts, duplicates)
			})
		}
	}
}

func journals(t testing.TB, dir string) (names []string) {
	t.Helper()
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Backends that do what they should not get everything all the same, each event at least once.
func TestBackends(t *testing.T) {
	elsewhere := eventsink.Start(t, nil)
	for name, mood := range map[string]func(t *testing.T, sink *eventsink.Sink) http.HandlerFunc{
		"flapping": func(_ *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%3 != 0 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				sink.Take(w, r)
			}
		},
		"takes it and refuses": func(_ *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					b, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(strings.NewReader(string(b)))
					sink.Take(discard{w}, r)
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				sink.Take(w, r)
			}
		},
		"cuts": func(t *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					conn, _, err := w.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 2")
					_ = conn.Close()
					return
				}
				sink.Take(w, r)
			}
		},
		"points elsewhere": func(_ *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
					return
				}
				sink.Take(w, r)
			}
		},
		"talks without end": func(_ *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				sink.Take(w, r)
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			}
		},
		"slow": func(_ *testing.T, sink *eventsink.Sink) http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
					<-r.Context().Done()               // longer than anyone waits
					return
				}
				sink.Take(w, r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sink := eventsink.Start(t, secret)
			sink.SetMood(mood(t, sink))
			c := config(t, sink.URL)
			if name == "slow" {
				c.Timeout = 300 * time.Millisecond
			}
			c.BatchEvents = 10
			e := start(t, c)
			for i := range 50 {
				e.Connected(strconv.Itoa(i), "u")
			}
			sink.Wait(t, "50 events", func() bool { n, _, _ := sink.Counts(); return n == 50 && e.Stats().Records == 0 })
			if err := sink.Faults(); err != nil {
				t.Error(err)
			}
			st := e.Stats()
			failed := st.Attempts[events.Refused] + st.Attempts[events.Failed] + st.Attempts[events.TimedOut]
			if failed == 0 && name != "talks without end" || st.Sent != 50 {
				t.Errorf("%+v", st)
			}
		})
	}
	if n, _, attempts := elsewhere.Counts(); n+attempts > 0 {
		t.Errorf("%d requests went where a redirect pointed", attempts)
	}
}

// A batch that the backend never takes does not hold up the others for ever; one that it does not take now is not lost.
func TestRejected(t *testing.T) {
	for status, rejected := range map[int]uint64{400: 1, 410: 1, 413: 1, 422: 1, 401: 0, 404: 0, 429: 0, 500: 0} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			sink := eventsink.Start(t, secret)
			const most = 3
			var refusals atomic.Int32
			first := ""
			sink.SetMood(func(w http.ResponseWriter, r *http.Request) { // one batch at a time
				if id := r.Header.Get(events.HeaderBatch); first == "" || id == first && (rejected > 0 || refusals.Load() <= most) {
					first = id
					refusals.Add(1)
					w.WriteHeader(status)
					return
				}
				sink.Take(w, r)
			})
			c := config(t, sink.URL)
			c.BatchEvents, c.MaxRejections = 1, most
			e := start(t, c)
			for i := range 3 {
				e.Connected(strconv.Itoa(i), "u")
			}
			sink.Wait(t, "the rest", func() bool { st := e.Stats(); return st.Sent+st.Rejected == 3 && st.Records == 0 })
			st := e.Stats()
			if st.Rejected != rejected || rejected > 0 && (refusals.Load() != most || st.Attempts[events.Rejected] != most) {
				t.Errorf("%d refusals, %+v", refusals.Load(), st)
			}
			if err := sink.Faults(); err != nil && rejected == 0 {
				t.Error(err)
			}
		})
	}
}

// discard keeps the status from the client.
type discard struct{ http.ResponseWriter }

func (discard) WriteHeader(int) {}

// deadURL is one at which nobody listens.
func deadURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}

// What a backend did not take is sent by the next process, before its own.
func TestNextProcessSendsWhatIsLeft(t *testing.T) {
	c := config(t, deadURL(t))
	c.Dir = t.TempDir()
	c.ShutdownTimeout = 50 * time.Millisecond
	first := start(t, c)
	h := newHub(t, first)
	s := subscribe(t, h, "c", "u")
	s.Unsubscribe()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(journals(t, c.Dir)); n != 1 {
		t.Fatalf("%d journals are left", n)
	}
	sink := eventsink.Start(t, secret)
	next := config(t, sink.URL)
	next.Dir = c.Dir
	second := start(t, next)
	second.Connected("a", "")
	sink.Wait(t, "both processes' events", func() bool { n, _, _ := sink.Counts(); return n == 5 })
	if names, lost := sink.Nodes(); !slices.Equal(names, []string{c.Node, next.Node}) || lost != 0 || sink.Faults() != nil {
		t.Errorf("nodes %v, lost %d, faults %v", names, lost, sink.Faults())
	}
	sink.Wait(t, "the journal to go", func() bool { return len(journals(t, c.Dir)) == 1 })
	if st := second.Stats(); st.Inferred != 0 || st.Adopted != 0 {
		t.Errorf("nothing was open when the first ended: %+v", st)
	}
}

// What was going on when a process was killed is closed by the next, once, however often that is killed too.
func TestKilledProcess(t *testing.T) {
	sink := eventsink.Start(t, secret)
	c := config(t, sink.URL)
	c.Dir = t.TempDir()
	first := start(t, c)
	h := newHub(t, first)
	subscribe(t, h, "c", "u")
	subscribe(t, h, "c", "v")
	first.Connected("client", "u")
	sink.Wait(t, "the begin", func() bool { return len(sink.Open()) == 4 })
	// The files at this moment are what a killed process leaves.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(c.Dir)); err != nil {
		t.Fatal(err)
	}
	dead := config(t, deadURL(t))
	dead.Dir, dead.ShutdownTimeout = dir, 50*time.Millisecond
	second := start(t, dead)
	sink.Wait(t, "the adoption", func() bool { return second.Stats().Inferred == 4 })
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := config(t, sink.URL)
	third.Dir = dir
	last := start(t, third)
	sink.Wait(t, "the end", func() bool { return len(sink.Open()) == 0 && len(journals(t, dir)) == 1 })
	if st := last.Stats(); st.Inferred != 0 || sink.Faults() != nil {
		t.Errorf("%+v, faults %v", st, sink.Faults())
	}
	var closing []string
	for _, e := range sink.Events() {
		if e.Inferred {
			closing = append(closing, e.Type+" "+e.Channel+e.Client)
		}
	}
	if want := []string{"member_left c", "member_left c", "client_disconnected client", "channel_vacated c"}; !slices.Equal(closing, want) {
		t.Errorf("closed by %q", closing)
	}
}

// Checkpoints take the place of the past: what is open long ago is closed after a crash, and the disk does not fill.
func TestCheckpoints(t *testing.T) {
	sink := eventsink.Start(t, secret)
	c := config(t, sink.URL)
	c.Dir, c.QueueBytes, c.Debounce = t.TempDir(), 256<<10, -1
	e := start(t, c)
	h := newHub(t, e)
	subscribe(t, h, "for ever", "u")
	sent := uint64(0)
	for range 60 {
		for range 100 {
			subscribe(t, h, "c", "v").Unsubscribe()
			sent += 4
		}
		sink.Wait(t, "all to be sent", func() bool { return e.Stats().Sent >= sent })
	}
	// 24,000 events take more than 2 MB.
	sink.Wait(t, "the past to go", func() bool { return e.Stats().DiskBytes < 512<<10 })
	var dir string
	sink.Wait(t, "a copy of files that come and go", func() bool {
		dir = t.TempDir()
		return os.CopyFS(dir, os.DirFS(c.Dir)) == nil
	})
	next := config(t, sink.URL)
	next.Dir = dir
	start(t, next)
	sink.Wait(t, "the end", func() bool { return len(sink.Open()) == 0 })
	if err := sink.Faults(); err != nil {
		t.Error(err)
	}
}

// A backend that stays away costs the oldest events, and is told how many.
func TestFullQueue(t *testing.T) {
	sink := eventsink.Start(t, secret)
	sink.SetMood(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	c := config(t, sink.URL)
	c.Dir, c.QueueBytes, c.BatchEvents = t.TempDir(), 256<<10, 50
	e := start(t, c)
	const clients = 5_000
	for i := range clients {
		e.Connected(strconv.Itoa(i), "somebody with a name")
		if i%100 == 0 { // segments end at a sync
			sink.Wait(t, "the disk", func() bool { return e.Stats().Pending == 0 })
		}
	}
	sink.SetMood(nil)
	sink.Wait(t, "the rest", func() bool { return e.Stats().Records == 0 && e.Stats().Pending == 0 })
	n, _, _ := sink.Counts()
	_, lost := sink.Nodes()
	if st := e.Stats(); st.GivenUp == 0 || lost != st.GivenUp || uint64(n)+lost != clients || sink.Faults() != nil {
		t.Errorf("%d came, %d were said to be lost, faults %v, %+v", n, lost, sink.Faults(), st)
	}
}

// Two processes with one directory leave each other alone, as while one takes over from the other.
func TestTwoProcesses(t *testing.T) {
	sink := eventsink.Start(t, secret)
	c := config(t, sink.URL)
	c.Dir = t.TempDir()
	other := config(t, sink.URL)
	other.Dir = c.Dir
	a, b := start(t, c), start(t, other)
	a.Connected("a", "")
	b.Connected("b", "")
	sink.Wait(t, "both", func() bool { return len(sink.Open()) == 2 })
	if st := b.Stats(); st.Inferred != 0 || len(journals(t, c.Dir)) != 2 {
		t.Errorf("%+v, journals %v", st, journals(t, c.Dir))
	}
	a.Disconnected("a", "", 1001, "", "")
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if open := sink.Open(); !slices.Equal(open, []string{"client b"}) || sink.Faults() != nil {
		t.Errorf("open: %v, faults %v", open, sink.Faults())
	}
}

// A directory in which there is something else does no harm.
func TestStrangeDirectory(t *testing.T) {
	sink := eventsink.Start(t, secret)
	c := config(t, sink.URL)
	c.Dir = t.TempDir()
	for name, content := range map[string]string{
		"00000000000000000001-empty/x":                             "",
		"00000000000000000002-bad/lock":                            "",
		"00000000000000000002-bad/00000000000000000001.log":        "garbage",
		"00000000000000000002-bad/checkpoint":                      "garbage",
		"00000000000000000002-bad/position":                        "garbage",
		"00000000000000000003-dir/lock":                            "",
		"00000000000000000003-dir/00000000000000000001.log/nested": "",
		"file": "",
	} {
		path := filepath.Join(c.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := start(t, c)
	e.Connected("a", "")
	sink.Wait(t, "the event", func() bool { return len(sink.Open()) == 1 })
	if err := sink.Faults(); err != nil || e.Stats().Damaged == 0 {
		t.Errorf("faults %v, %+v", err, e.Stats())
	}
}

func TestCacheMiss(t *testing.T) {
	sink := eventsink.Start(t, secret)
	e := start(t, config(t, sink.URL))
	h := newHub(t, e)
	if _, err := h.Recover(t.Context(), "c", hub.Position{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Publish(t.Context(), "d", []byte("{}"), hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Recover(t.Context(), "d", hub.Position{}); err != nil {
		t.Fatal(err)
	}
	sink.Wait(t, "the event", func() bool { return len(sink.Events()) > 0 })
	if got := sink.Events(); len(got) != 1 || got[0].Type != events.CacheMiss || got[0].Channel != "c" {
		t.Errorf("%+v", got)
	}
}

func TestValidate(t *testing.T) {
	good := events.Config{URL: "https://example.com/events?x=y", Secrets: [][]byte{secret, secret}}
	for _, tt := range []struct {
		name   string
		change func(*events.Config)
		want   string // the flag; empty if nothing is wrong
	}{
		{"good", func(*events.Config) {}, ""},
		{"off", func(c *events.Config) { *c = events.Config{} }, ""},
		{"nowhere to send them to", func(c *events.Config) { *c = events.Config{Connects: true} }, "events: "},
		{"a secret for nothing", func(c *events.Config) { c.URL = "" }, "events-secret-file"},
		{"no secret", func(c *events.Config) { c.Secrets = nil }, "events-secret-file"},
		{"unsigned", func(c *events.Config) { c.Secrets, c.Unsigned = nil, true }, ""},
		{"a short secret", func(c *events.Config) { c.Secrets[1] = secret[:31] }, "events-secret-file: line 2"},
		{"no scheme", func(c *events.Config) { c.URL = "example.com/events" }, "events-url"},
		{"another scheme", func(c *events.Config) { c.URL = "ftp://example.com" }, "events-url"},
		{"no host", func(c *events.Config) { c.URL = "http:///x" }, "events-url"},
		{"too small a queue", func(c *events.Config) { c.QueueBytes = 1000 }, "events-queue-bytes"},
		{"too large a batch", func(c *events.Config) { c.BatchEvents = 10_001 }, "events-batch"},
		{"negative", func(c *events.Config) { c.BatchBytes = -1 }, "events-batch-bytes"},
		{"too long a debounce", func(c *events.Config) { c.Debounce = time.Hour }, "events-debounce"},
		{"too long a delay", func(c *events.Config) { c.Delay = time.Hour }, "events-delay"},
		{"too rare syncs", func(c *events.Config) { c.SyncInterval = time.Hour }, "events-sync"},
		{"negative timeout", func(c *events.Config) { c.Timeout = -1 }, "events-timeout"},
	} {
		c := good
		c.Secrets = slices.Clone(good.Secrets)
		tt.change(&c)
		err := c.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "example.com/") {
			t.Errorf("%s: the error quotes the URL: %v", tt.name, err)
		}
	}
}

// A batch that is refused at the end is not passed over for those behind it.
func TestRefusedAtTheEnd(t *testing.T) {
	sink := eventsink.Start(t, secret)
	sink.SetMood(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get(events.HeaderBatch), "-1-1") {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		sink.Take(w, r)
	})
	c := config(t, sink.URL)
	c.Dir, c.BatchEvents = t.TempDir(), 1
	first := start(t, c)
	first.Connected("a", "")
	first.Disconnected("a", "", 1000, "", "")
	sink.Wait(t, "the first to be refused", func() bool { return first.Stats().Attempts[events.Refused] > 0 })
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sink.SetMood(nil)
	next := config(t, sink.URL)
	next.Dir = c.Dir
	start(t, next)
	sink.Wait(t, "both", func() bool { n, _, _ := sink.Counts(); return n == 2 })
	if _, lost := sink.Nodes(); lost != 0 || sink.Faults() != nil {
		t.Errorf("lost %d, faults %v", lost, sink.Faults())
	}
}

// A process that is never without events of its own adopts all the same what another has left.
func TestAdoptionWhileBusy(t *testing.T) {
	left := config(t, deadURL(t))
	left.Dir, left.ShutdownTimeout = t.TempDir(), 50*time.Millisecond
	first := start(t, left)
	sink := eventsink.Start(t, secret)
	c := config(t, sink.URL)
	c.Dir, c.BatchEvents = left.Dir, 1
	busy := start(t, c)
	var visits atomic.Int64
	visit := func() {
		client := strconv.FormatInt(visits.Add(1), 10)
		busy.Connected(client, "")
		busy.Disconnected(client, "", 1000, "", "")
	}
	sink.SetMood(func(w http.ResponseWriter, r *http.Request) {
		visit() // two more for each that is taken
		sink.Take(w, r)
	})
	for range 100 {
		visit()
	}
	sink.Wait(t, "the busy one", func() bool { return busy.Stats().Sent > 0 })
	first.Connected("left", "")
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sink.Wait(t, "what the first has left", func() bool { names, _ := sink.Nodes(); return slices.Contains(names, left.Node) })
	sink.SetMood(nil)
	if err := sink.Faults(); err != nil {
		t.Error(err)
	}
}
