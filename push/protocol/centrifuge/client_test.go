package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

func TestClientSize(t *testing.T) {
	if n := unsafe.Sizeof(Client[*int]{}); n > 112 {
		t.Errorf("a client takes %d bytes, want at most 112: there is one for each connection", n)
	}
	if n := unsafe.Sizeof(specialSubscriber[*int]{}); n > 96 {
		t.Errorf("a special subscriber takes %d bytes, want at most 96: there may be one for each subscription", n)
	}
	if n := unsafe.Sizeof(about[*int]{}); n > 48 {
		t.Errorf("what there is to know of a client takes %d bytes, want at most 48", n)
	}
}

// Whatever is published while a subscription is being made comes after its reply.
func TestNothingOvertakesTheReply(t *testing.T) {
	for _, params := range []Params{{}, {Protobuf: true}} {
		h := newHandler(t, Config{})
		p := newPeer(t, h, params).connect("")
		var lines []string
		for i := range 20 {
			lines = append(lines, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"%d"}}`, i+2, i))
			lines = append(lines, fmt.Sprintf(`{"id":%d,"publish":{"channel":"%d","data":1}}`, i+102, i))
		}
		p.beforeSend = func(string) { // at the latest moment
			for i := range 20 {
				publish(t, h, fmt.Sprint(i), "2")
			}
		}
		p.say(strings.Join(lines, "\n"))
		p.beforeSend = nil
		subscribed, last := map[string]bool{}, map[string]uint64{}
		for _, r := range p.pipe.sent {
			if r.Subscribe != nil {
				name := fmt.Sprint(r.Id - 2)
				subscribed[name], last[name] = true, r.Subscribe.Offset
			}
			if r.Push.GetPub() == nil {
				continue
			}
			channel := r.Push.Channel
			if !subscribed[channel] {
				t.Fatalf("a publication of %s overtook the reply", channel)
			}
			if last[channel]++; r.Push.Pub.Offset != last[channel] {
				t.Fatalf("offset %d instead of %d in channel %s", r.Push.Pub.Offset, last[channel], channel)
			}
		}
		for i := range 20 {
			name := fmt.Sprint(i)
			if top, _ := h.config.Hub.Position(t.Context(), name); last[name] != top.Offset || !subscribed[name] {
				t.Errorf("channel %d: it has those up to %d of %d", i, last[name], top.Offset)
			}
		}
		p.OnClose()
		checkEmpty(t, h)
	}
}

// Too much published while a subscription is being made is a hole, which the client must hear of.
func TestTooMuchWhileSubscribing(t *testing.T) {
	h := newHandler(t, Config{Hub: newHub(t, hub.Config{Channels: open, Namespaces: []hub.Namespace{plainChannels}, MaxHeld: 2})})
	p := newPeer(t, h, Params{}).connect("")
	p.beforeSend = func(string) {
		for range 3 {
			publish(t, h, "a", "1")
			publish(t, h, "plain:a", "1")
		}
	}
	p.say(`{"id":2,"subscribe":{"channel":"plain:a"}}`)
	p.beforeSend = nil
	if got := p.take(t); len(got) != 2 || p.ended() != "" { // the reply and the newest
		t.Errorf("%q, %q", got, p.ended())
	}
	p.beforeSend = func(string) {
		for range 3 {
			publish(t, h, "a", "1")
		}
	}
	p.say(`{"id":3,"subscribe":{"channel":"a"}}`)
	if got := p.ended(); got != "3010 insufficient state" {
		t.Errorf("ended with %q", got)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// Recovered and live publications meet without a gap and without one twice, wherever the live ones come between.
func TestRecoveryMeetsTheLiveOnes(t *testing.T) {
	broker := &slowHistory{Broker: memory.New(memory.Config{})}
	h := newHandler(t, Config{Hub: newHub(t, hub.Config{Channels: open, Broker: broker})})
	for i := range 3 {
		publish(t, h, "a", fmt.Sprint(i+1))
	}
	broker.before = func() { publish(t, h, "a", "4") }
	broker.after = func() { publish(t, h, "a", "5") }
	for name, request := range map[string]string{"recovered": `"recover":true,"offset":1`, "fresh": `"offset":0`} {
		p := newPeer(t, h, Params{}).connect("")
		p.say(`{"id":2,"subscribe":{"channel":"a",` + request + `}}`)
		last := uint64(0)
		for i, r := range p.pipe.sent {
			offsets := []uint64{}
			if i == 0 {
				last = r.Subscribe.GetOffset()
				for _, pub := range r.Subscribe.GetPublications() {
					offsets = append(offsets, pub.Offset)
				}
			} else if pub := r.Push.GetPub(); pub != nil {
				offsets = append(offsets, pub.Offset)
			}
			for _, o := range offsets {
				if last++; o != last {
					t.Fatalf("%s: offset %d, want %d", name, o, last)
				}
			}
		}
		past, _ := broker.Broker.History(t.Context(), "a", hub.HistoryQuery{})
		if last != past.Top.Offset {
			t.Errorf("%s: it has those up to %d of %d", name, last, past.Top.Offset)
		}
		p.OnClose()
	}
	checkEmpty(t, h)
}

// slowHistory has something done before and after a history is asked for.
type slowHistory struct {
	*memory.Broker
	before, after func()
	inside        bool
}

func (s *slowHistory) History(ctx context.Context, channel string, q hub.HistoryQuery) (hub.History, error) {
	if s.before == nil || s.inside {
		return s.Broker.History(ctx, channel, q)
	}
	s.inside = true
	defer func() { s.inside = false }()
	s.before()
	defer s.after()
	return s.Broker.History(ctx, channel, q)
}

// What others have brought in and is not JSON is left out of answers in JSON, and of those in Protobuf it is not.
func TestAnswersWithoutWhatIsNoJSON(t *testing.T) {
	h := newHandler(t, Config{Authenticator: tokens{identities: map[string]Identity{"bad": {User: "bad", Info: []byte("{")}}}})
	bad := newPeer(t, h, Params{Protobuf: true}).connect("bad")
	publish(t, h, "a", "1")
	publish(t, h, "a", "\xff")
	bad.say(`{"id":2,"publish":{"channel":"a","data":3}}
		{"id":3,"subscribe":{"channel":"b"}}`)
	bad.take(t)
	p := newPeer(t, h, Params{}).connect("")
	p.say(`{"id":2,"history":{"channel":"a","limit":-1}}
		{"id":3,"presence":{"channel":"b"}}
		{"id":4,"subscribe":{"channel":"a"}}
		{"id":5,"subscribe":{"channel":"b","join_leave":true}}`)
	answers := p.take(t)
	id := bad.ID()
	for i, want := range []string{
		`"publications":[{"data":1,"offset":1},{"data":3,"info":{"user":"bad","client":"` + id + `"},"offset":3}]`,
		`{"id":3,"presence":{"presence":{"` + id + `":{"user":"bad","client":"` + id + `"}}}}`,
	} {
		if !strings.Contains(answers[i], want) {
			t.Errorf("%s, want %s", answers[i], want)
		}
	}
	bad.say(`{"id":4,"publish":{"channel":"a","data":4}}
		{"id":5,"unsubscribe":{"channel":"b"}}`)
	bad.take(t)
	p.expect(`{"push":{"channel":"a","pub":{"data":4,"info":{"user":"bad","client":"`+id+`"},"offset":4}}}`,
		`{"push":{"channel":"b","leave":{"info":{"user":"bad","client":"`+id+`"}}}}`)
	if got := p.ended(); got != "" {
		t.Error(got)
	}
	bad.say(`{"id":6,"history":{"channel":"a","limit":-1}}`)
	if got := bad.take(t); len(got) != 1 || !strings.Contains(got[0], "not JSON") { // take writes it in JSON
		t.Errorf("%q", got)
	}
	bad.OnClose()
	p.OnClose()
	checkEmpty(t, h)
}

// Clients publish anything, by whichever codec, unless the namespace says that it must be JSON.
func TestClientsPublishJSON(t *testing.T) {
	json := open
	json.JSONData = true
	h := newHandler(t, Config{Hub: newHub(t, hub.Config{Channels: json, Namespaces: []hub.Namespace{{Name: "free", Options: open}}})})
	p := newPeer(t, h, Params{Protobuf: true}).connect("")
	for _, tt := range []struct {
		channel, data string
		done          bool
	}{
		{"a", `{"n":1}`, true}, {"a", "{", false}, {"a", "\"\xff\"", false}, {"a", "1 2", false}, {"free:a", "\xff", true}, {"free:a", "1", true},
	} {
		b, err := wire.Protobuf.AppendCommand(nil, &wire.Command{Id: 9, Publish: &wire.PublishRequest{Channel: tt.channel, Data: []byte(tt.data)}})
		if err != nil {
			t.Fatal(err)
		}
		p.OnMessage(false, b)
		want := `{"id":9,"publish":{}}`
		if !tt.done {
			want = `{"id":9,"error":{"code":107,"message":"bad request"}}`
		}
		p.expect(want)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// No delta is made to what a subscriber without a position was not told.
func TestDeltaBehindWhatCannotBeTold(t *testing.T) {
	loose := plainChannels
	loose.Name, loose.AllowFossilDelta = "loose", true
	h := newHandler(t, Config{Hub: newHub(t, hub.Config{Namespaces: []hub.Namespace{loose}})})
	p := newPeer(t, h, Params{}).connect("")
	p.say(`{"id":2,"subscribe":{"channel":"loose:a","delta":"fossil"}}`)
	p.expect(`{"id":2,"subscribe":{"delta":true}}`)
	long := strings.Repeat("x", 200)
	for _, data := range []string{long, long + "\xff", long + "y", long + "z"} {
		publishAsClient(t, h, "loose:a", data)
	}
	got := p.take(t)
	if len(got) != 3 || !strings.Contains(got[1], long+"y") || !strings.Contains(got[2], `"delta":true`) {
		t.Errorf("%q", got)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// A subscriber with a position gets what is before that which it cannot be told, and nothing behind it, be there more in the same batch or in the
// next before its turn comes, or while it subscribes.
func TestNothingBehindWhatCannotBeTold(t *testing.T) {
	h := newHandler(t, Config{})
	lost := `{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`
	for _, request := range []string{
		`{"id":2,"subscribe":{"channel":"a","join_leave":true}}`, `{"id":2,"subscribe":{"channel":"a","join_leave":true,"delta":"fossil"}}`,
	} {
		p := newPeer(t, h, Params{}).connect("")
		p.say(request)
		p.take(t)
		for _, data := range []string{"1", "\xff", "2", "3"} {
			publishAsClient(t, h, "a", data)
		}
		if got := p.take(t); len(got) != 1 || !strings.Contains(got[0], `1`) {
			t.Errorf("%s: %q", request, got)
		}
		p.OnWake()
		p.expect(lost)
		// What comes while it subscribes is held, and told at the start.
		p.beforeSend = func(text string) {
			if strings.Contains(text, `"subscribe"`) {
				publish(t, h, "a", "4")
				publishAsClient(t, h, "a", "\xff")
				if err := h.config.Hub.Announce(t.Context(), "a", hub.KindJoin, &hub.ClientInfo{Client: "x"}); err != nil {
					t.Error(err)
				}
				publish(t, h, "a", "5")
			}
		}
		p.say(request)
		if got := p.take(t); len(got) != 2 || !strings.Contains(got[1], `4`) {
			t.Errorf("%s: %q", request, got)
		}
		p.beforeSend = nil
		publish(t, h, "a", "6")
		p.OnWake()
		p.expect(lost)
		p.OnClose()
	}
	checkEmpty(t, h)
}

// Commands without an id can have no reply.
func TestCommandsWithoutID(t *testing.T) {
	for command, want := range map[string]string{
		`{"send":{}}`: "3508 not available",
		`{"send":{},"subscribe":{"channel":"a"}}`:    "3508 not available",
		`{"send":{},"history":{"channel":"none:a"}}`: "3508 not available",
		`{"rpc":{}}`: "3501 bad request",
	} {
		h := newHandler(t, Config{})
		p := newPeer(t, h, Params{}).connect("")
		p.say(command)
		p.expect()
		if got := p.ended(); got != want {
			t.Errorf("%s: %q", command, got)
		}
		p.OnClose()
		checkEmpty(t, h)
	}
}

// Of a frame whose connect command is refused, nothing else is carried out.
func TestRestOfARefusedFrame(t *testing.T) {
	a := tokens{refusals: map[string]error{"expired": hub.ErrTokenExpired, "bad": DisconnectInvalidToken}}
	for token, ended := range map[string]string{"expired": "", "bad": "3500 invalid token"} {
		h := newHandler(t, Config{Authenticator: a})
		p := newPeer(t, h, Params{})
		p.say(`{"id":1,"connect":{"token":"` + token + `"}}
			{"id":2,"subscribe":{"channel":"a"}}
			{"id":3,"publish":{"channel":"b","data":1}}`)
		if got := p.ended(); got != ended {
			t.Errorf("%s: ended with %q", token, got)
		}
		if n := h.config.Hub.Stats().Subscriptions; n != 0 || h.Stats().Connected != 0 {
			t.Errorf("%s: %d subscriptions", token, n)
		}
		if top, _ := h.config.Hub.Position(t.Context(), "b"); top.Offset != 0 {
			t.Errorf("%s: it published", token)
		}
		p.OnClose()
		checkEmpty(t, h)
	}
}

// Who was never told to have come is not told to have gone.
func TestNoLeaveWithoutAJoin(t *testing.T) {
	h := newHandler(t, Config{})
	watcher := newPeer(t, h, Params{}).connect("")
	watcher.say(`{"id":2,"subscribe":{"channel":"a","join_leave":true}}`)
	watcher.take(t)
	p := newPeer(t, h, Params{}).connect("")
	p.say(`{"id":2,"subscribe":{"channel":"a"}}
		{"id":3,"unsubscribe":{"channel":"a"}}`)
	watcher.expect()
	p.say(`{"id":4,"subscribe":{"channel":"a"}}`)
	p.OnClose()
	info := `{"info":{"user":"","client":"` + p.ID() + `"}}`
	watcher.expect(`{"push":{"channel":"a","join":`+info+`}}`, `{"push":{"channel":"a","leave":`+info+`}}`)
	watcher.OnClose()
	checkEmpty(t, h)
}

// With a ping unanswered, whatever has no id is its pong; the second one is not.
func TestPongs(t *testing.T) {
	h := newHandler(t, Config{})
	for _, pong := range []string{`{}`, `{"ping":{}}`, `{"subscribe":{"channel":"a"}}`} {
		p := newPeer(t, h, Params{}).connect("")
		p.pinged = true
		p.say(pong + "\n" + `{"id":2,"rpc":{}}`)
		p.expect(`{"id":2,"error":{"code":108,"message":"not available"}}`)
		if got := p.ended(); got != "" {
			t.Errorf("%s: %s", pong, got)
		}
		p.say(pong)
		if got := p.ended(); got != "3501 bad request" {
			t.Errorf("%s once more: %q", pong, got)
		}
		p.OnClose()
	}
}

// A frame of replies has an end in bytes as well.
func TestFramesAreBoundedInBytes(t *testing.T) {
	h := newHandler(t, Config{})
	publish(t, h, "a", `"`+strings.Repeat("x", 20<<10)+`"`)
	p := newPeer(t, h, Params{}).connect("")
	p.pipe.sizes = nil
	var lines []string
	for i := range 5 {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"history":{"channel":"a","limit":1}}`, i+2))
	}
	p.say(strings.Join(lines, "\n"))
	if got := fmt.Sprint(p.pipe.sizes); got != "[2 2 1]" {
		t.Errorf("replies in the frames: %s", got)
	}
	p.OnClose()
}

// Subscribers with the same codec get the same frame, one with a filter too.
func TestFramesAreShared(t *testing.T) {
	h := newHandler(t, Config{Hub: newHub(t, hub.Config{Channels: open, ShardSubscribers: 2})})
	var peers []*peer
	for i := range 8 {
		p := newPeer(t, h, Params{Protobuf: i%2 == 1}).connect("")
		request := `"channel":"a"`
		if i >= 4 {
			request += `,"tf":{"key":"k","cmp":"nex"}`
		}
		p.say(`{"id":2,"subscribe":{` + request + `}}`)
		peers = append(peers, p)
	}
	publish(t, h, "a", "1")
	for i, p := range peers {
		first := peers[i%2].frames
		if got := p.frames[len(p.frames)-1]; got != first[len(first)-1] {
			t.Errorf("client %d has a frame of its own", i)
		}
	}
	for _, p := range peers {
		p.OnClose()
	}
	checkEmpty(t, h)
}

// The policy of a channel goes with its publications.
func TestSlowPolicies(t *testing.T) {
	channels := func(policy string, recovers bool) hub.Options {
		o := hub.Options{AllowSubscribeForAnonymous: true, AllowSubscribeForClient: true, SlowPolicy: policy}
		if recovers {
			o.HistorySize, o.HistoryTTL, o.ForceRecovery = 1, time.Minute, true
		}
		return o
	}
	for _, tt := range []struct {
		server, channel string
		recovers        bool
		want            string
	}{
		{"", "", false, ""},
		{"", hub.SlowDropOldest, false, hub.SlowDropOldest},
		{hub.SlowLatest, "", false, ""},
		{hub.SlowLatest, "", true, hub.SlowDisconnect},
		{hub.SlowLatest, hub.SlowDisconnect, false, hub.SlowDisconnect},
		{hub.SlowLatest, hub.SlowLatest, false, ""},
		{hub.SlowDisconnect, "", true, ""},
	} {
		h := newHandler(t, Config{SlowPolicy: tt.server, Hub: newHub(t, hub.Config{Channels: channels(tt.channel, tt.recovers)})})
		p := newPeer(t, h, Params{}).connect("")
		p.say(`{"id":2,"subscribe":{"channel":"a"}}`)
		publish(t, h, "a", "1")
		if !slices.Equal(p.policies, []string{tt.want}) {
			t.Errorf("%+v: %q", tt, p.policies)
		}
		p.OnClose()
	}
}

// What an internal error says stays here.
func TestInternalErrors(t *testing.T) {
	var noted []error
	h := newHandler(t, Config{
		Authenticator:   tokens{refusals: map[string]error{"down": errDown}, identities: map[string]Identity{"ann": {User: "ann"}}},
		OnInternalError: func(err error) { noted = append(noted, err) },
	})
	p := newPeer(t, h, Params{})
	p.say(`{"id":1,"connect":{"token":"down"}}`)
	p.expect(`{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}`)
	p.OnClose()
	p = newPeer(t, h, Params{}).connect("ann")
	p.say(`{"id":2,"subscribe":{"channel":"a","token":"down"}}`)
	p.expect(`{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}`)
	p.OnClose()
	if len(noted) != 2 || !errors.Is(noted[0], errDown) {
		t.Errorf("noted %v", noted)
	}
	if got := h.Stats().Errors; len(got) != 1 || got[100] != 2 {
		t.Errorf("counted %v", got)
	}
	checkEmpty(t, h)
}

func TestStats(t *testing.T) {
	a := tokens{identities: map[string]Identity{"ann": {User: "ann"}, "bob": {User: "bob"}}}
	h := newHandler(t, Config{Authenticator: a})
	one, two, three := newPeer(t, h, Params{}).connect("ann"), newPeer(t, h, Params{}).connect("ann"), newPeer(t, h, Params{}).connect("bob")
	nobody := newPeer(t, h, Params{}).connect("")
	waiting := newPeer(t, h, Params{})
	one.say(`{"id":2,"rpc":{}}` + "\n" + `{"id":3,"ping":{}}`)
	waiting.say(`{}`)
	s := h.Stats()
	if s.Connected != 3 || s.Users != 2 || s.Commands != 7 || s.Errors[108] != 1 || s.Disconnects[3501] != 2 {
		t.Errorf("%+v", s)
	}
	for _, p := range []*peer{one, two, three, nobody, waiting} {
		p.OnClose()
	}
	checkEmpty(t, h)
}

// Clients come and go, publish and are published to, are subscribed and thrown out, all at once; nothing is left of it.
func TestChurn(t *testing.T) {
	a := tokens{identities: map[string]Identity{"ann": {User: "ann", Subs: []ServerSubscription{{Channel: "s"}, {Channel: "plain:s"}}, Expires: soon(time.Hour)}}}
	h := newHandler(t, Config{Authenticator: a, MaxConnectionsPerUser: 6})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stop := make(chan struct{})
	var others, clients sync.WaitGroup
	until := func(work func(i int)) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					work(i)
				}
			}
		})
	}
	until(func(i int) { publish(t, h, fmt.Sprint(i%3), `"`+strings.Repeat("x", i%100)+`"`) })
	until(func(i int) { publish(t, h, []string{"s", "plain:s"}[i%2], "1") })
	until(func(i int) {
		h.Tick()
		_, _ = h.config.Hub.Presence(fmt.Sprint(i % 3))
		_ = h.Stats()
	})
	until(func(i int) {
		ann := Target{User: "ann"}
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		switch i % 3 {
		case 0:
			_ = h.Subscribe(short, ann, "1", SubscribeOptions{})
		case 1:
			_ = h.Unsubscribe(short, ann, "")
		case 2:
			_ = h.Disconnect(short, ann, nil, DisconnectForceReconnect)
		}
	})
	for i := range 8 {
		clients.Go(func() {
			for round := range 12 {
				p := newPeer(t, h, Params{Protobuf: i%2 == 0})
				p.say(`{"id":1,"connect":{"token":"` + []string{"ann", ""}[round%2] + `","subs":{"s":{"recover":true}}}}
					{"id":2,"subscribe":{"channel":"0","join_leave":true,"recover":true}}
					{"id":3,"subscribe":{"channel":"1","delta":"fossil"}}
					{"id":4,"subscribe":{"channel":"2","tf":{"key":"k","cmp":"nex"}}}
					{"id":5,"publish":{"channel":"0","data":1}}
					{"id":6,"presence":{"channel":"0"}}`)
				p.OnWake()
				p.say(`{"id":7,"unsubscribe":{"channel":"1"}}`)
				p.OnWake()
				p.OnClose()
			}
		})
	}
	clients.Wait()
	close(stop)
	others.Wait()
	checkEmpty(t, h)
}

// A frame of several commands in which a subscription is replaced by another of the same channel delivers once.
func TestSubscribeTwiceInAFrame(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		h := newHandler(t, Config{})
		p := newPeer(t, h, Params{Protobuf: codec == wire.Protobuf}).connect("")
		p.say(`{"id":2,"subscribe":{"channel":"plain:a"}}
			{"id":3,"unsubscribe":{"channel":"plain:a"}}
			{"id":4,"subscribe":{"channel":"plain:a"}}`)
		publish(t, h, "plain:a", "1")
		p.expect(`{"id":2,"subscribe":{}}`, `{"id":3,"unsubscribe":{}}`, `{"id":4,"subscribe":{}}`,
			`{"push":{"channel":"plain:a","pub":{"data":1,"offset":1}}}`)
		p.OnClose()
		checkEmpty(t, h)
	}
}

// A stream that began anew ends the subscriptions that relied on it, before anything else of it comes to them, and none that was made since.
func TestResetOfASubscriptionThatIsOver(t *testing.T) {
	h := newHandler(t, Config{})
	for _, subscribe := range []string{
		`{"id":2,"subscribe":{"channel":"a"}}`,
		`{"id":2,"subscribe":{"channel":"a","delta":"fossil"}}`, // a subscriber of its own
	} {
		for _, again := range []bool{false, true} {
			p := newPeer(t, h, Params{}).connect("")
			p.say(subscribe)
			h.config.Hub.Deliver("a", &hub.Publication{Kind: hub.KindReset})
			h.config.Hub.Flush("a")
			publish(t, h, "a", "behind")
			if again {
				p.say(`{"id":3,"unsubscribe":{"channel":"a"}}` + "\n" + subscribe)
			}
			if got := strings.Join(p.take(t), ""); strings.Contains(got, "behind") {
				t.Errorf("it came behind a reset: %s", got)
			}
			p.OnWake()
			if again {
				p.expect()
			} else {
				p.expect(`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
			}
			p.OnClose()
		}
	}
	checkEmpty(t, h)
}
