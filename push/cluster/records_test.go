package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/nats"
	"github.com/millpond/millpond/push/broker/nats/embedded"
)

// keeper is a node that has records.
type keeper struct {
	mu   sync.Mutex
	have map[string]time.Time
	came int
}

func (k *keeper) apply(record []byte) error {
	if strings.HasPrefix(string(record), "bad") {
		return errors.New("it is bad")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.have[string(record)] = time.Time{}
	k.came++
	return nil
}

func (k *keeper) own() (list []Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for data, until := range k.have {
		list = append(list, Record{[]byte(data), until})
	}
	return list
}

func (k *keeper) has(record string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, found := k.have[record]
	return found
}

// keep starts a node with records of its own.
func keep(t testing.TB, log Log, own ...string) (*keeper, *Records) {
	t.Helper()
	k := &keeper{have: map[string]time.Time{}}
	for _, record := range own {
		k.have[record] = time.Time{}
	}
	r := FollowRecords(RecordsConfig{Log: log, Apply: k.apply, Own: k.own, Retry: time.Millisecond, Refresh: time.Second, Logger: logger(t)})
	t.Cleanup(r.Close)
	return k, r
}

// log opens one over a connection of its own.
func openLog(t testing.TB, s *embedded.Server, name string, most int) (*nats.Records, *nats.Link) {
	t.Helper()
	link := connect(t, s, name)
	log, err := nats.NewRecords(link, "test", 1, most)
	if err != nil {
		t.Fatal(err)
	}
	return log, link
}

// What one node knows all do: those that are there, those that come later, and what a node knew when it came.
func TestRecords(t *testing.T) {
	s := startNATS(t)
	logA, _ := openLog(t, s, "a", 1000)
	logB, _ := openLog(t, s, "b", 1000)
	a, recordsA := keep(t, logA, "a's own")
	<-recordsA.Synced()
	eventually(t, "a's own is in the log", func() bool { return recordsA.Stats().Put == 1 && recordsA.Stats().Pending == 0 })
	b, recordsB := keep(t, logB, "b's own")
	<-recordsB.Synced()
	if !b.has("a's own") {
		t.Error("b is in step without what the log had")
	}
	eventually(t, "a knows what b brought", func() bool { return a.has("b's own") })
	if err := recordsB.Add(t.Context(), Record{Data: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a learns what is new", func() bool { return a.has("new") })
	if err := recordsB.Add(t.Context(), Record{Data: []byte("over"), Until: time.Now().Add(-time.Minute)}); err != nil {
		t.Error(err)
	}
	if err := recordsB.Add(t.Context(), Record{Data: []byte("bad")}); err != nil {
		t.Error(err)
	}
	if err := recordsB.Add(t.Context(), Record{Data: make([]byte, 5000)}); err == nil || errors.Is(err, ErrPending) {
		t.Error("a record that is too large:", err)
	}
	eventually(t, "what is not taken in is counted", func() bool { return recordsA.Stats().Refused >= 1 })
	logC, _ := openLog(t, s, "c", 1000)
	c, recordsC := keep(t, logC)
	<-recordsC.Synced()
	for _, record := range []string{"a's own", "b's own", "new"} {
		if !c.has(record) {
			t.Errorf("c does not know %q", record)
		}
	}
	if c.has("over") {
		t.Error("what is over came")
	}
	if st := recordsC.Stats(); !st.Synced || st.Applied < 3 {
		t.Errorf("%+v", st)
	}
}

// cut is a log that can be away.
type cut struct {
	Log
	mu   sync.Mutex
	away bool
}

func (c *cut) set(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

func (c *cut) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errors.New("no quorum")
	}
	return nil
}

func (c *cut) Put(ctx context.Context, key string, record []byte, until time.Time) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Log.Put(ctx, key, record, until)
}

func (c *cut) Follow(ctx context.Context, f func([]byte), synced func()) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Log.Follow(ctx, f, synced)
}

// What is added while the log is away gets there when it is back; whoever added it knows.
func TestRecordsWhileTheLogIsAway(t *testing.T) {
	s := startNATS(t)
	logA, _ := openLog(t, s, "a", 1000)
	logB, _ := openLog(t, s, "b", 1000)
	away := &cut{Log: logA, away: true}
	_, recordsA := keep(t, away)
	b, recordsB := keep(t, logB)
	<-recordsB.Synced()
	if err := recordsA.Add(t.Context(), Record{Data: []byte("late")}); !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), "no quorum") {
		t.Error(err)
	}
	eventually(t, "it is tried again", func() bool { return recordsA.Stats().Restarts > 1 && recordsA.Stats().Failed > 1 })
	if st := recordsA.Stats(); st.Pending != 1 || st.Synced || b.has("late") {
		t.Errorf("%+v", st)
	}
	away.set(false)
	eventually(t, "b knows", func() bool { return b.has("late") })
	eventually(t, "nothing waits", func() bool { return recordsA.Stats().Pending == 0 && recordsA.Stats().Synced })
}

// A log that is lost is filled again by those who know.
func TestRecordsOfALostLog(t *testing.T) {
	s := startNATS(t)
	log, link := openLog(t, s, "a", 1000)
	_, records := keep(t, log)
	if err := records.Add(t.Context(), Record{Data: []byte("kept")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came", func() bool { return records.Stats().Applied > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if m, err := link.Request(ctx, "$JS.API.STREAM.DELETE.millpond-test", nil); err != nil || !strings.Contains(string(m.Data), `"success":true`) {
		t.Fatal(string(m.Data), err)
	}
	eventually(t, "the log is there again, with what it had", func() bool {
		m, err := link.Request(ctx, "$JS.API.STREAM.INFO.millpond-test", nil)
		return err == nil && strings.Contains(string(m.Data), `"messages":1,`)
	})
}

// A log that is full says so, and what does not fit waits within a bound.
func TestRecordsAreBounded(t *testing.T) {
	s := startNATS(t)
	log, _ := openLog(t, s, "a", 1)
	k := &keeper{have: map[string]time.Time{}}
	r := FollowRecords(RecordsConfig{Log: log, Apply: k.apply, Own: k.own, Retry: time.Millisecond, MaxPending: 1, Logger: logger(t)})
	t.Cleanup(r.Close)
	<-r.Synced()
	for i, want := range []func(error) bool{
		func(err error) bool { return err == nil },
		func(err error) bool {
			return errors.Is(err, ErrPending) && strings.Contains(err.Error(), "maximum messages")
		},
		func(err error) bool { return err != nil && !errors.Is(err, ErrPending) },
	} {
		if err := r.Add(t.Context(), Record{Data: []byte{'0' + byte(i)}}); !want(err) {
			t.Error(i, err)
		}
	}
	if err := r.Add(t.Context(), Record{Data: []byte("0")}); err != nil {
		t.Error("what is there may be added again:", err)
	}
}
