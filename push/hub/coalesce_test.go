package hub_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

// In a long queue, a join and its leave that wait for the same subscribers take each other out; nothing else moves.
func TestLeaveTakesAWaitingJoinOut(t *testing.T) {
	for _, tt := range []struct{ events, want string }{
		{"+a -a", ""},
		{"+a 1 -a 2", "1 2"},
		{"+a +b -a", "+b"},
		{"-a +a", "-a +a"}, // it was told of before
		{"-a +a -a", "-a"},
		{"-a +a -a +a", "-a +a"},
		{"+a -a +a", "+a"},
		{"+a +b +c -b -a 1", "+c 1"},
		{"+a ; -a", "+a -a"}, // ; delivers what waits
		{"+a ; -a +a ; -a", "+a -a +a -a"},
		{"1 +a 2 -a ; 3", "1 2 3"},
		{"+a -b -a", "-b"},
	} {
		m := new(manual)
		h := newHub(t, hub.Config{Executor: m, MaxWaiting: 6})
		d := new(diary)
		sub := follow(t, h, d, true)
		fill := func() {
			for range 6 { // leaves of others, who were there before
				announce(t, h, hub.KindLeave, "z")
			}
		}
		fill()
		for _, e := range strings.Fields(tt.events) {
			switch e[0] {
			case '+':
				announce(t, h, hub.KindJoin, e[1:])
			case '-':
				announce(t, h, hub.KindLeave, e[1:])
			case ';':
				m.runAll()
				fill()
			default:
				send(t, h, "c", e, hub.PublishOptions{})
			}
			if err := h.ConsistencyCheck(); err != nil {
				t.Errorf("%q: %v", tt.events, err)
			}
		}
		m.runAll()
		if got := strings.Join(slices.DeleteFunc(d.lines, func(line string) bool { return line == "-z" }), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.events, got, tt.want)
		}
		sub.Unsubscribe()
		checkEmpty(t, h)
	}
}

// In a short queue all are told.
func TestLeaveAfterItsJoin(t *testing.T) {
	m := new(manual)
	h := newHub(t, hub.Config{Executor: m, MaxWaiting: 6})
	d := new(diary)
	sub := follow(t, h, d, true)
	for _, name := range []string{"a", "b", "c"} {
		announce(t, h, hub.KindJoin, name)
		announce(t, h, hub.KindLeave, name)
	}
	m.runAll()
	if got := d.text(); got != "+a -a +b -b +c -c" {
		t.Error(got)
	}
	sub.Unsubscribe()
	checkEmpty(t, h)
}

// A join whose leave waits behind it is not taken out by another leave.
func TestLeaveWithoutAJoinTakesNothingOut(t *testing.T) {
	m := new(manual)
	h := newHub(t, hub.Config{Executor: m, MaxWaiting: 3})
	d := new(diary)
	sub := follow(t, h, d, true)
	announce(t, h, hub.KindJoin, "a")
	announce(t, h, hub.KindLeave, "a")
	announce(t, h, hub.KindLeave, "z")
	announce(t, h, hub.KindLeave, "a") // its join was not told, for nobody listened then
	m.runAll()
	if got := d.text(); got != "+a -a -z -a" {
		t.Error(got)
	}
	sub.Unsubscribe()
	checkEmpty(t, h)
}

// Who comes in while joins and leaves wait gets what comes after, whatever is taken out before it.
func TestLatecomersWhileEventsAreTakenOut(t *testing.T) {
	m := new(manual)
	h := newHub(t, hub.Config{Executor: m, MaxWaiting: 3})
	var diaries []*diary
	var subs []*hub.Subscription
	var wants []string
	note := func(text string) {
		for i := range wants {
			wants[i] += text
		}
	}
	for i := range 200 {
		d := new(diary)
		diaries, subs, wants = append(diaries, d), append(subs, follow(t, h, d, i%2 == 0)), append(wants, "")
		announce(t, h, hub.KindJoin, "a")
		if i%3 == 0 {
			send(t, h, "c", fmt.Sprint(i), hub.PublishOptions{})
			note(fmt.Sprint(" ", i))
		}
		announce(t, h, hub.KindLeave, "a")
		if i%10 == 9 { // before a publisher finds the queue full, and delivers
			m.runAll()
		}
	}
	m.runAll()
	for i, d := range diaries {
		messages := slices.DeleteFunc(d.lines, func(line string) bool { return line[0] == '+' || line[0] == '-' })
		if got := strings.Join(messages, " "); got != strings.TrimSpace(wants[i]) {
			t.Errorf("%d: %q, want %q", i, got, wants[i])
		}
	}
	for _, s := range subs {
		s.Unsubscribe()
	}
	checkEmpty(t, h)
}

// However clients come and go, and whenever what waits is delivered: those who listen end with the presence as it is, and never hear a leave
// before its join. Nobody who tells of a join or leave waits, and what waits is bounded.
func TestPresenceAsToldConverges(t *testing.T) {
	const clients, most = 40, 4
	for _, seed := range []uint64{1, 2, 3, 4, 5} {
		random := rand.New(rand.NewPCG(seed, 0))
		m := new(manual)
		h := newHub(t, hub.Config{Executor: m, MaxWaiting: most, ShardSubscribers: 1})
		a, b := new(diary), new(diary)
		subs := []*hub.Subscription{follow(t, h, a, true), follow(t, h, b, true)}
		here := map[string]bool{}
		for range 20_000 {
			name := fmt.Sprint(random.IntN(clients))
			kind := hub.KindJoin
			if here[name] {
				kind = hub.KindLeave
			}
			here[name] = !here[name]
			announce(t, h, kind, name)
			if n := h.Stats().Waiting; n > 2*2*clients {
				t.Fatalf("%d wait", n)
			}
			if random.IntN(300) == 0 {
				m.runAll()
			}
		}
		m.runAll()
		for i, d := range []*diary{a, b} {
			told := map[string]bool{}
			for _, line := range d.lines {
				if came := line[0] == '+'; told[line[1:]] == came {
					t.Fatalf("subscriber %d: %s, which is so already", i, line)
				}
				told[line[1:]] = line[0] == '+'
			}
			for name, is := range here {
				if told[name] != is {
					t.Errorf("subscriber %d: %s is there: %t, told %t", i, name, is, told[name])
				}
			}
			for _, kinds := range d.batches {
				if len(kinds) > most {
					t.Errorf("%d events at once", len(kinds))
				}
			}
		}
		for _, s := range subs {
			s.Unsubscribe()
		}
		checkEmpty(t, h)
	}
}

// Events that wait leave publishers their room, and publications that wait leave events theirs.
func TestEventsAndPublicationsDoNotCrowdEachOther(t *testing.T) {
	m := new(manual)
	h := newHub(t, hub.Config{Executor: m, MaxWaiting: 4})
	d := new(diary)
	sub := follow(t, h, d, true)
	for i := range 100 {
		announce(t, h, hub.KindJoin, fmt.Sprint("c", i))
	}
	for i := range 4 {
		send(t, h, "c", fmt.Sprint(i), hub.PublishOptions{})
	}
	if got := d.text(); got != "" {
		t.Errorf("a publisher had to deliver: %s", got)
	}
	announce(t, h, hub.KindLeave, "x")
	if got := d.text(); got != "" {
		t.Errorf("one who told of a leave had to deliver: %s", got)
	}
	m.runAll()
	if got := d.text(); len(d.lines) != 105 || !strings.HasSuffix(got, "+c99 0 1 2 3 -x") {
		t.Errorf("%d: %s", len(d.lines), got)
	}
	sub.Unsubscribe()
	checkEmpty(t, h)
}
