package plain

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/pace"
)

// streams is a handler whose namespace "s" has all that a channel can have; "p" has nothing.
func streams(t *testing.T) *Handler[*string] {
	t.Helper()
	kept := hub.Options{
		HistorySize: 3, HistoryTTL: time.Minute, ForceRecovery: true, Presence: true, JoinLeave: true,
		AllowSubscribeForClient: true, AllowPublishForSubscriber: true, AllowPresenceForSubscriber: true, AllowHistoryForSubscriber: true,
	}
	h, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: inline{},
		Namespaces: []hub.Namespace{
			{Name: "ss", Options: kept},
			{Name: "pp", Options: hub.Options{AllowSubscribeForClient: true}},
			{Name: "latest", Options: hub.Options{AllowSubscribeForClient: true, SlowPolicy: hub.SlowLatest}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return newHandler(t, Config{Hub: h, Authenticator: users{}, SlowPolicy: hub.SlowDropOldest})
}

// users accepts every name.
type users struct{ passwords }

var epochs = regexp.MustCompile(`"epoch":"[a-zA-Z]{8}"`)

// talk has the client send a line and compares what it got since the last time; E is for the epoch.
func talk(t *testing.T, c *Client[*string], up string, want ...string) {
	t.Helper()
	w := c.conn.(*wire)
	if up != "" {
		c.OnMessage(true, []byte(strings.ReplaceAll(up, `"E"`, `"`+w.epoch+`"`)))
	}
	for i, s := range w.sent {
		if found := epochs.FindString(s); found != "" {
			w.epoch = found[9 : len(found)-1]
		}
		w.sent[i] = epochs.ReplaceAllString(s, `"epoch":"E"`)
	}
	check(t, w, want)
}

func loginAs(t *testing.T, h *Handler[*string], user, id string) *Client[*string] {
	t.Helper()
	c, w := open(h, Params{})
	w.id = id
	c.login.Store(newLogin[*string](nil, &Identity{User: user, Info: []byte(`{"x": 1}`)}))
	h.roster.Add(c, user, 0)
	return c
}

func publishTo(t *testing.T, h *Handler[*string], channel string, n int) {
	t.Helper()
	if _, err := h.config.Hub.Publish(t.Context(), channel, fmt.Append(nil, n), hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A client that says where it stands gets what it missed, once and in order, before what comes; or it is told that it cannot.
func TestRecovery(t *testing.T) {
	h := streams(t)
	c := loginAs(t, h, "ann", "1")
	talk(t, c, `{"type":"subscribe","id":1,"payload":{"channel":"ss:a"}}`, `{"type":"reply","id":1,"ok":true,"channel":"ss:a","offset":0,"epoch":"E"}`)
	publishTo(t, h, "ss:a", 1)
	talk(t, c, "", `{"type":"message","channel":"ss:a","offset":1,"data":1}`)
	c.OnClose()
	publishTo(t, h, "ss:a", 2)
	publishTo(t, h, "ss:a", 3)

	back := loginAs(t, h, "ann", "2")
	back.conn.(*wire).epoch = c.conn.(*wire).epoch
	talk(t, back, `{"type":"subscribe","payload":{"channel":"ss:a","since":{"offset":1,"epoch":"E"}}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":3,"epoch":"E","recovered":true}`,
		`{"type":"message","channel":"ss:a","offset":2,"data":2}`, `{"type":"message","channel":"ss:a","offset":3,"data":3}`)
	publishTo(t, h, "ss:a", 4)
	talk(t, back, "", `{"type":"message","channel":"ss:a","offset":4,"data":4}`)
	if back.conn.(*wire).policy != hub.SlowDisconnect {
		t.Error("messages of a channel with recovery may be dropped")
	}
	talk(t, back, `{"type":"unsubscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a"}`)
	publishTo(t, h, "ss:a", 5)
	publishTo(t, h, "ss:a", 6)
	publishTo(t, h, "ss:a", 7)

	for since, recovered := range map[string]string{
		`{"offset":3,"epoch":"E"}`: "false", // 4 is gone
		`{"offset":7,"epoch":"E"}`: "true", `{"offset":7}`: "true",
		`{"offset":8,"epoch":"E"}`: "false", `{"offset":7,"epoch":"other"}`: "false",
	} {
		talk(t, back, `{"type":"subscribe","payload":{"channel":"ss:a","since":`+since+`}}`,
			`{"type":"reply","ok":true,"channel":"ss:a","offset":7,"epoch":"E","recovered":`+recovered+`}`)
		talk(t, back, `{"type":"unsubscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a"}`)
	}
	talk(t, back, `{"type":"subscribe","payload":{"channels":["pp:x","ss:a"],"since":{"ss:a":{"offset":6,"epoch":"E"},"pp:x":{"offset":1}}}}`,
		`{"type":"reply","ok":true,"channels":["pp:x","ss:a"],"positions":{"ss:a":{"offset":7,"epoch":"E","recovered":true}}}`,
		`{"type":"message","channel":"ss:a","offset":7,"data":7}`)
	talk(t, back, `{"type":"subscribe","payload":{"channel":"ss:b","since":7}}`,
		`{"type":"error","code":107,"message":"bad request: the message must be a JSON object, not number"}`)
	talk(t, back, `{"type":"subscribe","payload":{"channel":"latest:b"}}`, `{"type":"reply","ok":true,"channel":"latest:b"}`)
	publishTo(t, h, "latest:b", 1)
	talk(t, back, "", `{"type":"message","channel":"latest:b","offset":1,"data":1}`)
	if back.conn.(*wire).policy != hub.SlowLatest {
		t.Errorf("policy %q", back.conn.(*wire).policy)
	}
	back.OnClose()

	url, _ := open(h, Params{Token: "good", Channels: []string{"pp:x", "ss:a"}, Since: []string{"", "6." + back.conn.(*wire).epoch}})
	talk(t, url, "", `{"type":"reply","ok":true,"channels":["pp:x","ss:a"],"positions":{"ss:a":{"offset":7,"epoch":"E","recovered":true}}}`,
		`{"type":"message","channel":"ss:a","offset":7,"data":7}`)
	url.OnClose()
	wrong, w := open(h, Params{})
	wrong.params = &Params{Channels: []string{"ss:a"}, Since: []string{"7"}}
	wrong.OnOpen()
	check(t, w, []string{`{"type":"error","code":107,"message":"bad request: since: \"7\" is not OFFSET.EPOCH"}`})
}

// meddling is a broker where something happens before it tells of the past.
type meddling struct {
	*memory.Broker
	before func()
}

func (m *meddling) History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error) {
	if f := m.before; f != nil {
		m.before = nil
		f()
	}
	return m.Broker.History(ctx, channel, q)
}

// What is published while a client subscribes is among what it missed or comes after it, not both.
func TestRecoveryMeetsPublications(t *testing.T) {
	b := &meddling{Broker: memory.New(memory.Config{})}
	kept := hub.Options{HistorySize: 3, HistoryTTL: time.Minute, ForceRecovery: true, AllowSubscribeForClient: true}
	made, err := hub.New(hub.Config{Broker: b, Executor: inline{}, Namespaces: []hub.Namespace{{Name: "ss", Options: kept}}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(t, Config{Hub: made, Authenticator: users{}})
	c := loginAs(t, h, "ann", "1")
	publishTo(t, h, "ss:a", 1)
	b.before = func() { publishTo(t, h, "ss:a", 2) }
	talk(t, c, `{"type":"subscribe","payload":{"channel":"ss:a","since":{"offset":1}}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":2,"epoch":"E","recovered":true}`,
		`{"type":"message","channel":"ss:a","offset":2,"data":2}`)
	c.OnClose()
}

// Who is there, who comes and goes, and what was.
func TestPresenceAndHistory(t *testing.T) {
	h := streams(t)
	ann, bob := loginAs(t, h, "ann", "1"), loginAs(t, h, "bob", "2")
	talk(t, ann, `{"type":"presence","payload":{"channel":"ss:a"}}`, `{"type":"error","code":103,"message":"permission denied: you may not ask who is in channel \"ss:a\""}`)
	talk(t, ann, `{"type":"history","payload":{"channel":"ss:a"}}`, `{"type":"error","code":103,"message":"permission denied: you may not ask for the history of channel \"ss:a\""}`)
	talk(t, ann, `{"type":"subscribe","payload":{"channel":"ss:a","join_leave":true}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":0,"epoch":"E"}`,
		`{"type":"join","channel":"ss:a","info":{"user":"ann","client":"1","info":{"x":1}}}`)
	talk(t, bob, `{"type":"subscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a","offset":0,"epoch":"E"}`)
	talk(t, ann, "", `{"type":"join","channel":"ss:a","info":{"user":"bob","client":"2","info":{"x":1}}}`)
	talk(t, bob, `{"type":"presence","id":1,"payload":{"channel":"ss:a"}}`,
		`{"type":"reply","id":1,"ok":true,"channel":"ss:a","clients":[{"user":"ann","client":"1","info":{"x":1}},{"user":"bob","client":"2","info":{"x":1}}]}`)
	talk(t, bob, `{"type":"publish","payload":{"channel":"ss:a","data":"hi"}}`,
		`{"type":"message","channel":"ss:a","offset":1,"data":"hi"}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":1}`)
	publishTo(t, h, "ss:a", 2)
	ann.conn.(*wire).sent, bob.conn.(*wire).sent = nil, nil
	talk(t, ann, `{"type":"history","payload":{"channel":"ss:a","since":{"offset":1,"epoch":"E"}}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":2,"epoch":"E","messages":[{"offset":2,"data":2}]}`)
	talk(t, ann, `{"type":"history","payload":{"channel":"ss:a","limit":1,"reverse":true}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":2,"epoch":"E","messages":[{"offset":2,"data":2}]}`)
	talk(t, ann, `{"type":"history","payload":{"channel":"ss:a","since":{"offset":1,"epoch":"x"}}}`,
		`{"type":"error","code":112,"message":"unrecoverable position: epoch \"x\" of channel \"ss:a\" is over, it is now \"`+ann.conn.(*wire).epoch+`\""}`)
	talk(t, ann, `{"type":"history","payload":{"channel":"pp:a"}}`, `{"type":"error","code":108,"message":"not available: channel \"pp:a\" keeps no history"}`)
	talk(t, ann, `{"type":"presence","payload":{"channel":"pp:a"}}`, `{"type":"error","code":108,"message":"not available: channel \"pp:a\" has no presence"}`)
	talk(t, ann, `{"type":"presence","payload":{}}`, `{"type":"error","code":107,"message":"bad request: presence needs \"payload.channel\""}`)
	bob.OnClose()
	talk(t, ann, "", `{"type":"leave","channel":"ss:a","info":{"user":"bob","client":"2","info":{"x":1}}}`)
	stranger, w := open(h, Params{})
	stranger.OnMessage(true, []byte(`{"type":"presence","payload":{"channel":"ss:a"}}`))
	check(t, w, []string{`{"type":"error","code":101,"message":"unauthorized: log in before you ask"}`})
	ann.OnClose()
}

// A stream that begins anew ends the subscriptions that rely on it, in the client's turn; the others go on.
func TestReset(t *testing.T) {
	h := streams(t)
	c := loginAs(t, h, "ann", "1")
	talk(t, c, `{"type":"subscribe","payload":{"channels":["ss:a","pp:a"]}}`,
		`{"type":"reply","ok":true,"channels":["ss:a","pp:a"],"positions":{"ss:a":{"offset":0,"epoch":"E"}}}`)
	for _, channel := range []string{"ss:a", "pp:a"} {
		h.config.Hub.Deliver(channel, &hub.Publication{Kind: hub.KindReset})
		h.config.Hub.Flush(channel)
	}
	h.config.Hub.Deliver("ss:a", &hub.Publication{Offset: 1, Data: []byte(`"behind"`)}) // is not for those who are about to be told
	h.config.Hub.Flush("ss:a")
	talk(t, c, "")
	if c.conn.(*wire).wakes != 2 {
		t.Errorf("woken %d times", c.conn.(*wire).wakes)
	}
	c.OnWake()
	talk(t, c, "", `{"type":"unsubscribed","channel":"ss:a","code":2500,"message":"insufficient state: subscribe again"}`)
	talk(t, c, `{"type":"subscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a","offset":0,"epoch":"E"}`)
	// One that was made since is not ended.
	h.config.Hub.Deliver("ss:a", &hub.Publication{Kind: hub.KindReset})
	h.config.Hub.Flush("ss:a")
	talk(t, c, `{"type":"unsubscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a"}`)
	talk(t, c, `{"type":"subscribe","payload":{"channel":"ss:a"}}`, `{"type":"reply","ok":true,"channel":"ss:a","offset":0,"epoch":"E"}`)
	c.OnWake()
	talk(t, c, "")
	c.OnClose()
}

// What a backend does to a user's clients.
func TestBackend(t *testing.T) {
	h := streams(t)
	one, two, other := loginAs(t, h, "ann", "1"), loginAs(t, h, "ann", "2"), loginAs(t, h, "bob", "3")
	do := func(f func() error) error { // the clients' turns come while f waits
		result := make(chan error, 1)
		go func() { result <- f() }()
		for {
			select {
			case err := <-result:
				return err
			default:
				for _, c := range []*Client[*string]{one, two, other} {
					c.OnWake()
				}
			}
		}
	}
	publishTo(t, h, "ss:a", 1)
	if err := do(func() error { return h.Subscribe(t.Context(), "ann", "", "ss:a", &hub.Position{}) }); err != nil {
		t.Error(err)
	}
	if err := do(func() error { return h.Subscribe(t.Context(), "ann", "2", "ss:a", nil) }); err != nil {
		t.Error(err) // it is subscribed already
	}
	for _, c := range []*Client[*string]{one, two} {
		talk(t, c, "", `{"type":"subscribed","channel":"ss:a","offset":1,"epoch":"E","recovered":true}`, `{"type":"message","channel":"ss:a","offset":1,"data":1}`)
	}
	if err := do(func() error { return h.Unsubscribe(t.Context(), "ann", "2", "ss:a") }); err != nil {
		t.Error(err)
	}
	talk(t, one, "")
	talk(t, two, "", `{"type":"unsubscribed","channel":"ss:a","code":2000,"message":"server unsubscribe"}`)
	if err := do(func() error { return h.Unsubscribe(t.Context(), "ann", "", "") }); err != nil {
		t.Error(err)
	}
	talk(t, one, "", `{"type":"unsubscribed","channel":"ss:a","code":2000,"message":"server unsubscribe"}`)
	if err := do(func() error { return h.Disconnect(t.Context(), "ann", "", []string{"2"}, 4500, "banned") }); err != nil {
		t.Error(err)
	}
	for c, want := range map[*Client[*string]]string{one: "4500 banned;", two: "", other: ""} {
		if got := c.conn.(*wire).closed; got != want {
			t.Errorf("%s: closed %q", c.conn.ID(), got)
		}
		c.OnClose()
	}
	if h.roster.Users() != 0 {
		t.Error("users are left")
	}
}

// While what was missed is on its way to a slow client, the messages that come wait for it; and a client that asks and does
// not read is told to wait, and then closed.
func TestAnswersToSlowClients(t *testing.T) {
	h := streams(t)
	publishTo(t, h, "ss:a", 1)
	c := loginAs(t, h, "ann", "1")
	w := c.conn.(*wire)
	w.waiting = pace.StartBelow + 1
	talk(t, c, `{"type":"subscribe","payload":{"channel":"ss:a","since":{"offset":0}}}`,
		`{"type":"reply","ok":true,"channel":"ss:a","offset":1,"epoch":"E","recovered":true}`, `{"type":"message","channel":"ss:a","offset":1,"data":1}`)
	publishTo(t, h, "ss:a", 2)
	c.OnWake() // for something else
	talk(t, c, "")
	w.waiting = 0
	c.OnWake()
	talk(t, c, "", `{"type":"message","channel":"ss:a","offset":2,"data":2}`)

	w.waiting = 1<<20 + 1
	for _, command := range []string{
		`{"type":"subscribe","payload":{"channel":"ss:b","since":{"offset":0}}}`,
		`{"type":"history","payload":{"channel":"ss:a"}}`, `{"type":"presence","payload":{"channel":"ss:a"}}`,
	} {
		talk(t, c, command, `{"type":"error","code":111,"message":"too many requests: 1048577 bytes wait for you"}`)
	}
	talk(t, c, `{"type":"subscribe","payload":{"channel":"ss:b"}}`, `{"type":"reply","ok":true,"channel":"ss:b","offset":0,"epoch":"E"}`)
	w.waiting = 0 // all has left
	talk(t, c, `{"type":"ping"}`, `{"type":"pong"}`)
	w.waiting = 2<<20 + 1
	talk(t, c, `{"type":"ping"}`)
	if w.closed != "1008 slow consumer;" {
		t.Errorf("closed %q", w.closed)
	}
	c.OnClose()
}

// What was missed may be longer than the bound for answers: what is answered behind it does not make the client slow.
func TestOneLongAnswer(t *testing.T) {
	h := streams(t)
	publishTo(t, h, "ss:a", 1)
	c := loginAs(t, h, "ann", "1")
	w := c.conn.(*wire)
	w.waiting = 1 << 20
	w.afterSend = func() { w.waiting = 10 << 20 }
	c.OnMessage(true, []byte(`{"type":"subscribe","payload":{"channel":"ss:a","since":{"offset":0}}}`))
	w.sent, w.afterSend = nil, nil
	talk(t, c, `{"type":"ping"}`, `{"type":"pong"}`)
	w.waiting = 12<<20 + 1
	talk(t, c, `{"type":"ping"}`)
	if w.closed != "1008 slow consumer;" {
		t.Errorf("closed %q", w.closed)
	}
	c.OnClose()
}

// The same goes for a history.
func TestOneLongHistory(t *testing.T) {
	h := streams(t)
	h.config.MaxAnswerBytes = 100
	publishTo(t, h, "ss:a", 1)
	publishTo(t, h, "ss:a", 2)
	c := loginAs(t, h, "ann", "1")
	w := c.conn.(*wire)
	c.OnMessage(true, []byte(`{"type":"history","payload":{"channel":"ss:a"}}`))
	if len(w.sent) != 1 || len(w.sent[0]) <= 100 {
		t.Fatalf("%q", w.sent)
	}
	w.waiting = 200 + len(w.sent[0])
	w.sent = nil
	talk(t, c, `{"type":"ping"}`, `{"type":"pong"}`)
	w.waiting++
	talk(t, c, `{"type":"ping"}`)
	if w.closed != "1008 slow consumer;" {
		t.Errorf("closed %q", w.closed)
	}
	c.OnClose()
}
