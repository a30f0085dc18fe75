package centrifuge

import (
	"strings"
	"testing"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/pace"
)

func (p *pipe) setWaiting(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = n
}

// While a long answer is on its way to a slow client, the publications of its new subscriptions wait for it: else they would
// fill the outbox, the client would be disconnected before it has the answer, and come back to ask for the same.
func TestPublicationsWaitForTheAnswer(t *testing.T) {
	h := newHandler(t, Config{})
	c := newPeer(t, h, Params{}).connect("")
	c.setWaiting(pace.StartBelow + 1)
	c.say(`{"id":2,"subscribe":{"channel":"a"}}`)
	c.take(t)
	publish(t, h, "a", `1`)
	if got := c.take(t); len(got) > 0 {
		t.Errorf("%s overtakes the answer", got)
	}
	if !c.wakeDrained {
		t.Error("nobody wakes it")
	}
	c.OnWake() // for something else
	publish(t, h, "a", `2`)
	if got := c.take(t); len(got) > 0 {
		t.Errorf("%s overtakes the answer", got)
	}
	c.setWaiting(0)
	c.OnWake()
	publish(t, h, "a", `3`)
	if got := strings.Join(c.take(t), ""); strings.Count(got, `"pub"`) != 3 {
		t.Errorf("%s", got)
	}

	// One that leaves, or goes, before is not started.
	c.setWaiting(pace.StartBelow + 1)
	c.say(`{"id":3,"subscribe":{"channel":"b"}}` + "\n" + `{"id":4,"unsubscribe":{"channel":"b"}}`)
	c.say(`{"id":5,"subscribe":{"channel":"c"}}`)
	c.OnClose()
	checkEmpty(t, h)
}

// A client that asks for more than it reads is told to wait, and one that goes on asking is slow.
func TestAnswersAreBounded(t *testing.T) {
	h := newHandler(t, Config{MaxAnswerBytes: 1000})
	for range 3 {
		publish(t, h, "a", `"`+strings.Repeat("x", 400)+`"`)
		publish(t, h, "b", `"`+strings.Repeat("x", 400)+`"`)
	}
	c := newPeer(t, h, Params{}).connect("")
	// The first exceeds the bound, since it could not be answered at all otherwise.
	c.say(`{"id":2,"subscribe":{"channel":"a","recover":true}}` + "\n" + `{"id":3,"subscribe":{"channel":"b","recover":true}}`)
	got := c.take(t)
	if len(got) != 2 || !strings.Contains(got[0], `"recovered":true`) ||
		got[1] != `{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}` {
		t.Errorf("%s", got)
	}
	c.say(`{"id":4,"subscribe":{"channel":"b","recover":true}}`) // the first has left
	if got := c.take(t); len(got) != 1 || !strings.Contains(got[0], `"recovered":true`) {
		t.Errorf("%s", got)
	}
	// What has left within one message does not count any more.
	c.say(`{"id":2,"history":{"channel":"a","limit":-1}}` + strings.Repeat("\n"+`{"id":3,"unsubscribe":{"channel":"b"}}`, maxReplies-1) +
		"\n" + `{"id":4,"history":{"channel":"a","limit":-1}}`)
	if got := c.take(t); len(got) != maxReplies+1 || strings.Contains(strings.Join(got, ""), `"error"`) {
		t.Errorf("%s", got)
	}
	c.setWaiting(1001)
	for _, command := range []string{
		`{"id":5,"history":{"channel":"a","limit":-1}}`, `{"id":6,"presence":{"channel":"a"}}`, `{"id":7,"subscribe":{"channel":"plain:a","recover":true}}`,
	} {
		c.say(command)
		if got := c.take(t); len(got) != 1 || !strings.Contains(got[0], `"code":111`) {
			t.Errorf("%s: %s", command, got)
		}
	}
	c.say(`{"id":8,"subscribe":{"channel":"plain:b"}}`) // asks for nothing that is long
	if got := c.take(t); len(got) != 1 || strings.Contains(got[0], "error") {
		t.Errorf("%s", got)
	}
	c.setWaiting(1000) // what was longer than that has left
	c.say(`{"id":9,"presence_stats":{"channel":"a"}}`)
	c.setWaiting(2001)
	c.say(`{"id":10,"presence_stats":{"channel":"a"}}`)
	if c.ended() != "3008 slow" {
		t.Errorf("ended %q", c.ended())
	}
	c.OnClose()
	checkEmpty(t, h)
}

// Who has a list of users in the name has no channel of that name.
func TestPersonalChannelsOfOddUsers(t *testing.T) {
	for user, want := range map[string]bool{"": false, "a": true, "a,b": false, "a#b": false, "ä b": true} {
		if hub.MayHavePersonalChannel(user) != want {
			t.Errorf("%q", user)
		}
	}
}

// One answer may be longer than the bound: what is answered behind it, while it is on its way, does not make the client slow.
func TestOneLongAnswer(t *testing.T) {
	h := newHandler(t, Config{MaxAnswerBytes: 1000})
	for range 10 {
		publish(t, h, "a", `"`+strings.Repeat("x", 400)+`"`)
	}
	c := newPeer(t, h, Params{}).connect("")
	c.beforeSend = func(text string) {
		if len(text) > 1000 {
			c.setWaiting(len(text))
		}
	}
	c.say(`{"id":2,"subscribe":{"channel":"a","recover":true}}`)
	c.say(`{"id":3,"subscribe":{"channel":"b","recover":true}}` + "\n" + `{"id":4,"presence_stats":{"channel":"a"}}`)
	if got := c.take(t); len(got) != 3 || !strings.Contains(got[1], `"code":111`) || c.ended() != "" {
		t.Errorf("%d answers, ended %q", len(got), c.ended())
	}
	c.setWaiting(c.Waiting() + 2001) // by asking on
	c.say(`{"id":5,"presence_stats":{"channel":"a"}}`)
	if c.ended() != "3008 slow" {
		t.Errorf("ended %q", c.ended())
	}
	c.OnClose()
	checkEmpty(t, h)
}
