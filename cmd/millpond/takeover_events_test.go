package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/internal/eventsink"
)

// The next process takes over, twice and under churn, from one whose data directory it shares: no event of either is lost or told
// out of order, and at the end the backend knows the truth.
func TestEventsThroughTakeover(t *testing.T) {
	sink := eventsink.Start(t, []byte(eventsSecret))
	dir := t.TempDir()
	secretFile, path := filepath.Join(dir, "secret"), filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(secretFile, []byte(eventsSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func() *process {
		return startProcess(t, "--dev", "--takeover="+path, "--data-dir="+dir, "--events="+allEvents, "--events-url="+sink.URL, "--events-secret-file="+secretFile,
			"--events-debounce=100ms", "--events-backoff=100ms", "--events-queue-bytes=536870912")
	}
	last := serve()
	c := &churn{t: t, stopped: make(chan struct{}), visits: map[string]visit{}}
	c.move(last, 0)
	c.start(4)
	for n := range 2 {
		before, _, _ := sink.Counts()
		sink.Wait(t, "events", func() bool { n, _, _ := sink.Counts(); return n > before+200 })
		awaitFile(t, path, last)
		next := serve()
		c.move(next, n+1)
		if code := last.wait(); code != 0 {
			t.Errorf("process %d ended with %d", n, code)
		}
		last = next
	}
	before, _, _ := sink.Counts()
	sink.Wait(t, "events of the last", func() bool { n, _, _ := sink.Counts(); return n > before+200 })
	close(c.stopped)
	c.group.Wait()
	conn, err := subscribed(t.Context(), last.public, "stays", "stays")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	want := []string{"channel stays", `member "stays" of "stays"`}
	sink.Wait(t, "the truth", func() bool {
		return slices.Equal(want, slices.DeleteFunc(sink.Open(), func(name string) bool { return strings.HasPrefix(name, "client ") }))
	})
	endEvents(t, last, sink, dir)
	if names, lost := sink.Nodes(); len(names) != 3 || lost != 0 {
		t.Errorf("events of %v, %d lost", names, lost)
	}
	if err := sink.Faults(); err != nil {
		t.Error(err)
	}
	for _, e := range sink.Events() {
		if e.Inferred {
			t.Errorf("%+v is inferred, though nobody was killed", e)
			break
		}
	}
	c.check(sink.Events(), nil) // each visit that was answered, of whichever process
}

// awaitFile waits until a process offers its sockets at path: it does once it serves.
func awaitFile(t *testing.T, path string, p *process) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process at %s offers nothing", p.public)
		}
	}
}
