package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millpond/millpond/push/broker/nats"
	"github.com/millpond/millpond/push/broker/nats/embedded"
)

var (
	_ Bus = (*nats.Bus)(nil)
	_ Log = (*nats.Records)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startNATS boots a real server and ends it with the test.
func startNATS(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), StoreBytes: 64 << 20, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect opens a node's connection.
func connect(t testing.TB, s *embedded.Server, name string) *nats.Link {
	t.Helper()
	l, err := nats.Open(nats.LinkConfig{Server: s, Node: name, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// fast is for tests that wait for nodes to be lost.
var fast = Limits{Heartbeat: 20 * time.Millisecond, Timeout: 2 * time.Second}

// start has a node join; its methods are echo, refuse, break, panic, many, hang and huge.
func start(t testing.TB, bus Bus, uid string, l Limits) *Cluster {
	t.Helper()
	k, err := New(Config{
		Bus: bus, UID: uid, Name: "host-" + strings.TrimRight(uid, "0123456789"), Version: "1.2.3", Limits: l, Logger: logger(t),
		Figures: func() json.RawMessage { return json.RawMessage(`{"n":1}`) },
		Methods: map[string]Method{
			"echo":   func(_ context.Context, body []byte, out *Answer) error { return out.Add(json.RawMessage(body)) },
			"refuse": func(context.Context, []byte, *Answer) error { return &Refusal{Code: 107, Message: "not like this"} },
			"break":  func(context.Context, []byte, *Answer) error { return errors.New("the disk of host-7 is full") },
			"panic":  func(context.Context, []byte, *Answer) error { panic("no") },
			"hang":   func(ctx context.Context, _ []byte, _ *Answer) error { <-ctx.Done(); return ctx.Err() },
			"many": func(_ context.Context, _ []byte, out *Answer) error {
				for i := range 10_000 {
					if err := out.Add(fmt.Sprintf("%s %04d %s", uid, i, strings.Repeat("x", 50))); err != nil {
						return err
					}
				}
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// knows waits until a node knows the others, and nobody else.
func knows(t testing.TB, k *Cluster, uids ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s knows %v", k.config.UID, uids), func() bool {
		var known []string
		for _, n := range k.Nodes() {
			known = append(known, n.UID)
		}
		return slices.Equal(known, uids)
	})
}

// three nodes that know each other.
func three(t testing.TB, l Limits) (nodes []*Cluster, buses []*nats.Bus) {
	t.Helper()
	s := startNATS(t)
	for _, uid := range []string{"a", "b", "c"} {
		bus := nats.NewBus(connect(t, s, uid))
		buses = append(buses, bus)
		nodes = append(nodes, start(t, bus, uid, l))
	}
	knows(t, nodes[0], "b", "c")
	knows(t, nodes[1], "a", "c")
	knows(t, nodes[2], "a", "b")
	return nodes, buses
}

// ask returns all entries of all answers.
func ask(t testing.TB, k *Cluster, method, body string) (entries []string, err error) {
	t.Helper()
	q, err := k.Ask(method, []byte(body))
	if err != nil {
		return nil, err
	}
	err = q.Wait(t.Context(), func(node string, body []byte) (bool, error) {
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil {
			return false, err
		}
		for _, e := range list {
			entries = append(entries, node+" "+string(e))
		}
		return false, nil
	})
	slices.Sort(entries)
	return entries, err
}

func TestNodesKnowEachOther(t *testing.T) {
	nodes, _ := three(t, Limits{})
	n := nodes[0].Nodes()[0]
	if n.Name != "host-b" || n.Version != "1.2.3" || string(n.Figures) != `{"n":1}` || n.Foreign || time.Since(n.Started) > time.Minute || time.Since(n.Seen) > time.Minute {
		t.Errorf("%+v", n)
	}
	if err := nodes[1].Close(); err != nil { // it says so: nobody waits for the timeout
		t.Error(err)
	}
	knows(t, nodes[0], "c")
	knows(t, nodes[2], "a")
	if st := nodes[0].Stats(); st.Lost != 0 || st.Nodes != 2 {
		t.Errorf("%+v", st)
	}
	if err := nodes[1].Close(); err != nil {
		t.Error("the second time does nothing", err)
	}
	if _, err := nodes[1].Ask("echo", []byte("1")); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAsk(t *testing.T) {
	nodes, _ := three(t, Limits{AskTimeout: 30 * time.Second})
	for _, c := range []struct {
		method, body string
		want         []string
		err          string // a part of it
	}{
		{"echo", `{"x":1}`, []string{`b {"x":1}`, `c {"x":1}`}, ""},
		{"refuse", `1`, nil, "not like this"},
		{"break", `1`, nil, "host-b (b): internal error; the log says more; host-c (c): internal"},
		{"panic", `1`, nil, "not all nodes have answered"},
		{"from the future", `1`, nil, `host-b (b): this version (1.2.3) knows no "from the future"`},
		{"echo", `"` + strings.Repeat("x", 1<<20) + `"`, nil, "a message of 1048"},
	} {
		got, err := ask(t, nodes[0], c.method, c.body)
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %.100q %v, want %q %q", c.method, got, err, c.want, c.err)
		}
		if err != nil && strings.Contains(err.Error(), "host-7") {
			t.Errorf("an internal error is told: %v", err)
		}
	}
	if st := nodes[1].Stats(); st.Panics != 1 || st.Serving != 0 {
		t.Errorf("%+v", st)
	}
	if st := nodes[0].Stats(); st.Asked != 5 || st.Asking != 0 || st.Answered != 2 || st.Incomplete != 3 {
		t.Errorf("%+v", st)
	}
}

// A long answer comes in parts, whole and in order, and is bounded by bytes.
func TestLongAnswers(t *testing.T) {
	nodes, _ := three(t, Limits{AskTimeout: 30 * time.Second})
	got, err := ask(t, nodes[0], "many", "1")
	if err != nil || len(got) != 20_000 || !strings.HasPrefix(got[19_999], `c "c 9999`) {
		t.Fatal(len(got), err)
	}
	if st := nodes[0].Stats(); st.Received[kindAnswer] < 6 {
		t.Errorf("%d parts", st.Received[kindAnswer])
	}
	small := start(t, nodes[0].config.Bus, "d", Limits{MaxAnswerBytes: 700_000, AskTimeout: 30 * time.Second}) // either answer fits, both do not
	knows(t, small, "a", "b", "c")
	if _, err := ask(t, small, "many", "1"); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "700000") {
		t.Error(err)
	}
	smaller := start(t, nodes[0].config.Bus, "e", Limits{MaxAnswerBytes: 1000, AskTimeout: 30 * time.Second}) // the others do not even send it
	knows(t, smaller, "a", "b", "c", "d")
	knows(t, nodes[0], "b", "c", "d", "e")
	eventually(t, "the answer that was too large is sent", func() bool { return nodes[0].Stats().Serving == 0 })
	before, served := nodes[0].Stats().Sent[kindAnswer], nodes[0].Stats().Served
	if _, err := ask(t, smaller, "many", "1"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	eventually(t, "the question is answered", func() bool { st := nodes[0].Stats(); return st.Served > served && st.Serving == 0 })
	if sent := nodes[0].Stats().Sent[kindAnswer] - before; sent > 1 {
		t.Errorf("%d parts were sent for nothing", sent)
	}
}

// Whoever knows enough does not wait for the others.
func TestEnough(t *testing.T) {
	nodes, _ := three(t, Limits{AskTimeout: time.Hour})
	q, err := nodes[0].Ask("echo", []byte(`1`))
	if err != nil {
		t.Fatal(err)
	}
	parts := 0
	if err := q.Wait(t.Context(), func(string, []byte) (bool, error) { parts++; return true, nil }); err != nil || parts != 1 {
		t.Error(parts, err)
	}
	if q, err = nodes[0].Ask("hang", []byte(`1`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Wait(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if st := nodes[0].Stats(); st.Asking != 0 {
		t.Errorf("%+v", st)
	}
}

// deaf is a bus on which the answers of a node that hangs do not come.
type deaf struct {
	Bus
	hangs atomic.Bool
}

func (d *deaf) Publish(subject string, data []byte) error {
	if d.hangs.Load() {
		return nil
	}
	return d.Bus.Publish(subject, data)
}

// A node that hangs is named; the others' answers are there. It is dropped after the timeout, and known again when it goes on.
func TestNodeThatHangs(t *testing.T) {
	s := startNATS(t)
	hung := &deaf{Bus: nats.NewBus(connect(t, s, "c"))}
	l := fast
	l.AskTimeout = 300 * time.Millisecond
	a := start(t, nats.NewBus(connect(t, s, "a")), "a", l)
	b := start(t, nats.NewBus(connect(t, s, "b")), "b", Limits{AskTimeout: time.Minute}) // which is not in a hurry
	start(t, hung, "c", l)
	knows(t, a, "b", "c")
	knows(t, b, "a", "c")
	hung.hangs.Store(true)
	got, err := ask(t, a, "echo", "1")
	var incomplete *Incomplete
	if !errors.As(err, &incomplete) || !slices.ContainsFunc(incomplete.Missing, func(s string) bool {
		return s == "host-c (c) did not answer within 300ms"
	}) || !slices.Contains(got, "b 1") && len(incomplete.Missing) == 1 {
		t.Errorf("%q %v", got, err)
	}
	if st := a.Stats(); st.TimedOut != 1 {
		t.Errorf("%+v", st)
	}
	eventually(t, "c is dropped", func() bool { return a.Stats().Lost >= 1 })
	hung.hangs.Store(false)
	eventually(t, "c is back, and all answer", func() bool {
		got, err := ask(t, a, "echo", "1")
		return err == nil && slices.Equal(got, []string{"b 1", "c 1"})
	})
}

// Whoever hears two nodes with one name says so; not at once, for one that was killed and started again is heard of twice, too.
func TestSameName(t *testing.T) {
	s := startNATS(t)
	slow := Limits{Heartbeat: time.Hour, Timeout: 2 * time.Hour} // so that the loop does nothing
	watching, err := New(Config{Bus: nats.NewBus(connect(t, s, "a")), UID: "a", Name: "host-a", Limits: slow, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watching.Close() })
	now := time.Now()
	look := func(after time.Duration, namesakes int, told ...string) {
		t.Helper()
		now = now.Add(after)
		if names, st := watching.lastingNamesakes(now), watching.Stats(); st.Namesakes != namesakes || !slices.Equal(names, told) {
			t.Errorf("%d and not %d too many; told %q, and not %q", st.Namesakes, namesakes, names, told)
		}
	}
	start(t, nats.NewBus(connect(t, s, "b")), "b", slow)
	knows(t, watching, "b")
	look(time.Hour, 0)
	second := start(t, nats.NewBus(connect(t, s, "b1")), "b1", slow)
	knows(t, watching, "b", "b1")
	look(0, 1)
	look(patience*slow.Timeout, 1)
	look(1, 1, "host-b")
	look(time.Hour, 1)
	_ = second.Close()
	knows(t, watching, "b")
	look(0, 0)
	start(t, nats.NewBus(connect(t, s, "a1")), "a1", slow)
	knows(t, watching, "a1", "b")
	look(0, 1) // it is counted from anew
	look(patience*slow.Timeout+1, 1, "host-a")
}

// A question is not answered by a node that goes meanwhile; it is not waited for.
func TestNodeThatGoes(t *testing.T) {
	nodes, _ := three(t, Limits{AskTimeout: time.Hour})
	q, err := nodes[0].Ask("hang", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are asked", func() bool { return nodes[1].Stats().Serving == 1 && nodes[2].Stats().Serving == 1 })
	_ = nodes[1].Close()
	_ = nodes[2].Close()
	if err := q.Wait(t.Context(), nil); err != nil && !strings.Contains(err.Error(), "internal error") { // the context of its method has ended
		t.Error(err)
	}
}

// More than may be under way are refused: those that are asked, and those that are answered.
func TestQuestionsAreBounded(t *testing.T) {
	s := startNATS(t)
	a := start(t, nats.NewBus(connect(t, s, "a")), "a", Limits{MaxAsks: 3, AskTimeout: time.Hour})
	b := start(t, nats.NewBus(connect(t, s, "b")), "b", Limits{MaxServed: 2, AskTimeout: time.Hour})
	knows(t, a, "b")
	knows(t, b, "a")
	var questions []*Question
	for range 3 {
		q, err := a.Ask("hang", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, q)
	}
	if _, err := a.Ask("echo", []byte("1")); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	eventually(t, "one is turned away", func() bool { return b.Stats().TurnedAway == 1 })
	if err := questions[2].Wait(t.Context(), nil); err == nil || !strings.Contains(err.Error(), ErrBusy.Error()) {
		t.Error(err)
	}
	if st := a.Stats(); st.Busy != 1 || st.Asking != 2 {
		t.Errorf("%+v", st)
	}
}

// What is sent by whoever may send is read with care: nothing of it is believed that makes no sense, all of it is counted.
func TestHostileMessages(t *testing.T) {
	nodes, buses := three(t, Limits{MaxNodes: 4, AskTimeout: 30 * time.Second})
	a, bus := nodes[0], buses[1]
	send := func(subject, data string) {
		if err := bus.Publish(subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(reason string) func() bool {
		before := a.Stats().Ignored[reason]
		return func() bool { return a.Stats().Ignored[reason] > before }
	}
	for _, c := range []struct{ subject, data, reason string }{
		{"beats", "", ignoredGarbage},
		{"beats", "{", ignoredGarbage},
		{"beats", "null", ignoredGarbage},
		{"beats", "[]", ignoredGarbage},
		{"beats", string(bytes.Repeat([]byte("["), 100_000)), ignoredGarbage},
		{"beats", "\xff\x00", ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"x"}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"nodes.>","beat":{"name":"n"}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"","beat":{}}`, ignoredGarbage},
		{"beats", `{"v":-1,"kind":"beat","from":"x","beat":{}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"` + strings.Repeat("x", 65) + `","beat":{}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"x","beat":{"name":"` + strings.Repeat("x", 256) + `"}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"x","beat":{"figures":"` + strings.Repeat("x", 5000) + `"}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"beat","from":"x","beat":{"name":7}}`, ignoredGarbage},
		{"beats", `{"v":1,"kind":"dance","from":"x"}`, ignoredKind},
		{"beats", `{"v":1,"kind":"ask","from":"x","id":1,"method":"echo","ms":1,"bytes":1}`, ignoredKind},
		{"asks", `{"v":1,"kind":"ask","from":"x","method":"echo","ms":1,"bytes":1}`, ignoredGarbage},
		{"asks", `{"v":1,"kind":"ask","from":"x","id":1,"method":"","ms":1,"bytes":1}`, ignoredGarbage},
		{"asks", `{"v":1,"kind":"ask","from":"x","id":1,"method":"echo","ms":-1,"bytes":1}`, ignoredGarbage},
		{"asks", `{"v":1,"kind":"ask","from":"x","id":1e99,"method":"echo","ms":1,"bytes":1}`, ignoredGarbage},
		{"asks", `{"v":1,"kind":"leave","from":"x"}`, ignoredKind},
		{"nodes.a", `{"v":1,"kind":"answer","from":"b","id":77,"last":true}`, ignoredLate},
		{"nodes.a", `{"v":1,"kind":"answer","from":"b","id":1,"part":-1}`, ignoredGarbage},
		{"nodes.a", `{"v":1,"kind":"answer","from":"b","id":1,"error":{"code":1}}`, ignoredGarbage},
		{"nodes.a", `{"v":1,"kind":"leave","from":"b"}`, ignoredKind},
		{"nodes.a", `{"v":1,"kind":"ask","from":"b","id":1,"method":"echo","ms":1,"bytes":1}`, ignoredKind},
	} {
		counted := count(c.reason)
		send(c.subject, c.data)
		eventually(t, fmt.Sprintf("%.100s is counted as %s", c.data, c.reason), counted)
	}
	knows(t, a, "b", "c")
	got, err := ask(t, a, "echo", "1")
	if err != nil || len(got) != 2 {
		t.Error(got, err)
	}
	// Questions of a node that lies about its patience cost no more than the limits say.
	send("asks", `{"v":1,"kind":"ask","from":"x","id":1,"method":"echo","ms":9223372036854775807,"bytes":9223372036854775807}`)
	// One place is left: the second newcomer does not get it, and as long as it is there nobody can be sure to have asked all.
	send("beats", `{"v":1,"kind":"beat","from":"x","beat":{},"field of the future":1}`)
	knows(t, a, "x", "b", "c")
	counted := count(ignoredFull)
	send("beats", `{"v":1,"kind":"beat","from":"y","beat":{}}`)
	eventually(t, "y is not taken in", counted)
	if got := len(a.Nodes()); got != 3 {
		t.Errorf("%d nodes", got)
	}
	send("beats", `{"v":1,"kind":"leave","from":"x"}`)
	knows(t, a, "b", "c")
	if _, err := ask(t, a, "echo", "1"); err == nil || !strings.Contains(err.Error(), "cluster-max-nodes") {
		t.Error(err)
	}
}

// A node of another version is known, and whoever wants all to answer learns that it does not.
func TestOtherVersion(t *testing.T) {
	nodes, buses := three(t, Limits{AskTimeout: 30 * time.Second})
	if err := buses[1].Publish("beats", []byte(`{"v":2,"kind":"pulse","from":"z","beat":"of another shape"}`)); err != nil {
		t.Fatal(err)
	}
	knows(t, nodes[0], "z", "b", "c")
	got, err := ask(t, nodes[0], "echo", "1")
	if err == nil || !strings.Contains(err.Error(), "z speaks another version") || len(got) != 2 {
		t.Error(got, err)
	}
	eventually(t, "its message is counted", func() bool {
		st := nodes[0].Stats()
		return st.Foreign == 1 && st.Ignored[ignoredVersion] > 0
	})
}

// A part that is missing is noticed.
func TestAnswerWithAGap(t *testing.T) {
	s := startNATS(t)
	bus := nats.NewBus(connect(t, s, "a"))
	a := start(t, bus, "a", Limits{AskTimeout: time.Hour})
	if err := bus.Publish("beats", []byte(`{"v":1,"kind":"beat","from":"x","beat":{}}`)); err != nil {
		t.Fatal(err)
	}
	knows(t, a, "x")
	q, err := a.Ask("echo", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"part":0,"body":[1]`, `"part":2,"body":[3],"last":true`} {
		if err := bus.Publish("nodes.a", fmt.Appendf(nil, `{"v":1,"kind":"answer","from":"x","id":%d,%s}`, q.id, part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Wait(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "part is missing") {
		t.Error(err)
	}
}

// Without a bus that takes messages, no question counts as answered.
func TestBusThatIsGone(t *testing.T) {
	s := startNATS(t)
	link := connect(t, s, "a")
	a := start(t, nats.NewBus(link), "a", Limits{})
	_ = link.Close(context.Background())
	if _, err := a.Ask("echo", []byte("1")); err == nil || !strings.Contains(err.Error(), "the bus does not take the question") {
		t.Error(err)
	}
	if err := a.Close(); err == nil {
		t.Error("the others were told that it leaves")
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{UID: "a.b", Limits: Limits{Heartbeat: -1, Timeout: 1, MaxNodes: -1}})
	for _, want := range []string{"Bus", `"a.b" is no uid`, "cluster-heartbeat: -1", "cluster-max-nodes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err := (Limits{Heartbeat: time.Minute}).Validate(); err == nil || !strings.Contains(err.Error(), "cluster-timeout: 10s") {
		t.Error(err)
	}
}
